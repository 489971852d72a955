"""tools/fit_motion.py: what is written beside the motion, for one shot and for several."""

import json
import runpy

import numpy as np
import pytest
import torch
from hmr2_twin import SMALL, checkpoint, twin
from hostile.harness import ROOT

from champ_jax.body.authored import load_authored
from champ_jax.body.motion import Motion
from champ_jax.commands import fit as command
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image
from champ_jax.common.videos import read_video, write_video
from champ_jax.fitting import steps
from champ_jax.fitting.fit import Fit
from champ_jax.fitting.hmr2.weights import convert
from champ_jax.fitting.keypoints import Keypoints

FRAMES = 4


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """The tool's main, over a detector that finds the shots of a list and a fit that knows the answer."""
    motion = load_authored("wave")
    seen = {"shots": [2], "spread": 1.0}

    def find(path, options, fps, focal, progress, moving_camera=False):
        first, shots, seen["moving"] = 0, [], moving_camera
        for frames in seen["shots"]:
            given = np.ones((frames, 134, 3))
            given[..., :2] = seen["spread"]
            points = Keypoints.create(given, motion.image_size, 24)
            shots.append(steps.Shot(np.arange(first, first + frames), points))
            first += frames
        return shots, ["  person 1"]

    def fit(points, body, settings, progress, store=None, predict=None):
        count, seen["points"] = len(points), points
        seen["poses"] = None if predict is None else predict(np.full(count, 600.0))
        return Fit(motion[:count], np.ones(count, np.float32), np.ones((count, 6)), 500.0, np.zeros((count, 24, 3)))

    monkeypatch.setattr(command, "find_shots", find)
    monkeypatch.setattr(command, "fit_points", fit)
    width, height = motion.image_size.tolist()
    pictures = [np.full((height, width, 3), 60 * index, np.uint8) for index in range(FRAMES)]
    write_video(tmp_path / "dance.mp4", pictures, 24)
    main = runpy.run_path(str(ROOT / "tools/fit_motion.py"))["main"]
    base = [f"--input={tmp_path / 'dance.mp4'}", f"--output={tmp_path / 'out' / 'motion.npz'}", "--quiet"]
    return main, base, seen, tmp_path / "out"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_one_shot_and_its_pictures(tool, tmp_path, capsys):
    main, base, seen, out = tool
    edits = tmp_path / "edits.json"
    edits.write_text(json.dumps({"frames": {"1": {"4": [3, 5]}}}))
    main([*base, "--debug", f"--edit={edits}"])
    assert names(out) == ["motion.npz", "motion_fit.png", "motion_keypoints.npz", "motion_overlay.mp4"]
    assert len(Motion.load(out / "motion.npz")) == 2
    np.testing.assert_array_equal(seen["points"].keypoints[1, 4], [3, 5, 1])
    np.testing.assert_array_equal(Keypoints.load(out / "motion_keypoints.npz").keypoints, seen["points"].keypoints)
    assert len(list(read_video(out / "motion_overlay.mp4"))) == 2
    assert read_image(out / "motion_fit.png").std() > 10
    assert "1 corrections" in capsys.readouterr().out


def test_several_shots_are_numbered(tool):
    main, base, seen, out = tool
    seen["shots"] = [1, 3]
    main([*base, "--no_pictures"])
    assert names(out) == ["motion_1.npz", "motion_2.npz"]
    assert [len(Motion.load(out / name)) for name in names(out)] == [1, 3]
    with pytest.raises(InputError, match="of one shot"):
        main([*base, f"--edit={out / 'motion_1.npz'}"])


def test_points_are_an_input_again(tool, tmp_path):
    main, base, seen, out = tool
    main([*base, "--debug", "--no_pictures"])
    given = [f"--input={out / 'motion_keypoints.npz'}", f"--output={tmp_path / 'again' / 'motion.npz'}", "--quiet"]
    main([*given, "--focal=700"])
    assert names(tmp_path / "again") == ["motion.npz", "motion_fit.png"]
    np.testing.assert_array_equal(seen["points"].focal, [700, 700])


def test_a_moving_camera_is_asked_for(tool, tmp_path):
    """The points come with the camera's path, and the overlay is drawn through it."""
    main, base, seen, out = tool
    main([*base, "--no_pictures"])
    assert not seen["moving"]
    main([*base, "--camera=moving", "--debug", "--no_pictures"])
    assert seen["moving"]
    again = [f"--input={out / 'motion_keypoints.npz'}", f"--output={tmp_path / 'again.npz'}", "--quiet"]
    with pytest.raises(InputError, match=r"--camera=moving: looks at the background"):
        main([*again, "--camera=moving"])


def test_hmr2_looks_at_every_shot(tool, tmp_path):
    """The network of the tests looks at the frames of each shot; points give it nothing to look at."""
    main, base, seen, out = tool
    torch.save(checkpoint(twin()), tmp_path / "hmr2.ckpt")
    weights = tmp_path / "hmr2.safetensors"
    convert(tmp_path / "hmr2.ckpt", weights, config=SMALL)
    spread = np.random.default_rng(0).uniform(50, 400, (134, 2))
    seen["spread"], seen["shots"] = spread, [3]
    main([*base, "--debug", "--no_pictures", f"--hmr2={weights}"])
    first = seen["poses"]
    assert first.known.shape == (3,)
    assert np.ptp(first.rotations, axis=0).max() > 1e-4  # gray 0, 60, 120
    seen["shots"] = [1, 2]
    main([*base, "--no_pictures", f"--hmr2={weights}"])
    np.testing.assert_allclose(seen["poses"].rotations, first.rotations[1:], atol=1e-5)
    again = [f"--input={out / 'motion_keypoints.npz'}", f"--output={tmp_path / 'again.npz'}", "--quiet"]
    with pytest.raises(InputError, match="looks at pictures"):
        main([*again, f"--hmr2={weights}"])
