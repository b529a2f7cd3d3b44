"""The house keeps its floors: imports only go down, and torch stays in its rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sleepy_coder"
FLOORS = {
    "types": 0,
    "errors": 0,
    "config": 1,
    "config_load": 1,
    "ports": 1,
    "files": 1,
    "small_database": 1,
    "window": 1,
    "pause": 2,
    "due": 3,
    "events": 1,
    "log": 2,
    "dialogue": 3,
    "curfew": 3,
    "nap_files": 3,
    "tasks": 3,
    "verify": 3,
    "serve": 3,
    "store": 3,
    "store_database": 3,
    "store_exchanges": 3,
    "store_gate": 3,
    "store_figures": 3,
    "store_lessons": 3,
    "store_messages": 3,
    "store_migrations": 3,
    "store_practice": 3,
    "store_prune": 3,
    "store_quarantine": 3,
    "store_rescue": 3,
    "store_rows": 3,
    "store_spare": 3,
    "store_sqlite": 3,
    "registry": 3,
    "adapter_check": 3,
    "adapter_manifest": 3,
    "adapter_pointer": 3,
    "adapter_quarantine": 3,
    "store_canary": 3,
    "store_shadow": 3,
    "model_card": 3,
    "collect": 4,
    "learn": 4,
    "nano": 4,
    "idle": 4,
    "judge": 5,
    "report": 5,
    "parts": 5,
    "journal": 5,
    "material": 5,
    "deploy": 5,
    "canary": 5,
    "shadow": 5,
    "drill": 5,
    "nap": 5,
    "anchors": 5,
    "abandon": 5,
    "practice": 5,
    "sifting": 5,
    "preview": 5,
    "choose": 5,
    "closing": 5,
    "trial": 5,
    "share": 5,
    "arms": 5,
    "fresh": 5,
    "renewal": 6,
    "night": 6,
    "tidy": 6,
    "service": 6,
    "service_site": 6,
    "service_manager": 6,
    "wiring": 7,
    "console": 7,
    "doctor": 7,
    "demo": 8,
    "demo_home": 8,
    "cli": 8,
    "cli_koans": 8,
    "cli_gate": 8,
    "cli_canary": 8,
    "cli_gateway": 8,
    "cli_recipes": 8,
    "cli_run": 8,
    "cli_sections": 8,
    "cli_status": 8,
    "cli_doctor": 8,
    "cli_serve": 8,
    "cli_service": 8,
    "cli_study": 8,
    "cli_cycles": 8,
    "cycles": 8,
    "study": 8,
    "cli_data": 8,
    "cli_adapters": 8,
    "cli_config": 8,
    "cli_daemon": 8,
    "nano_card": 8,
    "reference": 8,
    "__main__": 8,
    "__init__": 0,
}
HEAVY = {"torch", "transformers", "peft", "tokenizers"}
CHILDREN = ("train_lora", "lora_loss", "lora_run", "ranks", "launch_probe", "train_trl", "merge_lora")
LORA = {f"learn/{name}.py" for name in CHILDREN}
MAY_IMPORT_TORCH = LORA | {"nano/build.py", "nano/train.py", "nano/init.py", "nano/tokenizer.py"}
MODULES = sorted(PACKAGE.rglob("*.py"))
DAEMON = sorted((PACKAGE.parent / "daemon" / "sleepyd").rglob("*.py"))
MAY_IMPORT_AIOHTTP = {"gateway.py", "gateway_main.py", "main.py", "pages.py", "passing.py", "sockets.py"}
COMMANDS = {path.stem for path in PACKAGE.glob("cli*.py")} | {"__main__"}


def room(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "sleepy_coder")
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_go_down(path: Path) -> None:
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("sleepy_coder.")}
    upward = {name for name in ours & FLOORS.keys() if FLOORS[name] > FLOORS[room(path)]}
    assert not upward


def test_every_module_has_a_floor() -> None:
    assert {room(path) for path in MODULES} <= FLOORS.keys()


def test_only_the_trainer_the_embedded_server_and_the_nano_builder_import_torch() -> None:
    heavy = {str(p.relative_to(PACKAGE)) for p in MODULES if HEAVY & {n.split(".")[0] for n in imported(p)}}
    assert {name for name in heavy if not name.startswith("serve/embedded")} <= MAY_IMPORT_TORCH


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_imports_the_daemon_above_it_nor_what_only_the_daemon_needs(path: Path) -> None:
    assert not {"sleepyd", "aiohttp", "uvloop"} & {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", DAEMON, ids=lambda p: p.name)
def test_the_daemon_stands_on_the_house_and_not_on_its_commands(path: Path) -> None:
    names = imported(path)
    assert not COMMANDS & {name.split(".")[1] for name in names if name.startswith("sleepy_coder.")}
    assert not HEAVY & {name.split(".")[0] for name in names}


def test_only_the_modules_at_the_wire_import_the_http_library() -> None:
    wire = {path.name for path in DAEMON if {"aiohttp", "uvloop"} & {name.split(".")[0] for name in imported(path)}}
    assert wire <= MAY_IMPORT_AIOHTTP


def test_asking_for_help_does_not_import_torch() -> None:
    code = (
        "import sys; from sleepy_coder.__main__ import main; sys.argv = ['sleepy-coder', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'peft'} & sys.modules.keys(), 'heavy imports'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_daemon_does_not_import_pandas_for_a_library_that_could_use_it() -> None:
    code = (
        "import sys, sleepyd.main\n"
        "assert not {'pandas', 'pyarrow', 'torch', 'matplotlib'} & sys.modules.keys(), 'heavy imports'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
