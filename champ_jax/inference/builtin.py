"""What a run without arguments works on: a small model trained on synthetic people, and one it has not seen.

The files lie in champ_jax/assets: model/model.safetensors (champ_jax/weights/packed.py; MODEL.md beside it says how it
was made) and people/NAME/{reference.png, motion.npz, truth.mp4}: a picture, a motion of the open body, and the true
video.
"""

from pathlib import Path

import numpy as np

from champ_jax.body.motion import Motion
from champ_jax.body.smpl import BodyModel, load_body
from champ_jax.common.pictures import read_image

_ASSETS = Path(__file__).parents[1] / "assets"
MODEL = _ASSETS / "model" / "model.safetensors"
PEOPLE = _ASSETS / "people"
PERSON = "p00012_m00012"  # of a run without arguments

FRAMES = 24  # of the motion that are drawn without arguments: what the motion modules see at once
HEIGHT = 128  # of the video, where none is asked for: the model knows no other
NOTICE = (
    "note: no --config.weights given. The built-in model is a small demonstration trained on synthetic people at "
    "128x128; real people need Champ's weights: convert them with tools/convert_weights.py"
)


def motion() -> tuple[Motion, BodyModel]:
    """The beginning of a motion the model was not trained on, and the body that makes it."""
    return Motion.load(PEOPLE / PERSON / "motion.npz")[:FRAMES], load_body()


def picture() -> np.ndarray:
    """The first frame of the motion's own video: (H, W, 3) uint8."""
    return read_image(PEOPLE / PERSON / "reference.png")
