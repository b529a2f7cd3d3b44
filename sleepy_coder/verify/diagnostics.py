"""What rustc and Rust's test harness say, made short enough for a small model. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

_CLIP = 160


class _Expansion(BaseModel):
    model_config = ConfigDict(frozen=True)

    span: Span


class Span(BaseModel):
    """A place in the source; `line_start` counts from 1."""

    model_config = ConfigDict(frozen=True)

    file_name: str
    line_start: int
    is_primary: bool
    label: str | None
    expansion: _Expansion | None = None

    def at_call(self) -> tuple[str, int]:
        """File and line where the outermost macro was called: a line that the model wrote."""
        outer = self
        while outer.expansion:
            outer = outer.expansion.span
        return outer.file_name, outer.line_start


class _Code(BaseModel):
    model_config = ConfigDict(frozen=True)

    code: str


class Diagnostic(BaseModel):
    """One message of `rustc --error-format=json` (rustc book, "JSON Output"), without its children."""

    model_config = ConfigDict(frozen=True)

    message: str
    code: _Code | None = None
    level: str
    spans: tuple[Span, ...]
    rendered: str | None = None

    @property
    def error_code(self) -> str:
        """`E0382`, or empty: rustc shows the names of lints in another way."""
        return self.code.code if self.code and re.fullmatch(r"E\d+", self.code.code) else ""


class CargoMessage(BaseModel):
    """One line of `cargo --message-format=json` that carries a diagnostic."""

    model_config = ConfigDict(frozen=True)

    reason: Literal["compiler-message"]
    message: Diagnostic


def read_errors(lines: Iterable[str]) -> Iterator[Diagnostic]:
    """The errors among JSON lines of rustc or cargo. Other lines, also truncated ones, are left out."""
    for line in lines:
        if not line.startswith("{"):
            continue
        try:
            if line.startswith('{"reason"'):
                found = CargoMessage.model_validate_json(line).message
            else:
                found = Diagnostic.model_validate_json(line)
        except ValidationError:
            continue
        if found.level.startswith("error") and not found.message.startswith("aborting due to"):
            yield found


_MAX_ERRORS = 2
_MAX_LABELS = 4


def compact(
    diagnostics_json_lines: Iterable[str],
    *,
    files: Mapping[str, str] | None = None,
) -> str:
    """The first errors as the model sees them: a line per error, then a line per label.

    `error[E0382]: borrow of moved value: `x``, then `12: value moved here` (the primary place first).
    `files` are the model's own, path to text: places beyond their lines (hidden tests,
    the standard library) are left out, and labels name their file when there are several.
    """
    sizes = None if files is None else {path: text.count("\n") + 1 for path, text in files.items()}
    out: list[str] = []
    # cargo reports an error once per target that it builds.
    for error in list(dict.fromkeys(read_errors(diagnostics_json_lines)))[:_MAX_ERRORS]:
        out.append(f"error{f'[{error.error_code}]' if error.error_code else ''}: {one_line(error.message)}")
        labels: list[str] = []
        for span in sorted(error.spans, key=lambda span: not span.is_primary):
            path, line = span.at_call()
            if line > (sizes.get(path, 0) if sizes is not None else line) or path.startswith(("/", "<")):
                continue
            place = f"{path}:{line}" if sizes and len(sizes) > 1 else str(line)
            labels.append(f"{place}: {one_line(span.label)}" if span.label else f"{place}:")
        out.extend(list(dict.fromkeys(labels))[:_MAX_LABELS])
    return "\n".join(out)


_QUOTED = re.compile(r"`[^`]*`|\"(?:\\.|[^\"\\])*\"")
_PATH = re.compile(r"\S*(?:/\S*|\.rs\b\S*)")
_NUMBER = re.compile(r"-?\b\d[\d_]*(?:\.\d+)?(?:[iuf](?:8|16|32|64|128|size))?\b")
_COUNTED = re.compile(r"(?<=# )([a-z]+?)s?\b( were\b| are\b)?")


def signature(code: str, message: str) -> str:
    """Code and message without names, types, numbers and paths: equal for equal mistakes."""
    text = _QUOTED.sub("_", one_line(message, None))
    text = _NUMBER.sub("#", _PATH.sub("_", text))
    text = _COUNTED.sub(lambda found: found[1] + {" were": " was", " are": " is"}.get(found[2], ""), text)
    return f"{code}: {text}" if code else text


_ERROR = re.compile(r"^error(?:\[(E\d+)\])?: (.*)$")


def error_in(feedback: str) -> str:
    """The signature of the first error in a feedback as `compact` writes it, or of its first line."""
    first = feedback.partition("\n")[0]
    found = _ERROR.match(first)
    return signature(found[1] or "", found[2]) if found else signature("", first)


def one_line(text: str, limit: int | None = _CLIP) -> str:
    """`text` on one line, cut to `limit` characters."""
    flat = " ".join(text.split())
    return flat if limit is None or len(flat) <= limit else flat[: limit - 3] + "..."


_PANIC = re.compile(r"panicked at [^\n]*:\n(.*?)(?:\nnote: run with|\nstack backtrace:|\n\n|\Z)", re.DOTALL)
_FAILED = re.compile(r"^---- (\S+) stdout ----\n(.*?)(?=^---- |^failures:|\Z)", re.DOTALL | re.MULTILINE)


def panic_message(stderr: str) -> str | None:
    """The message of the first panic, on one line; None when there was none."""
    found = _PANIC.search(stderr)
    return one_line(found[1]) if found else None


def failed_test(stdout: str) -> tuple[str, str] | None:
    """Name (without its module) and message of the first failed test in libtest's output."""
    found = _FAILED.search(stdout)
    if not found:
        return None
    return found[1].rpartition("::")[2], panic_message(found[2]) or one_line(found[2])
