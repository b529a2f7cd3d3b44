"""Words by which a program ends, replaces or speaks for the process that tests it, before a test can fail.

They are counted, not understood: an answer may have as many of each as the task or its reference (cheat.py).
"""

from __future__ import annotations

import ast
import io
import re
import tokenize as python_tokenize
from collections.abc import Iterator, Sequence

from sleepy_coder.verify.rust_items import Token, closing

COMMAND = "process::Command"
"""Stands for every way to it: by its name, by all names of its module, or by another name for that."""

_EXITS = frozenset({"exit", "abort"})
# Code in a file of any name, or in another language: no rule would see it.
_UNSEEN = frozenset({"include", "global_asm"})
# Names that tests rely on, and that another macro or crate may be given.
_TRUSTED = frozenset({"std", "assert", "assert_eq", "assert_ne", "panic", "matches", "format", "vec"})

_PYTHON_ENDS = re.compile(r"_exit|exec[lv]p?e?|posix_spawnp?|ctypes|pytest_plugins|TEST_RUNNER")
_PYTHON_SKIPS = frozenset({"skipTest", "SkipTest", "Skipped", "xfail", "importorskip"})
# Everyday words, but for those of these modules.
_SKIPS_OF = frozenset({"abort", "skip", "skipif", "skipIf", "skipUnless"})
_SKIPPING = frozenset({"pytest", "unittest", "os"})
_PYTHON_EXITS = frozenset({"exit", "quit", "SystemExit"})
_PYTEST_EXITS = frozenset({"exit", "Exit", "*"})


def rust_escapes(tokens: Sequence[Token], is_test: bool) -> Iterator[str]:
    """Each place of one Rust file that names such a thing, by its name. A test may start programs (COMMAND)."""
    texts = [token.text.removeprefix("r#") for token in tokens]
    imports = False
    for at, (before, text, after) in enumerate(zip(["", *texts], texts, [*texts[1:], ""], strict=False)):
        imports = text == "use" or (imports and text != ";")
        if text in _EXITS and before not in ("fn", ".") and (before == "::" or after == "("):
            yield "exit"
        elif text == "CommandExt" or (text == "exec" and _replaces_the_process(before, texts[at + 1 : at + 3])):
            yield text
        elif text == "process":
            taken = _taken_from_process(imports, texts[at + 1 :])
            yield from (name for name in taken if name != COMMAND or not is_test)
        elif text in _UNSEEN and after in ("!", "as"):
            yield f"{text}!"
        elif text in _TRUSTED and before == "as" and after != "::":
            yield f"as {text}"


def _replaces_the_process(before: str, after: Sequence[str]) -> bool:
    """Whether an `exec` with these neighbours may be that of `CommandExt`, which takes no argument."""
    return before == "::" or (before == "." and (after[:1] != ["("] or after[1:] == [")"]))


def _taken_from_process(imports: bool, after: Sequence[str]) -> Iterator[str]:
    """What is reached through a `process` before these tokens, as far as it matters."""
    if imports and after[:1] == ["as"]:
        yield COMMAND
    if after[:1] != ["::"]:
        return
    inside = after[1 : closing(after, 1) + 1]
    if not {"Command", "*", "as", "$"}.isdisjoint(inside):
        yield COMMAND
    if inside[:1] == ["{"]:
        yield from ("exit" for name in inside if name in _EXITS)


def python_escapes(source: str, is_test: bool) -> Iterator[str]:
    """Each place of one Python file that names such a thing. A test may skip itself, and end when it is a script."""
    try:
        for token in python_tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == python_tokenize.NAME and (
                _PYTHON_ENDS.fullmatch(token.string) or (not is_test and token.string in _PYTHON_SKIPS)
            ):
                yield token.string
    except (python_tokenize.TokenError, SyntaxError):
        # The rest of a file that Python cannot read cannot run either.
        return
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    yield from _stops_pytest(tree)
    if not is_test:
        yield from _exits_at_once(tree)
        yield from _skips(tree)


def _stops_pytest(tree: ast.AST) -> Iterator[str]:
    """Uses of `pytest.exit`, which ends all tests with a status of its caller's choice."""
    nodes = list(ast.walk(tree))
    imported = [alias for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules = {(alias.asname or alias.name).rpartition(".")[2] for alias in imported if "pytest" in alias.name}
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr in _PYTEST_EXITS and _last_name(node.value) in modules:
            yield "pytest.exit"
        elif isinstance(node, ast.ImportFrom) and "pytest" in (node.module or ""):
            yield from ("pytest.exit" for alias in node.names if alias.name in _PYTEST_EXITS)


def _skips(tree: ast.AST) -> Iterator[str]:
    """Words by which a test is skipped or the process aborted, where they are pytest's, unittest's or os's."""
    nodes = list(ast.walk(tree))
    imported = [alias for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules = {alias.asname or alias.name for alias in imported if alias.name.partition(".")[0] in _SKIPPING} | {"mark"}
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr in _SKIPS_OF and _last_name(node.value) in modules:
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in _SKIPPING:
            yield from (alias.name for alias in node.names if alias.name in _SKIPS_OF)


def _exits_at_once(tree: ast.Module) -> Iterator[str]:
    """Ends of the process while a module is read: a test script that imports it ends with its status, and no test."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or _is_main_guard(node):
            continue
        if (name := _last_name(node)) in _PYTHON_EXITS:
            yield f"{name} at once"
        waiting.extend(ast.iter_child_nodes(node))


def _last_name(node: ast.AST) -> str:
    """`b` of `b` and of `a.b`; empty for what is neither."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_main_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and any(_last_name(part) == "__name__" for part in ast.walk(node.test))
