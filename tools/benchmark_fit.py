"""Measures the fit on synthetic people whose motion is known: key points in, errors in millimeters out.

    python tools/benchmark_fit.py --clips=50 --noise=3                # full bodies, true focal length
    python tools/benchmark_fit.py --clips=50 --noise=3 --focal=auto --lenses=any
    python tools/benchmark_fit.py --clips=20 --noise=3 --shots=half,close

Errors are means over joints and frames of a clip, and the table has their medians over clips: `mpjpe` after the pelvis
was put onto the true one, `pa` after a similarity, `reprojection` to the points without noise, `translation` of the
pelvis as a share of its distance, `skating` of planted feet a frame. Half and close shots are scored on the joints that
the picture shows. The clips' own focal lengths are 1.8 to 4.5 times the picture's longer side; --lenses=any draws them
evenly in their logarithms between 0.9 and 3 times, and moves the person so that he or she stays as large. The prior
leaves out the actions of --hold_out, which then are the only ones tested.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from champ_jax.body.cameras import project
from champ_jax.body.motion import Motion
from champ_jax.body.smpl import load_body
from champ_jax.common.cli import Parser, run
from champ_jax.common.files import write_json
from champ_jax.common.outputs import Output, claim, json_with
from champ_jax.common.ranges import Choice, Integer, Items, Number
from champ_jax.data.synthetic.actions import ACTIONS
from champ_jax.data.synthetic.anatomy import load_anatomy
from champ_jax.data.synthetic.choreography import pose_frames
from champ_jax.data.synthetic.keypoints import whole_body_keypoints
from champ_jax.data.synthetic.one_video import Settings, VideoName, draw_take
from champ_jax.data.synthetic.pose_statistics import pose_statistics
from champ_jax.data.synthetic.scene import SHOTS
from champ_jax.fitting.fit import FOCAL_SHARES, FitSettings, fit_keypoints
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.priors import PosePrior

SEED = 7103
_PLANTED = 0.004  # meters a frame at 24 frames per second; a true foot below stands
_FEET = np.array([7, 8, 10, 11])


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--clips", type=Integer(minimum=1, maximum=10_000), default=8, help="(%(default)s)")
    parser.add_argument("--frames", type=Integer(minimum=1, maximum=10_000), default=48, help="(%(default)s)")
    parser.add_argument("--noise", type=Number(minimum=0, maximum=100), default=3.0, help="px (%(default)s)")
    parser.add_argument("--size", type=Integer(minimum=32, maximum=8192), default=512, help="px a side (%(default)s)")
    parser.add_argument("--focal", choices=("true", "auto"), default="true", help="(%(default)s)")
    parser.add_argument("--lenses", choices=("own", "any"), default="own", help="(%(default)s)")
    parser.add_argument("--shots", type=Items(Choice(*SHOTS), minimum=1), default=("full",), help="(full)")
    parser.add_argument("--hold_out", type=Items(Choice(*ACTIONS)), default=(), help="actions unknown to the prior")
    parser.add_argument("--no_ground", action="store_true", help="without the ground")
    parser.add_argument(
        "--shape_growth", type=Number(minimum=0), default=FitSettings().shape_growth, help="(%(default)s)"
    )
    parser.add_argument("--output", type=Path, help="a JSON file of all clips")
    options = parser.parse_args(argv)
    if options.output is not None:
        claim([Output("--output", options.output, json_with("a report", "clips"))])
    prior = PosePrior.of(pose_statistics(20, 600, without=options.hold_out)) if options.hold_out else None
    settings = FitSettings(ground=not options.no_ground, prior=prior, shape_growth=options.shape_growth)
    rows, number = [], 0
    while len(rows) < options.clips:
        take = draw_take(
            Settings(seed=SEED, size=(options.size, options.size), frames=options.frames),
            VideoName("test", number, number),
        )
        number += 1
        if take.shot not in options.shots or (options.hold_out and not set(options.hold_out) & set(take.actions)):
            continue
        row = {"clip": number - 1, "actions": list(take.actions)}
        truth = take.motion if options.lenses == "own" else with_any_lens(take.motion, number)
        row |= measure(truth, options.noise, options.focal == "true", settings, number)
        rows.append(row)
        print(
            "  ".join(
                f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            ),
            flush=True,
        )
    names = [name for name, value in rows[0].items() if isinstance(value, float)]
    medians = {name: float(np.median([row[name] for row in rows])) for name in names}
    medians["mpjpe_p90"] = float(np.percentile([row["mpjpe"] for row in rows], 90))
    medians["translation_p90"] = float(np.percentile([row["translation"] for row in rows], 90))
    medians["flipped_clips"] = float(sum(row["flipped"] > 0 for row in rows))
    print("medians of", len(rows), "clips:")
    print("\n".join(f"  {name:14} {value:.4g}" for name, value in medians.items()))
    if options.output is not None:
        write_json(options.output, {"clips": rows, "medians": medians})


def with_any_lens(motion: Motion, seed: int) -> Motion:
    """The motion before a camera whose focal length is within `FOCAL_SHARES`, from where it looks as large."""
    low, high = np.log(FOCAL_SHARES)
    focal = float(np.exp(np.random.default_rng([seed, 1]).uniform(low, high)) * motion.image_size.max())
    nearer = focal / float(motion.focal[0]) - 1
    translation = motion.translation + np.array([0, 0, nearer * np.median(motion.translation[:, 2])])
    vertices, joints = pose_frames(load_anatomy().body, motion.betas, motion.rotations)
    keypoints = whole_body_keypoints(
        vertices + translation[:, None], joints + translation[:, None], focal, tuple(motion.image_size.tolist())
    )
    return dataclasses.replace(
        motion,
        translation=translation.astype(np.float32),
        focal=np.full_like(motion.focal, focal),
        keypoints=keypoints.astype(np.float32),
    )


def measure(truth: Motion, noise: float, true_focal: bool, settings: FitSettings, seed: int) -> dict[str, float]:
    """Fits one clip's noisy points and compares the result with what they came from."""
    clean = truth.keypoints
    inside = ((clean[..., :2] >= 0) & (clean[..., :2] < truth.image_size)).all(axis=-1) & (clean[..., 2] > 0)
    noisy = clean.copy()
    noisy[..., :2] += np.random.default_rng(seed).normal(0, noise, noisy[..., :2].shape)
    noisy[..., 2] = inside
    keypoints = Keypoints.create(noisy, truth.image_size, truth.fps, focal=truth.focal if true_focal else None)
    start = time.process_time()
    found = fit_keypoints(keypoints, load_body(), settings).motion
    seconds = time.process_time() - start
    body = load_anatomy().body
    vertices, joints = pose_frames(body, found.betas, found.rotations)
    joints = joints + found.translation[:, None]
    _, true_joints = pose_frames(body, truth.betas, truth.rotations)
    true_joints = true_joints + truth.translation[:, None]
    flat = np.asarray(project(true_joints, truth.focal, truth.image_size))
    visible = ((flat >= 0) & (flat < truth.image_size)).all(axis=-1)
    error = np.linalg.norm((joints - joints[:, :1]) - (true_joints - true_joints[:, :1]), axis=-1) * 1000
    aligned = np.linalg.norm(procrustes(joints, true_joints, visible) - true_joints, axis=-1) * 1000
    landmarks = (
        np.einsum("tlkc,lk->tlc", vertices[:, load_anatomy().landmarks[:6]], load_anatomy().landmark_weights[:6])
        + found.translation[:, None]
    )
    limbs = np.asarray(project(joints[:, _LIMBS], found.focal, found.image_size))
    feet = np.asarray(project(landmarks, found.focal, found.image_size))
    points = np.concatenate([limbs, feet], axis=1)
    expected, seen = clean[:, [*range(2, 14), *range(18, 24)]], inside[:, [*range(2, 14), *range(18, 24)]]
    missed = np.linalg.norm(points - expected[..., :2], axis=-1)
    true_steps = np.linalg.norm(np.diff(true_joints[:, _FEET], axis=0), axis=-1)
    steps = np.linalg.norm(np.diff(joints[:, _FEET], axis=0), axis=-1) * 1000
    planted = true_steps < _PLANTED * 24 / truth.fps
    turned = np.einsum("tab,tcb->tac", found.rotations[:, 0], truth.rotations[:, 0])
    angle = np.degrees(np.arccos(np.clip((np.trace(turned, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    distance = np.linalg.norm(true_joints[:, 0], axis=-1)
    return {
        "mpjpe": float(error[visible].mean()),
        "pa": float(aligned[visible].mean()),
        "reprojection": float(missed[seen].mean()),
        "translation": float((np.linalg.norm(joints[:, 0] - true_joints[:, 0], axis=-1) / distance).mean()),
        "skating": float(np.median(steps[planted])) if planted.any() else 0.0,
        "root": float(angle.mean()),
        "flipped": float((angle > 90).mean()),
        "focal": float(np.median(found.focal / truth.focal)),
        "size": float(
            np.linalg.norm(joints[:, 15] - joints[:, 7], axis=-1).mean()
            / np.linalg.norm(true_joints[:, 15] - true_joints[:, 7], axis=-1).mean()
        ),
        "seconds": seconds,
    }


def procrustes(points: np.ndarray, target: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Points (T, J, 3) after the similarity of each frame that brings the seen ones nearest to the target's."""
    weight = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1)
    middles = [np.einsum("tj,tjc->tc", weight, array)[:, None] for array in (points, target)]
    first, second = points - middles[0], target - middles[1]
    u, s, vt = np.linalg.svd(np.einsum("tj,tja,tjb->tab", weight, first, second))
    sign = np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)
    u[:, :, 2] *= sign[:, None]
    s[:, 2] *= sign
    scale = s.sum(axis=1) / np.maximum(np.einsum("tj,tjc,tjc->t", weight, first, first), 1e-12)
    return scale[:, None, None] * (first @ (u @ vt)) + middles[1]


_LIMBS = np.array([17, 19, 21, 16, 18, 20, 2, 5, 8, 1, 4, 7])

if __name__ == "__main__":
    run(main)
