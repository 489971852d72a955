"""What the page and the API do: uploads, jobs, their progress and results, each user's apart from the others'.

A user is a string, the owner, which the server makes of a secret that only this user's browser or program has
(`champ_jax.app.identity`). What belongs to another owner does not exist.
"""

import contextlib
import dataclasses
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from champ_jax.app import uploads
from champ_jax.app.dispatcher import Dispatcher
from champ_jax.app.request import (
    AnimationRequest,
    FieldError,
    built_in_motions,
    built_in_pictures,
    check_source,
    is_upload,
)
from champ_jax.app.settings import AppSettings
from champ_jax.app.store import CANCELLED, DONE, FAILED, FINISHED, QUEUED, Row, Store
from champ_jax.app.uploads import MOTION, MOTION_FOLDER, PICTURE, Upload
from champ_jax.common import children, locks
from champ_jax.common.children import python
from champ_jax.common.errors import InputError
from champ_jax.common.files import reason

RESULTS = {
    "video": "animation.mp4",
    "comparison": "animation_comparison.mp4",
    "frames": "frames.zip",
    "record": "animation.json",
    "picture": "animation_reference.png",
    "motion": "animation_motion.npz",
}
"""{name of a result: its file}: the video, picture and maps and video side by side, the frames as PNG, and the record
that `champ animate --config=FILE` repeats, with the picture and the motion as they were used. A motion folder, whose
maps are drawn, is not copied."""

_KEY = 200  # characters of a request's key, at most


class NotFound(FieldError):
    """There is no such upload or job, or it belongs to another."""


class QueueFull(FieldError):
    """The user has as many jobs waiting as are allowed."""


class Conflict(FieldError):
    """What is asked for does not fit the state of the job, or the key was used for another request."""


@dataclasses.dataclass(frozen=True)
class JobStatus:
    """A job as it stands.

    Attributes:
      id: The job's id, which cannot be guessed.
      state: 'queued', 'running', 'done', 'failed' or 'cancelled'.
      request: what was asked for.
      place: the place in the queue, 1 for the next; None unless it waits.
      stage: what is being done, such as 'compile' or 'denoise'; None before the start.
      step, steps: how much of the stage is done; None where it has no steps.
      seconds_left: an estimate until the end; None while there is none.
      preview: a PNG file, a frame of the video as it stands; None before the first. A new preview has a new name.
      error: why the job failed, one line; None otherwise.
      field: the field of the request that the error concerns; None where none is to blame.
      notes: lines that the user should see, such as that a motion was cut to the picture's aspect.
      attempts: how often it was started.
      created, started, finished: seconds since 1970; None where it has not come to that.
    """

    id: str
    state: str
    request: AnimationRequest
    place: int | None = None
    stage: str | None = None
    step: int | None = None
    steps: int | None = None
    seconds_left: float | None = None
    preview: Path | None = None
    error: str | None = None
    field: str | None = None
    notes: tuple[str, ...] = ()
    attempts: int = 0
    created: float = 0.0
    started: float | None = None
    finished: float | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self.state in FINISHED


@dataclasses.dataclass(frozen=True)
class Event:
    """A change of a job: its number, from 1 on, and the job's status."""

    number: int
    status: JobStatus


class Service:
    """The server's work, as a context manager. Every method may be called from any thread."""

    def __init__(
        self,
        settings: AppSettings,
        *,
        worker: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        """
        Args:
          settings: limits, and the private folder.
          worker: the command line of the worker process; None is `champ_jax.app.worker`.
          environment: the worker's environment; None is this process's.
        """
        self.settings = settings
        self._command = python("champ_jax.app.worker") if worker is None else list(worker)
        self._environment = children.environment() if environment is None else dict(environment)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Service":
        """Opens the workspace and starts to work on what is queued.

        Raises:
          InputError: the workspace cannot be written, or another server uses it.
        """
        workspace = self.settings.workspace
        with contextlib.ExitStack() as stack:
            stack.enter_context(locks.hold_folder(workspace))
            try:
                workspace.chmod(0o700)
                self._temporary = _emptied(workspace / "temporary")
                for folder in (self._uploads, self._jobs, self._fits):
                    folder.mkdir(exist_ok=True)
            except OSError as error:
                raise InputError(f"--config.workspace={workspace}: cannot be written ({reason(error)})") from error
            stack.callback(shutil.rmtree, self._temporary, ignore_errors=True)
            self._store = Store(workspace / "jobs.sqlite")
            stack.callback(self._store.close)
            self._store.recover()
            self._remove_strays()
            environment = {**self._environment, "TMPDIR": str(self._temporary)}
            self._dispatcher = Dispatcher(
                self._store, self._task, self._command, environment, self.settings.job_timeout, self._finished
            )
            stack.callback(self._dispatcher.stop)
            self._dispatcher.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops working. The job that runs is tried again by the next server on this workspace."""
        self._stack.close()

    @property
    def _uploads(self) -> Path:
        return self.settings.workspace / "uploads"

    @property
    def _jobs(self) -> Path:
        return self.settings.workspace / "jobs"

    @property
    def _fits(self) -> Path:
        return self.settings.workspace / "fits"

    # Uploads

    def upload(self, owner: str, name: str, stream: uploads.Readable) -> Upload:
        """Keeps a file, after it was looked at: a picture, a motion.npz, a motion folder as zip, or a driving video.

        Args:
          owner: whose it is.
          name: what the user calls it; its ending says what it is.
          stream: its bytes.

        Raises:
          UploadTooLarge: it is longer than this server takes.
          InputError: it is of no kind that is taken, broken, or holds too much. Nothing is kept of it then.
        """
        id, name = f"u-{secrets.token_urlsafe(16)}", uploads.safe_name(name)
        folder = self._temporary / id
        folder.mkdir()
        try:
            path = folder / name
            uploads.receive(stream, path, name, self.settings.max_upload_mib * 2**20)
            about = uploads.examine(path, self.settings)
            os.rename(folder, self._uploads / id)
        except uploads.UploadTooLarge:
            raise
        except InputError as error:
            raise InputError(self._public(str(error))) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        about |= {"name": name, "path": about["path"].name}
        self._store.add_upload(id, owner, about)
        self._remove_old_uploads(owner)
        return self._upload(id, about)

    def find_upload(self, owner: str, id: str) -> Upload:
        """A user's upload; raises NotFound."""
        about = self._store.uploads(owner).get(id)
        if about is None:
            raise NotFound(f"{id[:40]}: there is no such upload; send the file again")
        return self._upload(id, about)

    def uploads(self, owner: str) -> Sequence[Upload]:
        """A user's uploads, newest first."""
        return [self._upload(id, about) for id, about in self._store.uploads(owner).items()][::-1]

    def remove_upload(self, owner: str, id: str) -> None:
        """Removes a user's upload.

        Raises:
          NotFound: there is none.
          Conflict: a job that has not ended needs it.
        """
        kept = self.find_upload(owner, id)
        if id in self._needed_uploads(owner):
            raise Conflict(f"{kept.name}: a job that waits or runs needs it; cancel the job first")
        self._remove_upload(id)

    def _remove_upload(self, id: str) -> None:
        self._store.remove_upload(id)
        shutil.rmtree(self._uploads / id, ignore_errors=True)

    def _needed_uploads(self, owner: str) -> set[str]:
        """The ids of the uploads that a user's unfinished jobs need."""
        unfinished = [row for row in self._store.jobs(owner) if row["state"] not in FINISHED]
        return {id for row in unfinished for id in AnimationRequest.from_json(row["request"]).uploads}

    def _upload(self, id: str, about: Row) -> Upload:
        return Upload(id=id, **{**about, "path": self._uploads / id / about["path"]})

    def source(self, owner: str, field: str, source: str) -> tuple[str, Path]:
        """The kind ('picture', 'motion', 'motion folder' or 'video') and the path of a request's picture or motion.

        Args:
          owner: who asks.
          field: 'reference' or 'motion'.
          source: the value of that field: an upload's id or a name in the package.

        Raises:
          FieldError: there is no such upload, it is of a kind that the field does not take, or the name is unknown.
        """
        check_source(field, source)
        if not is_upload(source):
            return (
                (PICTURE, built_in_pictures()[source]) if field == "reference" else (MOTION, built_in_motions()[source])
            )
        try:
            found = self.find_upload(owner, source)
        except NotFound as error:
            raise NotFound(f"{field}={error}", field) from error
        if (found.kind == PICTURE) != (field == "reference"):
            wanted = "a picture" if field == "reference" else "a motion.npz, a motion folder as zip or a video"
            raise FieldError(f"{field}={found.name}: is a {found.kind}; give {wanted}", field)
        return found.kind, found.path

    # Jobs

    def submit(self, owner: str, request: AnimationRequest, key: str | None = None) -> str:
        """Queues an animation; returns the job's id.

        Args:
          owner: who asks.
          request: what is asked for.
          key: any text of the caller's. A second request with the same key is the same job.

        Raises:
          FieldError: a field names what is not there, or is beyond this server's limits.
          QueueFull: as many of the user's jobs as are allowed wait already.
          Conflict: the key was used for another request.
        """
        if key is not None:
            if not 1 <= len(key) <= _KEY or not key.isprintable():
                raise FieldError(f"key: expected 1 to {_KEY} printable characters", "key")
            there = self._store.job_of_key(owner, key)
            if there is not None:
                return self._same_job(there, request, key)
        self._check(owner, request)
        id = f"j-{secrets.token_urlsafe(16)}"
        if self._store.unfinished(owner) >= self.settings.queue_length:
            raise QueueFull(
                f"{self.settings.queue_length} jobs of yours wait or run, which is the most; wait, or cancel one"
            )
        folder = self._jobs / id
        folder.mkdir()
        if not self._store.add_job(id, owner, key, request.to_json()):  # another thread came first with this key
            folder.rmdir()
            there = self._store.job_of_key(owner, key or "")
            assert there is not None
            return self._same_job(there, request, key or "")
        return id

    def _same_job(self, there: Row, request: AnimationRequest, key: str) -> str:
        if there["request"] != request.to_json():
            raise Conflict(f"key={key[:60]}: was used for another request; take a new one", "key")
        return there["id"]

    def _check(self, owner: str, request: AnimationRequest) -> None:
        """Raises FieldError for what is not there or beyond the limits, as far as it can be seen without the model."""
        self.source(owner, "reference", request.reference)
        kind, _ = self.source(owner, "motion", request.motion)
        if kind == MOTION_FOLDER and request.edits.changes_body:
            raise FieldError(
                "edits: the maps of a motion folder are drawn already; only start and stop change them", "edits"
            )
        settings = self.settings
        if request.steps is not None and request.steps > settings.max_steps:
            raise FieldError(f"steps={request.steps}: this server takes {settings.max_steps} at most", "steps")
        if request.frames is not None and request.frames > settings.max_frames:
            raise FieldError(f"frames={request.frames}: this server makes {settings.max_frames} at most", "frames")
        sides = [side for side in (request.width, request.height) if side is not None]
        if sides and (math.prod(sides) if len(sides) == 2 else sides[0]) > settings.max_video_pixels:
            name = "width" if request.width is not None else "height"
            raise FieldError(
                f"{name}={getattr(request, name)}: the video would have more than the {settings.max_video_pixels:,} "
                "pixels that this server makes; choose a smaller size",
                name,
            )

    def status(self, owner: str, id: str) -> JobStatus:
        """A job as it stands; raises NotFound."""
        return self._status(self._job(owner, id))

    def list(self, owner: str) -> Sequence[JobStatus]:
        """A user's jobs, newest first."""
        return [self._status(row) for row in self._store.jobs(owner)]

    def cancel(self, owner: str, id: str) -> JobStatus:
        """Cancels a job that waits or runs; one that has ended stays as it is. Raises NotFound."""
        row = self._job(owner, id)
        if self._store.update(id, state=CANCELLED, seconds_left=None) and row["state"] == QUEUED:
            self._finished(row)
        return self.status(owner, id)

    def remove(self, owner: str, id: str) -> None:
        """Removes a job that has ended, with its results.

        Raises:
          NotFound: there is none.
          Conflict: it has not ended.
        """
        row = self._job(owner, id)
        if row["state"] not in FINISHED:
            raise Conflict(f"{id}: has not ended; cancel it first")
        self._remove_job(id)

    def result(self, owner: str, id: str) -> dict[str, Path]:
        """{name of `RESULTS`: file} of a job that is done.

        Raises:
          NotFound: there is no such job.
          Conflict: it is not done.
        """
        row = self._job(owner, id)
        if row["state"] != DONE:
            raise Conflict(f"{id}: is {row['state']}, not done; there are no results")
        return {name: self._jobs / id / RESULTS[name] for name in self.result_names(self._status(row))}

    def result_names(self, status: JobStatus) -> Sequence[str]:
        """The names of the results that there are of a job: none unless it is done."""
        if status.state != DONE:
            return []
        return [name for name, file in RESULTS.items() if (self._jobs / status.id / file).is_file()]

    def events(self, owner: str, id: str, after: int = 0) -> Sequence[Event]:
        """A job's events after number `after` so far; raises NotFound."""
        row = self._job(owner, id)
        return [*self._events(row, self._store.events(id, after))]

    def _events(self, row: Row, new: Sequence[tuple[int, Row]]) -> Iterator[Event]:
        columns = ("state", "attempts", "started", "finished")
        for number, kept in new:
            known = {name: kept.pop(name) for name in columns}
            yield Event(number, self._status({**row, **known, "about": kept}))

    def preview(self, owner: str, id: str) -> Path:
        """The newest preview of a job; raises NotFound where there is none."""
        path = self.status(owner, id).preview
        if path is None or not path.is_file():
            raise NotFound(f"{id[:40]}: has no preview yet")
        return path

    @property
    def worker_id(self) -> int | None:
        """The worker's process number; None where none runs."""
        return self._dispatcher.worker_id

    def _job(self, owner: str, id: str) -> Row:
        row = self._store.job(id)
        if row is None or row["owner"] != owner:
            raise NotFound(f"{id[:40]}: there is no such job")
        return row

    def _status(self, row: Row) -> JobStatus:
        about = dict(row["about"])
        preview = about.pop("preview", None)
        return JobStatus(
            id=row["id"],
            state=row["state"],
            request=AnimationRequest.from_json(row["request"]),
            # An event may tell of a job that waits no more.
            place=(self._store.place(row["number"]) or None) if row["state"] == QUEUED else None,
            preview=None if preview is None else self._jobs / row["id"] / preview,
            notes=tuple(about.pop("notes", ())),
            **about,
            **{name: row[name] for name in ("attempts", "created", "started", "finished")},
        )

    def _task(self, row: Row) -> dict[str, Any]:
        """What the worker is told of a job."""
        request = AnimationRequest.from_json(row["request"])
        _, reference = self.source(row["owner"], "reference", request.reference)
        kind, motion = self.source(row["owner"], "motion", request.motion)
        settings = self.settings
        return {
            "request": request.to_json(),
            "reference": str(reference),
            "motion": str(motion),
            "kind": kind,
            "folder": str(self._jobs / row["id"]),
            "workspace": str(settings.workspace),
            "fits": {
                "reference": str(self.fit_place(request.reference, PICTURE)),
                "motion": str(self.fit_place(request.motion, MOTION)),
            },
            "settings": {
                name: getattr(settings, name)
                for name in (
                    "weights",
                    "untrained",
                    "body",
                    "dtype",
                    "max_frames",
                    "max_video_pixels",
                    "max_driving_frames",
                )
            },
        }

    def fit_place(self, source: str, kind: str) -> Path:
        """Where the body that was fitted to a picture or a video is kept: an upload's goes with it.

        Args:
          source: a request's `reference` or `motion`.
          kind: 'picture' or 'motion'.
        """
        # No name that `uploads.safe_name` gives begins with a dot.
        return self._uploads / source / ".fitted.npz" if is_upload(source) else self._fits / f"{source}_{kind}.npz"

    # What is removed

    def _finished(self, row: Row) -> None:
        """Removes what a job leaves beside its results, and the user's oldest results."""
        folder = self._jobs / row["id"]
        current = self._store.job(row["id"])
        if current is None or current["state"] in (CANCELLED, FAILED):
            for path in [*folder.iterdir()] if folder.is_dir() else []:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        ended = [job for job in self._store.jobs(row["owner"]) if job["state"] in FINISHED]
        for job in ended[self.settings.results_kept :]:
            self._remove_job(job["id"])

    def _remove_job(self, id: str) -> None:
        self._store.remove_job(id)
        shutil.rmtree(self._jobs / id, ignore_errors=True)

    def _remove_old_uploads(self, owner: str) -> None:
        """Removes the user's oldest uploads that no unfinished job needs."""
        needed = self._needed_uploads(owner)
        for id in list(self._store.uploads(owner))[: -self.settings.uploads_kept]:
            if id not in needed:
                self._remove_upload(id)

    def _remove_strays(self) -> None:
        """Removes the folders of uploads and jobs that are not in the tables: what a killed server left."""
        for folder, known in ((self._uploads, self._store.upload_ids()), (self._jobs, self._store.job_ids())):
            for path in folder.iterdir():
                if path.name not in known:
                    shutil.rmtree(path, ignore_errors=True)

    def _public(self, message: str) -> str:
        """A message without the places of private files; their names stay."""
        return public(message, self.settings.workspace)


def public(message: str, workspace: Path) -> str:
    """A message without the folders of the workspace: users know their files' names only."""
    return re.sub(re.escape(str(workspace)) + r"/(uploads|jobs|temporary)/[A-Za-z0-9_-]+/", "", message)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder
