"""Rotations of motions, offline, on scipy. Matrices act on column vectors; all functions take any leading axes."""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation


def axis_angle_to_matrix(axis_angle: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Rotation vectors (..., 3) in radians -> float64 matrices (..., 3, 3)."""
    return Rotation.from_rotvec(axis_angle.reshape(-1, 3)).as_matrix().reshape(*axis_angle.shape, 3)


def matrix_to_axis_angle(matrix: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Matrices (..., 3, 3) -> float64 rotation vectors (..., 3) in radians, of length at most pi."""
    return Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_rotvec().reshape(matrix.shape[:-1])


def nearest_rotation(matrix: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """The rotation nearest to each matrix (..., 3, 3) in the Frobenius norm (orthogonal Procrustes)."""
    u, _, vt = np.linalg.svd(matrix)
    u[..., 2] *= np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)[..., None]
    return u @ vt


def rotation_error(matrix: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch"]:
    """Distance of matrices (..., 3, 3) from rotations, (...): largest entry of |R^T R - 1|, at least 2 if det < 0."""
    error = np.abs(np.swapaxes(matrix, -1, -2) @ matrix - np.eye(3)).max(axis=(-2, -1))
    return np.where(np.linalg.det(matrix) < 0, np.maximum(error, 2.0), error)


def rotation_about(axis: str, angle: float) -> Float[np.ndarray, "3 3"]:
    """The rotation by `angle` radians about 'x', 'y' or 'z', float64 (3, 3)."""
    vector = np.zeros(3)
    vector["xyz".index(axis)] = angle
    return axis_angle_to_matrix(vector)
