"""The units that `sleepy-coder service` writes, read by systemd's own tools, and what it does to a machine."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sleepy_coder.cli import app
from sleepy_coder.cli_service import check_rights
from sleepy_coder.config import (
    CREDENTIALS,
    CREDENTIALS_VARIABLE,
    Config,
    GatewaySettings,
    ModelSettings,
    ServerSettings,
)
from sleepy_coder.config_load import load_config
from sleepy_coder.errors import ConfigError, InfraError
from sleepy_coder.service import (
    HIDDEN,
    MARK,
    MODEL_SERVER,
    SERVICE,
    SOCKET,
    TEMPLATES,
    Folders,
    Piece,
    Scope,
    Site,
    closed,
)
from sleepy_coder.service import render as rendered
from sleepy_coder.service_manager import Manager, RealHands, SaidOnly, foreign, ours
from sleepy_coder.service_site import find_site, hidden_folders, home_of, left_behind, rust_sysroot

ANALYZE = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="`apt install systemd`")
SYSTEM, USER = Scope.SYSTEM, Scope.USER


@pytest.fixture(autouse=True)
def _tests_folder_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is: it may be elsewhere than in /tmp."""
    hidden = (*HIDDEN, tmp_path)
    monkeypatch.setattr("sleepy_coder.service.HIDDEN", hidden)
    monkeypatch.setattr("sleepy_coder.service_site.HIDDEN", hidden)


@dataclass
class RecordedHands:
    """Hands that note what they were told to do; `fail` names a program that does not work."""

    fail: str = ""
    ran: list[tuple[str, ...]] = field(default_factory=list)

    def write(self, piece: Piece) -> None:
        pass

    def remove(self, path: Path) -> None:
        pass

    def folder(self, path: Path) -> None:
        pass

    def run(self, *argv: str, seconds: float = 0) -> str:
        self.ran.append(argv)
        if argv[0] == self.fail:
            raise InfraError("it failed")
        return ""


Build = Callable[..., Site]


@pytest.fixture
def site(tmp_path: Path) -> Build:
    """A site whose console scripts exist, so that systemd finds what the units start."""
    scripts = tmp_path / "bin"
    scripts.mkdir()
    for name in ("sleepyd", "sleepy-coder"):
        (scripts / name).write_text("#!/bin/sh\n")
        (scripts / name).chmod(0o755)

    def build(scope: Scope = SYSTEM, home: Path = Path("/var/lib/sleepy-coder"), **changes: object) -> Site:
        config = Config(home=home, gateway=GatewaySettings(**changes.pop("gateway", {})))  # pyright: ignore
        return Site(scope, home, changes.pop("config", config), scripts, **changes)  # pyright: ignore

    return build


def units(site: Site) -> dict[str, str]:
    return {piece.path.name: piece.text for piece in rendered(site, Folders.of(site.scope))}


def values(unit: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{key}=")]


@ANALYZE
@pytest.mark.parametrize("scope", [SYSTEM, USER])
def test_systemd_reads_every_unit_without_a_word(site: Build, scope: Scope, tmp_path: Path) -> None:
    files: list[Path] = []
    for name, text in units(site(scope, home=tmp_path)).items():
        if name.endswith((".service", ".socket")):
            files.append(tmp_path / name)
            files[-1].write_text(text)
    command = ("systemd-analyze", *(["--user"] if scope is USER else []), "verify", "--man=no", *map(str, files))
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **runtime}, check=False)
    assert done.returncode == 0, done.stderr
    assert "sleepy" not in done.stderr


@ANALYZE
@pytest.mark.parametrize("hidden", [(), (Path("/root"),)])
def test_the_daemons_exposure_is_three_of_ten_at_most(site: Build, hidden: tuple[Path, ...], tmp_path: Path) -> None:
    unit = tmp_path / SERVICE
    unit.write_text(units(site(reads=hidden, groups=("render",)))[SERVICE])
    command = ("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=30", str(unit))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_every_relaxed_line_has_its_reason_and_no_tag_of_the_template_is_left(site: Build) -> None:
    for text in units(site()).values():
        assert "{{" not in text and "#:" not in text
        assert text.splitlines()[0].endswith(f"{MARK}; a change here is lost at the next one.")
    assert units(site())[SERVICE].count("# Relaxed: ") >= 6


def test_homes_are_hidden_but_for_the_folders_that_the_service_reads(site: Build) -> None:
    assert values(units(site(reads=(Path("/opt/venv"),)))[SERVICE], "ProtectHome") == ["yes"]
    unit = units(site(reads=(Path("/opt/venv"), Path("/root/.rustup/toolchains/stable"))))[SERVICE]
    assert values(unit, "ProtectHome") == ["tmpfs"]
    assert values(unit, "BindReadOnlyPaths") == ["/root/.rustup/toolchains/stable"]


def test_a_base_model_in_a_hidden_place_is_shown_with_the_files_that_it_links_to(tmp_path: Path) -> None:
    model, blobs = tmp_path / "snapshots" / "1", tmp_path / "blobs"
    model.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "abc").write_text("{}")
    (model / "config.json").symlink_to("../../blobs/abc")
    (tmp_path / "link").symlink_to(model)
    config = Config(model=ModelSettings(path=tmp_path / "link"))  # pyright: ignore[reportCallIssue]
    assert hidden_folders(config, False) == (blobs, tmp_path / "link", model)


def test_the_site_of_a_service_shows_the_base_model_of_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, model = tmp_path / "home", tmp_path / "model"
    home.mkdir()
    model.mkdir()
    (home / "sleepy-coder.toml").write_text(f'[model]\npath = "{model}"\n')
    monkeypatch.setattr("sleepy_coder.service_site.SYSTEM_HOME", home)
    monkeypatch.setattr("sleepy_coder.service_site.closed", lambda site: None)  # pyright: ignore
    monkeypatch.setenv(CREDENTIALS_VARIABLE, "")  # which the search for the site sets
    assert model in find_site(SYSTEM, None, False).hidden


@pytest.mark.parametrize("place", ["vllm", "home/vllm"])
def test_a_whole_home_or_all_of_tmp_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "home").mkdir()
    user = pwd.struct_passwd(("u", "x", 1, 1, "", str(tmp_path / "home"), "/bin/sh"))
    monkeypatch.setattr("sleepy_coder.service_site.pwd.getpwall", lambda: [user])
    config = Config(server=ServerSettings(engine="vllm", vllm=str(tmp_path / place)))  # pyright: ignore
    with pytest.raises(ConfigError, match=f"all of {(tmp_path / place).parent} would be shown"):
        hidden_folders(config, True)


def test_an_environment_is_shown_only_where_there_is_one(tmp_path: Path) -> None:
    scripts = tmp_path / "bin"
    scripts.mkdir()
    for name in ("python", "vllm"):
        (scripts / name).touch()
    config = Config(server=ServerSettings(engine="vllm", vllm=str(scripts / "vllm")))  # pyright: ignore
    assert hidden_folders(config, True) == (scripts,)


def test_a_base_model_that_is_not_there_yet_is_refused_where_it_would_stay_hidden(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no model"):
        hidden_folders(Config(model=ModelSettings(path=tmp_path / "later")), False)  # pyright: ignore[reportCallIssue]
    assert hidden_folders(Config(model=ModelSettings(path=Path("/opt/later"))), False) == ()  # pyright: ignore


def test_vllm_in_a_hidden_place_is_shown_with_its_environment_and_its_python_to_who_runs_it(tmp_path: Path) -> None:
    scripts, python = tmp_path / "tools" / "vllm" / "bin", tmp_path / "cpython"
    for folder in (scripts, python / "bin", tmp_path / "bin"):
        folder.mkdir(parents=True)
    (python / "bin" / "python3").touch()
    (scripts / "python").symlink_to(python / "bin" / "python3")
    (scripts / "vllm").touch()
    (tmp_path / "bin" / "vllm").symlink_to(scripts / "vllm")
    (scripts.parent / "pyvenv.cfg").touch()
    config = Config(server=ServerSettings(engine="vllm", vllm=str(tmp_path / "bin" / "vllm")))  # pyright: ignore
    assert hidden_folders(config, True) == (tmp_path / "bin", python, scripts.parent, scripts)
    assert hidden_folders(config, False) == ()


def test_nothing_leaves_the_machine_unless_the_settings_name_another_one(site: Build) -> None:
    far = Config(server=ServerSettings(url="http://10.0.0.7:8000"))  # pyright: ignore[reportCallIssue]
    assert values(units(site())[SERVICE], "IPAddressDeny") == ["any"]
    one_far = Config(server=ServerSettings(url="http://127.0.0.1:8000", replicas=("http://10.0.0.2:8000",)))  # pyright: ignore
    assert values(units(site(config=far))[SERVICE], "IPAddressDeny") == []
    assert values(units(site(config=one_far))[SERVICE], "IPAddressDeny") == []


@pytest.mark.parametrize(
    ("host", "listen"), [("127.0.0.1", "127.0.0.1:8400"), ("localhost", "127.0.0.1:8400"), ("::1", "[::1]:8400")]
)
def test_the_socket_listens_where_the_settings_say(site: Build, host: str, listen: str) -> None:
    assert values(units(site(gateway={"host": host}))[SOCKET], "ListenStream") == [listen]


def test_a_stop_has_time_for_all_replies_in_flight(site: Build) -> None:
    assert values(units(site(gateway={"drain_seconds": 300}))[SERVICE], "TimeoutStopSec") == ["480"]


def test_a_users_units_ask_for_nothing_that_their_manager_cannot_do(site: Build, tmp_path: Path) -> None:
    for name, unit in units(site(USER, home=tmp_path)).items():
        for key in ("User", "ProtectSystem", "ProtectHome", "StateDirectory", "DevicePolicy", "LoadCredential"):
            assert values(unit, key) == [], name
    assert set(units(site(USER))) == {SERVICE, SOCKET, MODEL_SERVER}


@pytest.mark.parametrize("path", ["/opt/with space", "/opt/100%", "/opt/$HOME", '/opt/"', "/opt/a:b"])
def test_a_path_that_a_unit_would_read_otherwise_is_refused(site: Build, path: str) -> None:
    with pytest.raises(ConfigError, match="cannot go into a unit"):
        rendered(site(USER, home=Path(path)), Folders.of(USER))


def test_a_folder_that_the_services_user_cannot_read_is_found(site: Build, tmp_path: Path) -> None:
    inner = tmp_path / "venv"
    inner.mkdir(mode=0o755)
    assert closed(site(reads=(Path("/usr"),))) is None
    assert closed(site(reads=(inner,))) is None  # in /tmp, which is hidden and shown from this folder on
    inner.chmod(0o700)
    assert closed(site(reads=(inner,))) == inner


def test_an_empty_or_absent_credential_is_no_key_and_another_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CREDENTIALS_VARIABLE, str(tmp_path))
    (tmp_path / "server.api_key").write_text("\n")
    assert load_config(tmp_path).server.api_key is None
    (tmp_path / "gateway.api_key").write_text("a-long-enough-key\n")
    (tmp_path / "sleepy-coder.toml").write_text('[gateway]\nport = 9000\napi_key = "another-key"\n')
    gateway = load_config(tmp_path).gateway
    assert (gateway.api_key, gateway.port) == ("a-long-enough-key", 9000)


def test_each_credential_is_a_setting_that_exists() -> None:
    for name in CREDENTIALS:
        section, key = name.split(".")
        assert key in type(getattr(Config(), section)).model_fields


def test_a_file_of_somebody_else_is_neither_overwritten_nor_removed(tmp_path: Path) -> None:
    theirs, mine = tmp_path / SERVICE, tmp_path / SOCKET
    theirs.write_text("[Service]\n")
    mine.write_text(f"# {MARK}\n")
    assert foreign([mine, tmp_path / "absent"]) is None
    assert foreign([mine, theirs]) == theirs
    assert ours([mine, theirs, tmp_path / "absent"]) == (mine,)


def test_real_hands_write_whole_files_that_everyone_may_read_and_remove_them(tmp_path: Path) -> None:
    piece = Piece(tmp_path / "deep" / SERVICE, "text\n")
    hands = RealHands()
    hands.write(piece)
    assert piece.path.read_text() == "text\n"
    assert stat.S_IMODE(piece.path.stat().st_mode) == 0o644
    hands.remove(piece.path)
    hands.remove(piece.path)
    assert not piece.path.exists()


def test_a_command_that_fails_is_an_error_with_its_words() -> None:
    with pytest.raises(InfraError, match="failed: no such thing"):
        RealHands().run("sh", "-c", "echo no such thing >&2; exit 3")
    with pytest.raises(InfraError, match="is missing"):
        RealHands().run("no-such-program-anywhere")
    with pytest.raises(InfraError, match="has not ended"):
        RealHands().run("sleep", "600", seconds=0.05)


def test_a_user_speaks_to_their_own_manager() -> None:
    hands = RecordedHands()
    Manager(USER, hands).systemctl("daemon-reload")
    Manager(SYSTEM, hands).systemctl("daemon-reload")
    assert hands.ran == [("systemctl", "--user", "daemon-reload"), ("systemctl", "daemon-reload")]


def test_units_that_come_one_by_one_are_all_shown_to_systemd() -> None:
    hands = RecordedHands()
    Manager(USER, hands).verify(Piece(Path(name), "[Unit]\n") for name in (SERVICE, "notes.txt", SOCKET))
    assert [Path(word).name for word in hands.ran[0] if word.startswith("/")] == [SERVICE, SOCKET]


def test_a_unit_that_does_not_get_ready_is_an_error_that_says_where_its_log_is() -> None:
    with pytest.raises(InfraError, match="did not become ready") as raised:
        Manager(SYSTEM, RecordedHands(fail="systemctl")).restart(SERVICE, 1)
    assert "journalctl -u sleepy-coder.service" in raised.value.remedy


def test_what_is_only_said_is_not_done(tmp_path: Path) -> None:
    said: list[str] = []
    hands = SaidOnly(said.append)
    hands.write(Piece(tmp_path / SERVICE, "text"))
    hands.folder(tmp_path / "folder")
    hands.run("touch", str(tmp_path / "file"))
    assert list(tmp_path.iterdir()) == []
    assert len(said) == 3


def test_root_is_asked_for_with_the_command_to_type() -> None:
    with pytest.raises(ConfigError) as raised:
        check_rights(SYSTEM, "install", 1000)
    assert "sudo /" in raised.value.remedy and "service install" in raised.value.remedy
    check_rights(SYSTEM, "install", 0)
    check_rights(USER, "install", 1000)


def test_a_users_home_is_the_one_that_was_installed_before(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    assert home_of(USER, folders, {"XDG_STATE_HOME": "/state"}) == Path("/state/sleepy-coder")
    (tmp_path / SERVICE).write_text("[Service]\nWorkingDirectory=/data/nights\n")
    assert home_of(USER, folders) == Path("/data/nights")
    assert home_of(SYSTEM, folders) == Path("/var/lib/sleepy-coder")


def test_settings_of_the_shell_that_the_service_will_not_have_are_named() -> None:
    environ = {"SLEEPY_CODER_HOME": "/x", "SLEEPY_CODER_SERVER__URL": "http://a", "PATH": "/bin"}
    assert left_behind(environ) == ("SLEEPY_CODER_SERVER__URL",)


def test_the_toolchain_is_the_real_one_and_not_rustups_stand_in() -> None:
    sysroot = rust_sysroot()
    assert sysroot is None or (sysroot / "bin" / "rustc").is_file()


def test_every_template_is_packed_into_the_wheel_and_used() -> None:
    root = Path(__file__).parent.parent
    assert '"systemd" = "sleepy_coder/systemd"' in (root / "pyproject.toml").read_text()
    assert {path.name for path in (root / "systemd").iterdir()} == {*TEMPLATES, "README.md"}


def test_a_home_that_the_service_does_not_take_over_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_site(*_: object) -> Site:
        raise ConfigError("enough")

    monkeypatch.setattr("sleepy_coder.cli_service.find_site", no_site)
    for arguments, told in (([], True), (["--user"], False)):
        done = CliRunner().invoke(app, ["--home", str(tmp_path), "service", "install", "--dry-run", *arguments])
        assert (f"{tmp_path} is not taken over" in done.output.replace("\n", "")) is told


def test_without_systemd_the_daemon_is_what_runs_in_the_foreground(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepy_coder.cli_service._BOOTED", tmp_path / "no")
    assert "`sleepyd`" in CliRunner().invoke(app, ["service", "status"]).output


def test_the_status_of_a_machine_without_the_service_is_an_exit_status_of_one() -> None:
    done = CliRunner().invoke(app, ["service", "status", "--json"])
    assert done.exit_code == 1
    assert not done.stdout or json.loads(done.stdout)["units"] == []
