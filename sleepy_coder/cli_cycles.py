"""`sleepy-coder cycles`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sleepy_coder import wiring
from sleepy_coder.cli_recipes import with_recipe
from sleepy_coder.config import Config, RecipeName
from sleepy_coder.config_load import load_config
from sleepy_coder.console import Json, ProgressWatcher, as_json, err, explained, progress_bar, say, stop_tidily, table
from sleepy_coder.cycles import CycleRow, history, planned, run_cycles
from sleepy_coder.errors import NightPaused
from sleepy_coder.types import NightReport


def cycles_command(
    cycles: Annotated[int, typer.Argument(min=1, max=1000, help="Days and nights to come.")],
    tasks: Annotated[int, typer.Option("--count", min=1, max=10_000, help="Koans of each day.")] = 120,
    recipe: Annotated[RecipeName | None, typer.Option(help="How these nights learn; default: recipe.name.")] = None,
    to: Annotated[
        Path | None, typer.Option("--out", help="Folder for the report; default: reports/ in the home.")
    ] = None,
    json: Json = False,
) -> None:
    """Run several days and nights: new koans by day, a night after each, and the learning curve at the end.

    Each promoted night lowers the learning rate. Stop it whenever you like: the same command goes on with the day or
    the night it was in, and a plan that is not finished comes before a new one. Needs a model server that answers
    (`sleepy-coder serve`). Writes the same files as `report`.

    Example: [bold]sleepy-coder cycles 5 --count 120[/]
    """
    stop_tidily()
    with explained():
        config = with_recipe(load_config(), recipe)
        with progress_bar() as progress, wiring.open_parts(config, ProgressWatcher(progress)) as parts:
            plan = planned(config.state, parts.store, cycles, tasks)
            whole = progress.add_task("cycles", total=plan.last, completed=parts.store.count_nights(), note="")

            def on_night(night: NightReport) -> None:
                progress.update(whole, completed=night.cycle, note=f"night {night.cycle}: {night.outcome}")

            try:
                run_cycles(parts, plan, on_night)
            except NightPaused as pause:
                say(f"paused: {pause}", err)
            nights = parts.store.nights()
        files = _write(config, to)
    rows = history(nights)
    if json:
        as_json({"cycles": rows, "files": [str(file) for file in files]})
        return
    table("Cycles", _COLUMNS, [_cells(row) for row in rows])
    for file in files:
        say(str(file))


def _write(config: Config, to: Path | None) -> tuple[Path, ...]:
    """The reports; none as long as no night was judged."""
    from sleepy_coder.report import write_all
    from sleepy_coder.report.data import judged

    with wiring.open_store(config) as store:
        data = wiring.report_data(config, store)
    return write_all(data, to or config.home / "reports") if judged(data.nights) else ()


_COLUMNS = (
    "night", "outcome", "serves", "gain", "candidate", "gained", "lost", "repeats", "lr", "KL", "steps", "seconds"
)  # fmt: skip


def _cells(row: CycleRow) -> tuple[str, ...]:
    def rate(value: float | None) -> str:
        return "" if value is None else f"{value:.1%}"

    return (
        str(row.cycle),
        row.outcome,
        rate(row.serving),
        "" if row.since_baseline is None else f"{100 * row.since_baseline:+.1f}",
        rate(row.candidate),
        str(row.gained),
        str(row.lost),
        rate(row.repeats),
        "" if row.learning_rate is None else f"{row.learning_rate:.2g}",
        "" if row.kl is None else f"{row.kl:.4f}",
        str(row.steps),
        f"{row.seconds:.0f}",
    )
