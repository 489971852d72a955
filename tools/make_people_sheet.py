"""Draws the contact sheet of docs/people.png: synthetic people, moving, and their conditions.

python tools/make_people_sheet.py --output=docs/people.png [--seed=S]
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from champ_jax.common.cli import Parser, run
from champ_jax.common.files import atomic_path
from champ_jax.common.outputs import PNG, Output, claim
from champ_jax.common.ranges import Integer
from champ_jax.conditions.rendered_motion import RENDERED, render_motion
from champ_jax.data.synthetic.anatomy import load_anatomy
from champ_jax.data.synthetic.one_video import Settings, VideoName, draw_images, draw_take

_COLUMNS, _PEOPLE_ROWS, _STRIPS = 9, 2, 3


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--output", required=True, help="a PNG file")
    parser.add_argument("--seed", type=Integer(minimum=0), default=0, help="(%(default)s)")
    options = parser.parse_args(argv)
    claim([Output("--output", options.output, PNG)])
    with tqdm(total=_COLUMNS * _PEOPLE_ROWS + _STRIPS, desc="sheet", unit="video") as bar:
        rows = []
        for row in range(_PEOPLE_ROWS):
            people = []
            for column in range(_COLUMNS):
                people.append(_person(options.seed, row * _COLUMNS + column))
                bar.update()
            rows.append(np.concatenate(people, axis=1))
        for number in range(_STRIPS):
            rows.append(_strip(options.seed, _COLUMNS * _PEOPLE_ROWS + number))
            bar.update()
    with atomic_path(options.output) as path:
        Image.fromarray(np.concatenate(rows)).save(path, "PNG", optimize=True)


def _person(seed: int, number: int) -> np.ndarray:
    """The middle frame of one person's video."""
    settings = Settings(seed=seed, frames=24)
    take = draw_take(settings, VideoName("train", number, number))
    middle = take.motion[len(take.motion) // 2 : len(take.motion) // 2 + 1]
    return draw_images(take, middle)[0][0]


def _strip(seed: int, number: int) -> np.ndarray:
    """Four frames of a video, and the conditions of the last."""
    take = draw_take(Settings(seed=seed, frames=40), VideoName("train", number, number))
    chosen = take.motion[np.array([0, 13, 26, 39])]
    images = draw_images(take, chosen)[0]
    conditions = render_motion(chosen, load_anatomy().body)[3]
    maps = [conditions[name] for name in RENDERED]
    panels = [map_ if map_.ndim == 3 else np.repeat(map_[..., None], 3, axis=-1) for map_ in maps]
    return np.concatenate([*images, *panels], axis=1)


if __name__ == "__main__":
    run(main)
