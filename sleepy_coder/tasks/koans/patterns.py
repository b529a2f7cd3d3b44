"""Patterns: missing arms, wrong arity, missing fields, misspelled variants."""

from __future__ import annotations

from sleepy_coder.tasks.koans.family import family
from sleepy_coder.tasks.koans.sketch import ARITHMETIC, INT, NUMBER, VALUE, Choice, sketch

# How the result of $f1 for an enum $T1 is shown for two of its variants.
CALLS: Choice = (
    'println!("{} {}", $f1($T1::$T2), $f1($T1::$T4));',
    'println!("{}", $f1($T1::$T2));\n    println!("{}", $f1($T1::$T4));',
    'let $n5 = $f1($T1::$T4);\n    println!("{} {}", $n5, $f1($T1::$T2));',
    'for $n5 in [$T1::$T4, $T1::$T2] {\n        println!("{}", $f1($n5));\n    }',
)

add = family("non_exhaustive_match", "patterns", "E0004")
add(
    sketch(
        "Let $f1 give $ret1 for $T2, $ret2 for $T3 and $ret3 for $T4.",
        """
enum $T1 {
    $T2,
    $T3,
    $T4,
}
fn $f1($n1: $T1) -> $ret0 {
    match $n1 {
        $arms
    }
}
fn main() {
    println!("{} {} {}", $f1($T1::$T2), $f1($T1::$T3), $f1($T1::$T4));
}
""",
        ret=(
            ("i32", "$k1", "$k2", "$k3"),
            ("u64", "$k1", "$k2", "$k3"),
            ("char", "'a'", "'b'", "'c'"),
            ("&'static str", '"$s1"', '"$s2"', '"$s3"'),
            ("f64", "$d1.5", "$d2.0", "$d3.5"),
        ),
        arms=(
            "$T1::$T2 => $ret1,\n        $T1::$T3 => $ret2,\n        ~~$T1::$T4 => $ret3,~",
            "$T1::$T2 => $ret1,\n        ~~$T1::$T3 => $ret2,~\n        $T1::$T4 => $ret3,",
            "~~$T1::$T2 => $ret1,~\n        $T1::$T3 => $ret2,\n        $T1::$T4 => $ret3,",
        ),
    )
)
add(
    sketch(
        "Let $f1 give $ret1 for 0, $ret2 for 1 and $ret3 otherwise.",
        """
fn $f1($n1: $ty) -> $ret0 {
    $result0
        0 => $ret1,
        1 => $ret2,
        ~~_ => $ret3,~
    $result1
}
fn main() {
    println!("{} {}", $f1($d1), $f1(1));
}
""",
        ty=(*INT, "usize", "u8"),
        ret=(
            ("i32", "$k1", "$k2", "$k3"),
            ("u64", "$k1", "$k2", "$k3"),
            ("char", "'a'", "'b'", "'c'"),
            ("&'static str", '"$s1"', '"$s2"', '"$s3"'),
            ("bool", "true", "true", "false"),
        ),
        result=(("match $n1 {", "}"), ("let $n2 = match $n1 {", "};\n    $n2"), ("return match $n1 {", "};")),
    )
)
add(
    sketch(
        'Print the value of $n1, or "$s1" for None.',
        """
fn main() {
    let $n1: Option<$val0> = $make;
    match $n1 {
        $arms
    }
}
""",
        val=VALUE,
        make=("Some($val1)", "None", "Some($val1).filter(|_| $k1 > $k2)"),
        arms=(
            'Some($n2) => println!("{}", $n2),\n        ~~None => println!("$s1"),~',
            '~~Some($n2) => println!("{}", $n2),~\n        None => println!("$s1"),',
        ),
    )
)
add(
    sketch(
        "Let $f1 say $s1 for (true, true), $s2 for (true, false), else $s3.",
        """
fn $f1($n1: $ty, $n2: $ty) -> &'static str {
    $result0 ($n1 $cmp $d1, $n2 $cmp $d2) {
        (true, true) => "$s1",
        (true, false) => "$s2",
        ~~(false, _) => "$s3",~
    $result1
}
fn main() {
    println!("{} {}", $f1(1, $k2), $f1($k1, $k2));
}
""",
        ty=INT,
        cmp=(">", "<", ">=", "<=", "=="),
        result=(("match", "}"), ("let $n3 = match", "};\n    $n3"), ("return match", "};")),
    )
)
add(
    sketch(
        "Let $f1 give $n1 $op $d1 for $T2 and $n2 for $T3.",
        """
enum $T1 {
    $T2($ty),
    $T3 { $n2: $ty },
}
fn $f1($n3: $T1) -> $ty {
    match $n3 {
        $arms
    }
}
fn main() {
    println!("{}", $f1($T1::$T2($k1)));
    println!("{}", $f1($T1::$T3 { $n2: $k2 }));
}
""",
        ty=INT,
        op=ARITHMETIC,
        arms=(
            "$T1::$T2($n1) => $n1 $op $d1,\n        ~~$T1::$T3 { $n2 } => $n2,~",
            "~~$T1::$T2($n1) => $n1 $op $d1,~\n        $T1::$T3 { $n2 } => $n2,",
        ),
    )
)
add(
    sketch(
        'Print $n2 when $f1 gives Ok, and "$s1" when it gives Err.',
        """
fn $f1($n1: $ty) -> Result<$ty, String> {
    if $n1 $cmp $k1 {
        return Err(String::from("$s2"));
    }
    Ok($n1 $op $d1)
}
fn main() {
    match $f1($k2) {
        $arms
    }
}
""",
        ty=INT,
        cmp=(">", "<"),
        op=ARITHMETIC,
        arms=(
            'Ok($n2) => println!("{}", $n2),\n        ~~Err(_) => println!("$s1"),~',
            '~~Ok($n2) => println!("{}", $n2),~\n        Err(_) => println!("$s1"),',
        ),
    )
)
add = family("variant_arity", "patterns", "E0023")
add(
    sketch(
        "Let $f1 give the first number of $T2 and $d1 for $T3.",
        """
enum $T1 {
    $T2($ty, $other0),
    $T3,
}
fn $f1($n1: $T1) -> $ty {
    match $n1 {
        $T1::$T2($n2~~, _~) => $n2 $op $d2,
        $T1::$T3 => $d1,
    }
}
fn main() {
    println!("{} {}", $f1($T1::$T2($k1, $other1)), $f1($T1::$T3));
}
""",
        ty=INT,
        other=NUMBER,
        op=ARITHMETIC,
    )
)
add(
    sketch(
        "Print the number in $T2, or $s1 for $T3.",
        """
enum $T1 {
    $T2($val0),
    $T3,
}
fn main() {
    for $n1 in [$T1::$T3, $T1::$T2($val1)] {
        match $n1 {
            $arms
        }
    }
}
""",
        val=VALUE,
        arms=(
            '$T1::$T2($n2~, _~~) => println!("{}", $n2),\n            $T1::$T3 => println!("$s1"),',
            '$T1::$T3 => println!("$s1"),\n            $T1::$T2($n2~, _~~) => println!("{}", $n2),',
            '$T1::$T2(~_, ~~$n2) => println!("{}", $n2),\n            $T1::$T3 => println!("$s1"),',
        ),
    )
)
add(
    sketch(
        "Print the first two of the three values in $n1.",
        """
struct $T1($one0, $ty, $two0);
fn main() {
    let $n1 = $T1($one1, $k1, $two1);
    $bind
    println!("{} {}", $n2, $n3);
    println!("{}", $n1.2);
}
""",
        one=VALUE,
        two=NUMBER,
        ty=INT,
        bind=("let $T1($n2, $n3~~, _~) = $n1;", "let $T1($n2, $n3~~, _~) = &$n1;"),
    )
)
add(
    sketch(
        "Let $f1 say whether $n1 is a $T2.",
        """
enum $T1 {
    $T2($ty, $ty),
    $T3($ty),
}
fn $f1($n1: &$T1) -> bool {
    $test
}
fn main() {
    println!("{} {}", $f1(&$T1::$T2($k1, $d1)), $f1(&$T1::$T3($k2)));
}
""",
        ty=(*INT, "u16", "usize"),
        test=(
            "matches!($n1, $T1::$T2(_~~, _~))",
            "match $n1 {\n        $T1::$T2(_~~, _~) => true,\n        $T1::$T3(_) => false,\n    }",
            "match $n1 {\n        $T1::$T2(_, _) => true,\n        $T1::$T3(_~, _~~) => false,\n    }",
            "if let $T1::$T2(_~~, _~) = $n1 {\n        return true;\n    }\n    false",
        ),
    )
)
add(
    sketch(
        "Let $f1 give $n1 $op $n2 for $T2, and $n1 for $T3.",
        """
enum $T1 {
    $T2($ty, $ty, bool),
    $T3($ty),
}
fn $f1($n3: $T1) -> $ty {
    match $n3 {
        $T1::$T2($n1, $n2~~, _~) => $n1 $op $n2,
        $T1::$T3($n1) => $n1,
    }
}
fn main() {
    println!("{}", $f1($T1::$T2($k1, $d1, $flag)));
    println!("{}", $f1($T1::$T3($k2)));
}
""",
        ty=INT,
        op=ARITHMETIC,
        flag=("true", "false"),
    )
)
add = family("missing_pattern_field", "patterns", "E0027")
add(
    sketch(
        "Print $n1 and $n2 of $n4.",
        """
struct $T1 {
    $n1: $one0,
    $n2: $two0,
    $n3: $ty,
}
fn main() {
    let $n4 = $T1 { $n1: $one1, $n2: $two1, $n3: $k1 };
    let $T1 { $n1, $n2~~, ..~ } = $source;
    println!("{} {}", $n1, $n2);
    println!("{}", $n4.$n3);
}
""",
        one=VALUE,
        two=NUMBER,
        ty=("u32", "i64"),
        source=("$n4", "&$n4"),
    )
)
add(
    sketch(
        "Let $f1 give $n1 $op $d1 for $T2 and $d2 for $T3.",
        """
enum $T1 {
    $T2 { $n1: $ty, $n2: $val0 },
    $T3,
}
fn $f1($n3: $T1) -> $ty {
    match $n3 {
        $T1::$T2 { $n1~~, ..~ } => $n1 $op $d1,
        $T1::$T3 => $d2,
    }
}
fn main() {
    println!("{}", $f1($T1::$T2 { $n1: $k1, $n2: $val1 }));
    println!("{}", $f1($T1::$T3));
}
""",
        ty=INT,
        val=VALUE,
        op=ARITHMETIC,
    )
)
add(
    sketch(
        "Print $n1 of each $T1 in $p1.",
        """
struct $T1 {
    $n1: $val0,
    $n2: $ty,
}
fn main() {
    let $p1 = $open0$T1 { $n1: $val1, $n2: $k1 }];
    for $T1 { $n1~~, ..~ } in $iter {
        println!("{}", $n1);
    }
    println!("{}", $p1[0].$n2);
}
""",
        val=VALUE,
        ty=INT,
        open=(("[",), ("vec![",)),
        iter=("&$p1", "$p1.iter()"),
    )
)
add(
    sketch(
        "Print $n1 if $n3 is a $T2.",
        """
enum $T1 {
    $T2 { $n1: $val0, $n2: $ty },
    $T3,
}
fn main() {
    for $n3 in [$T1::$T3, $T1::$T2 { $n1: $val1, $n2: $k1 }] {
        if let $T1::$T2 { $n1~~, ..~ } = $n3 {
            println!("{}", $n1);
        }
    }
}
""",
        val=VALUE,
        ty=(*INT, "usize", "u8", "u16"),
    )
)
add(
    sketch(
        "Let $f1 give $n1 $op $n2.",
        """
struct $T1 {
    $n1: $ty,
    $n2: $ty,
    $n3: $val0,
}
fn $f1($param0) -> $ty {
    $param1
    $n1 $op $n2
}
fn main() {
    let $n4 = $T1 { $n1: $k1, $n2: $d1, $n3: $val1 };
    println!("{}", $n4.$n3);
    println!("{}", $f1($n4));
}
""",
        ty=INT,
        op=ARITHMETIC,
        val=VALUE,
        param=(
            ("$T1 { $n1, $n2~~, ..~ }: $T1", ""),
            ("$n5: $T1", "let $T1 { $n1, $n2~~, ..~ } = $n5;"),
        ),
    )
)
add = family("misspelled_variant", "patterns", "E0599")
add(
    sketch(
        "Let $f1 give $k1 for $T2, $k2 for $T3 and $k3 for $T4.",
        """
enum $T1 {
    $T2,
    $T3,
    $T4,
}
fn $f1($n1: $ref$T1) -> $ty {
    match $n1 {
        $arms
    }
}
fn main() {
    println!("{} {} {}", $f1($ref$T1::$T2), $f1($ref$T1::$T3), $f1($ref$T1::$T4));
}
""",
        ref=("", "&"),
        ty=(*INT, "usize"),
        arms=(
            "$T1::~$typo_T2~$T2~ => $k1,\n        $T1::$T3 => $k2,\n        $T1::$T4 => $k3,",
            "$T1::$T2 => $k1,\n        $T1::~$typo_T3~$T3~ => $k2,\n        $T1::$T4 => $k3,",
            "$T1::$T2 => $k1,\n        $T1::$T3 => $k2,\n        $T1::~$typo_T4~$T4~ => $k3,",
        ),
    )
)
add(
    sketch(
        "Print what $f1 gives for $T2 and for $T4.",
        """
enum $T1 {
    $T2,
    $T4,
}
fn $f1($n1: $T1) -> bool {
    $test
}
fn main() {
    $call
}
""",
        test=(
            "matches!($n1, $T1::~$typo_T4~$T4~)",
            "if let $T1::~$typo_T2~$T2~ = $n1 {\n        return true;\n    }\n    false",
            "match $n1 {\n        $T1::~$typo_T2~$T2~ => true,\n        $T1::$T4 => false,\n    }",
            "match $n1 {\n        $T1::$T2 => true,\n        $T1::~$typo_T4~$T4~ => false,\n    }",
        ),
        call=CALLS,
    )
)
add(
    sketch(
        "Print the value inside $n1.",
        """
enum $T1 {
    $T2($one0),
    $T3($two0),
}
fn main() {
    for $n1 in [$T1::$T2($one1), $T1::$T3($two1)] {
        match $n1 {
            $arms
        }
    }
}
""",
        one=VALUE,
        two=NUMBER,
        arms=(
            '$T1::~$typo_T2~$T2~($n2) => println!("{}", $n2),\n            $T1::$T3($n3) => println!("{}", $n3),',
            '$T1::$T2($n2) => println!("{}", $n2),\n            $T1::~$typo_T3~$T3~($n3) => println!("{}", $n3),',
        ),
    )
)
add(
    sketch(
        "Make a $T2 and print it.",
        """
#[derive(Debug)]
enum $T1 {
    $T2($val0),
    $T3,
}
fn main() {
    let $n1 = $T1::~$typo_T2~$T2~($val1);
    $show
    println!("{:?}", $T1::$T3);
}
""",
        val=VALUE,
        show=(
            'println!("{:?}", $n1);',
            'if let $T1::$T2($n2) = $n1 {\n        println!("{}", $n2);\n    }',
            'match $n1 {\n        $T1::$T2($n2) => println!("{}", $n2),\n        $T1::$T3 => println!("$s1"),\n    }',
        ),
    )
)
add(
    sketch(
        "Let $f1 give $T2 when $n1 $cmp $d1, else $T3.",
        """
#[derive(Debug)]
enum $T1 {
    $T2,
    $T3,
}
fn $f1($n1: $ty) -> $T1 {
    if $n1 $cmp $d1 {
        $arms
    }
}
fn main() {
    println!("{:?} {:?}", $f1($k1), $f1(1));
}
""",
        ty=(*INT, "usize", "u8"),
        cmp=(">", "<", ">=", "<=", "=="),
        arms=(
            "$T1::~$typo_T2~$T2~\n    } else {\n        $T1::$T3",
            "$T1::$T2\n    } else {\n        $T1::~$typo_T3~$T3~",
            "return $T1::~$typo_T2~$T2~;\n    } else {\n        return $T1::$T3;",
        ),
    )
)
