"""Reports for people: the morning report, results.md, results.png and dashboard.html."""

from __future__ import annotations

from pathlib import Path

from sleepy_coder.errors import SleepyError
from sleepy_coder.files import write_atomic
from sleepy_coder.report.data import ReportData, judged


def write_all(data: ReportData, folder: Path) -> tuple[Path, ...]:
    """Write results.md, results.png and dashboard.html to `folder`; the paths written.

    Raises SleepyError when no night has been judged yet: there would be nothing to show.
    """
    from sleepy_coder.report.dashboard import dashboard_html
    from sleepy_coder.report.plots import results_png
    from sleepy_coder.report.results import results_markdown

    if not judged(data.nights):
        raise _nothing_to_show(data)
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        folder / "results.md": results_markdown(data),
        folder / "results.png": results_png(data),
        folder / "dashboard.html": dashboard_html(data),
    }
    for path, content in files.items():
        write_atomic(path, content)
    return tuple(files)


def _nothing_to_show(data: ReportData) -> SleepyError:
    if not data.nights:
        return SleepyError("no night has been judged yet", "run one with `sleepy-coder night`")
    last = data.nights[-1]
    return SleepyError(
        f"no night has been judged yet; the last one ended as {last.outcome} ({last.reason})",
        "do what it says, then run `sleepy-coder night` again",
    )
