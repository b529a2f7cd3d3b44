"""`sleepy-coder doctor`."""

from __future__ import annotations

import typer
from rich.markup import escape
from rich.table import Table

from sleepy_coder.config_load import load_config
from sleepy_coder.console import Json, as_json, err, explained, show
from sleepy_coder.serve.checkup import Finding

_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


def doctor_command(json: Json = False) -> None:
    """Check everything that a night needs, for real, and say how to fix what is wrong.

    Looks at settings, disk, store, compiler, sandbox, base model, every model server, the gateway and the daemon. At
    the model server two throw-away adapters are loaded, asked and unloaded again. Exit status: 0 when nothing failed,
    1 otherwise.

    Example: [bold]sleepy-coder doctor --json | jq '.[] | select(.level != "ok")'[/]
    """
    from sleepy_coder.doctor import examine

    with explained():
        with err.status("") as status:
            findings = examine(load_config(), lambda what: status.update(f"looking at {escape(what)}"))
        if json:
            as_json(list(findings))
        else:
            _show(findings)
    raise typer.Exit(1 if any(finding.level == "fail" for finding in findings) else 0)


def _show(findings: tuple[Finding, ...]) -> None:
    grid = Table("", "check", "what was found", box=None, pad_edge=False, header_style="bold")
    for finding in findings:
        said = escape(finding.what) + (f"\n[bold]to do:[/] {escape(finding.remedy)}" if finding.remedy else "")
        grid.add_row(_MARKS[finding.level], escape(finding.name), said)
    show(grid)
