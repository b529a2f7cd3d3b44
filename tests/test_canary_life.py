"""A canary from promotion to its end: what is counted, what rolls back, and that a restart changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes import BASE, make_episode, make_task
from test_registry import House, lora, stage, write_trained

from sleepy_coder import log
from sleepy_coder.canary import Arm, CanaryState, Evidence, Hours, harm, last_state, look
from sleepy_coder.config import CanarySettings
from sleepy_coder.errors import AdapterError, StoreError
from sleepy_coder.store import Store
from sleepy_coder.store_canary import Assigned, LiveTrial
from sleepy_coder.store_database import StoreDatabase
from sleepy_coder.store_migrations import canary, collected, exchanges, initial, lessons, nonces
from sleepy_coder.store_sqlite import Migrations
from sleepy_coder.types import AdapterState, Outcome, SessionCheck, Verdict

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
SETTINGS = CanarySettings()  # pyright: ignore[reportCallIssue]


class Watched:
    """A registry and a store in `home`, and sessions that end as they are told to."""

    def __init__(self, home: Path, settings: CanarySettings = SETTINGS) -> None:
        self.house = House(home)
        self.store = Store(home / "store.db")
        self.settings = settings
        self.now = NOW
        self.uptime = 0.0
        self.hours = Hours(lambda: self.uptime)
        self._run = 0

    def look(self) -> LiveTrial | None:
        return look(self.store, self.house.registry, self.settings, BASE, self.now, self.hours)

    def wait(self, wait: timedelta) -> LiveTrial | None:
        """Let time go by, and look twice some minutes apart."""
        for step in (wait, timedelta(minutes=10)):
            self.now, self.uptime = self.now + step, self.uptime + step.total_seconds()
            self.look()
        return self.look()

    def state(self) -> CanaryState:
        found = last_state(self.store, self.settings)
        assert found is not None
        return found

    def assign(self, *lots: tuple[str, bool], share: float = 0.5) -> None:
        assigned = [Assigned(session=session, new=new, share=share) for session, new in lots]
        self.store.save_assigned(self.house.registry.pointer().promotion, assigned)

    def announce(self, *sessions: str) -> None:
        for session in sessions:
            self.store.begin_check(session, self.now)

    def end(self, session: str, outcome: Outcome | None) -> None:
        """The verifier's word on `session`; None where there was nothing that it could speak of."""
        if outcome is None:
            assert self.store.end_unpassed(session)
        else:
            verdict = Verdict(outcome=outcome, stage="done")
            assert self.store.save_check(SessionCheck(session=session, task=make_task(1), verdict=verdict))

    def run_session(self, session: str, new: bool, outcome: Outcome | None) -> None:
        self.assign((session, new))
        self.announce(session)
        self.end(session, outcome)

    def many(self, count: int, new: Outcome | None, old: Outcome | None) -> None:
        for number in range(count):
            self._run += 1
            self.run_session(f"s{self._run}", number % 2 == 0, new if number % 2 == 0 else old)

    def serving(self) -> str | None:
        active = self.house.registry.active()
        return active.name if active else None


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    found = Watched(tmp_path)
    yield found
    found.store.close()


def test_a_promotion_is_watched_against_what_served_before(watched: Watched) -> None:
    first, second = watched.house.serve(1, 2)
    trial = watched.look()
    assert trial is not None
    assert (trial.adapter, trial.previous, trial.stage, trial.share) == (second, first, "split", 0.5)


def test_the_first_promotion_is_watched_against_the_base(watched: Watched) -> None:
    watched.house.serve(1)
    trial = watched.look()
    assert trial is not None and trial.previous == BASE


def test_what_was_rolled_back_to_is_not_watched_again(watched: Watched) -> None:
    watched.house.serve(1, 2)
    watched.house.registry.rollback()
    assert watched.look() is None


def test_the_base_is_not_watched(watched: Watched) -> None:
    assert watched.look() is None


def test_an_adapter_whose_sessions_fail_is_rolled_back_and_its_bytes_are_never_served_again(watched: Watched) -> None:
    first, second = watched.house.serve(1, 2)
    watched.look()
    watched.many(30, new=Outcome.FAIL, old=Outcome.PASS)
    trial = watched.look()
    assert trial is not None and trial.stage == "rolled_back"
    assert watched.serving() == first
    assert watched.house.registry.get(second).state is AdapterState.QUARANTINED
    again = watched.house.stage(3, tensors=None)  # other bytes are welcome
    assert watched.house.registry.activate(again.name).name == again.name


def test_the_same_bytes_under_another_name_are_refused_after_a_rollback(watched: Watched) -> None:
    watched.house.serve(1)
    bad = watched.house.stage(2, lora(77))
    watched.house.registry.activate(bad.name)
    watched.house.registry.rollback()
    twin = watched.house.stage(9, lora(77))
    assert twin.name != bad.name and twin.sha256 == bad.sha256
    assert twin.state is AdapterState.QUARANTINED
    with pytest.raises(AdapterError, match="quarantined"):
        watched.house.registry.activate(twin.name)


def test_while_the_list_of_what_was_rolled_back_cannot_be_read_nothing_new_is_served(watched: Watched) -> None:
    first, bad = watched.house.serve(1, 2)
    watched.house.registry.rollback()
    twin = watched.house.stage(9, lora(2))
    (watched.house.adapters / "quarantine.json").write_text('{"adapters": [')
    for name in (bad, twin.name):
        with pytest.raises(AdapterError, match="remove it to forget what was rolled back"):
            watched.house.registry.activate(name)
    assert watched.serving() == first


def test_bytes_that_were_rolled_back_stay_refused_when_their_folder_is_gone(watched: Watched) -> None:
    bad = watched.house.stage(1, lora(77))
    watched.house.registry.activate(bad.name)
    watched.house.registry.rollback()
    watched.house.stage(2)
    assert watched.house.registry.prune(1) == (bad.name,)
    assert watched.house.stage(9, lora(77)).state is AdapterState.QUARANTINED


def test_nothing_is_trained_from_what_was_rolled_back(watched: Watched) -> None:
    [bad] = watched.house.serve(1)
    watched.house.registry.rollback()
    trained = write_trained(watched.house.root / "child")
    with pytest.raises(AdapterError, match="rolled back"):
        stage(watched.house.registry, trained, watched.house.base, 2, parent=bad)


def test_the_log_says_why_and_with_which_numbers(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(as_json=True, verbose=True)
    first, second = watched.house.serve(1, 2)
    watched.look()
    watched.many(30, new=Outcome.FAIL, old=Outcome.PASS)
    watched.look()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    said = {line["event"]: line for line in lines}
    back = said["adapter.rolled_back"]
    assert (back["adapter"], back["now"]) == (second, first)
    assert "fewer of its sessions pass" in back["reason"]
    assert back["statistics"]["new_failures"] == 15 and back["statistics"]["old_failures"] == 0
    assert back["statistics"]["e"] >= 20
    assert said["canary.entered"]["stage"] == "rolled_back"
    assert {"canary.began", "canary.counted"} <= said.keys()


def test_when_both_fail_alike_nothing_is_rolled_back(watched: Watched) -> None:
    _, second = watched.house.serve(1, 2)
    watched.look()
    watched.many(80, new=Outcome.FAIL, old=Outcome.FAIL)
    watched.look()
    assert watched.serving() == second


# What counts


def evidence(watched: Watched) -> tuple[int, int]:
    watched.look()
    found = watched.state().evidence
    return found.new.sessions, found.old.sessions


def test_a_session_counts_once_whatever_it_does(watched: Watched) -> None:
    watched.house.serve(1)
    watched.look()
    watched.run_session("a", True, Outcome.FAIL)
    assert evidence(watched) == (1, 0)
    watched.end("a", Outcome.PASS)
    assert evidence(watched) == (1, 0)
    assert watched.state().evidence.new.failures == 1


@pytest.mark.parametrize(
    ("source", "by"), [("gateway", "feedback"), ("gateway", "exit-code"), ("import", "verifier"), ("agent", "verifier")]
)
def test_only_what_a_verifier_said_of_a_session_of_the_gateway_counts(watched: Watched, source: str, by: str) -> None:
    watched.house.serve(1)
    watched.look()
    watched.assign(("a", True))
    watched.announce("a")
    episode = make_episode(1, Outcome.FAIL, source=by)
    watched.store.save_episode(episode.model_copy(update={"session": "a", "source": source}))
    assert evidence(watched) == (0, 0)


def test_a_session_that_drew_no_lot_does_not_count(watched: Watched) -> None:
    watched.house.serve(1)
    watched.look()
    watched.announce("a")
    watched.end("a", Outcome.FAIL)
    assert evidence(watched) == (0, 0)


@pytest.mark.parametrize("ended", [Outcome.PASS, Outcome.FAIL, Outcome.INFRA, None])
def test_a_session_counts_whatever_came_of_it_and_has_passed_only_if_its_verifier_says_so(
    watched: Watched, ended: Outcome | None
) -> None:
    """Which sessions count must not hang on what an adapter did after its lot."""
    watched.house.serve(1)
    watched.look()
    watched.run_session("a", True, ended)
    assert evidence(watched) == (1, 0)
    assert watched.state().evidence.new.failures == (ended is not Outcome.PASS)


@pytest.mark.parametrize(("sign", "limit"), [("sessions_e", 20), ("replay_e", 20), ("replies_e", 1000)])
def test_harm_is_what_reaches_its_threshold_and_nothing_below(sign: str, limit: float) -> None:
    none = Arm(sessions=0, failures=0)
    quiet = {"drawn": 0, "sessions_e": 1.0, "replies": 0, "replies_e": 1.0, "replayed": 0, "replay_e": 1.0}
    for e, harmful in ((limit - 0.01, False), (limit, True)):
        seen = Evidence.model_validate({"new": none, "old": none, **quiet, sign: e})
        assert bool(harm(seen, CanarySettings())) is harmful


def test_an_adapter_that_does_nothing_any_more_is_rolled_back(watched: Watched) -> None:
    first, _ = watched.house.serve(1, 2)
    watched.look()
    watched.many(60, new=None, old=Outcome.PASS)
    watched.look()
    assert watched.serving() == first


def test_one_that_tries_what_the_old_one_left_alone_is_not_blamed_for_what_it_cannot_mend(watched: Watched) -> None:
    _, second = watched.house.serve(1, 2)
    watched.look()
    for _ in range(20):
        watched.many(2, new=Outcome.PASS, old=Outcome.PASS)
        watched.many(2, new=Outcome.FAIL, old=None)
        watched.many(2, new=Outcome.FAIL, old=Outcome.INFRA)
    watched.look()
    assert watched.serving() == second


def test_sessions_judged_before_this_was_noted_count_as_they_did_then(tmp_path: Path) -> None:
    before = Migrations("sleepy_coder")
    earlier = (("0001_initial", initial), ("0002_exchanges", exchanges), ("0003_collected", collected))
    for name, step in (*earlier, ("0004_lessons", lessons), ("0011_canary", canary), ("0015_nonces", nonces)):
        before(name=name)(step)
    path = tmp_path / "store.db"
    verdicts = (Outcome.PASS, Outcome.INFRA, Outcome.FAIL)
    with closing(StoreDatabase(path, before)) as old, old.write() as db:
        for number, outcome in enumerate(verdicts):
            check = SessionCheck(session=outcome, task=make_task(1), verdict=Verdict(outcome=outcome, stage="done"))
            row = [outcome, NOW.isoformat(), check.model_dump_json()]
            db.execute("INSERT INTO session_checks (session, started, payload) VALUES (?, ?, ?)", row)
            db.execute("INSERT INTO canary_sessions VALUES (?, 'c', ?, 1, 0.5)", [number + 1, outcome])
        db.execute("INSERT INTO canary_outcomes VALUES (1, 'c', 'session', 'x', 1, 0.5, 1, 'an episode')")
    with Store(path) as store:
        assert store.count_finished("c", NOW - timedelta(hours=1), NOW) == 2
        counted = [(one.session, one.failed) for one in store.counted("c")]
        assert counted == [("x", True), (Outcome.PASS, False), (Outcome.FAIL, True)]
        assert len(store.checks(verdicts)) == len(verdicts)


def test_sessions_count_in_the_order_of_their_lots_while_a_slow_one_is_waited_for(watched: Watched) -> None:
    """Or an adapter that only takes longer would have all of the other one's sessions counted first."""
    watched.house.serve(1)
    watched.look()
    watched.assign(("slow", True), ("quick", False))
    watched.announce("slow", "quick")
    watched.end("quick", Outcome.PASS)
    assert evidence(watched) == (0, 0)
    watched.end("slow", Outcome.PASS)
    assert evidence(watched) == (1, 1)


def test_a_session_that_never_ends_is_not_waited_for_for_ever(watched: Watched) -> None:
    watched.house.serve(1)
    watched.look()
    watched.assign(("lost", True), ("quick", False))
    watched.announce("lost", "quick")
    watched.end("quick", Outcome.PASS)
    watched.now += timedelta(minutes=SETTINGS.patience_minutes, seconds=1)
    assert evidence(watched) == (0, 1)


def test_a_session_that_was_announced_while_the_clock_was_ahead_holds_up_nobody(watched: Watched) -> None:
    watched.house.serve(1)
    watched.look()
    watched.assign(("ahead", True), ("quick", False))
    watched.store.begin_check("ahead", watched.now + timedelta(days=365))
    watched.announce("quick")
    watched.end("quick", Outcome.PASS)
    assert evidence(watched) == (0, 1)


def test_the_chance_that_counts_is_the_one_a_session_was_drawn_with(watched: Watched) -> None:
    watched.house.serve(1)
    watched.look()
    watched.assign(("a", True), share=0.5)
    watched.assign(("b", True), share=0.9)
    watched.assign(("a", True), share=0.9)  # the first draw holds
    watched.announce("a", "b")
    watched.end("a", Outcome.FAIL)
    watched.end("b", Outcome.FAIL)
    watched.look()
    counted = watched.store.counted(watched.house.registry.pointer().promotion)
    assert [one.share for one in counted] == [0.5, 0.9]


# Stages


def test_after_enough_sessions_without_harm_a_few_stay_with_the_old_adapter(tmp_path: Path) -> None:
    watched = Watched(tmp_path, SETTINGS.model_copy(update={"sessions": 20}))
    watched.house.serve(1)
    watched.look()
    watched.many(20, new=Outcome.PASS, old=Outcome.PASS)
    trial = watched.look()
    assert trial is not None and (trial.stage, trial.share) == ("holdback", 0.9)


def test_harm_is_still_found_in_the_holdback(tmp_path: Path) -> None:
    watched = Watched(tmp_path, SETTINGS.model_copy(update={"hours": 1.0}))
    first, _ = watched.house.serve(1, 2)
    watched.look()
    watched.wait(timedelta(hours=1))
    assert watched.state().trial.stage == "holdback"
    watched.many(60, new=Outcome.FAIL, old=Outcome.PASS)
    watched.look()
    assert watched.serving() == first


def test_without_a_holdback_the_watch_ends(tmp_path: Path) -> None:
    watched = Watched(tmp_path, SETTINGS.model_copy(update={"hours": 1.0, "holdback": 0.0}))
    watched.house.serve(1)
    watched.look()
    trial = watched.wait(timedelta(hours=1))
    assert trial is not None and (trial.stage, trial.share) == ("passed", 1.0)
    assert "0 sessions were judged" in trial.why


def test_a_clock_that_runs_ahead_for_a_moment_ends_no_split(watched: Watched) -> None:
    watched.house.serve(1)
    watched.look()
    for _ in range(3):
        watched.now += timedelta(days=4)
        watched.look()
        watched.now -= timedelta(days=4)
        trial = watched.wait(timedelta(hours=1))
        assert trial is not None and trial.stage == "split"
    trial = watched.wait(timedelta(hours=SETTINGS.hours))
    assert trial is not None and trial.stage == "holdback"


def test_a_split_that_began_while_the_clock_was_years_ahead_counts_its_hours_anew(watched: Watched) -> None:
    watched.house.serve(1)
    watched.now += timedelta(days=1000)
    watched.look()
    watched.now -= timedelta(days=1000)
    watched.look()
    trial = watched.wait(timedelta(hours=SETTINGS.hours - 1))
    assert trial is not None and trial.stage == "split" and "clock" in trial.why
    trial = watched.wait(timedelta(hours=1))
    assert trial is not None and trial.stage == "holdback"


@pytest.mark.parametrize("behind", [timedelta(days=2), timedelta(days=5000)])
def test_a_clock_that_is_behind_for_a_moment_ends_no_split(watched: Watched, behind: timedelta) -> None:
    """As after a boot, before the time is asked of the network."""
    watched.house.serve(1)
    watched.look()
    began = watched.state().trial.began
    watched.now -= behind
    for _ in range(3):
        watched.look()
    watched.now += behind
    trial = watched.wait(timedelta(hours=SETTINGS.hours - 1))
    assert trial is not None and (trial.stage, trial.began) == ("split", began)
    trial = watched.wait(timedelta(hours=1))
    assert trial is not None and trial.stage == "holdback"


def test_the_next_promotion_ends_a_canary_and_begins_another(watched: Watched) -> None:
    watched.house.serve(1)
    watched.look()
    watched.house.serve(2)
    watched.look()
    assert [trial.stage for trial in watched.store.canaries()] == ["superseded", "split"]


@pytest.mark.parametrize("quarantine", [True, False])
def test_a_rollback_by_hand_or_from_what_could_not_be_read_ends_a_canary_as_well(
    watched: Watched, quarantine: bool
) -> None:
    watched.house.serve(1)
    watched.look()
    watched.house.registry.rollback(quarantine=quarantine)
    watched.look()
    [trial] = watched.store.canaries()
    assert (trial.stage, trial.why) == ("rolled_back", "the base serves now")


@pytest.mark.parametrize("damaged", [False, True])
def test_what_was_taken_back_is_told_so_though_another_one_was_promoted_before_the_next_look(
    watched: Watched, damaged: bool
) -> None:
    [name] = watched.house.serve(1)
    watched.look()
    if damaged:
        (watched.house.adapters / name / "manifest.json").write_text("{")
    else:
        watched.house.registry.rollback()
    watched.house.serve(2)
    watched.look()
    assert [trial.stage for trial in watched.store.canaries()] == ["rolled_back", "split"]


def test_a_canary_that_another_process_has_ended_is_not_gone_on_with(watched: Watched) -> None:
    watched.house.serve(1)
    trial = watched.look()
    assert trial is not None
    watched.house.registry.rollback()
    watched.look()
    assert not watched.store.enter_stage(trial.id, "holdback", 0.9, watched.now, "enough sessions were judged")
    assert [ended.stage for ended in watched.store.canaries()] == ["rolled_back"]


def test_a_canary_that_was_killed_between_pointer_and_store_is_closed_by_the_next_look(watched: Watched) -> None:
    _, second = watched.house.serve(1, 2)
    watched.look()
    watched.house.registry.rollback(only=second, why="killed right after this")
    watched.look()
    assert [trial.stage for trial in watched.store.canaries()] == ["rolled_back"]


def test_a_promotion_in_the_middle_of_a_look_is_watched_on(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.house.serve(1)
    watched.look()
    canaries = watched.store.canaries

    def meanwhile() -> tuple[LiveTrial, ...]:
        monkeypatch.undo()
        watched.house.serve(2)
        watched.look()  # as the night does
        return canaries()

    monkeypatch.setattr(watched.store, "canaries", meanwhile)
    watched.look()
    assert [trial.stage for trial in canaries()] == ["superseded", "split"]


def test_switched_off_nothing_is_watched(tmp_path: Path) -> None:
    watched = Watched(tmp_path, SETTINGS.model_copy(update={"enabled": False}))
    watched.house.serve(1)
    assert watched.look() is None


def test_one_that_is_switched_off_on_the_way_ends(watched: Watched) -> None:
    watched.house.serve(1)
    watched.look()
    watched.settings = SETTINGS.model_copy(update={"enabled": False})
    assert watched.look() is None
    [trial] = watched.store.canaries()
    assert (trial.stage, trial.share) == ("abandoned", 1.0)


def test_after_the_end_of_its_canary_nothing_is_rolled_back(watched: Watched) -> None:
    [name] = watched.house.serve(1)
    watched.look()
    watched.settings = SETTINGS.model_copy(update={"enabled": False})
    watched.look()
    watched.settings = SETTINGS
    watched.many(30, new=Outcome.FAIL, old=Outcome.PASS)
    trial = watched.look()
    assert trial is not None and trial.stage == "abandoned"
    assert watched.serving() == name


# The record


def test_a_restart_goes_on_with_the_same_evidence(watched: Watched) -> None:
    watched.house.serve(1)
    watched.look()
    watched.many(9, new=Outcome.FAIL, old=Outcome.PASS)
    watched.look()
    before = watched.state()
    path = watched.house.root / "store.db"
    watched.store.close()
    watched.store = Store(path)
    assert watched.state() == before
    assert watched.look() == before.trial


@pytest.mark.parametrize("table", ["canaries", "canary_stages", "canary_sessions", "canary_outcomes"])
def test_nothing_of_the_evidence_can_be_taken_back(watched: Watched, table: str) -> None:
    watched.house.serve(1)
    watched.look()
    watched.run_session("a", True, Outcome.FAIL)
    watched.look()
    database = watched.store._db  # pyright: ignore[reportPrivateUsage]
    column = "id" if table == "canaries" else "canary"
    for sql in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = 'x'"):
        with pytest.raises(StoreError), database.write() as db:
            db.execute(sql)


def test_counting_again_changes_nothing(watched: Watched) -> None:
    watched.house.serve(1)
    watched.look()
    watched.run_session("a", True, Outcome.FAIL)
    watched.look()
    before = watched.state()
    watched.look()
    assert watched.state() == before
