"""Result handling, second part: where `?` is missing, where it cannot be, and what it converts."""

# A stencil's line is a line of Rust with all its alternatives; it cannot be broken.
# ruff: noqa: E501

from __future__ import annotations

from sleepy_coder.tasks.koans.values import with_values

add = with_values("question_mark_in_unit_main", "result_handling", "E0277")
add(
    "Read $v1 from a text in main and print it.",
    """
fn main()«⇒ -> Result<(), std::num::Parse⟦7: Int // Int // Int // Float⟧Error>» {
    let $v1⟦2: : @num //⟧ = "$n1".parse⟦2: // ::<@num>⟧()?;
    ⟦let $v2⟦2: : @num //⟧ = "$n2".parse⟦2: // ::<@num>⟧()?;
    println!("{}", $v1 ⟦+ // *⟧ $v2); // println!("⟦// $s1=⟧{}", $v1); // println!("⟦// $s1=⟧{}", $v1 + $v1);⟧
    «⇒Ok(())»
}
""",
)
add(
    "Print what $f1 gives for a number.",
    """
fn $f1($v1: @int) -> Result<@int, ⟦1: String // &'static str // u8⟧> {
    if $v1 ⟦> 90 // == 0⟧ {
        return Err(⟦1: String::from("$s1") // "$s1" // $k1⟧);
    }
    Ok(⟦$v1 // $v1 + $k2 // $v1 * $k2⟧)
}
fn main()«⇒ -> Result<(), ⟦1: String // &'static str // u8⟧>» {
    ⟦let $v2 = $f1($n1)?;
    println!("{}", $v2); // println!("⟦// $s2=⟧{}", $f1($n1)?);⟧
    «⇒Ok(())»
}
""",
)
add(
    "Write a line to the output in main.",
    """
use std::io::Write;
fn main()«⇒ -> std::io::Result<()>» {
    ⟦1: let mut $v1 = std::io::stdout(); // let mut $v1 = std::io::stdout().lock();⟧
    ⟦2: writeln!($v1, ⟦"$s1" // "$s1 {}", $n1⟧)?; // $v1.write_all(b"$s1\\n")?; // for $v2 in 0..$k1 {
        writeln!($v1, "{}", $v2)?;
    }⟧
    ⟦$v1.flush()?; //⟧
    «⇒Ok(())»
}
""",
)
add(
    "Sum the numbers in $p1 and print the sum.",
    """
fn main()«⇒ -> Result<(), std::num::Parse⟦7: Int // Int // Int // Float⟧Error>» {
    let $p1 = ⟦["$n1", "$n2"] // vec!["$n1", "$n2", "$n3"] // "$n1 $n2".split(' ')⟧;
    let mut $v1⟦: @num // : @num⟧ = ⟦7: 0 // 0 // 0 // 0.0⟧;
    for $v2 in $p1 {
        $v1 += $v2.parse::<@num>()?;
        ⟦println!("{}", $v2); //⟧
    }
    println!("⟦// $s1=⟧{}", $v1);
    «⇒Ok(())»
}
""",
)
add(
    "Let $f1 read a number; main prints it.",
    """
use std::num::Parse⟦7: Int // Int // Int // Float⟧Error;
fn $f1($v1: &str) -> Result<@num, Parse⟦7: Int // Int // Int // Float⟧Error> {
    ⟦$v1⟦// .trim()⟧.parse() // let $v2: @num = $v1.parse()?;
    Ok($v2 ⟦+ // *⟧ $v2)⟧
}
fn main()«⇒ -> Result<(), Parse⟦7: Int // Int // Int // Float⟧Error>» {
    ⟦println!("⟦// $s1=⟧{}", $f1("$n1")?); // let $v3 = $f1("$n1")?;
    println!("⟦// $s1=⟧{}", $v3); // println!("{} {}", $f1("$n1")?, $f1("$n2")?);⟧
    «⇒Ok(())»
}
""",
)

add = with_values("question_mark_other_error", "result_handling", "E0277")
add(
    "Let $f1 read a number; its error is a text.",
    """
fn $f1($v1: &str) -> Result<@num, String> {
    let $v2⟦: @num //⟧ = $v1⟦// .trim()⟧.parse::<@num>()«⇒.map_err(|e| e.to_string())»?;
    Ok(⟦$v2 // $v2 + $v2 // $v2 * $v2⟧)
}
fn main() {
    println!("⟦// $s1=⟧{:?}", $f1("$n1"));
    ⟦println!("{:?}", $f1("$s2")); //⟧
}
""",
)
add(
    "Let $f1 sum the numbers of $p1; its error is a text.",
    """
fn $f1($p1: ⟦2: &[&str] // &str⟧) -> Result<@num, String> {
    let mut $v1 = ⟦7: 0 // 0 // 0 // 0.0⟧;
    for $v2 in $p1⟦2: // .split(⟦' ' // ','⟧)⟧ {
        $v1 += $v2.parse::<@num>()«⇒.map_err(|e| e.to_string())»?;
    }
    Ok($v1)
}
fn main() {
    println!("⟦// $s1=⟧{:?}", $f1(⟦2: &["$n1", "$n2"] // "$n1"⟧));
    ⟦println!("{:?}", $f1(⟦2: &["$s2"] // "$n1 $n2"⟧)); //⟧
}
""",
)
add(
    "Let $f1 read the $v1 of a $T1; its error is a text.",
    """
⟦#[derive(Debug)] // #[derive(Debug, Clone)] // #[derive(Debug, PartialEq)]⟧
struct $T1 {
    $v1: @num,
    ⟦2: // $v3: bool,⟧
}
fn $f1($v2: &str) -> Result<$T1, String> {
    let $v1 = $v2.parse::<@num>()«⇒.map_err(|e| e.to_string())»?;
    Ok($T1 { $v1⟦2: // , $v3: true⟧ })
}
fn main() {
    println!("{:?}", $f1("⟦$n1 // $s1⟧"));
}
""",
)
add(
    "Let $f1 read text from bytes; its error is a text.",
    """
fn $f1($v1: Vec<u8>) -> Result<⟦1: String // usize⟧, String> {
    let $v2 = String::from_utf8($v1)«⇒.map_err(|e| e.to_string())»?;
    ⟦if $v2.is_empty() {
        return Err("$s1".to_string());
    } // println!("$s3 {}", $v2); //⟧
    Ok(⟦1: $v2 // $v2.len()⟧)
}
fn main() {
    ⟦println!("{:?}", $f1(b"$s2".to_vec())); // println!("⟦// $s5=⟧{:?}", $f1(vec![97, 98⟦// , 99⟧]));⟧
}
""",
)
add(
    "Let $f1 fit $v1 into a ⟦1: u8 // i8 // u16⟧; its error is a text.",
    """
fn $f1($v1: ⟦2: i32 // i64 // u32⟧) -> Result<⟦1: u8 // i8 // u16⟧, String> {
    let $v2 = ⟦3: ⟦1: u8 // i8 // u16⟧::try_from($v1) // ⟦1: u8 // i8 // u16⟧::try_from($v1)⟧«⇒.map_err(|e| e.to_string())»?;
    Ok(⟦$v2 // $v2 / $k1 // $v2 % $k1⟧)
}
fn main() {
    println!("⟦// $s1=⟧{:?}", $f1($n1));
    ⟦println!("{:?}", $f1(70000)); // println!("{:?}", $f1($n2)); //⟧
}
""",
)
add(
    "Let $f1 compute with two texts; its error is a text.",
    """
fn $f1($v1: &str, $v2: &str) -> Result<@num, String> {
    ⟦1: let $v3 = $v1.parse::<@num>().map_err(|e| e.to_string())?;
    let $v4 = $v2.parse::<@num>()«⇒.map_err(|e| e.to_string())»?; // let $v3 = $v1.parse::<@num>()«⇒.map_err(|e| e.to_string())»?;
    let $v4 = $v2.parse::<@num>().map_err(|e| e.to_string())?;⟧
    Ok($v3 ⟦+ // *⟧ $v4)
}
fn main() {
    ⟦println!("⟦// $s1=⟧{:?}", $f1("$n1", "$n2")); // match $f1("$n1", "⟦$n2 // $s2⟧") {
        Ok($v5) => println!("{}", $v5),
        Err($v6) => println!("$s3 {}", $v6),
    }⟧
}
""",
)

add = with_values("question_mark_on_option", "result_handling", "E0277")
add(
    'Let $f1 give a value of $p1, or the error "$s1".',
    """
fn $f1($p1: ⟦&[@int] // &Vec<@int>⟧) -> Result<@int, String> {
    let $v1 = $p1.⟦first() // last() // iter().max() // iter().min() // get($k1)⟧«⇒.ok_or("$s1")»?;
    Ok(⟦*$v1 // *$v1 + $k2 // $v1 * $k2⟧)
}
fn main() {
    println!("⟦// $s2=⟧{:?}", $f1(&vec![$n1, $n2⟦// , $n3⟧]));
    ⟦println!("{:?}", $f1(&vec![])); //⟧
}
""",
)
add(
    'Let $f1 give the first ⟦1: letter // word⟧ of a text, or "$s1".',
    """
fn $f1($v1: &str) -> Result<⟦1: char // String⟧, String> {
    let $v2 = $v1.⟦1: chars().⟦next() // last()⟧ // split_whitespace().⟦next() // last()⟧⟧«⇒.ok_or("$s1")»?;
    ⟦println!("$s4 {}", $v2); //⟧
    Ok($v2⟦1: // .to_string()⟧)
}
fn main() {
    println!("⟦// $s3=⟧{:?}", $f1("$s2"));
    ⟦println!("{:?}", $f1("")); //⟧
}
""",
)
add(
    'Let $f1 ⟦1: add // multiply // subtract⟧ with care, or give the error "$s1".',
    """
fn $f1($v1: ⟦2: u8 // i32 // u32 // i8⟧, $v2: ⟦2: u8 // i32 // u32 // i8⟧) -> Result<⟦2: u8 // i32 // u32 // i8⟧, String> {
    let $v3 = $v1.checked_⟦1: add // mul // sub⟧($v2)«⇒.ok_or("$s1")»?;
    ⟦if $v3 ⟦> // <⟧ $k3 {
        println!("$s2");
    } //⟧
    Ok(⟦$v3 // $v3 / $k1⟧)
}
fn main() {
    println!("⟦// $s4=⟧{:?}", $f1($n1, $k2));
    ⟦println!("{:?}", $f1($k2, $n2)); //⟧
}
""",
)
add(
    'Let $f1 look up $v1 in $p1, or give the error "$s1".',
    """
use std::collections::⟦1: HashMap // BTreeMap⟧;
fn $f1($p1: &⟦1: HashMap // BTreeMap⟧<⟦2: &str // u32⟧, @int>) -> Result<@int, String> {
    let $v2 = $p1.get(⟦2: "$v1" // &$k1⟧)«⇒.ok_or("$s1")»?;
    Ok(⟦*$v2 // *$v2 + $n1 // $v2 * $k2⟧)
}
fn main() {
    let $p2 = ⟦1: HashMap // BTreeMap⟧::from([(⟦2: "$v1" // $k1⟧, $n2)]);
    println!("⟦// $s4=⟧{:?}", $f1(&$p2));
}
""",
)
add(
    "Let $f1 give the number in $v1, or None.",
    """
fn $f1($v1: &str) -> Option<@num> {
    let $v2⟦1: : @num //⟧ = $v1⟦// .trim()⟧.parse⟦1: // ::<@num>⟧()«⇒.ok()»?;
    Some(⟦$v2 // $v2 + $v2 // $v2 * $v2⟧)
}
fn main() {
    println!("⟦// $s1=⟧{:?}", $f1("$n1"));
    ⟦println!("{:?}", $f1("$s2")); //⟧
}
""",
)
add(
    "Let $f1 give the number after ⟦1: = // : // -⟧ in a text, or None.",
    """
fn $f1($v1: &str) -> Option<@num> {
    let ($v2, $v3) = $v1.split_once('⟦1: = // : // -⟧')?;
    ⟦println!("{}", $v2); // println!("$s3 {}", $v2.len());⟧
    let $v4 = $v3.parse::<@num>()«⇒.ok()»?;
    Some(⟦$v4 // $v4 + $v4⟧)
}
fn main() {
    println!("⟦// $s4=⟧{:?}", $f1("$s1⟦1: = // : // -⟧$n1"));
    ⟦println!("{:?}", $f1("$s2")); //⟧
}
""",
)

add = with_values("missing_question_mark", "result_handling", "E0308")
add(
    "Let $f1 read a number and ⟦1: add $k1 // multiply it by $k1⟧.",
    """
use std::num::Parse⟦7: Int // Int // Int // Float⟧Error;
fn $f1($v1: &str) -> Result<@num, Parse⟦7: Int // Int // Int // Float⟧Error> {
    let $v2: @num = $v1⟦// .trim()⟧.parse::<@num>()«⇒?»;
    Ok($v2 ⟦1: + // *⟧ $k1⟦7: // // // .0⟧)
}
fn main() {
    println!("⟦// $s1=⟧{:?}", $f1("$n1"));
    ⟦println!("{:?}", $f1("$s2")); //⟧
}
""",
)
add(
    "Let $f2 use the value of $f1.",
    """
fn $f1($v1: @int) -> ⟦1: Result<@int, String> // Option<@int>⟧ {
    ⟦1: if $v1 > $n1 {
        return Err("$s1".to_string());
    }
    Ok($v1 ⟦+ // *⟧ $k1) // ⟦$v1.checked_sub($n1) // if $v1 > $n1 {
        return None;
    }
    Some($v1 * $k1)⟧⟧
}
fn $f2($v2: @int) -> ⟦1: Result<@int, String> // Option<@int>⟧ {
    let $v3: @int = $f1($v2)«⇒?»;
    ⟦1: Ok // Some⟧(⟦$v3 // $v3 + $k2 // $v3 * $k2⟧)
}
fn main() {
    println!("{:?}", $f2($n2));
}
""",
)
add(
    "Let $f1 give the first value of $p1 plus $k1, or None.",
    """
fn $f1($p1: &[@int]) -> Option<@int> {
    let $v1: ⟦1: @int // &@int // @int⟧ = $p1.⟦1: ⟦first() // last()⟧.copied() // ⟦first() // get($k2) // iter().max()⟧ // iter().copied().⟦max() // min()⟧⟧«⇒?»;
    Some($v1 + $k1)
}
fn main() {
    println!("⟦// $s1=⟧{:?}", $f1(&[$n1, $n2⟦// , $n3⟧]));
    ⟦println!("{:?}", $f1(&[])); //⟧
}
""",
)
add(
    "Let $f1 build a $T1 from a text.",
    """
#[derive(Debug)]
struct $T1 {
    $v1: @num,
    ⟦2: // $v3: bool,⟧
}
fn $f1($v2: &str) -> Result<$T1, std::num::Parse⟦7: Int // Int // Int // Float⟧Error> {
    Ok($T1 { $v1: $v2⟦// .trim()⟧.parse::<@num>()«⇒?»⟦2: // , $v3: true⟧ })
}
fn main() {
    println!("{:?}", $f1("$n1")⟦// .is_ok() // .map(|$v4| $v4.$v1)⟧);
    ⟦println!("{:?}", $f1("$s1")); //⟧
}
""",
)
add(
    "Let $f1 sum the numbers of $p1, or give an error.",
    """
fn $f1($p1: ⟦2: &[&str] // &str⟧) -> Result<@int, std::num::ParseIntError> {
    let mut $v1: @int = 0;
    for $v2 in $p1⟦2: // .split(⟦' ' // ','⟧)⟧ {
        let $v3: @int = $v2.parse::<@int>()«⇒?»;
        $v1 += ⟦$v3 // $v3 * $k1⟧;
    }
    Ok($v1)
}
fn main() {
    println!("⟦// $s1=⟧{:?}", $f1(⟦2: &["$n1", "$n2"] // "$n1"⟧));
}
""",
)
add(
    "Let $f2 give $f1's value to $f3.",
    """
fn $f1($v1: &str) -> Option<⟦2: usize // char⟧> {
    $v1.⟦2: find('⟦a // e // o⟧') // chars().⟦next() // last()⟧⟧
}
fn $f3($v2: ⟦2: usize // char⟧) -> String {
    format!("⟦<{}> // $s3 {}⟧", $v2)
}
fn $f2($v3: &str) -> Option<String> {
    ⟦Some($f3($f1($v3)«⇒?»)) // let $v4 = $f3($f1($v3)«⇒?»);
    Some($v4)⟧
}
fn main() {
    println!("{:?}", $f2("$s1"));
    ⟦println!("{:?}", $f2("")); //⟧
}
""",
)

add = with_values("parse_without_type", "result_handling", "E0284")
add(
    "Read $v1 (@num) from a text and print it.",
    """
fn main() {
    let $v1«⇒: @num» = "$n1"⟦// .trim()⟧.parse().unwrap⟦() // _or_default()⟧;
    ⟦println!("⟦// $s1=⟧{}", $v1); // println!("{} {}", $v1, "$s2"); // println!("{}", $v1);
    println!("$s3");⟧
}
""",
)
add(
    "Let $f1 read an @num and print it.",
    """
fn $f1($v1: &str) {
    ⟦2: match $v1⟦// .trim()⟧.parse«⇒::<@num>»() {
        Ok($v2) => println!("⟦// $s1=⟧{}", $v2),
        Err(_) => println!("$s2"),
    } // if let Ok($v2) = $v1⟦// .trim()⟧.parse«⇒::<@num>»() {
        println!("⟦// $s1=⟧{}", $v2);
    } // println!("⟦// $s1=⟧{:?}", $v1⟦// .trim()⟧.parse«⇒::<@num>»()); // println!("⟦// $s1=⟧{}", $v1⟦// .trim()⟧.parse«⇒::<@num>»().is_ok());⟧
}
fn main() {
    $f1("$n1");
    ⟦$f1("$s3"); //⟧
}
""",
)
add(
    "Print each number (@num) in $p1.",
    """
fn main() {
    let $p1 = ⟦["$n1", "$n2"] // vec!["$n1", "$n2", "$n3"] // "$n1 $n2".split(' ')⟧;
    for $v1 in $p1 {
        let $v2«⇒: @num» = $v1.parse().unwrap⟦() // _or_default()⟧;
        println!("⟦// $s1=⟧{}", $v2);
    }
    ⟦println!("$s2"); //⟧
}
""",
)
add(
    "Say whether a text is a number of type @num.",
    """
fn $f1($v1: &str) -> bool {
    ⟦$v1.parse«⇒::<@num>»().⟦is_ok // is_err⟧() // !$v1⟦// .trim()⟧.parse«⇒::<@num>»().is_⟦err // ok⟧() // $v1.len() ⟦> // <⟧ $k1 && $v1.parse«⇒::<@num>»().is_ok()⟧
}
fn main() {
    println!("⟦// $s1=⟧{}", $f1("⟦$n1 // $s2⟧"));
    ⟦println!("{}", $f1("$s3")); // println!("{}", $f1("$n1.5")); //⟧
}
""",
)
add(
    "Count the texts in $p1 that are an @num.",
    """
fn main() {
    let $p1 = ⟦["$n1", "$s1"] // vec!["$n1", "$s1", "$n2"] // ["$s1", "$s2", "$n1.5"]⟧;
    ⟦let $v1 = $p1.iter().filter(|$v2| $v2.parse«⇒::<@num>»().⟦is_ok // is_err⟧()).count(); // let mut $v1 = 0;
    for $v2 in $p1⟦.iter() //⟧ {
        if $v2.parse«⇒::<@num>»().⟦is_ok // is_err⟧() {
            $v1 += ⟦1 // $k1⟧;
        }
    }⟧
    println!("⟦// $s3=⟧{}", $v1);
}
""",
)
