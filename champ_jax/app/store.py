"""Uploads and jobs in an SQLite file (write-ahead log), so that they survive a restart of the server.

Every change of a job is an event with a number, from 1 on, which holds the job's whole status; an event's number says
what a client has seen.
"""

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from champ_jax.common.errors import InputError

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
FINISHED = (DONE, FAILED, CANCELLED)
"""The states that a job ends in."""

ATTEMPTS = 2
"""How often a job is tried whose worker, or server, dies."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS uploads (
  id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, about TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, owner TEXT NOT NULL, key TEXT,
  request TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, about TEXT NOT NULL,
  created REAL NOT NULL, started REAL, finished REAL, UNIQUE (owner, key)
);
CREATE INDEX IF NOT EXISTS jobs_of_state ON jobs (state, number);
CREATE TABLE IF NOT EXISTS events (
  job TEXT NOT NULL, number INTEGER NOT NULL, status TEXT NOT NULL, PRIMARY KEY (job, number)
) WITHOUT ROWID;
"""
_VERSION = 1

Row = dict[str, Any]
"""A job: the columns of the table, with `request` and `about` as objects."""


class Store:
    """The tables. Its methods may be called from any thread; `changed` wakes those that wait for a change."""

    def __init__(self, path: Path):
        """Opens the file, or makes it.

        Raises:
          InputError: it cannot be opened, is no database, or another version of the program made it.
        """
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._database.row_factory = sqlite3.Row
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise InputError(f"{path}: was made by another version of champ_jax; name another --config.workspace")
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_SCHEMA)
            self._database.execute(f"PRAGMA user_version={_VERSION}")
        except sqlite3.Error as error:
            raise InputError(f"{path}: cannot be used ({error}); name another --config.workspace") from error

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._database.close()

    @contextlib.contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction, after which those that wait are woken."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
            self.changed.notify_all()

    def _read(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._database.execute(query, values).fetchall()

    # Uploads

    def add_upload(self, id: str, owner: str, about: Row) -> None:
        """Keeps what is known of an upload."""
        with self._change() as database:
            database.execute("INSERT INTO uploads VALUES (?, ?, ?, ?)", (id, owner, time.time(), json.dumps(about)))

    def uploads(self, owner: str) -> dict[str, Row]:
        """{id: what is known} of a user's uploads, oldest first."""
        rows = self._read("SELECT id, about FROM uploads WHERE owner = ? ORDER BY created, rowid", owner)
        return {row["id"]: json.loads(row["about"]) for row in rows}

    def upload_ids(self) -> set[str]:
        """The ids of all uploads."""
        return {row["id"] for row in self._read("SELECT id FROM uploads")}

    def remove_upload(self, id: str) -> None:
        """Forgets an upload."""
        with self._change() as database:
            database.execute("DELETE FROM uploads WHERE id = ?", (id,))

    # Jobs

    def add_job(self, id: str, owner: str, key: str | None, request: Row) -> bool:
        """Puts a job at the end of the queue; returns false where the user has one of this key."""
        with contextlib.suppress(sqlite3.IntegrityError), self._change() as database:
            database.execute(
                "INSERT INTO jobs (id, owner, key, request, state, attempts, about, created) "
                "VALUES (?, ?, ?, ?, ?, 0, '{}', ?)",
                (id, owner, key, json.dumps(request), QUEUED, time.time()),
            )
            self._add_event(id)
            return True
        return False

    def job(self, id: str) -> Row | None:
        """A job, or None."""
        return next(iter(self._jobs("id = ?", id)), None)

    def job_of_key(self, owner: str, key: str) -> Row | None:
        """The job that a user submitted with a key, or None."""
        return next(iter(self._jobs("owner = ? AND key = ?", owner, key)), None)

    def jobs(self, owner: str) -> list[Row]:
        """A user's jobs, newest first."""
        return self._jobs("owner = ?", owner)[::-1]

    def job_ids(self) -> set[str]:
        """The ids of all jobs."""
        return {row["id"] for row in self._read("SELECT id FROM jobs")}

    def unfinished(self, owner: str) -> int:
        """How many of a user's jobs wait or run."""
        query = "SELECT COUNT(*) FROM jobs WHERE owner = ? AND state IN (?, ?)"
        return self._read(query, owner, QUEUED, RUNNING)[0][0]

    def place(self, number: int) -> int:
        """The place in the queue of a job that waits: 1 where it is the next."""
        query = "SELECT COUNT(*) FROM jobs WHERE state = ? AND number <= ?"
        return self._read(query, QUEUED, number)[0][0]

    def _jobs(self, where: str, *values: Any) -> list[Row]:
        rows = self._read(f"SELECT * FROM jobs WHERE {where} ORDER BY number", *values)
        return [dict(row) | {name: json.loads(row[name]) for name in ("request", "about")} for row in rows]

    def take(self) -> Row | None:
        """The next job, which runs from now on; None where none waits."""
        with self._change() as database:
            row = database.execute("SELECT id FROM jobs WHERE state = ? ORDER BY number LIMIT 1", (QUEUED,)).fetchone()
            if row is None:
                return None
            self.update(row["id"], state=RUNNING, attempt=True)
        return self.job(row["id"])

    def update(self, id: str, *, state: str | None = None, attempt: bool = False, **about: Any) -> bool:
        """Changes a job that has not finished, and keeps the event; returns whether it could be changed.

        Args:
          id: The job's id.
          state: the new state; None leaves it.
          attempt: whether this is the start of an attempt.
          about: fields of what is known of the job; None removes one.
        """
        with self._lock:
            nested = self._database.in_transaction
            with contextlib.nullcontext(self._database) if nested else self._change() as database:
                row = database.execute("SELECT * FROM jobs WHERE id = ?", (id,)).fetchone()
                if row is None or row["state"] in FINISHED:
                    return False
                known = {k: v for k, v in (json.loads(row["about"]) | about).items() if v is not None}
                state, now = state or row["state"], time.time()
                database.execute(
                    "UPDATE jobs SET state = ?, attempts = ?, about = ?, started = ?, finished = ? WHERE id = ?",
                    (
                        state,
                        row["attempts"] + attempt,
                        json.dumps(known),
                        now if attempt else row["started"],
                        now if state in FINISHED else None,
                        id,
                    ),
                )
                self._add_event(id)
                return True

    def requeue(self, id: str, reason: str) -> None:
        """Lets a job whose worker died run again, before those behind it; after its last attempt it has failed."""
        row = self.job(id)
        if row is None:
            return
        if row["attempts"] < ATTEMPTS:
            self.update(
                id,
                state=QUEUED,
                stage=None,
                step=None,
                steps=None,
                seconds_left=None,
                preview=None,
                notes=[f"{reason}; it is tried again"],
            )
        else:
            self.update(id, state=FAILED, error=f"{reason}, {row['attempts']} times; it was not tried again")

    def recover(self) -> None:
        """After a start: jobs that ran when the server died are tried again, or have failed."""
        for row in self._jobs("state = ?", RUNNING):
            self.requeue(row["id"], "the server ended while the job ran")

    def remove_job(self, id: str) -> None:
        """Forgets a job and its events."""
        with self._change() as database:
            database.execute("DELETE FROM events WHERE job = ?", (id,))
            database.execute("DELETE FROM jobs WHERE id = ?", (id,))

    # Events

    def _add_event(self, id: str) -> None:
        row = self._jobs("id = ?", id)[0]
        kept = {name: row[name] for name in ("state", "attempts", "started", "finished")} | row["about"]
        self._database.execute(
            "INSERT INTO events SELECT ?, COALESCE(MAX(number), 0) + 1, ? FROM events WHERE job = ?",
            (id, json.dumps(kept), id),
        )

    def events(self, id: str, after: int) -> list[tuple[int, Row]]:
        """(number, status) of a job's events with higher numbers than `after`."""
        rows = self._read("SELECT number, status FROM events WHERE job = ? AND number > ? ORDER BY number", id, after)
        return [(row["number"], json.loads(row["status"])) for row in rows]

    def last_event(self, id: str) -> int:
        """The number of a job's last event; 0 where there is none."""
        return self._read("SELECT COALESCE(MAX(number), 0) FROM events WHERE job = ?", id)[0][0]
