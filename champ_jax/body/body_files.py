"""Body files: the official .pkl and .npz of SMPL, SMPL-H and SMPL-X, and the open body's .npz.

SMPL-H (52 joints) and SMPL-X (55) are reduced to SMPL's 24: fingers move with the hand, jaw and eyes with the head, and
the hand joint is where the middle finger begins, as in SMPL.
"""

import os
from typing import Any

import numpy as np

from champ_jax.body.fields import Field, read_fields
from champ_jax.common.errors import InputError
from champ_jax.common.pickles import Opaque, read_arrays
from champ_jax.common.ranges import Number

NUM_BETAS = 10
SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
_HEAD, _LEFT_WRIST, _LEFT_HAND, _RIGHT_HAND = 15, 20, 22, 23

# For each joint of the larger bodies the SMPL joint it moves with. Fingers: index, middle, pinky, ring, thumb of three.
_REDUCE = {
    52: (*range(22), *[_LEFT_HAND] * 15, *[_RIGHT_HAND] * 15),
    55: (*range(22), *[_HEAD] * 3, *[_LEFT_HAND] * 15, *[_RIGHT_HAND] * 15),
}
_HAND_JOINTS = {52: (25, 40), 55: (28, 43)}  # left and right middle1
# Nose, right eye, left eye, right ear, left ear, by number of vertices (SMPL and SMPL-H share a mesh).
_FACE_VERTICES = {6890: (332, 6260, 2800, 4071, 583), 10475: (9120, 9929, 9448, 616, 6)}


_WEIGHT_TOLERANCE = 0.05

_INDEX = Number(minimum=0, maximum=2**31 - 1)
FIELDS = {
    "v_template": Field(("vertices", 3), np.float32, Number(minimum=-1000, maximum=1000)),
    "weights": Field(("vertices", "joints"), np.float32, Number(minimum=-1, maximum=2)),
    "shapedirs": Field(("vertices", 3, "betas"), np.float32),
    "posedirs": Field(("vertices", 3, "pose"), np.float32),
    "J_regressor": Field(("joints", "vertices"), np.float32),
    "kintree_table": Field((2, "joints"), np.int64, Number(minimum=-1, maximum=2**32)),  # the root is -1, or 2**32 - 1
    "f": Field(("faces", 3), np.int32, _INDEX),
    "face_vertices": Field((5, "points"), np.int32, _INDEX, optional=True),
    "face_weights": Field((5, "points"), np.float32, optional=True),
    "vt": Field(("uvs", 2), np.float32, optional=True),
    "ft": Field(("faces", 3), np.int32, _INDEX, optional=True),
    "space": Field((), str, reshape=True, optional=True),
}
"""What a body file in SMPL's form holds."""


def read_body(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a body file into the fields of `champ_jax.body.smpl.BodyModel`, without `parts`.

    Raises:
      InputError: no such file, unreadable, not a body, or shapes that do not fit together.
    """
    data = read_arrays(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: is not a body file (holds a {type(data).__name__}, not named arrays)")
    missing = sorted({name for name, field in FIELDS.items() if not field.optional} - set(data))
    if missing:
        raise InputError(f"{path}: is not a body file in SMPL's form, it lacks {', '.join(missing)}")
    for name in FIELDS:
        if isinstance(data.get(name), Opaque):
            raise InputError(f"{path}: {name} is {data[name].name}")
    values: dict[str, Any] = read_fields(str(path), data, FIELDS)
    parents = values.pop("kintree_table")[0]
    _check(path, values, parents)
    values["shapedirs"] = values["shapedirs"][..., :NUM_BETAS]
    joints = len(parents)
    if joints != len(SMPL_PARENTS):
        _reduce(values, joints)
    elif tuple(parents[1:]) != SMPL_PARENTS[1:]:
        raise InputError(f"{path}: kintree_table is not SMPL's tree of 24 joints")
    # SMPL-H has SMPL's mesh and shape space, SMPL-X its own.
    space = str(values.get("space", "smplx" if joints == 55 else "smpl"))
    values |= {"faces": values.pop("f"), "parents": SMPL_PARENTS, "space": space}
    if "face_vertices" not in values or "face_weights" not in values:
        known = _FACE_VERTICES.get(len(values["v_template"]))
        values["face_vertices"] = np.array(known, np.int32)[:, None] if known else np.zeros((5, 0), np.int32)
        values["face_weights"] = np.ones(values["face_vertices"].shape, np.float32)
    uvs, uv_faces = values.pop("vt", None), values.pop("ft", None)
    return values if uvs is None or uv_faces is None else values | {"uvs": uvs, "uv_faces": uv_faces}


def _check(path: str | os.PathLike, values: dict[str, np.ndarray], parents: np.ndarray) -> None:
    """Refuses what the schema cannot say: sizes that depend on one another, indices and sums."""
    joints, vertices = len(parents), len(values["v_template"])
    if joints not in (len(SMPL_PARENTS), *_REDUCE):
        raise InputError(f"{path}: has {joints} joints; bodies of 24 (SMPL), 52 (SMPL-H) and 55 (SMPL-X) are read")
    if values["shapedirs"].shape[-1] < NUM_BETAS:
        raise InputError(f"{path}: has {values['shapedirs'].shape[-1]} shape directions, {NUM_BETAS} are needed")
    if values["posedirs"].shape[-1] not in (0, 9 * (joints - 1)):
        raise InputError(f"{path}: posedirs has {values['posedirs'].shape[-1]} columns, not {9 * (joints - 1)}")
    for name, points in (("f", vertices), ("face_vertices", vertices), ("ft", len(values.get("vt", ())))):
        if name in values and values[name].max(initial=0) >= max(points, 1):
            raise InputError(f"{path}: {name} names a vertex outside 0..{points - 1}")
    sums = values["weights"].sum(axis=1)
    if np.abs(sums - 1).max(initial=0) > _WEIGHT_TOLERANCE:
        vertex = int(np.argmax(np.abs(sums - 1)))
        raise InputError(f"{path}: the weights of vertex {vertex} sum to {sums[vertex]:.3g}, expected 1")


def _reduce(arrays: dict[str, np.ndarray], joints: int) -> None:
    """SMPL-H or SMPL-X arrays to 24 joints, in place. Pose correctives of fingers, jaw and eyes are dropped."""
    regressor, weights, posedirs = arrays["J_regressor"], arrays["weights"], arrays["posedirs"]
    arrays["J_regressor"] = np.concatenate([regressor[:22], regressor[list(_HAND_JOINTS[joints])]])
    reduced = np.zeros((len(weights), len(SMPL_PARENTS)), np.float32)
    for joint, target in enumerate(_REDUCE[joints]):
        reduced[:, target] += weights[:, joint]
    arrays["weights"] = reduced
    if posedirs.shape[-1]:
        body = posedirs[..., : 9 * 21]
        arrays["posedirs"] = np.concatenate([body, np.zeros((*body.shape[:2], 9 * 2), np.float32)], axis=-1)
