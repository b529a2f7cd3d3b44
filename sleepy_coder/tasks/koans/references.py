"""Type mismatches between a value and a reference to it, or a value and an Option of it."""

from __future__ import annotations

from sleepy_coder.tasks.koans.family import family
from sleepy_coder.tasks.koans.sketch import ARITHMETIC, COMPARISON, INT, VALUE, sketch

add = family("reference_expected", "type_mismatch", "E0308")
add(
    sketch(
        "Print what $f1 gives for $p2, then $p2.",
        """
fn $f1($p1: &Vec<$ty>) -> $res0 {
    $res1
}
fn main() {
    let $p2 = vec![$k1, $k2, $d1];
    $call
    println!("{:?}", $p2);
}
""",
        ty=(*INT, "usize"),
        res=(
            ("usize", "$p1.len()"),
            ("$ty", "$p1.iter().sum()"),
            ("$ty", "$p1[0] + $p1[1]"),
            ("bool", "$p1.is_empty()"),
            ("bool", "$p1.contains(&$k1)"),
        ),
        call=('println!("{:?}", $f1(~$p2~&$p2~));', 'let $n1 = $f1(~$p2~&$p2~);\n    println!("{}", $n1);'),
    )
)
add(
    sketch(
        "Print what $f1 gives for $n2, then $n2.",
        """
fn $f1($n1: &$str) -> $res0 {
    $res1
}
fn main() {
    let $n2 = $text;
    println!("{} {}", $f1(~$n2~&$n2~), $n2);
}
""",
        str=("str", "String"),
        text=('String::from("$s1")', '"$s1".to_string()', 'format!("$s1 {}", $d2)'),
        res=(
            ("usize", "$n1.len()"),
            ("usize", "$n1.len() * $d1"),
            ("usize", "$n1.chars().count()"),
            ("String", "$n1.to_uppercase()"),
            ("String", "$n1.repeat($d1)"),
            ("String", 'format!("{} {}", $n1, $d1)'),
            ("bool", "$n1.is_empty()"),
            ("bool", '$n1.contains("a")'),
        ),
    )
)
add(
    sketch(
        "Print what $f1 gives for $n3.",
        """
struct $T1 {
    $n1: $ty,
    $n2: $val0,
}
fn $f1($n4: &$T1) -> $ty {
    $n4.$n1 $op $d1
}
fn main() {
    let $n3 = $T1 { $n1: $k1, $n2: $val1 };
    println!("{} {}", $f1(~$n3~&$n3~), $n3.$n2);
}
""",
        ty=INT,
        val=VALUE,
        op=ARITHMETIC,
    )
)
add(
    sketch(
        "Let $f1 change $n3 and print $n3.",
        """
fn $f1($n1: &mut $do0) {
    $do1
}
fn main() {
    let mut $n3 = $do2;
    $f1(~$n3~&mut $n3~);
    println!("{:?}", $n3);
    $more
}
""",
        do=(
            ("Vec<$ty>", "$n1.push($k1);", "vec![$d1, $d2]"),
            ("Vec<$ty>", "$n1.clear();\n    $n1.push($d3);", "vec![$d1, $d2]"),
            ("Vec<$ty>", "$n1[0] $op= $d3;", "vec![9$d1, $d2]"),
            ("$ty", "*$n1 $op= $d3;", "9$d1"),
            ("String", "$n1.push('!');", 'String::from("$s1")'),
            ("String", '$n1.push_str("$s2");', 'String::from("$s1")'),
        ),
        ty=INT,
        op=ARITHMETIC,
        more=("", '$f1(&mut $n3);\n    println!("{:?}", $n3);'),
    )
)
add(
    sketch(
        "Say whether $p1 has $n1.",
        """
fn main() {
    let $p1: $col<$ty> = $col::from([$k1, $k2, $k3]);
    let $n1 = $k2;
    $ask
}
""",
        col=("Vec", "std::collections::VecDeque", "std::collections::BTreeSet"),
        ty=(*INT, "usize"),
        ask=(
            'println!("{}", $p1.contains(~$n1~&$n1~));',
            'let $n2 = $p1.contains(~$n1~&$n1~);\n    println!("{}", $n2);',
            'if $p1.contains(~$n1~&$n1~) {\n        println!("$s1");\n    }',
            'if !$p1.contains(~$n1~&$n1~) {\n        println!("$s1");\n    }\n    println!("{}", $n1);',
        ),
    )
)
add(
    sketch(
        "Print what $p1 holds for $n1.",
        """
use std::collections::$map;
fn main() {
    let mut $p1: $map<$ty, $val0> = $map::new();
    $p1.insert($k1, $val1);
    let $n1 = $k1;
    $ask
}
""",
        map=("HashMap", "BTreeMap"),
        ty=INT,
        val=VALUE,
        ask=(
            'println!("{:?}", $p1.get(~$n1~&$n1~));',
            'println!("{:?}", $p1.remove(~$n1~&$n1~));',
            'println!("{} {}", $p1.len(), $p1.contains_key(~$n1~&$n1~));',
            'if let Some($n2) = $p1.get(~$n1~&$n1~) {\n        println!("{}", $n2);\n    }',
        ),
    )
)
add = family("missing_deref", "type_mismatch", "E0308")
add(
    sketch(
        "Print the $what0 of $p1.",
        """
fn main() {
    let $p1: Vec<$ty> = vec![$k1, $k2, $d1];
    let mut $n1 = $p1[0];
    for $n2 in $iter {
        if *$n2 $what1 $n1 {
            $n1 = ~$n2~*$n2~;
        }
    }
    println!("{}", $n1$end);
}
""",
        ty=(*INT, "usize", "u8", "i64"),
        what=(("largest", ">"), ("smallest", "<"), ("largest", ">="), ("smallest", "<=")),
        iter=("&$p1", "$p1.iter()"),
        end=("", " + 1"),
    )
)
add(
    sketch(
        "Collect the numbers of $p1 $cmp $d1 in $p2.",
        """
fn main() {
    let $p1 = [$k1, $d2, $k2];
    let mut $p2: Vec<$ty> = Vec::new();
    for $n1 in $iter {
        if *$n1 $cmp $d1 {
            $p2.push(~$n1~*$n1~);
        }
    }
    println!("{:?}", $p2$end);
}
""",
        ty=INT,
        cmp=COMPARISON,
        iter=("&$p1", "$p1.iter()", "$p1.iter().rev()"),
        end=("", ".len()"),
    )
)
add(
    sketch(
        "Let $f1 give the $end0 of $p1, or $d1 if it is empty.",
        """
fn $f1($p1: &[$ty]) -> $ty {
    $body
}
fn main() {
    println!("{}", $f1(&[$k1, $k2, $d2]));
    println!("{}", $f1(&[]));
}
""",
        ty=(*INT, "usize", "u8", "i64"),
        end=(
            ("first", "first()"),
            ("last", "last()"),
            ("largest", "iter().max()"),
            ("smallest", "iter().min()"),
        ),
        body=(
            "match $p1.$end1 {\n        Some($n1) => ~$n1~*$n1~,\n        None => $d1,\n    }",
            "match $p1.$end1 {\n        None => $d1,\n        Some($n1) => ~$n1~*$n1~,\n    }",
            "if let Some($n1) = $p1.$end1 {\n        return ~$n1~*$n1~;\n    }\n    $d1",
        ),
    )
)
add(
    sketch(
        "Print $f1 of each number in $p1.",
        """
fn $f1($n1: $ty) -> $ty {
    $n1 $op $d1
}
fn main() {
    let $p1 = $list;
    for $n2 in $iter {
        $call
    }
}
""",
        ty=INT,
        op=ARITHMETIC,
        list=("vec![$k1, $k2]", "[$k1, $k2, $k3]"),
        iter=("&$p1", "$p1.iter()", "$p1.iter().rev()"),
        call=('println!("{}", $f1(~$n2~*$n2~));', 'let $n3 = $f1(~$n2~*$n2~);\n        println!("{}", $n3);'),
    )
)
add(
    sketch(
        "Let $f1 set $n3 to $set1.",
        """
fn $f1($n1: &mut $set0) {
    $say0
    ~$n1~*$n1~ = $set1;
    $say1
}
fn main() {
    let mut $n3: $set0 = $set2;
    $f1(&mut $n3);
    println!("{:?}", $n3);
}
""",
        set=(
            ("i32", "$k1", "$d1"),
            ("u64", "$k1", "$d1"),
            ("f64", "$d2.5", "$d1.0"),
            ("bool", "true", "false"),
            ("char", "'b'", "'a'"),
            ("String", 'String::from("$s1")', "String::new()"),
            ("Vec<i32>", "vec![$k1, $k2]", "Vec::new()"),
            ("(i32, i32)", "($k1, $k2)", "(0, 0)"),
            ("Option<u32>", "Some($k1)", "None"),
        ),
        say=(("", ""), ('println!("{:?}", $n1);', ""), ("", 'println!("{:?}", $n1);')),
    )
)
add(
    sketch(
        "Print the sum of $n3 and $d1.",
        """
fn $f1($p1: &[$ty]) -> &$ty {
    &$p1[$i]
}
fn main() {
    let $p2 = $list;
    let $n3: $ty = ~$f1(&$p2)~*$f1(&$p2)~;
    println!("{}", $n3 + $d1);
}
""",
        ty=(*INT, "usize"),
        i=("0", "$p1.len() - 1", "$p1.len() / 2"),
        list=("[$k1, $k2]", "vec![$k1, $k2, $d2]"),
    )
)
add = family("compare_reference", "type_mismatch", "E0277")
add(
    sketch(
        "Add $step for each number in $p1 that $eq $k1.",
        """
fn main() {
    let $p1: Vec<$ty> = vec![$k1, $k2, $k1];
    let mut $n1 = 0;
    for $n2 in $iter {
        if ~$n2~*$n2~ $eq $k1 {
            $n1 += $step;
        }
    }
    println!("{}", $n1);
}
""",
        ty=(*INT, "usize", "u8"),
        iter=("&$p1", "$p1.iter()", "$p1.iter().rev()"),
        eq=("==", "!="),
        step=("1", "$n2", "$d1"),
    )
)
add(
    sketch(
        "Ask $p1 about $n1 and print the answer.",
        """
fn main() {
    let $p1 = $list;
    let $n1$ann = $k2;
    let $n2 = $p1.iter().$ask(|$n3| ~$n3~*$n3~ $eq $n1);
    println!("{:?}", $n2);
}
""",
        list=("[$k1, $k2, $k3]", "vec![$k1, $k2]"),
        ann=("", ": u64", ": u8", ": i64", ": usize"),
        ask=("any", "all", "position"),
        eq=("==", "!="),
    )
)
add(
    sketch(
        "Let $f1 say whether $n1 $eq $n2.",
        """
fn $f1($n1: &$ty0, $n2: $ty0) -> bool {
    $body
}
fn main() {
    let $n4 = $ty1;
    println!("{}", $f1(&$n4, $ty2));
}
""",
        ty=(
            ("i32", "$k1", "$k2"),
            ("u64", "$k1", "$k2"),
            ("usize", "$k1", "$k2"),
            ("char", "'a'", "'b'"),
            ("f64", "$d1.5", "$d2.5"),
            ("bool", "true", "false"),
        ),
        eq=("==", "!="),
        body=(
            "~$n1~*$n1~ $eq $n2",
            "!(~$n1~*$n1~ $eq $n2)",
            "let $n3 = ~$n1~*$n1~ $eq $n2;\n    $n3",
            "if ~$n1~*$n1~ $eq $n2 {\n        return true;\n    }\n    false",
        ),
    )
)
add(
    sketch(
        "Say whether the $end0 of $p1 is $n1.",
        """
fn main() {
    let $p1 = $list;
    let $n1$ann = $k2;
    if let Some($n2) = $p1.$end1 {
        $say
    }
}
""",
        list=("[$k1, $k2, $k3]", "vec![$k1, $k2]"),
        end=(("first", "first()"), ("last", "last()"), ("largest", "iter().max()"), ("second", "get(1)")),
        ann=("", ": u64", ": u8"),
        say=(
            'println!("{}", ~$n2~*$n2~ == $n1);',
            'println!("{} {}", $n2, ~$n2~*$n2~ == $n1);',
            'if ~$n2~*$n2~ != $n1 {\n            println!("$s1");\n        }\n        println!("{}", $n2);',
            'let $n3 = ~$n2~*$n2~ == $n1;\n        println!("{}", $n3);',
        ),
    )
)
add(
    sketch(
        'Print the words in $p1 that are $eq "$s1".',
        """
fn main() {
    let $p1 = $list;
    for $n1 in $iter {
        if ~$n1~*$n1~ $eq "$s1" {
            $say
        }
    }
    println!("{}", $p1.len());
}
""",
        list=('["$s1", "$s2"]', 'vec!["$s2", "$s1"]', 'vec!["$s2", "$s3", "$s1"]'),
        iter=("&$p1", "$p1.iter()", "$p1.iter().rev()"),
        eq=("==", "!="),
        say=(
            'println!("{}", $n1);',
            'println!("{} {}", $n1, $n1.len());',
            'println!("{}", $n1.to_uppercase());\n            break;',
        ),
    )
)
add = family("option_expected", "type_mismatch", "E0308")
add(
    sketch(
        "Let $f1 give the first number of $p1 $cmp $k1.",
        """
fn $f1($p1: &[$ty]) -> Option<$ty> {
    for $n1 in $p1 {
        if *$n1 $cmp $k1 {
            return ~*$n1~Some(*$n1)~;
        }
    }
    None
}
fn main() {
    let $n2 = $f1(&$list);
    println!("{:?}", $n2);
}
""",
        ty=(*INT, "usize"),
        cmp=("==", *COMPARISON),
        list=("[$d1, $k1, $k2]", "vec![$k1, $k2]"),
    )
)
add(
    sketch(
        "Give $n3 the $n2 $val1 and print it.",
        """
struct $T1 {
    $n1: $other0,
    $n2: Option<$val0>,
}
fn main() {
    let $n3 = $T1 { $n1: $other1, $n2: ~$val1~Some($val1)~ };
    $say
    println!("{}", $n3.$n1);
}
""",
        other=(("u32", "$k1"), ("f64", "$d1.5"), ("bool", "true"), ("char", "'y'")),
        val=VALUE,
        say=(
            'println!("{:?}", $n3.$n2);',
            'if let Some($n4) = $n3.$n2 {\n        println!("{}", $n4);\n    }',
        ),
    )
)
add(
    sketch(
        "Let $n1 hold $val1 and print it.",
        """
fn main() {
    let $n1: Option<$val0> = ~$val1~Some($val1)~;
    $say
}
""",
        val=VALUE,
        say=(
            'println!("{:?}", $n1);',
            'println!("{}", $n1.is_some());',
            'if let Some($n2) = $n1 {\n        println!("{}", $n2);\n    }',
            'match $n1 {\n        Some($n2) => println!("{}", $n2),\n        None => println!("$s1"),\n    }',
            'println!("{}", $n1.unwrap());',
        ),
    )
)
add(
    sketch(
        "Print what $f1 gives for $val1 and for nothing.",
        """
fn $f1($n1: Option<$val0>) -> $res0 {
    $res1
}
fn main() {
    println!("{}", $f1(None));
    println!("{}", $f1(~$val1~Some($val1)~));
}
""",
        val=VALUE,
        res=(
            ("bool", "$n1.is_none()"),
            ("bool", "$n1.is_some()"),
            ("$val0", "$n1.unwrap_or($val1)"),
            ("u32", "match $n1 {\n        Some(_) => $d1,\n        None => $d2,\n    }"),
            ("u64", "if $n1.is_some() {\n        return $k1;\n    }\n    $k2"),
        ),
    )
)
add(
    sketch(
        "Keep the last number $cmp $k1 in $n1.",
        """
fn main() {
    let mut $n1: Option<$ty> = None;
    for $n2 in $iter {
        if $n2 $cmp $k1 {
            $n1 = ~$n2$plus~Some($n2$plus)~;
        }
    }
    println!("{:?}", $n1);
}
""",
        ty=(*INT, "usize"),
        cmp=COMPARISON,
        iter=("0..$k2", "[$k1, $k2, $k3]", "vec![$k1, $d2]"),
        plus=("", " + $d1", " * $d1"),
    )
)
add(
    sketch(
        "Let $f1 give $n1 $op $n2, or None when $n2 is 0.",
        """
fn $f1($n1: $ty, $n2: $ty) -> Option<$ty> {
    $body
}
fn main() {
    println!("{:?} {:?}", $f1($k1, $d1), $f1($k2, 0));
}
""",
        ty=INT,
        op=("/", "%"),
        body=(
            "if $n2 == 0 {\n        return None;\n    }\n    ~$n1 $op $n2~Some($n1 $op $n2)~",
            "if $n2 == 0 {\n        None\n    } else {\n        ~$n1 $op $n2~Some($n1 $op $n2)~\n    }",
            "match $n2 {\n        0 => None,\n        _ => ~$n1 $op $n2~Some($n1 $op $n2)~,\n    }",
            "if $n2 == 0 {\n        return None;\n    }\n    let $n3 = $n1 $op $n2;\n    ~$n3~Some($n3)~",
        ),
    )
)
