"""`sleepy-coder canary` and `drill`: how a promotion does by day, and whether a bad one would be caught."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from sleepy_coder import wiring
from sleepy_coder.canary import last_state, state_of
from sleepy_coder.config_load import load_config
from sleepy_coder.console import Json, ProgressWatcher, as_json, explained, out, progress_bar, say, table
from sleepy_coder.report.canary import rows, sentence


def canary_command(
    every: Annotated[bool, typer.Option("--all", help="All canaries there were, oldest first.")] = False,
    json: Json = False,
) -> None:
    """How the last promoted adapter does beside the one before it, and what became of it.

    Sessions are divided between the two by lot. E is the evidence that the new one fails more often.

    Example: [bold]sleepy-coder canary --json | jq .evidence.sessions_e[/]
    """
    with explained():
        config = load_config()
        with wiring.read_store(config) as store:
            if every:
                states = [state_of(store, trial, config.canary) for trial in store.canaries()]
            else:
                states = [state] if (state := last_state(store, config.canary)) else []
    if json:
        as_json(states if every else states[0] if states else None)
    elif not states:
        say("nothing has been promoted yet")
    elif every:
        for state in states:
            say(f"{state.trial.began.astimezone():%Y-%m-%d %H:%M %Z}  {sentence(state)}")
    else:
        table("Canary", ("", ""), [(name, value) for name, value in rows(states[0])])


def drill_command(json: Json = False) -> None:
    """Play an adapter that is broken on purpose into the shadow, where no user is, and see that it is caught.

    The daemon runs one a week, after a night; while the model server sleeps for a night, none is held. Exit status: 0
    when it was caught, 1 when not.

    Example: [bold]sleepy-coder drill --json | jq .caught[/]
    """
    from sleepy_coder.drill import drill, refuse_nap

    with explained():
        config = load_config()
        refuse_nap(config)
        with progress_bar() as progress, wiring.open_parts(config, ProgressWatcher(progress)) as parts:
            parts.watcher.phase("drill")
            held = drill(parts)
    if json:
        as_json(held)
    elif held.caught:
        found = f"E {held.replay:.3g} from the replay and {held.sessions:.3g} from sessions, on {held.tasks} tasks"
        out.print(f"[green]caught[/]: it passes {held.broken:.0%}, what serves {held.good:.0%} ({found})")
    else:
        out.print(f"[red]not caught[/]: {escape(held.reason)}")
    raise typer.Exit(0 if held.caught else 1)
