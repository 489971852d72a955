"""Puts videos above each other into one moving picture for a page: an animated WebP, which every browser plays.

python tools/make_moving_picture.py --videos=a_comparison.mp4,b_comparison.mp4 --output=docs/results/moving.webp

All videos have one size and rate; the picture is as long as the shortest, and repeats for ever.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from champ_jax.common.cli import Parser, run
from champ_jax.common.contents import HEAD
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path, open_input
from champ_jax.common.outputs import Kind, Output, claim
from champ_jax.common.ranges import Integer
from champ_jax.common.videos import read_video, video_fps

_FRAMES = 240  # of a picture that a page is to load at once


def _is_webp(path: Path) -> bool:
    with open_input(path) as file:
        head = file.read(HEAD)
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


WEBP = Kind("a WebP picture", _is_webp)


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--videos", required=True, help="the videos, separated by commas, from the top down")
    parser.add_argument("--quality", type=Integer(minimum=1, maximum=100), default=80, help="of WebP (%(default)s)")
    parser.add_argument("--output", required=True, help="the .webp")
    options = parser.parse_args(argv)
    if Path(options.output).suffix.lower() != ".webp":
        raise InputError(f"--output={options.output}: name a .webp file")
    paths = options.videos.split(",")
    claim([Output("--output", options.output, WEBP)], paths)
    videos = [list(islice(read_video(path), _FRAMES)) for path in paths]
    rates = [video_fps(path) for path in paths]
    for path, video, rate in zip(paths, videos, rates):
        if video[0].shape != videos[0][0].shape or abs(rate - rates[0]) > 0.01:
            height, width = video[0].shape[:2]
            raise InputError(
                f"{path}: is {width}x{height} at {rate:g} frames per second, {paths[0]} is "
                f"{videos[0][0].shape[1]}x{videos[0][0].shape[0]} at {rates[0]:g}; make them alike"
            )
    frames = [Image.fromarray(np.concatenate(rows)) for rows in zip(*videos)]
    with atomic_path(options.output) as temporary:
        frames[0].save(
            temporary,
            "WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=round(1000 / rates[0]),
            loop=0,
            quality=options.quality,
            method=6,
        )
    size = Path(options.output).stat().st_size
    print(f"{options.output}: {len(frames)} frames, {frames[0].width}x{frames[0].height}, {size / 2**10:.0f} KiB")


if __name__ == "__main__":
    run(main)
