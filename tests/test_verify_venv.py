"""The virtual environment of a user's project: what the sandbox shows of it, and whether it is still the same."""

from __future__ import annotations

import os
import sys
import venv as builder
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from test_verify_command import task

from sleepy_coder.types import Outcome
from sleepy_coder.verify.command import TaskVerifier, verifier
from sleepy_coder.verify.installed import Installed, find_installed
from sleepy_coder.verify.venv import find_venv

USES = "import shelf, calc\nassert shelf.BOOKS == calc.BOOKS == 3\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose package `calc` is installed from `src/` as an editable one, beside another package, `shelf`."""
    project = tmp_path_factory.mktemp("home") / "project"
    builder.create(project / ".venv", symlinks=True)
    (packages,) = project.glob(".venv/lib/python3*/site-packages")
    (packages / "shelf.py").write_text("BOOKS = 3\n")
    (packages / "shelf.py").chmod(0o666)  # who cannot write would be refused for that alone
    (packages / "calc.pth").write_text(f"{project}/src\n")
    check = project / ".venv" / "bin" / "check"
    check.write_text(f"#!{project}/.venv/bin/python\n{USES}")
    check.chmod(0o755)
    (project / ".env").write_text("SECRET\n")
    return project


@pytest.fixture(scope="module")
def found(project: Path) -> Installed:
    return find_installed(project, {}, ())


@pytest.fixture(scope="module")
def real(found: Installed) -> Iterator[TaskVerifier]:
    with closing(verifier(installed=found)) as real:
        yield real


FILES = {"src/calc.py": "BOOKS = 3\n", "use.py": USES}


@pytest.mark.parametrize("command", ["python use.py", ".venv/bin/check", "{project}/.venv/bin/check"])
def test_a_project_is_checked_with_its_own_packages_and_what_it_installed_of_itself(
    real: TaskVerifier, project: Path, command: str
) -> None:
    check = task(tuple(command.format(project=project).split()), FILES)
    assert real.verify(check, FILES).passed
    assert real.verify(check, {**FILES, "src/calc.py": "BOOKS = 4\n"}).outcome is Outcome.FAIL


def test_nothing_but_its_packages_is_seen_of_a_project_and_they_cannot_be_changed(
    real: TaskVerifier, project: Path
) -> None:
    looks = f"import os, shelf\nassert not os.path.exists({str(project / '.env')!r})\nopen(shelf.__file__, 'a')\n"
    found = real.verify(task(("python", "looks.py"), {"looks.py": ""}), {"looks.py": looks})
    assert "Read-only file system" in found.detail


@pytest.mark.parametrize("tool", [".venv/bin/check", "/opt/no/such/tool"])
def test_a_tool_that_only_the_host_has_is_the_machines_fault(
    project: Path, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert verifier().verify(task((tool,), FILES), {**FILES, "a": ""}).outcome is Outcome.INFRA


def test_only_what_lies_in_an_environment_is_a_program_of_it(found: Installed, project: Path) -> None:
    (project / "check").symlink_to(project / ".venv" / "bin" / "check")
    tools = (".venv/bin/check", f"{project}/.venv/bin/check", "check", ".venv/../check", "/bin/sh", ".venv/pyvenv.cfg")
    assert [tool for tool in tools if found.venv and found.venv.holds(tool)] == list(tools[:2])


def test_the_active_environment_comes_first_unless_it_is_that_of_sleepy_coder(project: Path, tmp_path: Path) -> None:
    builder.create(tmp_path / "other", symlinks=True)
    other = find_venv(project, {"VIRTUAL_ENV": str(tmp_path / "other")})
    ours = find_venv(project, {"VIRTUAL_ENV": sys.prefix})
    assert other and other.folder == tmp_path / "other"
    assert ours and ours.folder == project / ".venv"


def test_an_environment_that_holds_the_project_itself_is_left_alone(tmp_path: Path) -> None:
    builder.create(tmp_path, symlinks=True)
    (tmp_path / "project").mkdir()
    assert find_venv(tmp_path / "project", {"VIRTUAL_ENV": str(tmp_path)}) is None


def test_an_environment_that_is_the_users_home_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder.create(tmp_path / "home", symlinks=True)
    (tmp_path / "project").mkdir()
    active = {"VIRTUAL_ENV": str(tmp_path / "home")}
    assert find_venv(tmp_path / "project", active) is not None
    monkeypatch.setenv("HOME", active["VIRTUAL_ENV"])
    assert find_venv(tmp_path / "project", active) is None


def test_an_environment_is_the_same_until_a_file_of_it_is_written(project: Path) -> None:
    found = find_venv(project, {})
    assert found and not found.changed
    (package,) = project.glob(".venv/lib/python3*/site-packages/shelf.py")
    package.write_text(package.read_text())
    assert found.changed


def test_a_file_that_was_written_and_given_its_old_time_again_has_changed_all_the_same(project: Path) -> None:
    found = find_venv(project, {})
    (package,) = project.glob(".venv/lib/python3*/site-packages/shelf.py")
    before = package.stat()
    package.write_text(package.read_text())
    os.utime(package, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert package.stat().st_mtime_ns == before.st_mtime_ns
    assert found and found.changed


def test_a_link_to_a_folder_that_is_put_into_an_environment_has_changed_it(project: Path, tmp_path: Path) -> None:
    found = find_venv(project, {})
    (packages,) = project.glob(".venv/lib/python3*/site-packages")
    (packages / "elsewhere").symlink_to(tmp_path)
    changed = found and found.changed
    (packages / "elsewhere").unlink()
    assert changed


def test_who_changes_the_python_beneath_has_changed_the_environment(tmp_path: Path) -> None:
    base, project = tmp_path / "base", tmp_path / "project"
    for folder in (base / "bin", base / "lib" / "python3.11", project / "venv" / "bin"):
        folder.mkdir(parents=True)
    (base / "bin" / "python").touch()
    (base / "lib" / "python3.11" / "os.py").touch()
    (project / "venv" / "pyvenv.cfg").write_text(f"home = {base}/bin\n")
    (project / "venv" / "bin" / "python").symlink_to(base / "bin" / "python")
    found = find_venv(project, {})
    assert found is not None and not found.changed
    (base / "lib" / "python3.11" / "sitecustomize.py").write_text("import atexit\n")
    assert found.changed


@pytest.fixture
def node_project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    for folder in ("node_modules/.bin", "node_modules/shelf", "node_modules/.cache", "apps/a/node_modules/other"):
        (project / folder).mkdir(parents=True)
    (project / "node_modules" / "shelf" / "index.js").write_text("books\n")
    (project / "node_modules" / ".cache" / "made.js").write_text("stale\n")
    (project / "linked").mkdir()
    (project / "linked" / "node_modules").symlink_to(tmp_path)
    (project / ".env").write_text("SECRET\n")
    tmp_path.chmod(0o755)
    return project


def test_nodes_packages_are_seen_read_only_in_the_projects_place_and_nothing_else_of_it_is(node_project: Path) -> None:
    installed = find_installed(node_project, {}, ())
    assert installed.packages == (node_project / "node_modules", node_project / "apps" / "a" / "node_modules")
    script = "grep books node_modules/shelf/index.js && test ! -e .env && test ! -e node_modules/.cache/made.js"
    writes = "touch node_modules/.cache/mine && ! touch node_modules/shelf/mine"
    with closing(verifier(installed=installed)) as real:
        files = {"check.sh": f"{script} && {writes}\n"}
        found = real.verify(task(("sh", "check.sh"), files), files)
    assert found.passed, found.detail


def test_who_changes_nodes_packages_has_changed_what_is_installed_but_no_manager_that_takes_notes(
    node_project: Path,
) -> None:
    installed = find_installed(node_project, {}, ())
    (node_project / "node_modules" / ".package-lock.json").write_text("{}")
    (node_project / "node_modules" / ".cache" / "more.js").write_text("")
    assert not installed.changed
    (node_project / "node_modules" / ".bin" / "jest").write_text("#!/bin/true\n")
    assert str(node_project / "node_modules") in installed.changed


def test_a_link_in_the_place_of_packages_is_not_shown(node_project: Path, tmp_path: Path) -> None:
    installed = find_installed(node_project, {}, ())
    packages = node_project / "node_modules"
    packages.rename(tmp_path / "moved")
    packages.symlink_to(tmp_path / "moved")
    assert packages not in installed.shown and installed.changed


def test_the_users_downloaded_packages_are_shown_only_to_a_project_that_reads_them(tmp_path: Path) -> None:
    home, project = tmp_path / "home", tmp_path / "project"
    caches = [home / "go" / "pkg" / "mod", home / ".m2" / "repository"]
    for folder in (*caches, project):
        folder.mkdir(parents=True)
    assert find_installed(project, {"HOME": str(home)}, ()).packages == ()
    (project / "go.mod").touch()
    go = find_installed(project, {"HOME": str(home)}, ())
    assert (go.packages, go.variables["GOMODCACHE"]) == ((caches[0],), str(caches[0]))
    (project / "pom.xml").touch()
    assert find_installed(project, {"HOME": str(home)}, ()).packages == tuple(caches)
    assert find_installed(project, {"HOME": str(home), "GOMODCACHE": str(tmp_path)}, ()).packages == (caches[1],)
