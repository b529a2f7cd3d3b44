"""Result handling: values that are still wrapped, and values that have to be."""

# A stencil's line is a line of Rust with all its alternatives; it cannot be broken.
# ruff: noqa: E501

from __future__ import annotations

from sleepy_coder.tasks.koans.values import with_values

add = with_values("option_used_as_value", "result_handling", "E0308")
add(
    "Print the ⟦1: first // last // largest // smallest⟧ value of $p1, or 0 if it is empty.",
    """
fn main() {
    let $p1⟦: Vec<@int> // : Vec<@int>⟧ = vec![$n1, $n2⟦// , $n3⟧];
    let $v1: @int = $p1.iter().copied()⟦1: .next() // .last() // .max() // .min()⟧«⇒.unwrap_or(0)»;
    println!("{}", ⟦$v1 // $v1 + $k1 // $v1 * $k1⟧);
    ⟦println!("$s1 {}", $p1.len()); //⟧
}
""",
)
add(
    "Let $f1 give the ⟦1: first // last // smallest // largest⟧ value of $p1, or 0 if there is none.",
    """
fn $f1($p1: ⟦&[@int] // &Vec<@int>⟧) -> @int {
    let $v1: @int = $p1.⟦1: first().copied() // last().copied() // iter().copied().min() // iter().copied().max()⟧«⇒.unwrap_or(0)»;
    ⟦$v1 // $v1 + $k1 // $v1 * $k1⟧
}
fn main() {
    println!("⟦// $s1=⟧{}", $f1(&vec![$n1, $n2⟦// , $n3⟧]));
    ⟦println!("{}", $f1(&vec![])); //⟧
}
""",
)
add(
    "Print how many $v1 there are in $p1, or 0 if unknown.",
    """
use std::collections::⟦1: HashMap // BTreeMap⟧;
fn main() {
    let mut $p1 = ⟦1: HashMap // BTreeMap⟧::new();
    $p1.insert("$v1", $n1);
    ⟦$p1.insert("$s2", $n2); //⟧
    let $v2: @int = $p1.⟦2: get("$v1").copied() // remove("$v1") // get("$v1").cloned()⟧«⇒.unwrap_or(0)»;
    println!("⟦// $s3=⟧{}", ⟦$v2 // $v2 + $k1⟧);
}
""",
)
add(
    "Print the place of a ⟦1: letter // value⟧ found by $f1, or 0 if missing.",
    """
fn $f1($v1: ⟦1: &str // &[i32]⟧) -> usize {
    ⟦2: let $v2: usize = // return // let $v2: usize =⟧ $v1.⟦1: find('⟦a // e // l⟧') // iter().position(|$v3| *$v3 ⟦> // ==⟧ $n1)⟧«⇒.unwrap_or(0)»;
    ⟦2: $v2 // // $v2 + $k2⟧
}
fn main() {
    println!("⟦// $s3=⟧{}", $f1(⟦1: "$s1" // &[$n1, $n2]⟧));
    ⟦println!("{}", $f1(⟦1: "$s2" // &[$n3]⟧)); //⟧
}
""",
)
add(
    "Add up what $f1 gives, taking 0 for nothing.",
    """
fn $f1($v1: @int) -> Option<@int> {
    ⟦if $v1 > $n1 {
        return None;
    }
    Some($v1 ⟦+ // *⟧ $k1) // $v1.checked_⟦mul // sub // div⟧($k1) // Some($v1).filter(|$v4| *$v4 ⟦> // <⟧ $n1)⟧
}
fn main() {
    let mut $v2: @int = $f1($n2)«⇒.unwrap_or(0)»;
    $v2 += $k2;
    println!("⟦// $s3=⟧{}", $v2);
}
""",
)
add(
    "Print the $v1 of $v3, or 0 if it has none.",
    """
struct $T1 {
    $v1: Option<@int>,
    ⟦2: // $v2: bool,⟧
}
fn $f1($v4: &$T1) -> @int {
    $v4.$v1«⇒.unwrap_or(0)»
}
fn main() {
    let $v3 = $T1 { $v1: ⟦Some($n1) // Some($n2) // None⟧⟦2: // , $v2: true⟧ };
    println!("⟦// $s3=⟧{}", ⟦$f1(&$v3) // $f1(&$v3) + $k1⟧);
    ⟦2: // println!("{}", $v3.$v2);⟧
}
""",
)

add = with_values("missing_ok", "result_handling", "E0308")
add(
    "Let $f1 give half of an even number, or an error.",
    """
fn $f1($v1: @int) -> Result<@int, String> {
    if $v1 % 2 ⟦1: != 0 // == 1⟧ {
        return Err(⟦String::from("$s1") // "$s1".to_string() // format!("$s1 {}", $v1)⟧);
    }
    «⟦2: $v1 / 2 // $v1 / 2 + $k1 // $v1⟧⇒Ok(⟦2: $v1 / 2 // $v1 / 2 + $k1 // $v1⟧)»
}
fn main() {
    ⟦println!("{:?}", $f1($n2)); // println!("{:?} {:?}", $f1($n1), $f1($n2)); // match $f1($n2) {
        Ok($v2) => println!("{}", $v2),
        Err($v3) => println!("{}", $v3),
    }⟧
}
""",
)
add(
    "Let $f1 read a number and ⟦1: add $k1 // multiply it by $k1⟧.",
    """
fn $f1($v1: &str) -> Result<@num, std::num::Parse⟦7: Int // Int // Int // Float⟧Error> {
    let $v2: @num = $v1⟦// .trim()⟧.parse()?;
    «$v2 ⟦1: + // *⟧ $k1⟦7: // // // .0⟧⇒Ok($v2 ⟦1: + // *⟧ $k1⟦7: // // // .0⟧)»
}
fn main() {
    println!("⟦// $s3=⟧{:?}", $f1("⟦$n1 // $s1⟧"));
    ⟦println!("{}", $f1("$n2").is_ok()); //⟧
}
""",
)
add(
    "Let $f1 give a ⟦1: text // number⟧ for a known $v1, or an error.",
    """
fn $f1($v1: ⟦2: u32 // &str⟧) -> Result<⟦1: &'static str // u32⟧, String> {
    match $v1 {
        ⟦2: $k1 // "$s1"⟧ => «⟦1: "$s2" // $n2⟧⇒Ok(⟦1: "$s2" // $n2⟧)»,
        ⟦⟦2: $n9 // "$s9"⟧ => Ok(⟦1: "$s8" // $n8⟧), //⟧
        _ => Err(⟦String::from("$s3") // "$s3".to_string() // format!("$s3 {}", $v1)⟧),
    }
}
fn main() {
    println!("{:?}", $f1(⟦2: $k1 // "$s1"⟧));
    ⟦println!("{:?}", $f1(⟦2: 99 // "$s7"⟧)); //⟧
}
""",
)
add(
    "Let $f1 check that a text is not ⟦1: empty // too long⟧ and give ⟦2: it // its length⟧.",
    """
fn $f1($v1: &str) -> Result<⟦2: String // usize⟧, ⟦4: String // u32 // &'static str⟧> {
    if $v1.⟦1: is_empty() // len() > $k1⟧ {
        Err(⟦4: String::from("$s1") // $n1 // "$s1"⟧)
    } else {
        «⟦2: $v1.to_string() // $v1.len()⟧⇒Ok(⟦2: $v1.to_string() // $v1.len()⟧)»
    }
}
fn main() {
    ⟦println!("{:?}", $f1("$s2")); // if let Ok($v2) = $f1("$s2") {
        println!("$s4 {}", $v2);
    }
    println!("{:?}", $f1("$s3")); // println!("{:?} {:?}", $f1("$s2"), $f1(""));⟧
}
""",
)
add(
    "Let $f1 sum the numbers of $p1, or give an error.",
    """
fn $f1($p1: &[⟦1: &str // i32⟧]) -> Result<i32, ⟦1: std::num::ParseIntError // String⟧> {
    let mut $v1 = 0;
    for $v2 in $p1 {
        ⟦1: $v1 += $v2.parse::<i32>()?; // $v1 = i32::checked_add($v1, *$v2).ok_or("$s1")?;⟧
    }
    «⟦3: $v1 // $v1 + $k1⟧⇒Ok(⟦3: $v1 // $v1 + $k1⟧)»
}
fn main() {
    println!("⟦// $s3=⟧{:?}", $f1(&[⟦1: "$n1", "$n2" // $n1, $n2⟧]));
    ⟦println!("{:?}", $f1(&[])); //⟧
}
""",
)
add(
    "Let $f1 make a $T1 unless $v1 is ⟦1: 0 // above $n1⟧.",
    """
⟦#[derive(Debug)]
struct $T1 {
    $v1: @int,
} // #[derive(Debug, Clone)]
struct $T1 {
    $v1: @int,
}⟧
fn $f1($v1: @int) -> Result<$T1, String> {
    if $v1 ⟦1: == 0 // > $n1⟧ {
        return Err(⟦String::from("$s1") // "$s1".into()⟧);
    }
    «$T1 { $v1 }⇒Ok($T1 { $v1 })»
}
fn main() {
    println!("{:?}", $f1($n2)⟦// .map(|$v2| $v2.$v1)⟧);
}
""",
)

add = with_values("missing_some", "result_handling", "E0308")
add(
    "Let $f1 give the ⟦1: half // double⟧ of $v1 if $v1 is ⟦2: even // above $n1⟧.",
    """
fn $f1($v1: @int) -> Option<@int> {
    ⟦3: if $v1 ⟦2: % 2 == 0 // > $n1⟧ {
        «$v1 ⟦1: / // *⟧ 2⇒Some($v1 ⟦1: / // *⟧ 2)»
    } else {
        None
    } // if $v1 ⟦2: % 2 != 0 // <= $n1⟧ {
        return None;
    }
    «$v1 ⟦1: / // *⟧ 2⇒Some($v1 ⟦1: / // *⟧ 2)» // if $v1 ⟦2: % 2 == 0 // > $n1⟧ {
        return «$v1 ⟦1: / // *⟧ 2⇒Some($v1 ⟦1: / // *⟧ 2)»;
    }
    None⟧
}
fn main() {
    println!("⟦// $s3=⟧{:?}", $f1($n2));
}
""",
)
add(
    "Let $f1 find the first value ⟦1: above // below⟧ $n1 in $p1.",
    """
fn $f1($p1: &[@int]) -> Option<⟦2: @int // &@int // usize⟧> {
    for ⟦2: &$v1 // $v1 // ($v2, $v1)⟧ in $p1⟦2: // // .iter().enumerate()⟧ {
        if ⟦2: $v1 // *$v1 // *$v1⟧ ⟦1: > // <⟧ $n1 {
            return «⟦2: $v1 // $v1 // $v2⟧⇒Some(⟦2: $v1 // $v1 // $v2⟧)»;
        }
    }
    None
}
fn main() {
    println!("⟦// $s3=⟧{:?}", $f1(&[$n2, $n3⟦// , $n4⟧]));
    ⟦println!("{:?}", $f1(&[])); //⟧
}
""",
)
add(
    "Print the $v1 and $v2 of $v3.",
    """
struct $T1 {
    $v1: Option<@ty>,
    $v2: ⟦2: Option<u32> // u32 // bool⟧,
}
fn main() {
    let $v3 = $T1 { $v1: «@a⇒Some(@a)», $v2: ⟦2: None // $n4 // true⟧ };
    println!("⟦// $s4=⟧{:?} {:?}", ⟦$v3.$v1, $v3.$v2 // $v3.$v2, $v3.$v1⟧);
    ⟦println!("$s5"); //⟧
}
""",
)
add(
    "Let $f1 give a value for a known $v1.",
    """
fn $f1($v1: ⟦2: u32 // &str // char⟧) -> Option<@ty> {
    match $v1 {
        ⟦2: $k1 // "$s4" // 'x'⟧ => «@a⇒Some(@a)»,
        ⟦⟦2: $n9 // "$s9" // 'y'⟧ => Some(@b), //⟧
        _ => None,
    }
}
fn main() {
    println!("{:?}", $f1(⟦2: $k1 // "$s4" // 'x'⟧));
    ⟦println!("$s6 {:?}", $f1(⟦2: 99 // "$s8" // 'z'⟧)); //⟧
}
""",
)
add(
    "Let $f2 print a $v1 if there is one.",
    """
fn $f2($v1: Option<@ty>⟦2: // , $v9: u32⟧) {
    ⟦if let Some($v2) = $v1 {
        println!("⟦// $s5=⟧{}", $v2);
    } // match $v1 {
        Some($v2) => println!("⟦// $s5=⟧{}", $v2),
        None => println!("$s4"),
    } // println!("{:?}", $v1);⟧
    ⟦2: // println!("{}", $v9);⟧
}
fn main() {
    $f2(«@a⇒Some(@a)»⟦2: // , $k1⟧);
    ⟦$f2(None⟦2: // , $k2⟧); //⟧
}
""",
)
add(
    "Let $f1 keep the largest value of $p1 in $v1.",
    """
fn $f1($p1: &[@int]) -> Option<@int> {
    let mut $v1: Option<@int> = None;
    for &$v2 in $p1 {
        ⟦1: if Some($v2) > $v1 // if $v1.is_none() || Some($v2) ⟦> // <⟧ $v1 // if $v2 % 2 == 0⟧ {
            $v1 = «$v2⇒Some($v2)»;
        }
    }
    $v1
}
fn main() {
    println!("⟦// $s4=⟧{:?}", $f1(&[$n1, $n2⟦// , $n3⟧]));
}
""",
)

add = with_values("error_text_not_owned", "result_handling", "E0308")
add(
    "Let $f1 refuse a $v1 ⟦1: above // below⟧ $n1 with an error text.",
    """
fn $f1($v1: @int) -> Result<@int, String> {
    if $v1 ⟦1: > // <⟧ $n1 {
        return Err("$s1"«⇒.to_string()»);
    }
    Ok(⟦$v1 // $v1 + $k1 // $v1 * $k1⟧)
}
fn main() {
    ⟦println!("{:?}", $f1($n2)); // println!("{:?} {:?}", $f1($n2), $f1($n3)); // match $f1($n2) {
        Ok($v2) => println!("{}", $v2),
        Err($v3) => println!("$s2 {}", $v3),
    }⟧
}
""",
)
add(
    "Let $f1 look up a $v1, or give an error text.",
    """
fn $f1($v1: ⟦2: u32 // &str // char⟧) -> Result<⟦1: @ty // bool // ()⟧, String> {
    match $v1 {
        ⟦2: $k1 // "$s4" // 'x'⟧ => Ok(⟦1: @a // true // ()⟧),
        ⟦⟦2: $n9 // "$s9" // 'y'⟧ => Ok(⟦1: @b // false // ()⟧), //⟧
        _ => Err("$s5 $s6"«⇒.to_string()»),
    }
}
fn main() {
    println!("{:?}", $f1(⟦2: 99 // "$s7" // 'z'⟧));
    ⟦println!("{:?}", $f1(⟦2: $k1 // "$s4" // 'x'⟧)); //⟧
}
""",
)
add(
    "Let $f1 divide $v1 by $v2, or say why not.",
    """
fn $f1($v1: @int, $v2: @int) -> Result<@int, String> {
    ⟦1: if $v2 == 0 {
        Err("$s1"«⇒.to_string()»)
    } else {
        Ok($v1 / $v2)
    } // match $v1.checked_div($v2) {
        Some($v3) => Ok($v3),
        None => Err("$s1"«⇒.to_string()»),
    } // if $v2 != 0 {
        return Ok($v1 / $v2);
    }
    Err("$s1"«⇒.to_string()»)⟧
}
fn main() {
    println!("⟦// $s4=⟧{:?}", $f1($n1, ⟦$k1 // 0⟧));
    ⟦println!("{:?}", $f1($n2, 0)); //⟧
}
""",
)
add(
    'Let $f1 make a $T1, or give the text "$s1".',
    """
#[derive(Debug)]
struct ⟦3: $T1(@int); // $T1 {
    $v1: @int,
}⟧
fn $f1($v1: @int) -> Result<$T1, String> {
    if $v1 ⟦> // < // ==⟧ $n1 {
        return Err("$s1"«⇒.to_string()»);
    }
    Ok(⟦3: $T1($v1) // $T1 { $v1 }⟧)
}
fn main() {
    println!("{:?}", $f1($n2));
    ⟦println!("$s2 {:?}", $f1($n1)); //⟧
}
""",
)
add(
    "Print ⟦1: the error of $v1 // whether $v1 is an error⟧.",
    """
fn main() {
    let $v1: Result<@ty, String> = Err("$s4"«⇒.to_string()»);
    ⟦2: let $v2: Result<@ty, String> = Ok(@b);
    println!("{:?}", $v2); // // println!("$s7");⟧
    ⟦1: ⟦if let Err($v3) = $v1 {
        println!("⟦// $s6=⟧{}", $v3);
    } // println!("⟦// $s6=⟧{}", $v1.unwrap_err());⟧ // println!("⟦// $s6=⟧{}", $v1.is_err()⟦// && $n1 > $k1⟧);⟧
}
""",
)
add(
    "Let $f1 check the length of a text.",
    """
fn $f1($v1: &str) -> Result<⟦2: usize // String // char⟧, String> {
    ⟦3: let $v2 = $v1.len(); //⟧
    if ⟦3: $v2 // $v1.len()⟧ ⟦> // < // ==⟧ $k1 {
        return Err("$s1"«⇒.to_string()»);
    }
    ⟦2: Ok($v1.len()) // Ok($v1.to_string()) // Ok($v1.chars().next().unwrap_or('x'))⟧
}
fn main() {
    println!("{:?}", $f1("$s2"));
    ⟦println!("{:?}", $f1("$s3")); // println!("{}", $f1("").is_err()); //⟧
}
""",
)

add = with_values("option_result_mixup", "result_handling", "E0599")
add(
    "Print whether $v1 was read as a number.",
    """
fn main() {
    let $v1 = "⟦$n1 // $s1⟧".parse::<@num>();
    ⟦2: println!("⟦// $s2=⟧{}", $v1.«is_some⇒is_ok»()); // println!("⟦// $s2=⟧{}", $v1.«is_none⇒is_err»()); // if $v1.«is_some⇒is_ok»() {
        println!("$s2");
    } else {
        println!("$s3");
    } // let $v2 = $v1.«is_none⇒is_err»();
    println!("$s3 {}", $v2);⟧
    ⟦println!("$s4"); //⟧
}
""",
)
add(
    "Print whether $v1 holds a value.",
    """
fn $f1($v1: ⟦1: Option<@ty> // &Option<@ty>⟧) -> bool {
    ⟦2: $v1.«is_ok⇒is_some»() // $v1.«is_err⇒is_none»() // !$v1.«is_err⇒is_none»() // !$v1.«is_ok⇒is_some»()⟧
}
fn main() {
    println!("⟦// $s5=⟧{}", $f1(⟦1: // &⟧Some(@a)));
    ⟦println!("{}", $f1(⟦1: // &⟧None)); //⟧
}
""",
)
add(
    'Let $f1 give a value of $p1 or the error "$s1".',
    """
fn $f1($p1: &[@int]⟦1: // // , $v1: usize⟧) -> Result<@int, String> {
    $p1.⟦1: first() // last() // get($v1)⟧.copied().«⟦map_err(|_| // map_err(|_|⟧ "$s1".to_string())⇒ok_or("$s1".to_string())»
}
fn main() {
    println!("⟦// $s5=⟧{:?}", $f1(&[$n1, $n2]⟦1: // // , $k1⟧));
    ⟦println!("{:?}", $f1(&[]⟦1: // // , 0⟧)); //⟧
}
""",
)
add(
    'Let $f1 read a number, or give the error text "$s1".',
    """
fn $f1($v1: &str) -> Result<@num, String> {
    ⟦2: $v1⟦// .trim()⟧.parse::<@num>().«ok_or("$s1".to_string())⇒map_err(|_| "$s1".to_string())» // let $v2 = $v1.parse::<@num>().«ok_or("$s1".to_string())⇒map_err(|_| "$s1".to_string())»?;
    Ok($v2) // let $v2: Result<@num, _> = $v1.parse();
    $v2.«ok_or("$s1".to_string())⇒map_err(|_| "$s1".to_string())»⟧
}
fn main() {
    println!("⟦// $s5=⟧{:?}", $f1("⟦$n1 // $s2⟧"));
    ⟦println!("{:?}", $f1("$s3")); //⟧
}
""",
)
add(
    "Let $f1 give the number in $v1 as an Option.",
    """
fn $f1($v1: &str) -> Option<@num> {
    ⟦2: $v1⟦// .trim()⟧.parse::<@num>().«to_option⇒ok»() // let $v2 = $v1.parse::<@num>().«to_option⇒ok»()?;
    Some($v2 ⟦+ // *⟧ $v2) // $v1.split(' ').next()?.parse::<@num>().«to_option⇒ok»()⟧
}
fn main() {
    println!("⟦// $s5=⟧{:?}", $f1("⟦$n1 // $s2⟧"));
    ⟦println!("{:?}", $f1("$n2")); //⟧
}
""",
)
add(
    "Print the $v1 of each value of $p1 that ⟦1: was read // was not read⟧.",
    """
fn main() {
    let $p1 = ⟦[ // vec![⟧"$n1", "$s1"⟦// , "$n2"⟧];
    for $v1 in ⟦&$p1 // $p1.iter()⟧ {
        if $v1.parse::<@num>().«⟦1: is_some // is_none⟧⇒⟦1: is_ok // is_err⟧»() {
            println!("⟦// $s5=⟧{}", $v1);
        }
    }
    ⟦println!("{}", $p1.len()); //⟧
}
""",
)
add(
    "Count the values of $p1 that are ⟦1: there // missing⟧.",
    """
fn main() {
    let $p1 = vec![Some(@a), None⟦// , Some(@b) // , None⟧];
    ⟦let $v1 = $p1.iter().filter(|$v2| $v2.«⟦1: is_ok // is_err⟧⇒⟦1: is_some // is_none⟧»()).count(); // let mut $v1 = 0;
    for $v2 in &$p1 {
        if $v2.«⟦1: is_ok // is_err⟧⇒⟦1: is_some // is_none⟧»() {
            $v1 += ⟦1 // $k1⟧;
        }
    }⟧
    println!("⟦// $s5=⟧{}", $v1);
}
""",
)
