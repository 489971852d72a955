"""A driving video in place of a motion: the steps, their files, and when they are used again."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from champ_jax.body.authored import load_authored
from champ_jax.common.errors import InputError
from champ_jax.common.progress import Progress
from champ_jax.fitting.fit import Fit
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.steps import Shot
from champ_jax.inference import driving
from champ_jax.inference.config import get_config


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A command whose detector and fit are stand-ins: they give an authored motion and count their calls."""
    motion = load_authored("wave")
    calls = []

    def find(path, options, fps, focal, progress):
        calls.append(path.name)
        frames = 1 if path.suffix == ".png" else len(motion)
        points = Keypoints.create(np.ones((frames, 134, 3)), motion.image_size, 24)
        return [Shot(np.arange(frames), points)], ["somebody"]

    def fit(points, body, settings, progress, store=None):
        part = motion[: len(points)]
        part = dataclasses.replace(part, betas=part.betas + 0.1 * len(points))
        count = len(points)
        return Fit(part, np.ones(count, np.float32), np.zeros((count, 6)), 500.0, np.zeros((count, 24, 3)))

    monkeypatch.setattr(driving, "find_shots", find)
    monkeypatch.setattr(driving, "fit_points", fit)
    Image.new("RGB", (64, 64), "gray").save(tmp_path / "person.png")
    (tmp_path / "dance.mp4").write_bytes(b"a video")
    config = get_config()
    config.reference, config.driving = str(tmp_path / "person.png"), str(tmp_path / "dance.mp4")
    config.output = str(tmp_path / "out" / "animation.mp4")
    return config, calls, tmp_path


def test_steps_are_kept_and_used_again(config):
    config, calls, folder = config
    driving.prepare(config, Progress(quiet=True))
    assert calls == ["person.png", "dance.mp4"]
    out = folder / "out"
    assert config.motion == str(out / "animation_aligned.npz")
    names = [f"animation_{step}{end}" for step in driving.STEPS for end in (".npz", ".made_of.json")]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    aligned = driving.Motion.load(config.motion)
    assert len(aligned) == len(load_authored("wave"))
    np.testing.assert_allclose(aligned.betas, load_authored("wave").betas + 0.1)  # the picture's
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    driving.prepare(config, Progress(quiet=True))  # as a run that repeats a record does
    assert calls == ["person.png", "dance.mp4"]
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    (folder / "dance.mp4").write_bytes(b"another video")
    driving.prepare(config, Progress(quiet=True))
    assert calls == ["person.png", "dance.mp4", "dance.mp4"]
    record = json.loads((out / "animation_driving.made_of.json").read_text())
    record["version"] = -1
    (out / "animation_driving.made_of.json").write_text(json.dumps(record))
    driving.prepare(config, Progress(quiet=True))
    assert calls[-2:] == ["dance.mp4", "dance.mp4"]


def test_what_is_refused(config):
    config, calls, folder = config
    config.motion = str(folder / "motion.npz")
    with pytest.raises(InputError, match=r"--config.driving, --config.motion"):
        driving.prepare(config, Progress(quiet=True))
    config.motion = ""
    (folder / "out").mkdir()
    (folder / "out" / "animation_driving.npz").write_bytes(b"the user's own")
    with pytest.raises(InputError, match=r"animation_driving\.npz"):
        driving.prepare(config, Progress(quiet=True))
    assert not calls
