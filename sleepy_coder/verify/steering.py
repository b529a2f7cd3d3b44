"""What the settings of a project say of its tests, beside all else that they say. Pure."""

from __future__ import annotations

import json
import posixpath
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

_SETTINGS = frozenset({"pyproject.toml", "Cargo.toml", "package.json"})
_BUILD = "package build = "
_NPM_TESTS = ("pretest", "test", "posttest")
_JS_RUNNERS = ("ava", "jest", "mocha", "tap", "vitest")


def steering_of(path: str, text: str | None, scripts: Iterable[str]) -> frozenset[str]:
    """What the file says of tests, where it is one that steers them in a part of it. `scripts` are npm's that run."""
    return _steering(text, scripts) if PurePosixPath(path).name in _SETTINGS else frozenset()


def build_scripts(files: Mapping[str, str]) -> set[str]:
    """The files that manifests name as build scripts, which are not called `build.rs` then."""
    manifests = [path for path in files if PurePosixPath(path).name == "Cargo.toml"]
    said = [(posixpath.dirname(path), one) for path in manifests for one in _steering(files[path], frozenset())]
    named = [posixpath.join(folder, one.removeprefix(_BUILD)) for folder, one in said if one.startswith(_BUILD)]
    return set(map(posixpath.normpath, named))


def _steering(text: str | None, scripts: Iterable[str]) -> frozenset[str]:
    """What a project's settings say of tests: pytest's table, npm's scripts, what keeps cargo from running them.

    Of a file that cannot be read, or has no tables where they belong, all of it.
    """
    try:
        if (text or "").lstrip().startswith("{"):
            return frozenset(_steered_by_npm(json.loads(text or ""), scripts))
        return frozenset(_steered(tomllib.loads(text or "")))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return frozenset((text or "",))


def _steered_by_npm(settings: dict[str, Any], run: Iterable[str]) -> Iterator[str]:
    """`run` are the scripts that the check runs; the test is one for any check, which may lead there unseen."""
    scripts = settings.get("scripts", {})
    yield from (f"{name}: {scripts[name]}" for name in {*_NPM_TESTS, *run} if name in scripts)
    yield from (f"{runner} {settings[runner]}" for runner in _JS_RUNNERS if runner in settings)


def _steered(settings: dict[str, Any]) -> Iterator[str]:
    if "pytest" in (tools := settings.get("tool", {})):
        yield f"pytest {tools['pytest']}"
    package, lib = settings.get("package", {}), settings.get("lib", {})
    # Build scripts and procedural macros run before the tests, and may rewrite them.
    if "build" in package:
        yield f"{_BUILD}{package['build']}"
    if lib.get("proc-macro") or lib.get("proc_macro") or "proc-macro" in lib.get("crate-type", ()):
        yield "lib proc-macro = true"
    targets = [(kind, one) for kind in ("bin", "test") for one in settings.get(kind, [])]
    for kind, target in (("package", package), ("lib", lib), *targets):
        off = (key for key in ("autotests", "test", "harness") if target.get(key) is False)
        yield from (f"{kind} {target.get('name', '')} {key} = false" for key in off)
        elsewhere = (key for key in ("path", "required-features") if kind in ("lib", "test") and key in target)
        yield from (f"{kind} {target.get('name', '')} {key} = {target[key]}" for key in elsewhere)
