"""The store in figures, for whoever watches from outside: cheap enough to be asked for at every scrape."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter

from sleepy_coder.store_database import StoreDatabase
from sleepy_coder.types import Phase, Record

_PHASES = TypeAdapter(tuple[Phase, ...])


class EpisodeCount(Record):
    """How many episodes of one source ended in one way."""

    source: str
    outcome: str
    count: int


class LastNight(Record):
    """The last night that ended; seconds of wall-clock time by step, in order."""

    cycle: int
    outcome: str
    finished: datetime
    phases: dict[str, float]


class Figures(Record):
    """What is in the store. `today` are the episodes made since the moment asked for."""

    episodes: tuple[EpisodeCount, ...]
    today: int
    quarantined: int
    nights: dict[str, int]
    decisions: dict[str, int]
    last: LastNight | None


class FigureStore:
    """Counts, without reading a single episode."""

    _db: StoreDatabase

    def figures(self, since: datetime) -> Figures:
        """The counts, `today` from `since` on. One scan of an index over all episodes."""
        with self._db.snapshot():
            return Figures(
                episodes=tuple(
                    EpisodeCount(source=source, outcome=outcome, count=count)
                    for source, outcome, count in self._db.rows(
                        "SELECT source, outcome, count(*) FROM episodes GROUP BY source, outcome"
                    )
                ),
                today=self._made_since(since),
                quarantined=self._db.rows("SELECT count(*) FROM quarantine")[0][0],
                nights=dict(
                    self._db.rows("SELECT outcome, count(*) FROM nights WHERE outcome IS NOT NULL GROUP BY outcome")
                ),
                decisions=dict(
                    self._db.rows(
                        "SELECT json_extract(phases.payload, '$.decision') AS decision, count(*) FROM nights"
                        " CROSS JOIN phases ON phases.cycle = nights.cycle AND phases.name = 'gate' GROUP BY decision"
                    )
                ),
                last=self._last_night(),
            )

    def _made_since(self, since: datetime) -> int:
        """Times are texts, each in a zone of its own: the first comparison only leaves out what is far away."""
        rows = self._db.rows(
            "SELECT count(*) FROM episodes WHERE created >= :roughly AND julianday(created) >= julianday(:since)",
            {
                "roughly": (since.astimezone(UTC) - timedelta(days=1)).date().isoformat(),
                "since": since.astimezone(UTC).isoformat(),
            },
        )
        return rows[0][0]

    def _last_night(self) -> LastNight | None:
        rows = self._db.rows(
            "SELECT cycle, outcome, json_extract(payload, '$.finished'), json_extract(payload, '$.phases') FROM nights"
            " WHERE outcome IS NOT NULL ORDER BY cycle DESC LIMIT 1"
        )
        if not rows:
            return None
        cycle, outcome, finished, phases = rows[0]
        return LastNight(
            cycle=cycle,
            outcome=outcome,
            finished=datetime.fromisoformat(finished),
            phases={phase.name: phase.seconds for phase in _PHASES.validate_json(phases)},
        )
