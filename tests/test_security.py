"""Promises of docs/security.md that no other test makes, and the page itself: each test that it names is there."""

from __future__ import annotations

import ast
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeClock, says
from gateway_house import gateway_house, run
from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder import wiring
from sleepy_coder.adapter_manifest import adapter_cycle, is_adapter_name
from sleepy_coder.config import Config
from sleepy_coder.errors import AdapterError
from sleepy_coder.files import private_folder
from sleepy_coder.registry import Registry

ROOT = Path(__file__).parent.parent
SOURCES = [*(ROOT / "sleepy_coder").rglob("*.py"), *(ROOT / "daemon" / "sleepyd").rglob("*.py")]
UNPICKLERS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
RUNNERS = {"eval", "exec", "compile", "__import__"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# The page


def promised() -> list[tuple[str, str]]:
    return re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs" / "security.md").read_text())


@pytest.mark.parametrize(("file", "test"), promised())
def test_a_test_that_the_page_names_is_there(file: str, test: str) -> None:
    assert f"def {test}(" in (ROOT / "tests" / file).read_text()


def test_every_threat_has_a_test() -> None:
    rows = [line for line in (ROOT / "docs" / "security.md").read_text().splitlines() if line.startswith("| ")]
    threats = [row for row in rows if row.count("|") == 4 and not row.startswith(("| threat", "| ---"))]
    assert len(threats) > 15
    assert not [row for row in threats if "::test_" not in row]


# Code that data could become


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_unpickled_and_no_text_is_run(path: Path) -> None:
    assert not list(runs_data(ast.parse(path.read_text())))


def runs_data(tree: ast.AST) -> Iterator[str]:
    """Whatever turns data into code or objects; `pickle.UnpicklingError` is only the name of an error."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UNPICKLERS:
            yield ast.unparse(node)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in UNPICKLERS and node.attr != "UnpicklingError":
            yield ast.unparse(node)
        if isinstance(node, ast.Call):
            called, given = ast.unparse(node.func), [ast.unparse(keyword) for keyword in node.keywords]
            if called in RUNNERS or called in ("yaml.load", "os.system", "os.popen"):
                yield ast.unparse(node)
            if (called == "torch.load" and "weights_only=True" not in given) or "allow_pickle=True" in given:
                yield ast.unparse(node)
            if "shell=True" in given:
                yield ast.unparse(node)


@pytest.mark.parametrize(
    "code", ["pickle.loads(x)", "from pickle import loads", "torch.load(p)", "eval(x)", "run(x, shell=True)"]
)
def test_the_search_finds_what_it_looks_for(code: str) -> None:
    assert list(runs_data(ast.parse(code)))


# Names


@given(st.one_of(st.text(), st.from_regex(r"sc-[\d./\\]+-[0-9a-f./]+\s?")))
def test_a_name_that_is_taken_for_an_adapters_is_one_plain_path_segment(name: str) -> None:
    assert is_adapter_name(name) == (adapter_cycle(name) is not None)
    if is_adapter_name(name):
        assert Path(name).name == name and name.isascii() and name.isprintable() and " " not in name


@pytest.mark.parametrize("name", ["../secret", "/etc", "sc-0001-00000000/../../x", "sc-0001-00000000\n", ".", ""])
def test_no_name_leads_out_of_the_registry(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").mkdir()
    registry = Registry(tmp_path / "adapters", FakeClock())
    for use in (registry.get, registry.verify, registry.activate):
        with pytest.raises(AdapterError):
            use(name)


# Who else is on the machine


@pytest.mark.parametrize("before", [None, 0o755])
def test_nobody_else_looks_into_the_state(tmp_path: Path, before: int | None) -> None:
    config = Config(home=tmp_path)
    if before is not None:
        config.state.mkdir()
        config.state.chmod(before)
    with wiring.open_store(config):
        assert mode(config.state) == 0o700


def test_a_private_folder_has_private_parents_only_where_it_makes_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    private_folder(tmp_path / "state")
    assert (mode(tmp_path), mode(tmp_path / "state")) == (0o755, 0o700)


def test_nobody_else_looks_into_the_adapters_unless_their_owner_opened_the_folder(tmp_path: Path) -> None:
    config = Config(home=tmp_path)  # pyright: ignore[reportCallIssue]
    wiring.open_registry(config)
    assert mode(config.adapters) == 0o700
    config.adapters.chmod(0o750)
    wiring.open_registry(config)
    assert mode(config.adapters) == 0o750


# What callers send


@pytest.mark.parametrize(
    "headers",
    [b"X-Large: " + b"a" * 100_000 + b"\r\n", b"".join(b"X-%d: a\r\n" % n for n in range(20_000))],
    ids=["one-large", "very-many"],
)
def test_headers_are_bounded(tmp_path: Path, headers: bytes) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"{}")) as house:
            request = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + b"\r\n"
            assert (await house.raw(request)).partition(b" ")[2].startswith(b"400")
            assert house.upstream.arrived == []
            assert (await house.get("/healthz"))[0] == 200

    run(story)


def test_a_refused_header_is_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"{}")) as house:
            request = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"s3cr3t" * 20_000 + b"\r\n\r\n"
            assert (await house.raw(request)).partition(b" ")[2].startswith(b"400")

    run(story)
    assert "Error handling request" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_a_key_of_many_kilobytes_reaches_the_model_server(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"{}")) as house:
            key = "Bearer " + "t" * 50_000
            assert (await house.get("/v1/models", Authorization=key))[0] == 200
            assert house.upstream.arrived[0].header("Authorization") == key

    run(story)


def test_a_request_line_is_bounded(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"{}")) as house:
            request = b"GET /v1/" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
            assert (await house.raw(request)).partition(b" ")[2].startswith(b"400")
            assert house.upstream.arrived == []

    run(story)
