"""`sleepy-coder study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import Progress

from sleepy_coder import log
from sleepy_coder.config import Config, RecipeName
from sleepy_coder.config_load import load_config
from sleepy_coder.console import Json, as_json, err, explained, progress_bar, say, stop_tidily, table
from sleepy_coder.errors import SleepyError
from sleepy_coder.judge.study import Row, goals, points, remaining, rows
from sleepy_coder.judge.study_data import DAY_TASKS, SAMPLES, Cell, StudyData, StudyExport, Trajectory
from sleepy_coder.learn.recipes import RECIPES
from sleepy_coder.study.plan import FULL, QUICK, Plan, cells


class StudyProgress:
    """Two lines: all cells with the time that is left, and the step of the present one (`study.bench.Onlooker`)."""

    def __init__(self, progress: Progress, plan: Plan) -> None:
        self._progress, self._all = progress, cells(plan)
        self._cells = progress.add_task("study", total=len(self._all), note="")
        self._step = progress.add_task("begins", total=None, note="")

    def cell(self, of: Trajectory, cycle: int, done: tuple[Cell, ...]) -> None:
        known = {(c.recipe, c.seed, c.gated, c.cycle) for c in done}
        open_cells: list[tuple[RecipeName, bool]] = [
            (recipe, gated) for recipe, seed, gated, k in self._all if (recipe, seed, gated, k) not in known
        ]
        left = remaining(done, open_cells)
        self._progress.update(
            self._cells,
            completed=len(self._all) - len(open_cells),
            description=f"{of.recipe}{'' if of.gated else ', no gate'}, seed {of.seed}, cycle {cycle}",
            note="" if left is None else f"about {_clock(left)} left",
        )

    def end(self) -> None:
        """All cells are done."""
        self._progress.update(self._cells, completed=len(self._all), description="study", note="")

    def phase(self, name: str) -> None:
        self._progress.reset(self._step, total=None, description=f"  {name}", note="")

    def tick(self, done: int, total: int, note: str = "") -> None:
        self._progress.update(self._step, completed=done, total=total, note=note)


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{max(1, minutes)} min"


def study_command(
    recipes: Annotated[str, typer.Option(help="Names with commas between them; default: all that need no extra.")] = "",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trajectories per recipe.")] = 3,
    cycles: Annotated[int, typer.Option(min=1, max=50, help="Days and nights of each trajectory.")] = 5,
    day_tasks: Annotated[int, typer.Option(min=8, max=10_000, help="Tasks of one day at most.")] = DAY_TASKS,
    samples: Annotated[
        int, typer.Option(min=2, max=64, help="Answers per task of the first and last pass@k.")
    ] = SAMPLES,
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed, one cycle, few rows and steps: is all in order? (minutes)")
    ] = False,
    only: Annotated[
        Literal["gated", "ungated"] | None, typer.Option(help="Run only the trajectories with the gate, or without it.")
    ] = None,
    sources: Annotated[
        list[Path] | None,
        typer.Option("--from", help="A study-data.json.gz of another machine, whose trajectories are not run again."),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Run nothing: only write the report of what is finished.")
    ] = False,
    to: Annotated[
        Path | None, typer.Option("--out", help="Folder for the report; default: reports/study/ in the home.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare the recipes: seeds x cycles of day and night on the nano model, each with the gate and without it.

    Every recipe has the same days and the same frozen set. Each cycle is kept when it is finished: stop it whenever
    you like, the same command goes on; with more seeds or recipes it adds to what is there. Nothing that is served is
    touched: it works under state/study/ with a server of its own. Writes results.md, results.png, dashboard.html,
    study.json and study-data.json.gz, for another machine, from what it kept.

    Example: [bold]sleepy-coder study --recipes rft-anchor,seed-plain,naive,no-update --seeds 1 --cycles 2[/]
    """
    from sleepy_coder.report.study import write_study
    from sleepy_coder.study.run import exported, take_over
    from sleepy_coder.wiring import titles

    stop_tidily()
    with explained():
        config = load_config()
        plan = Plan(seeds=seeds, cycles=cycles, day_tasks=day_tasks, samples=samples)
        if quick:
            plan = Plan(seeds=1, cycles=1, day_tasks=60, samples=2, quick=True)
        asked = _recipes(recipes) or (QUICK if quick else FULL)
        plan = plan.model_copy(update={"recipes": asked, "only": only})
        if not cells(plan):
            raise SleepyError(f"{', '.join(asked)} train nothing that a gate could judge", "leave out --only gated")
        for source in sources or ():
            taken = take_over(config, plan, StudyExport.unpack(source))
            say(f"{source}: {taken} trajectories taken over", err)
        if not report:
            _run(config, plan)
        finished = exported(config, plan)
        if not finished.data.cells:
            raise SleepyError("nothing of this study is finished, so there is no report", "run it: leave out --report")
        files = write_study(finished, titles(config), to or config.home / "reports" / "study")
    data = finished.data
    found = rows(data)
    if json:
        as_json({"rows": [_summary(row) for row in found], "goals": goals(found), "files": [str(f) for f in files]})
        return
    _print(data, found)
    for file in files:
        say(str(file))


def _run(config: Config, plan: Plan) -> None:
    """Run what is left of it, with a progress bar; its hundreds of nights log to a file of the study."""
    from sleepy_coder.study.run import run_study, study_folder

    folder = study_folder(config, plan)
    folder.mkdir(parents=True, exist_ok=True)
    with progress_bar() as progress, (folder / "log").open("a") as said:
        log.set_up(verbose=True, as_json=True, to=said)
        try:
            shown = StudyProgress(progress, plan)
            run_study(config, plan, shown)
            shown.end()
        finally:
            log.set_up()


def _recipes(names: str) -> tuple[RecipeName, ...]:
    """Raises SleepyError for a name that no recipe has."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in RECIPES]
    if unknown:
        raise SleepyError(f"there is no recipe {unknown[0]!r}", f"choose from {', '.join(RECIPES)}")
    return tuple(name for name in RECIPES if name in wanted)


def _summary(row: Row) -> dict[str, object]:
    return {
        **row.model_dump(mode="json", exclude={"courses", "begun"}),
        "seeds": [course.of.seed for course in row.courses],
        "cycles": len(row.courses[0].rates) - 1,
        "rates": [course.rates for course in row.courses],
        "promoted": [course.promoted for course in row.courses],
        "train_seconds": [course.train_seconds for course in row.courses],
    }


def _print(data: StudyData, found: tuple[Row, ...]) -> None:
    base = data.evals[data.facts.base].pass_rate
    lines = [
        (
            row.recipe,
            "yes" if row.gated else "no",
            str(len(row.courses)),
            f"{row.final.mean:.1%}",
            points(row.gain),
            f"{row.gained.mean:.0f}",
            f"{row.lost.mean:.0f}",
            points(row.bwt) if row.bwt else "",
        )
        for row in found
    ]
    columns = ("recipe", "gate", "seeds", "last", "points over baseline", "gained", "lost", "BWT")
    table(f"{data.facts.frozen} frozen tasks, baseline {base:.1%}", columns, lines)
    table("Goals", ("goal", "", "measured"), [(g.text, g.word, g.numbers) for g in goals(found)])
