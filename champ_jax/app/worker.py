"""The process that makes the animations, one after another: `python -m champ_jax.app.worker`.

It speaks lines of JSON. The server (`champ_jax.app.dispatcher`) sends

    {"run": JOB, "request", "reference", "motion", "kind", "folder", "workspace", "fits", "settings"}
    {"cancel": JOB}

and gets, of a job, {"job": JOB, "kind": "progress", "about": {...}} any number of times, and then one of "done" and
"failed" with "about", or "cancelled". `about` holds fields of `champ_jax.app.service.JobStatus`. With "retire" it asks
to be replaced by a new process. The pipeline with its weights and compiled programs stays from job to job.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import queue
import re
import shutil
import sys
import threading
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import ml_collections
import numpy as np

from champ_jax.app.motion_edits import edited_motion
from champ_jax.app.request import AnimationRequest, FieldError
from champ_jax.app.service import RESULTS, public
from champ_jax.app.uploads import MOTION_FOLDER, VIDEO, conditions_of
from champ_jax.body.importers import import_motion
from champ_jax.body.interpolation import fill_gaps
from champ_jax.body.motion import Motion
from champ_jax.body.smpl import load_body
from champ_jax.common import outputs
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path, read_json, write_json
from champ_jax.common.pictures import read_image, resize_image, write_image
from champ_jax.common.progress import Progress
from champ_jax.common.videos import read_video
from champ_jax.conditions.motion_folder import MotionFolder
from champ_jax.inference import batch, driving
from champ_jax.inference.config import get_config
from champ_jax.inference.job import Job
from champ_jax.inference.pipeline import ChampPipeline
from champ_jax.weights.opening import Weights

Say = Callable[[dict[str, Any]], None]

_SAY_SECONDS = 0.25  # between two lines about the steps of a stage
_LOOK_SECONDS = 1.0  # between two previews, at least ...
_LOOK_SHARE = 10  # ... and this many times as long as making one took
_LOOK_SIDE = 512  # pixels of a preview's longer side, at most
_PROGRAMS = 32  # compiled programs, four a size, with which a process is replaced, so that its memory is bounded
_LATER = {"encode": ("denoise", "decode"), "denoise": ("decode",), "decode": ()}
"""{stage whose end can be estimated: the stages that come after it}."""


class Cancelled(Exception):
    """The user has cancelled the job."""


class JobProgress(Progress):
    """Tells the server of stages, steps, previews and notes, and ends a job that was cancelled."""

    def __init__(self, say: Say, cancelled: Callable[[], bool], folder: Path):
        """
        Args:
          say: sends what is known of the job.
          cancelled: whether the job was cancelled.
          folder: where previews are put.
        """
        super().__init__(quiet=True)
        self.expected: dict[str, float] = {}
        """{stage: seconds that it will take}, of stages to come, where that is known."""
        self.notes: list[str] = []
        self._say, self._cancelled, self._folder = say, cancelled, folder
        self._stage, self._began, self._said = "", 0.0, 0.0
        self._looks, self._next_look = 0, 0.0
        self._preview: Path | None = None

    def reached(self, stage: str, done: int, total: int | None) -> None:
        """Tells the server, not too often."""
        if self._cancelled():
            raise Cancelled
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._said = stage, now, 0.0
        if now - self._said < _SAY_SECONDS and done != total:
            return
        self._said = now
        left = self._seconds_left(stage, now, done, total)
        self._say({"stage": stage, "step": done if total else None, "steps": total, "seconds_left": left})

    def _seconds_left(self, stage: str, now: float, done: int, total: int | None) -> float | None:
        here = (now - self._began) / done * (total - done) if done and total else self.expected.get(stage)
        if here is None or stage not in _LATER or (stage == "encode" and "denoise" not in self.expected):
            return None
        # Before the first job has ended, the time of the decoder is not known; the denoiser's is most of it.
        return round(here + sum(self.expected.get(name, 0.0) for name in _LATER[stage]), 1)

    def note(self, line: str) -> None:
        """Tells the server a line that the user should see."""
        if line not in self.notes:
            self.notes.append(line)
            self._say({"notes": self.notes})

    def offer(self, frame: Callable[[], np.ndarray]) -> None:
        """Writes a preview, not too often."""
        start = time.monotonic()
        if start < self._next_look:
            return
        picture = frame()
        height, width = picture.shape[:2]
        if (shrink := _LOOK_SIDE / max(width, height)) < 1:
            picture = resize_image(picture, (max(round(width * shrink), 1), max(round(height * shrink), 1)))
        self._looks += 1
        path = self._folder / f"preview-{self._looks}.png"
        write_image(path, picture)
        self._say({"preview": path.name})
        if self._preview is not None:
            self._preview.unlink(missing_ok=True)
        self._preview = path
        now = time.monotonic()
        self._next_look = now + max(_LOOK_SECONDS, _LOOK_SHARE * (now - start))


class Worker:
    """Makes animations; keeps the weights, the pipeline, and how fast it is."""

    def __init__(self) -> None:
        self._weights: Weights | None = None
        self._pipeline: ChampPipeline | None = None
        self._rates: dict[str, float] = {}  # seconds of a stage for its amount of work, of the newest job

    @property
    def is_full(self) -> bool:
        """Whether so many programs are compiled that a new process should go on."""
        return self._pipeline is not None and len(self._pipeline.compiled) >= _PROGRAMS

    def make(self, task: Mapping[str, Any], progress: JobProgress) -> None:
        """Makes the animation of a task: its folder then holds the files of `champ_jax.app.service.RESULTS`.

        Raises:
          InputError: an input cannot be used, or the video would be larger than the server makes.
          Cancelled: the user has cancelled it.
        """
        request, folder = AnimationRequest.from_json(task["request"]), Path(task["folder"])
        limits = task["settings"]
        _empty(folder)
        config = _config(request, task)
        batch.settle(config)
        if self._weights is None:
            self._weights = batch.find_weights(config)
        picture = read_image(task["reference"])
        if task["kind"] == MOTION_FOLDER:
            _take_maps(config, request, Path(task["motion"]), limits["max_frames"])
        else:
            motion = _motion(request, task, (picture.shape[1], picture.shape[0]), progress)
            motion = motion[: _length(request, len(motion), limits["max_frames"])]
            motion.save(folder / RESULTS["motion"])
            config.motion = str(folder / RESULTS["motion"])
        job = Job.open(config, self._weights)
        if job.size[0] * job.size[1] > limits["max_video_pixels"]:
            raise FieldError(
                f"width, height: the video would have {job.size[0]}x{job.size[1]} pixels, this server makes "
                f"{limits['max_video_pixels']:,} at most; choose a smaller size",
                "width" if request.width is not None else "height",
            )
        outputs.claim(list(job.outputs.values()), job.inputs)
        work = _amounts(job)
        progress.expected = {stage: rate * work[stage] for stage, rate in self._rates.items()}
        job.run(lambda: self._load(job, progress), progress)
        self._rates = {stage: progress.seconds[stage] / amount for stage, amount in work.items()}
        progress.reached("pack", 0, None)
        write_image(folder / RESULTS["picture"], picture)
        _pack(folder / "frames", folder / RESULTS["frames"])
        _name_files(folder, Path(task["motion"]) if task["kind"] == MOTION_FOLDER else None)

    def _load(self, job: Job, progress: Progress) -> ChampPipeline:
        if self._pipeline is None:
            self._pipeline = batch.load_pipeline(job.weights, job.config, progress)
        return self._pipeline


def _config(request: AnimationRequest, task: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """The command's config for a task, but for its motion."""
    config, folder = get_config(), Path(task["folder"])
    for name in ("weights", "untrained", "body", "dtype"):
        config[name] = task["settings"][name]
    for name in ("width", "height", "steps", "guidance_scale", "seed", "fps"):
        value = getattr(request, name)
        if value is not None:
            config[name] = float(value) if name in ("guidance_scale", "fps") else value
    config.reference = task["reference"]
    config.output = str(folder / RESULTS["video"])
    config.frames_output = str(folder / "frames")
    config.quiet = True
    return config


def _take_maps(config: ml_collections.ConfigDict, request: AnimationRequest, path: Path, most: int) -> None:
    """Has the config take a motion folder, and the frames of it that are asked for."""
    config.motion, config.conditions = str(path), conditions_of(path)
    edits, count = request.edits, len(MotionFolder(path, config.conditions))
    for name, bound, last in (("start", edits.start, count - 1), ("stop", edits.stop, count)):
        if bound is not None and bound > last:
            raise FieldError(f"edits.{name}={bound}: the motion has {count} frames", f"edits.{name}")
    kept = range(count)[edits.start : edits.stop]
    config.frames = f"{edits.start}:{edits.start + _length(request, len(kept), most)}"


def _length(request: AnimationRequest, count: int, most: int) -> int:
    """The number of frames of the video, of `count` that the motion has."""
    if request.frames is not None and request.frames > count:
        raise FieldError(f"frames={request.frames}: the motion has {count} that are kept", "frames")
    length = request.frames or count
    if length > most:
        raise FieldError(
            f"frames: the motion has {count:,} that are kept, this server makes {most:,} at most; take fewer", "frames"
        )
    return length


def _motion(
    request: AnimationRequest, task: Mapping[str, Any], picture_size: tuple[int, int], progress: JobProgress
) -> Motion:
    """The motion as the request's edits make it; that of a video is fitted, and put onto the picture's person."""
    path, settings = Path(task["motion"]), task["settings"]
    body, person = load_body(settings["body"] or None), None
    if task["kind"] == VIDEO:
        most = settings["max_driving_frames"]
        if sum(1 for _ in itertools.islice(read_video(path), most + 1)) > most:  # not all files say it
            raise FieldError(f"motion: has more than the {most:,} frames that this server takes; cut it", "motion")
        with _blaming("motion"):
            motion = driving.fitted(path, Path(task["fits"]["motion"]), settings["body"], body, progress)
        motion, lines = fill_gaps(motion, driving.GAP)
    else:
        motion, lines = import_motion(path)
    for line in lines:
        progress.note(line)
    if task["kind"] == VIDEO or request.edits.align:
        with _blaming("reference"):
            place = Path(task["fits"]["reference"])
            person = driving.fitted(Path(task["reference"]), place, settings["body"], body, progress)
    return edited_motion(motion, request.edits, picture_size, person, body)


@contextlib.contextmanager
def _blaming(field: str) -> Iterator[None]:
    """Errors of the block concern a field of the request."""
    try:
        yield
    except FieldError:
        raise
    except InputError as error:
        raise FieldError(error, field) from error


def _amounts(job: Job) -> dict[str, float]:
    """{stage: how much it has to do}, to compare jobs by."""
    pixels = float(job.size[0] * job.size[1] * job.latent_shape[0])
    passes = 2 if job.settings.guided else 1
    return {"encode": pixels, "denoise": pixels * passes * job.settings.steps, "decode": pixels}


def _pack(folder: Path, path: Path) -> None:
    """Puts the frames of a folder into a zip, which replaces the folder. It holds no times: equal frames give equal
    bytes. PNG is compressed already."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            archive.writestr(zipfile.ZipInfo(file.name), file.read_bytes())
    shutil.rmtree(folder)


def _name_files(folder: Path, maps: Path | None) -> None:
    """Has the record name the files as those know them who download them, and nothing of this machine: `champ animate
    --config=animation.json` repeats the video in the folder that they are in, the weights named again."""
    path = folder / RESULTS["record"]
    record = read_json(path)
    record["config"] |= {
        "reference": RESULTS["picture"],
        "motion": RESULTS["motion"] if maps is None else maps.name,
        "output": RESULTS["video"],
        "frames_output": "frames",
        **{name: Path(record["config"][name]).name for name in ("weights", "body")},
    }
    record["outputs"] = {kind: Path(place).name for kind, place in record["outputs"].items()}
    write_json(path, record)


def _empty(folder: Path) -> None:
    """Removes what an attempt before has left."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def failure(error: BaseException, task: Mapping[str, Any]) -> dict[str, Any]:
    """What users are told of an error: the command's line, with the files as they know them, and the field."""
    text = str(error)
    field = getattr(error, "field", None)
    fields = {item.name for item in dataclasses.fields(AnimationRequest)}
    named = re.findall(r"--config\.([a-z_]+)", text) + re.findall(r"^([a-z_]+)[=:]", text)
    for name in ("reference", "motion"):
        if task[name] in text or str(Path(task["folder"]) / RESULTS.get(name, " ")) in text:
            named.append(name)
    field = field or next((name for name in named if name in fields), None)
    line = public(text, Path(task["workspace"])).replace("--config.", "")
    for name in ("reference", "motion"):
        line = line.replace(task[name], Path(task[name]).name)
    return {"error": line, "field": field}


def run(worker: Worker, task: Mapping[str, Any], cancelled: Callable[[], bool], say: Say) -> None:
    """Makes a task's animation and says how it went, whatever happens."""
    id, workspace = task["run"], Path(task["workspace"])

    def tell(about: dict[str, Any]) -> None:
        if "notes" in about:
            about = about | {"notes": [public(line, workspace).replace("--config.", "") for line in about["notes"]]}
        say({"job": id, "kind": "progress", "about": about})

    progress = JobProgress(tell, cancelled, Path(task["folder"]))
    show = warnings.showwarning

    def show_warning(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if category is UserWarning:
            progress.note(" ".join(str(message).split()))
        else:
            show(message, category, *rest, **more)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = show_warning
            worker.make(task, progress)
        over = {"stage": None, "step": None, "steps": None}
        say({"job": id, "kind": "done", "about": over, "retire": worker.is_full})
    except Cancelled:
        say({"job": id, "kind": "cancelled"})
    except InputError as error:
        say({"job": id, "kind": "failed", "about": failure(error, task)})
    except Exception as error:
        traceback.print_exc()
        if "RESOURCE_EXHAUSTED" in str(error) or isinstance(error, MemoryError):
            line = "the memory of the server's device did not suffice; take a smaller size, or fewer frames"
        else:
            line = f"the server failed ({type(error).__name__}); its log says more"
        # What is left of the device's memory, and of the process, after such an error is not known.
        say({"job": id, "kind": "failed", "about": {"error": line}, "retire": True})


class Commands:
    """The server's lines, read in a thread, so that a job is cancelled while it is made."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._tasks: queue.Queue[dict[str, Any]] = queue.Queue()
        self._cancelled: set[str] = set()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._stream:
            command = json.loads(line)
            if "cancel" in command:
                self._cancelled.add(command["cancel"])
            else:
                self._tasks.put(command)
        os._exit(0)  # the server has ended, however; nobody waits for what is made

    def next(self) -> dict[str, Any]:
        """The next task, which is waited for."""
        return self._tasks.get()

    def is_cancelled(self, id: str) -> bool:
        """Whether a job was cancelled."""
        return id in self._cancelled

    def forget(self, id: str) -> None:
        """Forgets that a job, which has ended, was cancelled."""
        self._cancelled.discard(id)


def main() -> None:
    """Works until the server closes the standard input."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever prints must not get between the lines
    lock = threading.Lock()

    def say(message: dict[str, Any]) -> None:
        with lock:
            channel.write(json.dumps(message) + "\n")
            channel.flush()

    worker, commands = Worker(), Commands(sys.stdin)
    while True:
        task = commands.next()
        id = task["run"]
        run(worker, task, functools.partial(commands.is_cancelled, id), say)
        commands.forget(id)


if __name__ == "__main__":
    main()
