"""Trait bounds: generics that promise too little, missing derives, impls that do not fit their trait."""

from __future__ import annotations

from sleepy_coder.tasks.koans.family import Draft, family
from sleepy_coder.tasks.koans.marked import floats, integers, marked, numbers, texts, three
from sleepy_coder.tasks.koans.words import Words

# --- missing_display_bound: a generic function prints what it knows nothing of.


@family("missing_display_bound", "trait_bounds", "E0277")
def printed_argument(w: Words) -> Draft:
    line = w.pick('println!("$s9 {}", $v1);', 'println!("{}: {}", "$s9", $v1);', 'println!("{} {}", $v1, $n9);')
    again = w.pick("", "$f1($b);", "$f1($b);\n    $f1($c);")
    return marked(
        w,
        "Print each value given to $f1.",
        """
fn $f1<T«→: std::fmt::Display»>($v1: $ref) {
    $line
}
fn main() {
    $f1($a);
    $again
}
""",
        line=line,
        **(three(w) | {"ref": "T", "again": again}),
    )


@family("missing_display_bound", "trait_bounds", "E0277")
def formatted_result(w: Words) -> Draft:
    return marked(
        w,
        "Print the text that $f1 builds from $v2.",
        """
fn $f1<T«→: std::fmt::Display»>($v1: $kind$more) -> String {
    $body
}
fn main() {
    let $v2 = $a;
    println!("{}", $f1($arg));
}
""",
        **three(w),
        **w.pick(
            {"kind": "T", "more": "", "arg": "$v2", "body": 'format!("$s9 {}", $v1)'},
            {"kind": "&T", "more": "", "arg": "&$v2", "body": 'format!("<{}>", $v1)'},
            {"kind": "T", "more": ", $v3: u32", "arg": "$v2, $n9", "body": 'format!("{} x {}", $v1, $v3)'},
            {"kind": "&T", "more": ", $v3: &str", "arg": '&$v2, "$s9"', "body": 'format!("{} {}", $v3, $v1)'},
        ),
    )


@family("missing_display_bound", "trait_bounds", "E0277")
def printed_slice(w: Words) -> Draft:
    loop = w.pick(
        'for $v1 in $V1 {\n        println!("{}", $v1);\n    }',
        'for $v1 in $V1.iter() {\n        println!("$s9 {}", $v1);\n    }',
        'for ($v3, $v1) in $V1.iter().enumerate() {\n        println!("{} {}", $v3, $v1);\n    }',
        'if let Some($v1) = $V1.first() {\n        println!("{}", $v1);\n    }',
    )
    values = w.pick("[$a, $b, $c]", "[$a, $b]", "vec![$a, $b, $c]", "vec![$b, $a]")
    return marked(
        w,
        "Let $f1 print the values in $V2.",
        """
fn $f1<T«→: std::fmt::Display»>($V1: &[T]) {
    $loop
}
fn main() {
    let $V2 = $values;
    $f1(&$V2);
}
""",
        loop=loop,
        values=values,
        **three(w),
    )


@family("missing_display_bound", "trait_bounds", "E0277")
def printed_field(w: Words) -> Draft:
    method = w.pick(
        'fn $f1(&self) -> String {\n        format!("$s9 {}", self.$v1)\n    }',
        'fn $f1(&self) -> String {\n        format!("{}-{}", self.$v1, $n8)\n    }',
        'fn $f1(self) -> String {\n        format!("({})", self.$v1)\n    }',
    )
    more = w.chance(0.4)
    return marked(
        w,
        "Print what $f1 says about $v2.",
        """
struct $T1<T> {
    $v1: T,
    $field
}
impl<T«→: std::fmt::Display»> $T1<T> {
    $method
}
fn main() {
    let $v2 = $T1 { $v1: $a$init };
    println!("{}", $v2.$f1());
}
""",
        method=method,
        field="$v5: u32," if more else "",
        init=", $v5: $n5" if more else "",
        **three(w),
    )


@family("missing_display_bound", "trait_bounds", "E0277")
def printed_with_debug(w: Words) -> Draft:
    shape = w.pick(
        {"kind": "&[T]", "arg": "&[$a, $b]"},
        {"kind": "Vec<T>", "arg": "vec![$a, $b, $c]"},
        {"kind": "Option<T>", "arg": "Some($a)"},
        {"kind": "(T, T)", "arg": "($a, $b)"},
    )
    return marked(
        w,
        "Let $f1 print $v1 in debug form.",
        """
fn $f1<T«→: std::fmt::Debug»>($v1: $kind) {
    println!("$word{:?}", $v1);
}
fn main() {
    $f1($arg);
    $more
}
""",
        word=w.pick("", "$s9 "),
        more=w.pick("", 'println!("$s8");'),
        **shape,
        **three(w),
    )


@family("missing_display_bound", "trait_bounds", "E0277")
def second_parameter(w: Words) -> Draft:
    first = w.chance(0.5)
    bounds = "A«→: Display», B: Display" if first else "A: Display, B«→: Display»"
    return marked(
        w,
        "Let $f1 print $v1 and $v2.",
        """
use std::fmt::Display;
fn $f1<$bounds>($v1: A, $v2: B) {
    println!("$word{} {}", $v1, $v2);
    $more
}
fn main() {
    $f1($a, $other);
}
""",
        bounds=bounds,
        word=w.pick("", "$s9: "),
        more=w.pick("", 'println!("{}", $v1);', 'println!("{}", $v2);'),
        other=w.pick("$n7", "true", '"$s7"', "'x'"),
        **three(w),
    )


@family("missing_display_bound", "trait_bounds", "E0277")
def printed_option(w: Words) -> Draft:
    body = w.pick(
        'match $v1 {\n        Some($v2) => println!("{}", $v2),\n        None => println!("$s9"),\n    }',
        'if let Some($v2) = $v1 {\n        println!("$s9 {}", $v2);\n    }',
        'match $v1 {\n        Some($v2) => println!("$s8 {}", $v2),\n        None => {}\n    }',
    )
    return marked(
        w,
        "Let $f1 print what is inside $v1.",
        """
fn $f1<T«→: std::fmt::Display»>($v1: Option<T>) {
    $body
}
fn main() {
    $f1(Some($a));
    $more
}
""",
        body=body,
        more=w.pick("", "$f1(Some($b));", "$f1::<$ty>(None);"),
        **three(w),
    )


# --- missing_operator_bound: operators on a T that does not promise them.


@family("missing_operator_bound", "trait_bounds", "E0369")
def larger_of_two(w: Words) -> Draft:
    sign = w.pick("<", ">", "<=", ">=")
    body = w.pick(
        "if $v1 $sign $v2 {\n        $v1\n    } else {\n        $v2\n    }",
        "if $v1 $sign $v2 {\n        return $v1;\n    }\n    $v2",
    )
    return marked(
        w,
        "Print which value $f1 chooses.",
        """
fn $f1<T«→: PartialOrd»>($v1: T, $v2: T) -> T {
    $body
}
fn main() {
    println!("{}", $f1($a, $b));
    $more
}
""",
        body=body,
        sign=sign,
        more=w.pick("", 'println!("{}", $f1($c, $a));'),
        **three(w),
    )


@family("missing_operator_bound", "trait_bounds", "E0369")
def equal_values(w: Words) -> Draft:
    kind, ref = w.pick(("T", ""), ("&T", "&"), ("&[T]", "&s"))
    values = three(w)
    if ref == "&s":
        arguments = w.pick("&[$a, $b], &[$a, $b]", "&[$a], &[$b]", "&[$a, $c], &[$c, $a]")
    else:
        arguments = w.pick(f"{ref}$a, {ref}$b", f"{ref}$a, {ref}$a")
    return marked(
        w,
        "Print whether $v1 and $v2 are $word.",
        """
fn $f1<T«→: PartialEq»>($v1: $kind, $v2: $kind) -> bool {
    $v1 $sign $v2
}
fn main() {
    println!("$label{}", $f1($arguments));
}
""",
        kind=kind,
        arguments=arguments,
        label=w.pick("", "$s9 "),
        **w.pick({"sign": "==", "word": "equal"}, {"sign": "!=", "word": "different"}),
        **values,
    )


@family("missing_operator_bound", "trait_bounds", "E0369")
def counted_matches(w: Words) -> Draft:
    body = w.pick(
        "let mut $v3 = 0;\n    for $v1 in $V1 {\n        if $v1 == $v2 {\n"
        "            $v3 += 1;\n        }\n    }\n    $v3",
        "$V1.iter().filter(|$v1| *$v1 == $v2).count()",
    )
    return marked(
        w,
        "Count with $f1 how often a value is in $V1.",
        """
fn $f1<T«→: PartialEq»>($V1: &[T], $v2: &T) -> usize {
    $body
}
fn main() {
    let $V2 = $open$a, $b, $a$c2];
    println!("{}", $f1(&$V2, &$which));
}
""",
        body=body,
        open=w.pick("[", "vec!["),
        c2=w.pick("", ", $c"),
        which=w.pick("$a", "$b"),
        **three(w),
    )


@family("missing_operator_bound", "trait_bounds", "E0369")
def compared_fields(w: Words) -> Draft:
    return marked(
        w,
        "Print what $f1 says: is $v1 $word $v2?",
        """
struct $T1<T> {
    $v1: T,
    $v2: T,
}
impl<T«→: $bound»> $T1<T> {
    fn $f1($self) -> bool {
        self.$v1 $sign self.$v2
    }
}
fn main() {
    let $v3 = $T1 { $v1: $a, $v2: $b };
    println!("{}", $v3.$f1());
}
""",
        self=w.pick("&self", "&self", "self"),
        **w.pick(
            {"sign": "<", "word": "less than", "bound": "PartialOrd"},
            {"sign": ">", "word": "more than", "bound": "PartialOrd"},
            {"sign": ">=", "word": "at least", "bound": "PartialOrd"},
            {"sign": "==", "word": "equal to", "bound": "PartialEq"},
            {"sign": "!=", "word": "not", "bound": "PartialEq"},
        ),
        **three(w),
    )


@family("missing_operator_bound", "trait_bounds", "E0369")
def arithmetic(w: Words) -> Draft:
    sign, name = w.pick(("+", "Add"), ("*", "Mul"), ("-", "Sub"))
    sums = w.pick(
        "$v1 $sign $v2",
        "let $v3 = $v1 $sign $v2;\n    $v3",
        "return $v1 $sign $v2;",
    )
    return marked(
        w,
        "Print what $f1 computes from two numbers.",
        """
fn $f1<T«→: std::ops::$name<Output = T>»>($v1: T, $v2: T) -> T {
    $sums
}
fn main() {
    println!("{}", $f1($a, $b));
    $more
}
""",
        sums=sums,
        sign=sign,
        name=name,
        more=w.pick("", 'println!("$s9 {}", $f1(9.5, 2.25));', 'println!("{}", $f1(70, 8));'),
        **({"a": "$n1 + 60", "b": "$n2"} if w.chance(0.5) else {"a": "$n1.75", "b": "$n2.5"}),
    )


@family("missing_operator_bound", "trait_bounds", "E0369")
def best_of_slice(w: Words) -> Draft:
    copied = w.chance(0.5)
    sign = w.pick("<", ">")
    if copied:
        head, start, pattern, compare = "T: Copy«→ + PartialOrd»", "$V1[0]", "&$v1", "$v1 $sign $v2"
    else:
        head, start, pattern, compare = "T«→: PartialOrd»", "&$V1[0]", "$v1", "$v1 $sign $v2"
    return marked(
        w,
        f"Print the {'smallest' if sign == '<' else 'largest'} value of $V2.",
        """
fn $f1<$head>($V1: &[T]) -> $out {
    let mut $v2 = $start;
    for $pattern in $V1 {
        if $compare {
            $v2 = $v1;
        }
    }
    $v2
}
fn main() {
    let $V2 = $open$a, $b, $c];
    println!("{}", $f1(&$V2));
}
""",
        head=head,
        start=start,
        pattern=pattern,
        compare=compare,
        sign=sign,
        open=w.pick("[", "vec!["),
        out="T" if copied else "&T",
        **w.pick(numbers(w), texts()),
    )


# --- missing_debug_derive: `{:?}` on a type without Debug.


def _derive(w: Words, trait: str, *others: str) -> str:
    """The place above a type where `trait` has to be derived, now and then beside another derive."""
    if others and w.chance(0.35):
        other = w.pick(*others)
        return f"#[derive(«{other}→{trait}, {other}»)]"
    return f"«→#[derive({trait})]»"


def _fields(w: Words) -> dict[str, str]:
    """A struct's `$fields` and the `$init` and `$init2` of two values of it."""
    return w.pick(
        {"fields": "$v1: $ty,", "init": "$v1: $a", "init2": "$v1: $b"},
        {"fields": "$v1: $ty,\n    $v2: u32,", "init": "$v1: $a, $v2: $n8", "init2": "$v1: $b, $v2: $n8"},
        {"fields": "$v1: bool,\n    $v2: $ty,", "init": "$v1: true, $v2: $a", "init2": "$v1: true, $v2: $c"},
        {"fields": "$v1: Vec<$ty>,", "init": "$v1: vec![$a, $b]", "init2": "$v1: vec![$a]"},
        {"fields": "$v1: Option<$ty>,", "init": "$v1: Some($a)", "init2": "$v1: None"},
    ) | three(w)


@family("missing_debug_derive", "trait_bounds", "E0277")
def debug_struct(w: Words) -> Draft:
    return marked(
        w,
        "Print $v5 in debug form.",
        """
$derive
struct $T1 {
    $fields
}
fn main() {
    let $v5 = $T1 { $init };
    println!("$form", $v5);
}
""",
        derive=_derive(w, "Debug", "Clone", "PartialEq", "Default"),
        form=w.pick("{:?}", "$s9 {:?}", "{:#?}", "{:?} $s9"),
        **_fields(w),
    )


@family("missing_debug_derive", "trait_bounds", "E0277")
def debug_enum(w: Words) -> Draft:
    last = w.pick("$T4", "$T4(u32)", "$T4(String)", "$T4 { $v4: i32 }")
    values = {
        "$T4": "$T4",
        "$T4(u32)": "$T4($n4)",
        "$T4(String)": '$T4(String::from("$s4"))',
        "$T4 { $v4: i32 }": "$T4 { $v4: $n4 }",
    }
    show = w.pick(
        'println!("{:?}", $T1::$T2);\n    println!("{:?}", $value);',
        'let $v1 = $value;\n    println!("{:?} {:?}", $v1, $T1::$T3);',
        'for $v1 in [$value, $T1::$T2] {\n        println!("{:?}", $v1);\n    }',
        'println!("{:?}", vec![$T1::$T3, $value]);',
    )
    return marked(
        w,
        "Print values of $T1 in debug form.",
        """
$derive
enum $T1 {
    $T2,
    $T3,
    $last,
}
fn main() {
    $show
}
""",
        derive=_derive(w, "Debug", "Clone", "PartialEq"),
        last=last,
        value="$T1::" + values[last],
        show=show,
    )


@family("missing_debug_derive", "trait_bounds", "E0277")
def debug_collection(w: Words) -> Draft:
    build = w.pick(
        "let $V2 = vec![$T1 { $init }, $T1 { $init2 }];",
        "let mut $V2 = Vec::new();\n    $V2.push($T1 { $init });",
        "let $V2 = [$T1 { $init }, $T1 { $init2 }];",
        "let $V2 = Some($T1 { $init });",
        "let $V2 = ($T1 { $init }, $n9);",
    )
    return marked(
        w,
        "Print $V2 in debug form.",
        """
$derive
struct $T1 {
    $fields
}
fn main() {
    $build
    println!("$form", $V2);
}
""",
        derive=_derive(w, "Debug", "Clone", "PartialEq"),
        form=w.pick("{:?}", "$s9 {:?}"),
        build=build,
        **_fields(w),
    )


@family("missing_debug_derive", "trait_bounds", "E0277")
def debug_nested(w: Words) -> Draft:
    kind, value = w.pick(
        ("$T1", "$v6"), ("Vec<$T1>", "vec![$v6]"), ("Option<$T1>", "Some($v6)"), ("Option<$T1>", "None")
    )
    inner = w.pick(
        ("struct $T1 {\n    $v1: $ty,\n}", "$T1 { $v1: $a }"),
        ("struct $T1($ty);", "$T1($a)"),
        ("struct $T1($ty, u32);", "$T1($b, $n9)"),
        ("enum $T1 {\n    $T4,\n    $T5($ty),\n}", "$T1::$T5($a)"),
    )
    return marked(
        w,
        "Print $v5 and its $v2 in debug form.",
        """
$derive
$inner
#[derive(Debug)]
struct $T2 {
    $v2: $kind,
    $v3: u32,
}
fn main() {
    $let
    let $v5 = $T2 { $v2: $value, $v3: $n8 };
    println!("{:?}", $v5);
}
""",
        derive=_derive(w, "Debug", "Clone"),
        inner=inner[0],
        kind=kind,
        value=value,
        let="" if value == "None" else f"let $v6 = {inner[1]};",
        **three(w),
    )


@family("missing_debug_derive", "trait_bounds", "E0277")
def debug_argument(w: Words) -> Draft:
    head, arg = w.pick(
        ("fn $f1<T: std::fmt::Debug>($v8: &T)", "&$v5"),
        ("fn $f1<T: std::fmt::Debug>($v8: T)", "$v5"),
        ("fn $f1($v8: &impl std::fmt::Debug)", "&$v5"),
        ("fn $f1($v8: &dyn std::fmt::Debug)", "&$v5"),
    )
    return marked(
        w,
        "Let $f1 print $v5.",
        """
$derive
struct $T1 {
    $fields
}
$head {
    println!("$word{:?}", $v8);
}
fn main() {
    let $v5 = $T1 { $init };
    $f1($arg);
}
""",
        derive=_derive(w, "Debug", "Clone", "PartialEq"),
        head=head,
        arg=arg,
        word=w.pick("", "$s9 "),
        **_fields(w),
    )


@family("missing_debug_derive", "trait_bounds", "E0277")
def debug_assertion(w: Words) -> Draft:
    body, expected = w.pick(
        ("$T1 { $v1: $v2 }", "$n1"),
        ("$T1 { $v1: $v2 + 1 }", "$n1 + 1"),
        ("$T1 { $v1: $v2 * 2 }", "$n1 * 2"),
    )
    return marked(
        w,
        "Check that $f1 makes the right $T1.",
        """
#[derive(«PartialEq→Debug, PartialEq»)]
struct $T1 {
    $v1: $ty,
}
fn $f1($v2: $ty) -> $T1 {
    $body
}
fn main() {
    let $v3 = $f1($n1);
    assert_$op!($v3, $T1 { $v1: $expected$off });
    println!("{}", $v3.$v1);
}
""",
        body=body,
        expected=expected,
        ty=integers(w)["ty"],
        **w.pick({"op": "eq", "off": ""}, {"op": "ne", "off": " + 9"}),
    )


# --- missing_partialeq_derive: `==` on a type that cannot be compared.


@family("missing_partialeq_derive", "trait_bounds", "E0369")
def compared_structs(w: Words) -> Draft:
    show = w.pick(
        'println!("{}", $v5 $sign $v6);',
        'if $v5 $sign $v6 {\n        println!("$s8");\n    } else {\n        println!("$s9");\n    }',
        'let $v7 = $v5 $sign $v6;\n    println!("$s8 {}", $v7);',
    )
    return marked(
        w,
        "Say whether $v5 and $v6 are $word.",
        """
$derive
struct $T1 {
    $fields
}
fn main() {
    let $v5 = $T1 { $init };
    let $v6 = $T1 { $second };
    $show
}
""",
        derive=_derive(w, "PartialEq", "Clone"),
        second=w.pick("$init", "$init2"),
        show=show,
        **w.pick({"sign": "==", "word": "equal"}, {"sign": "!=", "word": "different"}),
        **_fields(w),
    )


@family("missing_partialeq_derive", "trait_bounds", "E0369")
def compared_enum(w: Words) -> Draft:
    body = w.pick(
        "$v1 $sign $T1::$T3",
        "if $v1 $sign $T1::$T2 {\n        return true;\n    }\n    false",
        "let $v2 = $T1::$T2;\n    $v1 $sign $v2",
    )
    return marked(
        w,
        "Print what $f1 answers for two values of $T1.",
        """
$derive
enum $T1 {
    $T2,
    $T3,
    $third
}
fn $f1($v1: $T1) -> bool {
    $body
}
fn main() {
    println!("{} {}", $f1($T1::$T2), $f1($T1::$T3));
}
""",
        derive=_derive(w, "PartialEq", "Clone", "Debug"),
        third=w.pick("", "$T4,", "$T4(u32),"),
        body=body,
        sign=w.pick("==", "!="),
    )


@family("missing_partialeq_derive", "trait_bounds", "E0369")
def counted_enum(w: Words) -> Draft:
    count = w.pick(
        "let $v3 = $V1.iter().filter(|$v1| **$v1 $sign $T1::$T3).count();",
        "let mut $v3 = 0;\n    for $v1 in &$V1 {\n        if *$v1 $sign $T1::$T3 {\n"
        "            $v3 += 1;\n        }\n    }",
        "let $v3 = $V1.iter().any(|$v1| *$v1 $sign $T1::$T3);",
        "let $v3 = $V1.iter().all(|$v1| *$v1 $sign $T1::$T2);",
        "let $v3 = $V1[0] $sign $V1[1];",
    )
    return marked(
        w,
        "Look at the values in $V1 and print $v3.",
        """
$derive
enum $T1 {
    $T2,
    $T3,
}
fn main() {
    let $V1 = $open$T1::$T2, $T1::$T3, $T1::$last];
    $count
    println!("$word{}", $v3);
}
""",
        derive=_derive(w, "PartialEq", "Clone", "Debug"),
        count=count,
        sign=w.pick("==", "!="),
        open=w.pick("[", "vec!["),
        last=w.pick("$T2", "$T3"),
        word=w.pick("", "$s9 "),
    )


@family("missing_partialeq_derive", "trait_bounds", "E0369")
def asserted_struct(w: Words) -> Draft:
    return marked(
        w,
        "Check that $f1 makes the right $T1.",
        """
#[derive(«Debug→Debug, PartialEq»)]
struct $T1 {
    $v1: $ty,
    $field
}
fn $f1($v2: $ty) -> $T1 {
    $T1 { $v1: $v2 $calc$init }
}
fn main() {
    let $v3 = $f1($n1);
    $check
    println!("{:?}", $v3);
}
""",
        check=w.pick("assert_eq!($v3, $T1 { $v1: $n1 $calc$init });", "assert!($v3 == $T1 { $v1: $n1 $calc$init });"),
        calc=w.pick("+ $n5", "* $n5"),
        ty=integers(w)["ty"],
        **w.pick({"field": "", "init": ""}, {"field": "$v4: bool,", "init": ", $v4: true"}),
    )


@family("missing_partialeq_derive", "trait_bounds", "E0369")
def compared_wrapped(w: Words) -> Draft:
    kind = w.pick(("Some(", ")"), ("vec![", "]"), ("[", "]"), ("(", ", 1)"), ("Some(", ")"))
    return marked(
        w,
        "Say whether $v5 equals $v6.",
        """
$derive
struct $T1($ty$other);
fn main() {
    let $v5 = $left$T1($a$more)$right;
    let $v6 = $left$T1($second$more)$right;
    println!("$word{}", $v5 $sign $v6);
}
""",
        derive=_derive(w, "PartialEq", "Clone", "Debug"),
        left=kind[0],
        right=kind[1],
        second=w.pick("$a", "$b"),
        word=w.pick("", "$s9 "),
        sign=w.pick("==", "==", "!="),
        **w.pick({"other": "", "more": ""}, {"other": ", u8", "more": ", $n8"}),
        **three(w),
    )


@family("missing_partialeq_derive", "trait_bounds", "E0369")
def compared_method(w: Words) -> Draft:
    return marked(
        w,
        "Print whether $v3 has the $v1 asked for by $f1.",
        """
$derive
struct $T1($ty);
struct $T4 {
    $v1: $T1,
}
impl $T4 {
    fn $f1(&self$param) -> bool {
        self.$v1 $sign $against
    }
}
fn main() {
    let $v3 = $T4 { $v1: $T1($a) };
    println!("{}", $v3.$f1($arg));
}
""",
        derive=_derive(w, "PartialEq", "Clone"),
        sign=w.pick("==", "!="),
        **w.pick(
            {"param": ", $v2: $T1", "against": "$v2", "arg": "$T1($b)"},
            {"param": ", $v2: &$T1", "against": "*$v2", "arg": "&$T1($a)"},
            {"param": "", "against": "$T1($b)", "arg": ""},
        ),
        **three(w),
    )


# --- missing_trait_item: an impl that leaves out a part its trait asks for.


@family("missing_trait_item", "trait_bounds", "E0046")
def iterator_item(w: Words) -> Draft:
    step = w.pick(
        "self.$v1 += $k;\n        (self.$v1 < $limit).then_some(self.$v1)",
        "self.$v1 = self.$v1.checked_sub(1)?;\n        Some(self.$v1)",
        "self.$v1 += 1;\n        Some($limit).filter(|$v4| self.$v1 < *$v4)",
    )
    use = w.pick(
        'for $v2 in ($T1 { $v1: $k }) {\n        println!("{}", $v2);\n    }',
        'println!("{}", $T1 { $v1: $k }.count());',
        'let $v2 = $T1 { $v1: $k }.last();\n    println!("{:?}", $v2);',
    )
    return marked(
        w,
        "Iterate over the numbers of a $T1.",
        """
struct $T1 {
    $v1: $ty,
}
impl Iterator for $T1 {
    «→type Item = $ty;»
    fn next(&mut self) -> Option<$ty> {
        $step
    }
}
fn main() {
    $use
}
""",
        step=step,
        use=use,
        k=str(w.number(3, 9)),
        limit=str(w.number(20, 50)),
        ty=w.pick("u8", "u16", "u32", "u64", "usize"),
    )


@family("missing_trait_item", "trait_bounds", "E0046")
def operator_output(w: Words) -> Draft:
    name, sign = w.pick(("Add", "+"), ("Sub", "-"), ("Mul", "*"))
    two = w.chance(0.3)
    return marked(
        w,
        f"Print the $v1 of $v5 {sign} $v6.",
        """
use std::ops::$name;
struct $T1 {
    $v1: $ty,
    $field
}
impl $name for $T1 {
    «→type Output = $T1;»
    fn $method(self, $v3: $T1) -> $T1 {
        $T1 { $v1: self.$v1 $sign $v3.$v1$sum }
    }
}
fn main() {
    let $v5 = $T1 { $v1: $big$init };
    let $v6 = $T1 { $v1: $b$init };
    println!("{}", ($v5 $sign $v6).$v1);
}
""",
        name=name,
        sign=sign,
        method=name.lower(),
        big=str(w.number(61, 90)),
        ty=integers(w)["ty"],
        b="$n2",
        field="$v2: bool," if two else "",
        sum=", $v2: $v3.$v2" if two else "",
        init=", $v2: true" if two else "",
    )


@family("missing_trait_item", "trait_bounds", "E0046")
def getter(w: Words) -> Draft:
    second = w.chance(0.5)
    return marked(
        w,
        "$f1 gives the number in a $T1; print it for $v3.",
        """
trait $T2 {
    fn $f1(&self) -> u32;
    $declared
}
struct $T1(u32$tuple);
impl $T2 for $T1 {
    $written
«→    fn $f1(&self) -> u32 {
        self.0
    }»
}
fn main() {
    let $v3 = $T1($n1$more);
    println!("$word{}", $v3.$f1());
    $extra
}
""",
        word=w.pick("", "$s9 "),
        declared="fn $f2(&self) -> $ty;" if second else "",
        written="fn $f2(&self) -> $ty {\n        $a\n    }" if second else "",
        extra='println!("{}", $v3.$f2());' if second else w.pick("", 'println!("{}", $v3.0);'),
        **w.pick({"tuple": "", "more": ""}, {"tuple": ", bool", "more": ", true"}),
        **three(w),
    )


@family("missing_trait_item", "trait_bounds", "E0046")
def text_method(w: Words) -> Draft:
    return marked(
        w,
        '$f1 of $T2 gives "$s1", $f1 of $T3 gives "$s2".',
        """
trait $T1 {
    fn $f1(&self) -> $ty;
}
struct $T2;
struct $T3;
impl $T1 for $T2 {
    fn $f1(&self) -> $ty {
        $one
    }
}
impl $T1 for $T3 {
«→    fn $f1(&self) -> $ty {
        $two
    }»
}
fn main() {
    $show
}
""",
        show=w.pick('println!("{} {}", $T2.$f1(), $T3.$f1());', 'println!("$s8 {}", $T3.$f1());'),
        **w.pick(
            {"ty": "&str", "one": '"$s1"', "two": '"$s2"'},
            {"ty": "String", "one": 'String::from("$s1")', "two": 'String::from("$s2")'},
            {"ty": "&'static str", "one": '"$s1"', "two": '"$s2"'},
        ),
    )


@family("missing_trait_item", "trait_bounds", "E0046")
def from_str_error(w: Words) -> Draft:
    error, value = w.pick(("String", 'String::from("$s1")'), ("()", "()"), ("u32", "$n3"), ("char", "'x'"))
    kinds = w.pick(
        {
            "use": "use std::str::FromStr;",
            "trait": "FromStr",
            "name": "Err",
            "method": "from_str",
            "kind": "&str",
        },
        {"use": "", "trait": "TryFrom<i32>", "name": "Error", "method": "try_from", "kind": "i32"},
    )
    text = kinds["name"] == "Err"
    if text:
        body, kept = "$v1.parse().map($T1).map_err(|_| $value)", w.pick("i32", "u64", "f64", "bool")
    else:
        kept = w.pick("u32", "u8", "i16", "usize")
        body = f"{kept}::try_from($v1).map($T1).map_err(|_| $value)"
    return marked(
        w,
        f"Turn a {'text' if text else 'number'} into a $T1 and print it.",
        """
$use
struct $T1($kept);
impl $trait for $T1 {
    «→type $name = $error;»
    fn $method($v1: $kind) -> Result<$T1, $error> {
        $body
    }
}
fn main() {
    match $T1::$method($arg) {
        Ok($v3) => println!("{}", $v3.0),
        Err(_) => println!("$s9"),
    }
}
""",
        kept=kept,
        error=error,
        body=body,
        value=value,
        arg=w.pick('"$n2"', '"$s2"') if text else w.pick("$n2", "-$n2"),
        **kinds,
    )


@family("missing_trait_item", "trait_bounds", "E0046")
def constant(w: Words) -> Draft:
    values = w.pick(integers(w), floats(), texts())
    use = w.pick(
        'println!("{}", $T2::$name);',
        'println!("$s9 {}", $T2::$name);\n    println!("{}", $T3::$name);',
        'let $v1 = $T3::$name;\n    println!("{} {}", $v1, $T2::$name);',
    )
    return marked(
        w,
        "$name is $a for $T2 and $b for $T3.",
        """
trait $T1 {
    const $name: $ty;
}
struct $T2;
struct $T3;
impl $T1 for $T2 {
    $one
}
impl $T1 for $T3 {
    $two
}
fn main() {
    $use
}
""",
        use=use,
        name=w.noun().upper(),
        **w.pick(
            {"one": "const $name: $ty = $a;", "two": "«→const $name: $ty = $b;»"},
            {"one": "«→const $name: $ty = $a;»", "two": "const $name: $ty = $b;"},
        ),
        **values,
    )
