"""How a camera turned and zoomed, from matches of what stands still behind people.

A camera that turns about its center sees a point at p (px from the picture's center) in one frame and at
K_b R K_a^-1 p in another, K = diag(f, f, 1): wherever the point is, near or far. Before a camera that also moves,
near things move by more than far ones.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from champ_jax.body.interpolation import interpolate_rotations
from champ_jax.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from champ_jax.fitting.background import Matches, Pair, match_background
from champ_jax.fitting.keypoints import BODY
from champ_jax.fitting.video import Track

_SHARES = (0.5, 6.0)  # of the picture's longer side: focal lengths that are tried
_TRIED = 25
_SURE = 0.08  # standard deviation of the focal length's logarithm up to which the background tells it
_TOGETHER = 10.0  # matches whose errors are taken to be as good as one: those of a pair are not independent
_SOME_PAIRS = 30  # from which the focal length is found
_STILL = 0.003  # of the longer side, by which the picture's content may move before a camera that stands still
_ZOOMLESS = 0.015  # spread of the focal length's logarithm below which the camera did not zoom
_AS_ONE = 0.6  # share of the matches that must move as one, in the median
_FIT = 0.004  # of the longer side, by which they may be off, in the median
_MIN_SCALE = 0.001  # of the longer side: errors of good matches
_AROUND = 0.1  # of a person's size, by which the points' box is enlarged: hair, hands, clothes
_STEPS, _CONVERGED = 8, 1e-6
_ROUNDS, _NEARBY, _SETTLED = 6, 0.1, 0.0005  # of the search for the focal length's logarithm: range after the first one


@dataclasses.dataclass(frozen=True)
class CameraPath:
    """How a camera turned.

    Attributes:
      rotations: (T, 3, 3) world-to-camera rotations; the world is the first frame's camera, whose rotation is the
        identity.
      focal: (T,) px.
    """

    rotations: np.ndarray
    focal: np.ndarray


def people_boxes(tracks: Sequence[Track]) -> list[np.ndarray]:
    """Where people are in the frames of a shot: of each (T, 4) left, top, right, bottom, px; NaN where nobody is.

    Of who was followed frame by frame it is the box around the body's points, of others the square that they were found
    in; between these frames it is interpolated.
    """
    found = []
    for track in tracks:
        boxes = np.full(track.boxes.shape, np.nan)
        for frame in np.flatnonzero(track.keypoints.valid):
            points = track.keypoints.keypoints[frame, BODY]
            points = points[points[:, 2] > 0, :2]
            if track.chosen and len(points):
                around = _AROUND * float(np.ptp(points, axis=0).max())
                boxes[frame] = [*(points.min(axis=0) - around), *(points.max(axis=0) + around)]
            else:
                boxes[frame] = track.boxes[frame]
        known = np.flatnonzero(np.isfinite(boxes).all(axis=1))
        if len(known):
            between = np.arange(known[0], known[-1] + 1)
            boxes[between] = np.stack([np.interp(between, known, column) for column in boxes[known].T], axis=1)
        found.append(boxes)
    return found


def estimate_camera(
    pictures: Iterable[Image.Image], people: Sequence[np.ndarray], focal: float | None, assumed: float
) -> tuple[CameraPath | None, list[str]]:
    """How the camera of a shot turned and zoomed.

    Args:
      pictures: the frames.
      people: as `background.match_background` takes them.
      focal: px, of the first frame; None where it is to be found.
      assumed: px, where the background does not tell the focal length either.

    Returns:
      The path, None where the camera stood still or nothing shows how it moved; and what a person should know of it, a
      line each.

    Raises:
      InputError: OpenCV is not installed.
    """
    return camera_path(match_background(pictures, people), focal, assumed)


def camera_path(matches: Matches, focal: float | None, assumed: float) -> tuple[CameraPath | None, list[str]]:
    """As `estimate_camera`, from matches."""
    longer = max(matches.image_size)
    if matches.frames < 2:
        return None, []
    known = matches.known
    if known.mean() < 0.5:
        return None, [
            f"the background shows too little to follow the camera by in {int((~known).sum())} of {len(known)} frames; "
            "the camera was taken to stand still"
        ]
    if _moved(matches) < _STILL * longer:
        return None, ["the camera stood still"]
    notes = []
    if focal is None:
        focal, spread = _find_focal(matches, assumed)
        if spread <= _SURE:
            notes.append(f"the focal length is {focal:.0f} px by how the background turned (give or take {spread:.1%})")
        else:
            focal = assumed
            notes.append(
                f"the camera turned too little to tell the focal length; {focal:.0f} px were assumed (--focal=PX)"
            )
    rotations, focals, errors = _solve(matches, focal)
    if np.ptp(np.log(focals[known])) < _ZOOMLESS:
        rotations, focals, errors = _solve(matches, focal, zoom=False)
    agreeing = float(np.nanmedian(matches.agreeing)) if np.isfinite(matches.agreeing).any() else 1.0
    if agreeing < _AS_ONE:
        notes.append(
            f"only {agreeing:.0%} of the background moves as one, as when a camera does not only turn but moves; it "
            "was taken to turn only, so the person's path is doubtful"
        )
    elif errors > _FIT * longer:
        notes.append(
            f"the background does not move as before a camera that only turns (off by {errors:.1f} px); it was taken "
            "to turn only, so the person's path is doubtful"
        )
    if not known.all():
        missing = int((~known).sum())
        notes.append(
            f"in {missing} of {len(known)} frames, first in {int(np.argmin(known))}, the background shows too little; "
            "the camera was interpolated there"
        )
        rotations, focals = _filled(rotations, focals, known)
    turned = np.degrees(np.linalg.norm(matrix_to_axis_angle(rotations), axis=-1)).max()
    zoomed = f" and zoomed by {focals.max() / focals.min():.2f}" if np.ptp(focals) else ""
    notes.insert(
        0, f"the camera turned by up to {turned:.1f} degrees{zoomed}; the motion is in the first frame's camera"
    )
    return CameraPath(rotations.astype(np.float32), focals.astype(np.float32)), notes


def _moved(matches: Matches) -> float:
    """How far the background moves in the picture at most, px: the largest of the frames' medians."""
    from_key = {0: 0.0}
    for pair in matches.pairs:
        away = from_key.get(pair.key, 0.0) + float(np.median(np.linalg.norm(pair.after - pair.before, axis=1)))
        from_key[pair.frame] = min(from_key.get(pair.frame, np.inf), away)
    return max(from_key.values())


def _solve(matches: Matches, focal: float, zoom: bool = True) -> tuple[np.ndarray, np.ndarray, float]:
    """Each frame's rotation and focal length, one after the other, from its matches with keys.

    Returns:
      rotations (T, 3, 3), focal lengths (T,), and by how many px matches are missed, the largest of the frames' medians
      but a tenth. What is not known repeats the frame before.
    """
    by_frame: dict[int, list[Pair]] = {}
    for pair in matches.pairs:
        by_frame.setdefault(pair.frame, []).append(pair)
    scale = _MIN_SCALE * max(matches.image_size)
    rotations, focals = np.tile(np.eye(3), (matches.frames, 1, 1)), np.full(matches.frames, float(focal))
    errors = [0.0]
    for frame in range(1, matches.frames):
        rotations[frame], focals[frame] = rotations[frame - 1], focals[frame - 1]
        pairs = by_frame.get(frame, [])
        if pairs and matches.known[frame]:
            rays = np.concatenate([_rays(pair.before, focals[pair.key]) @ rotations[pair.key] for pair in pairs])
            seen = np.concatenate([pair.after for pair in pairs]).astype(np.float64)
            rotations[frame], focals[frame], missed = _turned(rays, seen, rotations[frame], focals[frame], zoom, scale)
            errors.append(float(np.median(missed)))
    return rotations, focals, float(np.quantile(errors, 0.9))


def _rays(points: np.ndarray, focal: float) -> np.ndarray:
    """(N, 3) before the camera of points (N, 2) px from the picture's center."""
    return np.column_stack([points.astype(np.float64) / focal, np.ones(len(points))])


def _turned(
    rays: np.ndarray, seen: np.ndarray, rotation: np.ndarray, focal: float, zoom: bool, scale: float
) -> tuple[np.ndarray, float, np.ndarray]:
    """The rotation and focal length by which rays (N, 3) of the world are seen at (N, 2) px: Gauss-Newton steps under
    Cauchy's loss, from a first guess.

    Returns:
      The rotation, the focal length, and (N,) px by which each ray is missed.
    """

    def project(turn: np.ndarray, length: float) -> tuple[np.ndarray, np.ndarray]:
        own = rays @ turn.T
        ahead = np.maximum(own[:, 2:], 1e-3)
        return own, length * own[:, :2] / ahead

    for _ in range(_STEPS):
        own, flat = project(rotation, focal)
        missed = flat - seen
        square = np.sum(missed**2, axis=1)
        weight = 1 / (1 + square / max(scale**2, float(np.median(square))))  # far away all of them pull
        x, y = (own[:, :2] / np.maximum(own[:, 2:], 1e-3)).T
        # By a small rotation w of what is before the camera, x' = x + w times x, and by the focal length's logarithm.
        jacobian = focal * np.stack(
            [np.stack([-x * y, 1 + x * x, -y, x], axis=1), np.stack([-1 - y * y, x * y, x, y], axis=1)], axis=1
        )
        weighted = jacobian * weight[:, None, None]
        normal = np.einsum("nra,nrb->ab", weighted, jacobian)
        gradient = np.einsum("nra,nr->a", weighted, missed)
        if not zoom:
            normal[3], normal[:, 3], gradient[3], normal[3, 3] = 0, 0, 0, 1
        step = -np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(4), gradient)
        step *= min(1.0, 0.3 / max(np.abs(step).max(), 1e-12))
        rotation = axis_angle_to_matrix(step[:3]) @ rotation
        focal *= float(np.exp(step[3]))
        if np.abs(step).max() < _CONVERGED:
            break
    return rotation, focal, np.linalg.norm(project(rotation, focal)[1] - seen, axis=1)


def _find_focal(matches: Matches, assumed: float) -> tuple[float, float]:
    """The first frame's focal length, px, that lets the matches agree best, and its logarithm's standard deviation.

    How much the camera zoomed until a key depends on the focal length, if little, so it is looked for again nearby.
    """
    longer = max(matches.image_size)
    shortest, longest = (float(np.log(share * longer)) for share in _SHARES)
    logarithms = np.linspace(shortest, longest, _TRIED)
    focal, spread = assumed, np.inf
    for _ in range(_ROUNDS):
        zooms = _solve(matches, focal)[1] / focal
        before = focal
        focal, spread = _best_focal(matches, zooms, before, logarithms)
        if not np.isfinite(spread) or abs(np.log(focal / before)) < _SETTLED:
            break
        logarithms = np.log(focal) + np.linspace(-_NEARBY, _NEARBY, 5)
    return focal, spread


def _best_focal(matches: Matches, zooms: np.ndarray, assumed: float, logarithms: np.ndarray) -> tuple[float, float]:
    """The focal length among and between some (N,) logarithms, and its logarithm's standard deviation.

    Args:
      zooms: (T,) focal lengths by the first frame's.
    """
    longer = max(matches.image_size)
    scale = _MIN_SCALE * longer
    away = [float(np.median(np.linalg.norm(pair.after - pair.before, axis=1))) for pair in matches.pairs]
    chosen = [matches.pairs[index] for index in np.argsort(away)[::-1][:_SOME_PAIRS]]
    turns = [np.eye(3)] * len(chosen)
    lengths = [float(zooms[pair.frame]) for pair in chosen]
    count = len(logarithms)
    order = np.argsort(np.abs(logarithms - np.log(assumed)))[:1].tolist()
    order += [*range(order[0] + 1, count), *range(order[0] - 1, -1, -1)]  # outwards, each from its neighbor's turns
    costs = np.zeros(count)
    starts: dict[int, tuple[list[np.ndarray], list[float]]] = {}
    for index in order:
        near = starts.get(index - 1) if index > order[0] else starts.get(index + 1)
        turns, lengths = near if near is not None else (turns, lengths)
        focal = float(np.exp(logarithms[index]))
        found_turns, found_lengths = [], []
        for pair, turn, length in zip(chosen, turns, lengths):
            rays = _rays(pair.before, focal * zooms[pair.key])
            seen = pair.after.astype(np.float64)
            turn, own, missed = _turned(rays, seen, turn, focal * length, True, scale)
            found_turns.append(turn)
            found_lengths.append(own / focal)
            costs[index] += scale**2 * float(np.log1p((missed / scale) ** 2).mean())
        starts[index] = found_turns, found_lengths
    costs /= len(chosen)
    best = int(np.argmin(costs))
    if best in (0, count - 1):
        return float(np.exp(logarithms[best])), np.inf
    step = logarithms[1] - logarithms[0]
    bend = costs[best - 1] - 2 * costs[best] + costs[best + 1]
    if not bend > 0:
        return float(np.exp(logarithms[best])), np.inf
    middle = logarithms[best] + step / 2 * (costs[best - 1] - costs[best + 1]) / bend
    independent = sum(len(pair.before) for pair in chosen) / _TOGETHER
    # The mean cost is about the mean square; half of N times its second derivative over its value is the precision.
    spread = np.sqrt(costs[best] / (independent * bend / step**2 / 2))
    return float(np.exp(middle)), float(spread)


def _filled(rotations: np.ndarray, focals: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The path with the frames that are not known between their neighbors; at the end it stays where it was."""
    numbers = np.flatnonzero(known)
    wanted = np.arange(len(known)).clip(numbers[0], numbers[-1])
    return (
        interpolate_rotations(numbers, rotations[numbers][:, None], wanted)[:, 0],
        np.interp(wanted, numbers, focals[numbers]),
    )
