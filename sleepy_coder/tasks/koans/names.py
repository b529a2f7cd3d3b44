"""Names: misspelled, out of scope, private, or not brought into scope."""

from __future__ import annotations

from sleepy_coder.tasks.koans.family import family
from sleepy_coder.tasks.koans.sketch import ARITHMETIC, COMPARISON, INT, NUMBER, VALUE, sketch

add = family("missing_field", "names", "E0063")
add(
    sketch(
        "Print the $T1 $n5 with $n1 $k1, $n2 $val1 and $n3 $other1.",
        """
struct $T1 {
    $n1: $ty,
    $n2: $val0,
    $n3: $other0,
}
fn main() {
    let $n5 = $T1 {
        $given
    };
    println!("{} {} {}", $n5.$n1, $n5.$n2, $n5.$n3);
}
""",
        ty=("i32", "u64"),
        val=VALUE,
        other=NUMBER,
        given=(
            "$n1: $k1,\n        $n2: $val1,\n        ~~$n3: $other1,~",
            "$n1: $k1,\n        ~~$n2: $val1,~\n        $n3: $other1,",
            "~~$n1: $k1,~\n        $n2: $val1,\n        $n3: $other1,",
        ),
    )
)
add(
    sketch(
        "Let $f1 make a $T1 whose $n2 starts as $val1; print both fields.",
        """
struct $T1 {
    $n1: $ty,
    $n2: $val0,
}
impl $T1 {
    fn $f1($n1: $ty) -> $me {
        $me { $n1~~, $n2: $val1~ }
    }
}
fn main() {
    let $n3 = $T1::$f1($k1);
    println!("{} {}", $n3.$n1, $n3.$n2);
}
""",
        ty=INT,
        val=VALUE,
        me=("Self", "$T1"),
    )
)
add(
    sketch(
        "Let $f1 make a $T1 from $n1 and $n2.",
        """
struct $T1 {
    $n1: $one0,
    $n2: $two0,
}
fn $f1($n1: $one0, $n2: $two0) -> $T1 {
    $T1 { $make }
}
fn main() {
    let $n3 = $f1($one1, $two1);
    println!("{} {}", $n3.$n1, $n3.$n2);
}
""",
        one=VALUE,
        two=NUMBER,
        make=("$n1~~, $n2~", "~~$n1, ~$n2"),
    )
)
add(
    sketch(
        "Print all of $p1; the second $T1 has $n2 $val1.",
        """
struct $T1 {
    $n1: $ty,
    $n2: $val0,
}
fn main() {
    let $p1 = $open0
        $T1 { $n1: $k1, $n2: $val1 },
        $T1 { $n1: $k2~~, $n2: $val1~ },
    ];
    for $n3 in $iter {
        println!("{} {}", $n3.$n1, $n3.$n2);
    }
}
""",
        ty=INT,
        val=VALUE,
        open=(("[",), ("vec![",)),
        iter=("&$p1", "$p1.iter()", "$p1"),
    )
)
add(
    sketch(
        "Use $val1 as the $n2 of the $T2 and print both fields.",
        """
enum $T1 {
    $T2 { $n1: $ty, $n2: $val0 },
    $T3,
}
fn main() {
    for $n3 in [$T1::$T2 { $n1: $k1~~, $n2: $val1~ }, $T1::$T3] {
        match $n3 {
            $T1::$T2 { $n1, $n2 } => println!("{} {}", $n1, $n2),
            $T1::$T3 => println!("$s1"),
        }
    }
}
""",
        ty=INT,
        val=VALUE,
    )
)
add = family("unknown_field", "names", "E0609")
add(
    sketch(
        "Print $n1 and $n2 of $n3.",
        """
struct $T1 {
    $n1: $one0,
    $n2: $two0,
}
fn main() {
    let $n3 = $T1 { $n1: $one1, $n2: $two1 };
    $show
}
""",
        one=VALUE,
        two=NUMBER,
        show=(
            'println!("{} {}", $n3.~$typo_n1~$n1~, $n3.$n2);',
            'println!("{} {}", $n3.$n1, $n3.~$typo_n2~$n2~);',
            'let $n4 = $n3.~$typo_n2~$n2~;\n    println!("{} {}", $n3.$n1, $n4);',
        ),
    )
)
add(
    sketch(
        "Let $f1 give $n1 $op $n2.",
        """
struct $T1 {
    $n1: $ty,
    $n2: $ty,
}
impl $T1 {
    fn $f1(&self) -> $ty {
        $body
    }
}
fn main() {
    let $n3 = $T1 { $n1: $k1, $n2: $d1 };
    println!("{}", $n3.$f1());
}
""",
        ty=INT,
        op=(*ARITHMETIC, "/"),
        body=(
            "self.~$typo_n1~$n1~ $op self.$n2",
            "self.$n1 $op self.~$typo_n2~$n2~",
            "let $n4 = self.~$typo_n1~$n1~;\n        $n4 $op self.$n2",
        ),
    )
)
add(
    sketch(
        "Let $f1 change $n1 of $n3 by $d1 and print it.",
        """
struct $T1 {
    $n1: $ty,
}
fn $f1($n2: &mut $T1) {
    $body
}
fn main() {
    let mut $n3 = $T1 { $n1: $k1 };
    $f1(&mut $n3);
    println!("{}", $n3.$n1);
}
""",
        ty=(*INT, "usize"),
        op=(*ARITHMETIC, "/"),
        body=("$n2.~$typo_n1~$n1~ $op= $d1;", "$n2.$n1 = $n2.~$typo_n1~$n1~ $op $d1;"),
    )
)
add(
    sketch(
        "Print $n1 of every $T1 with $n2 $cmp $d1.",
        """
struct $T1 {
    $n1: $val0,
    $n2: $ty,
}
fn main() {
    let $p1 = [$T1 { $n1: $val1, $n2: $d1 }, $T1 { $n1: $val1, $n2: $d2 }];
    for $n3 in &$p1 {
        if $n3.$use0 $cmp $d1 {
            println!("{}", $n3.$use1);
        }
    }
    println!("{}", $p1.len());
}
""",
        val=VALUE,
        ty=INT,
        cmp=COMPARISON,
        use=(("~$typo_n2~$n2~", "$n1"), ("$n2", "~$typo_n1~$n1~")),
    )
)
add(
    sketch(
        "Print the $n1 of the $n3 of $n4.",
        """
struct $T1 {
    $n1: $val0,
}
struct $T2 {
    $n2: $ty,
    $n3: $T1,
}
fn main() {
    let $n4 = $T2 { $n2: $k1, $n3: $T1 { $n1: $val1 } };
    $show
}
""",
        val=VALUE,
        ty=INT,
        show=(
            'println!("{} {}", $n4.$n2, $n4.$n3.~$typo_n1~$n1~);',
            'println!("{} {}", $n4.$n2, $n4.~~$n3.~$n1);',
            'println!("{} {}", $n4.~$typo_n2~$n2~, $n4.$n3.$n1);',
        ),
    )
)
add = family("missing_use", "names", "E0433")
add(
    sketch(
        "Print what $p1 holds for $k1.",
        """
~~use std::collections::$map;~
fn main() {
    let mut $p1 = $map::new();
    $p1.insert($k1, $val);
    $show
}
""",
        map=("HashMap", "BTreeMap"),
        val=('"$s1"', "$d1.5", "'x'", "true", 'String::from("$s1")'),
        show=(
            'println!("{:?}", $p1.get(&$k1));',
            'println!("{:?}", $p1);',
            'println!("{} {}", $p1.len(), $p1[&$k1]);',
            'for ($n1, $n2) in &$p1 {\n        println!("{} {}", $n1, $n2);\n    }',
            'if let Some($n1) = $p1.get(&$k1) {\n        println!("{}", $n1);\n    }',
        ),
    )
)
add(
    sketch(
        "Count the different numbers in $list.",
        """
~~use std::collections::$set;~
fn main() {
    let mut $p1 = $set::new();
    for $n1 in $list {
        $p1.insert($n1);
    }
    $show
}
""",
        set=("HashSet", "BTreeSet"),
        list=("[$k1, $k2, $k1]", "vec![$k1, $k1, $k2]", "[$k1; $d1]"),
        show=(
            'println!("{}", $p1.len());',
            'println!("{} {}", $p1.len(), $p1.contains(&$k1));',
            'let $n2 = $p1.len();\n    println!("{}", $n2);',
        ),
    )
)
add(
    sketch(
        "Put two numbers into the queue $p1 and take one out.",
        """
~~use std::collections::VecDeque;~
fn main() {
    let mut $p1 = VecDeque::$make;
    $p1.push_$end0($k1);
    $p1.push_$end1($k2);
    $take
    println!("{}", $p1.len());
}
""",
        make=("new()", "from([$d1])", "from(vec![$d1, $d2])", "with_capacity($d1)"),
        end=(("back", "front"), ("back", "back"), ("front", "front")),
        take=(
            'println!("{:?}", $p1.pop_front());',
            'println!("{:?}", $p1.pop_back());',
            'if let Some($n1) = $p1.pop_front() {\n        println!("{}", $n1);\n    }',
            'while let Some($n1) = $p1.pop_front() {\n        println!("{}", $n1);\n    }',
        ),
    )
)
add(
    sketch(
        "Share $n1 and print it.",
        """
~~use std::rc::Rc;~
fn main() {
    let $n1 = Rc::new($val);
    let $n2 = Rc::clone(&$n1);
    $show
}
""",
        val=("$k1", "$d1.5", 'String::from("$s1")', "vec![$k1, $k2]", "[$k1; $d1]", "($k1, $d1)"),
        show=(
            'println!("{:?} {:?}", $n1, $n2);',
            'println!("{:?} {}", $n2, Rc::strong_count(&$n1));',
            'println!("{:?}", $n2);\n    drop($n1);\n    println!("{}", Rc::strong_count(&$n2));',
        ),
    )
)
add(
    sketch(
        "Change $n1 through its cell and print it.",
        """
~~use std::cell::$cell0;~
fn main() {
    let $n1 = $cell0::new($k1);
    $cell1
    $more
}
""",
        cell=(
            ("Cell", '$n1.set($n1.get() $op $d1);\n    println!("{}", $n1.get());'),
            ("Cell", 'let $n2 = $n1.replace($d1);\n    println!("{} {}", $n2, $n1.get());'),
            ("RefCell", '*$n1.borrow_mut() $op= $d1;\n    println!("{}", $n1.borrow());'),
            ("RefCell", 'let $n2 = $n1.replace($d1);\n    println!("{} {}", $n2, $n1.borrow());'),
        ),
        op=ARITHMETIC,
        more=("", 'println!("{}", $n1.into_inner());'),
    )
)
add(
    sketch(
        "Print how long $n1 lasts.",
        """
~~use std::time::Duration;~
fn main() {
    let $n1 = Duration::from_$unit($k1);
    $more
    println!("{:?}", $n1.as_$shown());
}
""",
        unit=("secs", "millis", "micros"),
        shown=("millis", "secs", "micros", "secs_f64"),
        more=("", "let $n1 = $n1 * $d1;", "let $n1 = $n1 + Duration::from_secs($d1);"),
    )
)
add = family("misspelled_variable", "names", "E0425")
add(
    sketch(
        "Print $n1 $op $n2.",
        """
fn main() {
    let $n1$ann = $k1;
    let $n2 = $d1;
    $show
}
""",
        ann=("", ": u64", ": i64", ": usize"),
        op=(*ARITHMETIC, "/"),
        show=(
            'println!("{}", ~$typo_n1~$n1~ $op $n2);',
            'println!("{}", $n1 $op ~$typo_n2~$n2~);',
            'let $n3 = ~$typo_n1~$n1~ $op $n2;\n    println!("{}", $n3);',
            'let $n3 = $n1 $op $n2;\n    println!("{}", ~$typo_n3~$n3~);',
        ),
    )
)
add(
    sketch(
        "Let $f1 give $n1 $op $n2.",
        """
fn $f1($n1: $ty, $n2: $ty) -> $ty {
    $body
}
fn main() {
    println!("{}", $f1($k1, $d1));
}
""",
        ty=INT,
        op=(*ARITHMETIC, "%"),
        body=(
            "~$typo_n1~$n1~ $op $n2",
            "$n1 $op ~$typo_n2~$n2~",
            "let $n3 = $n1 $op $n2;\n    ~$typo_n3~$n3~",
        ),
    )
)
add(
    sketch(
        "Print the sum of the numbers in $p1.",
        """
fn main() {
    let $p1: Vec<$ty> = vec![$k1, $k2, $k3];
    let mut $n1 = 0;
    for $n2 in $sum0 {
        $sum1
    }
    println!("{}", $sum2);
}
""",
        ty=(*INT, "usize"),
        sum=(
            ("&~$typo_p1~$p1~", "$n1 += $n2;", "$n1"),
            ("$p1", "$n1 += ~$typo_n2~$n2~;", "$n1"),
            ("$p1.iter()", "$n1 += *~$typo_n2~$n2~;", "$n1"),
            ("$p1", "~$typo_n1~$n1~ += $n2;", "$n1"),
            ("$p1.iter()", "$n1 += $n2;", "~$typo_n1~$n1~"),
        ),
    )
)
add(
    sketch(
        "Print what $f1 gives for $n2.",
        """
fn $f1($n1: &str) -> $res0 {
    $res1
}
fn main() {
    let $n2 = $text;
    println!("{}", $call0($call1));
}
""",
        res=(
            ("usize", "$n1.len()"),
            ("bool", "$n1.is_empty()"),
            ("String", "$n1.to_uppercase()"),
            ("String", 'format!("{}!", $n1)'),
        ),
        text=('"$s1"', '"$s1".trim()', '&"$s1".to_string()'),
        call=(("~$typo_f1~$f1~", "$n2"), ("$f1", "~$typo_n2~$n2~")),
    )
)
add(
    sketch(
        "Print $s1 when $n1 $cmp $n2, else $n2.",
        """
fn main() {
    let $n1$ann = $k1;
    let $n2 = $k2;
    if $ask0 {
        println!("$s1");
    } else {
        println!("{}", $ask1);
    }
}
""",
        ann=("", ": u64", ": i64"),
        cmp=COMPARISON,
        ask=(
            ("~$typo_n1~$n1~ $cmp $n2", "$n2"),
            ("$n1 $cmp ~$typo_n2~$n2~", "$n2"),
            ("$n1 $cmp $n2", "~$typo_n2~$n2~"),
        ),
    )
)
add = family("misspelled_method", "names", "E0599")
add(
    sketch(
        "Print what $f1 gives for $n2.",
        """
struct $T1 {
    $n1: $ty,
}
impl $T1 {
    fn $f1(&self$param0) -> $ty {
        self.$n1 $op $param1
    }
}
fn main() {
    let $n2 = $T1 { $n1: $k1 };
    println!("{}", $n2.~$typo_f1~$f1~($param2));
}
""",
        ty=(*INT, "usize"),
        op=(*ARITHMETIC, "/"),
        param=(("", "$d1", ""), (", $n3: $ty", "$n3", "$d1")),
    )
)
add(
    sketch(
        "Let $f1 change $n1 by $d1; print it.",
        """
struct $T1 {
    $n1: $ty,
}
impl $T1 {
    fn $f1(&mut self) {
        self.$n1 $op= $d1;
    }
}
fn main() {
    let mut $n2 = $T1 { $n1: 9$d2 };
    $call
    println!("{}", $n2.$n1);
}
""",
        ty=INT,
        op=(*ARITHMETIC, "/"),
        call=(
            "$n2.~$typo_f1~$f1~();",
            "$n2.$f1();\n    $n2.~$typo_f1~$f1~();",
            "for _ in 0..2 {\n        $n2.~$typo_f1~$f1~();\n    }",
        ),
    )
)
add(
    sketch(
        "Make a $T1 with $f1 and print its $n1.",
        """
struct $T1 {
    $n1: $val0,
}
impl $T1 {
    fn $f1($n1: $val0) -> $me {
        $me { $n1 }
    }
}
fn main() {
    let $n2 = $T1::~$typo_f1~$f1~($val1);
    $show
}
""",
        val=VALUE,
        me=("Self", "$T1"),
        show=('println!("{}", $n2.$n1);', 'let $n3 = $n2.$n1;\n    println!("{}", $n3);'),
    )
)
add(
    sketch(
        "Print the $say0 of $n1.",
        """
fn main() {
    let $n1 = $text;
    $show
}
""",
        text=('"$s1"', 'String::from("$s1")', '"$s1 $s2"', 'format!("{} $s1", $k1)'),
        say=(
            ("length", "~lenght~len~()"),
            ("length", "~length~len~()"),
            ("uppercase form", "~to_upper~to_uppercase~()"),
            ("uppercase form", "~to_uppercse~to_uppercase~()"),
            ("lowercase form", "~to_lower~to_lowercase~()"),
            ("trimmed form", "~trimm~trim~()"),
            ("number of characters", "chars().~cuont~count~()"),
        ),
        show=(
            'println!("{}", $n1.$say1);',
            'let $n2 = $n1.$say1;\n    println!("{} {}", $n1, $n2);',
        ),
    )
)
add(
    sketch(
        "$do0, then print $p1.",
        """
fn main() {
    let mut $p1$ann = vec![$k1, $k2, $k3];
    $p1.$do1;
    $more
    println!("{:?}", $p1);
}
""",
        ann=("", ": Vec<u64>", ": Vec<u8>"),
        do=(
            ("Add $d1 to $p1", "~psuh~push~($d1)"),
            ("Insert $d1 at the start of $p1", "~inser~insert~(0, $d1)"),
            ("Reverse $p1", "~revers~reverse~()"),
            ("Sort $p1", "~sorted~sort~()"),
            ("Remove the first of $p1", "~remve~remove~(0)"),
            ("Truncate $p1 to 2 numbers", "~truncat~truncate~(2)"),
        ),
        more=("", "$p1.push($d2);", 'println!("{}", $p1.len());'),
    )
)
