"""`sleepy-coder adapters ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markdown import Markdown

from sleepy_coder import model_card, wiring
from sleepy_coder.adapter_manifest import CARD, adapter_cycle
from sleepy_coder.canary import look
from sleepy_coder.config import Config
from sleepy_coder.config_load import load_config
from sleepy_coder.console import Json, Yes, as_json, confirm, err, explained, out, progress_bar, say, stop_tidily, table
from sleepy_coder.deploy import ensure_loaded, held_by
from sleepy_coder.errors import ServerError, SleepyError
from sleepy_coder.learn.merge import STEPS
from sleepy_coder.model_card import Edition
from sleepy_coder.registry import Registry
from sleepy_coder.report.adapters import difference
from sleepy_coder.share import hub
from sleepy_coder.share.bundle import Bundle, Exporter
from sleepy_coder.types import Decision

adapters_app = typer.Typer(
    help="The adapters that the nights produced.\n\nExample: [bold]sleepy-coder adapters list[/]", no_args_is_help=True
)
Form = Annotated[
    model_card.Form,
    typer.Option("--format", help="peft: for PEFT and vLLM; merged: a whole model; gguf: a LoRA for llama.cpp."),
]
Dtype = Annotated[
    Literal["base", "float32"], typer.Option("--dtype", help="Precision of a merged model: the base's, or float32.")
]


@adapters_app.command("list")
def list_adapters(json: Json = False) -> None:
    """All adapters with their state.

    Example: [bold]sleepy-coder adapters list[/]
    """
    with explained(), wiring.read_registry(load_config()) as registry:
        found = registry.adapters()
    if json:
        as_json(list(found))
        return
    rows = [(a.name, a.state, str(a.cycle), a.parent or "base", a.sha256[:12]) for a in found]
    table("Adapters", ("name", "state", "night", "parent", "sha256"), rows)


@adapters_app.command("show")
def show_adapter(name: Annotated[str, typer.Argument()], json: Json = False) -> None:
    """The model card of an adapter; with --json its manifest.

    Example: [bold]sleepy-coder adapters show sc-0001-1a2b3c4d[/]
    """
    with explained(), wiring.read_registry(load_config()) as registry:
        manifest = registry.manifest(name)
        if json:
            as_json(manifest)
            return
        card = (registry.get(name).path / CARD).read_text()
    out.print(Markdown(card.split("---", 2)[-1]))


@adapters_app.command("rollback")
def rollback(yes: Yes = False, json: Json = False) -> None:
    """Go back to the adapter that served before, or to the base. Takes effect at once.

    The adapter that served is quarantined and is never served again.

    Example: [bold]sleepy-coder adapters rollback --yes[/]
    """
    with explained():
        config = load_config()
        with wiring.read_registry(config) as registry:
            active = registry.pointer().name  # its manifest may be what is damaged
            if active is not None and not yes:
                confirm(f"Replace {active} by {registry.previous() or config.server.base_name}?")
            now = registry.rollback(only=active) if active is not None else None
            _tell_canary(config, registry)
    serving = now.name if now else config.server.base_name
    if json:
        as_json({"serving": serving, "quarantined": active})
    elif active is None:
        say(f"{serving} serves; there is nothing to roll back")
    else:
        say(f"{serving} serves; {active} is quarantined")


@adapters_app.command("promote")
def promote(name: Annotated[str, typer.Argument()], yes: Yes = False, json: Json = False) -> None:
    """Serve an adapter that the nights kept, by hand. The gate is not asked; what it said is shown first.

    Loaded and proved on the model server before anything changes; rejected and rolled-back adapters are refused.

    Example: [bold]sleepy-coder adapters promote sc-0003-1a2b3c4d[/]
    """
    with explained():
        config = load_config()
        with wiring.read_registry(config) as registry:
            adapter, verdict = registry.get(name), registry.manifest(name).verdict
            said = f"{verdict.decision} ({', '.join(verdict.reasons)})" if verdict else "nothing: it was never judged"
            if not yes and (verdict is None or verdict.decision is not Decision.PROMOTE):
                confirm(f"The gate said {said} of {name}. Serve it anyway?")
            with wiring.open_server(config) as server:
                ensure_loaded(registry, server, adapter, wiring.prover(config))
            before = registry.serving(config.server.base_name)
            now = registry.activate(name)
            _tell_canary(config, registry)
    if json:
        as_json({"serving": now.name, "before": before, "gate": said})
    else:
        say(f"{now.name} serves; the gate said {said}")


@adapters_app.command("diff")
def diff(
    old: Annotated[str, typer.Argument(help="An adapter.")],
    new: Annotated[str, typer.Argument(help="Another one.")],
    json: Json = False,
) -> None:
    """What sets two adapters apart: how they were trained, how far their weights are apart, which tasks each passes.

    Example: [bold]sleepy-coder adapters diff sc-0001-1a2b3c4d sc-0002-5e6f7a8b[/]
    """
    with explained():
        config = load_config()
        with wiring.read_registry(config) as registry:
            sides = [(registry.verify(name), registry.manifest(name)) for name in (old, new)]
        found = difference(*sides[0], *sides[1])
        titles = {} if json else wiring.titles(config)
    if json:
        as_json(found)
        return
    rows = [(name, *sides) for name, sides in found.recipe.items()]
    rows += [("pass rate", *(f"{rate:.1%}" if rate is not None else "not judged" for rate in found.pass_rates))]
    table(f"{old} and {new}", ("", old, new), rows)
    say(f"weights: the update differs by {found.distance:.1%} of its size")
    for word, tasks in (("gained", found.gained), ("lost", found.lost)):
        say(f"{word} by {new}: {len(tasks)} tasks" if found.comparable else f"{word}: not judged on the same set")
        for task in tasks:
            family, prompt = titles.get(task, ("", ""))
            say(f"  {task[:12]}  {family}  {' '.join(prompt.split())[:80]}")


@adapters_app.command("prune")
def prune(
    keep: Annotated[int | None, typer.Option(min=1, help="Newest ones to keep; default: night.keep_adapters.")] = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Delete old adapters. What serves, what a rollback goes to and what the model server holds stay.

    Example: [bold]sleepy-coder adapters prune --keep 5[/]
    """
    with explained():
        config = load_config()
        in_use, many = _in_use(config), keep or config.night.keep_adapters
        with wiring.read_registry(config) as registry:
            if not yes and len(registry.adapters()) > many:
                confirm(f"Delete all but the newest {many} and those in use?")
            gone = registry.prune(many, in_use)
            kept = len(registry.adapters())
    if json:
        as_json({"deleted": gone, "kept": kept})
    else:
        say(f"{len(gone)} deleted{': ' if gone else ''}{', '.join(gone)}")


def _tell_canary(config: Config, registry: Registry) -> None:
    """Have the canary see that the pointer was moved, also where no daemon looks. The move holds all the same."""
    try:
        with wiring.read_store(config) as store:
            look(store, registry, config.canary, config.server.base_name, wiring.SystemClock().now())
    except SleepyError as error:
        say(f"the canary does not know of it yet: {error.message}; the daemon or the next night tells it", err)


def _in_use(config: Config) -> set[str]:
    """What the model server holds. Raises ServerError."""
    with wiring.open_server(config) as server:
        try:
            return held_by(server)
        except ServerError as error:
            remedy = "start it: an adapter that it may read again must not be deleted"
            raise ServerError(f"it is unknown what the model server holds ({error.message})", remedy) from error


@adapters_app.command("export")
def export(
    name: Annotated[str, typer.Argument(help="The adapter.")],
    form: Form = "peft",
    out_: Annotated[
        Path | None, typer.Option("--out", help="A folder that does not exist yet; default: named after the adapter.")
    ] = None,
    dtype: Dtype = "base",
    json: Json = False,
) -> None:
    """Write an adapter to a folder, with its model card: for PEFT and vLLM, as a whole model, or for llama.cpp.

    Example: [bold]sleepy-coder adapters export sc-0001-1a2b3c4d --format gguf --out ./my-adapter[/]
    """
    stop_tidily()
    with explained():
        target = out_ or Path(name if form == "peft" else f"{name}-{form}")
        bundle = _export(load_config(), name, form, dtype, target)
    if json:
        as_json(bundle)
        return
    _show_files(bundle)
    say(str(bundle.folder))


@adapters_app.command("push")
def push(
    name: Annotated[str, typer.Argument(help="The adapter.")],
    repo: Annotated[str, typer.Option("--repo", help="USER/NAME on the Hub; created if it does not exist.")],
    form: Form = "peft",
    dtype: Dtype = "base",
    public: Annotated[bool, typer.Option("--public", help="For everybody to see; default: private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be uploaded.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Upload an adapter to the Hugging Face Hub, with its model card. Prompts, answers and episodes stay here.

    The token is that of `hf auth login` or HF_TOKEN; HF_ENDPOINT names another Hub. Of a rejected or rolled-back
    adapter it is asked whether you mean it, also with --yes.

    Example: [bold]sleepy-coder adapters push sc-0001-1a2b3c4d --repo me/my-adapter --dry-run[/]
    """
    stop_tidily()
    with explained():
        config, pushed, there = load_config(), None, ()
        with wiring.read_registry(config) as registry:
            registry.get(name)
        hub.check_name(repo)
        if not dry_run:
            there = hub.look(repo, public=public)  # before a model is merged that nobody takes
        with hub.workroom(config.state) as room:
            bundle = _export(config, name, form, dtype, room / name)
            if not dry_run:
                if bundle.withdrawn:
                    confirm("Upload it all the same?")
                if gone := hub.leftovers(there, bundle):
                    say(f"deleted there, left by an earlier push: {', '.join(gone)}", err)
                if not yes:
                    _show_files(bundle, err)
                    confirm(f"Upload this to {repo} ({'public' if public else 'private'})?")
                pushed = hub.push(bundle, repo, public=public)
    told = pushed or hub.Pushed(url=None, public=public)
    if json:
        as_json({"repo": repo, "files": bundle.files, **told.model_dump()})
        return
    if dry_run:
        _show_files(bundle)
    say(told.url or f"nothing was uploaded to {repo}")


def _export(config: Config, name: str, form: model_card.Form, dtype: Literal["base", "float32"], to: Path) -> Bundle:
    with wiring.read_registry(config) as registry:
        registry.get(name)  # a name that is nobody's is told before a bar is drawn
        with progress_bar() as progress:
            bar = progress.add_task(f"export {form}", total=len(STEPS) if form == "merged" else 1, note="")
            exporter = Exporter(
                registry,
                lambda: wiring.model_path(config),
                dtype,
                lambda step, number: progress.update(bar, completed=number - 1, note=step),
            )
            bundle = exporter.export(name, _edition(config, name, form), to)
            progress.update(bar, completed=progress.tasks[bar].total, note="")
    if bundle.withdrawn:
        say(f"{name} is {bundle.withdrawn}", err)
    if not bundle.base_model:
        say("the base's name on the Hub is not known, and nobody else finds it by another: set model.hub_id", err)
    return bundle


def _edition(config: Config, name: str, form: model_card.Form) -> Edition:
    with wiring.read_store(config) as store:
        cycle = adapter_cycle(name)
        night = store.night(cycle) if cycle is not None else None
    made = night if night and night.candidate == name else None
    return Edition(form=form, base_model=config.model.hub_id, license=config.model.license, night=made)


def _show_files(bundle: Bundle, to: Console = out) -> None:
    table(
        f"{bundle.adapter} ({bundle.form})",
        ("file", "KB"),
        [(file, f"{size / 1000:,.1f}") for file, size in bundle.files.items()],
        to,
    )
    if bundle.proof:
        say(f"proved: rounding changed {bundle.proof.lost:.2%} of what the adapter changes", to)
