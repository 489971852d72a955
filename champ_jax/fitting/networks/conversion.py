"""What the layers of MediaPipe's networks are called here, in the order of their files, and how arrays come over."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from champ_jax.common.errors import InputError
from champ_jax.fitting.networks import face_mesh, hand_recrop, person_detector, pose_landmarks
from champ_jax.fitting.networks.tflite import CONV, DENSE, DEPTHWISE, PRELU, Graph, Operator, read_graph

FILES = {
    "person_detector": "pose_detection.tflite",
    "pose_landmarks": "pose_landmark_heavy.tflite",
    "hand_landmarks": "hand_landmark_full.tflite",
    "hand_recrop": "hand_recrop.tflite",
    "face_mesh": "face_landmark.tflite",
}
"""Network: the file it comes from."""

_OUTPUTS = {"pose_landmarks": (0, 1, 3, 4)}
"""The outputs that are kept, where not all are: the pose network also draws a mask."""


def convert(name: str, path: Path, data: bytes) -> dict[str, np.ndarray]:
    """The weights of a network from its file.

    Args:
      name: one of `FILES`.
      path: the file, for messages.
      data: what it holds.

    Returns:
      {"layer/kernel", "layer/bias" or "layer/slope": array}, in the file's dtype: float16, but float32 of hand_recrop.

    Raises:
      InputError: the file is damaged or another network.
    """
    graph = read_graph(path, data)
    outputs = graph.outputs
    if name in _OUTPUTS:
        outputs = [outputs[index] for index in _OUTPUTS[name] if index < len(outputs)]
    layers = [o for o in graph.leading_to(outputs) if o.kind in (CONV, DEPTHWISE, DENSE, PRELU)]
    names = list(_NAMES[name]())
    if len(names) != len(layers):
        raise InputError(f"{path}: has {len(layers)} layers, {FILES[name]} has {len(names)}; name the right file")
    result = {}
    for layer, operator in zip(names, layers):
        for part, array in _arrays(graph, operator).items():
            result[f"{layer}/{part}"] = np.ascontiguousarray(array)
    return result


def _arrays(graph: Graph, operator: Operator) -> dict[str, np.ndarray]:
    values = [graph.constants[index] for index in operator.inputs[1:]]
    if operator.kind == PRELU:
        return {"slope": values[0].reshape(-1)}
    kernel, bias = values
    if operator.kind == DENSE or (operator.kind == CONV and kernel.shape[1:3] == (1, 1)):
        kernel = kernel.reshape(kernel.shape[0], -1).T
    elif operator.kind == CONV:
        kernel = kernel.transpose(1, 2, 3, 0)
    else:
        kernel = kernel[0, 0, 0] if kernel.shape[1:3] == (1, 1) else kernel[0]
    return {"kernel": kernel, "bias": bias}


def _separable(name: str) -> list[str]:
    return [f"{name}/depthwise", f"{name}/project"]


def _backbone(strides: tuple[int, ...], between: dict[int, list[str]] | None = None) -> Iterator[str]:
    """The layers of `layers.backbone`; `between` has those that come after the expansion of a block."""
    yield "stem"
    for index in range(len(strides)):
        if index:
            yield f"block{index:02}/expand"
        yield from (between or {}).get(index, [])
        yield from _separable(f"block{index:02}")
    yield "top/expand"
    yield "top/depthwise"


def _person_detector() -> Iterator[str]:
    yield from _backbone(person_detector.STRIDES, {5: _separable("up28/lateral"), 11: _separable("up14/lateral")})
    for side in (14, 28):
        yield f"up{side}/above"
        for residual in ("residual0", "residual1"):
            yield from _separable(f"up{side}/{residual}")
    for side in (28, 14, 7):
        for part in ("scores", "boxes"):
            yield from _separable(f"head{side}/{part}")


def _pose_landmarks() -> Iterator[str]:
    sides = {5: ["lateral64"], 9: ["lateral32", "skip32"], 21: ["lateral16", "skip16"]}
    between = {block: [layer for name in names for layer in _separable(name)] for block, names in sides.items()}
    yield from _backbone(pose_landmarks.STRIDES, between)
    yield from _separable("lateral8")
    for side, count in pose_landmarks.RESIDUALS.items():
        yield from _separable(f"regress{side}/down")
        for index in range(count):
            yield from _separable(f"regress{side}/residual{index}")
        if side == 8:
            yield "heatmaps"
            yield from _separable("skip8")
    yield from ("points", "world", "presence")


def _hand_landmarks() -> Iterator[str]:
    yield from _backbone(person_detector.STRIDES)
    yield from ("right", "presence", "points", "world")


def _hand_recrop() -> Iterator[str]:
    yield from ("stem", "stem_prelu", "stem_scale")
    for index in range(hand_recrop.BLOCKS):
        for part in ("prelu0", "scale0", "down", "prelu1", "scale1", "depthwise", "project"):
            yield f"block{index}/{part}"
    yield "points"


def _face_mesh() -> Iterator[str]:
    def block(name: str) -> list[str]:
        return [*_separable(name), f"{name}/prelu"]

    yield from ("stem", "stem_prelu")
    for index in range(face_mesh.STAGES):
        for part in (["down"] if index else []) + ["residual0", "residual1"]:
            yield from block(f"stage{index}/{part}")
    yield from block("points/down")
    yield from block("points/residual0")
    # From here on the file has the layers of the two outputs in turns.
    pairs = [("presence/down", "points/residual1"), ("presence/reduce", "points/reduce")]
    for layers in zip(*(block(name) for name in pairs[0])):
        yield from layers
    yield from pairs[1]
    yield from (f"{name}_prelu" for name in pairs[1])
    for layers in zip(block("presence/residual"), block("points/residual")):
        yield from layers
    yield from ("presence/out", "points/out")


_NAMES = {
    "person_detector": _person_detector,
    "pose_landmarks": _pose_landmarks,
    "hand_landmarks": _hand_landmarks,
    "hand_recrop": _hand_recrop,
    "face_mesh": _face_mesh,
}
