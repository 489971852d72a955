"""Gives held-out motions to other bodies, to measure the effect of shape alignment where bodies differ.

  python tools/make_people.py --output=DIR --count=16 --frames=48 --seed=2 --test_share=1 --extreme
  python tools/make_drivers.py --held_out=DIR/test --output=OUT
  python tools/predict_held_out.py --held_out=DIR/test --motions=OUT/unaligned --weights=WEIGHTS --output=UNALIGNED
  python tools/predict_held_out.py --held_out=DIR/test --motions=OUT/aligned --weights=WEIGHTS --output=ALIGNED

OUT/unaligned/VIDEO.npz is the video's motion as performed by the person of another video, the one whose height differs
most, in front of the same camera. OUT/aligned/VIDEO.npz is that motion aligned to the person of the video, as
`champ align` does it from the first frame alone. The true video of both is DIR/test/VIDEO.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from champ_jax.body.alignment import AlignOptions, align
from champ_jax.body.measurements import rest_height
from champ_jax.body.motion import Motion
from champ_jax.body.smpl import load_body
from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError
from champ_jax.common.outputs import NPZ, Output, claim
from champ_jax.evaluation.baselines import find_people

KINDS = ("unaligned", "aligned")


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--held_out", required=True, help="folder of the videos")
    parser.add_argument("--output", required=True, help="folder for the motions")
    options = parser.parse_args(argv)
    videos, output, body = find_people(options.held_out), Path(options.output), load_body()
    if len(videos) < 2:
        raise InputError(f"{options.held_out}: holds one video; another person is needed to perform its motion")
    motions = [video / "motion.npz" for video in videos]
    files = {(kind, video): output / kind / f"{video.name}.npz" for kind in KINDS for video in videos}
    claim([Output("--output", path, NPZ) for path in files.values()], motions)
    people = [Motion.load(path) for path in motions]
    heights = np.array([rest_height(body, person.betas) for person in people])
    ratios = []
    for video, person, height in zip(tqdm(videos, unit="video"), people, heights, strict=True):
        other = int(np.abs(np.log(heights / height)).argmax())
        driver = align(person, people[other], body, body, AlignOptions(camera="driver", fit="none"))
        driver.save(files["unaligned", video])
        align(driver, person[:1], body, body).save(files["aligned", video])
        ratios.append(max(heights[other] / height, height / heights[other]))
    percent = 100 * np.mean(ratios) - 100
    print(f"{options.output}: {len(videos)} motions by drivers whose heights differ by {percent:.0f} %")


if __name__ == "__main__":
    run(main)
