"""The reports: every task by name, every decision in words, nothing that breaks out of its page."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fakes import make_episode
from report_data import renewed, report_data, skipped
from rich.console import Console

from sleepy_coder.report import words
from sleepy_coder.report.dashboard import dashboard_html, dashboard_view, embeddable
from sleepy_coder.report.data import Cell, ReportData, Titles, changes, columns, comparable, shorten
from sleepy_coder.report.days import days
from sleepy_coder.report.morning import duration, morning
from sleepy_coder.report.plots import night_names, results_png
from sleepy_coder.report.results import results_markdown
from sleepy_coder.store import Store
from sleepy_coder.types import Comparison, Decision, EvalReport, FamilyChange, GateVerdict, NightReport, Outcome, Phase


def morning_text(report: NightReport, titles: Titles) -> str:
    """What the terminal shows, without colours and with every task listed."""
    out = io.StringIO()
    console = Console(file=out, width=110, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(morning(report, titles, limit=1000))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data()


def rewritten(data: ReportData, prompt: str) -> ReportData:
    return data.model_copy(update={"titles": {task: (family, prompt) for task, (family, _) in data.titles.items()}})


def with_reasons(night: NightReport, *reasons: str) -> NightReport:
    compared = Comparison(
        versus="current",
        tasks=300,
        delta=-0.05,
        interval=(-0.08, -0.02),
        confidence=0.95,
        gained=("a",),
        lost=("b", "c"),
        p_value=0.99,
        p_harm=0.004,
    )
    verdict = GateVerdict(
        decision=Decision.REJECT,
        reasons=reasons,
        alpha=0.05,
        comparisons=(compared.model_copy(update={"versus": "baseline", "gained": ()}), compared),
        families=(FamilyChange(family="f", tasks=10, gained=0, lost=9, p_harm=0.002, blocked=True),),
        infra_tasks=("x", "y"),
        minimum_detectable_effect=0.061,
    )
    return night.model_copy(update={"verdict": verdict, "outcome": "rejected"})


def test_the_synthetic_nights_show_every_outcome(data: ReportData) -> None:
    assert [night.outcome for night in data.nights] == [
        "promoted",
        "inconclusive",
        "skipped",
        "promoted",
        "rejected",
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_the_morning_report_fits_the_terminal_and_one_screen(data: ReportData, width: int) -> None:
    for night in data.nights:
        out = io.StringIO()
        Console(file=out, width=width, force_terminal=False).print(morning(night, data.titles))
        lines = out.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        assert len(lines) <= 48


def test_the_morning_text_names_every_changed_task_without_control_codes(data: ReportData) -> None:
    for night in data.nights:
        text = morning_text(night, data.titles)
        change = changes(night)
        assert all(task in text for task in (*change.gained, *change.lost))
        assert "\x1b" not in text


def test_the_morning_report_says_what_happened_and_what_it_rests_on(data: ReportData) -> None:
    promoted, _, skipped, recovered, rejected = data.nights
    text = morning_text(promoted, data.titles)
    assert f"{promoted.candidate} serves from now on" in text
    assert "replay 44% (asked 44%, 185 rows)" in text
    assert "train 6 min 42 s" in text
    assert "Recovered from an interruption: 2 phases kept (anchors, dream)." in " ".join(
        morning_text(recovered, data.titles).split()
    )
    assert "9 of the 24 rows that a night needs." in morning_text(skipped, data.titles)
    assert f"{rejected.serving} goes on serving, unchanged." in morning_text(rejected, data.titles)


@pytest.mark.usefixtures("in_seoul")
def test_the_morning_report_tells_the_local_time_and_its_zone(data: ReportData) -> None:
    assert f"{data.nights[0].finished:%H:%M %Z}" == "02:10 UTC"
    assert "ended 2026-11-19 11:10 KST" in morning_text(data.nights[0], data.titles)


def test_the_morning_report_leaves_out_phases_that_took_no_time(data: ReportData) -> None:
    phases = (Phase(name="shadow", seconds=0.04), Phase(name="train", seconds=43.0), Phase(name="serve", seconds=0.0))
    told = morning_text(data.nights[0].model_copy(update={"phases": phases}), data.titles)
    assert "train 43.0 s" in told
    assert "shadow" not in told and "serve 0.0" not in told


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("ENV_DRIFT", "cannot be compared"),
        ("INFRA_MISSING", "2 of 300 tasks could not be measured"),
        ("FAMILY_HARM(f)", "The family f got worse: 0 gained, 9 lost of 10 tasks (p=0.002)"),
        ("GAIN_VS_CURRENT", "Better than the served model"),
        ("E_ANCHOR_LOW", "No proven gain over the frozen baseline: 0 gained"),
        ("E_PROG_LOW", "No proven gain over the served model: 1 gained"),
        ("FUTILE_OR_HARMFUL", "is ruled out: 1 gained, 2 lost of 300 tasks"),
        ("BUDGET_EXHAUSTED", "no opening left"),
        ("FRESH_LOW", "cannot be ruled out"),
        ("LEAK_GAP", "too large beside that on fresh ones"),
        ("SMALL_SET", "too small to promote"),
    ],
)
def test_every_reason_of_the_gate_has_a_sentence(data: ReportData, code: str, says: str) -> None:
    sentences = words.explain(with_reasons(data.nights[0], code))
    assert says in sentences[0]
    assert "6.1 points or more" in sentences[-1]


def test_the_reports_say_how_much_there_was_to_gain(data: ReportData) -> None:
    night, told = data.nights[0], "Dreaming answered 31 of 40 tasks that had failed by day."
    assert told in " ".join(morning_text(night, data.titles).split())
    assert told in results_markdown(data) and told in dashboard_view(data).nights[0].sentences
    unanswered = night.model_copy(update={"answered": 0})
    assert words.headroom(unanswered)[-1].endswith("by day: they taught nothing.")


def test_the_headroom_of_several_samples_is_pass_at_k_less_pass_at_1(data: ReportData) -> None:
    night = data.nights[0]
    once = next(report for report in night.reports if report.arm == "current")
    passes = once.samples[0].model_copy(update={"outcome": Outcome.PASS})
    fails = once.samples[0].model_copy(update={"outcome": Outcome.FAIL, "index": 1})
    twice = once.model_copy(update={"samples": (passes, fails)})
    said = words.headroom(night.model_copy(update={"reports": (twice,)}))[0]
    assert "50.0% of the frozen tasks at once and 100.0% in 2 samples: +50.0 points to gain" in said


def test_the_headroom_of_a_night_leaves_out_the_tasks_that_were_not_measured_in_full(data: ReportData) -> None:
    night = data.nights[1]
    current = next(report for report in night.reports if report.arm == "current")
    one, other, *_ = current.samples
    outcomes = [(one, Outcome.FAIL)] * 4 + [(other, Outcome.PASS)] * 3 + [(other, Outcome.INFRA)]
    samples = tuple(
        sample.model_copy(update={"outcome": outcome, "index": number % 4})
        for number, (sample, outcome) in enumerate(outcomes)
    )
    told = words.headroom(night.model_copy(update={"reports": (current.model_copy(update={"samples": samples}),)}))
    assert "0.0% of the frozen tasks at once and 0.0% in 4 samples" in told[0]


def test_how_far_a_night_went_from_the_base_is_shown(data: ReportData) -> None:
    assert "KL to the base 0.012" in " ".join(morning_text(data.nights[0], data.titles).split())
    assert "KL to the base 0.012 nats per token" in results_markdown(data)
    assert "KL to the base 0.012" in dashboard_view(data).nights[0].recipe
    barely = data.nights[0].model_copy(update={"kl": 0.0})
    assert "KL to the base below 0.0001" in " ".join(morning_text(barely, data.titles).split())


def test_the_days_between_the_nights_are_shown_with_what_came_back(data: ReportData) -> None:
    assert "| 2 | 128 | 75.0% | 50.0% | 2 | 25.0% |" in results_markdown(data)
    assert dashboard_view(data).days == data.days
    assert "The days between" not in results_markdown(data.model_copy(update={"days": ()}))


def test_forgetting_stands_beside_acc_and_bwt(data: ReportData) -> None:
    assert re.search(r"ACC 0\.\d{3}, BWT [+\u2212]\d\.\d{3}, forgetting [+\u2212]\d\.\d{3}", results_markdown(data))


def test_a_day_is_what_came_between_two_nights(tmp_path: Path) -> None:
    def night(store: Store, cycle: int) -> NightReport:
        store.begin_night(cycle)
        store.finish_phase(cycle, "day", json.dumps({"until": store.position()}), 0.0)
        store.finish_night(skipped(cycle, "base"))
        return store.nights()[-1]

    with Store(tmp_path / "store.db") as store:
        store.save_episodes([make_episode(1, Outcome.PASS), make_episode(2, Outcome.FAIL, Outcome.PASS)])
        first = night(store, 1)
        store.save_episodes([make_episode(3, Outcome.FAIL)])
        nights = (first, night(store, 2), night(store, 3))
        found = days(store, nights)
    assert [(day.before, day.episodes, day.passed, day.at_once, day.attempts_to_green) for day in found] == [
        (1, 2, 1.0, 0.5, 1.5),
        (2, 1, 0.0, 0.0, None),
    ]


def test_a_reason_that_another_implies_is_not_told_twice(data: ReportData) -> None:
    told = words.explain(with_reasons(data.nights[0], "FUTILE_OR_HARMFUL", "E_PROG_LOW"))
    assert len(told) == 2
    assert "equal to the baseline" in words.explain(data.nights[0])[0]


def test_the_heatmap_marks_changes_against_what_was_served_then(data: ReportData) -> None:
    base, first, *_ = columns(data)
    change = changes(data.nights[0])
    assert base.promoted is None
    assert set(base.cells.values()) == {Cell.PASS, Cell.FAIL}
    assert {task for task, cell in first.cells.items() if cell is Cell.GAINED} == set(change.gained)
    assert {task for task, cell in first.cells.items() if cell is Cell.LOST} == set(change.lost)
    assert all(base.cells[task] is Cell.FAIL for task in change.gained)


def test_the_results_name_every_changed_task_and_say_what_they_cannot_show(data: ReportData) -> None:
    page = results_markdown(data)
    for night in data.nights:
        section = page.split(f"## Night {night.cycle}: {night.outcome}")[1].split("\n## ")[0]
        assert all(f"`{task}`" in section for task in (*changes(night).gained, *changes(night).lost))
    assert "Minimum detectable effect" in page
    assert "with a chance of at most 0.05. This is epoch 1; 5 of 50 openings are used." in page
    assert re.search(r"ACC 0\.\d{3}, BWT \u22120\.\d{3}", page)


def test_a_prompt_cannot_break_out_of_a_table(data: ReportData) -> None:
    page = results_markdown(rewritten(data, "a|b\n| x `y` <b>"))
    rows = [line for line in page.splitlines() if "'y'" in line]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 and "<b>" not in row for row in rows)


def test_a_family_cannot_be_a_link_nor_end_its_row(data: ReportData) -> None:
    titles = {task: ("[x](javascript:alert(1))\n| y", prompt) for task, (_, prompt) in data.titles.items()}
    page = results_markdown(data.model_copy(update={"titles": titles}))
    assert "\\[x](javascript" in page
    assert not re.search(r"(?<!\\)\[x\]|^\| y", page, flags=re.M)


def test_the_picture_is_a_png_and_needs_a_judged_night(data: ReportData) -> None:
    assert results_png(report_data(per_family=4), dpi=40).startswith(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match="nothing to draw"):
        results_png(data.model_copy(update={"nights": data.nights[2:3]}))


def test_families_with_long_names_leave_the_picture_room_for_its_bars() -> None:
    data, long = report_data(per_family=1), "_and_a_name_that_does_not_end" * 5

    def renamed(report: EvalReport) -> EvalReport:
        samples = (sample.model_copy(update={"family": sample.family + long}) for sample in report.samples)
        return report.model_copy(update={"samples": tuple(samples)})

    nights = (night.model_copy(update={"reports": tuple(map(renamed, night.reports))}) for night in data.nights)
    assert results_png(data.model_copy(update={"nights": tuple(nights)}), dpi=40)  # without matplotlib's warning


def test_many_nights_are_named_by_their_numbers_alone(data: ReportData) -> None:
    first, second, *_ = data.nights
    assert night_names([first, second]) == ["night 1\npromoted", "night 2\ninconclusive"]
    assert night_names([first, second] * 5) == ["N1", "N2"] * 5


class Page(HTMLParser):
    """Collects the elements of a page and the text of its data element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.json = ""
        self._in_data = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._in_data = dict(attrs).get("id") == "data"
        self.outside += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data: str) -> None:
        if self._in_data:
            self.json += data

    def handle_endtag(self, tag: str) -> None:
        self._in_data = False


def test_the_dashboard_is_one_file_that_loads_nothing(data: ReportData) -> None:
    html = dashboard_html(data)
    page = Page(html)
    assert page.outside == []
    assert page.tags.count("script") == 3
    assert "link" not in page.tags
    assert "default-src 'none'" in html
    assert "sourceMappingURL" not in html
    assert "Chart.js v4" in html
    assert json.loads(page.json) == dashboard_view(data).model_dump(mode="json")


def test_a_hostile_prompt_stays_data_in_the_dashboard(data: ReportData) -> None:
    prompt = '</script><script>alert("1")</script><!-- & \u2028'
    page = Page(dashboard_html(rewritten(data, prompt)))
    assert page.tags.count("script") == 3
    assert {task["prompt"] for task in json.loads(page.json)["tasks"]} == {" ".join(prompt.split())}
    assert "<" not in embeddable(json.dumps("</script>"))


def test_a_model_name_is_escaped_in_the_dashboards_markup(data: ReportData) -> None:
    page = Page(dashboard_html(data.model_copy(update={"serving": "<img src=x>"})))
    assert "img" not in page.tags


def test_reports_of_no_night_at_all_can_be_made(data: ReportData) -> None:
    empty = data.model_copy(update={"nights": ()})
    assert "none yet" in results_markdown(empty)
    assert json.loads(Page(dashboard_html(empty)).json)["nights"] == []


def test_rates_on_two_frozen_sets_are_not_compared() -> None:
    page = results_markdown(renewed())
    assert re.search(r"baseline passes \*\*50\.0% .* serves now passes \*\*80\.0% .* \(\+30\.0 points\)", page)
    assert "left out wherever nights are compared: night 1." in page
    assert page.count(words.ANOTHER_SET) == 1
    assert "Backward transfer needs two promoted nights." in page


def test_the_dashboard_compares_what_one_frozen_set_judged() -> None:
    view = dashboard_view(renewed())
    assert (view.baseline, view.now) == (0.5, 0.8)
    assert view.columns == ("base", "N2")
    assert sum(family.tasks for family in view.families) == len(view.tasks) == 60
    assert [words.ANOTHER_SET in night.sentences for night in view.nights] == [True, False]


def test_the_picture_can_be_drawn_after_the_frozen_set_was_renewed() -> None:
    assert results_png(renewed(), dpi=40).startswith(b"\x89PNG")


def test_nights_of_before_there_were_epochs_are_told_apart_by_their_tasks() -> None:
    nights = tuple(night.model_copy(update={"verdict": None}) for night in renewed().nights)
    assert comparable(nights) == nights[1:]
    part = nights[1].model_copy(
        update={"reports": tuple(r.model_copy(update={"samples": r.samples[:9]}) for r in nights[1].reports)}
    )
    assert comparable((*nights, part)) == (nights[1], part)


def test_a_gained_task_that_a_later_night_could_not_measure_does_not_stop_the_report(data: ReportData) -> None:
    first, last = data.nights[0], data.nights[3]
    unmeasured = set(changes(first).gained)

    def without(report: EvalReport) -> EvalReport:
        samples = tuple(
            sample.model_copy(update={"outcome": Outcome.INFRA}) if sample.task_id in unmeasured else sample
            for sample in report.samples
        )
        return report.model_copy(update={"samples": samples})

    broken = last.model_copy(update={"reports": tuple(map(without, last.reports))})
    page = results_markdown(data.model_copy(update={"nights": (first, broken)}))
    assert "Backward transfer needs two promoted nights." in page


def test_text_is_cut_with_an_ellipsis_and_time_is_told_in_fitting_units() -> None:
    assert shorten("abcdef", 4) == "abc\u2026"
    assert shorten("abcd", 4) == "abcd"
    assert [duration(s) for s in (7.23, 200, 3900)] == ["7.2 s", "3 min 20 s", "1 h 05 min"]
