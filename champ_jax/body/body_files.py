"""Body files: the official .pkl and .npz of SMPL, SMPL-H and SMPL-X, and the open body's .npz.

SMPL-H (52 joints) and SMPL-X (55) are reduced to SMPL's 24: fingers move with the hand, jaw and eyes with the head, and
the hand joint is where the middle finger begins, as in SMPL.
"""

import os
import pickle
from typing import Any

import numpy as np

from champ_jax.common.errors import InputError
from champ_jax.common.pickles import plain, read_arrays

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


def read_body(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a body file into the fields of `champ_jax.body.smpl.BodyModel`, without `parts`.

    Raises:
      InputError: no such file, unreadable, not a body, or shapes that do not fit together.
    """
    data = read_arrays(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: is no body file (holds a {type(data).__name__}, not named arrays)")
    names = {"v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f"}
    missing = sorted(names - set(data))
    if missing:
        raise InputError(f"{path}: is no body file in SMPL's form, it lacks {', '.join(missing)}")
    values = {name: _numbers(path, name, data[name]) for name in names}
    arrays: dict[str, Any] = {
        name: values[name].astype(np.float32)
        for name in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights")
    }
    arrays["faces"] = values["f"].astype(np.int32)
    parents = values["kintree_table"].reshape(-1, values["weights"].shape[-1])[0].astype(np.int64)
    _check_shapes(path, arrays, parents)
    arrays["shapedirs"] = arrays["shapedirs"][..., :NUM_BETAS]
    joints = len(parents)
    if joints != len(SMPL_PARENTS):
        _reduce(arrays, joints)
    elif tuple(parents[1:]) != SMPL_PARENTS[1:]:
        raise InputError(f"{path}: kintree_table is not SMPL's tree of 24 joints")
    arrays["parents"] = SMPL_PARENTS
    # SMPL-H has SMPL's mesh and shape space, SMPL-X its own.
    arrays["space"] = str(data.get("space", "smplx" if joints == 55 else "smpl"))
    if "face_vertices" in data:
        arrays["face_vertices"] = _numbers(path, "face_vertices", data["face_vertices"]).astype(np.int32)
        arrays["face_weights"] = _numbers(path, "face_weights", data["face_weights"]).astype(np.float32)
    else:
        known = _FACE_VERTICES.get(len(arrays["v_template"]))
        arrays["face_vertices"] = np.array(known, np.int32)[:, None] if known else np.zeros((5, 0), np.int32)
        arrays["face_weights"] = np.ones(arrays["face_vertices"].shape, np.float32)
    if "vt" in data and "ft" in data:
        arrays["uvs"] = _numbers(path, "vt", data["vt"]).astype(np.float32)
        arrays["uv_faces"] = _numbers(path, "ft", data["ft"]).astype(np.int32)
    return arrays


def _numbers(path: str | os.PathLike, name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(plain(value))
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: {name} is {error}") from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path}: {name} holds no numbers")
    if not np.isfinite(array).all():
        raise InputError(f"{path}: {name} holds a number that is not finite")
    return array


def _check_shapes(path: str | os.PathLike, arrays: dict[str, np.ndarray], parents: np.ndarray) -> None:
    joints, vertices = len(parents), len(arrays["v_template"])
    if joints not in (len(SMPL_PARENTS), *_REDUCE):
        raise InputError(f"{path}: has {joints} joints; bodies of 24 (SMPL), 52 (SMPL-H) and 55 (SMPL-X) are read")
    shapes: dict[str, tuple[int | None, ...]] = {
        "v_template": (vertices, 3),
        "shapedirs": (vertices, 3, None),
        "posedirs": (vertices, 3, None),
        "J_regressor": (joints, vertices),
        "weights": (vertices, joints),
        "faces": (None, 3),
    }
    for name, shape in shapes.items():
        have = arrays[name].shape
        if len(have) != len(shape) or any(want not in (None, size) for want, size in zip(shape, have, strict=True)):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise InputError(f"{path}: {name} has shape {have}, it should be ({wanted})")
    if arrays["shapedirs"].shape[-1] < NUM_BETAS:
        raise InputError(f"{path}: has {arrays['shapedirs'].shape[-1]} shape directions, {NUM_BETAS} are needed")
    if arrays["posedirs"].shape[-1] not in (0, 9 * (joints - 1)):
        raise InputError(f"{path}: posedirs has {arrays['posedirs'].shape[-1]} columns, not {9 * (joints - 1)}")
    if arrays["faces"].size and not 0 <= arrays["faces"].min() <= arrays["faces"].max() < vertices:
        raise InputError(f"{path}: f names a vertex outside 0..{vertices - 1}")


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
