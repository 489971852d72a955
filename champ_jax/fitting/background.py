"""What stands still behind people: points of the background matched between a video's frames (OpenCV).

Every frame is first matched with the one before (corners, Lucas-Kanade's tracking there and back, a homography by
RANSAC; ORB's descriptors where that fails), which says where it lies relative to some earlier frames, the keys. Then
keys are brought to the frame's view and matched with it directly: the one that shows most of what the frame does, and
the earliest that shows enough of it. So errors do not add up from frame to frame, and a camera that comes back finds
its first view again.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from champ_jax.common.errors import InputError

_SIDE = 640  # px, the longer side of the pictures that are matched
_CORNERS, _QUALITY, _APART = 400, 0.003, 7
_WINDOW = (21, 21)
_CLEAR = 0.001  # the least eigenvalue, by Lucas-Kanade's measure, of what is tracked
_RETURN = 0.7  # px within which a point that is tracked there and back returns
_CLOSE = 2.0  # px by which matches of one homography may be off
_LEAST = 16  # matches that a homography is believed from
_SPREAD = 0.12  # of the picture's sides that they extend over, at least
_SAME_VIEW = 0.6  # share of a view that keys must show, else it becomes one
_SEEN_AGAIN = 0.35  # share of a view that the earliest key is taken from
_MOST_KEYS = 200
_KEPT = 64  # matches of a pair that are kept
_LOOKED_FOR, _ALIKE = 6, 0.25  # keys in which a lost view is looked for, and the share of alike points that must agree
_MARGIN = 12  # px around people's boxes that are left out, too: what is tracked is as large


@dataclasses.dataclass(frozen=True)
class Pair:
    """Points of the background in two frames.

    Attributes:
      key, frame: the frames' numbers.
      before: (N, 2) px from the picture's center, in the key. after: (N, 2) in the frame.
    """

    key: int
    frame: int
    before: np.ndarray
    after: np.ndarray


@dataclasses.dataclass(frozen=True)
class Matches:
    """What was matched in a video.

    Attributes:
      image_size: (width, height) px.
      frames: how many there are.
      pairs: at most two of each frame but the first; the keys come before their frames.
      known: (T,) bool; False where the background shows too little to match the frame.
      agreeing: (T,) the share of tracked points that move as one with a key; NaN where nothing was tracked.
    """

    image_size: tuple[int, int]
    frames: int
    pairs: list[Pair]
    known: np.ndarray
    agreeing: np.ndarray


@dataclasses.dataclass(frozen=True)
class _View:
    """A frame that others are matched with: its number, gray picture, mask of the background, corners (N, 2), and the
    homography from the first frame's pixels to its own."""

    number: int
    gray: np.ndarray
    mask: np.ndarray
    corners: np.ndarray
    place: np.ndarray


def match_background(pictures: Iterable[Image.Image], people: Sequence[np.ndarray]) -> Matches:
    """Matches the background of a video's frames.

    Args:
      pictures: RGB frames of one size.
      people: of each person (T, 4) boxes left, top, right, bottom, px, which are left out; NaN where there is none.

    Raises:
      InputError: OpenCV is not installed.
    """
    return _Matcher(people).match(pictures)


def require_opencv() -> Any:
    """The module cv2.

    Raises:
      InputError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise InputError("--camera=moving: needs OpenCV; pip install 'champ_jax[fit]' installs it") from error
    return cv2


class _Matcher:
    def __init__(self, people: Sequence[np.ndarray]):
        self._cv2 = require_opencv()
        self._people = people
        self._scale = 1.0
        self._pairs: list[Pair] = []
        self._keys: list[_View] = []
        self._descriptions: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}

    def match(self, pictures: Iterable[Image.Image]) -> Matches:
        size, last = (0, 0), None
        known, agreeing = [], []
        for number, picture in enumerate(pictures):
            if number == 0:
                size = picture.size
                self._scale = min(1.0, _SIDE / max(size))
            view = self._view(number, picture)
            if last is None:
                last = view
                self._keys.append(view)
                known.append(True)
                agreeing.append(np.nan)
                continue
            place, share = self._place(last, view)
            known.append(place is not None)
            agreeing.append(share)
            if place is not None:
                last = dataclasses.replace(view, place=place)
                self._keep(last)
        return Matches(size, len(known), self._pairs, np.array(known, bool), np.array(agreeing, np.float64))

    def _view(self, number: int, picture: Image.Image) -> _View:
        """The frame in gray and small, with corners of what is no person; its place is not known yet."""
        cv2 = self._cv2
        gray = np.asarray(picture.convert("L"))
        if self._scale < 1:
            size = [max(round(side * self._scale), 1) for side in picture.size]
            gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        mask = np.full(gray.shape, 255, np.uint8)
        for boxes in self._people:
            box = boxes[number] if number < len(boxes) else np.full(4, np.nan)
            if np.isfinite(box).all():
                left, top = np.floor(box[:2] * self._scale - _MARGIN).astype(int).clip(0)
                right, bottom = np.ceil(box[2:] * self._scale + _MARGIN).astype(int).clip(0)
                mask[top:bottom, left:right] = 0
        corners = cv2.goodFeaturesToTrack(gray, _CORNERS, _QUALITY, _APART, mask=mask)
        corners = np.zeros((0, 2), np.float32) if corners is None else corners.reshape(-1, 2)
        return _View(number, gray, mask, corners, np.eye(3))

    def _place(self, last: _View, view: _View) -> tuple[np.ndarray | None, float]:
        """The homography from the first frame to this one, and which share of the points moves so."""
        guess = self._guess(last, view)
        if guess is None:
            return None, np.nan
        found: list[tuple[_View, np.ndarray, float]] = []
        for key in self._candidates(guess, view):
            matched = self._with_key(key, guess @ np.linalg.inv(key.place), view)
            if matched is not None:
                found.append((key, *matched))
        if not found:
            # Nothing that was seen before is seen well: what is known of the last frame becomes a key.
            if last.number in [key.number for key in self._keys] or len(self._keys) >= _MOST_KEYS:
                return None, np.nan
            self._keys.append(last)
            matched = self._with_key(last, guess @ np.linalg.inv(last.place), view)
            if matched is None:
                return None, np.nan
            found.append((last, *matched))
        key, between, _ = min(found, key=lambda one: one[0].number)
        return between @ key.place, float(np.mean([share for _, _, share in found]))

    def _guess(self, last: _View, view: _View) -> np.ndarray | None:
        """Roughly the homography from the first frame to this one; None where nothing tells."""
        moved, _ = self._homography(*self._track(last.gray, last.mask, view.gray, view.mask, last.corners), _CLOSE)
        if moved is not None:
            return moved @ last.place
        own = self._described(view)
        for other in [last, *self._keys[: -_LOOKED_FOR - 1 : -1]]:
            before, after = self._alike(self._described(other), own)
            found, agree = self._homography(before, after, 2 * _CLOSE)
            if found is not None and agree.mean() > _ALIKE:
                return found @ other.place
        return None

    def _described(self, view: _View) -> tuple[np.ndarray, np.ndarray | None]:
        """ORB's points (N, 2) of a view's background, and their descriptors."""
        if view.number not in self._descriptions:
            if len(self._descriptions) > 4 * _LOOKED_FOR:
                self._descriptions.clear()
            points, descriptors = self._cv2.ORB_create(_CORNERS).detectAndCompute(view.gray, view.mask)
            places = np.array([point.pt for point in points], np.float64).reshape(-1, 2)
            self._descriptions[view.number] = places, descriptors
        return self._descriptions[view.number]

    def _alike(
        self, one: tuple[np.ndarray, np.ndarray | None], other: tuple[np.ndarray, np.ndarray | None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points (N, 2) of two views, each the most alike of the other."""
        if one[1] is None or other[1] is None:
            return np.zeros((0, 2)), np.zeros((0, 2))
        pairs = self._cv2.BFMatcher(self._cv2.NORM_HAMMING, crossCheck=True).match(one[1], other[1])
        before, after = [pair.queryIdx for pair in pairs], [pair.trainIdx for pair in pairs]
        return one[0][before], other[0][after]

    def _candidates(self, place: np.ndarray, view: _View) -> list[_View]:
        """The key that shows most of the view, and the earliest that shows enough of it."""
        shares = [self._overlap(key, place, view) for key in self._keys]
        best = int(np.argmax(shares))
        if shares[best] < _SEEN_AGAIN / 2:
            return []
        chosen = {best} | {next((index for index, share in enumerate(shares) if share >= _SEEN_AGAIN), best)}
        return [self._keys[index] for index in sorted(chosen)]

    def _keep(self, view: _View) -> None:
        """Makes a frame a key if no other shows most of it."""
        if (
            len(self._keys) < _MOST_KEYS
            and max(self._overlap(key, view.place, view) for key in self._keys) < _SAME_VIEW
        ):
            self._keys.append(view)

    def _overlap(self, key: _View, place: np.ndarray, view: _View) -> float:
        """The share of a view that a key shows, or of the key that the view shows, if that is less."""
        height, width = view.gray.shape
        grid = np.stack(np.meshgrid((np.arange(8) + 0.5) / 8 * width, (np.arange(8) + 0.5) / 8 * height), -1)
        grid = grid.reshape(-1, 2)
        there = place @ np.linalg.inv(key.place)
        return min(_share_within(there, grid, width, height), _share_within(np.linalg.inv(there), grid, width, height))

    def _with_key(self, key: _View, guess: np.ndarray, view: _View) -> tuple[np.ndarray, float] | None:
        """Matches a frame with a key.

        Returns:
          The homography from key to frame and the share of points that move so, or None where there are too few.
        """
        cv2 = self._cv2
        height, width = view.gray.shape
        warped = cv2.warpPerspective(key.gray, guess, (width, height), flags=cv2.INTER_LINEAR)
        mask = cv2.warpPerspective(key.mask, guess, (width, height), flags=cv2.INTER_NEAREST)
        mask = cv2.erode(mask, np.ones((9, 9), np.uint8))
        inside = mask[tuple(np.rint(view.corners[:, ::-1]).astype(int).clip(0, [height - 1, width - 1]).T)] > 0
        after, before = self._track(view.gray, view.mask, warped, mask, view.corners[inside])
        if len(before) == 0:
            return None
        before = cv2.perspectiveTransform(before[None].astype(np.float64), np.linalg.inv(guess))[0]
        found, agree = self._homography(before, after, _CLOSE)
        if found is None:
            return None
        kept = np.flatnonzero(agree)
        kept = kept[np.linspace(0, len(kept) - 1, min(len(kept), _KEPT)).astype(int)]
        center = np.array([width, height]) / 2
        # OpenCV counts from the first pixel's center.
        points = [((one[kept] + 0.5 - center) / self._scale).astype(np.float32) for one in (before, after)]
        self._pairs.append(Pair(key.number, view.number, *points))
        return found, float(agree.mean())

    def _track(
        self, gray: np.ndarray, mask: np.ndarray, other: np.ndarray, other_mask: np.ndarray, corners: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Corners (N, 2) of one picture that are found in the other, and where, outside of people."""
        cv2 = self._cv2
        if len(corners) < _LEAST:
            return np.zeros((0, 2)), np.zeros((0, 2))
        options = {"winSize": _WINDOW, "maxLevel": 4, "minEigThreshold": _CLEAR}
        start = corners.reshape(-1, 1, 2).astype(np.float32)
        there, found, _ = cv2.calcOpticalFlowPyrLK(gray, other, start, None, **options)
        back, returned, _ = cv2.calcOpticalFlowPyrLK(other, gray, there, None, **options)
        away = np.linalg.norm((back - start).reshape(-1, 2), axis=1)
        there = there.reshape(-1, 2)
        height, width = other.shape
        good = (found.ravel() == 1) & (returned.ravel() == 1) & (away < _RETURN)
        good &= ((there >= 0) & (there <= [width - 1, height - 1])).all(axis=1)
        place = np.rint(np.nan_to_num(there[:, ::-1])).clip(0, [height - 1, width - 1]).astype(int)
        good &= other_mask[tuple(place.T)] > 0
        return corners[good].astype(np.float64), there[good].astype(np.float64)

    def _homography(self, before: np.ndarray, after: np.ndarray, close: float) -> tuple[np.ndarray | None, np.ndarray]:
        """(3, 3) from matches (N, 2), or None where too few agree to `close` px, and which of them do (N,)."""
        nothing = np.zeros(len(before), bool)
        if len(before) < _LEAST:
            return None, nothing
        cv2 = self._cv2
        cv2.setRNGSeed(0)
        found, agree = cv2.findHomography(before, after, cv2.RANSAC, close, maxIters=1000, confidence=0.999)
        if found is None or not np.isfinite(found).all() or abs(np.linalg.det(found)) < 1e-6:
            return None, nothing
        agree = agree.ravel().astype(bool)
        some = after[agree]
        wide = len(some) >= _LEAST and (np.ptp(some, axis=0) > _SPREAD * _SIDE / 2).all()
        return (found if wide else None), agree


def _share_within(homography: np.ndarray, points: np.ndarray, width: int, height: int) -> float:
    """The share of points (N, 2) that a homography takes into the picture."""
    moved = np.column_stack([points, np.ones(len(points))]) @ homography.T
    ahead = moved[:, 2] > 1e-6
    flat = moved[:, :2] / np.where(ahead, moved[:, 2], 1)[:, None]
    return float(np.mean(ahead & ((flat >= 0) & (flat <= [width, height])).all(axis=1)))
