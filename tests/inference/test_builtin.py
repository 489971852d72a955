"""What ships: a small model within its size, and people it has not seen, with pictures that belong to their motions."""

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from champ_jax.body.motion import Motion
from champ_jax.body.smpl import load_body
from champ_jax.common.pictures import read_image
from champ_jax.common.videos import read_video, video_fps
from champ_jax.conditions.rendered_motion import render_motion
from champ_jax.inference import builtin
from champ_jax.weights.flat import from_components
from champ_jax.weights.opening import open_weights
from champ_jax.weights.packed import size_of

MODEL = run_path(str(Path(__file__).parents[2] / "configs/people/model.py"))["MODEL"]
NAMES = sorted(path.name for path in builtin.PEOPLE.iterdir() if path.is_dir())


def test_the_model_is_the_recipes_and_small():
    model = open_weights(builtin.MODEL).model
    assert model.unet == MODEL.unet
    assert model.guidance == MODEL.guidance
    assert model.motion == MODEL.motion
    assert size_of(builtin.MODEL)[1] <= 24 * 2**20
    assert {"model.safetensors", "MODEL.md", "LICENSE.md"} <= {path.name for path in builtin.MODEL.parent.iterdir()}


def test_nothing_of_the_model_is_left_at_its_start():
    """Zero convolutions have moved: stage 1 trained the guidance, stage 2 the motion modules."""
    arrays = from_components(open_weights(builtin.MODEL).load())
    ends = [name for name in arrays if name.endswith(("conv_out.kernel", "temporal_transformer.proj_out.kernel"))]
    assert len(ends) > 8
    for name in ends:
        if "reference_unet" not in name:
            assert np.abs(arrays[name]).max() > 1e-4, name


@pytest.mark.parametrize("name", NAMES)
def test_a_persons_picture_motion_and_video_belong_together(name):
    folder = builtin.PEOPLE / name
    motion = Motion.load(folder / "motion.npz")
    frames = list(read_video(folder / "truth.mp4"))
    assert len(frames) == len(motion)
    assert video_fps(folder / "truth.mp4") == motion.fps
    picture = read_image(folder / "reference.png")
    assert picture.shape == (builtin.HEIGHT, builtin.HEIGHT, 3)
    assert np.abs(picture.astype(float) - frames[0]).mean() < 6  # what H.264 costs
    mask = render_motion(motion, load_body(), frames=slice(0, 1), conditions=("mask",))[0]["mask"] > 0
    seen = np.abs(picture.astype(float) - np.median(picture[~mask], axis=0)).sum(axis=-1)
    assert seen[mask].mean() > seen[~mask].mean()


def test_the_default_person_is_there():
    assert builtin.PERSON in NAMES
    assert read_image(builtin.REFERENCE).shape == (128, 128, 3)
    assert len(Motion.load(builtin.MOTION)) >= 24
