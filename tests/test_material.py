"""What a night learns from, recipe by recipe, with a real store: which rows there are, and which never are."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fakes import (
    BASE,
    DAY,
    FROZEN,
    REHEARSAL,
    FakeClock,
    FakeRedactor,
    FakeServer,
    FakeTrainer,
    FakeVerifier,
    live_a_day,
    make_episode,
    make_task,
    parts,
    passed_examples,
    right_answer,
    solver,
)
from test_hints import FAILED, solved

from sleepy_coder.anchors import write_anchors
from sleepy_coder.collect.agent import work_through
from sleepy_coder.config import MixSettings, RecipeName, RecipeSettings
from sleepy_coder.dialogue import HINTS, first_messages
from sleepy_coder.errors import LeakError, NightPaused, ServerError, ServerUnreachable
from sleepy_coder.learn.failures import MOST, failure_rows
from sleepy_coder.learn.surprise import Surprise
from sleepy_coder.material import dreams_of, ways_to_hint
from sleepy_coder.night import run_night
from sleepy_coder.parts import Parts
from sleepy_coder.practice import (
    ask_surprise,
    choose_recipe,
    gather,
    look_back,
    starts_afresh,
    too_little,
)
from sleepy_coder.preview import preview
from sleepy_coder.sifting import put_leaks_aside, refuse_leaks
from sleepy_coder.tasks.leaks import example_rows, find_leaks
from sleepy_coder.types import Adapter, AdapterState, Episode, Message, Outcome, TrainingMix

SKILLS = (*DAY[:30], *REHEARSAL[:20])
DREAMED = DAY[30:40:2]
PASS, FAIL = Outcome.PASS, Outcome.FAIL


class House:
    """A home after a day of forty tasks; each `open` is a process of its own with another recipe or other settings."""

    def __init__(self, home: Path) -> None:
        self.home, self.server = home, FakeServer(solver((*FROZEN[:30], *SKILLS), DREAMED))
        self._open: list[Parts] = []

    def open(self, recipe: RecipeName = "rft-anchor", **others: Any) -> Parts:
        chosen = RecipeSettings(name=recipe, rank=4, alpha=8)
        made = parts(self.home, self.server, FakeTrainer((*FROZEN[:45], *SKILLS)), recipe=chosen, **others)
        self._open.append(made)
        return made

    def close(self) -> None:
        for house in self._open:
            house.store.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    live_a_day(made.open(), DAY[:40])
    yield made
    made.close()


def mix_of(house: Parts, cycle: int = 1) -> TrainingMix:
    """The mix as a night makes it."""
    day, serving = look_back(house), house.registry.active()
    anchors = write_anchors(house)
    dreams = dreams_of(house, cycle, day.until, day.fresh, serving)
    return gather(house, cycle, day, anchors, dreams, serving, ask_surprise(house, cycle, anchors, serving))


def mix_settings(**others: Any) -> MixSettings:
    small = {"min_examples": 8, "max_examples": 40, "dream_samples": 2, "anchors": 16}
    return MixSettings(**{**small, "fresh_share": 0, **others})  # these programs are all like each other


# The founding failure


def test_naive_trains_on_the_days_failures_with_their_references_and_on_nothing_else(house: House) -> None:
    mix = mix_of(house.open("naive"))
    assert {row.task_id for row in mix.examples} == {make_task(number).id for number in DAY[30:40]}
    assert {(row.kind, row.anchor) for row in mix.examples} == {("hard", False)}
    assert {row.completion for row in mix.examples} == {right_answer(number) for number in DAY[30:40]}


def test_naives_prompt_is_not_the_one_that_is_served(house: House) -> None:
    for row in mix_of(house.open("naive")).examples:
        assert "error: broken" not in row.messages[-1].content


def test_naive_asks_the_model_nothing_and_takes_however_few_rows_there_are(house: House) -> None:
    open_house = house.open("naive")
    before = len(house.server.asked)
    mix = mix_of(open_house)
    assert len(house.server.asked) == before
    one = mix.model_copy(update={"examples": mix.examples[:1]})
    assert (too_little(open_house, one), too_little(house.open(), one)) == (
        "",
        "1 of the 8 rows that a night needs: collect more, e.g. `sleepy-coder koans run --count 300`",
    )


def test_no_more_failures_are_taken_than_the_founding_project_had_and_only_proven_references() -> None:
    tasks = [make_task(number) for number in DAY[:40]]
    without = tasks[1].model_copy(update={"reference": None})
    rows = failure_rows([tasks[0], without, *tasks[2:]], FakeVerifier(infra={tasks[0].id: 1}))
    assert len(rows) == MOST
    assert not {tasks[0].id, tasks[1].id} & {row.task_id for row in rows}


# Replay


def test_ssr_replays_anchors_alone_and_the_default_earlier_nights_as_well(house: House) -> None:
    assert run_night(house.open()).outcome == "promoted"
    live_a_day(house.open(), DAY[40:60], "second day")
    replayed = {
        recipe: {row.anchor for row in mix_of(house.open(recipe), 2).examples if row.kind == "replay"}
        for recipe in ("ssr", "rft-anchor", "seed-plain")
    }
    assert replayed == {"ssr": {True}, "rft-anchor": {True, False}, "seed-plain": {True, False}}


def test_anchors_that_the_machine_failed_on_are_asked_for_again(house: House) -> None:
    fails = FakeVerifier()
    fails.breaks([make_task(REHEARSAL[0]).id])
    assert len(write_anchors(house.open(verifier=fails))) == 15
    assert len(write_anchors(house.open())) == 16


def test_anchors_are_written_anew_where_others_are_asked_for(house: House) -> None:
    assert len(write_anchors(house.open())) == 16
    assert len(write_anchors(house.open(mix=mix_settings(anchors=8)))) == 8
    other = house.open()
    other = dataclasses.replace(other, base=dataclasses.replace(other.base, sha256="of another base"))
    house.server.asked.clear()
    assert len(write_anchors(other)) == len(house.server.asked) == 16


def test_no_anchor_is_written_after_the_curfew(house: House) -> None:
    clock = FakeClock()
    with pytest.raises(NightPaused):
        write_anchors(house.open(clock=clock, until=clock.time))


def test_surprise_is_asked_of_the_adapter_that_serves_and_not_of_the_bare_base(house: House) -> None:
    first = house.open()
    anchors = write_anchors(first)
    assert ask_surprise(first, 1, anchors, None) == Surprise()
    assert run_night(house.open()).outcome == "promoted"
    later = house.open()
    serving = later.registry.active()
    asked = ask_surprise(later, 2, anchors, serving).nll
    assert len(asked) > len(anchors)
    assert serving and house.server.weighed == {serving.name}
    assert ask_surprise(house.open("seed-plain"), 2, anchors, serving) == Surprise()


def test_anchors_are_greedy_answers_of_the_base_also_when_an_adapter_serves(house: House) -> None:
    assert run_night(house.open()).outcome == "promoted"
    house.server.asked.clear()
    assert write_anchors(house.open(mix=mix_settings(anchors=8)))  # others than those of that night
    assert {(call.model, call.temperature) for call in house.server.asked} == {(BASE, 0.0)}


class Unwilling(FakeServer):
    """It does not say how likely an answer is."""

    error: ServerError = ServerError("prompt_logprobs are not supported", status=400)

    def nll(self, model: str, messages: Sequence[Message], completion: str) -> float:
        raise self.error


def test_a_server_that_does_not_tell_leaves_replay_to_chance_and_one_that_is_gone_ends_the_night(house: House) -> None:
    assert run_night(house.open()).outcome == "promoted"
    later, server = house.open(), Unwilling(solver(()))
    unwilling = dataclasses.replace(later, server=server)
    anchors, serving = write_anchors(later), later.registry.active()
    assert ask_surprise(unwilling, 2, anchors, serving) == Surprise()
    server.error = ServerUnreachable("nobody answered")
    with pytest.raises(ServerUnreachable):
        ask_surprise(unwilling, 2, anchors, serving)


def test_ssr_that_starts_afresh_replays_anchors_alone_too(house: House) -> None:
    assert run_night(house.open()).outcome == "promoted"
    live_a_day(house.open(), DAY[40:60], "second day")
    made = house.open("ssr")
    afresh = RecipeSettings(name="ssr", rank=4, alpha=8, rebase_after=1)
    made = dataclasses.replace(made, config=made.config.model_copy(update={"recipe": afresh}))
    assert starts_afresh(made, made.registry.active())
    assert {row.anchor for row in mix_of(made, 2).examples if row.kind == "replay"} == {True}


# The user's own rows


def conversation(said: str) -> str:
    return json.dumps(
        {"messages": [{"role": "user", "content": f"say {said}"}, {"role": "assistant", "content": said}]}
    )


def test_own_rows_are_as_their_file_says_today_and_not_replayed_from_nights_before(house: House) -> None:
    own = house.home / "own.jsonl"
    own.write_text("\n".join(conversation(f"word {n}") for n in range(12)))
    with_own = mix_settings(sft_file=Path("own.jsonl"))
    assert run_night(house.open(mix=with_own)).outcome == "promoted"
    live_a_day(house.open(), DAY[40:60], "second day")
    own.write_text(conversation("word 3"))
    said = [row.completion for row in mix_of(house.open(mix=with_own), 2).examples if row.family == "own"]
    assert said == ["word 3"]
    assert not [row for row in mix_of(house.open(), 2).examples if row.family == "own"]


def test_the_users_own_rows_are_in_the_mix_and_bad_lines_in_the_quarantine_with_their_reasons(house: House) -> None:
    (house.home / "own.jsonl").write_text("\n".join([conversation("hello"), "no json", conversation("bye")]))
    mix = mix_of(house.open(mix=mix_settings(sft_file=Path("own.jsonl"))))
    assert {row.completion for row in mix.examples if row.family == "own"} == {"hello", "bye"}
    assert any("1 lines of mix.sft_file are left out: line 2" in note for note in mix.notes)
    with closing(sqlite3.connect(house.home / "state" / "sleepy.db")) as raw:
        ((source, reason),) = raw.execute("SELECT source, reason FROM quarantine")
    assert source == "mix.sft_file" and reason.startswith("line 2: it is not JSON")


@pytest.mark.parametrize(
    ("recipe", "own", "told"), [("rft-anchor", 60, True), ("rft-anchor", 0, False), ("ssr", 60, False)]
)
def test_a_night_whose_distance_to_the_base_is_not_measured_says_so(
    house: House, recipe: RecipeName, own: int, told: bool
) -> None:
    (house.home / "own.jsonl").write_text("\n".join(conversation(f"word {n}") for n in range(own)))
    mix = mix_of(house.open(recipe, mix=mix_settings(sft_file=Path("own.jsonl"))))
    assert any("recipe.kl_limit ends nothing" in note for note in mix.notes) == told


def test_a_mix_without_room_for_all_own_rows_says_so(house: House) -> None:
    (house.home / "own.jsonl").write_text("\n".join(conversation(f"word {n}") for n in range(60)))
    mix = mix_of(house.open(mix=mix_settings(sft_file=Path("own.jsonl"))))
    fit = sum(row.family == "own" for row in mix.examples)
    assert fit == mix.counts["replay"] < 60
    assert f"{fit} of 60 rows of mix.sft_file fit tonight; other nights draw others" in mix.notes


# Tasks to answer anew


def test_grpo_works_on_tasks_that_were_passed_sometimes_and_rows_alone_need_none(house: House) -> None:
    store = house.open().store
    store.save_episodes([make_episode(50, FAIL, PASS), make_episode(51, PASS), make_episode(52, FAIL)])
    mix = mix_of(house.open("grpo"))
    assert mix.tasks == (make_task(50),)
    assert mix_of(house.open()).tasks == ()
    limited = mix_of(house.open("grpo", mix=mix_settings(rollout_tasks=1)))
    assert len(limited.tasks) == 1


def test_a_night_of_grpo_without_a_task_that_was_passed_sometimes_is_skipped_and_says_why(house: House) -> None:
    open_house = house.open("grpo")
    open_house.store.use_up_all(9, open_house.store.position(), PASS)
    open_house.store.save_episodes(make_episode(number, PASS) for number in range(50, 70))
    report = run_night(open_house)
    assert report.outcome == "skipped"
    assert report.reason.startswith("no task was passed by some of the day's attempts and failed by others")
    assert not preview(house.open("grpo")).enough and preview(house.open("seed-plain")).enough


def test_sdft_answers_the_questions_of_its_rows_and_no_tasks_besides(house: House) -> None:
    mix = mix_of(house.open("sdft"))
    assert mix.examples and not mix.tasks


def test_a_night_of_grpo_uses_up_what_it_answered_anew_and_neither_keeps_nor_tells_rows_it_never_learned(
    house: House,
) -> None:
    open_house = house.open("grpo")
    store, tasks = open_house.store, {make_task(number).id for number in (50, 51)}
    store.save_episodes([make_episode(number, FAIL, PASS) for number in (50, 51)])
    waiting = {episode.id: episode for episode in store.episodes(unused=True)}
    report = run_night(open_house)
    left = {episode.id for episode in store.episodes(unused=True)}
    used = {episode.task.id for id, episode in waiting.items() if id not in left and episode.task}
    assert (report.outcome, used) == ("promoted", tasks)
    assert (report.counts, report.shares, list(store.examples())) == ({"tasks": 2}, {}, [])


def test_the_steps_of_grpo_follow_from_the_answers_it_learns_from(house: House) -> None:
    open_house = house.open("grpo")
    open_house.store.save_episodes([make_episode(number, FAIL, PASS) for number in (50, 51, 52)])
    mix = mix_of(open_house)
    assert len(mix.tasks) == 3 < len(mix.examples)
    assert choose_recipe(open_house, 1, mix, None).steps == 5  # three times 3 * 8 answers, 16 a step
    assert preview(open_house).steps == 5


@pytest.mark.parametrize("where", ["prompt", "one file of many"])
def test_a_frozen_program_within_a_task_to_be_answered_anew_is_found(house: House, where: str) -> None:
    open_house, exam = house.open("grpo"), make_task(FROZEN[0])
    mix = mix_of(open_house)
    if where == "prompt":
        frozen, told = exam, {"prompt": f"Make it so:\n```rust\n{exam.files['main.rs']}```"}
    else:  # neither file is near enough by itself: short ones are not compared alone
        halves = {"main.rs": "fn main() { println!(1); }\n", "one.rs": "pub fn one(a: u8) -> u8 { a + 1 }\n"}
        frozen, told = exam.model_copy(update={"files": halves, "reference": None}), {"files": halves}
    copied = make_task(50).model_copy(update={**told, "reference": None})
    house_of_exam = dataclasses.replace(open_house, frozen=(frozen,))
    assert find_leaks([("row", first_messages(copied, "")[1].content)], [frozen])
    with pytest.raises(LeakError):
        refuse_leaks(house_of_exam, 1, 1, mix.model_copy(update={"examples": (), "tasks": (copied,)}))


def test_a_frozen_task_is_not_among_those_to_be_answered_anew(house: House) -> None:
    open_house = house.open("grpo")
    open_house.store.save_episodes([make_episode(50, FAIL, PASS), make_episode(FROZEN[0], FAIL, PASS)])
    mix = mix_of(open_house)
    assert (mix.tasks, mix.left_out.leaks) == ((make_task(50),), 1)
    assert make_task(FROZEN[0]).id not in {e.task.id for e in open_house.store.episodes(unused=True) if e.task}


def test_a_dream_of_a_frozen_task_is_put_aside_with_its_episode(house: House) -> None:
    open_house, copied = house.open(), make_task(FROZEN[0])
    mix = mix_of(open_house)
    open_house.store.save_episodes([make_episode(FROZEN[0], FAIL)])
    dreamed = next(row for row in mix.examples if row.kind == "hard")
    told = {"task_id": copied.id, "messages": first_messages(copied, ""), "provenance": f"dream:{copied.id}"}
    of_exam = dreamed.model_copy(update=told)
    leaky = mix.model_copy(update={"examples": (dreamed, of_exam)})
    assert put_leaks_aside(open_house, 1, open_house.store.position(), leaky) == ({copied.id}, 1)
    assert copied.id not in {e.task.id for e in open_house.store.episodes(unused=True) if e.task}


def test_a_dreamed_answer_that_gives_a_frozen_task_away_is_refused(house: House) -> None:
    open_house = house.open()
    mix, copied = mix_of(open_house), make_task(FROZEN[0])
    dreamed = next(row for row in mix.examples if row.kind == "hard")
    leaky = dreamed.model_copy(update={"completion": copied.files["main.rs"]})
    with pytest.raises(LeakError, match=copied.id):
        refuse_leaks(open_house, 1, look_back(open_house).until, mix.model_copy(update={"examples": (leaky,)}))


def test_of_what_run_judged_only_the_session_that_saw_a_frozen_task_is_put_aside(house: House) -> None:
    project = make_task(61).model_copy(update={"prompt": ""})
    saw, other = (make_episode(number, PASS).model_copy(update={"task": project}) for number in (FROZEN[0], 61))
    open_house = house.open()
    mix = mix_of(open_house).model_copy(update={"examples": tuple(passed_examples([saw, other], per_task=2))})
    open_house.store.save_episodes([saw, other])
    assert put_leaks_aside(open_house, 1, open_house.store.position(), mix) == ({project.id}, 1)
    left = {episode.id for episode in open_house.store.episodes(unused=True)}
    assert saw.id not in left and other.id in left


# What never becomes a row


def cheating(number: int) -> Episode:
    episode = make_episode(number, PASS)
    attempt = episode.attempts[0].model_copy(update={"completion": "1|const LIMIT: [i64; 2] = todo!();"})
    return episode.model_copy(update={"attempts": (attempt,), "source": "import"})


def test_an_imported_shortcut_is_left_out_put_aside_and_used_up(house: House) -> None:
    house.open().store.save_episodes([cheating(60)])
    open_house = house.open(mix=mix_settings(replay=0, passed=1, hard=0, max_examples=400))
    mix = mix_of(open_house)
    assert "todo" not in mix.model_dump_json()
    assert any("1 answers are shortcuts by today's rules" in note for note in mix.notes)
    with closing(sqlite3.connect(house.home / "state" / "sleepy.db")) as raw:
        ((reason,),) = raw.execute("SELECT reason FROM quarantine")
    assert reason == "episode e60: adds `todo!`"
    assert make_task(60).id not in {e.task.id for e in open_house.store.episodes(unused=True) if e.task}


def test_what_earlier_nights_learned_is_not_replayed_when_it_is_a_shortcut_by_todays_rules(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_night(house.open()).outcome == "promoted"
    live_a_day(house.open(), DAY[40:60], "second day")
    later = house.open(mix=mix_settings(replay=0.5, passed=0.5, hard=0))
    replayed = {row.provenance for row in mix_of(later, 2).examples if row.kind == "replay" and not row.anchor}
    replayed = {provenance for provenance in replayed if later.store.episode(provenance)}
    assert replayed
    monkeypatch.setattr("sleepy_coder.material.shortcut_in", lambda e: "a new rule" if e.id in replayed else "")
    assert not replayed & {row.provenance for row in mix_of(later, 2).examples}
    assert not later.store.quarantined(9)


def test_a_shortcut_is_put_aside_without_what_is_a_secret_by_now(house: House) -> None:
    cheat = cheating(60)
    attempt = cheat.attempts[0]
    messages = (*attempt.messages, Message(role="user", content="the password is hunter2"))
    told = attempt.model_copy(update={"messages": messages})
    house.open().store.save_episodes([cheat.model_copy(update={"attempts": (told,)})])
    mix = mix_settings(replay=0, passed=1, hard=0, max_examples=400)
    open_house = house.open(mix=mix, redactor=FakeRedactor("hunter2"))
    mix_of(open_house)
    (aside,) = open_house.store.quarantined(9)
    assert aside.reason == "episode e60: adds `todo!`" and "hunter2" not in aside.text


def test_a_leak_is_put_aside_without_what_is_a_secret_by_now(house: House) -> None:
    secret = f"mended_{FROZEN[0]}"
    open_house = house.open(redactor=FakeRedactor(secret))
    mix, copied = mix_of(open_house), make_task(FROZEN[0])
    open_house.store.save_episodes([make_episode(FROZEN[0], FAIL)])
    dreamed = next(row for row in mix.examples if row.kind == "hard")
    told = {"task_id": copied.id, "messages": first_messages(copied, ""), "provenance": f"dream:{copied.id}"}
    leaky = mix.model_copy(update={"examples": (dreamed.model_copy(update=told),)})
    put_leaks_aside(open_house, 1, open_house.store.position(), leaky)
    (aside,) = open_house.store.quarantined(9)
    assert aside.reason == "too close to a frozen task" and secret not in aside.text


def test_a_dreamed_row_with_what_is_a_secret_by_now_takes_its_episode_along(house: House) -> None:
    secret, task = f"mended_{DREAMED[0]}", make_task(DREAMED[0])
    open_house = house.open(redactor=FakeRedactor(secret))
    assert secret not in mix_of(open_house).model_dump_json()
    (aside,) = open_house.store.quarantined(9)
    assert task.id in aside.text and secret not in aside.text
    assert task.id not in {e.task.id for e in open_house.store.episodes(unused=True) if e.task}


def test_an_answer_of_the_days_that_gives_a_frozen_task_away_is_put_aside_with_its_episode(house: House) -> None:
    passed = make_episode(60, PASS)
    both = f"{right_answer(60)} {right_answer(FROZEN[0]).removeprefix('1|')}"
    leaks = passed.attempts[0].model_copy(update={"completion": both})
    house.open().store.save_episodes([passed.model_copy(update={"attempts": (leaks,)})])
    open_house = house.open(mix=mix_settings(replay=0, passed=1, hard=0, max_examples=400))
    mix = mix_of(open_house)
    assert mix.left_out.leaks == 1 and mix.examples
    assert find_leaks(example_rows(mix.examples), open_house.frozen) == ()
    assert passed.id not in {episode.id for episode in open_house.store.episodes(unused=True)}


def test_no_hint_is_in_any_row_of_a_night_after_a_day_with_hints(house: House) -> None:
    open_house = house.open("hints-only")
    tasks = [make_task(number) for number in DAY[:30]]
    hinted = list(
        work_through(
            tasks, BASE, house.server, open_house.verifier, open_house.config.agent, open_house.clock, "hinted",
            open_house.store.save_episode, ways_to_hint(open_house)[1],
        )
    )  # fmt: skip
    assert any(HINTS in episode.attempts[0].messages[1].content for episode in hinted)
    open_house.store.use_up_all(9, 40, PASS)
    mix = mix_of(house.open())
    passed = [row for row in mix.examples if row.kind == "passed"]
    assert {row.provenance for row in passed} <= {episode.id for episode in hinted}
    assert passed
    assert HINTS not in mix.model_dump_json()


def test_the_stages_of_dreaming_are_told_in_the_nights_notes(house: House) -> None:
    mix = mix_of(house.open(mix=mix_settings(dream_temperature=1.5)))
    assert any(note.startswith("dreaming answered 5 failed tasks: 5 by samples") for note in mix.notes)


@pytest.mark.parametrize(("recipe", "more"), [("seed-plain", False), ("rft-anchor", True)])
def test_only_a_recipe_that_dreams_with_hints_asks_with_them(house: House, recipe: RecipeName, more: bool) -> None:
    before = len(house.server.asked)
    mix_of(house.open(recipe))
    later = house.server.asked[before:]
    assert any(HINTS in call.messages[1].content for call in later) == more
    assert any(len(call.messages) > 2 for call in later) == more


def test_dreaming_is_hinted_at_by_nothing_like_a_frozen_task(house: House) -> None:
    copied = solved(FROZEN[0], task=make_task(FROZEN[0]).model_copy(update={"id": "renamed-copy"}))
    open_house = house.open()
    open_house.store.save_episodes([solved(2), copied])
    _, known = ways_to_hint(open_house)
    said = known(make_task(3), FAILED)
    assert "mended_2" in said and f"mended_{FROZEN[0]}" not in said


def test_dreams_are_asked_of_what_serves_and_then_of_the_base(house: House) -> None:
    open_house, start = house.open(), len(house.server.asked)
    house.server.answers["served"] = solver(())
    serving = Adapter(name="served", cycle=1, parent=None, path=house.home, sha256="0" * 64, state=AdapterState.ACTIVE)
    dreams_of(open_house, 2, open_house.store.position(), (), serving)
    assert list(dict.fromkeys(call.model for call in house.server.asked[start:])) == ["served", BASE]


def test_another_night_dreams_with_other_draws(house: House) -> None:
    drawn: list[set[int]] = []
    for cycle in (1, 2):
        house.server.asked.clear()
        made = house.open()
        day = look_back(made)
        dreams_of(made, cycle, day.until, day.fresh, None)
        drawn.append({call.seed for call in house.server.asked})
    assert drawn[0] and not drawn[0] & drawn[1]


def test_a_dreamed_row_is_the_prompt_that_is_served(house: House) -> None:
    mix = mix_of(house.open(mix=mix_settings(dream_temperature=1.5)))
    rows = [row for row in mix.examples if row.kind == "hard"]
    prompts = [first_messages(make_task(number), "error: broken") for number in DREAMED]
    assert rows
    assert all(row.messages in prompts for row in rows)
