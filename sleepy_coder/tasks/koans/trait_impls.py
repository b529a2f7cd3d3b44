"""Trait bounds, second part: derives that methods need, impls that do not fit, traits out of scope."""

# A stencil's line is a line of Rust with all its alternatives; it cannot be broken.
# ruff: noqa: E501

from __future__ import annotations

from sleepy_coder.tasks.koans.values import with_values

add = with_values("missing_derive_for_method", "trait_bounds", "E0599")
add(
    "Print the $v1 of $v3 and of its copy $v4.",
    """
⟦1: «⇒#[derive(Clone)]» // #[derive(«Debug⇒Debug, Clone»)] // «⇒#[derive(Clone)]»⟧
struct $T1 {
    $v1: @ty,
    ⟦2: // $v2: u32,⟧
}
fn main() {
    let $v3 = $T1 { $v1: @a⟦2: // , $v2: $n4⟧ };
    let $v4 = $v3.clone();
    println!("{} {}", ⟦$v3.$v1, $v4.$v1 // $v4.$v1, $v3.$v1⟧);
}
""",
)
add(
    "Let $f1 show the same $v1 twice.",
    """
⟦1: «⇒#[derive(Clone)]» // #[derive(«Debug⇒Debug, Clone»)] // «⇒#[derive(Clone)]»⟧
enum $T1 {
    $T2,
    $T3⟦// (u32)⟧,
}
fn $f1($v1: $T1) {
    ⟦println!("{}", matches!($v1, $T1::$T2)); // if let $T1::$T2 = $v1 {
        println!("$s1");
    } // println!("$s1 {}", matches!($v1, $T1::$T2));⟧
}
fn main() {
    let $v2 = $T1::$T2;
    $f1($v2.clone());
    $f1($v2);
}
""",
)
add(
    "Store a number for $T2 in $p1 and print how many there are.",
    """
use std::collections::⟦1: HashMap // HashSet⟧;
⟦2: «⇒#[derive(PartialEq, Eq, Hash)]» // #[derive(«PartialEq, Eq⇒PartialEq, Eq, Hash»)]⟧
⟦enum $T1 {
    $T2,
    $T3,
} // enum $T1 {
    $T2,
    $T3,
    $T4(u8),
}⟧
fn main() {
    let mut $p1: ⟦1: HashMap<$T1, u32> // HashSet<$T1>⟧ = ⟦1: HashMap // HashSet⟧::new();
    $p1.insert($T1::$T2⟦1: , $n1 // ⟧);
    $p1.insert($T1::⟦$T3 // $T2⟧⟦1: , $n2 // ⟧);
    println!("⟦// $s1=⟧{}", $p1.len());
}
""",
)
add(
    "Print the $v1 of a default $T1.",
    """
⟦1: «⇒#[derive(Default)]» // #[derive(«Debug⇒Debug, Default»)] // #[derive(«Clone⇒Clone, Default»)]⟧
struct $T1 {
    $v1: ⟦2: u32 // String // Vec<i32> // Option<u8> // bool // f64⟧,
    ⟦$v2: i64, //⟧
}
fn main() {
    ⟦let $v3 = $T1::default();
    println!("{:?}", $v3.$v1); // println!("{:?}", $T1::default().$v1); // let $v3 = $T1::default();
    println!("$s1 {:?}", $v3.$v1);⟧
}
""",
)
add(
    "Print whether the first $T1 comes before the second.",
    """
«#[derive(PartialEq, Eq)]⇒#[derive(PartialEq, Eq, PartialOrd, Ord)]»
struct $T1(⟦1: i32 // u64 // u8 // &'static str // String⟧⟦2: // , u32⟧);
fn main() {
    let $v1 = $T1(⟦1: $n1 // $n1 // $n1 // "$s1" // String::from("$s1")⟧⟦2: // , $n8⟧);
    let $v2 = $T1(⟦1: $n2 // $n2 // $n2 // "$s2" // String::from("$s2")⟧⟦2: // , $n9⟧);
    println!("⟦// $s8=⟧{}", $v1.cmp(&$v2)⟦.is_lt() // .is_le() // .is_gt()⟧);
}
""",
)
add(
    "Clone $v1 and look at the clone $v2.",
    """
⟦1: «⇒#[derive(Clone)]» // #[derive(«Debug⇒Debug, Clone»)]⟧
struct $T1⟦2: ; // (@ty);⟧
fn main() {
    let $v1 = ⟦3: Some // Box::new // std::cell::RefCell::new⟧($T1⟦2: // (@a)⟧);
    let $v2 = $v1.clone();
    drop($v1);
    ⟦println!("$s8"); //⟧
    println!("{}", ⟦3: $v2.is_some() // std::mem::size_of_val(&$v2) > 0 // $v2.try_borrow().is_ok()⟧);
}
""",
)

add = with_values("trait_method_signature", "trait_bounds", "E0053")
add(
    "Print what $f1 gives for a $T2.",
    """
trait $T1 {
    fn $f1(&self) -> @ty;
}
struct $T2(u32);
impl $T1 for $T2 {
    fn $f1(«&mut self⇒&self») -> @ty {
        ⟦println!("{}", self.0); // println!("$s7"); //⟧
        @a
    }
}
fn main() {
    let $v2 = $T2($n8);
    println!("⟦// $s8=⟧{}", $v2.$f1());
    ⟦println!("{}", $v2.0); //⟧
}
""",
)
add(
    "Print $v2 after $f1 got a number.",
    """
trait $T1 {
    fn $f1(&self, $v1: ⟦1: u32 // u64 // i64 // u8 // usize⟧)⟦2: -> bool //⟧;
}
struct $T2;
impl $T1 for $T2 {
    fn $f1(&self, $v1: «i32⇒⟦1: u32 // u64 // i64 // u8 // usize⟧»)⟦2: -> bool //⟧ {
        ⟦2: $v1 > $n1 // println!("{}", $v1 ⟦+ // *⟧ $k1);⟧
    }
}
fn main() {
    let $v2 = $T2;
    ⟦2: println!("⟦// $s1=⟧{}", $v2.$f1($n2)); // $v2.$f1($k2);
    ⟦// println!("$s1");⟧⟧
}
""",
)
add(
    "Print what $f1 of $T2 says about a text.",
    """
trait $T1 {
    fn $f1(&self, $v1: &str) -> ⟦1: usize // bool // bool⟧;
}
struct $T2⟦2: ; // (u32);⟧
impl $T1 for $T2 {
    fn $f1(&self, $v1: «⟦String // &String⟧⇒&str») -> ⟦1: usize // bool // bool⟧ {
        ⟦2: // println!("{}", self.0);⟧
        ⟦1: $v1.len() // $v1.is_empty() // $v1.contains("a")⟧
    }
}
fn main() {
    let $v2 = $T2⟦2: // ($n1)⟧;
    println!("{}", $v2.$f1("$s1"));
    ⟦println!("{}", $v2.$f1("")); //⟧
}
""",
)
add(
    "Print what $f1 gives for $T2.",
    """
trait $T1 {
    fn $f1(&self) -> ⟦2: u32 // u64 // i64 // u16⟧;
}
struct $T2;
impl $T1 for $T2 {
    fn $f1(&self) -> «⟦i32 // usize // i8⟧⇒⟦2: u32 // u64 // i64 // u16⟧» {
        ⟦$k1 // $k1 + $k2 // $k1 * $k2⟧
    }
}
fn main() {
    ⟦let $v1 = $T2.$f1();
    println!("$s1 {}", $v1); // println!("⟦// $s1=⟧{}", $T2.$f1());⟧
}
""",
)
add(
    "Compare two $T1 values with == and print the answer.",
    """
struct $T1 {
    $v1: @ty,
    ⟦2: // $v2: u8,⟧
}
impl PartialEq for $T1 {
    fn eq(&self, $v3: «$T1⇒&$T1») -> bool {
        self.$v1 == $v3.$v1⟦2: // && self.$v2 == $v3.$v2⟧
    }
}
fn main() {
    let $v4 = $T1 { $v1: @a⟦2: // , $v2: $k1⟧ };
    let $v5 = $T1 { $v1: ⟦@a // @b⟧⟦2: // , $v2: $k1⟧ };
    println!("⟦// $s8=⟧{}", $v4 ⟦== // == // !=⟧ $v5);
}
""",
)
add(
    "Make a $T1 from a number and print its $v1.",
    """
struct $T1 {
    $v1: f64,
    ⟦2: // $v3: bool,⟧
}
impl From<⟦1: u64 // i64 // u8 // f32⟧> for $T1 {
    fn from($v2: «⟦u32 // i32⟧⇒⟦1: u64 // i64 // u8 // f32⟧») -> $T1 {
        $T1 { $v1: ⟦$v2 as f64 // $v2 as f64 * $k1.5 // $v2 as f64 + 0.5⟧⟦2: // , $v3: true⟧ }
    }
}
fn main() {
    ⟦let $v4 = $T1::from($n1⟦1: u64 // i64 // u8 // f32⟧);
    println!("{}", $v4.$v1); // println!("{}", $T1::from($n1⟦1: u64 // i64 // u8 // f32⟧).$v1);⟧
}
""",
)
add(
    "Let $f1 count up and print $v1.",
    """
trait $T1 {
    fn $f1(&self, ⟦$v3: &mut // $v3: &mut⟧ @int);
}
struct $T2;
impl $T1 for $T2 {
    fn $f1(«&mut self⇒&self», $v3: &mut @int) {
        *$v3 ⟦+= // *=⟧ $k1;
    }
}
fn main() {
    let mut $v1 = $n1;
    $T2.$f1(&mut $v1);
    ⟦$T2.$f1(&mut $v1); //⟧
    println!("⟦// $s1=⟧{}", $v1);
}
""",
)

add = with_values("trait_not_in_scope", "trait_bounds", "E0599")
add(
    "Print what $f1_$v9 gives for ⟦1: a number // a text // true⟧.",
    """
«⇒use $v1::$T1;»
mod $v1 {
    pub trait $T1 {
        fn $f1_$v9(&self) -> ⟦2: String // usize⟧;
    }
    impl $T1 for ⟦1: i32 // str // bool⟧ {
        fn $f1_$v9(&self) -> ⟦2: String // usize⟧ {
            ⟦2: format!("⟦<{}> // $s8 {}⟧", self) // self.to_string().len()⟧
        }
    }
}
fn main() {
    ⟦println!("{}", ⟦1: $n1i32 // "$s1" // true⟧.$f1_$v9()); // let $v2 = ⟦1: $n1i32 // "$s1" // true⟧;
    println!("{}", $v2.$f1_$v9());⟧
}
""",
)
add(
    "Print what $f1_$v9 says about $v3.",
    """
«⇒use $v1::$T1;»
mod $v1 {
    pub trait $T1 {
        fn $f1_$v9(&self) -> @ty;
    }
    pub struct $T2⟦2: // (pub u32)⟧;
    impl $T1 for $T2 {
        fn $f1_$v9(&self) -> @ty {
            @a
        }
    }
}
fn main() {
    let $v3 = $v1::$T2⟦2: // ($n8)⟧;
    println!("⟦// $s8=⟧{}", $v3.$f1_$v9());
    ⟦2: // println!("{}", $v3.0);⟧
}
""",
)
add(
    "Write into the text $v1 and print it.",
    """
«⇒use std::fmt::Write;»
fn main() {
    let mut $v1 = String::⟦new() // from("$s1 ") // with_capacity($n1)⟧;
    ⟦1: ⟦write // writeln⟧!($v1, "{}⟦// -⟧", ⟦$n2 // "$s2" // $n2 + $k2⟧).unwrap(); // for $v2 in ⟦0..$k1 // [$n1, $n2]⟧ {
        ⟦write // writeln⟧!($v1, "⟦{}, // $s2 {}⟧", $v2).unwrap();
    }⟧
    println!("⟦// $s3=⟧{}", $v1);
}
""",
)
add(
    "Read $v1 from a text with from_str and print it.",
    """
«⇒use std::str::FromStr;»
⟦1: fn $f1($v3: &str) -> ⟦2: u32 // i64 // f64⟧ {
    ⟦2: u32 // i64 // f64⟧::from_str($v3).unwrap⟦() // _or($n4⟦2: // // .5⟧)⟧
}
fn main() {
    let $v1 = $f1("$n1");
    println!("{}", $v1); // fn main() {
    let $v1 = ⟦2: u32 // i64 // f64⟧::from_str("$n1").unwrap⟦() // _or_default()⟧;
    println!("⟦// $s1=⟧{}", ⟦$v1 // $v1 * $k1⟦2: // // .0⟧⟧);⟧
}
""",
)
add(
    "Print the lines of $v1.",
    """
«⇒use std::io::BufRead;»
fn main() {
    let $v1 = ⟦1: "$s1\\n$s2⟦// \\n$s3⟧".as_bytes() // std::io::Cursor::new("$s1\\n$s2") // b"$s1\\n$s2" as &[u8]⟧;
    ⟦for $v2 in $v1.lines() {
        println!("⟦// $s4=⟧{}", $v2.unwrap());
    } // for ($v3, $v2) in $v1.lines().enumerate() {
        println!("{} {}", $v3, $v2.unwrap());
    } // println!("{}", $v1.lines().count()); // println!("{:?}", $v1.lines().next().unwrap().unwrap());⟧
}
""",
)
add(
    "Read the text of $v1 into $v2 and print it.",
    """
«⇒use std::io::Read;»
fn main() {
    let mut $v1 = ⟦"$s1⟦// , $s3⟧".as_bytes() // std::io::Cursor::new("$s1") // "$s1 $s2".as_bytes()⟧;
    let mut $v2 = ⟦1: String::new() // Vec::new()⟧;
    ⟦let $v3 = //⟧ $v1.read_to_⟦1: string // end⟧(&mut $v2).unwrap();
    ⟦println!("$s4 {:?}", $v2); // println!("{:?} {}", $v2, $v2.len()); // println!("{:?}", $v2);⟧
}
""",
)
add(
    "Write to $v1 and print how long it is.",
    """
«⇒use std::io::Write;»
fn main() {
    let mut $v1⟦: Vec<u8> //⟧ = Vec::<u8>::new();
    ⟦1: $v1.write_all(b"$s1").unwrap(); // ⟦write // writeln⟧!($v1, "{}", ⟦$n1 // "$s1"⟧).unwrap(); // for $v2 in 0..$k1 {
        writeln!($v1, "{}", $v2).unwrap();
    }⟧
    println!("⟦// $s2=⟧{}", $v1.len());
    ⟦println!("{:?}", $v1); //⟧
}
""",
)

add = with_values("missing_copy_bound", "trait_bounds", "E0382")
add(
    "Let $f1 give the same value twice.",
    """
fn $f1<T«⇒: Copy»>($v1: T⟦2: // , $v9: bool⟧) -> ⟦1: (T, T) // Vec<T> // [T; 2] // [T; 3]⟧ {
    ⟦2: // println!("{}", $v9);⟧
    ⟦1: ($v1, $v1) // vec![$v1, $v1] // [$v1, $v1] // [$v1, $v1, $v1]⟧
}
fn main() {
    ⟦let $v2 = $f1(@x⟦2: // , true⟧);
    println!("{:?}", $v2); // println!("⟦// $s1=⟧{:?}", $f1(@x⟦2: // , false⟧));⟧
}
""",
)
add(
    "Let $f1 build a list with $v1 repeated.",
    """
fn $f1<T«⇒: Copy»>($v1: T, $v2: ⟦usize // u32 // i32⟧) -> Vec<T> {
    let mut $p1 = Vec::new();
    ⟦for _ in 0..$v2 {
        $p1.push($v1);
    } // for $v3 in 0..$v2 {
        if $v3 > 0 {
            $p1.push($v1);
        }
    }⟧
    $p1
}
fn main() {
    ⟦println!("⟦// $s1=⟧{:?}", $f1(⟦@x // 'x' // true // "$s2"⟧, $k1)); // let $p2 = $f1(⟦@x // 'y' // "$s2"⟧, $k1);
    println!("{} {:?}", $p2.len(), $p2);⟧
}
""",
)
add(
    "Print what $f1 computes from @x.",
    """
fn $f1<T: std::ops::⟦1: Mul // Add⟧<Output = T>«⇒ + Copy»>($v1: T) -> T {
    ⟦$v1 ⟦1: * // +⟧ $v1 // let $v2 = $v1 ⟦1: * // +⟧ $v1;
    $v2 // $v1 ⟦1: * // +⟧ $v1 ⟦1: * // +⟧ $v1 // let $v2 = $v1 ⟦1: * // +⟧ $v1;
    $v2 ⟦1: * // +⟧ $v1⟧
}
fn main() {
    println!("⟦// $s1=⟧{}", $f1(@x));
    ⟦println!("{}", $f1(@y)); //⟧
}
""",
)
add(
    "Print both values that $v3 gives.",
    """
struct $T1<T> {
    $v1: T,
    ⟦2: // $v2: u32,⟧
}
impl<T«⇒: Copy»> $T1<T> {
    fn $f1(self) -> ⟦1: (T, T) // [T; 2]⟧ {
        ⟦1: (self.$v1, self.$v1) // [self.$v1, self.$v1]⟧
    }
}
fn main() {
    let $v3 = $T1 { $v1: @x⟦2: // , $v2: $n8⟧ };
    ⟦2: // println!("{}", $v3.$v2);⟧
    println!("⟦// $s1=⟧{:?}", $v3.$f1());
}
""",
)
add(
    "Let $f1 print $v1 and give it back.",
    """
fn $f2<T: std::fmt::⟦1: Display // Debug⟧>($v2: T) {
    println!("⟦// $s1=⟧{⟦1: // :?⟧}", $v2);
}
fn $f1<T: std::fmt::⟦1: Display // Debug⟧«⇒ + Copy»>($v1: T) -> ⟦3: T // (T, usize) // Option<T>⟧ {
    $f2($v1);
    ⟦$f2($v1); //⟧
    ⟦3: $v1 // ($v1, $k1) // Some($v1)⟧
}
fn main() {
    println!("{:?}", $f1(⟦@x // true // 'z'⟧));
}
""",
)
add(
    "Print the pair that $f1 makes.",
    """
fn $f1<T«⇒: Copy»>($v1: T) -> (T, ⟦1: Option<T> // Vec<T> // [T; 1] // T⟧) {
    let $v2 = ⟦1: Some($v1) // vec![$v1] // [$v1] // $v1⟧;
    ⟦($v1, $v2) // let $v3 = $v1;
    ($v3, $v2)⟧
}
fn main() {
    let ⟦$v4 = $f1(@x);
    println!("{:?}", $v4); // ($v4, $v5) = $f1(@x);
    println!("{:?} {:?}", $v5, $v4); // $v4 = $f1("$s1");
    println!("{:?}", $v4.1);⟧
}
""",
)

add = with_values("missing_trait_impl", "trait_bounds", "E0277")
add(
    "Let $f1_$v9 print what $f2 gives for a $T2.",
    """
trait $T1 {
    fn $f2(&self) -> @ty {
        @a
    }
}
struct $T2⟦2: // (u32)⟧;
«⇒impl $T1 for $T2 {}»
fn $f1_$v9⟦1: ($v1: &impl $T1) // <T: $T1>($v1: &T) // ($v1: &dyn $T1)⟧ {
    println!("⟦// $s8=⟧{}", $v1.$f2());
}
fn main() {
    ⟦$f1_$v9(&$T2⟦2: // ($n8)⟧); // let $v2 = $T2⟦2: // ($n8)⟧;
    $f1_$v9(&$v2);⟧
}
""",
)
add(
    "Print what every value of $p1 gives for $f1.",
    """
trait $T1 {
    fn $f1(&self) -> @ty {
        @a
    }
}
struct $T2;
struct $T3;
⟦1: impl $T1 for $T2 {} // «⇒impl $T1 for $T2 {}»⟧
⟦1: «⇒impl $T1 for $T3 {}» // impl $T1 for $T3 {}⟧
fn main() {
    let $p1: Vec<Box<dyn $T1>> = vec![Box::new($T2), Box::new($T3)];
    ⟦for $v1 in ⟦&$p1 // $p1.iter() // $p1⟧ {
        println!("⟦// $s8=⟧{}", $v1.$f1());
    } // println!("{} {}", $p1[0].$f1(), $p1[1].$f1());⟧
}
""",
)
add(
    "Print the ⟦1: first $v1 after sorting $p1 // largest $v1 of $p1 // smallest $v1 of $p1⟧.",
    """
⟦2: «⇒#[derive(PartialEq, Eq, PartialOrd, Ord)]» // #[derive(«PartialEq, Eq⇒PartialEq, Eq, PartialOrd, Ord»)]⟧
struct $T1 {
    $v1: ⟦9: i32 // u64 // u8 // &'static str // String⟧,
    ⟦3: // $v2: u8,⟧
}
fn main() {
    let ⟦1: mut // //⟧ $p1 = vec![
        $T1 { $v1: ⟦9: $n1 // $n1 // $n1 // "$s1" // String::from("$s1")⟧⟦3: // , $v2: 1⟧ },
        $T1 { $v1: ⟦9: $n2 // $n2 // $n2 // "$s2" // String::from("$s2")⟧⟦3: // , $v2: 2⟧ },
    ];
    ⟦1: $p1.sort(); // let $v3 = $p1.iter().max().unwrap(); // let $v3 = $p1.iter().min().unwrap();⟧
    println!("⟦// $s8=⟧{}", ⟦1: $p1[0] // $v3 // $v3⟧.$v1);
}
""",
)
add(
    "Let $f1 copy $v3 and print its $v1.",
    """
⟦«⇒#[derive(Clone, Copy)]» // #[derive(«Clone⇒Clone, Copy»)]⟧
struct $T1 {
    $v1: @num,
    ⟦2: // $v2: bool,⟧
}
fn $f1<T: Copy>($v5: &T) -> ⟦1: T // (T, T) // [T; 2]⟧ {
    ⟦1: *$v5 // (*$v5, *$v5) // [*$v5, *$v5]⟧
}
fn main() {
    let $v3 = $T1 { $v1: @x⟦2: // , $v2: true⟧ };
    println!("⟦// $s8=⟧{}", $f1(&$v3)⟦1: // .1 // [0]⟧.$v1);
}
""",
)
add(
    "Print the $v1 of the $T1 that $f1 makes.",
    """
⟦3: «⇒#[derive(Default)]» // #[derive(«Clone⇒Clone, Default»)]⟧
struct $T1 {
    $v1: ⟦u32 // String // Vec<u8> // bool // Option<i32>⟧,
    ⟦$v2: i64, //⟧
}
fn $f1<T: Default>() -> ⟦1: T // Vec<T> // (T, u32) // Option<T>⟧ {
    ⟦1: T::default() // vec![T::default()] // (T::default(), $k1) // Some(T::default())⟧
}
fn main() {
    let $v3 = $f1::<$T1>();
    println!("⟦// $s8=⟧{:?}", $v3⟦1: // [0] // .0 // .unwrap()⟧.$v1);
}
""",
)
add(
    "Let $f1 print the constant of the $T1 in $v3.",
    """
trait $T2 {
    const ⟦1: MAX // SIZE // LIMIT⟧: ⟦3: i32 // u64 // f64 // &'static str // bool⟧ = ⟦3: $n1 // $n2 // $n1.5 // "$s1" // true⟧;
}
struct $T1;
«⇒impl $T2 for $T1 {}»
struct $T3<T: $T2>(T⟦2: // , u8⟧);
fn $f1<T: $T2>(_: &$T3<T>) {
    println!("⟦// $s8=⟧{}", T::⟦1: MAX // SIZE // LIMIT⟧);
}
fn main() {
    let $v3 = $T3($T1⟦2: // , $k5⟧);
    $f1(&$v3);
}
""",
)

add = with_values("dyn_without_item", "trait_bounds", "E0191")
add(
    "Print the numbers that $f1 gives.",
    """
fn $f1($v1: @int) -> Box<dyn Iterator«⇒<Item = @int>»> {
    Box::new(⟦0..$v1 // 1..=$v1 // (0..$v1).map(|$v2| $v2 * $k1) // (0..$v1).rev() // (0..$v1).filter(|$v2| $v2 % 2 == 0)⟧)
}
fn main() {
    ⟦for $v3 in $f1($k2) {
        println!("⟦// $s1=⟧{}", $v3);
    } // println!("{:?}", $f1($k2).collect::<Vec<_>>()); // println!("{}", $f1($k2).count()); // let $v3: @int = $f1($k2).sum();
    println!("{}", $v3);⟧
}
""",
)
add(
    "Let $f1 print the values of $v1.",
    """
fn $f1(⟦1: $v1: &mut dyn // mut $v1: Box<dyn⟧ Iterator«⇒<Item = @ty>»⟦1: // >⟧) {
    ⟦for $v2 in $v1⟦1: // .by_ref()⟧ {
        println!("⟦// $s8=⟧{}", $v2);
    } // while let Some($v2) = $v1.next() {
        println!("⟦// $s8=⟧{}", $v2);
    } // println!("{:?}", $v1.next());⟧
}
fn main() {
    let $v3 = vec![@a, @b⟦// , @c⟧];
    $f1(⟦1: &mut $v3.into_iter() // Box::new($v3.into_iter())⟧);
}
""",
)
add(
    "Print what $f1 gives for $v1.",
    """
trait $T1 {
    type $T2;
    fn $f2(&self) -> Self::$T2;
}
struct $T3⟦3: // (u8)⟧;
impl $T1 for $T3 {
    type $T2 = @ty;
    fn $f2(&self) -> @ty {
        @a
    }
}
fn $f1($v1: ⟦1: &dyn $T1«⇒<$T2 = @ty>» // Box<dyn $T1«⇒<$T2 = @ty>»>⟧) {
    println!("⟦// $s8=⟧{}", $v1.$f2());
}
fn main() {
    $f1(⟦1: &$T3⟦3: // ($k1)⟧ // Box::new($T3⟦3: // ($k1)⟧)⟧);
}
""",
)
add(
    "Print the next number from the $v1 of $v3.",
    """
struct $T1 {
    $v1: Box<dyn Iterator«⇒<Item = @int>»>,
    ⟦2: // $v2: u32,⟧
}
fn main() {
    let mut $v3 = $T1 { $v1: Box::new(⟦$n1..100 // [$n1, $n2].into_iter() // (0..$n1).rev()⟧)⟦2: // , $v2: $n3⟧ };
    println!("⟦// $s1=⟧{:?}", $v3.$v1.next());
    ⟦println!("{:?}", $v3.$v1.next()); // println!("{}", $v3.$v1.count()); //⟧
    ⟦2: // println!("{}", $v3.$v2);⟧
}
""",
)
add(
    "Print the sum of each iterator in $p1.",
    """
fn main() {
    let $p1: ⟦1: Vec<Box<dyn Iterator«⇒<Item = @int>»>> // [Box<dyn Iterator«⇒<Item = @int>»>; 2]⟧ =
        ⟦1: vec![ // [⟧Box::new(⟦0..$k1 // 1..=$k1⟧), Box::new(⟦$k2..20 // [$n1, $n2].into_iter()⟧)];
    ⟦for $v1 in $p1 {
        println!("⟦// $s1=⟧{}", $v1.sum::<@int>());
    } // for $v1 in $p1 {
        let $v2: @int = $v1.sum();
        println!("⟦// $s1=⟧{}", $v2);
    } // for ($v3, $v1) in $p1.into_iter().enumerate() {
        println!("{} {}", $v3, $v1.sum::<@int>());
    }⟧
}
""",
)
