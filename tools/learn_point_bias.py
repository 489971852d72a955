"""Learns how MediaPipe's points lie beside the body's, on synthetic people (champ_jax/assets/pose_networks).

  python tools/make_people.py --output=people --count=60 --frames=16 --size=512x512 --seed=77
  python tools/learn_point_bias.py --source=people/train --output=champ_jax/assets/pose_networks/point_bias.json

Prints for every joint the median distance to the body's own point, px, before and after, each video corrected by what
the others teach.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from champ_jax.body.motion import Motion
from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.evaluation.baselines import IMAGES, find_people
from champ_jax.fitting.detection import detect
from champ_jax.fitting.frames import Frames
from champ_jax.fitting.landmarks import PRESENT, Bodies, find_bodies
from champ_jax.fitting.point_bias import correct, joints, learn
from champ_jax.fitting.squares import Squares
from champ_jax.fitting.whole_body import whole_body

Sample = tuple[np.ndarray, Bodies, np.ndarray]


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--source", required=True, help="folder of videos that tools/make_people.py made")
    parser.add_argument("--output", required=True, help="the .json to write")
    options = parser.parse_args(argv)
    videos = find_people(options.source)
    motions = [Motion.load(video / "motion.npz") for video in videos]
    if len(videos) < 2:
        raise InputError(f"{options.source}: holds one video only; make at least two")
    samples = [sample(*pair) for pair in zip(videos, tqdm(motions, desc="people", unit="video"))]
    report(samples)
    with atomic_path(options.output) as temporary:
        temporary.write_text(json.dumps(learn(samples), indent=2) + "\n")


def sample(video: Path, motion: Motion) -> Sample:
    """The points found in a video, and the true ones; points outside of the picture are left out."""
    pictures = list(Frames(video / IMAGES))
    if motion.keypoints is None or len(motion) != len(pictures):
        raise InputError(f"{video}: motion.npz lacks the key points of its frames; make it with tools/make_people.py")
    found = detect(pictures)
    seen = [index for index, people in enumerate(found) if len(people)]
    squares = Squares.join([found[i].squares()[[int(np.argmax(found[i].squares().side))]] for i in seen])
    bodies = find_bodies([pictures[index] for index in seen], squares)
    nothing = np.zeros((len(seen), 2, 21, 3)), np.zeros((len(seen), 468, 3))
    points, truth = whole_body(bodies.points, bodies.scores, *nothing), motion.keypoints[seen].astype(np.float64)
    inside = np.all((truth[..., :2] > 2) & (truth[..., :2] < np.array(pictures[0].size) - 2), axis=-1)
    truth[..., 2] *= inside & (bodies.presence >= PRESENT)[:, None]
    return points, bodies, truth


def report(samples: Sequence[Sample]) -> None:
    """Prints the errors before and after, every video left out of what corrects it."""
    corrected = [
        correct(points, bodies, learn([*samples[:index], *samples[index + 1 :]]))
        for index, (points, bodies, _) in enumerate(samples)
    ]
    truth = np.concatenate([sample[2] for sample in samples])
    before = np.concatenate([sample[0] for sample in samples])
    errors = [np.linalg.norm((p - truth)[..., :2], axis=-1) for p in (before, np.concatenate(corrected))]
    for name, place, mirrored in joints():
        use = (truth[:, place, 2] > 0) & (before[:, place, 2] > 0.1)
        if use.any():
            medians = [float(np.median(error[use, place])) for error in errors]
            print(f"{'left ' if mirrored else ''}{name}: {medians[0]:.1f} px, corrected {medians[1]:.1f} px")


if __name__ == "__main__":
    run(main)
