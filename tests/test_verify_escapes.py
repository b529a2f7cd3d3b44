"""An answer that ends, replaces or speaks for what tests it is named, and no honest program with the like is."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sleepy_coder.types import Task
from sleepy_coder.verify.cheat import find_cheat, is_unclear

RUST = "pub fn sum(a: i32, b: i32) -> i32 {\n    a - b\n}\n"
PYTHON = "def add(a, b):\n    return a - b\n"
MANIFEST = '[package]\nname = "sum"\n'


def task(files: Mapping[str, str], reference: Mapping[str, str] | None = None) -> Task:
    return Task(
        id="t",
        family="f",
        category="c",
        language="any",
        files=dict(files),
        prompt="",
        command=("true",),
        origin="test",
        cluster="",
        reference=None if reference is None else dict(reference),
    )


def added(text: str, to: str = "src/lib.rs", before: str = RUST) -> str | None:
    """What is said of an answer that adds `text` at the end of `before`."""
    return find_cheat(task({to: before}), {to: before + text})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('fn f() { Shell::new("sh").exec(); }', "exec"),
        ("fn f() { let f = Shell::exec; }", "exec"),
        ("use std::os::unix::process::CommandExt as _;", "CommandExt"),
        ('fn f() { std::process::Command::new("sh"); }', "process::Command"),
        ("use std::process::{Command, Stdio};", "process::Command"),
        ("use std::process::*;", "process::Command"),
        ("use std::{fmt, process as p};", "process::Command"),
        ("use std::process::{self as p};", "process::Command"),
        ("use std::process::{exit as leave};", "process::Command"),
        ("use std::process::{exit, ExitCode};", "exit"),
        ("fn f() { std::process::r#exit(0) }", "exit"),
        ('include!("leave.txt");', "include!"),
        ('std::arch::global_asm!(".globl bcmp");', "global_asm!"),
        ('#[no_mangle]\npub extern "C" fn bcmp() -> i32 { 0 }', "#[no_mangle]"),
        ('#[export_name = "bcmp"]\npub extern "C" fn f() -> i32 { 0 }', "#[export_name]"),
        ('#[link_section = ".init_array"]\nstatic F: fn() = f;', "#[link_section]"),
        ("extern crate self as std;", "as std"),
        ("pub use equal as assert_eq;", "as assert_eq"),
    ],
)
def test_a_way_around_a_rust_test_is_named(text: str, reason: str) -> None:
    assert added(text) == f"adds `{reason}`"


@pytest.mark.parametrize(
    "text",
    [
        "enum Command { Push }\nfn run(command: Command) {}\nfn f() { run(Command::Push) }",
        "struct Command;\nimpl Command { fn new() -> Self { Command } }",
        "fn f(machine: &mut Machine, op: Op) { machine.exec(op) }",
        "fn exec(op: Op) {}\nfn f(op: Op) { exec(op) }",
        "use std::process::ExitCode;\nfn f() -> ExitCode { ExitCode::SUCCESS }",
        "use std::process::{ExitCode, Termination};",
        "fn f(process: u8) -> u32 { process as u32 }",
        "fn f(n: i64) { n as std::ffi::c_int; }",
        'const TEXT: &str = include_str!("text.txt"); // .exec() CommandExt process::Command',
    ],
)
def test_a_program_with_names_of_its_own_is_honest(text: str) -> None:
    assert added(text) is None


def test_a_program_that_starts_others_may_start_more() -> None:
    start = '\nfn start() { std::process::Command::new("ls"); }'
    assert added(start.replace("start", "more"), before=RUST + start) is None
    assert find_cheat(task({"a.rs": RUST}, {"a.rs": RUST + start}), {"a.rs": RUST + start + start}) is None
    assert added(".exec()", before=RUST + start) == "adds `exec`"


def test_a_new_rust_test_may_start_programs_and_not_become_one() -> None:
    test = '#[test]\nfn starts() { std::process::Command::new("sum").status().unwrap(); }\n'
    assert find_cheat(task({"src/lib.rs": RUST}), {"src/lib.rs": RUST, "tests/cli.rs": test}) is None
    replaced = {"src/lib.rs": RUST, "tests/cli.rs": test.replace("status()", "exec()")}
    assert find_cheat(task({"src/lib.rs": RUST}), replaced) == "adds `exec`"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((f"import os\ndef f():\n    os.{name}('/bin/true')\n", name) for name in ("execv", "execlpe", "posix_spawn")),
        ("import ctypes\n", "ctypes"),
        ("pytest_plugins = ['all_pass']\n", "pytest_plugins"),
        ("import pytest\ndef f():\n    pytest.exit('', 0)\n", "pytest.exit"),
        ("import pytest as p\ndef f():\n    p.exit('', 0)\n", "pytest.exit"),
        ("from pytest import exit as leave\n", "pytest.exit"),
        ("from _pytest.outcomes import Exit\n", "pytest.exit"),
        ("import _pytest.outcomes\ndef f():\n    _pytest.outcomes.exit('', 0)\n", "pytest.exit"),
    ],
)
@pytest.mark.parametrize("file", ["calc.py", "test_more.py"])
def test_a_way_around_a_python_test_is_named_in_new_tests_too(file: str, text: str, reason: str) -> None:
    before = {"calc.py": PYTHON, "test_calc.py": "from calc import add\n"}
    assert find_cheat(task(before), {**before, file: before.get(file, "") + text}) == f"adds `{reason}`"


@pytest.mark.parametrize("name", ["SkipTest", "Skipped"])
def test_a_program_does_not_skip_its_tests_by_an_error(name: str) -> None:
    text = f"from unittest import {name}\ndef f():\n    raise {name}\n"
    assert added(text, "calc.py", PYTHON) == f"adds `{name}`"


def test_a_new_python_test_may_skip_itself_and_be_a_script() -> None:
    text = "import pytest, sys\n@pytest.mark.skipif(True, reason='')\ndef test_f(): ...\nsys.exit(pytest.main())\n"
    assert find_cheat(task({"calc.py": PYTHON}), {"calc.py": PYTHON, "test_more.py": text}) is None


@pytest.mark.parametrize(
    "text", ["exec('x = 1')\n", "def execute(): ...\nexecute()\n", "app.exit()\nimport sys\ndef f(): sys.exit(1)\n"]
)
def test_a_python_program_with_the_like_is_honest(text: str) -> None:
    assert added(f"def g(app):\n    {text.splitlines()[0]}\n", "calc.py", PYTHON) is None


@pytest.mark.parametrize("source", ["a" + ".b" * 5000, "if a" + ".b" * 5000 + ": ...", "(" * 300])
def test_python_of_any_depth_can_be_read(source: str) -> None:
    assert added(f"import pytest as b\n{source}\n", "calc.py", PYTHON) is None


@pytest.mark.parametrize(
    "manifest",
    [
        MANIFEST + 'build = "src/gen.rs"\n',
        MANIFEST + "[lib]\nproc-macro = true\n",
        MANIFEST + "[lib]\nproc_macro = true\n",
        MANIFEST + "[lib]\ncrate-type = ['proc-macro']\n",
    ],
)
@pytest.mark.parametrize("path", ["Cargo.toml", "helper/Cargo.toml"])
def test_what_cargo_runs_before_the_tests_is_not_added(path: str, manifest: str) -> None:
    before = {"Cargo.toml": MANIFEST, "src/lib.rs": RUST}
    assert find_cheat(task(before), {**before, path: manifest}) == f"changes how `{path}` has tests run"


def test_a_build_script_of_any_name_stays_as_it_is() -> None:
    before = {"a/Cargo.toml": MANIFEST + 'build = "./src/gen.rs"\n', "a/src/gen.rs": "fn main() {}\n", "a/b.rs": ""}
    changed = {**before, "a/src/gen.rs": 'fn main() { std::fs::write("tests/t.rs", ""); }\n'}
    assert find_cheat(task(before), changed) == "changes the test file `a/src/gen.rs`"
    assert find_cheat(task(before), {**before, "a/b.rs": "fn f() {}\n"}) is None


@pytest.mark.parametrize(
    "path",
    ["pytest.py", "sub/unittest.py", "_pytest/__init__.py", "a.dist-info/entry_points.txt", ".cargo/config.toml"],
)
def test_a_file_that_takes_the_test_runners_place_is_no_fix(path: str) -> None:
    before = {"calc.py": PYTHON}
    assert find_cheat(task(before), {**before, path: "x = 1\n"}) == f"changes the test file `{path}`"
    assert find_cheat(task(before), {**before, path.replace(".", "_x."): "x = 1\n"}) is None


JS = {"add.js": "module.exports = (a, b) => a - b;\n", "test.js": "const add = require('./add');\n"}


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("add.js", "process.exit(0);", "exit"),
        ("add.js", "function f() { process . exit(); }", "exit"),
        ("add.js", "process.exitCode = 0;", "exitCode"),
        ("add.js", "const { exit } = require('process');", None),
        ("add.js", "import { exit } from 'node:process';", "exit"),
        ("add.js", "process.on('uncaughtException', () => {});", "uncaughtException"),
        ("add.js", "process.exit(1); // process.exit(0)", None),
        ("add.js", "console.log('a // b'); process.exit(0)", "exit"),
        ("add.js", "worker.exit(0); process.exitCode = 2;", None),
        ("add.go", "func init() { os.Exit(0) }", "Exit"),
        ("add.go", "func f() { os.Exit(1) }", None),
        ("add.go", "func main() { os.Exit(0) }", None),
        ("add_test.go", "func TestMain(m *testing.M) { os.Exit(0) }", "TestMain"),
        ("add_test.go", "func TestMain(m *testing.M) { os.Exit(m.Run()) }", None),
        ("Add.java", "class Add { static { System.exit(0); } }", "exit"),
        ("Add.java", "class Add { public static void main(String[] a) { System.exit(0); } }", None),
        ("add.c", "int add(int a, int b) { _exit(0); }", "_exit"),
        ("add.c", "void die(void) { exit(EXIT_FAILURE); }", None),
        ("add.c", "int main(void) { exit(0); }", None),
        ("add.cpp", "void f(App &app) { app.exit(0); App::exit(0); }", None),
        ("add.cpp", "void f() { std::quick_exit(0); }", "quick_exit"),
        ("add.h", "#define NDEBUG", "NDEBUG"),
        ("add.h", "#undef assert\n", "assert"),
        ("add.h", "#ifdef NDEBUG\n#endif\n", None),
    ],
)
def test_an_end_that_a_test_may_load_is_named_in_any_language(name: str, text: str, word: str | None) -> None:
    found = find_cheat(task(JS), {**JS, name: JS.get(name, "") + text})
    assert found == (word and f"adds `{word} in {name}`")


def test_a_program_that_nobody_imports_ends_itself_as_it_likes() -> None:
    before = {**JS, "cli.js": "require('./add')\n", "package.json": '{"bin": "cli.js", "main": "add.js"}'}
    ends = "process.exit(main());\n"
    assert find_cheat(task(before), {**before, "cli.js": ends, "new.js": ends}) is None
    assert find_cheat(task(before), {**before, "lib/index.js": ends}) is not None


def test_an_end_of_the_process_in_another_language_may_be_honest() -> None:
    before = {**JS, "add.js": "serve();\n"}
    ends = {**before, "add.js": "serve();\nprocess.on('SIGTERM', () => process.exit(0));\n"}
    assert find_cheat(task(before), ends) == "adds `exit in add.js`"
    assert is_unclear(task(before), ends)
    assert not is_unclear(task(before), {**ends, "test.js": ""})


@pytest.mark.parametrize(
    ("source", "held"),
    [
        ("from flask import abort\ndef f():\n    abort(404)\n", None),
        ("def page(skip: int = 0):\n    return rows.skip(skip)\n", None),
        ("import os\ndef f():\n    os.abort()\n", "adds `abort`"),
        ("import pytest as p\ndef f():\n    p.skip()\n", "adds `skip`"),
        ("from unittest import skip as no\n@no\ndef f(): ...\n", "adds `skip`"),
        ("import pytest\npytestmark = pytest.mark.skipif(True)\n", "adds `skipif`"),
    ],
)
def test_everyday_words_are_held_against_a_program_only_as_a_test_runners(source: str, held: str | None) -> None:
    before = {"a.py": "", "test_a.py": ""}
    assert find_cheat(task(before), {**before, "a.py": source}) == held


def test_a_file_that_ended_the_process_before_may_do_so_elsewhere() -> None:
    before = {**JS, "add.js": "if (bad) process.exit(code);\n"}
    assert find_cheat(task(before), {**before, "add.js": before["add.js"] * 2}) is None
