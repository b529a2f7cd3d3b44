"""One night with a real store, a real registry and the real gate: what is served, and what never is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from fakes import (
    BASE,
    DAY,
    FROZEN,
    REHEARSAL,
    FakeClock,
    FakeServer,
    FakeTrainer,
    FakeVerifier,
    Quiet,
    live_a_day,
    make_episode,
    make_task,
    parts,
    solver,
    tasks_of,
)

from sleepy_coder.deploy import ensure_loaded
from sleepy_coder.errors import AdapterError, ServerError, ServerUnreachable, StoreError
from sleepy_coder.night import run_night
from sleepy_coder.parts import Parts
from sleepy_coder.types import AdapterState, NightReport, Outcome

OLD, NEW, WORSE = FROZEN[:30], FROZEN[:45], FROZEN[:15]
SKILLS = (*DAY[:30], *REHEARSAL[:20])
DREAMED = DAY[30:40:2]
STEPS = (
    "serve",
    "day",
    "anchors",
    "dream",
    "mix",
    "recipe",
    "train",
    "evaluate-baseline",
    "evaluate-current",
    "evaluate-candidate",
    "gate",
    "deploy",
)


class Killed(Exception):
    """The end of a process, at a place of the test's choosing."""


class House:
    """A home, its model server and its trainer; every `open` is a new process that looks at the same files."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.server = FakeServer(solver((*OLD, *SKILLS), DREAMED))
        self._open: list[Parts] = []

    def open(self, learns: range = NEW, **others: Any) -> Parts:
        trainer = others.pop("trainer", FakeTrainer((*learns, *SKILLS)))
        self._open.append(parts(self.home, self.server, trainer, **others))
        return self._open[-1]

    def day(self, session: str = "day") -> None:
        """Forty tasks: thirty are solved at once, and every second of the others when dreaming."""
        live_a_day(self.open(), DAY[:40], session)

    def night(self, learns: range = NEW, **others: Any) -> NightReport:
        return run_night(self.open(learns, **others))

    def serving(self) -> str | None:
        active = self.open().registry.active()
        return active.name if active else None

    def close(self) -> None:
        for house in self._open:
            house.store.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def test_a_better_candidate_is_promoted_and_served(house: House) -> None:
    house.day()
    report = house.night(NEW)
    assert (report.outcome, report.reason) == ("promoted", "GAIN_VS_BASELINE, GAIN_VS_CURRENT")
    assert report.candidate == report.serving == house.serving()
    assert [phase.name for phase in report.phases] == list(STEPS)
    assert report.counts["hard"] and report.counts["passed"] and report.counts["replay"]


def test_a_worse_candidate_is_rejected_and_never_active(house: House) -> None:
    house.day()
    report = house.night(WORSE)
    assert (report.outcome, report.serving, house.serving()) == ("rejected", BASE, None)
    assert report.candidate not in house.server.roots
    home = house.open()
    assert home.registry.get(str(report.candidate)).state is AdapterState.REJECTED
    with pytest.raises(AdapterError):
        home.registry.activate(str(report.candidate))


def test_an_undecided_night_keeps_the_incumbent_and_its_episodes_for_the_next(house: House) -> None:
    house.day()
    report = house.night(FROZEN[:32])
    assert (report.outcome, report.serving, house.serving()) == ("inconclusive", BASE, None)
    home = house.open()
    assert home.store.count_episodes(unused=True) == home.store.count_episodes() == 40


def test_a_rejected_night_sets_aside_all_that_passed_that_day_and_keeps_the_failures_without_an_answer(
    house: House,
) -> None:
    house.day()
    house.night(WORSE)
    left = list(house.open().store.episodes(unused=True))
    assert left
    assert all(episode.outcome is Outcome.FAIL for episode in left)


def test_a_later_night_believes_the_earlier_baseline_after_asking_a_tenth_of_it_again(house: House) -> None:
    house.day()
    first = house.night(FROZEN[:32])
    house.server.asked.clear()
    second = house.night(FROZEN[:32])
    frozen = {task.prompt for task in tasks_of(FROZEN)}
    asked = [a for a in house.server.asked if a.model == BASE and a.messages[1].content.partition("\n")[0] in frozen]
    assert len(asked) == 7
    assert second.reports[0].samples == first.reports[0].samples
    assert (second.reports[0].arm, second.reports[1].arm) == ("baseline", "current")


def test_a_baseline_that_drifted_is_measured_anew(house: House) -> None:
    house.day()
    house.night(FROZEN[:32])
    house.server.answers[BASE] = solver((*FROZEN[30:60], *SKILLS), DREAMED)
    second = house.night(FROZEN[30:62])
    passed = {sample.task_id for sample in second.reports[0].samples if sample.outcome is Outcome.PASS}
    assert passed == {task.id for task in tasks_of(FROZEN[30:60])}


def test_a_promoted_night_uses_up_what_it_trained_on_and_keeps_the_rest(house: House) -> None:
    house.day()
    house.night(NEW)
    store = house.open().store
    trained = {row.task_id for row in store.examples(kind="passed")} | {
        row.task_id for row in store.examples(kind="hard")
    }
    left = {episode.task.id for episode in store.episodes(unused=True) if episode.task}
    everything = {episode.task.id for episode in store.episodes() if episode.task}
    assert trained
    assert not trained & left
    assert trained | left == everything


def test_what_arrives_during_a_night_waits_for_the_next(house: House) -> None:
    class Visitor(Quiet):
        def phase(self, name: str) -> None:
            if name == "mix":
                house.open().store.save_episode(make_episode(50, Outcome.PASS))

    house.day()
    house.night(watcher=Visitor())
    assert "e50" in {episode.id for episode in house.open().store.episodes(unused=True)}


def test_too_little_data_skips_the_night_and_is_kept(house: House) -> None:
    live_a_day(house.open(), DAY[:2])
    trainer = FakeTrainer(NEW)
    report = house.night(trainer=trainer)
    assert (report.outcome, trainer.runs, house.serving()) == ("skipped", [], None)
    assert report.reason == "4 rows are fewer than the 8 worth a night"
    assert house.open().store.count_episodes(unused=True) == 2


def test_a_leak_fails_the_night_before_anything_is_trained(house: House) -> None:
    house.day()
    copied = make_task(5)
    trainer = FakeTrainer(NEW)
    report = house.night(trainer=trainer, frozen=[copied, *(make_task(number) for number in FROZEN[:63])])
    assert report.outcome == "failed"
    assert copied.id in report.reason
    assert house.open().store.count_quarantined() > 0
    assert copied.id not in {e.task.id for e in house.open().store.episodes(unused=True) if e.task}
    assert (trainer.runs, report.serving, house.serving(), house.server.roots) == ([], BASE, None, {})


def test_a_failed_training_fails_the_night_in_its_own_words(house: House) -> None:
    house.day()
    report = house.night(trainer=FakeTrainer(fails="out of memory"))
    assert (report.outcome, house.serving()) == ("failed", None)
    assert "out of memory" in report.reason
    assert house.open().store.count_episodes(unused=True) == 40
    assert house.night().outcome == "promoted"


def test_an_unreachable_server_leaves_the_night_open(house: House) -> None:
    house.day()
    house.server.reachable = False
    with pytest.raises(ServerUnreachable):
        house.night()
    assert house.open().store.unfinished_night() == 1
    house.server.reachable = True
    report = house.night()
    assert (report.cycle, report.outcome) == (1, "promoted")


def test_a_server_that_answers_under_another_name_promotes_nothing(house: House) -> None:
    house.day()
    run_until(house, "evaluate-candidate", NEW)
    house.server.answers_as = BASE
    with pytest.raises(ServerError, match=f"but {BASE} answered"):
        house.night()
    assert house.serving() is None


class DiesAt(Quiet):
    """Ends the process as step `name` begins."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def phase(self, name: str) -> None:
        super().phase(name)
        if name == self._name:
            raise Killed(name)


def run_until(house: House, step: str, learns: range) -> FakeTrainer:
    trainer = FakeTrainer((*learns, *SKILLS))
    with pytest.raises(Killed):
        house.night(trainer=trainer, watcher=DiesAt(step))
    return trainer


@pytest.mark.parametrize(
    ("step", "learns", "outcome"),
    [*((step, NEW, "promoted") for step in STEPS), *((step, WORSE, "rejected") for step in STEPS[-6:])],
)
def test_a_night_killed_at_any_step_goes_on_and_ends_with_the_same_verdict(
    house: House, step: str, learns: range, outcome: str
) -> None:
    house.day()
    before = run_until(house, step, learns)
    assert house.serving() is None
    after = FakeTrainer((*learns, *SKILLS))
    watcher = Quiet()
    report = house.night(trainer=after, watcher=watcher)
    assert (report.cycle, report.outcome) == (1, outcome)
    assert house.serving() == (report.candidate if outcome == "promoted" else None)
    assert tuple(watcher.phases) == STEPS[STEPS.index(step) :]
    assert len(before.runs) + len(after.runs) == 1


def test_two_processes_never_work_on_the_same_night(house: House) -> None:
    class Impatient(Quiet):
        def phase(self, name: str) -> None:
            if name == "train":
                with pytest.raises(StoreError, match="another process runs a night"):
                    house.night()

    house.day()
    assert house.night(watcher=Impatient()).outcome == "promoted"
    assert len(house.open().store.nights()) == 1


class DiesAfter:
    """A clock that ends the process when it is looked at for the `count`-th time."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._clock = FakeClock()

    def now(self) -> datetime:
        self._left -= 1
        if self._left == 0:
            raise Killed
        return self._clock.now()


@pytest.mark.parametrize(("learns", "outcome"), [(NEW, "promoted"), (WORSE, "rejected")])
def test_a_night_killed_just_before_it_is_closed_is_closed_the_same_way(
    house: House, learns: range, outcome: str
) -> None:
    house.day()
    with pytest.raises(Killed):
        house.night(learns, clock=DiesAfter(2))
    watcher = Quiet()
    report = house.night(learns, watcher=watcher)
    assert (report.outcome, watcher.phases) == (outcome, [])
    assert house.serving() == (report.candidate if outcome == "promoted" else None)
    assert all(phase.resumed for phase in report.phases)


class LosesTheAnswer(FakeServer):
    """Does what it is asked to, and then the caller dies before it hears of it."""

    def __init__(self, call: str) -> None:
        super().__init__(solver((*OLD, *SKILLS), DREAMED))
        self._call = call

    def load(self, name: str, path: Path) -> None:
        super().load(name, path)
        self._die("load")

    def unload(self, name: str) -> None:
        super().unload(name)
        self._die("unload")

    def _die(self, call: str) -> None:
        if self._call == call:
            self._call = ""
            raise Killed(call)


@pytest.mark.parametrize(
    ("call", "learns", "outcome"),
    [("load", NEW, "promoted"), ("load", WORSE, "rejected"), ("unload", WORSE, "rejected")],
)
def test_a_night_killed_after_the_server_obeyed_goes_on(house: House, call: str, learns: range, outcome: str) -> None:
    house.server = LosesTheAnswer(call)
    house.day()
    with pytest.raises(Killed):
        house.night(learns)
    report = house.night(learns)
    assert report.outcome == outcome
    assert house.serving() == (report.candidate if outcome == "promoted" else None)


def test_a_second_night_trains_on_from_the_first_and_replays_it(house: House) -> None:
    house.day()
    first = house.night(NEW)
    live_a_day(house.open(), DAY[60:90], "second")
    house.server.answers[first.serving] = solver((*NEW, *SKILLS, *DAY[60:90]))
    house.day("second")
    trainer = FakeTrainer((*FROZEN, *SKILLS))
    second = house.night(trainer=trainer)
    ((mix, parent, recipe),) = trainer.runs
    assert (second.cycle, second.outcome) == (2, "promoted")
    assert parent is not None and parent.name == first.serving
    assert recipe.learning_rate == pytest.approx(9e-5)
    replayed = {row.provenance for row in mix.examples if row.kind == "replay"}
    assert [source for source in replayed if not source.startswith("anchor:")]
    assert [report.model for report in second.reports] == [BASE, first.serving, second.candidate]
    assert house.open().registry.previous() == first.serving


def test_the_served_adapter_is_loaded_again_after_a_restart_of_the_server(house: House) -> None:
    house.day()
    served = house.night(NEW).serving
    house.day("second")
    house.server.restart()
    assert house.night(WORSE).serving == served == house.serving()
    assert served in house.server.roots


@pytest.mark.parametrize("step", ["dream", "evaluate-current", "deploy"])
def test_a_night_killed_together_with_the_server_loads_the_served_adapter_again(house: House, step: str) -> None:
    house.day()
    served = house.night(NEW).serving
    house.day("second")
    run_until(house, step, WORSE)
    house.server.restart()
    assert house.night(WORSE).outcome == "rejected"
    assert served == house.serving() and served in house.server.roots


def test_an_adapter_changed_on_disk_after_its_evaluation_is_never_served(house: House) -> None:
    house.day()
    run_until(house, "deploy", NEW)
    (candidate,) = house.open().registry.adapters()
    weights = candidate.path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    report = house.night(NEW)
    assert (report.outcome, house.serving()) == ("failed", None)
    assert "has changed on disk" in report.reason


def test_an_adapter_that_the_server_holds_from_elsewhere_is_never_served(house: House, tmp_path: Path) -> None:
    house.day()
    run_until(house, "deploy", NEW)
    (candidate,) = house.open().registry.adapters()
    house.server.hold(candidate.name, tmp_path / "elsewhere", NEW)
    report = house.night(NEW)
    assert (report.outcome, house.serving()) == ("failed", None)
    assert "elsewhere" in report.reason


@pytest.mark.parametrize("step", ["train", "gate", "deploy"])
def test_a_rollback_in_the_middle_of_a_night_is_not_undone_by_it(house: House, step: str) -> None:
    house.day()
    house.night(NEW)
    house.day("second")
    run_until(house, step, FROZEN)
    house.open().registry.rollback()
    report = house.night(FROZEN)
    assert (report.outcome, report.serving, house.serving()) == ("failed", BASE, None)
    assert "was not judged against it" in report.reason


def test_the_evaluations_of_a_night_are_filed_under_it(house: House) -> None:
    house.day()
    report = house.night(NEW)
    assert [found.arm for found in house.open().store.evals(cycle=1)] == ["candidate", "baseline"]
    assert [found.model for found in report.reports] == [BASE, BASE, report.candidate]


def test_an_adapter_that_is_held_already_is_not_loaded_twice(house: House) -> None:
    house.day()
    house.night(NEW)
    home = house.open()
    active = home.registry.active()
    assert active is not None
    ensure_loaded(home.registry, home.server, active)
    assert house.server.loads == [active.name]


def test_a_task_that_resists_dreaming_rests_and_a_solved_one_does_not(house: House) -> None:
    house.server = FakeServer(solver((*OLD, *SKILLS)))
    house.day()
    report = house.night(FROZEN[:32])
    resting = {entry.task_id for entry in house.open().store.parked(2)}
    assert report.outcome == "inconclusive"
    assert resting == {make_task(number).id for number in DAY[30:40]}
    asked = len(house.server.asked)
    house.night(FROZEN[:32])
    later = [call.messages[1].content for call in house.server.asked[asked:]]
    assert not [text for text in later if "const LIMIT" in text]


def test_the_base_writes_its_anchors_once(house: House) -> None:
    def rehearsed() -> int:
        return sum("struct Kept" in call.messages[1].content for call in house.server.asked)

    house.day()
    house.night(WORSE)
    first = rehearsed()
    house.day("second")
    house.night(WORSE)
    assert first == rehearsed() == 16


def test_machine_failures_while_evaluating_decide_nothing(house: House) -> None:
    house.day()
    broken = FakeVerifier({make_task(number).id: 1000 for number in FROZEN[:10]})
    report = house.night(NEW, verifier=broken)
    assert (report.outcome, house.serving()) == ("inconclusive", None)
    assert report.verdict is not None and len(report.verdict.infra_tasks) == 10


def test_the_report_keeps_when_a_resumed_night_began(house: House) -> None:
    house.day()
    clock = FakeClock()
    with pytest.raises(Killed):
        house.night(clock=clock, watcher=DiesAt("gate"))
    began = clock.now()
    assert house.night(clock=clock).started < began
