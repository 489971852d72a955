"""Random bodies in SMPL's form, written as files by the tests."""

import pickle
from pathlib import Path

import numpy as np
import scipy.sparse

from champ_jax.body.body_files import SMPL_PARENTS


def random_body(vertices: int = 60, joints: int = 24, betas: int = 10, seed: int = 0) -> dict[str, np.ndarray]:
    """The fields of an official body file with random numbers of a plausible size."""
    rng = np.random.default_rng(seed)
    parents = (
        np.array(SMPL_PARENTS)
        if joints == 24
        else np.concatenate([SMPL_PARENTS[:22], rng.integers(15, 22, joints - 22)])
    )
    table = np.stack([parents, np.arange(joints)]).astype(np.uint32)
    weights = rng.random((vertices, joints)) ** 8
    regressor = rng.random((joints, vertices)) ** 8
    return {
        "v_template": rng.normal(size=(vertices, 3)) * 0.5,
        "shapedirs": rng.normal(size=(vertices, 3, betas)) * 0.03,
        "posedirs": rng.normal(size=(vertices, 3, 9 * (joints - 1))) * 0.01,
        "J_regressor": regressor / regressor.sum(axis=1, keepdims=True),
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "kintree_table": table,
        "f": rng.integers(0, vertices, (2 * vertices, 3)).astype(np.uint32),
    }


def write_pickle(path: Path, body: dict[str, np.ndarray]) -> Path:
    """As smplx reads it: a pickled dict with a sparse joint regressor."""
    body = dict(body, J_regressor=scipy.sparse.csc_matrix(body["J_regressor"]))
    path.write_bytes(pickle.dumps(body, protocol=2))
    return path


def random_rotations(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Uniform random rotations (*shape, 3, 3), float32."""
    from scipy.spatial.transform import Rotation

    count = int(np.prod(shape))
    return Rotation.random(count, random_state=seed).as_matrix().reshape(*shape, 3, 3).astype(np.float32)
