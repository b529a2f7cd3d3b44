"""A night for scripts."""

from __future__ import annotations

from sleepy_coder.types import NightReport


def night_summary(report: NightReport) -> dict[str, object]:
    """Everything of a night but the single samples, which `eval --json` gives."""
    return {
        **report.model_dump(mode="json", exclude={"reports"}),
        "seconds": round((report.finished - report.started).total_seconds(), 3),
        "learning_rate": report.recipe.learning_rate if report.recipe else None,
        "reports": [
            {
                **arm.model_dump(mode="json", exclude={"samples"}),
                "tasks": len({s.task_id for s in arm.samples}),
                "served_by": sorted({s.served_by for s in arm.samples}),
            }
            for arm in report.reports
        ],
    }
