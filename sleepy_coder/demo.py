"""`make demo`: a day and three nights, for real, by the same commands a user would type.

Nothing is scripted: if the gate turns the first night down, or lets the poisoned one through, the demo
says so and fails.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.panel import Panel

from sleepy_coder import wiring
from sleepy_coder.config import Config
from sleepy_coder.console import out, say
from sleepy_coder.demo_home import Left, cleared_home
from sleepy_coder.dialogue import first_messages
from sleepy_coder.errors import SleepyError
from sleepy_coder.learn.outputs import CHECKPOINT
from sleepy_coder.nano.rows import careless_edit
from sleepy_coder.ports import Verifier
from sleepy_coder.tasks import load_split
from sleepy_coder.types import Attempt, Episode, NightReport, Outcome, Task, Verdict

FIRST_DAY, SECOND_DAY, POISONED = 320, 80, 120
_MET = FIRST_DAY + SECOND_DAY + POISONED
MOST = Left(episodes=_MET, nights=3, adapters=3, quarantined=_MET)


class DemoFailed(SleepyError):
    """A night did not end as an honest system's would."""


def run_demo(config: Config) -> None:
    """Run it in `config.home`. Raises DemoFailed, or SleepyError when the home is somebody's own."""
    started = time.monotonic()
    with cleared_home(config, MOST), wiring.embedded_server(config) as served:
        os.environ["SLEEPY_CODER_SERVER__URL"] = served.server.url
        os.environ["SLEEPY_CODER_MIX__FRESH_SHARE"] = "0"  # one day holds too few programs to judge by, if held back
        _say("Day 1", "The agent meets tasks. Every verdict is the compiler's and the program's own.")
        _command("koans", "run", "--count", str(FIRST_DAY))

        _say(
            "Night 1",
            "What was learned by day is practised. It is shipped only if the gate finds a real gain.",
        )
        _command("night")
        _expect(config, 1, {"promoted"}, "the gate did not promote the first night")

        _say("Night 2, poisoned", f"{POISONED} wrong fixes come in, marked as passed. The night has to notice.")
        poison = config.state / "poison.jsonl"
        poison.write_text("".join(e.model_dump_json() + "\n" for e in poisoned(wiring.open_verifier(config))))
        _command("episodes", "import", str(poison))
        _command("night")
        _expect(config, 2, {"rejected"}, "the gate did not reject the poisoned night")

        _say("Day 2", "More tasks, met by the promoted adapter.")
        _command("koans", "run", "--count", str(SECOND_DAY))
        _say("Night 3, killed", "kill -9 in the middle of training; then the same command again.")
        _kill_in_training(config)
        _command("night")
        third = _expect(config, 3, {"promoted", "rejected", "inconclusive"}, "the killed night was not recovered")
        if not any(phase.resumed for phase in third.phases):
            raise DemoFailed("the third night began anew instead of going on", "this is a bug; please report it")

        _say("Morning", "The report of the last night, the pictures, and what serves now.")
        _command("morning")
        _command("report")
        _command("nights")
        _command("replay-verdict")
        _command("status")
    out.print(f"[bold green]demo passed[/] in {time.monotonic() - started:.0f} s")
    look = f"{typed()} --home {config.home} status"
    say(f"It is all in {config.home}: {look}")


def poisoned(judge: Verifier) -> list[Episode]:
    """Episodes whose 'fix' deletes the line to be mended, marked as passed: what a broken verifier would record."""
    now = wiring.SystemClock().now()
    tasks = [task for task in load_split("day") if task.command == ("rust-run",)]
    chosen = tasks[:: max(1, len(tasks) // POISONED)][:POISONED]
    lie = Verdict(outcome=Outcome.PASS, stage="done")

    def episode(task: Task) -> Episode:
        attempt = Attempt(
            messages=first_messages(task, judge.verify(task, task.files).feedback),
            completion=wrong_fix(task),
            verdict=lie,
            served_by="poison",
        )
        return Episode(
            id=f"poison-{task.id}",
            session="poison",
            source="import",
            task=task,
            attempts=(attempt,),
            outcome=Outcome.PASS,
            outcome_source="verifier",
            served_by="poison",
            created=now,
        )

    return [episode(task) for task in chosen]


def wrong_fix(task: Task) -> str:
    """Delete the first line that the right fix would change."""
    assert task.reference is not None
    path, broken = next(iter(task.files.items()))
    return careless_edit(broken, task.reference[path], "delete")


def _argv(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "sleepy_coder", *arguments]


def typed() -> str:
    """How this command is called from here: `make demo` calls it where no environment is activated."""
    script = Path(sys.argv[0])
    if script.name != "sleepy-coder":
        return f"{sys.executable} -m sleepy_coder"
    found = shutil.which(script.name)
    return script.name if found and script.samefile(found) else str(script)


def _say(title: str, text: str) -> None:
    out.print()
    out.print(Panel(text, title=title, title_align="left", border_style="cyan"))


def _command(*arguments: str) -> None:
    out.print(f"[bold]$ sleepy-coder {escape(' '.join(arguments))}[/]", highlight=False, soft_wrap=True)
    done = subprocess.run(_argv(arguments), check=False)
    if done.returncode != 0:
        raise DemoFailed(f"`sleepy-coder {' '.join(arguments)}` ended with status {done.returncode}")


def _expect(config: Config, cycle: int, outcomes: set[str], otherwise: str) -> NightReport:
    with wiring.open_store(config) as store:
        report = store.night(cycle)
    if report is None or report.outcome not in outcomes:
        found = f"{report.outcome}: {report.reason}" if report else "no report"
        raise DemoFailed(f"{otherwise} ({found})", "nothing here is scripted; see docs/experiments.md")
    return report


def _kill_in_training(config: Config) -> None:
    """Start a night in its own process group and end all of it with SIGKILL once a checkpoint is written."""
    out.print("[bold]$ sleepy-coder night[/]  (to be killed)", highlight=False)
    checkpoint = config.state / "nights" / "0003" / "train" / CHECKPOINT
    serving = wiring.open_registry(config).active()
    child = subprocess.Popen(_argv(["night"]), start_new_session=True, stderr=subprocess.DEVNULL)
    while child.poll() is None and not checkpoint.exists():
        time.sleep(0.05)
    if child.poll() is not None:
        raise DemoFailed("the third night ended before it could be killed", "see its report above")
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    after = wiring.open_registry(config).active()
    if after != serving:
        raise DemoFailed("the served adapter changed in a killed night", "this is a bug; please report it")
    say(f"killed. Still serving: {after.name if after else config.server.base_name}")
