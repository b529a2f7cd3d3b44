"""Lifetimes: signatures and types that need one named, and references that outlive their owner."""

from __future__ import annotations

from sleepy_coder.tasks.koans.stencil import stencils

_missing_fn = stencils("missing_lifetime_fn", "lifetimes", "E0106")

_missing_fn(
    "Print the ⟦1: longer // shorter⟧ of two texts, given by $f1.",
    """
fn $f1«⇒<'a>»($v1: &«⇒'a »str, $v2: &«⇒'a »str) -> &«⇒'a »str {
    if $v1.len() ⟦1: > // <⟧ $v2.len() {
        ⟦2: $v1 // return $v1;⟧
    } ⟦2: else { $v2 } // ⟧
    ⟦2: // $v2⟧
}
fn main() {
    println!("{}", $f1("$s1", "$s2"));
    ⟦ // println!("{}", $f1("$s3", "$s4"));⟧
}
""",
)
_missing_fn(
    "Print the ⟦1: larger // smaller⟧ number, given by $f1 as a reference.",
    """
fn $f1«⇒<'a>»($v1: &«⇒'a »⟦2: i32 // u64⟧, $v2: &«⇒'a »⟦2: i32 // u64⟧) -> &«⇒'a »⟦2: i32 // u64⟧ {
    if $v1 ⟦1: > // <⟧ $v2 {
        return $v1;
    }
    $v2
}
fn main() {
    ⟦println!("{}", $f1(&$n1, &$n2)); // let $v3 = $n1;
    println!("{}", $f1(&$v3, &$n2)); // let $v4 = $f1(&$n1, &$n2);
    println!("{}", $v4);⟧
}
""",
)
_missing_fn(
    "Print what $f1 gives: the first list if it is ⟦1: longer // shorter⟧.",
    """
fn $f1«⇒<'a>»($p1: &«⇒'a »⟦2: [i32] // Vec<i32>⟧, $p2: &«⇒'a »⟦2: [i32] // \
        Vec<i32>⟧) -> &«⇒'a »⟦2: [i32] // Vec<i32>⟧ {
    if $p1.len() ⟦1: > // <⟧ $p2.len() {
        return $p1;
    }
    $p2
}
fn main() {
    let $p3 = vec![$n1, $n2];
    let $p4 = vec![$n3⟦ // , $n4, $n5⟧];
    println!("{:?}", $f1(&$p3, &$p4));
}
""",
)
_missing_fn(
    "Let $f1 give the ⟦1: first // second⟧ text when asked, and print it.",
    """
fn $f1«⇒<'a>»($v1: &«⇒'a »str, $v2: &«⇒'a »str, $v3: ⟦2: bool // u32⟧) -> &«⇒'a »str {
    if ⟦2: $v3 // $v3 > $k1⟧ {
        return ⟦1: $v1 // $v2⟧;
    }
    ⟦1: $v2 // $v1⟧
}
fn main() {
    println!("{}", $f1("$s1", "$s2", ⟦2: true // $k2⟧));
    ⟦ // println!("{}", $f1("$s3", "$s4", ⟦2: false // $k3⟧));⟧
}
""",
)
_missing_fn(
    "Print the $v1 of the $T1 that $f1 picks.",
    """
struct $T1 {
    $v1: ⟦2: u32 // i64 // String⟧,
}
fn $f1«⇒<'a>»($v2: &«⇒'a »$T1, $v3: &«⇒'a »$T1) -> &«⇒'a »$T1 {
    if $v2.$v1 ⟦1: > // <⟧ $v3.$v1 { $v2 } else { $v3 }
}
fn main() {
    let $v4 = $T1 { $v1: ⟦2: $n1 // $n1 // String::from("$s1")⟧ };
    let $v5 = $T1 { $v1: ⟦2: $n2 // $n2 // String::from("$s2")⟧ };
    println!("{}", $f1(&$v4, &$v5).$v1);
}
""",
)
_missing_fn(
    "Let $f1 find the longer text, if it has more than $k1 letters.",
    """
fn $f1«⇒<'a>»($v1: &«⇒'a »str, $v2: &«⇒'a »str) -> Option<&«⇒'a »str> {
    let $v3 = if $v1.len() ⟦> // >=⟧ $v2.len() { $v1 } else { $v2 };
    ⟦if $v3.len() > $k1 { Some($v3) } else { None } // Some($v3).filter(|x| x.len() > $k1)⟧
}
fn main() {
    println!("{:?}", $f1("$s1", "$s2"));
    ⟦ // println!("{}", $f1("$s3", "$s4").unwrap_or("none")); // println!("{}", $f1("$s3", "$s4").is_some());⟧
}
""",
)

_missing_static = stencils("missing_static_lifetime", "lifetimes", "E0106")

_missing_static(
    "Print the fixed text that $f1 gives.",
    """
fn $f1() -> &«⇒'static »str {
    ⟦"$s1" // return "$s1"; // let $v1 = "$s1";
    $v1⟧
}
fn main() {
    ⟦println!("{}", $f1()); // println!("{}", $f1().len()); // let $v2 = $f1();
    println!("{}", $v2);⟧
    ⟦ // println!("{}", $n1);⟧
}
""",
)
_missing_static(
    "Print the name that $f1 gives to a ⟦1: large // small⟧ number.",
    """
fn $f1($v1: ⟦2: i32 // u32 // f64⟧) -> &«⇒'static »str {
    if $v1 ⟦1: > // <⟧ ⟦2: $n1 // $n1 // $n1.5⟧ {
        ⟦3: "$s1" // return "$s1";⟧
    } ⟦3: else { "$s2" } // ⟧
    ⟦3: // "$s2"⟧
}
fn main() {
    println!("{}", $f1(⟦2: $n2 // $n2 // $n2.5⟧));
    ⟦ // println!("{}", $f1(⟦2: $n3 // $n3 // $n3.5⟧));⟧
}
""",
)
_missing_static(
    "Print the name of $k1 and of another number with $f1.",
    """
fn $f1($v1: ⟦u32 // i32 // u8⟧) -> &«⇒'static »str {
    match $v1 {
        $k1 => "$s1",
        ⟦ // 0 => "$s4",⟧
        ⟦ // 1 => "$s3",⟧
        _ => "$s2",
    }
}
fn main() {
    println!("{}", $f1($k1));
    ⟦println!("{}", $f1($n1)); // println!("{} {}", $f1(0), $f1($n1));⟧
}
""",
)
_missing_static(
    "Print the ⟦1: words // pair // choice⟧ that $f1 gives.",
    """
fn $f1(⟦1: // // $v1: bool⟧) -> ⟦1: Vec<&«⇒'static »str> // (&«⇒'static »str, i32) // \
        Option<&«⇒'static »str>⟧ {
    ⟦1: vec!["$s1", "$s2"] // ("$s1", $n1) // if $v1 { Some("$s1") } else { None }⟧
}
fn main() {
    ⟦println!("{:?}", $f1(⟦1: // // true⟧)); // let $v2 = $f1(⟦1: // // true⟧);
    println!("{:?}", $v2);⟧
    ⟦ // println!("$s3"); // let $v3 = $k1;
    println!("{}", $v3);⟧
}
""",
)
_missing_static(
    "Print what $f1 says about ⟦1: on and off // two values⟧.",
    """
enum $T1 {
    ⟦1: On // Left⟧,
    ⟦1: Off // Right⟧,
    ⟦2: // Other,⟧
}
fn $f1($v1: $T1) -> &«⇒'static »str {
    match $v1 {
        $T1::⟦1: On // Left⟧ => "$s1",
        $T1::⟦1: Off // Right⟧ => "$s2",
        ⟦2: // $T1::Other => "$s3",⟧
    }
}
fn main() {
    println!("{}", $f1($T1::⟦1: On // Left⟧));
    println!("{}", $f1($T1::⟦1: Off // Right⟧));
    ⟦2: // println!("{}", $f1($T1::Other));⟧
}
""",
)

_missing_struct = stencils("missing_lifetime_struct", "lifetimes", "E0106")

_missing_struct(
    "Build $v4 with a borrowed $v1 and print ⟦2: $v1 // $v1 and $v2⟧.",
    """
struct $T1«⇒<'a>» {
    $v1: &«⇒'a »⟦1: str // [i32] // str⟧,
    ⟦2: // $v2: ⟦u32 // i64⟧,⟧
}
fn main() {
    ⟦3: // let $v3 = ⟦1: String::from("$s1") // vec![$n1, $n2] // "$s1"⟧;⟧
    let $v4 = $T1 { $v1: ⟦3: ⟦1: "$s1" // &[$n1, $n2] // "$s2"⟧ // &$v3⟧⟦2: // , $v2: $n3⟧ };
    println!("{:?}", $v4.$v1);
    ⟦2: // println!("{}", $v4.$v2);⟧
}
""",
)
_missing_struct(
    "Print the $v1 and the $v2 of $v3.",
    """
⟦ // #[derive(Debug)]⟧
struct $T1«⇒<'a>» {
    $v1: &«⇒'a »str,
    $v2: ⟦1: Option<&«⇒'a »str> // Vec<&«⇒'a »str> // (&«⇒'a »str, u32)⟧,
}
fn main() {
    let $v3 = $T1 { $v1: "$s1", $v2: ⟦1: ⟦Some("$s2") // None⟧ // vec!["$s2", "$s3"] // ("$s2", $n1)⟧ };
    ⟦println!("{} {:?}", $v3.$v1, $v3.$v2); // println!("{}", $v3.$v1);
    println!("{:?}", $v3.$v2);⟧
}
""",
)
_missing_struct(
    "Print what $f1 gives for $v3.",
    """
struct $T1«⇒<'a>» {
    $v1: &«⇒'a »str,
    $v2: ⟦u32 // i32⟧,
}
fn $f1($v4: &$T1) -> ⟦1: String // usize⟧ {
    ⟦1: format!("{} {}", $v4.$v1, $v4.$v2) // $v4.$v1.len() + $v4.$v2 as usize⟧
}
fn main() {
    ⟦2: // let $v5 = String::from("$s1");⟧
    let $v3 = $T1 { $v1: ⟦2: "$s1" // &$v5⟧, $v2: $n1 };
    println!("{}", $f1(&$v3));
}
""",
)
_missing_struct(
    "Print the ⟦1: text // number // list⟧ in $v1.",
    """
struct $T1«⇒<'a>»(&«⇒'a »⟦1: str // i32 // [u32]⟧⟦2: // , ⟦3: bool // u32⟧⟧);
fn main() {
    ⟦4: let $v2 = ⟦1: String::from("$s1") // $n1 // vec![$n1, $n2]⟧; // ⟧
    let $v1 = $T1(⟦4: &$v2 // ⟦1: "$s1" // &$n1 // &[$n1, $n2]⟧⟧⟦2: // , ⟦3: true // $k1⟧⟧);
    println!("{:?}", $v1.0);
    ⟦2: // println!("{}", $v1.1);⟧
}
""",
)
_missing_struct(
    "Print what $f1 gives for $v3.",
    """
struct $T1«⇒<'a>» {
    $v1: &«⇒'a »⟦1: str // [i32]⟧,
}
impl $T1«⇒<'_>» {
    fn $f1(&self⟦2: // , $v2: usize⟧) -> ⟦3: usize // bool⟧ {
        self.$v1.len() ⟦3: + // >⟧ ⟦2: $k1 // $v2⟧
    }
}
fn main() {
    let $v3 = $T1 { $v1: ⟦1: "$s1" // &[$n1, $n2]⟧ };
    println!("{}", $v3.$f1(⟦2: // $k2⟧));
}
""",
)
_missing_struct(
    "Print what is in $v1, a $T1.",
    """
enum $T1«⇒<'a>» {
    Named(&«⇒'a »str),
    ⟦1: Empty // Count(u32)⟧,
}
fn main() {
    ⟦2: // let $v2 = String::from("$s1");⟧
    let $v1 = $T1::⟦3: Named(⟦2: "$s1" // &$v2⟧) // ⟦1: Empty // Count($n1)⟧⟧;
    match $v1 {
        $T1::Named(x) => println!("{}", x),
        $T1::⟦1: Empty => println!("$s2") // Count(n) => println!("{}", n)⟧,
    }
    ⟦2: ⟦3: // let $v3 = $T1::Named("$s4");
    println!("{}", matches!($v3, $T1::Named(_)));⟧ // println!("{}", $v2);⟧
}
""",
)

_undeclared = stencils("undeclared_lifetime", "lifetimes", "E0261")

_undeclared(
    "Print the ⟦1: longer // shorter⟧ of two texts, given by $f1.",
    """
fn $f1«⇒<'a>»($v1: &'a str, $v2: &'a str) -> &'a str {
    if $v1.len() ⟦1: > // <⟧ $v2.len() {
        ⟦ // println!("$s5");⟧
        return $v1;
    }
    $v2
}
fn main() {
    println!("{}", $f1("$s1", "$s2"));
    ⟦ // println!("{}", $f1("$s3", "$s4"));⟧
}
""",
)
_undeclared(
    "Build $v3 with a borrowed $v1 and print it.",
    """
struct $T1«⇒<'a>» {
    $v1: &'a ⟦1: str // [i32] // i32⟧,
    ⟦2: // $v2: ⟦u32 // i64⟧,⟧
}
fn main() {
    ⟦3: // let $v4 = ⟦1: String::from("$s1") // vec![$n1, $n2] // $n1⟧;⟧
    let $v3 = $T1 { $v1: ⟦3: ⟦1: "$s1" // &[$n1, $n2] // &$n1⟧ // &$v4⟧⟦2: // , $v2: $n3⟧ };
    println!("{:?}", $v3.$v1);
    ⟦2: // println!("{}", $v3.$v2);⟧
}
""",
)
_undeclared(
    "Print what $f1 gives for $v3.",
    """
struct $T1<'a> {
    $v1: &'a ⟦1: str // [i32]⟧,
}
impl«⇒<'a>» $T1<'a> {
    fn $f1(&self⟦2: // , $v2: usize⟧) -> ⟦3: usize // bool // &'a ⟦1: str // [i32]⟧⟧ {
        ⟦3: self.$v1.len() + ⟦2: $k1 // $v2⟧ // self.$v1.len() > ⟦2: $k1 // $v2⟧ // ⟦2: self.$v1 // \
        &self.$v1[$v2..]⟧⟧
    }
}
fn main() {
    let $v3 = $T1 { $v1: ⟦1: "$s1" // &[$n1, $n2, $n3]⟧ };
    println!("{:?}", $v3.$f1(⟦2: // 1⟧));
}
""",
)
_undeclared(
    "Print the first ⟦1: word // number⟧ of $p2 with $f1.",
    """
fn $f1«⇒<'a>»($p1: &⟦1: [&'a str] // 'a [i32]⟧) -> ⟦2: &'a ⟦1: str // i32⟧ // Option<&'a ⟦1: str // i32⟧>⟧ {
    ⟦2: ⟦1: $p1[0] // &$p1[0]⟧ // ⟦1: $p1.first().copied() // $p1.first()⟧⟧
}
fn main() {
    let $p2 = vec![⟦1: "$s1", "$s2" // $n1, $n2⟧⟦ // , ⟦1: "$s3" // $n3⟧⟧];
    ⟦println!("{:?}", $f1(&$p2)); // let $v3 = $f1(&$p2);
    println!("{:?}", $v3);⟧
}
""",
)
_undeclared(
    "Print the $v1 of $v3, taken by $f1.",
    """
struct $T1 {
    $v1: ⟦1: String // u32 // Vec<i32>⟧,
    ⟦2: // $v5: bool,⟧
}
fn $f1«⇒<'a>»($v2: &'a $T1⟦3: // , $v4: &str⟧) -> &'a ⟦1: String // u32 // Vec<i32>⟧ {
    ⟦3: // println!("{}", $v4);⟧
    &$v2.$v1
}
fn main() {
    let $v3 = $T1 { $v1: ⟦1: String::from("$s1") // $n1 // vec![$n1, $n2]⟧⟦2: // , $v5: true⟧ };
    println!("{:?}", $f1(&$v3⟦3: // , "$s2"⟧));
    ⟦2: // println!("{}", $v3.$v5);⟧
}
""",
)

_local_ref = stencils("return_reference_to_local", "lifetimes", "E0515")

_local_ref(
    "Print the text that $f1 makes from $v1.",
    """
fn $f1($v1: &str) -> «&str⇒String» {
    let $v2 = ⟦format!("{} $s1", $v1) // $v1.to_uppercase() // $v1.repeat($k1) // \
        String::from($v1) + "$s1" // format!("<{}>", $v1)⟧;
    ⟦ // println!("{}", $v2.len());⟧
    «&⇒»$v2
}
fn main() {
    println!("{}", $f1("$s2"));
    ⟦ // println!("{}", $f1("$s3"));⟧
}
""",
)
_local_ref(
    "Print the numbers of $p2, changed by $f1.",
    """
fn $f1($p1: &[i32]) -> «&[i32]⇒Vec<i32>» {
    ⟦let $p3: Vec<i32> = $p1.iter().map(|x| x ⟦+ // *⟧ $k1).collect(); // let mut $p3 = $p1.to_vec();
    $p3.⟦push($n4) // reverse() // sort()⟧; // let mut $p3 = Vec::new();
    for $v1 in $p1 {
        $p3.push($v1 ⟦+ // *⟧ $k1);
    }⟧
    «&⇒»$p3
}
fn main() {
    let $p2 = vec![$n1, $n2, $n3];
    println!("{:?}", $f1(&$p2));
}
""",
)
_local_ref(
    "Print the ⟦1: sum // product⟧ that $f1 computes.",
    """
fn $f1($v1: &⟦2: i32 // u64 // f64⟧, $v2: &⟦2: i32 // u64 // f64⟧) -> «&'static ⇒»⟦2: i32 // u64 // f64⟧ {
    let $v3 = *$v1 ⟦1: + // *⟧ *$v2;
    ⟦ // println!("{}", $v1);⟧
    «&⇒»$v3
}
fn main() {
    ⟦println!("{}", $f1(&⟦2: $n1 // $n1 // $n1.5⟧, &⟦2: $n2 // $n2 // $n2.5⟧)); // let $v4 = ⟦2: $n1 // \
        $n1 // $n1.5⟧;
    println!("{}", $f1(&$v4, &$v4));⟧
}
""",
)
_local_ref(
    "Print what $f1 tells about $v3.",
    """
struct $T1 {
    $v1: ⟦1: u32 // String⟧,
    ⟦2: // $v4: i32,⟧
}
impl $T1 {
    fn $f1(&self) -> «&str⇒String» {
        let $v2 = format!("$s1 {}⟦2: // -{}⟧", self.$v1⟦2: // , self.$v4⟧);
        «⟦3: &$v2 // $v2.as_str()⟧⇒$v2»
    }
}
fn main() {
    let $v3 = $T1 { $v1: ⟦1: $n1 // String::from("$s2")⟧⟦2: // , $v4: $n2⟧ };
    println!("{}", $v3.$f1());
}
""",
)
_local_ref(
    "Print the words of $p2 joined by $f1.",
    """
fn $f1($p1: &[&str]) -> «&'static str⇒String» {
    ⟦let $v1 = $p1.⟦join("-") // concat() // join(" ")⟧; // let mut $v1 = String::new();
    for $v2 in $p1 {
        $v1.push_str($v2);
        ⟦ // $v1.push('.');⟧
    }⟧
    «$v1.as_str()⇒$v1»
}
fn main() {
    ⟦let $p2 = ["$s1", "$s2"]; // let $p2 = vec!["$s1", "$s2", "$s3"];⟧
    println!("{}", $f1(&$p2));
}
""",
)
_local_ref(
    "Print the ⟦1: list // text // number⟧ of $v2, made by $f1.",
    """
fn $f1($v1: ⟦2: u32 // i32⟧) -> «&'static ⟦1: Vec<⟦2: u32 // i32⟧> // String // ⟦2: u32 // \
        i32⟧⟧⇒⟦1: Vec<⟦2: u32 // i32⟧> // String // ⟦2: u32 // i32⟧⟧» {
    let $v3 = ⟦1: vec![$v1, $v1 + $k1] // format!("$s1{}", $v1) // $v1 * $k1⟧;
    ⟦ // println!("{:?}", $v3);⟧
    «&⇒»$v3
}
fn main() {
    let $v2 = $n1;
    ⟦println!("{:?}", $f1($v2)); // let $v4 = $f1($v2);
    println!("{:?}", $v4);⟧
}
""",
)

_dangling = stencils("dangling_local", "lifetimes", "E0597")

_dangling(
    "Let $v1 refer to $v2 and print $v1 after the block.",
    """
fn main() {
    let $v1;
    «⇒let $v2 = ⟦1: $n1 // String::from("$s1") // vec![$n1, $n2]⟧;
    »{
        «let $v2 = ⟦1: $n1 // String::from("$s1") // vec![$n1, $n2]⟧;
        ⇒»⟦ // println!("$s2");⟧
        $v1 = &$v2⟦1: // // [0]⟧;
        ⟦ // println!("{:?}", $v2);⟧
    }
    println!("{:?}", $v1);
}
""",
)
_dangling(
    "Put a reference to $v1 into $p1 and print $p1 after the block.",
    """
fn main() {
    let mut $p1 = ⟦Vec::new() // vec![&$n9]⟧;
    «⇒let $v1 = $n1;
    »{
        «let $v1 = $n1;
        ⇒»$p1.push(&$v1);
        ⟦ // println!("{}", $v1); // $p1.push(&$n2);⟧
    }
    ⟦println!("{:?}", $p1); // println!("{} {:?}", $p1.len(), $p1); // println!("{}", $p1[0]);⟧
}
""",
)
_dangling(
    "Print after the block which text $f1 picks.",
    """
fn $f1<'a>($v1: &'a str, $v2: &'a str) -> &'a str {
    if $v1.len() ⟦> // <⟧ $v2.len() { $v1 } else { $v2 }
}
fn main() {
    let $v3 = ⟦String::from("$s1") // "$s1".to_string()⟧;
    let $v4;
    «⇒let $v5 = ⟦1: String::from("$s2") // format!("$s2{}", $n1)⟧;
    »{
        «let $v5 = ⟦1: String::from("$s2") // format!("$s2{}", $n1)⟧;
        ⇒»$v4 = $f1(⟦&$v3, &$v5 // &$v5, &$v3⟧);
    }
    println!("{}", $v4);
}
""",
)
_dangling(
    "Let $v4 hold a reference to $v2 and print its $v1 after the block.",
    """
struct $T1<'a> {
    $v1: &'a ⟦1: str // i32 // Vec<u32>⟧,
}
fn main() {
    let $v4;
    «⇒let $v2 = ⟦1: String::from("$s1") // $n1 // vec![$n1]⟧;
    »{
        «let $v2 = ⟦1: String::from("$s1") // $n1 // vec![$n1]⟧;
        ⇒»$v4 = $T1 { $v1: &$v2 };
        ⟦ // println!("$s2"); // println!("{:?}", $v4.$v1);⟧
    }
    println!("{:?}", $v4.$v1);
}
""",
)
_dangling(
    "Keep the ⟦1: largest // smallest // first⟧ of $p1 in $v1 and print it after the block.",
    """
fn main() {
    let $v1;
    «⇒let $p1 = vec![⟦2: $n1, $n2, $n3 // "$s1", "$s2"⟧];
    »{
        «let $p1 = vec![⟦2: $n1, $n2, $n3 // "$s1", "$s2"⟧];
        ⇒»$v1 = $p1.⟦1: iter().max() // iter().min() // first()⟧⟦3: .unwrap() // ⟧;
        ⟦ // println!("{}", $p1.len());⟧
    }
    println!("⟦3: {} // {:?}⟧", $v1);
}
""",
)
_dangling(
    "Let $v1 refer to $v2 if it is ⟦1: larger // smaller⟧ than $v3; print $v1.",
    """
fn main() {
    let $v3 = $n1;
    let mut $v1 = &$v3;
    «⇒let $v2 = $n2 ⟦2: // + $k1⟧;
    »⟦3: { // for _ in 0..$k2 {⟧
        «let $v2 = $n2 ⟦2: // + $k1⟧;
        ⇒»if $v2 ⟦1: > // <⟧ $v3 {
            $v1 = &$v2;
        }
    }
    println!("{}", $v1);
}
""",
)

_mismatch = stencils("lifetime_mismatch", "lifetimes", "E0621")

_mismatch(
    "Print the ⟦1: longer // shorter⟧ of two texts, given by $f1.",
    """
fn $f1<'a>(⟦2: $v1: &'a str, $v2: &«⇒'a »str // $v1: &«⇒'a »str, $v2: &'a str⟧) -> &'a str {
    if $v1.len() ⟦1: > // <⟧ $v2.len() {
        return $v1;
    }
    $v2
}
fn main() {
    println!("{}", $f1("$s1", "$s2"));
    ⟦ // println!("{}", $f1("$s3", "$s4"));⟧
}
""",
)
_mismatch(
    "Print the ⟦1: larger // smaller⟧ number, picked by $f1.",
    """
fn $f1<'a>(⟦3: $v1: &'a ⟦2: i32 // u64⟧, $v2: &«⇒'a »⟦2: i32 // u64⟧ // $v1: &«⇒'a »⟦2: i32 // \
        u64⟧, $v2: &'a ⟦2: i32 // u64⟧⟧) -> &'a ⟦2: i32 // u64⟧ {
    if $v1 ⟦1: > // <⟧ $v2 { $v1 } else { $v2 }
}
fn main() {
    ⟦println!("{}", $f1(&$n1, &$n2)); // let $v3 = $n1;
    println!("{}", $f1(&$v3, &$n2));⟧
}
""",
)
_mismatch(
    "Let $f1 give $v1 or $v2 depending on $v3, and print it.",
    """
fn $f1<'a>($v1: &'a ⟦1: str // i32⟧, $v2: &«⇒'a »⟦1: str // i32⟧, $v3: ⟦2: bool // \
        u32⟧) -> &'a ⟦1: str // i32⟧ {
    if ⟦2: $v3 // $v3 > $k1⟧ {
        return ⟦3: $v1 // $v2⟧;
    }
    ⟦3: $v2 // $v1⟧
}
fn main() {
    println!("{:?}", $f1(⟦1: "$s1", "$s2" // &$n1, &$n2⟧, ⟦2: true // $k2⟧));
}
""",
)
_mismatch(
    "Let $f1 add a ⟦1: text // number⟧ to $p2 and print $p2.",
    """
fn $f1<'a>($p1: &mut Vec<&'a ⟦1: str // i32⟧>, $v1: &«⇒'a »⟦1: str // i32⟧) {
    $p1.⟦push($v1) // insert(0, $v1)⟧;
    ⟦ // println!("{}", $v1);⟧
}
fn main() {
    let mut $p2 = vec![⟦1: "$s1" // &$n1⟧];
    $f1(&mut $p2, ⟦1: "$s2" // &$n2⟧);
    ⟦ // $f1(&mut $p2, ⟦1: "$s3" // &$n3⟧);⟧
    println!("{:?}", $p2);
}
""",
)
_mismatch(
    "Print the $v1 of the $T1 that $f1 makes.",
    """
struct $T1<'a> {
    $v1: &'a ⟦1: str // [u32] // i32⟧,
    ⟦2: // $v2: u32,⟧
}
fn $f1<'a>($v3: &«⇒'a »⟦1: str // [u32] // i32⟧) -> $T1<'a> {
    $T1 { $v1: $v3⟦2: // , $v2: $k1⟧ }
}
fn main() {
    let $v4 = $f1(⟦1: "$s1" // &[$n1, $n2] // &$n1⟧);
    println!("{:?}", $v4.$v1);
    ⟦2: // println!("{}", $v4.$v2);⟧
}
""",
)
_mismatch(
    "Let $f1 give $v2 another $v1 and print it.",
    """
struct $T1<'a> {
    $v1: &'a ⟦1: str // i32⟧,
}
fn $f1<'a>($v2: &mut $T1<'a>, $v3: &«⇒'a »⟦1: str // i32⟧) {
    ⟦ // println!("{}", $v2.$v1);⟧
    $v2.$v1 = $v3;
}
fn main() {
    let mut $v4 = $T1 { $v1: ⟦1: "$s1" // &$n1⟧ };
    $f1(&mut $v4, ⟦1: "$s2" // &$n2⟧);
    println!("{}", $v4.$v1);
}
""",
)
