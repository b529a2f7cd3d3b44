"""Ownership: values moved out of borrows, vectors and structs, into loops, methods and closures."""

from __future__ import annotations

from sleepy_coder.tasks.koans.stencil import stencils

_borrow = stencils("move_out_of_borrow", "ownership", "E0507")

_borrow(
    "Print the $v1 of $v3, given by $f1.",
    """
struct $T1 {
    $v1: ⟦1: String // Vec<i32> // Vec<String>⟧,
    ⟦2: // $v2: u32,⟧
}
impl $T1 {
    fn $f1(&self) -> ⟦1: String // Vec<i32> // Vec<String>⟧ {
        ⟦self.$v1«⇒.clone()» // let $v4 = self.$v1«⇒.clone()»;
        $v4⟧
    }
}
fn main() {
    let $v3 = $T1 { $v1: ⟦1: String::from("$s1") // vec![$n1, $n2] // vec!["$s1".to_string()]⟧⟦2: // \
        , $v2: $n3⟧ };
    println!("{:?}", $v3.$f1());
    ⟦2: // println!("{}", $v3.$v2);⟧
}
""",
)
_borrow(
    "Let $f1 give a changed copy of $v2; print both.",
    """
fn $f1($v1: &⟦1: String // Vec<u32>⟧) -> ⟦1: String // Vec<u32>⟧ {
    let mut $v3 = «*$v1⇒$v1.clone()»;
    $v3.⟦1: push_str("$s1") // push($n1)⟧;
    ⟦ // $v3.⟦1: push('y') // push($k1)⟧;⟧
    $v3
}
fn main() {
    let $v2 = ⟦1: String::from("$s2") // vec![$n2, $n3]⟧;
    println!("{:?}", $f1(&$v2));
    println!("{:?}", $v2);
}
""",
)
_borrow(
    "Print what $f1 makes of the $v1 of $v3.",
    """
struct $T1 {
    $v1: String,
    ⟦2: // $v4: u32,⟧
}
fn $f1($v2: &$T1) -> String {
    let ⟦1: mut // ⟧ $v5 = $v2.$v1«⇒.clone()»;
    ⟦1: $v5.push_str("$s2"); // ⟧
    ⟦1: $v5 // $v5 + "$s2"⟧
}
fn main() {
    let $v3 = $T1 { $v1: String::from("$s1")⟦2: // , $v4: $n1⟧ };
    println!("{}", $f1(&$v3));
    ⟦ // println!("{}", $v3.$v1);⟧
}
""",
)
_borrow(
    "Collect the $v1 of every $T1 into $p2 and print it.",
    """
struct $T1 {
    $v1: ⟦1: String // Vec<u32>⟧,
}
fn main() {
    let $v3 = ⟦1: String::from("$s1") // vec![$n1, $n2]⟧;
    let $p1 = ⟦vec![$T1 { $v1: $v3 }] // [$T1 { $v1: $v3 }]⟧;
    let mut $p2 = Vec::new();
    for $v2 in ⟦&$p1 // $p1.iter()⟧ {
        $p2.push($v2.$v1«⇒.clone()»);
    }
    println!("{:?}", $p2);
    ⟦ // println!("{}", $p1.len());⟧
}
""",
)
_borrow(
    "Print the $v1 of $v3, or a default when there is none.",
    """
struct $T1 {
    $v1: Option<⟦1: String // Vec<i32>⟧>,
}
impl $T1 {
    fn $f1(&self) -> ⟦1: String // Vec<i32>⟧ {
        self.$v1«⇒.clone()».⟦2: unwrap_or_default() // unwrap_or(⟦1: String::from("$s2") // vec![$k1]⟧)⟧
    }
}
fn main() {
    let $v3 = $T1 { $v1: ⟦Some(⟦1: String::from("$s1") // vec![$n1]⟧) // None⟧ };
    println!("{:?}", $v3.$f1());
    ⟦ // println!("{}", $v3.$v1.is_some());⟧
}
""",
)

_vec = stencils("move_out_of_index", "ownership", "E0507")

_vec(
    "Print the ⟦1: first // second⟧ word of $p1, taken as $v1.",
    """
fn main() {
    let $p1 = vec![⟦2: String::from("$s1"), String::from("$s2") // "$s1".to_string(), "$s2".to_string()⟧];
    let $v1 = «⇒&»$p1[⟦1: 0 // 1⟧];
    ⟦println!("{}", $v1); // println!("{} {}", $v1, $v1.len()); // println!("{}", $v1.to_uppercase());⟧
    ⟦ // println!("{}", $p1.len()); // println!("{:?}", $p1);⟧
}
""",
)
_vec(
    "Print the ⟦1: length // largest number // sum⟧ of one list in $p1.",
    """
fn main() {
    let $p1 = vec![vec![$n1, $n2], vec![$n3⟦ // , $n4⟧]];
    let $v1 = «⇒&»$p1[⟦0 // 1⟧];
    println!("{:?}", $v1.⟦1: len() // iter().max() // iter().sum::<i32>()⟧);
    ⟦ // println!("{:?}", $p1);⟧
}
""",
)
_vec(
    "Print the $v1 of one $T1 in $p1.",
    """
struct $T1 {
    $v1: ⟦1: u32 // String // f64⟧,
    ⟦2: // $v2: String,⟧
}
fn main() {
    let $v4 = $T1 { $v1: ⟦1: $n1 // String::from("$s1") // $n1.5⟧⟦2: // , $v2: "$s2".to_string()⟧ };
    let $p1 = vec![$v4];
    let $v3 = «⇒&»$p1[0];
    println!("{}", $v3.$v1);
    ⟦2: // println!("{}", $v3.$v2);⟧
    ⟦ // println!("{}", $p1.len());⟧
}
""",
)
_vec(
    "Print every word of $p2 with its ⟦1: length // number⟧ using $f1.",
    """
fn $f1($p1: &Vec<String>) {
    for $v1 in 0..$p1.len() {
        let $v2 = «⇒&»$p1[$v1];
        println!("{} {}", $v2, ⟦1: $v2.len() // $v1 + $k1⟧);
        ⟦ // println!("{}", $v2.to_uppercase());⟧
    }
}
fn main() {
    let $p2 = vec![String::from("$s1")⟦ // , String::from("$s2")⟧];
    $f1(&$p2);
}
""",
)
_vec(
    "Print what $s1 stands for in $p1.",
    """
use std::collections::HashMap;
fn main() {
    let mut $p1 = HashMap::new();
    $p1.insert("$s1", ⟦1: String::from("$s2") // vec![$n1, $n2]⟧);
    ⟦ // $p1.insert("$s3", ⟦1: String::from("$s4") // vec![$n3]⟧);⟧
    let $v1 = «⇒&»$p1["$s1"];
    println!("{:?}", $v1);
    ⟦ // println!("{}", $p1.len()); // println!("{}", $v1.len());⟧
}
""",
)

_closure = stencils("moved_in_closure", "ownership", "E0373")

_closure(
    "Let a thread print $v1.",
    """
use std::thread;
fn main() {
    let $v1 = ⟦1: String::from("$s1") // vec![$n1, $n2] // $n1⟧;
    let $v2 = thread::spawn(«⇒move »|| {
        println!("{:?}", $v1);
        ⟦ // println!("$s2");⟧
        ⟦1: $v1.len() // $v1.len() // $v1 * $k1⟧
    });
    ⟦println!("{}", $v2.join().unwrap()); // let $v3 = $v2.join().unwrap();
    println!("{}", $v3);⟧
}
""",
)
_closure(
    "Print ⟦1: $n1 plus // $n1 times // $n1 less⟧ $n2 with the closure from $f1.",
    """
fn $f1($v1: ⟦3: i32 // i64⟧) -> ⟦2: impl Fn(⟦3: i32 // i64⟧) -> ⟦3: i32 // i64⟧ // \
        Box<dyn Fn(⟦3: i32 // i64⟧) -> ⟦3: i32 // i64⟧>⟧ {
    ⟦2: «⇒move »|x| // Box::new(«⇒move »|x|⟧ x ⟦1: + // * // -⟧ $v1⟦2: // )⟧
}
fn main() {
    let $v2 = $f1($n2);
    println!("{}", $v2($n1));
    ⟦ // println!("{}", $v2($k1));⟧
}
""",
)
_closure(
    "Print the ⟦1: greeting // length // check⟧ that the closure of $f1 gives.",
    """
fn $f1($v1: String) -> impl Fn(&str) -> ⟦1: String // usize // bool⟧ {
    ⟦ // println!("{}", $v1);⟧
    «⇒move »|x| ⟦1: format!("{} {}", $v1, x) // $v1.len() + x.len() // x.starts_with(&$v1)⟧
}
fn main() {
    let $v2 = $f1(⟦String::from("$s1") // "$s1".to_string()⟧);
    println!("{}", $v2("$s2"));
    ⟦ // println!("{}", $v2("$s3"));⟧
}
""",
)
_closure(
    "Print the numbers of $p2 that $f1 ⟦1: keeps // changes⟧.",
    """
fn $f1($p1: Vec<i32>, $v1: i32) -> impl Iterator<Item = i32> {
    $p1.into_iter().⟦1: filter(«⇒move »|x| *x ⟦> // < // !=⟧ $v1) // map(«⇒move »|x| x ⟦+ // * // -⟧ $v1)⟧
}
fn main() {
    let $p2 = vec![$n1, $n2, $n3];
    ⟦for $v2 in $f1($p2, $n4) {
        println!("{}", $v2);
    } // let $v3: Vec<i32> = $f1($p2, $n4).collect();
    println!("{:?}", $v3); // println!("{}", $f1($p2, $n4).sum::<i32>());⟧
}
""",
)
_closure(
    "Let the threads in $p1 compute numbers and print them in order.",
    """
use std::thread;
fn main() {
    let mut $p1 = Vec::new();
    for $v1 in 0..⟦2 // 3⟧ {
        ⟦1: // let $v2 = $v1 + $n1;⟧
        $p1.push(thread::spawn(«⇒move »|| ⟦1: $v1 // $v2⟧ ⟦+ // *⟧ $k1));
    }
    for $v3 in $p1 {
        println!("{}", $v3.join().unwrap());
    }
}
""",
)

_partial = stencils("partial_move", "ownership", "E0382")

_partial(
    "Take the $v1 of $v3 as $v4, then print $v4 and $v3.",
    """
#[derive(Debug)]
struct $T1 {
    $v1: ⟦1: String // Vec<u32>⟧,
    $v2: ⟦2: u32 // bool // String⟧,
}
fn main() {
    let $v5 = ⟦1: String::from("$s1") // vec![$n1, $n2]⟧;
    let $v3 = $T1 { $v1: $v5, $v2: ⟦2: $n3 // true // "$s2".to_string()⟧ };
    let $v4 = $v3.$v1«⇒.clone()»;
    ⟦println!("{:?} {:?}", $v4, $v3); // println!("{:?}", $v4);
    println!("{:?}", $v3);⟧
}
""",
)
_partial(
    "Take $v1 from $v3, then print it and what $f1 gives.",
    """
struct $T1 {
    $v1: ⟦1: String // Vec<i32>⟧,
    $v2: u32,
}
fn $f1($v5: &$T1) -> ⟦2: u32 // usize⟧ {
    ⟦2: $v5.$v2 ⟦+ // *⟧ $k1 // $v5.$v1.len() + $k1⟧
}
fn main() {
    let $v3 = $T1 { $v1: ⟦1: String::from("$s1") // vec![$n1]⟧, $v2: $n2 };
    let $v4 = $v3.$v1«⇒.clone()»;
    println!("{:?}", $v4);
    println!("{}", $f1(&$v3));
}
""",
)
_partial(
    "Take one part of the tuple $v1 as $v2 and print both.",
    """
fn main() {
    let $v1 = (⟦2: $n1, // ⟧ ⟦1: String::from("$s1") // vec![$n2, $n3]⟧⟦2: // , ⟦$n1 // true // "$s3"⟧⟧);
    let ⟦3: // mut⟧ $v2 = $v1.⟦2: 1 // 0⟧«⇒.clone()»;
    ⟦3: // $v2.⟦1: push_str("$s2") // push($k1)⟧;⟧
    ⟦println!("{:?} {:?}", $v2, $v1); // println!("{:?}", $v2);
    println!("{:?}", $v1);⟧
}
""",
)
_partial(
    "Give the $v1 of $v3 to $v5, then print both with $f1.",
    """
struct $T1 {
    $v1: ⟦1: String // Vec<u32>⟧,
    ⟦2: // $v2: i32,⟧
}
impl $T1 {
    fn $f1(&self) -> usize {
        self.$v1.len() ⟦ // + $k1⟧
    }
}
fn main() {
    let $v3 = $T1 { $v1: ⟦1: String::from("$s1") // vec![$n1, $n2]⟧⟦2: // , $v2: $n3⟧ };
    let $v5 = $T1 { $v1: $v3.$v1«⇒.clone()»⟦2: // , $v2: $k2⟧ };
    println!("{} {}", $v3.$f1(), $v5.$f1());
}
""",
)
_partial(
    "Put the $v1 of $v3 into $p1, then print $p1 and $v3.",
    """
#[derive(Debug)]
struct $T1 {
    $v1: String,
    ⟦2: // $v2: ⟦u32 // i64⟧,⟧
}
fn main() {
    let $v3 = $T1 { $v1: ⟦String::from("$s1") // "$s1".to_string()⟧⟦2: // , $v2: $n1⟧ };
    let ⟦1: mut $p1 = Vec::new(); // $p1 = vec![$v3.$v1«⇒.clone()»];⟧
    ⟦1: $p1.push($v3.$v1«⇒.clone()»); // ⟧
    println!("{:?}", $p1);
    println!("{:?}", $v3);
}
""",
)

_loop = stencils("consumed_by_loop", "ownership", "E0382")

_loop(
    "Print each ⟦1: number // word⟧ of $p1, then how many there are.",
    """
fn main() {
    let $p1 = vec![⟦1: $n1, $n2, $n3 // "$s1", "$s2"⟧];
    for $v1 in «⇒&»$p1 {
        println!("⟦{} // $s3 {}⟧", $v1);
        ⟦ // println!("$s4");⟧
    }
    ⟦println!("{}", $p1.len()); // println!("{:?}", $p1); // println!("{} {:?}", $p1.len(), $p1);⟧
}
""",
)
_loop(
    "Print the ⟦1: sum // changed sum⟧ of $p1, then $p1.",
    """
fn main() {
    let $p1⟦ // : Vec<i32>⟧ = vec![$n1, $n2, $n3];
    let mut $v1 = 0;
    for $v2 in «⇒&»$p1 {
        $v1 += $v2 ⟦1: // ⟦+ // *⟧ $k1⟧;
    }
    ⟦println!("{} {:?}", $v1, $p1); // println!("{}", $v1);
    println!("{:?}", $p1); // println!("{} {}", $v1, $p1.len());⟧
}
""",
)
_loop(
    "Print the total length of $p1, then the ⟦1: words // first word⟧.",
    """
fn $f1($v3: &str) -> usize {
    $v3.len() ⟦ // + $k1 // * $k1⟧
}
fn main() {
    let $p1 = vec![String::from("$s1"), ⟦String::from("$s2") // "$s2".to_string()⟧];
    let mut $v1 = 0;
    for $v2 in «⇒&»$p1 {
        $v1 += $f1(⟦&$v2 // $v2.as_str()⟧);
    }
    println!("{}", $v1);
    println!("⟦1: {:?} // {}⟧", $p1⟦1: // [0]⟧);
}
""",
)
_loop(
    "Print the $v1 of each $T1 in $p1, then their number.",
    """
struct $T1 {
    $v1: ⟦1: u32 // String // f64⟧,
}
fn main() {
    ⟦2: let $v3 = $T1 { $v1: ⟦1: $n1 // String::from("$s1") // $n1.5⟧ }; // ⟧
    let $p1 = vec![⟦2: $v3 // $T1 { $v1: ⟦1: $n1 // String::from("$s1") // $n1.5⟧ }⟧];
    for $v2 in «⇒&»$p1 {
        println!("{}", $v2.$v1);
        ⟦ // println!("$s2");⟧
    }
    println!("⟦{} // $s3 {}⟧", $p1.len());
}
""",
)
_loop(
    "Print the ⟦1: sum // largest // number⟧ of $p1, then $p1.",
    """
fn main() {
    let $p1⟦ // : Vec<u32>⟧ = vec![$n1, $n2⟦ // , $n3⟧];
    let $v1⟦1: : u32 // // ⟧ = $p1.«into_iter⇒iter»().⟦1: sum() // max() // count()⟧;
    println!("{:?}", $v1);
    ⟦println!("{:?}", $p1); // println!("{}", $p1.len()); // for $v2 in $p1 {
        println!("{}", $v2);
    }⟧
}
""",
)

_method = stencils("consuming_method", "ownership", "E0382")

_method(
    "Print what $f1 gives for $v3, then the $v1 of $v3.",
    """
struct $T1 {
    $v1: ⟦1: u32 // f64 // String⟧,
    ⟦2: // $v2: u8,⟧
}
impl $T1 {
    fn $f1(«⇒&»self) -> ⟦1: u32 // f64 // usize⟧ {
        ⟦1: self.$v1 * $k1 // self.$v1 + $k1.5 // self.$v1.len()⟧
    }
}
fn main() {
    let $v3 = $T1 { $v1: ⟦1: $n1 // $n1.5 // String::from("$s1")⟧⟦2: // , $v2: $k2⟧ };
    println!("{}", $v3.$f1());
    println!("{}", $v3.$v1);
}
""",
)
_method(
    "Call $f1 of $v3 ⟦1: twice // three times⟧.",
    """
struct $T1 {
    $v1: ⟦3: u32 // String⟧,
}
impl $T1 {
    fn $f1(«⇒&»self⟦2: // , $v2: u32⟧) {
        println!("{}⟦2: // -{}⟧", self.$v1⟦2: // , $v2⟧);
        ⟦ // println!("$s1");⟧
    }
}
fn main() {
    let $v3 = $T1 { $v1: ⟦3: $n1 // String::from("$s2")⟧ };
    $v3.$f1(⟦2: // $k1⟧);
    $v3.$f1(⟦2: // $k2⟧);
    ⟦1: // $v3.$f1(⟦2: // $k3⟧);⟧
}
""",
)
_method(
    "Print what $f1 and $f2 give for $v3.",
    """
struct $T1 {
    $v1: ⟦3: u32 // i64⟧,
}
impl $T1 {
    fn $f1(«⇒&»self) -> ⟦3: u32 // i64⟧ {
        self.$v1 ⟦+ // *⟧ $k2
    }
    fn $f2(&self) -> ⟦1: bool // ⟦3: u32 // i64⟧⟧ {
        self.$v1 ⟦1: ⟦> // <⟧ // ⟦+ // *⟧⟧ $k1
    }
}
fn main() {
    let $v3 = $T1 { $v1: $n1 };
    println!("{}", $v3.$f1());
    println!("{}", $v3.$f2());
}
""",
)
_method(
    "Print the size of $v3 with $f1, then its $p1.",
    """
struct $T1 {
    $p1: Vec<⟦1: i32 // String // &'static str⟧>,
}
impl $T1 {
    fn $f1(«⇒&»self) -> ⟦2: usize // bool⟧ {
        self.$p1.⟦2: len() // is_empty()⟧ ⟦2: ⟦ // + $k1⟧ // ⟧
    }
}
fn main() {
    let $v3 = $T1 { $p1: vec![⟦1: $n1, $n2 // String::from("$s1") // "$s1", "$s2"⟧] };
    ⟦println!("{}", $v3.$f1()); // let $v4 = $v3.$f1();
    println!("{}", $v4);⟧
    println!("{:?}", $v3.$p1);
}
""",
)
_method(
    "Print for $v2 what $f1 gives, then whether it is ⟦1: On // Off⟧.",
    """
enum $T1 {
    ⟦2: On // Off⟧,
    ⟦2: Off // On⟧,
}
impl $T1 {
    fn $f1(«⇒&»self) -> ⟦4: u32 // &'static str⟧ {
        match self {
            $T1::On => ⟦4: $k1 // "$s1"⟧,
            ⟦_ // $T1::Off⟧ => ⟦4: $n1 // "$s2"⟧,
        }
    }
}
fn main() {
    let $v2 = $T1::⟦On // Off⟧;
    println!("{}", $v2.$f1());
    println!("{}", matches!($v2, $T1::⟦1: On // Off⟧));
}
""",
)

_borrowed = stencils("move_while_borrowed", "ownership", "E0505")

_borrowed(
    "Print what $f1 gives for $v2, then $v3, a view of $v2.",
    """
fn $f1($v1: ⟦1: String // Vec<u32>⟧) -> usize {
    $v1.len() ⟦ // + $k1 // * $k1⟧
}
fn main() {
    let $v2 = ⟦1: String::from("$s1") // vec![$n1, $n2]⟧;
    let $v3 = ⟦&$v2 // &$v2[1..] // $v2.⟦1: as_str() // as_slice()⟧⟧;
    println!("{}", $f1($v2«⇒.clone()»));
    println!("{:?}", $v3);
}
""",
)
_borrowed(
    "Let $v2 look at $v1, put $v1 into $p1, print $v2 and $p1.",
    """
fn main() {
    let $v1 = ⟦1: String::from("$s1") // vec![$n1, $n2]⟧;
    let $v2 = &$v1;
    let ⟦2: mut $p1 = Vec::new(); // $p1 = vec![$v1«⇒.clone()»];⟧
    ⟦2: $p1.push($v1«⇒.clone()»); // ⟧
    ⟦println!("{:?} {:?}", $v2, $p1); // println!("{:?}", $v2);
    println!("{:?}", $p1); // println!("{:?} {}", $v2, $p1.len());⟧
}
""",
)
_borrowed(
    "Build $v4 from $v2 while $v3 refers to $v2; print both.",
    """
struct $T1 {
    $v1: ⟦1: String // Vec<i32>⟧,
    ⟦2: // $v5: u32,⟧
}
fn main() {
    let $v2 = ⟦1: String::from("$s1") // vec![$n1, $n2]⟧;
    let $v3 = &$v2⟦3: // [⟦0..1 // 1..⟧]⟧;
    let $v4 = $T1 { $v1: $v2«⇒.clone()»⟦2: // , $v5: $n3⟧ };
    println!("{:?} {:?}", $v3, $v4.$v1);
    ⟦2: // println!("{}", $v4.$v5);⟧
}
""",
)
_borrowed(
    "Keep one value of $p1 in $v1, let $f1 use up $p1, print both.",
    """
fn $f1($p2: Vec<⟦1: i32 // &str⟧>) -> usize {
    ⟦ // println!("{:?}", $p2);⟧
    $p2.len() ⟦ // + $k1⟧
}
fn main() {
    let $p1 = vec![⟦1: $n1, $n2 // "$s1", "$s2"⟧];
    let $v1 = ⟦&$p1[0] // $p1.first() // $p1.last() // $p1.iter().max()⟧;
    let $v2 = $f1($p1«⇒.clone()»);
    println!("{:?} {}", $v1, $v2);
}
""",
)
_borrowed(
    "Keep the $v1 of $v3 in $v4, let $f1 use up $v3, print $v4.",
    """
#[derive(Clone)]
struct $T1 {
    $v1: ⟦1: String // u32⟧,
    ⟦2: // $v2: bool,⟧
}
fn $f1($v5: $T1) {
    println!("{}", $v5.$v1);
    ⟦2: // println!("{}", $v5.$v2);⟧
}
fn main() {
    let $v3 = $T1 { $v1: ⟦1: String::from("$s1") // $n1⟧⟦2: // , $v2: true⟧ };
    let $v4 = &$v3.$v1;
    $f1($v3«⇒.clone()»);
    println!("⟦{} // $s2 {}⟧", $v4);
}
""",
)

_match = stencils("moved_by_match", "ownership", "E0382")

_match(
    "Print the value in $v1 if there is one, then $v1.",
    """
fn main() {
    let $v1 = Some(⟦1: String::from("$s1") // vec![$n1, $n2]⟧);
    if let Some(x) = «⇒&»$v1 {
        println!("⟦2: {:?} // {}⟧", x⟦2: // .len()⟧);
    } ⟦ // else {
        println!("$s2");
    }⟧
    ⟦println!("{:?}", $v1); // println!("{}", $v1.is_some());⟧
}
""",
)
_match(
    "Print the length of the value in $v1, then $v1.",
    """
fn main() {
    let $v1⟦2: // : Option<⟦1: String // Vec<i32>⟧>⟧ = Some(⟦1: String::from("$s1") // vec![$n1, $n2]⟧);
    ⟦3: // let $v2 =⟧ match «⇒&»$v1 {
        Some(x) => ⟦3: println!("{}", x.len()) // x.len()⟧,
        None => ⟦3: println!("$s2") // $k1⟧,
    }⟦3: // ;
    println!("{}", $v2);⟧
    println!("{:?}", $v1);
}
""",
)
_match(
    "Print what is in $v2, then whether it is a $T1 with text.",
    """
enum $T1 {
    Text(String),
    ⟦1: Number(u32) // Empty // List(Vec<i32>)⟧,
}
fn main() {
    let $v2 = $T1::Text(⟦String::from("$s1") // "$s1".to_string()⟧);
    match «⇒&»$v2 {
        $T1::Text(x) => println!("{}", x⟦ // .len()⟧),
        $T1::⟦1: Number(n) => println!("{}", n) // Empty => println!("$s2") // \
        List(n) => println!("{:?}", n)⟧,
    }
    println!("{}", matches!($v2, $T1::Text(_)));
}
""",
)
_match(
    "Print the $v1 of $v3 if it has one, then what $f1 gives.",
    """
struct $T1 {
    $v1: Option<⟦1: String // Vec<u32>⟧>,
    $v2: ⟦u32 // i32⟧,
}
fn $f1($v5: &$T1) -> bool {
    ⟦$v5.$v2 > $n3 // $v5.$v1.is_some()⟧
}
fn main() {
    let $v3 = $T1 { $v1: Some(⟦1: String::from("$s1") // vec![$n1]⟧), $v2: $n2 };
    if let Some(x) = «⇒&»$v3.$v1 {
        println!("{:?}", x);
    }
    println!("{}", $f1(&$v3));
}
""",
)
_match(
    "Print the text or the error in $v2, then $v2.",
    """
fn $f1($v1: ⟦1: u32 // i32⟧) -> Result<⟦2: String // Vec<⟦1: u32 // i32⟧>⟧, String> {
    if $v1 > $n1 {
        return Err(String::from("$s1"));
    }
    Ok(⟦2: format!("$s2{}", $v1) // vec![$v1, $k1]⟧)
}
fn main() {
    let $v2 = $f1($n2);
    match «⇒&»$v2 {
        Ok(x) => println!("{:?}", x),
        Err(e) => println!("⟦{} // $s3 {}⟧", e),
    }
    println!("{:?}", $v2);
}
""",
)
