"""DWPose: YOLOX finds people, RTMPose their 133 points, through onnxruntime, from files that the user has.

Before and after the networks everything is as DWPose's own code does it (its onnxdet.py and onnxpose.py), so that the
points are those that Champ's guidance was drawn from.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from champ_jax.common.errors import InputError
from champ_jax.common.files import open_input
from champ_jax.conditions.skeleton import SCORE_THRESHOLD, coco_to_openpose
from champ_jax.fitting.detection import Detections
from champ_jax.fitting.squares import Squares

DETECTOR, POSE = "yolox_l.onnx", "dw-ll_ucoco_384.onnx"
"""The files in the folder of weights."""

_WHERE = "it is published at https://huggingface.co/yzd-v/DWPose"
_SIDE, _FILL = 640, 114  # of the picture that YOLOX sees, and what surrounds it
_STRIDES = (8, 16, 32)
_SEEN, _PERSON, _OVERLAP = 0.1, 0.3, 0.45  # scores before and after the suppression, and its overlap
_CROP = (288, 384)  # width, height
_MARGIN = 1.25  # side of a crop by the box
_SPLIT = 2.0  # places of SimCC a pixel
_MEAN, _STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
_LEAST = 4  # body points that are seen, if there is somebody


class DWPose:
    """The two networks."""

    def __init__(self, folder: str | os.PathLike):
        """
        Args:
          folder: holds `DETECTOR` and `POSE`.

        Raises:
          InputError: onnxruntime or OpenCV is not installed, a file is missing or is no network of its kind.
        """
        try:
            import cv2
            import onnxruntime
        except ImportError as error:
            raise InputError(
                f"--detector=dwpose: needs {error.name}; pip install 'champ_jax[fit]' installs it"
            ) from error
        self._cv2 = cv2
        forms = {DETECTOR: ((3, _SIDE, _SIDE), 1), POSE: ((3, *_CROP[::-1]), 2)}  # input, number of outputs
        sessions = {}
        for name in (DETECTOR, POSE):
            path = Path(folder) / name
            if not path.is_file():
                raise InputError(f"{path}: there is no such file; {_WHERE}")
            with open_input(path) as file:
                content = file.read()
            try:
                session = onnxruntime.InferenceSession(content, providers=onnxruntime.get_available_providers())
            except Exception as error:  # onnxruntime's exceptions have no common base of their own
                raise InputError(f"{path}: is no network that onnxruntime reads; {_WHERE}") from error
            form = tuple(session.get_inputs()[0].shape[1:]), len(session.get_outputs())
            if form != forms[name]:
                raise InputError(f"{path}: is another network than {name}; {_WHERE}")
            sessions[name] = session
        self._folder, self._sessions = Path(folder), sessions

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detections]:
        """The people in pictures, the surest first.

        A detection's square is the crop that the pose network wants, as high as wide. Where hips and shoulders are is
        taken from the box: they tell colors and overlaps, no points.
        """
        results = []
        for picture in pictures:
            boxes, scores = self._boxes(np.asarray(picture)[..., ::-1])
            width, height = (boxes[:, 2:] - boxes[:, :2]).T
            center = (boxes[:, :2] + boxes[:, 2:]) / 2
            half = np.maximum(height, width * _CROP[1] / _CROP[0]) / 2
            up = np.stack([np.zeros(len(half)), -half], axis=-1)
            points = np.stack([center, center + up, center + 0.6 * up, center + 0.6 * up], axis=1)
            heads = np.stack([boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 1] + height / 4], axis=-1)
            results.append(Detections(heads, scores, points))
        return results

    def points(self, pictures: Sequence[Image.Image], squares: Squares) -> tuple[np.ndarray, np.ndarray]:
        """The points of the person in each picture's square.

        Returns:
          (N, 134, 3) float32 x, y (px, a pixel's center at +0.5), score; and (N,) whether somebody is there.
        """
        found = np.zeros((len(pictures), 134, 3), np.float32)
        for index, picture in enumerate(pictures):
            found[index] = self._points(np.asarray(picture)[..., ::-1], squares.center[index], squares.side[index])
        return found, (found[:, :18, 2] > SCORE_THRESHOLD).sum(axis=1) >= _LEAST

    def _boxes(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, 4) left, top, right, bottom and (N,) scores of the people in a BGR picture."""
        height, width = picture.shape[:2]
        ratio = min(_SIDE / height, _SIDE / width)
        size = max(int(width * ratio), 1), max(int(height * ratio), 1)
        canvas = np.full((_SIDE, _SIDE, 3), _FILL, np.uint8)
        canvas[: size[1], : size[0]] = self._cv2.resize(picture, size, interpolation=self._cv2.INTER_LINEAR)
        (raw,) = self._run(DETECTOR, canvas.astype(np.float32))
        cells = sum((_SIDE // stride) ** 2 for stride in _STRIDES)
        if raw.ndim != 3 or raw.shape[1] != cells or raw.shape[2] < 6:
            raise InputError(f"{self._folder / DETECTOR}: gives {raw.shape}, expected (1, {cells}, 85); {_WHERE}")
        boxes, scores = decode_boxes(raw[0].astype(np.float64))
        boxes = boxes / ratio
        kept = suppress(boxes[scores > _SEEN], scores[scores > _SEEN])
        boxes, scores = boxes[scores > _SEEN][kept], scores[scores > _SEEN][kept]
        return boxes[scores > _PERSON], scores[scores > _PERSON]

    def _points(self, picture: np.ndarray, center: np.ndarray, side: float) -> np.ndarray:
        scale = _CROP[1] / side
        matrix = np.array([[scale, 0, _CROP[0] / 2 - scale * center[0]], [0, scale, _CROP[1] / 2 - scale * center[1]]])
        crop = self._cv2.warpAffine(picture, matrix, _CROP, flags=self._cv2.INTER_LINEAR)
        x, y = self._run(POSE, ((crop - _MEAN) / _STD).astype(np.float32))
        expected = (1, 133, int(_SPLIT * _CROP[0])), (1, 133, int(_SPLIT * _CROP[1]))
        if (x.shape, y.shape) != expected:
            raise InputError(f"{self._folder / POSE}: gives {x.shape} and {y.shape}, expected {expected}; {_WHERE}")
        places, scores = decode_simcc(x[0], y[0])
        places = (places - np.array(_CROP) / 2) / scale + center + 0.5
        return coco_to_openpose(places, scores).astype(np.float32)

    def _run(self, name: str, picture: np.ndarray) -> list[Any]:
        session = self._sessions[name]
        return session.run(None, {session.get_inputs()[0].name: picture.transpose(2, 0, 1)[None]})


def decode_boxes(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """YOLOX's boxes of all cells.

    Args:
      raw: (8400, 5 + classes) x, y, log width, log height in strides from the cell; score; scores of classes.

    Returns:
      (8400, 4) left, top, right, bottom in px of the 640x640 picture, and (8400,) the scores of class 0, a person.
    """
    grids, strides = [], []
    for step in _STRIDES:
        count = _SIDE // step
        y, x = np.mgrid[:count, :count]
        grids.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full((count * count, 1), step))
    stride = np.concatenate(strides)
    center = (raw[:, :2] + np.concatenate(grids)) * stride
    half = np.exp(np.minimum(raw[:, 2:4], 20)) * stride / 2
    return np.concatenate([center - half, center + half], axis=1), raw[:, 4] * raw[:, 5]


def suppress(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Indices of boxes (N, 4) that no surer kept one overlaps by more than 0.45, the surest first; sides count +1."""
    order = list(np.argsort(-scores, kind="stable"))
    areas = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1)
    kept: list[int] = []
    while order:
        best, rest = int(order[0]), np.array(order[1:], int)
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        common = np.prod(np.maximum(high - low + 1, 0), axis=1)
        order = list(rest[common / (areas[best] + areas[rest] - common) <= _OVERLAP])
    return np.array(kept, int)


def decode_simcc(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K, 2) px in the crop and (K,) scores, of SimCC's answers (K, 576) and (K, 768).

    The lesser of the two maxima is the score, 0 at least.
    """
    places = np.stack([x.argmax(axis=1), y.argmax(axis=1)], axis=-1) / _SPLIT
    scores = np.minimum(x.max(axis=1), y.max(axis=1))
    return places, np.maximum(scores, 0)
