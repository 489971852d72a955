"""Takes jobs from the queue, one after another, and has the worker process make them.

The worker is a process of its own, which keeps the pipeline with its weights and compiled programs from job to job. It
is started for the first job, ended when a job is stuck or does not stop, and started anew after it died.
"""

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from champ_jax.app.store import CANCELLED, DONE, FAILED, Row, Store
from champ_jax.common.errors import InputError

_CANCEL_SECONDS = 10.0  # that a worker has to stop a job before it is ended
_POLL = 0.1  # seconds between looks at the clock and at cancelled jobs

Message = dict[str, Any]
"""A line of JSON between server and worker (`champ_jax.app.worker` says which there are)."""


class WorkerProcess:
    """The process, its standard input as commands, and its standard output as messages."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None):
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=None if environment is None else dict(environment),
            start_new_session=True,  # Ctrl-C is for the server, which then ends the worker
        )
        self._messages: queue.Queue[Message | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                self._messages.put(json.loads(line))
        self._messages.put(None)

    @property
    def id(self) -> int:
        """The process's number."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Sends a command; one to a process that has ended is lost."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def receive(self, seconds: float) -> Message | None:
        """The next message, {} where none comes in time, or None when the process has ended."""
        try:
            return self._messages.get(timeout=seconds)
        except queue.Empty:
            return {}

    def end(self, seconds: float = 0.0) -> str:
        """Ends the process, at once or after some seconds; returns how it ended, in words."""
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            status = self._process.wait(seconds or 0.001)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        assert self._process.stdout is not None
        return f"signal {-status}" if status < 0 else f"status {status}"


class Dispatcher:
    """A thread that has the queued jobs made, in their order."""

    def __init__(
        self,
        store: Store,
        task: Callable[[Row], Message],
        command: Sequence[str],
        environment: Mapping[str, str] | None,
        timeout: float,
        finished: Callable[[Row], None],
    ):
        """
        Args:
          store: the jobs.
          task: what the worker is told of a job.
          command, environment: how the worker is started.
          timeout: seconds that a job may take.
          finished: is called with a job that has ended, in whatever way.
        """
        self._store, self._task, self._command, self._environment = store, task, command, environment
        self._timeout, self._finished = timeout, finished
        self._worker: WorkerProcess | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Starts to take jobs."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the worker, and with it the job that runs; a start of the server tries it again."""
        with self._store.changed:
            self._stopping = True
            self._store.changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._end_worker()

    @property
    def worker_id(self) -> int | None:
        """The worker's process number; None where there is none."""
        worker = self._worker
        return None if worker is None else worker.id

    def _end_worker(self) -> str:
        worker, self._worker = self._worker, None
        return "" if worker is None else worker.end()

    def _work(self) -> None:
        while True:
            with self._store.changed:
                job = None
                while not self._stopping and (job := self._store.take()) is None:
                    self._store.changed.wait()
            if job is None:
                return
            self._run(job)
            if not self._stopping:
                self._finished(job)

    def _run(self, job: Row) -> None:
        """Has one job made; returns when it has ended, or is queued again."""
        id, end = job["id"], time.monotonic() + self._timeout
        try:
            task = self._task(job)
        except InputError as error:  # an upload is gone
            self._store.update(id, state=FAILED, error=str(error), field=getattr(error, "field", None))
            return
        if self._worker is None:
            self._worker = WorkerProcess(self._command, self._environment)
        worker, grace = self._worker, None
        worker.send({"run": id, **task})
        while not self._stopping:
            message = worker.receive(_POLL)
            now = time.monotonic()
            if message is None:
                self._store.requeue(id, f"the worker ended while the job ran ({self._end_worker()})")
                return
            if message.get("job") == id and self._take(id, message):
                if message.get("retire"):
                    self._end_worker()
                return
            if grace is None and self._is_cancelled(id):
                worker.send({"cancel": id})
                grace = now + _CANCEL_SECONDS
            if grace is not None and now > grace:
                self._end_worker()
                return
            if now > end:
                self._end_worker()
                self._store.update(
                    id,
                    state=FAILED,
                    error=f"was stopped after {self._timeout:g} seconds; take fewer frames or steps, or a smaller size",
                )
                return

    def _is_cancelled(self, id: str) -> bool:
        row = self._store.job(id)
        return row is None or row["state"] == CANCELLED

    def _take(self, id: str, message: Message) -> bool:
        """Keeps what the worker says of a job; returns whether that was the last."""
        kind = message.get("kind")
        if kind == "progress":
            self._store.update(id, **message["about"])
        elif kind == "done":
            self._store.update(id, state=DONE, seconds_left=0.0, **message["about"])
        elif kind == "failed":
            self._store.update(id, state=FAILED, seconds_left=None, **message["about"])
        return kind in ("done", "failed", "cancelled")
