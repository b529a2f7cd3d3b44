"""Borrow checker: uses after moves, conflicting borrows, missing `mut`, missing first values."""

from __future__ import annotations

from sleepy_coder.tasks.koans.stencil import stencils

_use_after_move = stencils("use_after_move", "borrow_checker", "E0382")

_use_after_move(
    "Print what $f1 gives for $v2, then $v2 itself.",
    """
fn $f1($v1: ⟦1: String // Vec<i32>⟧) -> usize {
    ⟦$v1.len() // $v1.len() + $k1 // $v1.len() * $k1⟧
}
fn main() {
    let $v2 = ⟦1: String::from("$s1") // vec![$n1, $n2, $n3]⟧;
    ⟦println!("{}", $f1(«$v2⇒$v2.clone()»)); // let $v3 = $f1(«$v2⇒$v2.clone()»);
    println!("{}", $v3);⟧
    println!("⟦1: {} // {:?}⟧", $v2);
}
""",
)
_use_after_move(
    "Put $v1 into $p1, then print both.",
    """
fn main() {
    let $v1 = ⟦String::from("$s1") // "$s1".to_string() // format!("$s1{}", $n1)⟧;
    ⟦let mut $p1 = Vec::new(); // let mut $p1: Vec<String> = Vec::new(); // \
        let mut $p1 = vec![String::from("$s2")];⟧
    $p1.push(«$v1⇒$v1.clone()»);
    ⟦ // $p1.push(String::from("$s3"));⟧
    println!("⟦1: {} {} // {} {:?}⟧", $v1, $p1⟦1: .len() // ⟧);
}
""",
)
_use_after_move(
    "Build $v3 from $v4, then print $v4 and the $v1 of $v3.",
    """
struct $T1 {
    $v1: ⟦1: String // Vec<u32>⟧,
    ⟦2: // $v2: u32, // $v2: bool,⟧
}
fn main() {
    let $v4 = ⟦1: String::from("$s1") // vec![$n1, $n2]⟧;
    let $v3 = $T1 { $v1: «$v4⇒$v4.clone()»⟦2: // , $v2: $n3 // , $v2: true⟧ };
    println!("⟦1: {} // {:?}⟧", $v4);
    println!("{}", $v3.$v1.len());
    ⟦2: // println!("{}", $v3.$v2); // println!("{}", $v3.$v2);⟧
}
""",
)
_use_after_move(
    "Copy $v1 into $v2, change $v2, then print both.",
    """
fn main() {
    let $v1 = ⟦1: String::from("$s1") // vec![$n1, $n2]⟧;
    let mut $v2 = «$v1⇒$v1.clone()»;
    $v2.⟦1: push_str("$s2") // push($n3)⟧;
    ⟦ // $v2.⟦1: push('x') // push($k1)⟧;⟧
    ⟦println!("{:?} {:?}", $v1, $v2); // println!("{:?}", $v1);
    println!("{:?}", $v2);⟧
}
""",
)
_use_after_move(
    "Make ⟦1: a pair // an option⟧ $v2 with $v1 in it and print both.",
    """
fn main() {
    let $v1 = ⟦String::from("$s1") // vec![$n1, $n2] // vec!["$s1", "$s2"]⟧;
    let $v2 = ⟦1: («$v1⇒$v1.clone()», $n3) // Some(«$v1⇒$v1.clone()»)⟧;
    ⟦ // let $v3 = $n4;
    println!("{}", $v3);⟧
    println!("{:?}", $v2);
    ⟦println!("{:?}", $v1); // println!("{}", $v1.len());⟧
}
""",
)
_use_after_move(
    "Let $f1 join $v1 and $v2, print it, then print ⟦1: $v1 // $v2⟧.",
    """
fn $f1($v3: String, $v4: String) -> String {
    ⟦format!("{} {}", $v3, $v4) // format!("{}{}", $v4, $v3) // $v3 + &$v4⟧
}
fn main() {
    let $v1 = String::from("$s1");
    let $v2 = String::from("$s2");
    let $v5 = $f1(⟦1: «$v1⇒$v1.clone()», $v2 // $v1, «$v2⇒$v2.clone()»⟧);
    println!("{}", $v5);
    println!("{}", ⟦1: $v1 // $v2⟧⟦ // .len()⟧);
}
""",
)

_mutable_twice = stencils("borrow_mutable_twice", "borrow_checker", "E0499")

_mutable_twice(
    "Add to $v1 through $v2, then through $v3, and print it.",
    """
fn main() {
    let mut $v1 = ⟦1: vec![$n1] // String::from("$s1") // Vec::new()⟧;
    let $v2 = &mut $v1;
    «let $v3 = &mut $v1;
    ⇒»$v2.⟦1: push($n2) // push_str("$s2") // push($k1)⟧;
    «⇒let $v3 = &mut $v1;
    »$v3.⟦1: push($n3) // push_str("$s3") // push($k2)⟧;
    ⟦println!("{:?}", $v1); // println!("{:?} {}", $v1, $v1.len());⟧
}
""",
)
_mutable_twice(
    "Change $v1 through $v2, then through $v3, and print it.",
    """
fn main() {
    let mut $v1⟦ // : u64 // : i32⟧ = $n1;
    let $v2 = &mut $v1;
    «let $v3 = &mut $v1;
    ⇒»*$v2 ⟦+= $n2 // *= $k1 // = $n2⟧;
    «⇒let $v3 = &mut $v1;
    »*$v3 ⟦+= $n3 // *= $k2 // += $k2⟧;
    ⟦ // $v1 += $k3;⟧
    println!("{}", $v1);
}
""",
)
_mutable_twice(
    "Let $f1 change $v2 twice, first through $v3, then $v4.",
    """
fn $f1($v1: &mut ⟦1: i32 // String // Vec<u32>⟧) {
    ⟦1: *$v1 += $k1 // $v1.push_str("$s1") // $v1.push($k1)⟧;
}
fn main() {
    let mut $v2 = ⟦1: $n1 // String::from("$s2") // vec![$n1, $n2]⟧;
    let $v3 = &mut $v2;
    «let $v4 = &mut $v2;
    ⇒»$f1($v3);
    «⇒let $v4 = &mut $v2;
    »$f1($v4);
    println!("{:?}", $v2);
}
""",
)
_mutable_twice(
    "Change the $v1 of $v4 through $v2, then $v3, and print it.",
    """
struct $T1 {
    $v1: ⟦u32 // i32 // u64⟧,
    ⟦2: // $v5: bool,⟧
}
fn main() {
    let mut $v4 = $T1 { $v1: $n1⟦2: // , $v5: true⟧ };
    let $v2 = &mut $v4⟦3: // .$v1⟧;
    «let $v3 = &mut $v4⟦3: // .$v1⟧;
    ⇒»⟦3: $v2.$v1 // *$v2⟧ += $n2;
    «⇒let $v3 = &mut $v4⟦3: // .$v1⟧;
    »⟦3: $v3.$v1 // *$v3⟧ ⟦+= $n3 // *= $k1⟧;
    println!("{}", $v4.$v1);
    ⟦2: // println!("{}", $v4.$v5);⟧
}
""",
)
_mutable_twice(
    "Change two places in $p1 through $v1 and $v2, then print it.",
    """
fn main() {
    let mut $p1 = vec![$n1, $n2, $n3⟦ // , $n4⟧];
    let $v1 = &mut $p1[0];
    «let $v2 = &mut $p1[⟦1: 1 // 2⟧];
    ⇒»*$v1 ⟦+= $k1 // = $n5 // *= $k1⟧;
    «⇒let $v2 = &mut $p1[⟦1: 1 // 2⟧];
    »*$v2 ⟦+= $k2 // = $n6 // *= $k2⟧;
    ⟦println!("{:?}", $p1); // println!("{} {}", $p1[0], $p1[1]);⟧
}
""",
)
_mutable_twice(
    "Change $v1 of $v4 through $f1 twice and print it.",
    """
struct $T1 {
    $v1: ⟦1: u32 // i64⟧,
}
impl $T1 {
    fn $f1(&mut self) -> &mut ⟦1: u32 // i64⟧ {
        &mut self.$v1
    }
}
fn main() {
    let mut $v4 = $T1 { $v1: $n1 };
    let $v2 = $v4.$f1();
    «let $v3 = $v4.$f1();
    ⇒»*$v2 ⟦+= $n2 // = $n2 // *= $k1⟧;
    «⇒let $v3 = $v4.$f1();
    »*$v3 ⟦+= $n3 // *= $k2⟧;
    println!("{}", $v4.$v1);
}
""",
)

_while_borrowed = stencils("mutable_while_borrowed", "borrow_checker", "E0502")

_while_borrowed(
    "Remember one value of $p1 in $v1, grow $p1, print $v1.",
    """
fn main() {
    let mut $p1 = vec![$n1, $n2⟦ // , $n3⟧];
    let $v1 = «&⇒»$p1[⟦0 // 1⟧];
    ⟦$p1.push($n4); // $p1.push($n4);
    $p1.push($n5); // $p1.clear(); // $p1.insert(0, $n4);⟧
    println!("{}", $v1);
    ⟦ // println!("{:?}", $p1); // println!("{}", $p1.len());⟧
}
""",
)
_while_borrowed(
    "Keep the old $v1 in $v2, let $f1 change $v3, print $v2.",
    """
struct $T1 {
    $v1: ⟦1: u32 // f64 // i64⟧,
}
impl $T1 {
    fn $f1(&mut self⟦2: // , $v4: ⟦1: u32 // f64 // i64⟧⟧) {
        self.$v1 += ⟦2: ⟦1: $k1 // $k1.5 // $k1⟧ // $v4⟧;
    }
}
fn main() {
    let mut $v3 = $T1 { $v1: ⟦1: $n1 // $n1.5 // $n1⟧ };
    let $v2 = «&⇒»$v3.$v1;
    $v3.$f1(⟦2: // ⟦1: $k2 // $k2.5 // $k2⟧⟧);
    println!("⟦3: {} // {} {}⟧", $v2⟦3: // , $v3.$v1⟧);
}
""",
)
_while_borrowed(
    "Keep the first entry of $p1 in $v1, change $p1, print both.",
    """
fn main() {
    let mut $p1 = vec![String::from("$s1")⟦ // , String::from("$s2")⟧];
    let $v1 = «&$p1[0]⇒$p1[0].clone()»;
    $p1⟦.push(String::from("$s3")) // .clear() // .insert(0, "$s3".to_string())⟧;
    println!("{}", $v1);
    println!("{}", $p1.len());
}
""",
)
_while_borrowed(
    "Keep $v1 as it is in $v2, change $v1, print both.",
    """
fn main() {
    let mut $v1 = ⟦1: String::from("$s1") // vec![$n1, $n2] // vec!["$s1"]⟧;
    let $v2 = «&$v1⇒$v1.clone()»;
    ⟦1: $v1.push_str("$s2") // $v1.push($n3) // $v1.push("$s2")⟧;
    ⟦ // $v1.⟦1: push('x') // push($k1) // push("$s3")⟧;⟧
    ⟦println!("{:?} {:?}", $v2, $v1); // println!("{:?}", $v2);
    println!("{:?}", $v1);⟧
}
""",
)
_while_borrowed(
    "Let $f1 change $p1 for each of its own values, print it.",
    """
fn $f1($v2: &mut Vec<⟦1: i32 // u64⟧>, $v3: ⟦1: i32 // u64⟧) {
    $v2.push($v3 ⟦+ // *⟧ $k1);
}
fn main() {
    let mut $p1 = vec![$n1, $n2⟦ // , $n3⟧];
    for $v1 in «&$p1⇒$p1.clone()» {
        $f1(&mut $p1, «*⇒»$v1);
    }
    ⟦println!("{:?}", $p1); // println!("{}", $p1.len()); // println!("{}", $p1[2]);⟧
}
""",
)
_while_borrowed(
    "Let $f1 change $v3 while $v2 keeps the old value; print both.",
    """
fn $f1($v1: &mut ⟦i32 // u32 // i64⟧) {
    *$v1 ⟦+= $n1 // *= $k1 // = $n1⟧;
}
fn main() {
    let mut $v3 = $n2;
    let $v2 = «&⇒»$v3;
    $f1(&mut $v3);
    ⟦ // $f1(&mut $v3);⟧
    println!("{} {}", ⟦$v2, $v3 // $v3, $v2⟧);
}
""",
)

_assign_immutable = stencils("assign_immutable", "borrow_checker", "E0384")

_assign_immutable(
    "Add up the numbers of $p1 in $v1 and print $v1.",
    """
fn main() {
    let $p1 = ⟦1: vec![$n1, $n2, $n3] // [$n1, $n2, $n3] // vec![$n1.5, $n2.5]⟧;
    let «⇒mut »$v1 = ⟦1: 0 // 0 // 0.0⟧;
    for $v2 in ⟦&$p1 // $p1.iter()⟧ {
        $v1 += *$v2;
        ⟦ // println!("{}", $v2);⟧
    }
    println!("⟦3: {} // {} {}⟧", $v1⟦3: // , $p1.len()⟧);
}
""",
)
_assign_immutable(
    "Count $v1 ⟦1: up // down⟧ while it is ⟦1: below // above⟧ the bound, then print it.",
    """
fn main() {
    let «⇒mut »$v1⟦ // : i32 // : i64⟧ = ⟦1: 0 // 9$k1⟧;
    ⟦2: // let $v2 = $n1;⟧
    while $v1 ⟦1: < // >⟧ ⟦2: $n1 // $v2⟧ {
        $v1 ⟦1: += // -=⟧ ⟦$k2 // 1⟧;
        ⟦ // println!("{}", $v1);⟧
    }
    println!("{}", $v1);
}
""",
)
_assign_immutable(
    "Set $v1 to another value when $v2 is ⟦1: large // small⟧, then print it.",
    """
fn main() {
    let $v2 = $n1;
    let «⇒mut »$v1 = ⟦2: "$s1" // String::from("$s1") // $n2 // true⟧;
    ⟦ // println!("{}", $v1);⟧
    if $v2 ⟦1: > // <⟧ $n3 {
        $v1 = ⟦2: "$s2" // String::from("$s2") // $n4 // false⟧;
    }
    println!("⟦3: {} // {} {}⟧", $v1⟦3: // , $v2⟧);
}
""",
)
_assign_immutable(
    "Let $f1 change its parameter $v1 and print what it gives.",
    """
fn $f1(«⇒mut »$v1: ⟦1: i32 // u64 // f64⟧) -> ⟦1: i32 // u64 // f64⟧ {
    ⟦$v1 += ⟦1: $k1 // $k1 // $k1.5⟧; // if $v1 > ⟦1: $n1 // $n1 // $n1.0⟧ {
        $v1 = ⟦1: $n1 // $n1 // $n1.0⟧;
    } // $v1 = $v1 * ⟦1: $k1 // $k1 // $k1.5⟧;⟧
    $v1 ⟦ // + ⟦1: $k2 // $k2 // 0.5⟧⟧
}
fn main() {
    println!("{}", $f1(⟦1: $n2 // $n2 // $n2.5⟧));
    ⟦ // println!("{}", $f1(⟦1: $n3 // $n3 // $n3.5⟧));⟧
}
""",
)
_assign_immutable(
    "Find the ⟦1: largest // smallest⟧ of $p1 in $v1 and print it.",
    """
fn $f1($p1: ⟦&[i32] // &Vec<i32>⟧) -> i32 {
    let «⇒mut »$v1 = $p1[0];
    for $v2 in ⟦$p1 // $p1.iter()⟧ {
        if *$v2 ⟦1: > // <⟧ $v1 {
            $v1 = *$v2;
        }
    }
    $v1
}
fn main() {
    ⟦println!("{}", $f1(&vec![$n1, $n2, $n3])); // let $p2 = vec![$n1, $n2, $n3];
    println!("{}", $f1(&$p2));⟧
}
""",
)
_assign_immutable(
    "Print $v1, change it with $f1, print it again.",
    """
fn $f1($v2: ⟦1: u32 // i64 // &str⟧) -> ⟦1: u32 // i64 // String⟧ {
    ⟦1: $v2 * $k1 + $k2 // $v2 - $n1 // format!("{}-$s1", $v2)⟧
}
fn main() {
    let «⇒mut »$v1 = ⟦1: $n2 // $n2 // String::from("$s2")⟧;
    println!("⟦{} // $s3 {}⟧", $v1);
    $v1 = $f1(⟦1: $v1 // $v1 // &$v1⟧);
    ⟦ // $v1 = $f1(⟦1: $v1 // $v1 // &$v1⟧);⟧
    println!("{}", $v1);
}
""",
)

_borrow_as_mutable = stencils("borrow_immutable_as_mutable", "borrow_checker", "E0596")

_borrow_as_mutable(
    "Add ⟦1: numbers // words // text⟧ to $p1, then print it.",
    """
fn main() {
    let «⇒mut »$p1 = ⟦1: vec![$n1] // Vec::new() // String::from("$s1")⟧;
    $p1.⟦1: push($n2) // push("$s2") // push_str("$s2")⟧;
    ⟦ // $p1.⟦1: push($n3) // push("$s3") // push('z')⟧;⟧
    ⟦println!("{:?}", $p1); // println!("{:?} {}", $p1, $p1.len());⟧
}
""",
)
_borrow_as_mutable(
    "Let $f1 change $v2, then print $v2.",
    """
fn $f1($v1: &mut ⟦1: i32 // Vec<u32> // String⟧) {
    ⟦1: *$v1 += $k1 // $v1.push($k1) // $v1.push_str("$s1")⟧;
}
fn main() {
    let «⇒mut »$v2 = ⟦1: $n1 // vec![$n1, $n2] // String::from("$s2")⟧;
    $f1(&mut $v2);
    ⟦ // $f1(&mut $v2);⟧
    println!("{:?}", $v2);
}
""",
)
_borrow_as_mutable(
    "Call $f1 on $v3 ⟦4: once // twice⟧ and print its $v1.",
    """
struct $T1 {
    $v1: ⟦1: u32 // f64 // i64⟧,
    ⟦2: // $v4: String,⟧
}
impl $T1 {
    fn $f1(&mut self) {
        self.$v1 += ⟦1: $k1 // $k1.5 // $k1⟧;
    }
}
fn main() {
    let «⇒mut »$v3 = $T1 { $v1: ⟦1: $n1 // $n1.5 // $n1⟧⟦2: // , $v4: String::from("$s1")⟧ };
    $v3.$f1();
    ⟦4: // $v3.$f1();⟧
    println!("{}", $v3.$v1);
    ⟦2: // println!("{}", $v3.$v4);⟧
}
""",
)
_borrow_as_mutable(
    "$f1 adds to $p1 of $v3; print $p1 afterwards.",
    """
struct $T1 {
    $p1: Vec<⟦1: i32 // String⟧>,
}
impl $T1 {
    fn $f1(&«⇒mut »self, $v1: ⟦1: i32 // String⟧) {
        self.$p1.push($v1);
    }
}
fn main() {
    let mut $v3 = $T1 { $p1: ⟦Vec::new() // vec![]⟧ };
    $v3.$f1(⟦1: $n1 // String::from("$s1")⟧);
    ⟦ // $v3.$f1(⟦1: $n2 // String::from("$s2")⟧);⟧
    println!("{:?}", $v3.$p1);
}
""",
)
_borrow_as_mutable(
    "Let $f1 add a ⟦1: number // word⟧ to $p2, then print $p2.",
    """
fn $f1($p1: &«⇒mut »⟦1: Vec<i32> // String⟧⟦2: // , $v1: ⟦1: i32 // &str⟧⟧) {
    $p1.⟦1: push // push_str⟧(⟦2: ⟦1: $n1 // "$s1"⟧ // $v1⟧);
}
fn main() {
    let mut $p2 = ⟦1: vec![$n2, $n3] // String::from("$s2")⟧;
    $f1(&«⇒mut »$p2⟦2: // , ⟦1: $n4 // "$s3"⟧⟧);
    println!("⟦3: {:?} // {:?} {}⟧", $p2⟦3: // , $p2.len()⟧);
}
""",
)
_borrow_as_mutable(
    "Change all values of $p1 and print the result.",
    """
fn main() {
    let «⇒mut »$p1 = vec![$n1, $n2⟦ // , $n3⟧];
    ⟦for $v1 in $p1.iter_mut() {
        *$v1 ⟦+= // *=⟧ $k1;
    } // $p1.iter_mut().for_each(|x| *x += $k1); // $p1.sort();
    $p1.reverse(); // $p1.retain(|x| *x > $n4);⟧
    println!("⟦3: {:?} // {:?} {}⟧", $p1⟦3: // , $p1.len()⟧);
}
""",
)

_through_shared = stencils("assign_through_shared_ref", "borrow_checker", "E0594")

_through_shared(
    "$f1 changes $v1; print $v1 of $v3 afterwards.",
    """
struct $T1 {
    $v1: ⟦1: u32 // f64 // bool // i64⟧,
    ⟦2: // $v4: u32,⟧
}
impl $T1 {
    fn $f1(&«⇒mut »self) {
        self.$v1 ⟦1: += $k1 // *= $k1.5 // = false // -= $k1⟧;
    }
}
fn main() {
    let mut $v3 = $T1 { $v1: ⟦1: $n1 // $n1.5 // true // $n1⟧⟦2: // , $v4: $n2⟧ };
    $v3.$f1();
    println!("⟦2: {} // {} {}⟧", $v3.$v1⟦2: // , $v3.$v4⟧);
}
""",
)
_through_shared(
    "Change $v1 through $v2, then print $v1.",
    """
fn main() {
    let mut $v1 = ⟦1: $n1 // $n1.5 // String::from("$s1") // true⟧;
    let $v2 = &«⇒mut »$v1;
    *$v2 ⟦1: += $k1 // *= $k1.5 // = String::from("$s2") // = false⟧;
    ⟦ // *$v2 ⟦1: *= $k2 // += 1.5 // = String::from("$s3") // = !*$v2⟧;⟧
    println!("⟦{} // $s4 {}⟧", $v1);
}
""",
)
_through_shared(
    "Let $f1 change $v2, then print $v2.",
    """
fn $f1($v1: &«⇒mut »⟦1: i32 // u64 // f64⟧) {
    *$v1 ⟦= *$v1 * ⟦1: $k1 // $k1 // 2.0⟧ // += ⟦1: $n1 // $n1 // 1.5⟧⟧;
}
fn main() {
    let mut $v2 = ⟦1: $n2 // $n2 // $n2.5⟧;
    $f1(&«⇒mut »$v2);
    ⟦ // $v2 += ⟦1: $k2 // $k2 // 0.5⟧;⟧
    println!("{}", $v2);
}
""",
)
_through_shared(
    "Change every value of $p1 in the loop, then print $p1.",
    """
fn main() {
    let mut $p1 = ⟦1: vec![$n1, $n2, $n3] // [$n1, $n2] // vec![$n1.5, $n2.5]⟧;
    for $v1 in ⟦&«⇒mut »$p1 // $p1.«iter⇒iter_mut»()⟧ {
        ⟦*$v1 ⟦+= // *=⟧ ⟦1: $k1 // $k1 // $k1.5⟧; // if *$v1 > ⟦1: $n4 // $n4 // $n4.0⟧ {
            *$v1 = ⟦1: $n4 // $n4 // $n4.0⟧;
        }⟧
    }
    println!("{:?}", $p1);
}
""",
)
_through_shared(
    "Give $v3 another $v1 and print it.",
    """
struct $T1 {
    $v1: ⟦1: u32 // String // f64⟧,
    ⟦2: // $v2: bool, // $v2: i32,⟧
}
fn main() {
    let «⇒mut »$v3 = $T1 { $v1: ⟦1: $n1 // String::from("$s1") // $n1.5⟧⟦2: // , $v2: true // , $v2: $n3⟧ };
    $v3.$v1 = ⟦1: $n2 // String::from("$s2") // $n2.5⟧;
    println!("{}", $v3.$v1);
    ⟦2: // println!("{}", $v3.$v2); // println!("{}", $v3.$v2);⟧
}
""",
)
_through_shared(
    "Let $f1 change the $v1 of $v3, then print it.",
    """
struct $T1 {
    $v1: ⟦1: u32 // i64 // String⟧,
}
fn $f1($v2: &«⇒mut »$T1⟦2: // , $v4: ⟦1: u32 // i64 // &str⟧⟧) {
    $v2.$v1 ⟦1: += // -= // =⟧ ⟦2: ⟦1: $k1 // $k1 // String::from("$s1")⟧ // ⟦1: $v4 // $v4 // \
        $v4.to_string()⟧⟧;
}
fn main() {
    let mut $v3 = $T1 { $v1: ⟦1: $n1 // $n1 // String::from("$s2")⟧ };
    $f1(&«⇒mut »$v3⟦2: // , ⟦1: $n2 // $n2 // "$s3"⟧⟧);
    println!("{}", $v3.$v1);
}
""",
)

_assign_borrowed = stencils("assign_while_borrowed", "borrow_checker", "E0506")

_assign_borrowed(
    "Keep the old $v1 in $v2, change $v1, print both.",
    """
fn main() {
    let mut $v1 = ⟦1: $n1 // $n1.5 // true // 'a'⟧;
    let $v2 = «&⇒»$v1;
    $v1 = ⟦1: $n2 // $n2.5 // false // 'b'⟧;
    ⟦ // let $v3 = $n3;
    println!("{}", $v3);⟧
    ⟦println!("{} {}", $v2, $v1); // println!("{}", $v2);
    println!("{}", $v1);⟧
}
""",
)
_assign_borrowed(
    "Keep the old $v1 of $v3 in $v2, change it, print both.",
    """
struct $T1 {
    $v1: ⟦1: u32 // i64 // f64⟧,
    ⟦2: // $v4: bool,⟧
}
fn main() {
    let mut $v3 = $T1 { $v1: ⟦1: $n1 // $n1 // $n1.5⟧⟦2: // , $v4: false⟧ };
    let $v2 = «&⇒»$v3.$v1;
    $v3.$v1 ⟦= // +=⟧ ⟦1: $n2 // $n2 // $n2.5⟧;
    println!("{} {}", $v2, $v3.$v1);
    ⟦2: // println!("{}", $v3.$v4);⟧
}
""",
)
_assign_borrowed(
    "Keep $v1 in $v2, give $v1 new ⟦1: text // numbers⟧, print both.",
    """
fn main() {
    let mut $v1 = ⟦1: String::from("$s1") // vec![$n1, $n2]⟧;
    let $v2 = «&$v1⇒$v1.clone()»;
    $v1 = ⟦1: String::from("$s2") // vec![$n3]⟧;
    ⟦ // $v1.⟦1: push('x') // push($n4)⟧;⟧
    ⟦println!("{:?} {:?}", $v2, $v1); // println!("{:?}", $v2);
    println!("{:?}", $v1);⟧
}
""",
)
_assign_borrowed(
    "Keep one value of $p1 in $v1, change $p1, print both.",
    """
fn main() {
    let mut $p1 = [$n1, $n2⟦ // , $n3⟧];
    let $v1 = «&⇒»$p1[⟦1: 0 // 1⟧];
    $p1[⟦1: 0 // 1⟧] ⟦= $n4 // += $k1 // *= $k1⟧;
    ⟦ // $p1[0] += $k2;⟧
    println!("{} {:?}", $v1, $p1);
}
""",
)
_assign_borrowed(
    "Step $v1 in a loop, then print the start $v2 and $v1.",
    """
fn main() {
    let mut $v1⟦ // : u32 // : i64⟧ = $n1;
    let $v2 = «&⇒»$v1;
    ⟦for _ in 0..$k1 { // while $v1 < 90 {⟧
        $v1 += $k2;
        ⟦ // println!("$s1");⟧
    }
    ⟦println!("{} {}", $v2, $v1); // println!("{}", $v1 - $v2);⟧
}
""",
)
_assign_borrowed(
    "Print what $f1 gives for the old $v1, after $v1 changed.",
    """
fn $f1($v3: &⟦1: i32 // u64 // f64⟧) -> ⟦1: i32 // u64 // f64⟧ {
    $v3 ⟦+ // *⟧ ⟦1: $k1 // $k1 // $k1.5⟧
}
fn main() {
    let mut $v1 = ⟦1: $n1 // $n1 // $n1.5⟧;
    let $v2 = «&⇒»$v1;
    $v1 ⟦= // +=⟧ ⟦1: $n2 // $n2 // $n2.5⟧;
    println!("{}", $f1(«⇒&»$v2));
    println!("{}", $v1);
}
""",
)

_uninitialised = stencils("uninitialised_variable", "borrow_checker", "E0381")

_uninitialised(
    "Starting at 0, add the numbers of $p1 to $v1 and print it.",
    """
fn main() {
    let $p1 = ⟦vec![$n1, $n2, $n3] // [$n1, $n2] // vec![$n1, $n2]⟧;
    let mut $v1: ⟦i32 // i64⟧«⇒ = 0»;
    for $v2 in ⟦&$p1 // $p1.iter()⟧ {
        $v1 += $v2;
        ⟦ // println!("{}", $v2);⟧
    }
    println!("{}", $v1);
}
""",
)
_uninitialised(
    "Starting with an empty $v1, collect ⟦1: words // numbers⟧ in it and print it.",
    """
fn main() {
    let mut $v1: ⟦1: Vec<&str> // Vec<i32>⟧«⇒ = Vec::new()»;
    $v1.push(⟦1: "$s1" // $n1⟧);
    ⟦for $v2 in [⟦1: "$s2", "$s3" // $n2, $n3⟧] {
        $v1.push($v2);
    } // $v1.push(⟦1: "$s2" // $n2⟧); // println!("{}", $v1.len());⟧
    println!("{:?}", $v1);
}
""",
)
_uninitialised(
    "Starting with an empty String, build $v1 and print it.",
    """
fn main() {
    let mut $v1: String«⇒ = String::new()»;
    ⟦for _ in 0..$k1 {
        $v1.push_str("$s1");
    } // $v1.push_str("$s1");
    $v1.push_str("$s2"); // for $v2 in ["$s1", "$s2"] {
        $v1.push_str($v2);
    } // $v1 += "$s1";⟧
    ⟦println!("{}", $v1); // println!("{} {}", $v1, $v1.len());⟧
}
""",
)
_uninitialised(
    "$v1 is false unless $v2 is ⟦1: above // below⟧ the bound; print $v1.",
    """
fn main() {
    let $v2 = $n1;
    let mut $v1: bool«⇒ = false»;
    if $v2 ⟦1: > // <⟧ $n2 {
        $v1 = true;
        ⟦ // println!("$s1");⟧
    }
    ⟦println!("{}", $v1); // println!("{} {}", $v2, $v1);⟧
}
""",
)
_uninitialised(
    "Starting at 1, multiply $v1 by each number up to $v3, print the result.",
    """
fn $f1($v3: ⟦1: u64 // u32⟧) -> ⟦1: u64 // u32⟧ {
    let mut $v1: ⟦1: u64 // u32⟧«⇒ = 1»;
    for $v2 in ⟦1 // 2⟧..=$v3 {
        $v1 *= $v2;
    }
    $v1
}
fn main() {
    ⟦println!("{}", $f1($k1)); // let $v4 = $f1($k1);
    println!("{}", $v4); // println!("{} {}", $f1($k1), $f1($k2));⟧
}
""",
)
_uninitialised(
    '$f1 gives "$s1" when $v1 is ⟦1: above // below⟧ $n1, else "$s2"; print both.',
    """
fn $f1($v1: ⟦i32 // u32⟧) -> ⟦2: &'static str // String⟧ {
    let $v2⟦2: // : String⟧;
    if $v1 ⟦1: > // <⟧ $n1 {
        $v2 = ⟦2: "$s1" // String::from("$s1")⟧;
    }«⇒ else {
        $v2 = ⟦2: "$s2" // String::from("$s2")⟧;
    }»
    $v2
}
fn main() {
    println!("{}", $f1($n2));
    println!("{}", $f1($n3));
}
""",
)
