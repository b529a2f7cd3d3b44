"""The dashboard in a real browser, opened from disk: what its script makes of the data."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from report_data import report_data
from test_live_page import CHROMIUM, browse

from sleepy_coder.report.dashboard import dashboard_html
from sleepy_coder.report.data import ReportData, changes, tasks_by_family
from sleepy_coder.types import EvalReport, Outcome, Phase

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser here: apt-get install chromium")


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data(per_family=4)


def opened(folder: Path, data: ReportData, asked: str = "null") -> tuple[str, Any]:
    """The elements of the page, and what the script expression `asked` is in it."""
    page = folder / "dashboard.html"
    title = f"<script>document.title = JSON.stringify({asked});</script></body>"
    page.write_text(dashboard_html(data).replace("</body>", title), encoding="utf-8")
    dom = asyncio.run(browse(folder / "profile", page.as_uri(), "--dump-dom", "--window-size=600,900"))
    found = re.search(r"<title>(.*?)</title>", dom)
    assert found
    return re.sub(r"<script.*?</script>", "", dom, flags=re.S), json.loads(found[1])


def all_outcomes(data: ReportData, family: str, outcome: Outcome) -> ReportData:
    """The same nights, in which each sample of a family came out the same."""

    def turned(report: EvalReport) -> EvalReport:
        samples = (s.model_copy(update={"outcome": outcome}) if s.family == family else s for s in report.samples)
        return report.model_copy(update={"samples": tuple(samples)})

    nights = (n.model_copy(update={"reports": tuple(map(turned, n.reports))}) for n in data.nights)
    return data.model_copy(update={"nights": tuple(nights)})


def test_a_number_of_nothing_is_not_shown(tmp_path: Path, data: ReportData) -> None:
    dom, _ = opened(tmp_path, data.model_copy(update={"episodes_total": 0, "episodes_passed": 0}))
    assert "nights promoted a candidate" in dom and "collected episodes passed" not in dom
    first_day = data.model_copy(update={"nights": (), "episodes_total": 0, "episodes_passed": 0})
    assert "0 of 0" not in opened(tmp_path, first_day)[0]


def test_no_two_phases_share_a_colour(tmp_path: Path, data: ReportData) -> None:
    phases = tuple(Phase(name=f"phase-{number}", seconds=number) for number in range(18))
    many = data.model_copy(update={"nights": tuple(n.model_copy(update={"phases": phases}) for n in data.nights)})
    asked = "Chart.getChart('phases').data.datasets.map((set) => [set.label, set.backgroundColor, set.data[0]])"
    _, drawn = opened(tmp_path, many, asked)
    assert [name for name, _, _ in drawn] == [*(f"phase-{number}" for number in range(10, 18)), "other"]
    assert len({colour for _, colour, _ in drawn}) == len(drawn)
    assert sum(seconds for _, _, seconds in drawn) == sum(range(18))


def test_the_timeline_begins_at_the_newest_night(tmp_path: Path, data: ReportData) -> None:
    row = "document.getElementById('timeline')"
    _, (left, room) = opened(tmp_path, data, f"[{row}.scrollLeft, {row}.scrollWidth - {row}.clientWidth]")
    assert room > 0 and left == pytest.approx(room, abs=1)


def test_a_family_that_was_not_measured_is_not_drawn_as_one_below_the_baseline(
    tmp_path: Path, data: ReportData
) -> None:
    family = next(iter(tasks_by_family(data)))
    asked = "[Chart.getChart('families').data, getComputedStyle(document.documentElement).getPropertyValue('--lost')]"
    dom, (chart, lost) = opened(tmp_path, all_outcomes(data, family, Outcome.INFRA), asked)
    assert chart["labels"][-1] == family and chart["datasets"][1]["data"][-1] is None
    assert chart["datasets"][1]["backgroundColor"][-1] != lost.strip()
    assert f"<td>{family}</td><td>4</td><td>not measured</td><td>not measured</td>" in dom


def test_a_family_of_which_nothing_passes_has_a_bar(tmp_path: Path, data: ReportData) -> None:
    family = next(iter(tasks_by_family(data)))
    asked = "(({ data: d, _metasets: m }) => [d.labels, m.map((set) => set.data.map((bar) => bar.height))])"
    _, (labels, heights) = opened(
        tmp_path, all_outcomes(data, family, Outcome.FAIL), f"{asked}(Chart.getChart('families'))"
    )
    assert all(bars[labels.index(family)] > 1 for bars in heights)


def test_every_change_is_a_button_with_a_name(tmp_path: Path, data: ReportData) -> None:
    dom, _ = opened(tmp_path, data)
    assert '<button type="button" aria-label="N1: GAINED' in dom
    squares = re.findall(r'<button type="button" aria-label="N\d+: (GAINED|LOST)\s', dom)
    found = [changes(night) for night in data.nights]
    assert len(squares) == sum(len(change.gained) + len(change.lost) for change in found)
