"""The store's schema as named, append-only steps: add a new one below, never edit one that was released.

Records are JSON in `payload`; the other columns are those that are searched.
"""

from __future__ import annotations

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

MIGRATIONS = Migrations("sleepy_coder")


@MIGRATIONS(name="0001_initial")
def initial(db: Database) -> None:
    """Everything the first release stores."""
    db.executescript(
        """
        CREATE TABLE episodes (
            position INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            session TEXT NOT NULL,
            source TEXT NOT NULL,
            task_id TEXT,
            family TEXT,
            outcome TEXT NOT NULL,
            created TEXT NOT NULL,
            used_in INTEGER,
            payload TEXT NOT NULL
        ) STRICT;
        CREATE INDEX episodes_unused ON episodes (position) WHERE used_in IS NULL;
        CREATE INDEX episodes_by_family ON episodes (family, outcome);

        CREATE TABLE nights (
            cycle INTEGER PRIMARY KEY,
            outcome TEXT,
            payload TEXT
        ) STRICT;
        CREATE TABLE phases (
            cycle INTEGER NOT NULL REFERENCES nights (cycle),
            name TEXT NOT NULL,
            seconds REAL NOT NULL,
            payload TEXT NOT NULL,
            PRIMARY KEY (cycle, name)
        ) STRICT;

        CREATE TABLE evals (
            position INTEGER PRIMARY KEY,
            cycle INTEGER,
            model TEXT NOT NULL,
            arm TEXT NOT NULL,
            set_id TEXT NOT NULL,
            payload TEXT NOT NULL
        ) STRICT;
        CREATE INDEX evals_by_set ON evals (set_id, model);

        CREATE TABLE examples (
            position INTEGER PRIMARY KEY,
            sha256 TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL,
            family TEXT NOT NULL,
            payload TEXT NOT NULL
        ) STRICT;
        CREATE TABLE example_nights (
            example INTEGER NOT NULL REFERENCES examples (position),
            cycle INTEGER NOT NULL REFERENCES nights (cycle),
            PRIMARY KEY (example, cycle)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE parked (
            task_id TEXT PRIMARY KEY,
            failures INTEGER NOT NULL,
            cycle INTEGER NOT NULL,
            not_before INTEGER NOT NULL
        ) STRICT;

        CREATE TABLE quarantine (
            position INTEGER PRIMARY KEY,
            sha256 TEXT NOT NULL UNIQUE,
            source TEXT NOT NULL,
            reason TEXT NOT NULL,
            payload TEXT NOT NULL,
            created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
        ) STRICT;
        """
    )


@MIGRATIONS(name="0002_exchanges")
def exchanges(db: Database) -> None:
    """What passed the gateway."""
    db.executescript(
        """
        CREATE TABLE exchanges (
            position INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            session TEXT NOT NULL,
            session_source TEXT NOT NULL,
            wire TEXT NOT NULL,
            whole INTEGER NOT NULL,
            started TEXT NOT NULL,
            payload TEXT NOT NULL
        ) STRICT;
        CREATE INDEX exchanges_by_session ON exchanges (session, position);
        """
    )


@MIGRATIONS(name="0003_collected")
def collected(db: Database) -> None:
    """Which exchanges have become episodes, and what people and verifiers say of sessions."""
    db.executescript(
        """
        ALTER TABLE exchanges ADD COLUMN collected INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX exchanges_to_collect ON exchanges (position) WHERE collected = 0;

        CREATE TABLE feedback (
            session TEXT PRIMARY KEY,
            good INTEGER NOT NULL,
            note TEXT NOT NULL
        ) STRICT;

        CREATE TABLE session_checks (
            session TEXT PRIMARY KEY,
            started TEXT NOT NULL,
            payload TEXT
        ) STRICT;
        """
    )
