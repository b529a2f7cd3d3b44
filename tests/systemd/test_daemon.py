"""The daemon under a real systemd: installed, watched, killed, restarted under load, and removed without its data."""

from __future__ import annotations

import json
import sys

import pytest
from installed import BIN, COMMAND, HOME, INSTALL, SERVICE, beside, healthy, pid, told, wait_for_another
from machine import Machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PROBE = """
import torch
from sleepy_coder.tasks import load_split
from sleepy_coder.verify.command import verifier
from sleepy_coder.verify.sandbox import BubblewrapSandbox
task = load_split("frozen")[0]
print("verdict", verifier(None).verify(task, task.files).outcome)
print("sandbox", BubblewrapSandbox().level)
print("threads", torch.get_num_threads())
"""

# Callers that open a connection for each request, as fast as they can, until the file is there.
LOAD = """
import http.client, json, pathlib, sys, threading
stop, made, refused, broken = pathlib.Path(sys.argv[1]), [], [], []
def call():
    while not stop.exists():
        try:
            talk = http.client.HTTPConnection("127.0.0.1", 8400, timeout=300)
            talk.request("GET", "/healthz")
            made.append(talk.getresponse().status)
            talk.close()
        except ConnectionRefusedError as error: refused.append(str(error))
        except OSError as error: broken.append(repr(error))
        except http.client.HTTPException as error: broken.append(repr(error))
threads = [threading.Thread(target=call) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
bad = sum(s != 200 for s in made)
print(json.dumps({"made": len(made), "bad": bad, "refused": len(refused), "broken": broken[:9]}))
"""


def test_a_dry_run_changes_nothing(machine: Machine) -> None:
    said = machine.run(*INSTALL, "--dry-run").stdout
    assert "ExecStart=" in said and "would run systemctl enable" in said
    assert machine.run("test", "-e", f"/etc/systemd/system/{SERVICE}", check=False).returncode != 0


def test_an_install_writes_verifies_starts_and_waits_until_the_daemon_says_that_it_is_ready(service: Machine) -> None:
    assert service.said("systemctl", "is-active", SERVICE) == "active"
    assert service.said("systemctl", "is-enabled", SERVICE, "sleepy-coder.socket") == "enabled\nenabled"
    assert service.show(SERVICE, "Type") == "notify"
    assert service.show(SERVICE, "StatusText")
    assert healthy(service) == 200
    state = json.loads(service.said(COMMAND, "service", "status", "--json"))
    assert {unit["unit"]: unit["active"] for unit in state["units"]} == {
        name: "active" for name in (SERVICE, "sleepy-coder.socket", "sleepy-vllm.service")
    }


def test_systemd_has_nothing_to_say_against_the_units(service: Machine) -> None:
    for unit in (SERVICE, "sleepy-coder.socket", "sleepy-vllm.service"):
        done = service.run("systemd-analyze", "verify", "--man=no", f"/etc/systemd/system/{unit}")
        assert "sleepy" not in done.stderr


def test_the_daemon_is_exposed_no_more_than_three_of_ten(service: Machine) -> None:
    path = f"/etc/systemd/system/{SERVICE}"
    service.run("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=30", path)


def test_torch_rustc_and_the_strongest_sandbox_work_under_the_hardening(service: Machine) -> None:
    service.write("/opt/probe.py", PROBE)
    said = beside(service, "probe", sys.executable, "/opt/probe.py")
    assert "verdict fail" in said and "sandbox bwrap\n" in said
    assert f"threads {service.said('nproc')}" in said


def test_the_state_is_the_services_own_and_the_keys_are_roots(service: Machine) -> None:
    assert service.said("stat", "-c", "%a %U", HOME) == "700 sleepy-coder"
    assert service.said("stat", "-c", "%a %U", "/etc/sleepy-coder") == "700 root"
    assert service.said("stat", "-c", "%a %U", f"{HOME}/state/sleepy.db") == "600 sleepy-coder"


def test_a_key_in_etc_is_asked_for_and_one_that_is_taken_away_is_not(service: Machine) -> None:
    ask = "import httpx, sys; print(httpx.get('http://127.0.0.1:8400/v1/models', timeout=300).status_code)"
    assert service.python(ask) == "200"
    service.write("/etc/sleepy-coder/gateway.api_key", "a-long-enough-key\n")
    service.run("chmod", "600", "/etc/sleepy-coder/gateway.api_key")
    service.run("systemctl", "restart", SERVICE)
    assert service.python(ask) == "401"
    service.run("rm", "/etc/sleepy-coder/gateway.api_key")
    service.run("systemctl", "restart", SERVICE)
    assert service.python(ask) == "200"


def test_installing_again_changes_no_file_and_leaves_a_running_service(service: Machine) -> None:
    before = service.said("sh", "-c", "cat /etc/systemd/system/sleepy-*")
    service.run(*INSTALL)
    assert service.said("sh", "-c", "cat /etc/systemd/system/sleepy-*") == before
    assert service.said("systemctl", "is-active", SERVICE) == "active"


def test_every_line_that_the_daemon_logs_is_a_json_object_with_an_event(service: Machine) -> None:
    logged = told(service, "daemon.started")
    assert all("event" in line for line in logged)


def test_a_daemon_that_is_killed_is_started_again(service: Machine) -> None:
    service.run("systemctl", "restart", SERVICE)
    before = pid(service)
    service.run("kill", "-KILL", str(before))
    wait_for_another(service, before)
    assert healthy(service) == 200


def test_a_daemon_that_hangs_is_ended_by_the_watchdog_and_started_again(service: Machine) -> None:
    dropin = f"/etc/systemd/system/{SERVICE}.d/short.conf"
    service.write(dropin, "[Service]\nWatchdogSec=60\nTimeoutAbortSec=20\n")
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "restart", SERVICE)
    before = pid(service)
    service.run("kill", "-STOP", str(before))
    wait_for_another(service, before)
    assert "Watchdog timeout" in service.log(SERVICE, 200)
    assert healthy(service) == 200
    service.run("rm", dropin)
    service.run("systemctl", "daemon-reload")


def test_sighup_reloads_the_daemon_without_ending_it(service: Machine) -> None:
    service.run("systemctl", "restart", SERVICE)
    before = pid(service)
    service.run("systemctl", "reload", SERVICE)
    assert healthy(service) == 200
    assert pid(service) == before


def test_two_restarts_under_load_refuse_no_connection(service: Machine) -> None:
    service.run("rm", "-f", "/opt/enough")
    service.write("/opt/load.py", LOAD)
    output = "--property=StandardOutput=truncate:/run/load.said"
    load = (sys.executable, "/opt/load.py", "/opt/enough")
    service.run("systemd-run", "--unit=load", "--remain-after-exit", output, *load)
    for _ in range(2):
        assert healthy(service) == 200
        service.run("systemctl", "restart", SERVICE)
    assert healthy(service) == 200
    service.write("/opt/enough", "")
    service.await_state("load", SubState="exited")
    found = json.loads(service.said("cat", "/run/load.said"))
    assert found["made"] > 0
    assert (found["refused"], found["bad"]) == (0, 0), found


def test_a_stop_is_clean_and_within_its_limit(service: Machine) -> None:
    service.run("systemctl", "stop", "sleepy-coder.socket", SERVICE)
    assert service.show(SERVICE, "Result") == "success"
    assert service.show(SERVICE, "ExecMainStatus") == "0"
    assert service.show(SERVICE, "ExecMainCode") == "1"  # it exited by itself
    service.run("systemctl", "start", "sleepy-coder.socket", SERVICE)


def test_a_daemon_that_cannot_start_is_reported_with_its_own_words(service: Machine) -> None:
    settings = service.said("cat", f"{HOME}/sleepy-coder.toml")
    service.run("systemctl", "stop", "sleepy-coder.socket", SERVICE)
    unit = f"/etc/systemd/system/{SERVICE}.d/broken.conf"
    service.write(unit, f"[Service]\nExecStart=\nExecStart={BIN / 'sleepy-coder'} --home {HOME}/nowhere morning\n")
    service.run("systemctl", "daemon-reload")
    done = service.run(*INSTALL, check=False)
    assert done.returncode == 1
    assert "did not become ready; it says" in done.stderr and "journalctl" in done.stderr
    service.run("rm", unit)
    service.run("systemctl", "daemon-reload")
    service.write(f"{HOME}/sleepy-coder.toml", settings)
    service.run(*INSTALL)
