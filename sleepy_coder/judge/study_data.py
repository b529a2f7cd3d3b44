"""What a study records: its cells, and what was measured on the frozen set, by the weights that were measured."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from sleepy_coder.config import RecipeName
from sleepy_coder.errors import StoreError
from sleepy_coder.types import EvalReport, NightReport, Record

HERO: Final[RecipeName] = "rft-anchor"
"""The default recipe, which the others are compared with."""

DAY_TASKS: Final = 180
SAMPLES: Final = 4
"""The size of a study unless another is asked for: tasks of one day at most, and answers per task for pass@k."""


class Trajectory(Record):
    """One recipe with one seed, gated or not."""

    recipe: RecipeName
    seed: int
    gated: bool


class Cell(Record):
    """One cycle of one trajectory. `served`, `before` and `candidate` are keys of `StudyData.evals`.

    `night` has no reports of its own: what was measured is in `evals`, on the whole frozen set. `kl` is the KL to the
    base in nats per token over the last steps of training; `train_seconds` what training took when it was done, and
    `seconds` the cell as it was run here, where work that an equal cell had done before is not done again. `code` names
    the sources that ran it, None where that was not recorded.
    """

    recipe: RecipeName
    seed: int
    gated: bool
    cycle: int
    outcome: str
    before: str
    served: str
    candidate: str | None
    night: NightReport | None
    kl: float | None
    train_seconds: float
    seconds: float
    code: str | None = None

    @property
    def trajectory(self) -> Trajectory:
        """Whose cycle it is."""
        return Trajectory(recipe=self.recipe, seed=self.seed, gated=self.gated)


class StudyFacts(Record):
    """What a study is about. `base` is the key of the baseline; `frozen` tasks judge; `samples` of each give pass@k."""

    base: str
    base_name: str
    cycles: int
    day_tasks: int
    samples: int
    quick: bool
    frozen: int
    set_id: str


class StudyData(Record):
    """All that is known: the cells, what was measured by key, and the themes (groups of frozen tasks) by seed.

    `many` are reports with several samples per task, of the first and the last weights only.
    """

    facts: StudyFacts
    cells: tuple[Cell, ...]
    evals: Mapping[str, EvalReport]
    many: Mapping[str, EvalReport]
    themes: Mapping[int, tuple[tuple[str, ...], ...]]

    def trajectories(self) -> tuple[Trajectory, ...]:
        """Those with a finished cell, in the order in which they were begun."""
        return tuple(dict.fromkeys(cell.trajectory for cell in self.cells))

    def cells_of(self, of: Trajectory) -> tuple[Cell, ...]:
        """The finished cells of one trajectory, by cycle."""
        return tuple(sorted((c for c in self.cells if c.trajectory == of), key=lambda c: c.cycle))

    def shown(self) -> Trajectory | None:
        """The one whose nights the dashboard shows: the default recipe's first, with the gate where there is one."""
        trained = [of for of in self.trajectories() if any(c.night and c.candidate for c in self.cells_of(of))]
        return min(trained, key=lambda of: (of.recipe != HERO, not of.gated, of.seed), default=None)


class StudyExport(Record):
    """All that one machine has finished of a study, for another; `identity` names what its cells depend on."""

    identity: str
    data: StudyData

    def pack(self) -> bytes:
        """As a file: JSON through gzip, the same bytes for the same study."""
        return gzip.compress(self.model_dump_json(round_trip=True).encode(), mtime=0)

    @classmethod
    def unpack(cls, path: Path) -> StudyExport:
        """Raises StoreError for what is no such file."""
        try:
            return cls.model_validate_json(gzip.decompress(path.read_bytes()))
        except (OSError, EOFError, zlib.error, ValidationError) as error:
            why = f"{error.error_count()} fields are wrong" if isinstance(error, ValidationError) else error
            raise StoreError(
                f"{path} is not a study-data.json.gz ({why})", "`sleepy-coder study --out` writes one"
            ) from error
