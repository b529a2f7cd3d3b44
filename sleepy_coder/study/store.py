"""The study's one SQLite file: days, answers, measurements and finished cells. Reports are written from it alone.

Everything is a record kept as JSON. A save that returned is on the disk; what is saved twice stays as it was first,
except measurements. Every method may raise StoreError, and may be called from several threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import TypeAdapter

from sleepy_coder.errors import StoreError
from sleepy_coder.judge.study_data import Cell, StudyData, StudyFacts, Trajectory
from sleepy_coder.small_database import SmallDatabase
from sleepy_coder.types import Episode, EvalReport, Record, Reply

Kind = Literal["one", "many"]
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, payload TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS episodes (seed INTEGER, cycle INTEGER, id TEXT, payload TEXT NOT NULL,
  PRIMARY KEY (seed, cycle, id));
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, payload TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evals (weights TEXT, kind TEXT, payload TEXT NOT NULL, PRIMARY KEY (weights, kind));
CREATE TABLE IF NOT EXISTS cells (recipe TEXT, seed INTEGER, gated INTEGER, cycle INTEGER, payload TEXT NOT NULL,
  PRIMARY KEY (recipe, seed, gated, cycle));
"""


class Learned(Record):
    """What a training run took, and the KL to the base that it ended with (nats per token, over its last steps)."""

    seconds: float
    kl: float | None


_THEMES: Final = TypeAdapter(tuple[tuple[str, ...], ...])


class StudyStore:
    """Use it as a context manager, or call `close`."""

    def __init__(self, path: Path) -> None:
        self._db = SmallDatabase(path, _TABLES, "the study's store", f"Look at {path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def save_facts(self, facts: StudyFacts) -> None:
        self._db.do("INSERT OR REPLACE INTO facts VALUES ('study', ?)", [facts.model_dump_json()])

    def facts(self) -> StudyFacts | None:
        """What the study is about; None before it was begun."""
        found = self._db.do("SELECT payload FROM facts WHERE name = 'study'")
        return StudyFacts.model_validate_json(found[0][0]) if found else None

    def save_themes(self, seed: int, groups: Sequence[Sequence[str]]) -> None:
        payload = _THEMES.dump_json(tuple(tuple(group) for group in groups)).decode()
        self._db.do("INSERT OR REPLACE INTO facts VALUES (?, ?)", [f"themes/{seed}", payload])

    def save_learned(self, of: Trajectory, cycle: int, learned: Learned) -> None:
        self._db.do("INSERT OR REPLACE INTO facts VALUES (?, ?)", [_learned(of, cycle), learned.model_dump_json()])

    def learned(self, of: Trajectory, cycle: int) -> Learned | None:
        """What training was like in a cycle, also when the process that saw it is gone."""
        found = self._db.do("SELECT payload FROM facts WHERE name = ?", [_learned(of, cycle)])
        return Learned.model_validate_json(found[0][0]) if found else None

    def save_episode(self, seed: int, cycle: int, episode: Episode) -> None:
        row = [seed, cycle, episode.id, episode.model_dump_json()]
        self._db.do("INSERT OR IGNORE INTO episodes VALUES (?, ?, ?, ?)", row)

    def episodes(self, seed: int, cycle: int) -> tuple[Episode, ...]:
        """What is known of a day, by the id of the episode."""
        found = self._db.do("SELECT payload FROM episodes WHERE seed = ? AND cycle = ? ORDER BY id", [seed, cycle])
        return tuple(Episode.model_validate_json(payload) for (payload,) in found)

    def save_answer(self, key: str, reply: Reply) -> None:
        self._db.do("INSERT OR IGNORE INTO answers VALUES (?, ?)", [key, reply.model_dump_json()])

    def answer(self, key: str) -> Reply | None:
        """The reply that was given to the same question by the same weights."""
        found = self._db.do("SELECT payload FROM answers WHERE key = ?", [key])
        return Reply.model_validate_json(found[0][0]) if found else None

    def save_eval(self, weights: str, kind: Kind, report: EvalReport) -> None:
        """Keep what these weights were measured with, without what they said."""
        payload = report.without_completions().model_dump_json(round_trip=True)
        self._db.do("INSERT OR REPLACE INTO evals VALUES (?, ?, ?)", [weights, kind, payload])

    def eval(self, weights: str, kind: Kind) -> EvalReport | None:
        found = self._db.do("SELECT payload FROM evals WHERE weights = ? AND kind = ?", [weights, kind])
        return EvalReport.model_validate_json(found[0][0]) if found else None

    def save_cell(self, cell: Cell) -> None:
        self.save_cells([cell])

    def save_cells(self, cells: Sequence[Cell]) -> None:
        """Keep all of them or none."""
        rows = [[c.recipe, c.seed, c.gated, c.cycle, c.model_dump_json(round_trip=True)] for c in cells]
        self._db.do_all("INSERT OR IGNORE INTO cells VALUES (?, ?, ?, ?, ?)", rows)

    def cells(self) -> tuple[Cell, ...]:
        """The finished cells in the order in which they were finished."""
        found = self._db.do("SELECT payload FROM cells ORDER BY rowid")
        return tuple(Cell.model_validate_json(payload) for (payload,) in found)

    def take_over(self, data: StudyData) -> int:
        """Keep the trajectories that were finished elsewhere and are not begun here; how many there were."""
        if self.facts() is None:
            self.save_facts(data.facts)
        for seed, groups in data.themes.items():
            self.save_themes(seed, groups)
        measured: tuple[tuple[Kind, Mapping[str, EvalReport]], ...] = (("one", data.evals), ("many", data.many))
        for kind, reports in measured:
            for weights, report in reports.items():
                if self.eval(weights, kind) is None:
                    self.save_eval(weights, kind, report)
        begun = [cell.trajectory for cell in self.cells()]
        # One that is not whole cannot be gone on with: its adapters are on the other machine.
        courses = [data.cells_of(of) for of in data.trajectories() if of not in begun]
        whole = [course for course in courses if len(course) == data.facts.cycles]
        for course in whole:  # a part of one would count as begun here, without its adapters
            self.save_cells(course)
        return len(whole)

    def data(self) -> StudyData:
        """All that the reports need. Raises StoreError when nothing was measured yet."""
        # Cells come before what they name: a study that runs beside this measures first and then keeps the cell.
        cells, facts = self.cells(), self.facts()
        found = self._db.do("SELECT weights, kind, payload FROM evals")
        evals = {(weights, kind): EvalReport.model_validate_json(payload) for weights, kind, payload in found}
        if facts is None or (facts.base, "one") not in evals:
            raise StoreError(f"{self._db.path} holds no measured study", "run `sleepy-coder study`")
        groups = self._db.do("SELECT name, payload FROM facts WHERE name LIKE 'themes/%'")
        return StudyData(
            facts=facts,
            cells=cells,
            evals={weights: report for (weights, kind), report in evals.items() if kind == "one"},
            many={weights: report for (weights, kind), report in evals.items() if kind == "many"},
            themes={int(name.partition("/")[2]): _THEMES.validate_json(payload) for name, payload in groups},
        )


def _learned(of: Trajectory, cycle: int) -> str:
    return f"learned/{of.recipe}/{of.seed}/{of.gated}/{cycle}"
