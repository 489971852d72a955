"""Draws the frames that models made of held-out people below the true frames.

python tools/make_results_sheet.py --held_out=DIR/test --predictions=OUT --names=A,B --output=held_out.png
python tools/make_results_sheet.py --held_out=DIR/test --predictions=OUT/one,OUT/other --names=A --output=two.png

Each person has a row of the reference picture and true frames, and below it a row for each folder of predictions: the
normal map of the last true frame and the model's frames, labeled with the folder's name where there are several.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError
from champ_jax.common.outputs import PNG, Output, claim
from champ_jax.common.pictures import list_images, read_image, write_image
from champ_jax.common.ranges import Integer
from champ_jax.evaluation.baselines import IMAGES

_APART = 4  # px between panels
_MARGIN = 72  # px for the labels on the left


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--held_out", required=True, help="folder of the true videos")
    parser.add_argument("--predictions", required=True, help="folders of VIDEO/NNNN.png")
    parser.add_argument("--names", required=True, help="names of the videos, separated by commas")
    frames = Integer(minimum=1, maximum=100)
    parser.add_argument(
        "--frames", type=frames, default=5, help="frames drawn of each video, evenly spread (%(default)s)"
    )
    parser.add_argument("--output", required=True, help="the .png")
    options = parser.parse_args(argv)
    folders, names = [Path(folder) for folder in options.predictions.split(",")], options.names.split(",")
    truths = [Path(options.held_out) / name for name in names]
    if Path(options.output).suffix.lower() != ".png":
        raise InputError(f"--output={options.output}: name a .png file")
    claim(
        [Output("--output", options.output, PNG)], [*truths, *(folder / name for folder in folders for name in names)]
    )
    labels = ["model"] if len(folders) == 1 else [folder.name for folder in folders]
    people = [_person(truth, labels, [folder / truth.name for folder in folders], options.frames) for truth in truths]
    if len({person.shape[1] for person in people}) > 1:
        raise InputError(f"--names={options.names}: the videos have pictures of different widths; draw one sheet each")
    write_image(Path(options.output), np.concatenate(people))
    print(f"{options.output}: {len(people)} people, {options.frames} frames of each")


def _person(truth: Path, labels: Sequence[str], made: Sequence[Path], count: int) -> np.ndarray:
    """The rows of a person: the true frames, and a row for each folder of predictions."""
    true = list_images(truth / IMAGES)
    if not true:
        raise InputError(f"{truth / IMAGES}: holds no pictures")
    chosen = np.linspace(len(true) // count, len(true) - 1, count).round().astype(int)
    rows = [_row([true[0], *(true[index] for index in chosen)], ("reference", "| truth"))]
    normal = _frames(truth / "normal", len(true))[chosen[-1]]
    for label, folder in zip(labels, made, strict=True):
        drawn = _frames(folder, len(true))
        rows.append(_row([normal, *(drawn[index] for index in chosen)], ("normal map", f"| {label}")))
    return np.concatenate(rows)


def _frames(folder: Path, count: int) -> list[Path]:
    """The pictures of a folder; raises InputError unless there are `count` of them."""
    frames = list_images(folder)
    if len(frames) != count:
        raise InputError(f"{folder}: has {len(frames)} frames, the true video has {count}; make it again")
    return frames


def _row(paths: Sequence[Path], labels: tuple[str, str]) -> np.ndarray:
    panels = [read_image(path) for path in paths]
    height, width = panels[0].shape[:2]
    for path, panel in zip(paths, panels):
        if panel.shape != panels[0].shape:
            raise InputError(f"{path}: is {panel.shape[1]}x{panel.shape[0]}, {paths[0]} is {width}x{height}")
    row = Image.new("RGB", (_MARGIN + len(panels) * (width + _APART), height + _APART), "white")
    font = ImageFont.load_default()
    for line, label in enumerate(labels):
        ImageDraw.Draw(row).text((2, 4 + 14 * line), label, fill="black", font=font)
    for index, panel in enumerate(panels):
        row.paste(Image.fromarray(panel), (_MARGIN + index * (width + _APART), 0))
    return np.asarray(row)


if __name__ == "__main__":
    run(main)
