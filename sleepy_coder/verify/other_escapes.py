"""The same words as in escapes.py for languages of which no more is known: an end of the process, asserts turned off.

A program may end itself. So an end counts only in what a test can load, and only one that may say that all is well; a
file that has one may have more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from sleepy_coder.verify.check_lines import object_in
from sleepy_coder.verify.languages import JS, JVM, OBJECTIVE_C, C

_FAILS = r"(?!\s*(?:-?[1-9]\d*|EXIT_FAILURE)\s*\))"
"""Behind an opening bracket: not a status that says what went wrong."""
_TEXT_OR_COMMENT = re.compile(
    r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|//[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/|\Z)""",
    re.DOTALL,
)
_ENDS = {
    "js": re.compile(
        rf"\b(?:process|Deno)\s*(?:\?\.|\.)\s*(exit|reallyExit)\s*\({_FAILS}"
        r"|\bprocess\s*(?:\?\.|\.)\s*(exitCode)\s*=(?!=|\s*[1-9])|\bprocess\s*\[\s*['\"`](exit|reallyExit)"
        r"|\b(exit)\b[^;\n]{0,200}(?:\bfrom\s*['\"](?:node:)?process|=\s*process\b)|['\"]process['\"]\s*\)\.(exit)"
        r"|['\"](uncaughtException|unhandledRejection)['\"]"
    ),
    "go": re.compile(rf"\b(?:os|syscall)\.(Exit)\s*\({_FAILS}"),
    "jvm": re.compile(
        rf"\bSystem\s*\.\s*(exit)\s*\({_FAILS}|\bgetRuntime\s*\(\s*\)\s*\.\s*(halt)\s*\({_FAILS}|\b(exitProcess)\s*\({_FAILS}"
    ),
    "c": re.compile(rf"(?<![\w.>:])(?:std)?(?:::)?\b(_exit|_Exit|quick_exit|exit)\s*\({_FAILS}"),
}
ENDS = frozenset(
    {"exit", "reallyExit", "exitCode", "uncaughtException", "unhandledRejection", "Exit", "halt", "exitProcess"}
    | {"_exit", "_Exit", "quick_exit"}
)
"""All words for an end of the process: a server that shuts down in order has them as well."""
_MAIN = {
    "go": re.compile(r"^func\s+main\s*\(", re.MULTILINE),
    "jvm": re.compile(r"\bstatic\s+(?:final\s+)?void\s+main\s*\(|\bfun\s+main\s*\(|\bdef\s+main\s*\("),
    "c": re.compile(r"\bmain\s*\("),
}
_NO_ASSERTS = re.compile(r"^[ \t]*#[ \t]*(?:define[ \t]+(NDEBUG|assert)|undef[ \t]+(assert))\b", re.MULTILINE)
_WHOLE_TESTS = re.compile(r"\bfunc\s+(TestMain)\s*\(")
_IN_BUILD = (
    (
        re.compile(r"(?:^|/)(?:pom\.xml|[^/]*\.gradle(?:\.kts)?|gradle\.properties|\.mvn/[^/]*)$"),
        re.compile(r"(?:\b|\bD)(skipTests?|skipITs|maven\.test\.skip|(?:test)?[fF]ailureIgnore|ignoreFailures)\b"),
    ),
    (
        re.compile(r"(?:^|/)(?:GNUm|[Mm])akefile$|\.(?:mk|cmake)$|(?:^|/)(?:CMakeLists\.txt|meson\.build)$"),
        re.compile(r"(?:\b|\bD)(NDEBUG)\b|\b(WILL_FAIL|SKIP_RETURN_CODE|SKIP_REGULAR_EXPRESSION)\b"),
    ),
    (
        re.compile(r"(?:^|/)\.npmrc$"),
        re.compile(r"^\s*(script-shell|node-options|ignore-scripts|globalconfig|userconfig)\b", re.MULTILINE),
    ),
)


def other_escapes(path: str, text: str, files: Mapping[str, str], is_test: bool) -> set[str]:
    """The words of the file at `path`, each with its path: a file of its own may have none that another has."""
    return {f"{word} in {path}" for word in _words(path, text, files, is_test)}


def _words(path: str, text: str, files: Mapping[str, str], is_test: bool) -> Iterator[str]:
    for of, words in _IN_BUILD:
        if of.search(path):
            yield from _found(words, text)
    if not (language := _language(path)):
        return
    code = _TEXT_OR_COMMENT.sub(lambda found: found[1] or " ", text)
    if language == "c":
        yield from _found(_NO_ASSERTS, code)
    elif language == "go" and ".Run()" not in code:
        yield from _found(_WHOLE_TESTS, code)
    ends: set[str] = set() if is_test else set(_found(_ENDS[language], code))
    if ends and (_is_imported(path, files) if language == "js" else not _MAIN[language].search(code)):
        yield from ends


def _language(path: str) -> str:
    suffix = PurePosixPath(path).suffix.lower()
    named = (("js", JS), ("c", C | OBJECTIVE_C), ("jvm", JVM), ("go", frozenset({".go"})))
    return next((language for language, suffixes in named if suffix in suffixes), "")


def _found(words: re.Pattern[str], text: str) -> Iterator[str]:
    for match in words.finditer(text):
        yield next(group for group in match.groups() if group)


def _is_imported(path: str, files: Mapping[str, str]) -> bool:
    """Whether another module names this one, or a package as what is imported by its own name."""
    file = PurePosixPath(path)
    if file.stem == "index":
        return True
    name = rf"(?:[^'\"`\n]*/)?{re.escape(file.stem)}(?:\.\w+)?['\"`]"
    loads = re.compile(rf"\b(?:from|import|(?:import|require\w*|mock)\s*\()\s*['\"`]{name}")
    named = re.compile(rf"['\"]{name}")
    for other, text in files.items():
        if other != path and PurePosixPath(other).suffix in JS | {".vue", ".svelte"} and loads.search(text):
            return True
        if PurePosixPath(other).name == "package.json" and named.search(_entries(text)):
            return True
    return False


def _entries(package: str) -> str:
    settings = object_in(package)
    return json.dumps([settings.get(key) for key in ("main", "module", "exports")])
