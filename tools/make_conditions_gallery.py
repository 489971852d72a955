"""Draws the pictures of docs/conditions.md: a few poses of the open body, each with its conditions.

python tools/make_conditions_gallery.py --output=docs/conditions
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from champ_jax.body.authored import load_authored
from champ_jax.body.smpl import load_body
from champ_jax.common.cli import Parser, run
from champ_jax.common.pictures import write_image
from champ_jax.conditions.preview import preview
from champ_jax.conditions.rendered_motion import render_motion

# Name of the picture: motion, frame.
POSES = {"wave": ("wave", 18), "profile": ("turn", 14), "back": ("turn", 24), "sway": ("sway", 10)}
_SIDE = 224
# The person's share of the picture: what is cut away on the left and right.
_COLUMNS = slice(24, -24)


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--output", default="docs/conditions", help="where the pictures go")
    output = Path(parser.parse_args(argv).output)
    body = load_body()
    for name, (motion, frame) in POSES.items():
        images = render_motion(load_authored(motion), body, image_size=(_SIDE, _SIDE))[frame]
        panels = [preview(images["normal"]), *images.values()]
        panels = [np.stack([panel] * 3, axis=-1) if panel.ndim == 2 else panel for panel in panels]
        write_image(output / f"{name}.png", np.concatenate([panel[:, _COLUMNS] for panel in panels], axis=1))
        print(f"{output / f'{name}.png'}: frame {frame} of {motion}, {', '.join(['shaded', *images])}")


if __name__ == "__main__":
    run(main)
