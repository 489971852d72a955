"""The worker over a stand-in for the pipeline: what it makes of a task, says meanwhile, and refuses."""

import dataclasses
import json
import subprocess
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from app_harness import REFERENCE

from champ_jax.app import worker as module
from champ_jax.app.request import AnimationRequest, FieldError, MotionEdits, built_in_motions
from champ_jax.app.service import RESULTS
from champ_jax.app.worker import Cancelled, JobProgress, Worker, failure, run
from champ_jax.body.authored import load_authored
from champ_jax.body.motion import Motion
from champ_jax.common.children import environment, python
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image, write_image
from champ_jax.common.videos import VideoWriter, read_video
from champ_jax.fitting.fit import Fit
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.steps import Shot
from champ_jax.inference import batch, driving
from champ_jax.inference.result import Animation


class StandIn:
    """A pipeline that makes gray frames, and is as long at it as `reached` and `offer` take."""

    def __init__(self, devices):
        self.devices, self.compiled = devices, {}

    def animate(self, picture, motion, settings, *, noise, fps, progress, profiler):
        width, height = settings.width or 128, settings.height or 128
        with progress.bar("encode", len(motion), "frame") as bar:
            bar.update(len(motion))
        with progress.bar("denoise", settings.steps, "step") as bar:
            for _ in range(settings.steps):
                progress.offer(lambda: np.full((height, width, 3), 90, np.uint8))
                bar.update()

        def decode():
            with progress.bar("decode", len(motion), "frame") as bar:
                yield np.full((len(motion), height, width, 3), settings.seed / 255, np.float32)
                bar.update(len(motion))

        return Animation(np.zeros((len(motion), height // 8, width // 8, 4), np.float32), (width, height), fps, decode)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Runs a task of a request; returns its folder, and what was said of it."""
    import jax

    pipeline = StandIn(jax.local_devices()[:1])
    monkeypatch.setattr(batch, "load_pipeline", lambda *_: pipeline)
    worker = Worker()

    def call(reference: Path = REFERENCE, path: Path | None = None, kind: str = "motion", cancel=None, **fields):
        limits = {"max_frames": 30, "max_video_pixels": 256 * 256, "max_driving_frames": 50}
        limits |= fields.pop("limits", {})
        request = AnimationRequest(**fields)
        folder = tmp_path / "jobs" / "j-1"
        folder.mkdir(parents=True, exist_ok=True)
        said = []
        task = {
            "run": "j-1",
            "request": request.to_json(),
            "reference": str(reference),
            "motion": str(path or built_in_motions()[request.motion]),
            "kind": kind,
            "folder": str(folder),
            "workspace": str(tmp_path),
            "fits": {"reference": str(tmp_path / "person.npz"), "motion": str(tmp_path / "driver.npz")},
            "settings": {"weights": "", "untrained": False, "body": "", "dtype": "auto", **limits},
        }
        run(worker, task, (lambda: False) if cancel is None else (lambda: cancel(said)), said.append)
        assert {message["job"] for message in said} == {"j-1"}
        json.dumps(said)
        return folder, said

    return call


def test_a_task_becomes_all_results(make, tmp_path):
    (tmp_path / "jobs" / "j-1" / "frames").mkdir(parents=True)  # of an attempt before
    (tmp_path / "jobs" / "j-1" / "left.mp4").touch()
    folder, said = make(motion="wave", frames=6, seed=120, edits=MotionEdits(start=2, mirror=True))
    assert said[-1] == {
        "job": "j-1",
        "kind": "done",
        "about": {"stage": None, "step": None, "steps": None},
        "retire": False,
    }
    assert sorted(path.name for path in folder.iterdir()) == sorted([*RESULTS.values(), "preview-1.png"])
    frames = list(read_video(folder / "animation.mp4"))
    assert len(frames) == 6
    assert np.abs(frames[0].astype(int) - 120).max() < 6
    with zipfile.ZipFile(folder / "frames.zip") as archive:
        assert archive.namelist() == [f"{number:04}.png" for number in range(1, 7)]
    assert len(Motion.load(folder / "animation_motion.npz")) == 6
    np.testing.assert_array_equal(read_image(folder / "animation_reference.png"), read_image(REFERENCE))


def test_the_record_names_the_results_and_no_place_of_the_server(make, tmp_path):
    folder, _ = make(frames=3)
    text = (folder / "animation.json").read_text()
    assert str(tmp_path) not in text
    assert str(REFERENCE.parents[3]) not in text
    config = json.loads(text)["config"]
    assert {name: config[name] for name in ("reference", "motion", "output", "weights")} == {
        "reference": "animation_reference.png",
        "motion": "animation_motion.npz",
        "output": "animation.mp4",
        "weights": "",
    }


def test_what_is_said_meanwhile(make):
    _, said = make(frames=3, steps=3)
    about = [message["about"] for message in said if message["kind"] == "progress"]
    stages = [one["stage"] for one in about if "stage" in one]
    assert [stage for place, stage in enumerate(stages) if stage not in stages[:place]] == [
        "encode",
        "denoise",
        "decode",
        "pack",
    ]
    denoised = [one for one in about if one.get("stage") == "denoise"]
    assert [denoised[0]["step"], denoised[-1]["step"]] == [0, 3]
    assert all(one["steps"] == 3 for one in denoised)
    assert [one["preview"] for one in about if "preview" in one] == ["preview-1.png"]  # one a second at most


def test_a_second_job_knows_how_long_it_will_take(make):
    make(frames=3)
    _, said = make(frames=3)
    begun = next(message["about"] for message in said if message["about"].get("stage") == "encode")
    assert begun["seconds_left"] is not None


def test_a_job_is_cancelled_between_steps(make):
    folder, said = make(frames=3, steps=50, cancel=lambda said: any("preview" in one.get("about", {}) for one in said))
    assert said[-1] == {"job": "j-1", "kind": "cancelled"}
    assert not (folder / "animation.mp4").exists()
    assert make(frames=3)[1][-1]["kind"] == "done"


@pytest.mark.parametrize(
    ("fields", "field", "text"),
    [
        ({"frames": 45}, "frames", "frames=45: the motion has 44 that are kept"),
        ({}, "frames", "frames: the motion has 44 that are kept, this server makes 30 at most; take fewer"),
        ({"edits": MotionEdits(start=44)}, "edits.start", "the motion has 44 frames"),
        ({"width": 512, "frames": 2}, "width", "512x512 pixels, this server makes 65,536 at most"),
        ({"height": 512, "frames": 2}, "height", "this server makes 65,536 at most"),
        ({"edits": MotionEdits(move_depth=-20.0), "frames": 2}, "edits.move_depth", "before the camera"),
    ],
)
def test_what_is_refused_names_its_field(make, fields, field, text):
    folder, said = make(**fields)
    assert said[-1]["kind"] == "failed"
    assert said[-1]["about"]["field"] == field
    assert text in said[-1]["about"]["error"]
    assert not (folder / "animation.mp4").exists()


def test_a_motion_folder_is_trimmed(make, tmp_path):
    for name in ("depth", "normal", "semantic_map", "dwpose", "mask"):
        (tmp_path / "maps" / name).mkdir(parents=True)
        for number in range(1, 7):
            write_image(tmp_path / "maps" / name / f"{number:04}.png", np.full((128, 128, 3), number, np.uint8))
    taken = {"path": tmp_path / "maps", "kind": "motion folder"}
    folder, said = make(**taken, edits=MotionEdits(start=2, stop=5))
    assert said[-1]["kind"] == "done", said[-1]
    assert len(list(read_video(folder / "animation.mp4"))) == 3
    assert not (folder / "animation_motion.npz").exists()
    assert json.loads((folder / "animation.json").read_text())["config"]["motion"] == "maps"
    _, said = make(**taken, edits=MotionEdits(stop=7))
    assert said[-1]["about"] == {"error": "edits.stop=7: the motion has 6 frames", "field": "edits.stop"}


@pytest.fixture
def fits(monkeypatch):
    """Stand-ins for the detector and the fit, which give an authored motion; the files that were looked at."""
    motion, looked = load_authored("wave"), []

    def find(path, options, fps, focal, progress):
        looked.append(path.name)
        count = 1 if path.suffix == ".png" else 8
        return [Shot(np.arange(count), Keypoints.create(np.ones((count, 134, 3)), motion.image_size, 24))], []

    def fit(points, body, settings, progress, store=None):
        count = len(points)
        part = dataclasses.replace(motion[:count], betas=motion.betas + 0.1 * count)
        return Fit(part, np.ones(count, np.float32), np.zeros((count, 6)), 500.0, np.zeros((count, 24, 3)))

    monkeypatch.setattr(driving, "find_shots", find)
    monkeypatch.setattr(driving, "fit_points", fit)
    return looked


def _video(path: Path, frames: int) -> Path:
    with VideoWriter(path, 24.0) as writer:
        for _ in range(frames):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    return path


def test_a_driving_video_is_fitted_once_and_put_onto_the_pictures_person(make, fits, tmp_path):
    taken = {"path": _video(tmp_path / "dance.mp4", 8), "kind": "video"}
    folder, said = make(**taken, frames=4)
    assert said[-1]["kind"] == "done", said[-1]
    assert fits == ["dance.mp4", "reference.png"]
    made = Motion.load(folder / "animation_motion.npz")
    assert len(made) == 4
    np.testing.assert_allclose(made.betas, load_authored("wave").betas + 0.1, atol=1e-6)  # the picture's
    make(**taken, frames=4, seed=1)
    assert fits == ["dance.mp4", "reference.png"]
    _, said = make(**taken, frames=4, limits={"max_driving_frames": 7})
    assert said[-1]["about"]["field"] == "motion"
    assert "more than the 7 frames" in said[-1]["about"]["error"]


def test_nobody_in_a_picture_concerns_the_picture(make, monkeypatch, tmp_path):
    def find(path, *_):
        raise InputError(f"{path}: nobody is seen; give a picture of a person")

    monkeypatch.setattr(driving, "find_shots", find)
    _, said = make(frames=2, edits=MotionEdits(align=True))
    assert said[-1]["about"] == {
        "error": "reference.png: nobody is seen; give a picture of a person",
        "field": "reference",
    }


def test_a_bug_fails_the_job_and_asks_for_a_new_process(make, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("secret details")

    monkeypatch.setattr(Worker, "make", broken)
    _, said = make()
    assert said == [
        {
            "job": "j-1",
            "kind": "failed",
            "about": {"error": "the server failed (RuntimeError); its log says more"},
            "retire": True,
        }
    ]
    assert "secret details" in capsys.readouterr().err


def test_a_device_without_memory_is_said(make, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(Worker, "make", broken)
    _, said = make()
    assert said[0]["about"]["error"].startswith("the memory of the server's device did not suffice")


def test_many_programs_ask_for_a_new_process(make, monkeypatch):
    import jax

    pipeline = StandIn(jax.local_devices()[:1])
    pipeline.compiled = dict.fromkeys(range(32))
    monkeypatch.setattr(batch, "load_pipeline", lambda *_: pipeline)
    assert make(frames=2)[1][-1]["retire"] is True


def test_warnings_are_notes(make, monkeypatch):
    make_it = Worker.make

    def warned(self, task, progress):
        warnings.warn("--config.fit: somewhat\ncut", stacklevel=1)
        make_it(self, task, progress)

    monkeypatch.setattr(Worker, "make", warned)
    _, said = make(frames=2)
    assert said[0]["about"] == {"notes": ["fit: somewhat cut"]}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InputError("--config.width, --config.height: too large"), ("width, height: too large", "width")),
        (InputError("fps=2000: expected less"), ("fps=2000: expected less", "fps")),
        (InputError("/w/uploads/u-1/p.png: is empty"), ("p.png: is empty", "reference")),
        (InputError("/w/jobs/j-1/animation_motion.npz: frame 3"), ("animation_motion.npz: frame 3", "motion")),
        (FieldError("no", "edits.scale"), ("no", "edits.scale")),
        (InputError("step 3 of 4: the latents are not finite"), ("step 3 of 4: the latents are not finite", None)),
    ],
)
def test_errors_in_the_users_words(error, expected):
    task = {
        "reference": "/w/uploads/u-1/p.png",
        "motion": "/w/uploads/u-2/m.npz",
        "folder": "/w/jobs/j-1",
        "workspace": "/w",
    }
    about = failure(error, task)
    assert (about["error"], about["field"]) == expected


def test_previews_take_little_of_the_time_and_the_last_is_kept(tmp_path, monkeypatch):
    now, said, shown = [100.0], [], []
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    progress = JobProgress(said.append, lambda: False, tmp_path)

    def frame():
        now[0] += 0.5
        shown.append(now[0])
        return np.zeros((2048, 1024, 3), np.uint8)

    for _ in range(120):
        progress.offer(frame)
        now[0] += 0.1
    assert len(shown) == 3  # one takes 0.5 s, so there are 5 s between
    assert [path.name for path in tmp_path.iterdir()] == ["preview-3.png"]
    assert read_image(tmp_path / "preview-3.png").shape == (512, 256, 3)


def test_a_cancelled_job_ends_at_any_step(tmp_path):
    progress = JobProgress(lambda _: None, lambda: True, tmp_path)
    with pytest.raises(Cancelled), progress.stage("compile"):
        pass


def test_the_process_ends_when_its_input_does():
    with subprocess.Popen(
        python("champ_jax.app.worker"), env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        out, _ = process.communicate(b"", timeout=120)
    assert (process.returncode, out) == (0, b"")
