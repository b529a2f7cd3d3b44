"""`sleepy-coder gate ...` and `sleepy-coder replay-verdict`: what the gate can show, how it errs, and what it said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sleepy_coder import wiring
from sleepy_coder.config import Config
from sleepy_coder.config_load import load_config
from sleepy_coder.console import Json, Yes, as_json, confirm, err, explained, out, progress_bar, say, table
from sleepy_coder.errors import SleepyError
from sleepy_coder.journal import alone
from sleepy_coder.judge.clusters import Cluster, form_clusters
from sleepy_coder.judge.evaluate import HEAT
from sleepy_coder.judge.metrics import task_scores
from sleepy_coder.judge.spending import spends
from sleepy_coder.store_gate import broken_links
from sleepy_coder.tasks import set_id
from sleepy_coder.types import EvalReport

gate_app = typer.Typer(
    help="What the gate can show, how often it errs, and a new frozen set.\n\n"
    "Example: [bold]sleepy-coder gate power --samples 4[/]",
    no_args_is_help=True,
)
USUAL_RATE = 0.694  # the packaged model's, until the base model here is measured


@gate_app.command("power")
def power(
    samples: Annotated[
        int | None, typer.Option(min=1, max=64, help="Samples per task and arm; default: eval.samples.")
    ] = None,
    gain: Annotated[
        float | None,
        typer.Option(min=0.1, max=40, help="A gain to show, in points; default: half of what is shown."),
    ] = None,
    nights: Annotated[int, typer.Option(min=50, max=100_000, help="Simulated nights per line.")] = 500,
    json: Json = False,
) -> None:
    """How large a gain has to be for this frozen set to show it, by simulation; and what smaller ones would need.

    Example: [bold]sleepy-coder gate power --samples 4[/]
    """
    from sleepy_coder.judge.power import frozen_set, power_report

    with explained(keeps=False):
        config = load_config()
        k = samples or config.eval.samples
        heat = config.eval.temperature if k == 1 else HEAT  # as `sleepy-coder eval` draws several samples
        of = frozen_set(form_clusters(wiring.frozen_sets(config).current()), k, heat, config.eval.baseline_samples)
        wanted = gain / 100 if gain else None
        epoch, used, next_one = _openings(config)
        rate, measured = _base_rate(config)
        found = power_report(of, config.gate, rate, wanted, nights, config.seed, next_one)
    if json:
        budget = {"epoch": epoch, "openings_used": used, "opening": next_one, "openings": config.gate.openings}
        as_json({**found.model_dump(), **budget})
        return
    table(
        f"{found.clusters} clusters of {found.tasks} tasks, {found.samples} samples each",
        ("true change", "promoted", "held", "rejected", "clusters measured"),
        [
            (f"{r.change * 100:+.0f}", f"{r.promoted:.0%}", f"{r.held:.0%}", f"{r.rejected:.0%}", f"{r.clusters:.0f}")
            for r in found.rows
        ],
    )
    shows = f"a gain of {found.detectable * 100:.1f} points" if found.detectable else "no gain up to 40 points"
    whose = "" if measured else " (the packaged model's rate; yours is not measured yet)"
    out.print(f"A base that passes {found.baseline_rate:.1%}{whose}, judged in opening {next_one} of the epoch.")
    out.print(f"Promoted in 4 nights of 5: {shows}.")
    need = f"{found.times} times as many clusters" if found.times else "more than 16 times as many clusters"
    adds_up = f", or {found.nights} nights of as much that add up on the trunk" if found.nights else ""
    out.print(f"A gain of {found.gain * 100:.1f} points needs {need}{adds_up}.")
    out.print(f"Epoch {epoch}: {used} of {config.gate.openings} openings are used.")


@gate_app.command("calibrate")
def calibrate(
    nights: Annotated[int, typer.Option(min=100, max=1_000_000, help="Nights to simulate.")] = 2000,
    json: Json = False,
) -> None:
    """Judge the served model against itself (A/A), many times: how often does the gate promote what is no better?

    Chances to pass are those of the last evaluation with several samples per task, else simulated ones.

    Example: [bold]sleepy-coder gate calibrate --nights 10000 --json[/]
    """
    from sleepy_coder.judge.paired import exact_interval
    from sleepy_coder.judge.power import calibrate as judged_against_itself
    from sleepy_coder.judge.power import frozen_set

    with explained(keeps=False):
        config = load_config()
        clusters = form_clusters(wiring.frozen_sets(config).current())
        of = frozen_set(clusters, max(2, config.eval.samples), 1.0)  # greedy answers never differ from themselves
        chances, source = _chances(config, clusters)
        *_, next_one = _openings(config)
        found = judged_against_itself(of, config.gate, chances, nights, config.seed, next_one)
        low, high = exact_interval(found.promoted, found.nights, 0.95)
        allowed = spends(config.gate, next_one)
    if json:
        as_json(
            {
                **found.model_dump(),
                "false_promotion_rate": found.promoted / found.nights,
                "interval": [low, high],
                "allowed_per_night": allowed,
                "chances_from": source,
            }
        )
        return
    out.print(
        f"{found.promoted} of {found.nights} nights promoted a model over itself "
        f"(95% interval {low:.2%} to {high:.2%}; {allowed:.2%} is allowed), "
        f"{found.held} held, {found.rejected} rejected as futile."
    )
    say(f"Chances to pass: {source}.")


@gate_app.command("renew")
def renew_command(
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", exists=True, help="A JSONL file of tasks, or a folder of cargo projects, instead of unseen koans."
        ),
    ] = None,
    dev: Annotated[
        Path | None,
        typer.Option(
            "--dev",
            exists=True,
            help="Your own dev tasks, on which each night's weights are chosen before they are judged.",
        ),
    ] = None,
    early: Annotated[bool, typer.Option("--early", help="Renew although the epoch has openings left.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Put unseen tasks in the place of the frozen set: before the first judged night, or when the openings are used.

    The set before it is retired for good and stays out of training. A new epoch begins, and all arms are measured anew.

    Example: [bold]sleepy-coder gate renew --from own-exam.jsonl --dev own-dev.jsonl[/]
    """
    from sleepy_coder.renewal import practice_tasks, renew

    with explained(keeps=False):
        config = load_config()
        if not yes:
            confirm("Retire the frozen set, and judge on another one from now on?")
        # As a night itself: one that begins meanwhile has read the set of before, and must not wait for this.
        with wiring.open_store(config) as store, alone(wiring.night_lock(config)), progress_bar() as progress:
            bar = progress.add_task("tasks", total=None, note="")
            found = renew(
                config,
                store,
                wiring.frozen_sets(config),
                wiring.open_verifier(config).forgetful(),
                source,
                early,
                lambda total: progress.update(bar, advance=1, total=total),
                practice_tasks(),
                dev,
            )
    if json:
        as_json(found)
        return
    out.print(
        f"{found.tasks} tasks in {found.clusters} clusters judge from now on (set {found.set_id}); "
        f"{found.retired} are retired. The next judged night begins a new epoch and measures the baseline anew."
    )
    if found.unsure:
        out.print(
            f"[yellow]{found.unsure} tasks have no reference: whether they can be passed here is unknown, "
            "and one that cannot counts as failed for every model."
        )
    if not found.dev:
        out.print("No dev tasks: a night's weights are not chosen before they are judged. `--dev FILE` gives some.")
    if crowd := found.crowd:
        two = " and ".join(crowd.two)
        out.print(f"The largest cluster holds {crowd.tasks} tasks, {two} among them, joined as: {crowd.why}.")
    if found.clusters < config.gate.autonomous_clusters:
        out.print(
            f"[yellow]With fewer than {config.gate.autonomous_clusters} clusters nothing is promoted on its own: "
            "see gate.small_sets. With fewer than "
            f"{config.gate.min_clusters} (gate.min_clusters), or as few pairs where these count, nothing is at all."
        )


def replay_command(
    cycle: Annotated[int | None, typer.Argument(metavar="NIGHT", help="The night; default: all of them.")] = None,
    json: Json = False,
) -> None:
    """Compute verdicts again from their records and compare them byte for byte; check the chain of hashes.

    Exit status: 0 when all are reproduced, 1 when one differs or the chain is broken.

    Example: [bold]sleepy-coder replay-verdict 3[/]
    """
    from sleepy_coder.judge.record import read, replay

    with explained(keeps=False):
        with wiring.read_store(load_config()) as store:
            chain = store.verdicts()
        chosen = [verdict for verdict in chain if cycle in (None, verdict.cycle)]
        if not chosen:
            raise SleepyError("there is no verdict to replay", "`sleepy-coder nights` lists the nights")
        broken = set(broken_links(chain))
        rows = [
            {
                "night": verdict.cycle,
                "decision": read(verdict.payload).finding.decision,
                "reproduced": replay(verdict.payload) == verdict.payload,
                "chained": verdict.cycle not in broken,
                "sha256": verdict.sha256,
            }
            for verdict in chosen
        ]
    if json:
        as_json(rows)
    else:
        for row in rows:
            same = "reproduced byte for byte" if row["reproduced"] else "[red]comes out differently[/]"
            link = "" if row["chained"] else ", [red]and is not the record that was appended[/]"
            out.print(f"night {row['night']}: {row['decision']}, {same}{link}")
    if not all(row["reproduced"] and row["chained"] for row in rows):
        say("a verdict was changed, or the code that judges was", err)
        raise typer.Exit(1)


def _last_baseline(config: Config) -> EvalReport | None:
    with wiring.read_store(config) as store:
        found = store.evals(arm="baseline", set_id=set_id(wiring.frozen_sets(config).current()), limit=1)
    return found[0] if found else None


def _openings(config: Config) -> tuple[int, int, int]:
    """The epoch, how many openings it has used, and the number of the next one that there can be."""
    programs = {task.cluster for task in wiring.frozen_sets(config).current()}
    with wiring.read_store(config) as store:
        epoch, used = store.openings_used()
        next_one = 1 if store.begins_epoch(programs) else min(used + 1, config.gate.openings)
    return max(epoch, 1), used, next_one


def _base_rate(config: Config) -> tuple[float, bool]:
    """The pass rate of the base model on the frozen set, as last measured, and whether it was measured at all."""
    report = _last_baseline(config)
    return (report.pass_rate, True) if report else (USUAL_RATE, False)


def _chances(config: Config, clusters: tuple[Cluster, ...]) -> tuple[list[float], str]:
    """The chance to pass of each task, in the clusters' order, and where it is from."""
    from sleepy_coder.judge.power import frozen_set, typical_chances

    frozen = wiring.frozen_sets(config).current()
    with wiring.read_store(config) as store:
        for report in store.evals(set_id=set_id(frozen)):
            scores = task_scores(report)
            if len(report.samples) >= 2 * len(frozen) and len(scores) == len(frozen):
                return [scores[t] for c in clusters for t in c.tasks], f"{report.model}, as evaluated"
    rate, _ = _base_rate(config)
    chances = typical_chances(frozen_set(clusters, 2, 1.0), rate, config.seed)
    return chances, "simulated; `sleepy-coder eval --samples 8` measures them"
