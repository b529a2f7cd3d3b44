"""The store's schema as named, append-only steps: add a new one below, never edit one that was released.

Records are JSON in `payload`; the other columns are those that are searched.
"""

from __future__ import annotations

from datetime import UTC

from sleepy_coder.store_lessons import lesson_of
from sleepy_coder.store_sqlite import Database, Migrations
from sleepy_coder.tasks.fresh import bucket_of
from sleepy_coder.types import Episode

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


@MIGRATIONS(name="0004_lessons")
def lessons(db: Database) -> None:
    """What a night chooses by, beside the payloads, so that it reads only those that it draws."""
    for column in ("tried INTEGER", "passed INTEGER", "answer INTEGER", "dreamable INTEGER NOT NULL DEFAULT 0"):
        db.conn.execute(f"ALTER TABLE episodes ADD COLUMN {column}")
    page = (
        "SELECT position, payload FROM episodes WHERE position > ? AND task_id IS NOT NULL ORDER BY position LIMIT 256"
    )
    last = 0
    while rows := db.conn.execute(page, [last]).fetchall():
        for position, payload in rows:
            if (lesson := lesson_of(Episode.model_validate_json(payload))) is not None:
                db.conn.execute(
                    "UPDATE episodes SET tried = ?, passed = ?, answer = ?, dreamable = ? WHERE position = ?",
                    [lesson.tried, lesson.passed, lesson.answer, lesson.dreamable, position],
                )
        last = rows[-1][0]
    # It holds all columns that are asked for: not one of the wide rows is touched.
    db.conn.execute(
        "CREATE INDEX episodes_of_the_day ON episodes"
        " (task_id, answer, position, outcome, tried, passed, dreamable, used_in)"
        " WHERE used_in IS NULL AND task_id IS NOT NULL"
    )


@MIGRATIONS(name="0005_messages")
def messages(db: Database) -> None:
    """The messages of requests, each once; an exchange from before has no skeleton and holds its whole request."""
    db.executescript(
        """
        CREATE TABLE messages (
            id INTEGER PRIMARY KEY,
            sha256 BLOB NOT NULL UNIQUE,
            text TEXT NOT NULL
        ) STRICT;
        ALTER TABLE exchanges ADD COLUMN skeleton TEXT;
        """
    )


@MIGRATIONS(name="0006_figures")
def figures(db: Database) -> None:
    """Episodes are counted at every scrape, without touching one of the wide rows."""
    db.conn.execute("CREATE INDEX episodes_by_source ON episodes (source, outcome, created)")


@MIGRATIONS(name="0010_gate_epochs")
def gate_epochs(db: Database) -> None:
    """What the gate spends and says. Nothing of it can be changed or deleted, not even by REPLACE."""
    db.executescript(
        """
        CREATE TABLE gate_epochs (
            epoch INTEGER PRIMARY KEY,
            alpha REAL NOT NULL,
            programs TEXT NOT NULL
        ) STRICT;
        CREATE TABLE gate_openings (
            cycle INTEGER PRIMARY KEY,
            epoch INTEGER NOT NULL REFERENCES gate_epochs (epoch),
            number INTEGER NOT NULL,
            candidate TEXT NOT NULL,
            spends REAL NOT NULL
        ) STRICT;
        CREATE TABLE gate_verdicts (
            position INTEGER PRIMARY KEY,
            cycle INTEGER NOT NULL,
            payload TEXT NOT NULL,
            previous TEXT NOT NULL,
            sha256 TEXT NOT NULL
        ) STRICT;
        """
    )
    for table, key in (("gate_epochs", "epoch"), ("gate_openings", "cycle"), ("gate_verdicts", "cycle")):
        for verb in ("UPDATE", "DELETE"):
            db.executescript(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;"
            )
        db.executescript(
            f"CREATE TRIGGER {table}_once BEFORE INSERT ON {table}"
            f" WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key} OR rowid = NEW.rowid)"
            f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;"
        )


@MIGRATIONS(name="0011_canary")
def canary(db: Database) -> None:
    """Promotions under watch. Nothing of the evidence can be changed or deleted, not even by REPLACE."""
    db.executescript(
        """
        CREATE TABLE canaries (
            id TEXT NOT NULL UNIQUE,
            adapter TEXT NOT NULL,
            previous TEXT NOT NULL,
            began TEXT NOT NULL,
            after INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE canary_stages (
            position INTEGER PRIMARY KEY,
            canary TEXT NOT NULL REFERENCES canaries (id),
            stage TEXT NOT NULL,
            share REAL NOT NULL,
            at TEXT NOT NULL,
            why TEXT NOT NULL
        ) STRICT;
        CREATE INDEX canary_stages_by_canary ON canary_stages (canary, position);
        CREATE TABLE canary_sessions (
            position INTEGER PRIMARY KEY,
            canary TEXT NOT NULL,
            session TEXT NOT NULL,
            new INTEGER NOT NULL,
            share REAL NOT NULL,
            UNIQUE (canary, session)
        ) STRICT;
        CREATE TABLE canary_outcomes (
            position INTEGER PRIMARY KEY,
            canary TEXT NOT NULL,
            kind TEXT NOT NULL,
            session TEXT NOT NULL,
            new INTEGER NOT NULL,
            share REAL NOT NULL,
            failed INTEGER NOT NULL,
            evidence TEXT NOT NULL,
            UNIQUE (canary, kind, session)
        ) STRICT;
        CREATE TABLE canary_replays (
            position INTEGER PRIMARY KEY,
            canary TEXT NOT NULL,
            task TEXT NOT NULL,
            cycle INTEGER NOT NULL,
            served REAL NOT NULL,
            previous REAL NOT NULL,
            UNIQUE (canary, task)
        ) STRICT;
        CREATE TABLE canary_drills (
            position INTEGER PRIMARY KEY,
            payload TEXT NOT NULL
        ) STRICT;
        CREATE INDEX episodes_verified_by_session ON episodes (session, position)
            WHERE source = 'gateway' AND tried IS NOT NULL;
        """
    )
    keys = {"canaries": "id", "canary_sessions": "session", "canary_outcomes": "session", "canary_replays": "task"}
    same = {"canaries": "TRUE", "canary_outcomes": "canary = NEW.canary AND kind = NEW.kind"}
    for table in (*keys, "canary_stages", "canary_drills"):
        for verb in ("UPDATE", "DELETE"):
            db.executescript(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;"
            )
        known = "rowid = NEW.rowid"
        if table in keys:
            known += f" OR ({same.get(table, 'canary = NEW.canary')} AND {keys[table]} = NEW.{keys[table]})"
        db.executescript(
            f"CREATE TRIGGER {table}_once BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {known})"
            " BEGIN SELECT RAISE(IGNORE); END;"
        )


@MIGRATIONS(name="0012_live_tasks")
def live_tasks(db: Database) -> None:
    """When each task that can be asked again was first met, and whether it is held back from training for a time."""
    db.executescript(
        """
        CREATE TABLE live_tasks (
            task_id TEXT PRIMARY KEY,
            bucket INTEGER NOT NULL,
            first_seen TEXT NOT NULL,
            position INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX live_tasks_by_time ON live_tasks (first_seen, bucket);
        """
    )
    met = "SELECT min(position) FROM episodes WHERE task_id IS NOT NULL GROUP BY task_id ORDER BY 1"
    for (position,) in db.conn.execute(met).fetchall():
        ((payload,),) = db.conn.execute("SELECT payload FROM episodes WHERE position = ?", [position]).fetchall()
        episode = Episode.model_validate_json(payload)
        if episode.task and (bucket := bucket_of(episode.task)) is not None:
            db.conn.execute(
                "INSERT INTO live_tasks VALUES (?, ?, ?, ?)",
                [episode.task.id, bucket, episode.created.astimezone(UTC).isoformat(timespec="seconds"), position],
            )


@MIGRATIONS(name="0013_mistakes")
def mistakes(db: Database) -> None:
    """Verified fixes are found by the error that they mend, without touching the others of a million episodes."""
    db.conn.execute("ALTER TABLE episodes ADD COLUMN mistake TEXT")
    page = (
        "SELECT position, payload FROM episodes WHERE position > ? AND answer IS NOT NULL ORDER BY position LIMIT 256"
    )
    last = 0
    while rows := db.conn.execute(page, [last]).fetchall():
        for position, payload in rows:
            lesson = lesson_of(Episode.model_validate_json(payload))
            db.conn.execute("UPDATE episodes SET mistake = ? WHERE position = ?", [lesson and lesson.mistake, position])
        last = rows[-1][0]
    db.conn.execute("CREATE INDEX episodes_by_mistake ON episodes (mistake, position) WHERE mistake IS NOT NULL")


@MIGRATIONS(name="0014_claimed_tasks")
def claimed_tasks(db: Database) -> None:
    """Tasks that files claim are not asked: whoever wrote the file would choose what judges."""
    db.conn.execute("DELETE FROM live_tasks WHERE position IN (SELECT position FROM episodes WHERE tried IS NULL)")


@MIGRATIONS(name="0015_nonces")
def nonces(db: Database) -> None:
    """Who announced a session's verifier is the only one who speaks for it."""
    db.conn.execute("ALTER TABLE session_checks ADD COLUMN nonce TEXT NOT NULL DEFAULT ''")


@MIGRATIONS(name="0016_passed")
def passed(db: Database) -> None:
    """Whether a session ended verified: 1 or 0, NULL while nobody said so. What was no failure then is none now."""
    db.conn.execute("ALTER TABLE session_checks ADD COLUMN passed INTEGER")
    db.conn.execute(
        "UPDATE session_checks SET passed = json_extract(payload, '$.verdict.outcome') = 'pass'"
        " WHERE json_extract(payload, '$.verdict.outcome') IN ('pass', 'fail')"
    )
