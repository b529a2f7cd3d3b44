"""`sleepy-coder koans ...` and `sleepy-coder eval`."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.syntax import Syntax

from sleepy_coder import wiring
from sleepy_coder.config_load import load_config
from sleepy_coder.console import Json, as_json, err, explained, out, progress_bar, say, table
from sleepy_coder.dialogue import number_lines
from sleepy_coder.errors import SleepyError
from sleepy_coder.judge.evaluate import HEAT
from sleepy_coder.registry import Registry
from sleepy_coder.report.episodes import short_reason, verdict_words
from sleepy_coder.tasks import SPLITS, TaskSplit, choose_tasks, load_split
from sleepy_coder.tasks.loaders import load_tasks, placed_tasks
from sleepy_coder.types import Adapter, Episode, EvalReport, Outcome, Task

koans_app = typer.Typer(
    help="Practice tasks: small programs with one error each.\n\nExample: [bold]sleepy-coder koans run --count 40[/]",
    no_args_is_help=True,
)


@koans_app.command("list")
def list_koans(
    split: Annotated[TaskSplit, typer.Option(help="Which split.")] = "day",
    tasks: Annotated[bool, typer.Option("--tasks", help="One line per task instead, with its error code.")] = False,
    json: Json = False,
) -> None:
    """The families of a split, or its tasks.

    Example: [bold]sleepy-coder koans list --split frozen[/]
    """
    with explained():
        found = wiring.frozen_sets(load_config()).current() if split == "frozen" else load_split(split)
    if json:
        as_json(
            [
                task.model_dump(mode="json", include={"id", "family", "category", "error_code", "prompt"})
                for task in found
            ]
        )
    elif tasks:
        table(
            f"{len(found)} tasks",
            ("id", "family", "code", "task"),
            [(t.id, t.family, t.error_code, t.prompt) for t in found],
        )
    else:
        sizes = Counter(task.category for task in found)
        named = {category: sorted({t.family for t in found if t.category == category}) for category in sorted(sizes)}
        rows = [(category, str(sizes[category]), ", ".join(families)) for category, families in named.items()]
        families = sum(map(len, named.values()))
        table(f"{families} families, {len(found)} tasks", ("category", "tasks", "families"), rows)


@koans_app.command("show")
def show_koan(
    task_id: Annotated[str, typer.Argument(metavar="ID")],
    answer: Annotated[bool, typer.Option("--answer", help="Show the reference fix too.")] = False,
    json: Json = False,
) -> None:
    """One task: its program, what the compiler says of it, and (with --answer) its fix.

    Example: [bold]sleepy-coder koans show k00bf68b7afcc --answer[/]
    """
    with explained():
        sets = (*map(load_split, SPLITS), *wiring.frozen_sets(load_config()).all())
        task = next((t for tasks in sets for t in tasks if t.id == task_id), None)
        if task is None:
            raise SleepyError(f"no task {task_id}", "`sleepy-coder koans list --tasks` shows the ids")
        if json:
            as_json(task)
            return
        verdict = wiring.open_project_verifier().verify(task, task.files)
    rest = f"  {task.family}  {task.error_code}\n{task.prompt}\n"
    out.print(f"[bold]{escape(task.id)}[/]{escape(rest)}", highlight=False)
    for path, text in task.files.items():
        out.print(
            path if len(task.files) > 1 else "",
            Syntax(number_lines(text), "rust", background_color="default"),
            markup=False,
        )
    out.print(verdict.feedback, highlight=False, markup=False, style="red")
    if answer and task.reference:
        for text in task.reference.values():
            out.print("", Syntax(text, "rust", background_color="default"))


@koans_app.command("run")
def run_koans(
    count: Annotated[int, typer.Option(min=1, help="How many tasks.")] = 20,
    family: Annotated[str | None, typer.Option(help="Only tasks of this family.")] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A JSONL file of tasks, or a folder of cargo projects, instead of the koans."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Ask no model and store nothing: does the check pass each task's reference and fail its files?",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Let the built-in agent work on tasks, new ones first, and record every attempt.

    With --check all tasks of --from are only looked at, which an exam must be and practised must not.

    Example: [bold]sleepy-coder koans run --count 40 --family use_after_move[/]
    """
    if check:
        _check_tasks(source, family, json)
        return
    from sleepy_coder.collect.agent import work_through
    from sleepy_coder.deploy import incumbent
    from sleepy_coder.learn.recipes import RECIPES

    with explained():
        config = load_config()
        with wiring.read_store(config) as store:
            chosen = choose_tasks(_tasks_from(source), store.task_ids(), count, family, config.seed)
        with (
            wiring.answering_server(config) as server,
            wiring.open_store(config) as store,
            progress_bar() as progress,
        ):
            judge = wiring.open_verifier(config)
            active = incumbent(wiring.open_registry(config), server, wiring.prover(config))
            model = active.name if active else config.server.base_name
            bar = progress.add_task("tasks", total=len(chosen), note="")
            episodes: list[Episode] = []
            hints = wiring.open_hints(config, store) if RECIPES[config.recipe.name].hints else None
            session = f"koans-{uuid.uuid4().hex[:12]}"
            for episode in work_through(
                chosen, model, server, judge, config.agent, wiring.SystemClock(), session, store.save_episode, hints
            ):
                episodes.append(episode)
                green = sum(e.outcome is Outcome.PASS for e in episodes)
                progress.update(bar, completed=len(episodes), note=f"[green]{green} green")
    if json:
        as_json([_summary(episode) for episode in episodes])
    else:
        _print_episodes(episodes, model)


def _check_tasks(source: Path | None, family: str | None, json: bool) -> None:
    from sleepy_coder.judge.exam import check_tasks, told_all

    with explained():
        if source is None:
            raise SleepyError("--check needs --from", "name the file or folder of your tasks")
        placed = [(place, task) for place, task in placed_tasks(source) if family in (None, task.family)]
        if not placed:
            raise SleepyError(f"{source} has no task of family {family}", "leave out --family, or name one of its own")
        with progress_bar() as progress:
            config, judge = load_config(), wiring.open_project_verifier()
            bar = progress.add_task("tasks", total=len(placed), note="")
            checks = check_tasks(
                judge, placed, config.gate.controls, config.eval.concurrency, lambda _: progress.advance(bar)
            )
    good = sum(not check.complaint for check in checks)
    if json:
        as_json(list(checks))
    else:
        rows = [
            (c.place, c.task, c.control.reference or "none", c.control.broken, c.says.partition("\n")[0][:100])
            for c in checks
        ]
        table("P passes, F fails, I: it cannot be checked here", ("where", "id", "reference", "files", "says"), rows)
        say(f"{good} of {len(checks)} tasks tell a right answer from a wrong one, as far as can be seen")
        if unsure := sum(check.unsure for check in checks):
            say(f"{unsure} have no reference: whether they can be passed here is unknown")
    if good < len(checks):
        say(told_all(checks), err)
        raise typer.Exit(1)


def _tasks_from(source: Path | None) -> tuple[Task, ...]:
    return load_split("day") if source is None else load_tasks(source)


def _summary(episode: Episode) -> dict[str, object]:
    return {
        "id": episode.id,
        "task": episode.task.id if episode.task else None,
        "family": episode.task.family if episode.task else None,
        "outcome": episode.outcome,
        "attempts": len(episode.attempts),
        "error_signatures": [attempt.verdict.error_signature for attempt in episode.attempts],
        "served_by": episode.served_by,
        "reason": short_reason(episode, None),
    }


def _print_episodes(episodes: list[Episode], model: str) -> None:
    green = [e for e in episodes if e.outcome is Outcome.PASS]
    first = sum(len(e.attempts) == 1 for e in green)
    say(f"{model}: {len(green)} of {len(episodes)} tasks green, {first} of them on the first attempt")
    infra = [e for e in episodes if e.outcome is Outcome.INFRA]
    if infra:
        out.print(f"[yellow]{len(infra)} could not be judged: {escape(verdict_words(infra[0], None))}")
    failed = Counter(e.task.family for e in episodes if e.task and e.outcome is Outcome.FAIL)
    if failed:
        table("Not solved", ("family", "tasks"), [(name, str(n)) for name, n in failed.most_common()])


_UNCOUNTED = (
    "[yellow]The gate does not count this look at its exam, and its promise does not cover what you choose by it: "
    "choose by [bold]--split dev[/]."
)


def eval_command(
    model: Annotated[str, typer.Option(help="`active`, `base`, or the name of an adapter.")] = "active",
    split: Annotated[TaskSplit, typer.Option(help="Which split.")] = "frozen",
    samples: Annotated[int, typer.Option(min=1, help="Samples per task.")] = 1,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, max=2.0, help=f"Default: 0 for one sample, {HEAT} for more.")
    ] = None,
    hints: Annotated[
        bool | None, typer.Option("--hints/--no-hints", help="Put hints into the prompt. Default: as the recipe says.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure a model on a task set: pass@1, pass@k and each family, by the real compiler.

    Example: [bold]sleepy-coder eval --model base --samples 8[/]
    """
    from sleepy_coder.deploy import measure
    from sleepy_coder.learn.recipes import RECIPES

    with explained():
        config = load_config()
        heat = temperature if temperature is not None else (0.0 if samples == 1 else HEAT)
        settings = config.eval.model_copy(update={"samples": samples, "temperature": heat})
        with progress_bar() as progress, wiring.open_parts(config, wiring.Silent()) as parts:
            tasks = parts.frozen if split == "frozen" else load_split(split)
            bar = progress.add_task("samples", total=len(tasks) * samples, note="")
            adapter = _adapter(parts.registry, model)
            hinted = RECIPES[config.recipe.name].hints if hints is None else hints
            hinter = wiring.open_hints(config, parts.store) if hinted else None
            report = measure(parts, "other", adapter, tasks, settings, lambda: progress.advance(bar), hints=hinter)
            judged = adapter is None or adapter == parts.registry.active()
    if split == "frozen" and not judged:
        err.print(_UNCOUNTED, highlight=False, soft_wrap=True)
    if json:
        as_json(report)
        return
    _print_evaluation(report, split, samples)


def _print_evaluation(report: EvalReport, split: str, samples: int) -> None:
    """Rates over what was measured; samples that the machine failed are counted beside them."""
    from sleepy_coder.judge.metrics import family_table, mean_pass_at_k
    from sleepy_coder.report.words import counted

    rows = [
        (row.family, str(row.tasks), "not measured" if rate is None else f"{rate:.0%}")
        for row in family_table([report])
        for rate in row.rates
    ]
    table(f"{report.model} on {split}", ("family", "tasks", "pass@1"), rows)
    measured = Counter(sample.task_id for sample in report.samples if sample.outcome is not Outcome.INFRA)
    if measured:
        say(f"pass@1 {report.pass_rate:.1%} over {counted(len(measured), 'task')} in {report.seconds:.1f} s")
    if samples > 1:
        unknown = "is unknown: no task has that many measured samples"
        whole = max(measured.values(), default=0) >= samples
        say(f"pass@{samples} {f'{mean_pass_at_k(report, samples):.1%}' if whole else unknown}")
    if failed := len(report.samples) - measured.total():
        out.print(f"[yellow]{failed} of {len(report.samples)} samples could not be measured")


def _adapter(registry: Registry, name: str) -> Adapter | None:
    if name == "active":
        return registry.active()
    return None if name == "base" else registry.get(name)
