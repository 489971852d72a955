"""Draws held-out people as a model makes them, under their true frames.

python tools/make_results_sheet.py --held_out=DIR/test --predictions=OUT --names=A,B --output=held_out.png
python tools/make_results_sheet.py --held_out=DIR/test --predictions=OUT/one,OUT/other --names=A --output=two.png

A person is a row of the reference picture and true frames, and below it one for each folder of predictions: the normal
map of the last true frame and the model's frames, under the folder's name where there are several.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import list_images, read_image, write_image
from champ_jax.evaluation.baselines import IMAGES

_APART = 4  # px between panels
_MARGIN = 72  # px for the words on the left


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--held_out", required=True, help="folder of the true videos")
    parser.add_argument("--predictions", required=True, help="folders of VIDEO/NNNN.png")
    parser.add_argument("--names", required=True, help="which videos, separated by commas")
    parser.add_argument("--frames", type=int, default=5, help="of each video, evenly spread (%(default)s)")
    parser.add_argument("--output", required=True, help="the .png")
    options = parser.parse_args(argv)
    folders = [Path(folder) for folder in options.predictions.split(",")]
    words = ["model"] if len(folders) == 1 else [folder.name for folder in folders]
    people = [
        _person(Path(options.held_out) / name, words, [folder / name for folder in folders], options.frames)
        for name in options.names.split(",")
    ]
    write_image(Path(options.output), np.concatenate(people))
    print(f"{options.output}: {len(people)} people, {options.frames} frames of each")


def _person(truth: Path, words: Sequence[str], made: Sequence[Path], count: int) -> np.ndarray:
    true = list_images(truth / IMAGES)
    chosen = np.linspace(len(true) // count, len(true) - 1, count).round().astype(int)
    rows = [_row([true[0], *(true[index] for index in chosen)], ("reference", "| truth"))]
    normal = list_images(truth / "normal")[chosen[-1]]
    for word, folder in zip(words, made, strict=True):
        drawn = list_images(folder)
        if len(true) != len(drawn):
            raise InputError(f"{folder}: has {len(drawn)} frames, {truth / IMAGES} has {len(true)}; predict it again")
        rows.append(_row([normal, *(drawn[index] for index in chosen)], ("normal map", f"| {word}")))
    return np.concatenate(rows)


def _row(paths: Sequence[Path], words: tuple[str, str]) -> np.ndarray:
    panels = [read_image(path) for path in paths]
    height, width = panels[0].shape[:2]
    row = Image.new("RGB", (_MARGIN + len(panels) * (width + _APART), height + _APART), "white")
    font = ImageFont.load_default()
    for line, word in enumerate(words):
        ImageDraw.Draw(row).text((2, 4 + 14 * line), word, fill="black", font=font)
    for index, panel in enumerate(panels):
        row.paste(Image.fromarray(panel), (_MARGIN + index * (width + _APART), 0))
    return np.asarray(row)


if __name__ == "__main__":
    run(main)
