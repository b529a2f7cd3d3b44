"""A family is an error that beginners meet; its templates are different programs that show it.

A template is a function from `Words` to a `Draft`. `dress` adds unrelated code to the draft, the same
in the buggy and the fixed form, so that a family yields thousands of structurally different programs
and the place of the error has to be found, not remembered.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from sleepy_coder.tasks.koans.words import Words

Category = Literal[
    "borrow_checker",
    "lifetimes",
    "trait_bounds",
    "result_handling",
    "type_mismatch",
    "ownership",
    "names",
    "patterns",
]
Split = Literal["pretrain", "day", "dev", "frozen"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A program in its buggy and its fixed form; equal but for the bug. `tests` is appended unseen."""

    statement: str
    buggy: str
    fixed: str
    tests: str = ""


Template = Callable[[Words], Draft]


@dataclass(slots=True)
class Family:
    """All templates of one error."""

    name: str
    category: Category
    error_code: str
    templates: list[Template] = field(default_factory=lambda: [])


FAMILIES: dict[str, Family] = {}


def family(name: str, category: Category, error_code: str) -> Callable[[Template], Template]:
    """Register the decorated function as one more template of family `name`."""

    def register(template: Template) -> Template:
        known = FAMILIES.setdefault(name, Family(name, category, error_code))
        if (known.category, known.error_code) != (category, error_code):
            raise ValueError(f"family {name} is registered with two categories or error codes")
        known.templates.append(template)
        return template

    return register


def draw(name: str, seed: int) -> Draft:
    """The program of family `name` with this seed, dressed."""
    words = Words(seed)
    return dress(words.pick(*FAMILIES[name].templates)(words), words)


def _helper(words: Words) -> tuple[str, str]:
    """An unrelated function and a statement that uses it."""
    name, arg, n, k = words.verb(), words.noun(), words.number(2, 9), words.number(2, 40)
    label = words.text()
    return words.pick(
        (f"fn {name}({arg}: i32) -> i32 {{\n    {arg} * {n}\n}}", f'println!("{label} {{}}", {name}({k}));'),
        (f"fn {name}({arg}: &str) -> usize {{\n    {arg}.len()\n}}", f'println!("{{}}", {name}("{label}"));'),
        (f"fn {name}({arg}: u32) -> bool {{\n    {arg} > {n}\n}}", f'println!("{{}}", {name}({k}));'),
        (f'fn {name}({arg}: i32) {{\n    println!("{label} {{}}", {arg} + {n});\n}}', f"{name}({k});"),
        (f"const {name.upper()}: u32 = {n};", f'println!("{label} {{}}", {name.upper()} + {k});'),
        (
            f"fn {name}({arg}: &[i32]) -> usize {{\n    {arg}.len()\n}}",
            f'println!("{{}}", {name}(&[{n}, {k}]));',
        ),
    )


def _statement(words: Words) -> list[str]:
    """One to three unrelated lines for the start of main."""
    var, n, k, label = words.noun(), words.number(), words.number(2, 9), words.text()
    return words.pick(
        [f"let {var} = {n};", f'println!("{label} {{}}", {var});'],
        [f'println!("{label}");'],
        [f'let {var} = "{label}";', f'println!("{{}} {{}}", {var}, {n});'],
        [f"let {var} = {n} + {k};", f'println!("{{}}", {var} * {k});'],
        [f"for {var} in 0..{words.number(2, 3)} {{", f'    println!("{label} {{}}", {var});', "}"],
        [f"if {n} > {k} {{", f'    println!("{label}");', "}"],
    )


def dress(draft: Draft, words: Words) -> Draft:
    """Add the same unrelated items and statements to both forms of `draft`.

    Raises ValueError when the forms do not both have a line that starts with `fn main(`.
    """
    items: list[str] = []
    start: list[str] = []
    for _ in range(words.pick(0, 1, 1)):
        item, use = _helper(words)
        items.append(item)
        start.append(use)
    for _ in range(words.pick(0, 0, 1, 1, 2)):
        start.extend(_statement(words))
    above = words.chance(0.5)

    def put(program: str) -> str:
        lines = program.strip("\n").split("\n")
        mains = [i for i, line in enumerate(lines) if line.startswith("fn main(")]
        if len(mains) != 1:
            raise ValueError("a koan has exactly one line that starts with `fn main(`")
        at = mains[0]
        lines[at + 1 : at + 1] = [f"    {line}" for line in start]
        uses = [line for line in lines if line.startswith("use ")] if above else []
        body = [line for line in lines if not (above and line.startswith("use "))]
        parts = [*uses, *items, *body] if above else [*body, *items]
        return "\n".join(line for part in parts for line in part.split("\n") if line.strip()) + "\n"

    return Draft(draft.statement, put(draft.buggy), put(draft.fixed), draft.tests)


_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'[a-z_]+\b(?!\')|\'(?:\\.|[^\'\\])\'|[A-Za-z_]\w*!?|\d[\w.]*|\S')
_LANGUAGE = frozenset(
    """
    Self as async await bool break char const continue crate dyn else enum extern f32 f64 false fn for
    i128 i16 i32 i64 i8 if impl in isize let loop main match mod move mut pub ref return self static str
    struct super trait true type u128 u16 u32 u64 u8 unsafe use usize where while
    """.split()  # noqa: SIM905
)
_LIBRARY = frozenset(
    """
    Add Arc AsRef BTreeMap BTreeSet Box Cell Clone Copy Debug Default Display Drop Eq Err Error Fn FnMut
    FnOnce From FromStr HashMap HashSet Hash Into IntoIterator Item Iterator Mul Neg None Ok Option Ord
    Ordering Output ParseIntError PartialEq PartialOrd Rc RefCell Result Some String Sub Sum ToString
    TryFrom Vec VecDeque abs all any as_mut as_ref as_str assert_eq borrow borrow_mut chars clear clone
    cloned cmp collect collections contains contains_key copied count default derive drain entry
    enumerate eq expect extend filter find first flat_map fmt fold format from from_str get get_mut hash
    insert into into_iter is_empty is_none is_some iter iter_mut join keys last len lines map map_err
    max min new next not ok ok_or or_insert panic parse partial_cmp pop pow print println push push_str
    rc remove replace retain rev skip sort sort_by sort_by_key split split_whitespace std sum swap take
    to_lowercase to_owned to_string to_uppercase to_vec trim unwrap unwrap_or values vec with_capacity
    write writeln zip
    """.split()  # noqa: SIM905
)
_KEPT = _LANGUAGE | _LIBRARY


def tokens(program: str) -> list[str]:
    """Rust tokens, coarsely: enough to compare programs."""
    return _TOKEN.findall(program)


def skeleton(program: str) -> str:
    """The program with all names but those of the language and the library, and all literals, replaced.

    Equal for renamed copies. A library name that is not in the list counts as a name, which can only
    make two programs look more alike than they are.
    """
    seen: dict[str, str] = {}
    out: list[str] = []
    for token in tokens(program):
        if token[0] == '"':
            out.append('""')
        elif token[0].isdigit():
            out.append("0")
        elif (token[0].isalpha() or token[0] == "_") and token.rstrip("!") not in _KEPT:
            out.append(seen.setdefault(token, f"v{len(seen)}"))
        else:
            out.append(token)
    return " ".join(out)


def cluster_of(program: str) -> str:
    """Short hash of the skeleton. Tasks of one cluster are the same program under other names."""
    return hashlib.sha256(skeleton(program).encode()).hexdigest()[:12]


def split_of(cluster: str) -> Split:
    """The split a cluster belongs to. By hash, so no program is in two splits, renamed or not."""
    bucket = int(cluster[:8], 16) % 100
    if bucket < 55:
        return "pretrain"
    if bucket < 77:
        return "day"
    return "dev" if bucket < 85 else "frozen"
