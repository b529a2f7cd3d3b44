"""One night with a real store, a real registry and the real gate: what is served, and what never is."""

from __future__ import annotations

import dataclasses
import json
import math
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes import (
    BASE,
    DAY,
    DREAM_TEMPERATURE,
    FROZEN,
    REHEARSAL,
    FakeClock,
    FakeRedactor,
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
from test_registry import lora, stage, write_trained
from test_store_exchanges import exchange

from sleepy_coder import log
from sleepy_coder.abandon import abandon
from sleepy_coder.arms import baseline_arm
from sleepy_coder.collect.redact import SecretRedactor
from sleepy_coder.config import EvalSettings, MixSettings, NightSettings, TrainingSettings
from sleepy_coder.deploy import ensure_loaded, measure
from sleepy_coder.errors import (
    AdapterError,
    InfraError,
    NightPaused,
    ProcessesLost,
    SecretFound,
    ServerError,
    ServerUnreachable,
    StoreError,
    TrainingError,
    TrainingKilled,
)
from sleepy_coder.judge.record import read, replay
from sleepy_coder.judge.spending import prices
from sleepy_coder.learn.outputs import TOLD, Training
from sleepy_coder.learn.trainer import LAST_STEP, Step
from sleepy_coder.night import run_night
from sleepy_coder.parts import Parts
from sleepy_coder.registry import Registry
from sleepy_coder.report import words
from sleepy_coder.store import Store
from sleepy_coder.store_gate import Opening
from sleepy_coder.tasks import set_id
from sleepy_coder.tidy import tidy
from sleepy_coder.trial import Trial, check_controls, give_verdict
from sleepy_coder.types import AdapterState, Episode, NightReport, Outcome

OLD, NEW, WORSE = FROZEN[:30], FROZEN[:45], FROZEN[:15]
SKILLS = (*DAY[:30], *REHEARSAL[:20])
DREAMED = DAY[30:40:2]
STEPS = (
    "day",
    "shadow",
    "serve",
    "anchors",
    "dream",
    "surprise",
    "mix",
    "recipe",
    "trunk",
    "train",
    "choose",
    "stage",
    "open",
    "controls",
    "evaluate-baseline",
    "evaluate",
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


class TellingTrainer(FakeTrainer):
    """Leaves word of its last step, as the real one does."""

    def train(self, mix: Any, parent: Any, recipe: Any, workdir: Path, pause: Any = lambda: False) -> Path:
        trained = super().train(mix, parent, recipe, workdir, pause)
        step = Step(step=9, steps=9, loss=0.5, kl=0.0625, learning_rate=1e-4)
        (workdir / LAST_STEP).write_text(step.model_dump_json())
        return trained


def test_the_report_says_how_far_the_night_went_and_how_much_there_was_to_gain(house: House) -> None:
    house.day()
    report = house.night(trainer=TellingTrainer((*NEW, *SKILLS)))
    assert (report.kl, report.dreamed, report.answered) == (0.0625, 10, 5)
    house.day("later")
    assert house.night().kl is None  # a trainer that does not say


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_the_log_tells_the_whole_night_under_its_id_and_sums_it_up(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    house.day()
    log.set_up(verbose=True, as_json=True)
    report = house.night(NEW)
    lines = told(capsys)
    assert {line["night_id"] for line in lines} == {"night-0001"}
    assert [line["event"] for line in lines if line["event"] != "night.phase"] == [
        "store.backed_up",
        "night.started",
        "dream.finished",
        "mix.built",
        "eval.finished",
        "server.adapter_loaded",
        *["eval.block"] * 4,
        "eval.finished",
        "eval.finished",
        "gate.decided",
        "adapter.promoted",
        "canary.began",
        "night.summary",
        "night.tidied",
    ]
    assert report.verdict
    (against,) = [comparison for comparison in report.verdict.comparisons if comparison.versus == "current"]
    (summary,) = [line for line in lines if line["event"] == "night.summary"]
    assert (summary["outcome"], summary["serving"], summary["cycle"]) == ("promoted", report.serving, 1)
    assert summary["pass_rates"] == {measured.arm: round(measured.pass_rate, 4) for measured in report.reports}
    assert (summary["gained"], summary["lost"]) == (len(against.gained), len(against.lost))
    assert summary["rows"] == report.counts
    assert list(summary["phases"]) == list(STEPS)


def test_the_log_says_that_a_candidate_was_rejected_and_why(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    house.day()
    log.set_up(as_json=True)
    report = house.night(WORSE)
    (line,) = [line for line in told(capsys) if line["event"] == "adapter.rejected"]
    assert report.verdict
    assert (line["adapter"], line["reasons"]) == (report.candidate, list(report.verdict.reasons))


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


def test_after_an_undecided_night_training_goes_on_from_its_candidate_and_after_a_rejected_one_from_what_serves(
    house: House,
) -> None:
    house.day()
    undecided = house.night(FROZEN[:32])
    trainer = FakeTrainer((*WORSE, *SKILLS))
    house.night(trainer=trainer)
    house.day("another")
    last = FakeTrainer((*NEW, *SKILLS))
    house.night(trainer=last)
    ((_, started_from, _),) = trainer.runs
    assert started_from is not None
    assert started_from.name == undecided.candidate
    assert [parent for _, parent, _ in last.runs] == [None]


def test_after_too_many_undecided_nights_in_a_row_training_starts_from_what_serves(house: House) -> None:
    house.day()
    started_from: list[str | None] = []
    candidates: list[str | None] = []
    for _ in range(3):
        trainer = FakeTrainer((*FROZEN[:32], *SKILLS))
        home = house.open(trainer=trainer)
        policy = home.policy.model_copy(update={"trunk_nights": 1})
        candidates.append(run_night(dataclasses.replace(home, policy=policy)).candidate)
        started_from += [parent and parent.name for _, parent, _ in trainer.runs]
    assert started_from == [None, candidates[0], None]


def test_an_undecided_candidate_that_was_tried_by_hand_and_rolled_back_is_not_trained_on(house: House) -> None:
    house.day()
    undecided = house.night(FROZEN[:32])
    home = house.open()
    home.registry.activate(str(undecided.candidate))
    home.registry.rollback()
    trainer = FakeTrainer((*NEW, *SKILLS))
    assert house.night(trainer=trainer).outcome == "promoted"
    assert [parent for _, parent, _ in trainer.runs] == [None]


def test_every_verdict_is_kept_in_the_chain_and_comes_out_again(house: House) -> None:
    house.day()
    promoted = house.night(NEW)
    (kept,) = house.open().store.verdicts()
    assert replay(kept.payload) == kept.payload
    assert promoted.verdict is not None and promoted.verdict.evidence is not None
    assert promoted.verdict.evidence.record_sha256 == kept.sha256
    assert read(kept.payload).case.candidate == house.open().registry.get(house.serving() or "").sha256


def test_a_night_without_an_opening_left_reads_no_frozen_result_and_keeps_the_incumbent(house: House) -> None:
    house.day()
    home = house.open()
    for cycle in range(100, 100 + home.policy.openings):
        programs = sorted({task.cluster for task in home.frozen})
        home.store.open_gate(cycle, "x", programs, prices(home.policy))
    house.server.asked.clear()
    report = house.night(NEW)
    assert (report.outcome, report.reason, report.reports) == ("inconclusive", "BUDGET_EXHAUSTED", ())
    frozen = {task.prompt for task in tasks_of(FROZEN)}
    assert not [a for a in house.server.asked if a.messages[1].content.partition("\n")[0] in frozen]


def test_a_verdict_that_was_given_stands_when_the_night_is_resumed_under_other_settings(house: House) -> None:
    house.day()
    report = house.night(NEW)
    home = house.open()
    strict = dataclasses.replace(home, policy=home.policy.model_copy(update={"progress_threshold": 1e9}))
    candidate = home.registry.get(str(report.candidate))
    opening = Opening(epoch=1, number=1, charged=True)
    trial = Trial(report.cycle, opening, None, None, candidate)
    assert give_verdict(strict, trial, report.reports) == report.verdict


def test_a_resumed_night_is_judged_by_the_gate_that_it_began_with(house: House) -> None:
    house.day()
    run_until(house, "gate", FROZEN[:32])
    parts = house.open(FROZEN[:32])
    easy = parts.policy.model_copy(update={"openings": 1, "alpha": 0.5, "progress_threshold": 1.01})
    assert run_night(dataclasses.replace(parts, policy=easy)).outcome == "inconclusive"


@pytest.mark.parametrize("step", ["evaluate-baseline", "evaluate", "gate"])
def test_a_night_whose_frozen_set_was_changed_under_it_fails_uses_up_nothing_and_the_next_judges_on_the_new_one(
    house: House, step: str
) -> None:
    house.day()
    run_until(house, step, NEW)
    other = tasks_of(FROZEN[2:66])
    report = house.night(NEW, frozen=other)
    assert (report.cycle, report.outcome, house.serving()) == (1, "failed", None)
    assert "no longer the one that night 1 began with" in report.reason
    assert house.open().store.count_episodes(unused=True) == 40
    following = house.night(NEW, frozen=other)
    assert (following.outcome, {arm.set_id for arm in following.reports}) == ("promoted", {set_id(other)})


@pytest.mark.parametrize("changed", [{"samples": 3, "temperature": 0.7}, {"temperature": 0.7}])
def test_a_resumed_night_is_measured_as_it_began(house: House, changed: dict[str, Any]) -> None:
    house.day()
    with pytest.raises(Killed):
        house.night(NEW, watcher=DiesAtSample(50))
    report = house.night(NEW, eval=EvalSettings(concurrency=2, **changed))
    assert report.outcome == "promoted"
    assert [len(arm.samples) for arm in report.reports] == [64, 64, 64]
    assert len({arm.stack for arm in report.reports}) == 1


def test_a_resumed_night_asks_as_many_at_a_time_as_the_settings_of_now_allow(house: House) -> None:
    house.day()
    run_until(house, "evaluate", NEW)
    at_work, chat, before = set[int](), house.server.chat, threading.active_count()

    def counted(*arguments: Any, **options: Any) -> Any:
        at_work.add(threading.active_count() - before)
        return chat(*arguments, **options)

    house.server.chat = counted  # type: ignore[method-assign]
    house.night(NEW, eval=EvalSettings(concurrency=1))
    assert max(at_work) == 1


def test_a_gate_that_spends_evenly_judges_every_night_so(house: House) -> None:
    house.day()
    parts = house.open(FROZEN[:32])
    even = parts.policy.model_copy(update={"early_share": 0.0})
    report = run_night(dataclasses.replace(parts, policy=even))
    assert report.verdict is not None and report.verdict.evidence is not None
    assert report.verdict.evidence.baseline_needs == pytest.approx(math.log(1000), abs=1e-5)


def test_every_judged_night_spends_one_opening(house: House) -> None:
    house.day()

    house.night(FROZEN[:32])
    assert house.open().store.openings_used() == (1, 1)
    house.night(FROZEN[:32])
    assert house.open().store.openings_used() == (1, 2)


def test_a_night_that_did_harm_sets_aside_all_that_passed_that_day_and_keeps_the_failures_without_an_answer(
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
    assert len(asked) == 7 + 64  # the sentinel, and the base once more as what serves
    assert second.reports[0].samples == first.reports[0].samples
    assert (second.reports[0].arm, second.reports[1].arm) == ("baseline", "current")


def test_the_tenth_that_is_asked_again_is_another_one_each_night(house: House) -> None:
    baseline_arm(house.open(), 1)
    asked = list[set[str]]()
    for cycle in (2, 3):
        house.server.asked.clear()
        baseline_arm(house.open(), cycle)
        asked.append({a.messages[1].content for a in house.server.asked})
    assert len(asked[0]) == len(asked[1]) == 7
    assert asked[0] != asked[1]


def test_a_baseline_that_drifted_is_measured_anew(house: House) -> None:
    house.day()
    house.night(FROZEN[:32])
    house.server.answers[BASE] = solver((*FROZEN[30:60], *SKILLS), DREAMED)
    second = house.night(FROZEN[30:62])
    passed = {sample.task_id for sample in second.reports[0].samples if sample.outcome is Outcome.PASS}
    assert passed == {task.id for task in tasks_of(FROZEN[30:60])}


def test_the_baseline_of_another_base_of_the_same_name_is_not_believed(house: House) -> None:
    baseline_arm(house.open(), 1)
    home = house.open()
    other = dataclasses.replace(home, base=dataclasses.replace(home.base, sha256="0" * 64))
    house.server.asked.clear()
    assert baseline_arm(other, 2).weights_sha256 == "0" * 64
    assert len(house.server.asked) == 64


def test_the_baseline_of_another_environment_is_not_believed(house: House) -> None:
    earlier = baseline_arm(house.open(), 1)
    other = dataclasses.replace(house.open(), environment="another compiler")
    house.server.asked.clear()
    assert baseline_arm(other, 2).stack != earlier.stack
    assert len(house.server.asked) == 64


def test_a_baseline_with_holes_that_the_machine_left_is_not_believed(house: House) -> None:
    lost = tasks_of(FROZEN[30:31])[0].id  # the base passes it in neither case
    holes = baseline_arm(house.open(verifier=FakeVerifier({lost: 1000})), 1)
    assert [sample.task_id for sample in holes.samples if sample.outcome is Outcome.INFRA] == [lost]
    whole = baseline_arm(house.open(), 2)
    assert not [sample for sample in whole.samples if sample.outcome is Outcome.INFRA]


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


def test_an_answer_that_found_no_place_in_the_mix_is_dreamed_of_again(house: House) -> None:
    house.day()
    one_place = MixSettings(
        max_examples=10, min_examples=8, dream_temperature=DREAM_TEMPERATURE, anchors=16, fresh_share=0
    )
    report = house.night(NEW, mix=one_place)
    assert (report.outcome, report.answered, report.counts["hard"]) == ("promoted", 5, 1)
    store = house.open().store
    (trained,) = {row.task_id for row in store.examples(kind="hard")}
    asked_again = {task.id for task in store.failed_tasks(store.position(), 2, 48)}
    assert asked_again == {make_task(number).id for number in DREAMED} - {trained}


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
    assert "4 of the 8 rows" in report.reason and "koans run --count 300" in report.reason
    assert house.open().store.count_episodes(unused=True) == 2


def test_a_night_with_sessions_that_only_tools_passed_says_that_a_verifier_has_to(house: House) -> None:
    told = [make_episode(number, Outcome.PASS, source="tool-text", name="told") for number in range(50, 84)]
    house.open().store.save_episodes(episode.model_copy(update={"task": None}) for episode in told)
    report = house.night()
    assert report.outcome == "skipped"
    assert "34 passed by the word of tools or people, 0 by a verifier" in report.reason
    assert "`sleepy-coder run -- AGENT`" in report.reason and "koans" not in report.reason


def long(number: int) -> Episode:
    episode = make_episode(number, Outcome.PASS, name="long")
    first = episode.attempts[0]
    messages = (first.messages[0].model_copy(update={"content": "An agent's rules. " * 1000}), *first.messages[1:])
    return episode.model_copy(update={"attempts": (first.model_copy(update={"messages": messages}),)})


def test_conversations_that_are_surely_too_long_are_no_rows_and_the_report_counts_them(house: House) -> None:
    house.day()
    house.open().store.save_episodes(long(number) for number in range(50, 64))
    trainer = FakeTrainer((*NEW, *SKILLS))
    report = house.night(trainer=trainer)
    ((mix, _, _),) = trainer.runs
    assert not {row.provenance for row in mix.examples} & {long(number).id for number in range(50, 64)}
    too_long = report.left_out.too_long
    assert 0 < too_long <= 14
    said = f"{too_long} of {too_long + report.counts['passed']} passed conversations taught nothing"
    assert words.left_out(report)[0].startswith(said)


def test_a_day_that_is_all_too_long_is_skipped_before_a_model_is_asked_anything(house: House) -> None:
    house.open().store.save_episodes(long(number) for number in range(50, 64))
    report = house.night()
    assert (report.outcome, house.server.asked) == ("skipped", [])
    assert "14 passed conversations are longer than 1024 tokens: raise model.max_length" in report.reason


def test_what_the_trainer_found_too_long_is_no_row_in_the_report(house: House) -> None:
    class Counting(FakeTrainer):
        def train(self, mix: Any, parent: Any, recipe: Any, workdir: Path, pause: Any = lambda: False) -> Path:
            made = super().train(mix, parent, recipe, workdir, pause)
            told = Training(steps=recipe.steps, too_long=3, cut_turns=5)
            (workdir / TOLD).write_text(told.model_dump_json())
            return made

    house.day()
    trainer = Counting((*NEW, *SKILLS))
    report = house.night(trainer=trainer)
    ((mix, _, _),) = trainer.runs
    assert report.counts["passed"] == mix.counts["passed"] - 3
    first, second = words.left_out(report)
    assert first.startswith(f"3 of {mix.counts['passed']} passed conversations taught nothing")
    assert second.startswith("5 turns of passed conversations beyond 1024 tokens")


def test_an_episode_too_close_to_a_frozen_task_is_put_aside_and_the_night_trains_without_it(house: House) -> None:
    house.day()
    exam = {make_task(number).id for number in FROZEN[:30]}
    house.open().store.save_episodes(make_episode(number, Outcome.PASS) for number in FROZEN[:30])
    trainer = FakeTrainer((*NEW, *SKILLS))
    report = house.night(trainer=trainer)
    ((mix, _, _),) = trainer.runs
    leaks = report.left_out.leaks
    assert leaks > 0 and not exam & {row.task_id for row in mix.examples}
    assert words.left_out(report)[0].startswith(f"{leaks} episodes were too close to frozen tasks")
    assert house.open().store.count_quarantined() == leaks
    assert len(exam & {e.task.id for e in house.open().store.episodes(unused=True) if e.task}) == 30 - leaks


def test_a_day_of_nothing_but_leaks_skips_the_night_and_says_so(house: House) -> None:
    house.day()
    trainer = FakeTrainer(NEW)
    report = house.night(trainer=trainer, frozen=[make_task(number) for number in DAY[:40]])
    assert (report.outcome, trainer.runs) == ("skipped", [])
    assert "episodes are too close to frozen tasks and were put aside" in report.reason


def test_a_leak_of_the_nights_own_fails_it_before_anything_is_trained(house: House) -> None:
    house.day()
    copied = make_task(REHEARSAL[0])
    trainer = FakeTrainer(NEW)
    report = house.night(trainer=trainer, frozen=[copied, *(make_task(number) for number in FROZEN[:63])])
    assert report.outcome == "failed" and copied.id in report.reason
    assert (trainer.runs, report.serving, house.serving(), house.server.roots) == ([], BASE, None, {})


def test_a_row_with_what_is_a_secret_by_now_is_left_out_and_its_episode_put_aside_without_it(house: House) -> None:
    house.day()
    trainer = FakeTrainer((*NEW, *SKILLS))
    report = house.night(trainer=trainer, redactor=SecretRedactor(["mended_5"]))
    ((mix, _, _),) = trainer.runs
    assert "mended_5" not in mix.model_dump_json()
    assert "1 rows hold a secret by today's rules and are left out" in report.notes
    with closing(sqlite3.connect(house.home / "state" / "sleepy.db")) as raw:
        ((reason, payload),) = raw.execute("SELECT reason, payload FROM quarantine")
    assert "a secret: known" in reason and "<SECRET:known:1>" in payload and "mended_5" not in payload
    assert make_task(5).id not in {e.task.id for e in house.open().store.episodes(unused=True) if e.task}


def test_a_night_trains_on_nothing_that_the_rules_refuse_to_read(house: House) -> None:
    house.day()
    trainer = FakeTrainer((*NEW, *SKILLS))
    report = house.night(trainer=trainer, redactor=FakeRedactor(fails=SecretFound("it cannot be read", "")))
    assert (report.outcome, trainer.runs) == ("skipped", [])


class KilledByTheKernel(FakeTrainer):
    """Its child is killed the first `times` times."""

    def __init__(self, times: int) -> None:
        super().__init__((*NEW, *SKILLS))
        self._left = times

    def train(self, *arguments: Any) -> Path:
        if self._left:
            self._left -= 1
            raise TrainingKilled("training was killed from outside")
        return super().train(*arguments)


def test_a_training_that_was_killed_is_tried_again_in_the_same_night(house: House) -> None:
    house.day()
    trainer = KilledByTheKernel(2)
    for _ in range(2):
        with pytest.raises(TrainingKilled):
            house.night(trainer=trainer)
        assert house.open().store.unfinished_night() == 1
    report = house.night(trainer=trainer)
    assert (report.cycle, report.outcome) == (1, "promoted")


def test_a_training_that_was_killed_three_times_fails_the_night(house: House) -> None:
    house.day()
    trainer = KilledByTheKernel(3)
    for _ in range(2):
        with pytest.raises(TrainingKilled):
            house.night(trainer=trainer)
    report = house.night(trainer=trainer)
    assert (report.outcome, house.serving()) == ("failed", None)
    assert "3 times" in report.reason
    assert house.night().outcome == "promoted"


def test_processes_that_lose_each_other_three_times_fail_the_night_with_what_was_said_and_what_helps(
    house: House,
) -> None:
    class Lost(FakeTrainer):
        def train(self, *arguments: Any) -> Path:
            raise ProcessesLost("they lost each other: Connection closed by peer", "start training everywhere")

    house.day()
    trainer = Lost((*NEW, *SKILLS))
    for _ in range(2):
        with pytest.raises(ProcessesLost):
            house.night(trainer=trainer)
    report = house.night(trainer=trainer)
    assert (report.cycle, report.outcome) == (1, "failed")
    assert "Connection closed by peer, 3 times" in report.reason and "start training everywhere" in report.reason


def test_training_that_gives_what_serves_already_fails_the_night_and_leaves_it_loaded(house: House) -> None:
    house.day()
    served = house.night(NEW).serving
    (house.home / "state" / "sleepy.db").unlink()  # a store that was lost or restored counts its nights anew
    house.day()
    report = house.night(NEW)
    assert (report.outcome, report.serving) == ("failed", served)
    assert "already serves" in report.reason
    assert served in house.server.roots


def test_no_night_begins_on_a_full_disk(house: House) -> None:
    house.day()
    with pytest.raises(InfraError, match="GiB are free"):
        house.night(night=NightSettings(min_free_gib=10_000))
    assert house.open().store.unfinished_night() is None


def test_a_damaged_serving_adapter_is_stepped_back_from_and_the_night_is_held(house: House) -> None:
    house.day()
    house.night(NEW)
    house.day("second")
    served = house.open().registry.active()
    assert served is not None
    weights = served.path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    report = house.night(NEW)
    assert served.name not in (report.serving, house.serving())
    assert report.outcome in ("promoted", "skipped", "inconclusive")
    assert house.open().registry.get(served.name).state is AdapterState.RETIRED


def test_a_quantised_base_fails_the_night_before_anything_is_dreamed(house: House) -> None:
    house.day()
    config = house.home / "base" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": {"quant_method": "awq"}}))
    report = house.night()
    assert (report.outcome, house.serving()) == ("failed", None)
    assert "quantised (awq)" in report.reason and "model.path" in report.reason
    assert "dream" not in {phase.name for phase in report.phases}
    assert house.open().store.count_episodes(unused=True) == 40


def test_more_processes_than_rows_in_a_step_fail_the_night_before_anything_is_dreamed(house: House) -> None:
    house.day()
    together = TrainingSettings(processes=64)  # pyright: ignore[reportCallIssue]
    report = house.night(training=together)
    assert report.outcome == "failed" and "lower training.processes" in report.reason
    assert "dream" not in {phase.name for phase in report.phases}


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
    run_until(house, "evaluate", NEW)
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


@pytest.mark.parametrize("step", ["evaluate", "gate"])
def test_a_night_that_goes_on_after_the_server_was_replaced_promotes_nothing(house: House, step: str) -> None:
    house.day()
    run_until(house, step, NEW)
    report = run_night(dataclasses.replace(house.open(), environment="another vLLM"))
    assert report.verdict and report.verdict.reasons[0] == "ENV_DRIFT"
    assert (report.outcome, house.serving()) == ("inconclusive", None)


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
        house.night(learns, clock=DiesAfter(5))
    watcher = Quiet()
    report = house.night(learns, watcher=watcher)
    assert (report.outcome, watcher.phases) == (outcome, [])
    assert house.serving() == (report.candidate if outcome == "promoted" else None)
    assert all(phase.resumed for phase in report.phases)


def test_a_night_killed_right_after_the_switch_has_promoted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    activate = Registry.activate

    def dies(registry: Registry, name: str, **options: Any) -> None:
        activate(registry, name, **options)
        raise Killed

    house.day()
    with monkeypatch.context() as dying:
        dying.setattr(Registry, "activate", dies)
        with pytest.raises(Killed):
            house.night(NEW)
    report = house.night(NEW)
    assert (report.outcome, report.candidate) == ("promoted", house.serving())
    assert house.open().registry.previous() is None


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


@pytest.mark.parametrize("step", ["dream", "evaluate", "deploy"])
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
    assert ("was rolled back" if step == "train" else "was not judged against it") in report.reason


def test_the_evaluations_of_a_night_are_kept(house: House) -> None:
    house.day()
    report = house.night(NEW)
    assert [found.arm for found in house.open().store.evals()] == ["candidate", "current", "baseline"]
    assert [found.model for found in report.reports] == [BASE, BASE, report.candidate]


def test_an_adapter_that_is_held_already_is_not_loaded_twice(house: House) -> None:
    house.day()
    house.night(NEW)
    home = house.open()
    active = home.registry.active()
    assert active is not None
    ensure_loaded(home.registry, home.server, active, home.prover)
    assert house.server.loads == [active.name]


def test_a_task_that_resists_dreaming_rests_and_a_solved_one_does_not(house: House) -> None:
    house.server = FakeServer(solver((*OLD, *SKILLS)))
    house.day()
    report = house.night(FROZEN[:32])
    store = house.open().store
    soon, later = ({task.id for task in store.failed_tasks(store.position(), cycle, 99)} for cycle in (2, 99))
    assert report.outcome == "inconclusive"
    assert later - soon == {make_task(number).id for number in DAY[30:40]}
    asked = len(house.server.asked)
    house.night(FROZEN[:32])
    later = [call.messages[1].content for call in house.server.asked[asked:]]
    assert not [text for text in later if "const LIMIT" in text]


def test_a_skipped_night_parks_what_resisted_it_so_that_the_next_reaches_the_tasks_behind(house: House) -> None:
    house.server = FakeServer(solver((*OLD, *SKILLS)))
    house.day()
    four_a_night = MixSettings(min_examples=10_000, dream_tasks=4, dream_samples=2, anchors=16, fresh_share=0)
    assert [house.night(mix=four_a_night).outcome for _ in range(2)] == ["skipped", "skipped"]
    store = house.open().store
    now, later = ({task.id for task in store.failed_tasks(store.position(), cycle, 99)} for cycle in (2, 99))
    assert later - now == {make_task(number).id for number in DAY[30:38]}
    assert store.count_episodes(unused=True) == 40


def test_the_base_writes_its_anchors_once(house: House) -> None:
    def rehearsed() -> int:
        return sum("struct Kept" in call.messages[1].content for call in house.server.asked)

    house.day()
    house.night(WORSE)
    first = rehearsed()
    house.day("second")
    house.night(WORSE)
    assert first == rehearsed() == 16


class At(Quiet):
    """Does something as step `name` begins."""

    def __init__(self, name: str, what: Callable[[], object]) -> None:
        super().__init__()
        self._name, self._what = name, what

    def phase(self, name: str) -> None:
        super().phase(name)
        if name == self._name:
            self._what()


def test_machine_failures_while_evaluating_decide_nothing(house: House) -> None:
    house.day()
    verifier = FakeVerifier()
    ten = [make_task(number).id for number in FROZEN[:10]]
    report = house.night(NEW, verifier=verifier, watcher=At("evaluate", lambda: verifier.breaks(ten)))
    assert (report.outcome, house.serving()) == ("inconclusive", None)
    assert report.verdict is not None and report.verdict.reasons == ("INFRA_MISSING",)
    assert 3 < len(report.verdict.infra_tasks) <= 10


def test_an_outage_that_is_over_at_the_end_of_the_set_costs_a_gain_nothing(house: House) -> None:
    house.day()
    verifier = FakeVerifier()
    three = dict.fromkeys([make_task(number).id for number in FROZEN[:3]], 4)  # the four tries of one arm
    report = house.night(NEW, verifier=verifier, watcher=At("evaluate", lambda: verifier.fails_for_now(three)))
    assert report.outcome == "promoted"
    assert report.verdict is not None and report.verdict.infra_tasks == ()
    keys = [[(s.task_id, s.index, s.seed) for s in arm.samples] for arm in report.reports[1:]]
    assert keys[0] == keys[1] and len(set(keys[0])) == 64
    (kept,) = house.open().store.verdicts()
    assert replay(kept.payload) == kept.payload


def test_an_outage_that_would_decide_the_night_is_asked_about_once_more(house: House) -> None:
    house.day()
    verifier = FakeVerifier()
    many = dict.fromkeys([make_task(number).id for number in FROZEN[:20]], 4)
    report = house.night(NEW, verifier=verifier, watcher=At("evaluate", lambda: verifier.fails_for_now(many)))
    assert report.outcome == "promoted"
    assert report.verdict is not None and report.verdict.infra_tasks == ()


# Controls


def test_a_task_that_fails_its_control_judges_nobody_that_night(house: House) -> None:
    house.day()
    broken = make_task(FROZEN[3]).id
    report = house.night(NEW, verifier=FakeVerifier({broken: 1}))
    assert report.outcome == "promoted"
    assert report.verdict is not None and report.verdict.evidence is not None
    assert report.verdict.evidence.left_out == (broken,)
    for arm in report.reports:
        assert broken not in {sample.task_id for sample in arm.samples} and len(arm.samples) == 63
    assert replay(house.open().store.verdicts()[0].payload) == house.open().store.verdicts()[0].payload


def test_when_many_controls_fail_no_frozen_result_is_read_and_nothing_is_decided(house: House) -> None:
    house.day()
    verifier = FakeVerifier()
    ten = [make_task(number).id for number in FROZEN[:10]]
    report = house.night(NEW, verifier=verifier, watcher=At("controls", lambda: verifier.breaks(ten)))
    assert (report.outcome, report.reason, report.reports) == ("inconclusive", "INFRA_MISSING", ())
    assert house.open().store.evals() == ()


def test_a_tenth_of_the_controls_is_asked_anew_each_night_and_each_task_in_ten_nights(house: House) -> None:
    home = house.open()
    asked: set[str] = set()
    for cycle in range(1, 11):
        witness = FakeVerifier()
        controls = check_controls(dataclasses.replace(home, witness=witness), cycle)
        anew = {control.task for control in controls if control.reference == "PPP"}
        assert len(controls) == 64 and witness.judged == 4 * len(anew) and len(anew) in (6, 7)
        asked |= anew
    assert asked == {task.id for task in home.frozen}


# Interleaved arms


def asked_in_order(house: House, start: int = 0) -> list[str]:
    """The models that were asked frozen tasks, without repetition of the same one."""
    frozen = {task.prompt for task in tasks_of(FROZEN)}
    asked = [a.model for a in house.server.asked[start:] if a.messages[1].content.partition("\n")[0] in frozen]
    return [model for model, before in zip(asked, [None, *asked[:-1]], strict=True) if model != before]


def test_served_and_candidate_take_turns_block_by_block_and_are_never_in_flight_together(house: House) -> None:
    house.day()
    served = house.night(NEW).serving
    house.day("second")
    start = len(house.server.asked)
    report = house.night(FROZEN[:48])
    turns = asked_in_order(house, start)
    assert turns[0] == BASE  # the sentinel
    assert set(turns[1:]) == {served, report.candidate}
    assert 5 <= len(turns) < 9  # four blocks of two turns: nine is the same order in each


def test_both_arms_are_asked_the_same_tasks_with_the_same_seeds(house: House) -> None:
    house.day()
    report = house.night(NEW, eval=EvalSettings(concurrency=2, samples=2, temperature=0.5))
    keys = [[(s.task_id, s.index, s.seed) for s in arm.samples] for arm in report.reports]
    assert keys[1] == keys[2]
    assert len(keys[1]) == 2 * 64


def test_the_baseline_has_more_samples_when_they_are_drawn(house: House) -> None:
    house.day()
    drawn = EvalSettings(concurrency=2, samples=2, baseline_samples=6, temperature=0.5)
    first = house.night(NEW, eval=drawn)
    assert [len(arm.samples) for arm in first.reports] == [6 * 64, 2 * 64, 2 * 64]
    assert first.outcome == "promoted"
    house.day("second")
    start = len(house.server.asked)
    second = house.night(NEW, eval=drawn)
    base = [a for a in house.server.asked[start:] if a.model == BASE and "println" in a.messages[1].content]
    assert len(base) == 2 * 7
    assert second.reports[0].samples == first.reports[0].samples


def test_a_harmful_candidate_is_found_out_before_the_end_of_the_set_and_measuring_stops(house: House) -> None:
    house.day()
    report = house.night(FROZEN[60:62])
    assert (report.outcome, report.reason) == ("rejected", "FUTILE_OR_HARMFUL")
    assert [len(arm.samples) for arm in report.reports] == [20, 20, 20]
    assert len({arm.set_id for arm in report.reports}) == 1
    assert report.verdict is not None and report.verdict.evidence is not None
    evidence = report.verdict.evidence
    assert (evidence.units, evidence.total, evidence.whole, evidence.saved) == (20, 64, False, 88)
    assert report.verdict.harmful
    (kept,) = house.open().store.verdicts()
    assert read(kept.payload).case.saved == 88
    assert replay(kept.payload) == kept.payload


def test_a_promotion_has_read_the_whole_set(house: House) -> None:
    house.day()
    report = house.night(FROZEN)
    assert report.outcome == "promoted"
    assert [len(arm.samples) for arm in report.reports] == [64, 64, 64]


class DiesAtSample(Quiet):
    """Ends the process at the `count`-th finished answer of step `evaluate`."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def tick(self, done: int, total: int, note: str = "") -> None:
        super().tick(done, total, note)
        if self.phases[-1] == "evaluate" and done == self._count:
            raise Killed


@pytest.mark.parametrize("learns", [NEW, FROZEN[60:62]])
def test_a_night_killed_while_it_measures_keeps_its_finished_blocks_and_ends_with_the_same_verdict(
    house: House, learns: range, tmp_path: Path
) -> None:
    house.day()
    killed_at = 50 if learns == NEW else 30  # in the second block, in the first
    with pytest.raises(Killed):
        house.night(learns, watcher=DiesAtSample(killed_at))
    start = len(house.server.asked)
    report = house.night(learns)
    undisturbed = House(tmp_path / "other")
    undisturbed.home.mkdir()
    undisturbed.day()
    same = undisturbed.night(learns)
    undisturbed.close()
    again = 2 * (44 if learns == NEW else 20)
    assert len(house.server.asked) - start == again
    assert (report.outcome, report.reason) == (same.outcome, same.reason)
    assert [arm.samples for arm in report.reports[:2]] == [arm.samples for arm in same.reports[:2]]


def test_a_night_whose_window_closes_while_it_measures_goes_on_with_the_next_block(house: House) -> None:
    house.day()
    clock = FakeClock()
    with pytest.raises(NightPaused):
        house.night(clock=clock, until=clock.time + timedelta(seconds=60 + 20 + 64 + 64))
    home = house.open()
    blocks = [number for number in range(1, 5) if home.store.phase(1, f"evaluate/{number}") is not None]
    assert blocks == list(range(1, len(blocks) + 1)) and 1 <= len(blocks) < 4
    assert house.night().outcome == "promoted"


def test_an_adapter_that_changes_while_it_is_measured_fails_the_night(house: House) -> None:
    house.day()

    class Spoils(Quiet):
        def tick(self, done: int, total: int, note: str = "") -> None:
            if self.phases[-1] == "evaluate" and done == 50:
                (candidate,) = house.open().registry.adapters()
                weights = candidate.path / "adapter_model.safetensors"
                weights.write_bytes(weights.read_bytes()[:-1] + b"!")

    report = house.night(NEW, watcher=Spoils())
    assert (report.outcome, house.serving()) == ("failed", None)
    assert "has changed on disk" in report.reason


def test_a_measurement_in_whose_course_the_weights_changed_is_not_kept(house: House) -> None:
    home = house.open()
    adapter = stage(home.registry, write_trained(house.home / "trained", lora(1), solves=[1]), home.base.path, 1)

    def forget() -> None:
        house.server.not_applied.add(adapter.name)

    with pytest.raises(AdapterError, match="just as the base does"):
        measure(home, "other", adapter, home.frozen[:2], home.config.eval, forget)
    assert home.store.evals() == ()


def test_the_report_keeps_when_a_resumed_night_began(house: House) -> None:
    house.day()
    clock = FakeClock()
    with pytest.raises(Killed):
        house.night(clock=clock, watcher=DiesAt("gate"))
    began = clock.now()
    assert house.night(clock=clock).started < began


class FillsTheDisk(FakeTrainer):
    """Fails, and leaves what it had written."""

    def train(self, mix: Any, parent: Any, recipe: Any, workdir: Path, pause: Any = lambda: False) -> Path:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "checkpoint.pt").write_bytes(b"optimiser state")
        raise TrainingError("No space left on device")


def night_folders(house: House) -> list[str]:
    return sorted(folder.name for folder in (house.home / "state" / "nights").iterdir())


def test_of_the_nights_that_failed_only_the_last_one_keeps_its_files(house: House) -> None:
    house.day()
    for _ in range(3):
        assert house.night(trainer=FillsTheDisk()).outcome == "failed"
    assert night_folders(house) == ["0003"]
    assert house.night().outcome == "promoted"
    assert night_folders(house) == ["0003"]


def test_a_night_that_was_abandoned_leaves_no_files_behind_the_next_that_fails(house: House) -> None:
    house.day()
    run_until(house, "choose", NEW)
    home = house.open()
    abandon(home.config, home.store, home.registry, home.server, FakeClock())
    assert night_folders(house) == ["0001"]
    house.night(trainer=FillsTheDisk())
    assert night_folders(house) == ["0002"]


def test_a_night_by_hand_copies_the_store_before_and_clears_away_after(house: House) -> None:
    for number in range(3):
        house.day(f"day {number}")
        assert house.night(WORSE, night=NightSettings(keep_adapters=2, min_free_gib=0)).candidate
    assert [file.name for file in (house.home / "state" / "backups").glob("*.backup-*")]
    assert len(house.open().registry.adapters()) == 2


def with_three_adapters(house: House) -> Parts:
    """A home in which two are kept."""
    home = house.open(night=NightSettings(keep_adapters=2))
    for cycle in range(1, 4):
        stage(home.registry, write_trained(house.home / "trained", lora(cycle)), home.base.path, cycle)
    return home


def test_an_adapter_that_the_server_holds_is_not_cleared_away(house: House) -> None:
    home = with_three_adapters(house)
    first, second, third = home.registry.adapters()
    house.server.hold(first.name, first.path, ())
    tidy(home)
    assert home.registry.adapters() == (first, second, third)
    house.server.restart()
    tidy(home)
    assert home.registry.adapters() == (second, third)


def test_a_server_that_does_not_say_what_it_holds_keeps_the_adapters_and_no_old_exchange(house: House) -> None:
    home = with_three_adapters(house)
    home.store.save_exchanges([old := exchange("old").model_copy(update={"started": datetime(2020, 1, 1, tzinfo=UTC)})])
    home.store.save_collected([], [old.id])
    house.server.reachable = False
    tidy(home)
    assert len(home.registry.adapters()) == 3
    assert list(home.store.exchanges()) == []


def test_what_fails_while_a_night_is_cleared_away_after_costs_nothing_of_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StoreError("the store is busy", "try again")

    monkeypatch.setattr(Store, "prune_exchanges", fails)
    house.day()
    assert (house.night(NEW).outcome, house.open().store.unfinished_night()) == ("promoted", None)
