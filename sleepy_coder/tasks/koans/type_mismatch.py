"""Type mismatches: the right value in the wrong type."""

from __future__ import annotations

from sleepy_coder.tasks.koans.family import family
from sleepy_coder.tasks.koans.sketch import ARITHMETIC, COMPARISON, INT, NUMBER, VALUE, Choice, sketch

# A result type and an expression of that type over the String $n1.
OF_STRING: Choice = (
    ("usize", "$n1.len()"),
    ("usize", "$n1.len() * $d1"),
    ("usize", "$n1.chars().count() + $d1"),
    ("String", 'format!("{}!", $n1)'),
    ("String", "$n1.to_uppercase()"),
    ("String", "$n1.repeat($d1)"),
    ("bool", "$n1.is_empty()"),
    ("bool", "$n1.len() > $d1"),
    ("bool", '$n1.ends_with("e")'),
)
# Two integer types; every value in these programs fits both.
WIDTHS: Choice = (
    ("i32", "u64"),
    ("u32", "u64"),
    ("u32", "usize"),
    ("i32", "i64"),
    ("usize", "u32"),
    ("u64", "usize"),
    ("usize", "i32"),
    ("u8", "u32"),
    ("u64", "i64"),
)
LIST: Choice = ("vec![$k1, $k2, $k3]", "vec![$k1, $d1]", "Vec::from([$k1, $k2])")

add = family("str_for_string", "type_mismatch", "E0308")
add(
    sketch(
        'Print what $f1 gives for "$s1".',
        """
fn $f1($n1: String) -> $of0 {
    $of1
}
fn main() {
    $call0~"$s1"~"$s1".to_string()~$call1
}
""",
        of=OF_STRING,
        call=(
            ('println!("{}", $f1(', "));"),
            ("let $n2 = $f1(", ');\n    println!("{}", $n2);'),
        ),
    )
)
add(
    sketch(
        "Print $n1 and $n2 of the $T1 $n3.",
        """
struct $T1 {
    $n1: String,
    $n2: $ty0,
    $fourth0
}
fn main() {
    let $n3 = $T1 {
        $n1: ~"$s1"~"$s1".to_string()~,
        $n2: $ty1,
        $fourth1
    };
    println!("{} {}", $n3.$n1$end, $n3.$n2);
    $fourth2
}
""",
        ty=VALUE,
        end=("", ".len()", ".to_uppercase()"),
        fourth=(("", "", ""), ("$n4: u32,", "$n4: $k1,", 'println!("{}", $n3.$n4);')),
    )
)
add(
    sketch(
        "Build $n1 from two words and print it.",
        """
fn main() {
    let mut $n1: String = ~"$s1"~"$s1".to_string()~;
    $push
    $then
    println!("{}", $n1);
}
""",
        push=(
            '$n1.push_str("$s2");',
            'let $n2 = "$s2";\n    $n1.push_str($n2);',
            '$n1 += "$s2";',
            "for $n2 in 1..$d1 {\n        $n1.push_str(&$n2.to_string());\n    }",
            'for $n2 in ["$s2", "$s3"] {\n        $n1.push_str($n2);\n    }',
        ),
        then=(
            "",
            'println!("{}", $n1.len());',
            "$n1.push('!');",
            "$n1 = $n1.to_uppercase();",
            "$n1.insert(0, 'x');",
        ),
    )
)
add(
    sketch(
        'Let $f1 give "$s1" above $d1 and "$s2" otherwise.',
        """
fn $f1($n1: $ty) -> String {
    $body
}
fn main() {
    println!("{}", $f1($d2));
    println!("{}", $f1($k1));
}
""",
        ty=(*INT, "usize", "u8"),
        body=(
            'if $n1 > $d1 {\n        "$s1".to_string()\n    } else {\n        ~"$s2"~"$s2".to_string()~\n    }',
            'if $n1 > $d1 {\n        ~"$s1"~"$s1".to_string()~\n    } else {\n        "$s2".to_string()\n    }',
            'if $n1 > $d1 {\n        return ~"$s1"~"$s1".to_string()~;\n    }\n    "$s2".to_string()',
            'if $n1 > $d1 {\n        return "$s1".to_string();\n    }\n    ~"$s2"~"$s2".to_string()~',
            'match $n1 > $d1 {\n        true => ~"$s1"~"$s1".to_string()~,\n        false => "$s2".to_string(),\n    }',
        ),
    )
)
add(
    sketch(
        'Put "$s1" and "$s2" into $p1 and print them.',
        """
fn main() {
    let mut $p1: Vec<$tuple0> = Vec::new();
    $order
    for $n1 in $iter {
        println!("{$tuple3}", $n1);
    }
    $end
}
""",
        tuple=(
            ("String", "", "", ""),
            ("(String, $num)", "(", ", $k1)", ":?"),
            ("($num, String)", "($k1, ", ")", ":?"),
        ),
        num=("u32", "i64", "usize"),
        order=(
            '$p1.push($tuple1~"$s1"~"$s1".to_string()~$tuple2);\n    $p1.push($tuple1"$s2".to_string()$tuple2);',
            '$p1.push($tuple1String::from("$s1")$tuple2);\n    $p1.push($tuple1~"$s2"~"$s2".to_string()~$tuple2);',
        ),
        iter=("&$p1", "$p1.iter()", "$p1.iter().rev()"),
        end=("", 'println!("{}", $p1.len());'),
    )
)
add(
    sketch(
        "Print $n1 and $n2 of the $T1 made by $f1.",
        """
struct $T1 {
    $n1: String,
    $n2: $ty0,
}
impl $T1 {
    fn $f1($n1: &str, $n2: $ty0) -> $me {
        $me { $n1: ~$n1~$n1.to_string()~, $n2 }
    }
}
fn main() {
    let $n3 = $T1::$f1("$s1", $ty1);
    println!("{} {}", $n3.$n1, $n3.$n2);
}
""",
        ty=NUMBER,
        me=("$T1", "Self"),
    )
)
add = family("integer_width", "type_mismatch", "E0308")
add(
    sketch(
        "Print what $f1 gives for $n2.",
        """
fn $f1($n1: $ty1) -> $ty1 {
    $n1 $op $d1
}
fn main() {
    let $n2: $ty0 = $k1;
    $call
}
""",
        ty=WIDTHS,
        op=ARITHMETIC,
        call=(
            'println!("{}", $f1(~$n2~$n2 as $ty1~));',
            'let $n3 = $f1(~$n2~$n2 as $ty1~);\n    println!("{}", $n3);',
        ),
    )
)
add(
    sketch(
        "Print how many $p1 there are.",
        """
fn $f1($p1: &[$item]) -> $ty {
    ~$many~$many as $ty~
}
fn main() {
    let $p2 = $list;
    println!("{}", $f1(&$p2));
}
""",
        item=("i32", "u64", "u8"),
        ty=INT,
        many=("$p1.len()", "$p1.iter().count()", "$p1.iter().filter(|x| **x > $k4).count()"),
        list=LIST,
    )
)
add(
    sketch(
        "Print $n2 and $n3 of a $T1.",
        """
struct $T1 {
    $n2: $ty1,
    $n3: $other0,
}
fn main() {
    let $n1: $ty0 = $k1;
    $make
    println!("{} {}", $n4.$n2, $n4.$n3);
}
""",
        ty=WIDTHS,
        other=VALUE,
        make=(
            "let $n4 = $T1 { $n2: ~$n1~$n1 as $ty1~, $n3: $other1 };",
            "let $n4 = $T1 { $n3: $other1, $n2: ~$n1~$n1 as $ty1~ };",
            "let $n4 = $T1 {\n        $n2: ~$n1 / $d1~($n1 / $d1) as $ty1~,\n        $n3: $other1,\n    };",
        ),
    )
)
add(
    sketch(
        "Print $n2, which is $n1 as $ty1, $then0.",
        """
fn main() {
    let $n1: $ty0 = $k1;
    let $n2: $ty1 = ~$n1~$n1 as $ty1~;
    $then1
}
""",
        ty=WIDTHS,
        then=(
            ("plus $n3", 'let $n3 = $d1;\n    println!("{}", $n2 + $n3);'),
            ("times $d1", 'println!("{}", $n2 * $d1);'),
            ("and $n1", 'println!("{} {}", $n2, $n1);'),
            ("below $d2", 'if $n2 < $d2 {\n        println!("{}", $n2);\n    }\n    println!("{}", $n2);'),
            ("divided by $d1", 'let $n3 = $n2 / $d1;\n    println!("{} {}", $n3, $n2 % $d1);'),
        ),
    )
)
add(
    sketch(
        "Collect $n1 $times times in $p1 and print it.",
        """
fn main() {
    let mut $p1: Vec<$ty1> = vec![$start];
    let $n1: $ty0 = $k1;
    for _ in 0..$times {
        $p1.push(~$n1~$n1 as $ty1~);
    }
    $show
}
""",
        ty=WIDTHS,
        start=("$d2", "$d2, $d3"),
        times=("2", "3"),
        show=(
            'println!("{:?}", $p1);',
            'for $n2 in $p1 {\n        println!("{}", $n2);\n    }',
            'println!("{} {}", $p1.len(), $p1[0]);\n    println!("{:?}", $p1);',
        ),
    )
)
add(
    sketch(
        "Let $f1 change $n1 by $n3 and print $n1.",
        """
struct $T1 {
    $n1: $ty1,
}
impl $T1 {
    fn $f1(&mut self, $n2: $ty1) {
        self.$n1 $op= $n2;
    }
}
fn main() {
    let mut $n4 = $T1 { $n1: $k2 };
    let $n3: $ty0 = $d1;
    $n4.$f1(~$n3~$n3 as $ty1~);
    println!("{}", $n4.$n1);
}
""",
        ty=WIDTHS,
        op=(*ARITHMETIC, "/"),
    )
)

add = family("missing_return_value", "type_mismatch", "E0308")
add(
    sketch(
        "Let $f1 return $n1 $op $d1.",
        """
fn $f1($n1: $ty) -> $ty {
    $body
}
fn main() {
    $call
}
""",
        ty=(*INT, "usize"),
        op=ARITHMETIC,
        body=(
            "$n1 $op $d1~;~~",
            "let $n2 = $n1 $op $d1;\n    $n2~;~~",
            "let $n2 = $d1;\n    $n1 $op $n2~;~~",
        ),
        call=('println!("{}", $f1($k1));', 'let $n3 = $f1($k1);\n    println!("{}", $n3);'),
    )
)
add(
    sketch(
        "Print what $f1 gives for $n3.",
        """
struct $T1 {
    $n1: $ty,
    $n2: $ty,
}
impl $T1 {
    fn $f1(&self) -> $res0 {
        $res1~;~~
    }
}
fn main() {
    let $n3 = $T1 { $n1: $k1, $n2: $d1 };
    println!("{}", $n3.$f1());
}
""",
        ty=INT,
        res=(
            ("$ty", "self.$n1 * self.$n2"),
            ("$ty", "self.$n1 - self.$n2"),
            ("$ty", "self.$n1 / self.$n2"),
            ("bool", "self.$n1 > self.$n2"),
            ("bool", "self.$n1 == self.$n2"),
            ("String", 'format!("{} {}", self.$n1, self.$n2)'),
        ),
    )
)
add(
    sketch(
        "Let $f1 return the $what0 of $p1.",
        """
fn $f1($p1: &[$ty]) -> $ty {
    let mut $n1 = $what1;
    for $n2 in $p1 {
        $what2
    }
    $n1~;~~
}
fn main() {
    println!("{}", $f1(&$list));
}
""",
        ty=(*INT, "u16", "usize"),
        what=(
            ("sum", "0", "$n1 += $n2;"),
            ("product", "1", "$n1 *= $n2;"),
            ("largest", "0", "if *$n2 > $n1 {\n            $n1 = *$n2;\n        }"),
            ("sum", "0", "$n1 = $n1 + *$n2;"),
            ("sum of squares", "0", "$n1 += $n2 * $n2;"),
        ),
        list=("[$d1, $k1]", "[$d1, $d2, $d3]", "vec![$d1, $k1]"),
    )
)
add(
    sketch(
        "Let $f1 return a text made from $n1.",
        """
fn $f1($n1: &str) -> String {
    $body~;~~
}
fn main() {
    $main
}
""",
        body=(
            'format!("{} $s2", $n1)',
            "$n1.to_uppercase()",
            "$n1.repeat($d1)",
            "let mut $n2 = String::from($n1);\n    $n2.push('!');\n    $n2",
            'let mut $n2 = $n1.to_string();\n    $n2.push_str("$s2");\n    $n2',
            'let $n2 = $n1.len();\n    format!("{} {}", $n1, $n2)',
            "let mut $n2 = String::new();\n    for $n3 in $n1.chars().rev() {\n        $n2.push($n3);\n    }\n    $n2",
        ),
        main=(
            'println!("{}", $f1("$s1"));',
            'let $n4 = $f1("$s1");\n    println!("{}", $n4);',
            'println!("{}", $f1("$s1").len());',
            'for $n4 in ["$s1", "$s3"] {\n        println!("{}", $f1($n4));\n    }',
        ),
    )
)
add(
    sketch(
        "Let $f1 return $n1, but at most $k1.",
        """
fn $f1($n1: $ty) -> $ty {
    if $n1 > $k1 {
        return $k1;
    }
    $last~;~~
}
fn main() {
    println!("{}", $f1($d1));
    $more
}
""",
        ty=(*INT, "usize", "u16"),
        last=("$n1", "let $n2 = $n1;\n    $n2", "$n1.min($k1)"),
        more=(
            "",
            'println!("{}", $f1($k2));',
            'println!("{}", $f1(100) + $d2);',
            'for $n3 in 20..22 {\n        println!("{}", $f1($n3));\n    }',
        ),
    )
)
add = family("if_else_types", "type_mismatch", "E0308")
add(
    sketch(
        'Print "$s1" when $n1 $cmp $k1, else "$s2".',
        """
fn main() {
    let $n1$ann = $k2;
    let $n2 = if $n1 $cmp $k1 {
        $arms0
    } else {
        $arms1
    };
    println!("{}", $n2$end);
}
""",
        ann=("", ": u64", ": i64", ": usize"),
        cmp=COMPARISON,
        arms=(
            ('"$s1".to_string()', '~"$s2"~"$s2".to_string()~'),
            ('String::from("$s1")', '~"$s2"~String::from("$s2")~'),
            ('"$s1"', '~"$s2".to_string()~"$s2"~'),
        ),
        end=("", ".len()"),
    )
)
add(
    sketch(
        "Let $n2 be $d1.5 when $n1 $cmp $k1, else $d2.",
        """
fn main() {
    let $n1$ann = $k2;
    let $n2 = if $n1 $cmp $k1 { $arms };
    println!("{}", $n2$end);
}
""",
        ann=("", ": u64", ": i64", ": usize"),
        cmp=COMPARISON,
        arms=("$d1.5 } else { ~$d2~$d2.0~", "$d1.5 } else if $n1 == 0 { 0.0 } else { ~$d2~$d2.0~"),
        end=("", " * 2.0", " + 0.5"),
    )
)
add(
    sketch(
        "Print a number for $n1: $k1 for 1, $k2 for 2, else $k3.",
        """
fn main() {
    let $n1$ann = $d1;
    let $n2 = match $n1 {
        1 => $k1,
        $arms
    };
    println!("{}", $n2$end);
}
""",
        ann=("", ": u64", ": i64", ": usize", ": u8"),
        arms=(
            '2 => ~"$k2"~$k2~,\n        _ => $k3,',
            '2 => $k2,\n        _ => ~"$k3"~$k3~,',
            "2 => $k2,\n        _ => ~$k3.0~$k3~,",
            "2 => ~$k2.0~$k2~,\n        _ => $k3,",
            "2 => $k2,\n        _ => ~'$d2'~$k3~,",
        ),
        end=("", " + $d3", " * $d3"),
    )
)
add(
    sketch(
        "Let $n3 be the $what0 of $n1 and $n2.",
        """
fn main() {
    let $n1: $ty = $k1;
    let $n2 = $k2;
    let $n3 = if $n1 $what1 $n2 {
        $arms
    };
    println!("{}", $n3$end);
}
""",
        ty=INT,
        what=(("larger", ">"), ("smaller", "<"), ("larger", ">="), ("smaller", "<=")),
        arms=("$n1~;~~\n    } else {\n        $n2", "$n1\n    } else {\n        $n2~;~~"),
        end=("", " + $d1", " * $d1"),
    )
)
add(
    sketch(
        "Let $f1 give Some of $n1 $op $n2, and None when $n2 is 0.",
        """
fn $f1($n1: $ty, $n2: $ty) -> Option<$ty> {
    if $arms
    }
}
fn main() {
    println!("{:?}", $f1($k1, $d2));
    println!("{:?}", $f1($k1, 0));
}
""",
        ty=INT,
        op=("/", "%"),
        arms=(
            "$n2 == 0 {\n        ~0~None~\n    } else {\n        Some($n1 $op $n2)",
            "$n2 > 0 {\n        Some($n1 $op $n2)\n    } else {\n        ~0~None~",
            "$n2 > 0 {\n        let $n3 = $n1 $op $n2;\n        Some($n3)\n    } else {\n        ~0~None~",
        ),
    )
)
