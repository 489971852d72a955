"""What a run without arguments works on: a small model trained on synthetic people, and one it has not seen.

The files are in champ_jax/assets: model/model.safetensors (champ_jax/weights/packed.py; MODEL.md beside it says how it
was made) and people/NAME/{reference.png, motion.npz, truth.mp4}: a picture, a motion of the open body, and the true
video, whose first frame is the picture.
"""

from pathlib import Path

_ASSETS = Path(__file__).parents[1] / "assets"
MODEL = _ASSETS / "model" / "model.safetensors"
PEOPLE = _ASSETS / "people"
PERSON = "p00012_m00012"  # used without arguments; the model was not trained on this person, nor on the motion
REFERENCE = PEOPLE / PERSON / "reference.png"
MOTION = PEOPLE / PERSON / "motion.npz"

FRAMES = "0:24"  # frames of the motion drawn without arguments: what the motion modules see at once
# How it is sampled by default: ten guided steps are worse on people it has not seen (docs/results.md).
SAMPLING = {"steps": 1, "guidance_scale": 1.0}
HEIGHT = 128  # height of the video by default: the model knows no other
NOTICE = (
    "note: no --config.weights given. The built-in model is a small demonstration trained on synthetic people at "
    "128x128; real people need Champ's weights: convert them with `champ convert`"
)
