"""A frozen set that has judged its share is replaced by tasks that nobody has seen, and a new epoch begins."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import (
    BASE,
    FROZEN,
    FakeServer,
    FakeTrainer,
    FakeVerifier,
    alone,
    live_a_day,
    make_episode,
    make_rows,
    make_task,
    parts,
    right_answer,
    settings,
    solver,
    tasks_of,
)
from test_cli import Done, home  # noqa: F401  (the fixture is used below)
from test_store import night

from sleepy_coder.config import GatePolicy, MixSettings
from sleepy_coder.errors import SleepyError, TaskFormatError
from sleepy_coder.judge.spending import prices
from sleepy_coder.night import run_night
from sleepy_coder.renewal import renew
from sleepy_coder.store import Store
from sleepy_coder.tasks import load_split, set_id, task_id
from sleepy_coder.tasks.frozen import FrozenSets
from sleepy_coder.tasks.proof import Rustc
from sleepy_coder.tasks.renew import draw_unseen, own_frozen, unseen_koans
from sleepy_coder.types import Outcome, Task

FAMILIES = ("misspelled_method", "use_after_move")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "sleepy.db") as opened:
        yield opened


def written(path: Path, tasks: tuple[Task, ...]) -> Path:
    path.write_text("".join(f"{task.model_dump_json()}\n" for task in tasks))
    return path


def test_the_packaged_set_judges_until_another_is_added_and_all_are_kept(tmp_path: Path) -> None:
    sets = FrozenSets(tmp_path)
    assert (sets.current(), sets.retired(), len(sets.all())) == (load_split("frozen"), (), 1)
    first, second = tasks_of(FROZEN[:5]), (*tasks_of(FROZEN[3:9]),)
    sets.add(first)
    path = sets.add(second)
    assert (sets.current(), len(sets.all())) == (second, 3)
    assert {task.id for task in sets.retired()} == {task.id for task in (*load_split("frozen"), *first[:3])}
    assert path.name == f"frozen-0002-{set_id(second)}.jsonl"


def test_a_set_that_was_changed_judges_nobody(tmp_path: Path) -> None:
    sets = FrozenSets(tmp_path)
    path = sets.add(tasks_of(FROZEN[:5]))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(TaskFormatError, match="not the one that was written"):
        sets.current()


def test_a_set_whose_programs_hold_line_separators_is_read_as_it_was_written(tmp_path: Path) -> None:
    sets = FrozenSets(tmp_path)
    tasks = tuple(task.model_copy(update={"prompt": f"a\u2028b\u0085{task.prompt}"}) for task in tasks_of(FROZEN[:2]))
    sets.add(tasks)
    assert sets.current() == tasks


def test_unseen_koans_are_new_programs_that_the_compiler_has_proved() -> None:
    seen = {task.cluster for task in load_split("frozen")}
    heard: list[int] = []
    found = unseen_koans(1, seen, [], Rustc.find(), heard.append, FAMILIES[:1])
    assert len(found) == len(heard) == 6
    assert not seen & {task.cluster for task in found}
    assert all(task.expected_stdout or task.hidden_tests for task in found)


def test_unseen_koans_that_are_too_close_to_what_was_trained_on_are_left_out() -> None:
    drawn = draw_unseen(1, set(), [], FAMILIES)
    trained = [("row", f"fn extra() {{}}\n{drawn[0].draft.fixed}")]
    left = draw_unseen(1, set(), trained, FAMILIES)
    assert drawn[0] not in left and 0 < len(left) < len(drawn) == 12
    assert draw_unseen(1, {drawn[0].cluster}, [], FAMILIES)[0] != drawn[0]


def test_own_tasks_that_were_practised_cannot_judge() -> None:
    task = load_split("day")[0]
    with pytest.raises(TaskFormatError, match=rf"exam\.jsonl, line 3 \({task.id}\)"):
        own_frozen([("exam.jsonl, line 3", task)], [("row", task.files["main.rs"])])


def test_own_tasks_take_the_place_of_the_frozen_set(tmp_path: Path, store: Store) -> None:
    tasks = load_split("frozen")[:40]
    sets, config = FrozenSets(tmp_path), settings(tmp_path)
    found = renew(
        config, store, sets, FakeVerifier(), written(tmp_path / "own.jsonl", tasks), False, lambda _: None, ()
    )
    assert (found.tasks, found.retired, found.set_id) == (40, 332, set_id(tasks))
    assert sets.current() == tasks


def test_weights_are_chosen_on_the_packaged_koans_where_koans_judge(tmp_path: Path) -> None:
    sets = FrozenSets(tmp_path)
    assert sets.dev() == load_split("dev")
    sets.add(load_split("frozen")[:40])
    assert sets.dev() == load_split("dev")


def test_no_koans_choose_what_own_tasks_will_judge(tmp_path: Path) -> None:
    sets = FrozenSets(tmp_path)
    sets.add(tuple(make_task(number) for number in range(3)))
    assert sets.dev() == ()


def test_own_dev_tasks_choose_until_the_next_set_judges(tmp_path: Path, store: Store) -> None:
    exam, dev = tasks_of(FROZEN[:1]), (make_task(6), make_task(7))
    sets, config = FrozenSets(tmp_path), settings(tmp_path)
    source, beside = written(tmp_path / "own.jsonl", exam), written(tmp_path / "own-dev.jsonl", dev)
    found = renew(config, store, sets, FakeVerifier(), source, False, lambda _: None, (), beside)
    assert (found.dev, sets.dev()) == (2, dev)
    sets.add((make_task(8),))
    assert sets.dev() == ()


def test_a_task_that_was_practised_is_not_chosen_on(tmp_path: Path, store: Store) -> None:
    store.save_episode(make_episode(6, Outcome.PASS))
    source = written(tmp_path / "own.jsonl", tasks_of(FROZEN[:1]))
    dev = written(tmp_path / "own-dev.jsonl", (make_task(6),))
    with pytest.raises(TaskFormatError, match=make_task(6).id):
        renew(settings(tmp_path), store, FrozenSets(tmp_path), FakeVerifier(), source, False, lambda _: None, (), dev)


def test_a_task_that_is_chosen_on_cannot_judge(tmp_path: Path, store: Store) -> None:
    source = written(tmp_path / "own.jsonl", (*tasks_of(FROZEN[:1]), make_task(6)))
    dev = written(tmp_path / "own-dev.jsonl", (make_task(6),))
    sets = FrozenSets(tmp_path)
    with pytest.raises(TaskFormatError, match=make_task(6).id):
        renew(settings(tmp_path), store, sets, FakeVerifier(), source, False, lambda _: None, (), dev)
    assert sets.current() == load_split("frozen")


def test_tasks_that_pass_as_they_stand_or_whose_fix_fails_are_refused_by_name(tmp_path: Path, store: Store) -> None:
    tasks = load_split("frozen")[:4]
    no_fix = tasks[0].model_copy(update={"reference": {"main.rs": "fn main() { wrong }"}})
    source = written(tmp_path / "own.jsonl", (no_fix, *tasks[1:]))

    class Easy(FakeVerifier):
        def verify(self, task: Task, files: dict[str, str]):  # noqa: ANN202
            return (
                super().verify(tasks[1], tasks[1].reference or {})
                if task.id == tasks[1].id
                else super().verify(task if task.id != no_fix.id else tasks[0], files)
            )

    sets = FrozenSets(tmp_path)
    with pytest.raises(TaskFormatError, match="2 tasks cannot judge") as refused:
        renew(settings(tmp_path), store, sets, Easy(), source, False, lambda _: None, ())
    first, second = (line for line in refused.value.message.split("\n") if "own.jsonl" in line)
    assert first.startswith(f"own.jsonl, line 1 ({no_fix.id}, ") and "its own reference fails" in first
    assert second.startswith(f"own.jsonl, line 2 ({tasks[1].id}, ") and "it passes as it stands" in second
    assert "FILE" not in refused.value.remedy and f"--from {source} --check" in refused.value.remedy
    assert sets.current() == load_split("frozen")


def test_a_task_to_choose_on_whose_fix_fails_is_refused_by_name_as_well(tmp_path: Path, store: Store) -> None:
    source = written(tmp_path / "own.jsonl", tasks_of(FROZEN[:1]))
    no_fix = make_task(6).model_copy(update={"reference": make_task(6).files})
    dev = written(tmp_path / "own-dev.jsonl", (no_fix, make_task(7)))
    sets = FrozenSets(tmp_path)
    with pytest.raises(TaskFormatError, match=f"1 tasks cannot judge:\\n.*{no_fix.id}.*its own reference fails"):
        renew(settings(tmp_path), store, sets, FakeVerifier(), source, False, lambda _: None, (), dev)
    assert sets.current() == load_split("frozen")


def test_a_set_is_not_renewed_in_the_middle_of_a_night_nor_while_its_epoch_has_openings(
    tmp_path: Path, store: Store
) -> None:
    source = written(tmp_path / "own.jsonl", load_split("frozen")[:40])
    sets, config = FrozenSets(tmp_path), settings(tmp_path)

    def asked(early: bool = False) -> None:
        renew(config, store, sets, FakeVerifier(), source, early, lambda _: None, ())

    store.begin_night(1)
    with pytest.raises(SleepyError, match="night 1 is not finished"):
        asked()
    store.open_gate(1, "a", [f"p{i}" for i in range(9)], [0.001] * 50)
    with Store(tmp_path / "other.db") as other:
        other.open_gate(1, "a", [f"p{i}" for i in range(9)], [0.001] * 50)
        with pytest.raises(SleepyError, match="49 of 50 openings left"):
            renew(config, other, sets, FakeVerifier(), source, False, lambda _: None, ())
        renew(config, other, sets, FakeVerifier(), source, True, lambda _: None, ())


def test_an_epoch_that_a_changed_policy_left_unable_to_pay_can_be_renewed_though_openings_are_left(
    tmp_path: Path, store: Store
) -> None:
    source = written(tmp_path / "own.jsonl", load_split("frozen")[:40])
    store.open_gate(1, "a", [f"p{i}" for i in range(9)], [0.05])
    assert store.openings_left(prices(GatePolicy())) == 0
    renew(settings(tmp_path), store, FrozenSets(tmp_path), FakeVerifier(), source, False, lambda _: None, ())


def test_a_task_of_a_watched_run_which_has_no_prompt_cannot_judge_either(tmp_path: Path, store: Store) -> None:
    met = make_episode(5, Outcome.PASS)
    assert met.task is not None
    store.save_episode(met.model_copy(update={"task": met.task.model_copy(update={"prompt": ""})}))
    source = written(tmp_path / "own.jsonl", (make_task(5),))
    with pytest.raises(TaskFormatError, match="too close to what is practised"):
        renew(settings(tmp_path), store, FrozenSets(tmp_path), FakeVerifier(), source, False, lambda _: None, ())


def test_tasks_that_have_judged_before_do_not_renew_the_budget(tmp_path: Path, store: Store) -> None:
    tasks = load_split("frozen")[:40]
    store.open_gate(1, "a", [task.cluster for task in tasks], [0.05])
    store.open_gate(2, "b", [f"p{i}" for i in range(9)], [0.05])
    source, sets = written(tmp_path / "own.jsonl", tasks), FrozenSets(tmp_path)
    with pytest.raises(TaskFormatError, match="have judged before"):
        renew(settings(tmp_path), store, sets, FakeVerifier(), source, True, lambda _: None, ())


def test_the_same_exam_with_a_line_more_does_not_renew_the_budget(tmp_path: Path, store: Store) -> None:
    def exam(more: str) -> Path:
        rows = [
            {
                "prompt": task.prompt,
                "files": {"main.rs": task.files["main.rs"] + more, "note.md": more},
                "reference": {"main.rs": (task.reference or {})["main.rs"] + more, "note.md": more},
                "expected_stdout": "",
            }
            for task in load_split("frozen")[:40]
        ]
        path = tmp_path / "own.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return path

    sets = FrozenSets(tmp_path)
    renew(settings(tmp_path), store, sets, FakeVerifier(), exam(""), False, lambda _: None, ())
    judged = sets.current()
    store.open_gate(1, "a", [task.cluster for task in judged], [0.05])
    with pytest.raises(TaskFormatError, match="near copies of them, have judged before"):
        renew(settings(tmp_path), store, sets, FakeVerifier(), exam("\n"), True, lambda _: None, ())
    assert sets.current() == judged


def test_a_task_that_was_met_by_day_cannot_judge(tmp_path: Path, store: Store) -> None:
    store.save_episode(make_episode(5, Outcome.PASS))
    source = written(tmp_path / "own.jsonl", (make_task(5),))
    with pytest.raises(TaskFormatError, match="too close to what is practised"):
        renew(settings(tmp_path), store, FrozenSets(tmp_path), FakeVerifier(), source, False, lambda _: None, ())


def test_what_is_a_row_of_an_earlier_night_cannot_judge(tmp_path: Path, store: Store) -> None:
    (row,) = make_rows("passed", 1)
    store.begin_night(1)
    store.save_examples(1, [row.model_copy(update={"completion": right_answer(5)})])
    store.finish_night(night(1))
    source = written(tmp_path / "own.jsonl", (make_task(5),))
    with pytest.raises(TaskFormatError, match="too close to what is practised"):
        renew(settings(tmp_path), store, FrozenSets(tmp_path), FakeVerifier(), source, False, lambda _: None, ())


def test_what_is_a_row_of_the_users_own_cannot_judge(tmp_path: Path, store: Store) -> None:
    task = make_task(5)
    texts = ("\n".join((task.prompt, *task.files.values())), "\n".join((task.reference or {}).values()))
    said = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), texts, strict=True)]
    (tmp_path / "own.jsonl").write_text(json.dumps({"messages": said}) + "\n")
    config = settings(tmp_path, mix=MixSettings(sft_file=Path("own.jsonl")))
    source = written(tmp_path / "exam.jsonl", (task,))
    with pytest.raises(TaskFormatError, match="too close to what is practised"):
        renew(config, store, FrozenSets(tmp_path), FakeVerifier(), source, False, lambda _: None, ())


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_a_task_retires_no_frozen_set(tmp_path: Path, store: Store, content: str) -> None:
    sets, source = FrozenSets(tmp_path), tmp_path / "empty.jsonl"
    source.write_text(content)
    with pytest.raises(TaskFormatError, match="holds no task"):
        renew(settings(tmp_path), store, sets, FakeVerifier(), source, True, lambda _: None, ())
    assert sets.current() == load_split("frozen")


def test_what_has_chosen_weights_cannot_judge(tmp_path: Path, store: Store) -> None:
    sets, dev = FrozenSets(tmp_path), (make_task(6), make_task(7))
    sets.add(tasks_of(FROZEN[:1]), dev)
    source = written(tmp_path / "next.jsonl", dev)
    with pytest.raises(TaskFormatError, match="too close to what is practised"):
        renew(settings(tmp_path), store, sets, FakeVerifier(), source, True, lambda _: None, ())


SKILLS = (*range(100), *range(100, 120))


def test_with_a_renewed_set_a_new_epoch_begins_and_all_arms_are_measured_anew(tmp_path: Path) -> None:
    server = FakeServer(solver((*FROZEN[:30], *FROZEN[100:130], *SKILLS)))
    trainer = FakeTrainer((*FROZEN[:45], *FROZEN[100:150], *SKILLS))
    house = parts(tmp_path, server, trainer)
    live_a_day(house, range(40))
    programs = sorted({task.cluster for task in house.frozen})
    for cycle in range(100, 150):
        house.store.open_gate(cycle, "x", programs, [0.001] * 50)
    spent = run_night(house)
    assert spent.reason == "BUDGET_EXHAUSTED"
    fresh = tasks_of(FROZEN[100:164])
    renewed = dataclasses.replace(
        house, frozen=fresh, clusters=alone(fresh), retired=house.frozen, policy=GatePolicy(autonomous_clusters=60)
    )
    report = run_night(renewed)
    assert report.outcome == "promoted"
    assert report.verdict is not None and report.verdict.evidence is not None
    assert (report.verdict.evidence.epoch, report.verdict.evidence.opening) == (2, 1)
    assert {arm.set_id for arm in report.reports} == {set_id(fresh)}
    assert report.reports[0].model == BASE
    house.store.close()


def test_a_retired_task_is_not_trained_on(tmp_path: Path) -> None:
    house = parts(tmp_path, FakeServer(solver(SKILLS)), FakeTrainer(SKILLS))
    live_a_day(house, range(40))
    report = run_night(dataclasses.replace(house, retired=(make_task(5),)))
    assert (report.outcome, report.left_out.leaks, report.candidate) == ("skipped", 40, None)
    house.store.close()


def test_own_tasks_judge_by_one_command(home: Path) -> None:  # noqa: F811
    tasks = load_split("frozen")[:3]
    source = written(home / "exam.jsonl", tasks)
    found = Done("gate", "renew", "--yes", "--from", str(source), "--json").json
    assert (found["tasks"], found["set_id"]) == (3, set_id(tasks))
    assert "3 tasks" in Done("koans", "list", "--split", "frozen").out
    gate = Done("status", "--json").json["gate"]
    assert (gate["epoch"], gate["openings_used"]) == (1, 0) and gate["small_set"].startswith("3 clusters")
    again = Done("gate", "renew", "--from", str(home / "missing.jsonl"))
    assert (again.status, "Retire" in again.err, "does not exist" in again.err) == (2, False, True)


def command_task(word: str, command: list[str], **more: object) -> str:
    files = {"add.sh": f"echo {word} # the sum of all that is on the bill\n"}
    return json.dumps({"prompt": f"Say {word}.", "language": "sh", "files": files, "command": command, **more}) + "\n"


def test_of_a_task_that_cannot_be_checked_here_it_is_said_what_is_missing(home: Path) -> None:  # noqa: F811
    source = home / "exam.jsonl"
    source.write_text(f"# mine\n{command_task('one', ['no-such-tool', 'test'])}")
    done = Done("gate", "renew", "--yes", "--from", str(source))
    assert done.status == 1 and "exam.jsonl, line 2" in done.err and "'Say one.'" in done.err
    assert "`no-such-tool test` cannot be run here" in done.err
    assert f"koans run --from {source} --check" in done.err


def test_tasks_without_a_reference_judge_and_it_is_said_that_nobody_knows_whether_they_can_pass(
    home: Path,  # noqa: F811
) -> None:
    right = {"add.sh": "echo two\n"}
    command = ["sh", "-c", "test $(sh add.sh) = two"]
    source = home / "exam.jsonl"
    source.write_text(command_task("one", ["false"]) + command_task("three", command, reference=right))
    done = Done("gate", "renew", "--yes", "--from", str(source))
    assert done.status == 0 and "1 tasks have no reference" in " ".join(done.out.split())


def test_an_exam_is_looked_at_without_a_model_and_without_being_practised(home: Path) -> None:  # noqa: F811
    right = {"add.sh": "echo two\n"}
    tests = ["sh", "-c", "test $(sh add.sh) = two"]
    source = home / "exam.jsonl"
    source.write_text(command_task("one", tests, reference=right))
    before = sorted(home.rglob("*"))
    done = Done("koans", "run", "--from", str(source), "--check")
    assert done.status == 0 and "1 of 1 tasks tell a right answer from a wrong one" in done.out
    assert sorted(home.rglob("*")) == before
    assert Done("gate", "renew", "--yes", "--from", str(source)).status == 0


def test_a_check_of_tasks_says_of_each_that_cannot_judge_why(home: Path) -> None:  # noqa: F811
    echo = ["sh", "-c", "echo $(sh add.sh) is said; test $(sh add.sh) = two"]
    source = home / "exam.jsonl"
    source.write_text(
        command_task("two", ["sh", "add.sh"])
        + command_task("one", echo, reference={"add.sh": "echo six\n"})
        + command_task("four", ["no-such-tool"])
        + command_task("five", ["false"])
    )
    done = Done("koans", "run", "--from", str(source), "--check")
    assert done.status == 1 and "1 of 4 tasks" in done.out and "3 have no reference" in done.out
    told = done.err.split("exam.jsonl, ")[1:]
    assert "line 1" in told[0] and "it passes as it stands" in told[0]
    assert "line 2" in told[1] and "its own reference fails" in told[1] and "six is said" in told[1]
    assert "line 3" in told[2] and "it cannot be checked here" in told[2] and "no-such-tool" in told[2]
    found = json.loads(Done("koans", "run", "--from", str(source), "--check", "--json").out)
    assert [one["control"]["broken"] for one in found] == ["P", "F", "I", "F"]


def test_of_an_exam_that_is_mostly_one_program_it_is_said_why(home: Path) -> None:  # noqa: F811
    one = load_split("frozen")[0]
    tasks: list[Task] = []
    for prompt in ("Mend it.", "What is wrong here?", "Please correct all of this."):
        id = task_id(one.files, prompt, one.command, one.expected_stdout, one.hidden_tests)
        tasks.append(one.model_copy(update={"id": id, "prompt": prompt}))
    source = written(home / "exam.jsonl", tuple(tasks))
    said = " ".join(Done("gate", "renew", "--yes", "--from", str(source)).out.split())
    two = " and ".join(sorted(task.id for task in tasks)[:2])
    assert f"The largest cluster holds 3 tasks, {two} among them, joined as: same program." in said
    assert "fewer than 60 (gate.min_clusters)" in said
