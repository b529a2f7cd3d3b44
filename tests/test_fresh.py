"""Fresh tasks, and the firewall: what judges is never trained on, exact or near."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
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
    make_rows,
    parts,
    solver,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store import night as night_report

from sleepy_coder.config import GatePolicy, MixSettings, RecipeSettings
from sleepy_coder.dialogue import edits_between, first_messages
from sleepy_coder.fresh import held_back, judgeable, untrained, without_fresh
from sleepy_coder.judge.record import read, replay
from sleepy_coder.night import run_night
from sleepy_coder.parts import Parts
from sleepy_coder.tasks import load_split
from sleepy_coder.tasks.fresh import BUCKETS, bucket_of
from sleepy_coder.tasks.leaks import example_rows, find_leaks
from sleepy_coder.types import Attempt, Episode, Message, NightReport, Outcome, Reply, Task, TrainingMix, Verdict

KOANS = load_split("day")[:110]
OLD, NEW = FROZEN[:30], FROZEN[:45]
SKILLS = (*DAY, *REHEARSAL[:20])
NOW = FakeClock().time
POLICY = GatePolicy(autonomous_clusters=60, min_fresh_clusters=20)
MIX = MixSettings(
    replay=0, passed=1, hard=0, min_examples=8, max_examples=300, dream_samples=0, anchors=16, fresh_share=0.3
)


def answer_to(task: Task) -> str:
    assert task.reference is not None
    return edits_between(task.files["main.rs"], task.reference["main.rs"])


class KoanServer(FakeServer):
    """Also asked koans; `able` are the models that mend them (all of them: every adapter), the others fail."""

    def __init__(self) -> None:
        super().__init__(solver((*OLD, *SKILLS)))
        self.able: Sequence[str] = ("adapters",)
        self.koans_asked: list[tuple[str, str]] = []
        self._answers = {task.prompt: answer_to(task) for task in KOANS}

    def chat(self, model: str, messages: Sequence[Message], **sampling: Any) -> Reply:
        prompt = messages[1].content.partition("\n")[0] if len(messages) > 1 else ""
        if prompt not in self._answers:
            return super().chat(model, messages, **sampling)
        self.koans_asked.append((model, prompt))
        able = model in self.able or (model != BASE and "adapters" in self.able)
        return Reply(text=self._answers[prompt] if able else "1|nonsense", model=model, finish_reason="stop")


class House:
    def __init__(self, home: Path) -> None:
        self.home, self.server, self.mixes = home, KoanServer(), list[TrainingMix]()
        self._open: list[Parts] = []
        long_ago = NOW - timedelta(days=100)
        self.open().store.finish_night(night_report(1).model_copy(update={"finished": long_ago}))

    def open(self, learns: range = NEW, **others: Any) -> Parts:
        trainer = FakeTrainer((*learns, *SKILLS))
        made = parts(self.home, self.server, trainer, **{"mix": MIX, "verifier": FakeVerifier(), **others})
        self._open.append(dataclasses.replace(made, policy=POLICY))
        return self._open[-1]

    def met(self, tasks: Sequence[Task] = KOANS, when: datetime = NOW - timedelta(hours=1), name: str = "") -> None:
        self.open().store.save_episodes(solved(task, when, name) for task in tasks)

    def night(self, learns: range = NEW, **others: Any) -> NightReport:
        house = self.open(learns, **others)
        report = run_night(house)
        assert isinstance(house.trainer, FakeTrainer)
        self.mixes += [mix for mix, _, _ in house.trainer.runs]
        return report

    def fresh(self) -> tuple[Task, ...]:
        store = self.open().store
        ids = store.fresh_ids(store.position(), MIX.fresh_share, NOW - timedelta(days=14), NOW + timedelta(days=1))
        return store.latest_tasks(ids, len(ids))

    def close(self) -> None:
        for house in self._open:
            house.store.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def solved(task: Task, when: datetime, name: str = "") -> Episode:
    verdict = Verdict(outcome=Outcome.PASS, stage="done")
    messages = first_messages(task, "error: broken")
    return Episode(
        id=f"e{task.id}{name}",
        session="s",
        source="agent",
        task=task,
        attempts=(Attempt(messages=messages, completion=answer_to(task), verdict=verdict, served_by=BASE),),
        outcome=Outcome.PASS,
        outcome_source="verifier",
        served_by=BASE,
        created=when,
    )


def texts(tasks: Sequence[Task]) -> list[tuple[str, str]]:
    return [(t.id, "\n".join(f.values())) for t in tasks for f in (t.files, t.reference or {}) if f]


def test_the_firewall_stands_between_fresh_frozen_dev_and_training_rows_exact_and_near(house: House) -> None:
    house.met()
    assert house.night().outcome == "promoted"
    fresh, (mix,) = house.fresh(), house.mixes
    rows = list(example_rows(mix.examples))
    assert len(fresh) > 20 and len({row.task_id for row in mix.examples}) > 40
    for judges in (fresh, house.open().frozen, load_split("frozen"), load_split("dev")):
        assert find_leaks(rows, judges) == ()
    assert find_leaks(texts(fresh), load_split("frozen")) == ()
    assert find_leaks(texts(fresh), load_split("dev")) == ()
    assert find_leaks(texts(load_split("dev")), load_split("frozen")) == ()


def test_a_row_that_is_too_close_to_a_fresh_task_waits_with_it(house: House) -> None:
    house.met()
    house.met([copy_of(house.fresh()[0])], name="copy")
    report = house.night()
    assert "kcopy" not in {row.task_id for row in house.mixes[0].examples}
    assert "1 rows are too close to fresh tasks, which are judged before they may train" in report.notes


def test_a_row_of_a_fresh_task_waits_though_nothing_of_the_task_is_in_it(house: House) -> None:
    house.met()
    row, other = make_rows("passed", 2)
    held = house.fresh()[0].id
    mix = TrainingMix(
        examples=(row.model_copy(update={"task_id": held}), other),
        shares={"passed": 1.0},
        counts={"passed": 2},
        notes=(),
        seed=1,
        sha256="",
    )
    assert without_fresh(house.open(), mix, [held]).examples == (other,)


def test_a_task_that_is_too_close_to_what_chooses_or_judges_is_not_asked_as_fresh(house: House) -> None:
    dev, exam, *others = KOANS[:5]
    house.met(KOANS[:5])
    home = dataclasses.replace(house.open(frozen=[copy_of(exam)]), dev=(copy_of(dev),))
    found = judgeable(home, [task.id for task in KOANS[:5]])
    assert {task.id for task in found} == {task.id for task in others}


def test_a_task_that_cannot_be_told_from_its_own_fix_tonight_is_not_asked_as_fresh(house: House) -> None:
    unfixed, unchecked, unread, right = KOANS[:4]
    house.met((unfixed.model_copy(update={"reference": unfixed.files}), unchecked, unread, right))
    home = house.open(verifier=FakeVerifier({unchecked.id: 1000}, blind={unread.id: 1000}))
    assert judgeable(home, [task.id for task in KOANS[:4]]) == (right,)


def test_a_task_to_answer_anew_that_is_too_close_to_a_fresh_task_waits_with_it(house: House) -> None:
    house.met()
    far = next(task for task in KOANS if task not in house.fresh())
    for task in (far, copy_of(house.fresh()[0])):
        passed = solved(task, NOW - timedelta(hours=1), "later")
        failed = passed.attempts[0].model_copy(update={"verdict": Verdict(outcome=Outcome.FAIL, stage="compile")})
        house.open().store.save_episode(passed.model_copy(update={"attempts": (failed, *passed.attempts)}))
    house.night(recipe=RecipeSettings(name="grpo", rank=4, alpha=8))
    assert house.mixes[0].tasks == (far,)


def copy_of(task: Task) -> Task:
    """The same task with one line more, which is not held back."""
    return task.model_copy(
        update={
            "id": "kcopy",
            "cluster": next(c for c in map(str, range(99)) if (bucket_of(cluster(task, c)) or 0) > 500),
            "files": {"main.rs": f"const MORE: u8 = 1;\n{task.files['main.rs']}"},
            "reference": {"main.rs": f"const MORE: u8 = 1;\n{(task.reference or {})['main.rs']}"},
        }
    )


def cluster(task: Task, name: str) -> Task:
    return task.model_copy(update={"cluster": name})


def test_a_candidate_that_would_be_promoted_is_asked_the_fresh_tasks_and_the_record_has_them(house: House) -> None:
    house.met()
    report = house.night()
    assert (report.outcome, report.reason) == ("promoted", "GAIN_VS_BASELINE, GAIN_VS_CURRENT")
    (kept,) = house.open().store.verdicts()
    record = read(kept.payload)
    assert {outcomes.task for outcomes in record.case.fresh} == {task.id for task in house.fresh()}
    assert {(o.baseline, o.served, o.candidate) for o in record.case.fresh} == {("F", "F", "P")}
    assert record.finding.fresh is not None and record.finding.leak is not None
    assert replay(kept.payload) == kept.payload
    assert report.verdict is not None and report.verdict.evidence is not None
    assert report.verdict.evidence.fresh >= 20


def test_a_candidate_that_loses_fresh_tasks_is_held(house: House) -> None:
    house.met()
    house.server.able = (BASE,)
    report = house.night()
    assert report.outcome == "inconclusive"
    assert "FRESH_LOW" in report.reason
    assert house.open().registry.active() is None


def test_a_candidate_that_promotes_nothing_is_not_asked_them(house: House) -> None:
    house.met()
    assert house.night(FROZEN[:32]).outcome == "inconclusive"
    assert house.server.koans_asked == []


def test_few_fresh_tasks_are_not_asked_since_they_can_decide_nothing(house: House) -> None:
    house.met(KOANS[:40])
    assert house.night().outcome == "promoted"
    assert house.server.koans_asked == []


def test_a_night_killed_among_the_fresh_tasks_goes_on_with_them(house: House) -> None:
    class Dies(Quiet):
        def tick(self, done: int, total: int, note: str = "") -> None:
            if self.phases[-1] == "fresh" and done == total // 2 + 5:
                raise KeyboardInterrupt

    house.met()
    with pytest.raises(KeyboardInterrupt):
        house.night(watcher=Dies())
    before = len(house.server.koans_asked)
    watcher = Quiet()
    assert house.night(watcher=watcher).outcome == "promoted"
    assert watcher.phases == ["fresh", "gate", "deploy"]
    assert 0 < len(house.server.koans_asked) - before < before


def test_after_their_time_fresh_tasks_may_train(house: House) -> None:
    house.met()
    fresh = {task.id for task in house.fresh()}
    clock = FakeClock()
    clock.sleep(15 * 86_400)
    house.night(clock=clock)
    assert fresh & {row.task_id for row in house.mixes[0].examples}


def test_until_the_first_promotion_nothing_is_held_back(tmp_path: Path) -> None:
    first = parts(tmp_path, KoanServer(), FakeTrainer(SKILLS), mix=MIX, verifier=FakeVerifier())
    with first.store as store:
        store.save_episodes(solved(task, NOW - timedelta(hours=1)) for task in KOANS)
        assert held_back(first, store.position()) == ()
        store.finish_night(night_report(1).model_copy(update={"finished": NOW}))
        store.save_episodes(solved(task, NOW + timedelta(hours=1)) for task in load_split("day")[110:220])
        held = held_back(first, store.position())
        assert held and not set(held) & {task.id for task in KOANS}


def test_what_is_like_a_row_of_an_earlier_night_is_not_fresh(house: House) -> None:
    house.met()
    assert house.night().outcome == "promoted"
    trained = {row.task_id for row in house.mixes[0].examples}
    copies = [
        task.model_copy(update={"id": f"{task.id}-copy", "files": {"main.rs": f"const MORE: u8 = 1;\n{text}"}})
        for task in KOANS
        if task.id in trained and (text := task.files["main.rs"])
    ]
    assert len(copies) > 20
    assert untrained(house.open(), [*copies, *house.fresh()]) == house.fresh()


def test_what_is_like_a_task_that_a_night_answered_anew_is_not_fresh(house: House) -> None:
    one, other = KOANS[0], KOANS[1]
    store = house.open().store
    answered = TrainingMix(examples=(), shares={}, counts={}, notes=(), seed=0, sha256="", tasks=(one,))
    store.begin_night(2)
    store.finish_phase(2, "mix", answered.model_dump_json(), 0.1)
    assert untrained(house.open(), (copy_of(one), other)) == (other,)


def test_what_is_told_in_the_prompt_of_a_task_that_a_night_answered_anew_is_not_fresh(house: House) -> None:
    shown = KOANS[0].files["main.rs"]
    one = KOANS[1].model_copy(update={"prompt": f"Make it so:\n```rust\n{shown}```"})
    answered = TrainingMix(examples=(), shares={}, counts={}, notes=(), seed=0, sha256="", tasks=(one,))
    store = house.open().store
    store.begin_night(2)
    store.finish_phase(2, "mix", answered.model_dump_json(), 0.1)
    assert untrained(house.open(), (KOANS[0], KOANS[2])) == (KOANS[2],)


def test_without_a_share_nothing_is_held_back(house: House) -> None:
    house.met()
    house.night(mix=MIX.model_copy(update={"fresh_share": 0.0}))
    assert {row.task_id for row in house.mixes[0].examples if row.kind == "passed"} > {t.id for t in house.fresh()}


@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(["", "c1", "c2"]))
@settings(max_examples=50, deadline=None)
def test_copies_of_a_program_are_held_back_together_and_what_cannot_be_asked_is_not(
    id: str, other: str, program: str
) -> None:
    one, two = (KOANS[0].model_copy(update={"id": name, "cluster": program}) for name in (id, other))
    assert (bucket_of(one) == bucket_of(two)) or program == ""
    assert 0 <= (bucket_of(one) or 0) < BUCKETS
    assert bucket_of(one.model_copy(update={"prompt": ""})) is None


def test_about_the_asked_share_of_programs_is_held_back() -> None:
    buckets = [bucket_of(task) for task in load_split("day")]
    assert 0.15 < sum(bucket is not None and bucket < 0.2 * BUCKETS for bucket in buckets) / len(buckets) < 0.25


def test_a_store_of_before_learns_when_its_tasks_were_first_met(house: House) -> None:
    house.met(KOANS[:5], datetime(2026, 11, 20, tzinfo=UTC))
    store = house.open().store
    with store._db.write() as db:  # pyright: ignore[reportPrivateUsage]
        db.execute("DROP TABLE live_tasks")
        db.execute("DELETE FROM _sqlite_migrations WHERE name = '0012_live_tasks'")
    again = house.open().store
    found = again.fresh_ids(again.position(), 1.0, NOW - timedelta(days=14), NOW)
    assert set(found) == {task.id for task in KOANS[:5]}
