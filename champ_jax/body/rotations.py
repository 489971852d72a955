"""Conversions between rotation forms. NumPy in, NumPy out; JAX arrays in, JAX arrays out (differentiable).

Quaternions are (w, x, y, z). Matrices act on column vectors. All functions take any leading axes and keep the
floating-point type.
"""

from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


def _namespace(*arrays: Array) -> ModuleType:
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np


def axis_angle_to_matrix(axis_angle: Array) -> Array:
    """Rotation vectors (..., 3) in radians -> matrices (..., 3, 3)."""
    return quaternion_to_matrix(axis_angle_to_quaternion(axis_angle))


def matrix_to_axis_angle(matrix: Array) -> Array:
    """Matrices (..., 3, 3) -> rotation vectors (..., 3) in radians, of length at most pi."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def axis_angle_to_quaternion(axis_angle: Array) -> Array:
    """Rotation vectors (..., 3) in radians -> unit quaternions (..., 4)."""
    xp = _namespace(axis_angle)
    squared = xp.sum(axis_angle * axis_angle, axis=-1, keepdims=True)
    small = squared < 1e-8
    # The inner `where` keeps sqrt away from 0, whose gradient is infinite.
    angle = xp.sqrt(xp.where(small, xp.ones_like(squared), squared))
    scale = xp.where(small, 0.5 - squared / 48, xp.sin(angle / 2) / angle)
    w = xp.where(small, 1 - squared / 8, xp.cos(angle / 2))
    return xp.concatenate([w, axis_angle * scale], axis=-1)


def quaternion_to_axis_angle(quaternion: Array) -> Array:
    """Quaternions (..., 4) -> rotation vectors (..., 3) in radians, of length at most pi."""
    xp = _namespace(quaternion)
    quaternion = quaternion / xp.linalg.norm(quaternion, axis=-1, keepdims=True)
    quaternion = xp.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    w, vector = quaternion[..., :1], quaternion[..., 1:]
    squared = xp.sum(vector * vector, axis=-1, keepdims=True)
    small = squared < 1e-8
    sine = xp.sqrt(xp.where(small, xp.ones_like(squared), squared))
    scale = xp.where(small, 2 + squared / 3, 2 * xp.arctan2(sine, w) / sine)
    return vector * scale


def quaternion_to_matrix(quaternion: Array) -> Array:
    """Quaternions (..., 4) of any non-zero length -> matrices (..., 3, 3)."""
    xp = _namespace(quaternion)
    quaternion = quaternion / xp.linalg.norm(quaternion, axis=-1, keepdims=True)
    w, x, y, z = (quaternion[..., i] for i in range(4))
    rows = [
        xp.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], axis=-1),
        xp.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], axis=-1),
        xp.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=-1),
    ]
    return xp.stack(rows, axis=-2)


def matrix_to_quaternion(matrix: Array) -> Array:
    """Matrices (..., 3, 3) -> unit quaternions (..., 4) with w >= 0.

    Of the four ways to solve for a quaternion the best conditioned one is taken (Shepperd's method).
    """
    xp = _namespace(matrix)
    m = [[matrix[..., i, j] for j in range(3)] for i in range(3)]
    trace = m[0][0] + m[1][1] + m[2][2]
    # Row k is 4 q_k (q_w, q_x, q_y, q_z): proportional to the quaternion, well conditioned where q_k is large.
    candidates = xp.stack(
        [
            xp.stack([1 + trace, m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]], axis=-1),
            xp.stack([m[2][1] - m[1][2], 1 + 2 * m[0][0] - trace, m[0][1] + m[1][0], m[0][2] + m[2][0]], axis=-1),
            xp.stack([m[0][2] - m[2][0], m[0][1] + m[1][0], 1 + 2 * m[1][1] - trace, m[1][2] + m[2][1]], axis=-1),
            xp.stack([m[1][0] - m[0][1], m[0][2] + m[2][0], m[1][2] + m[2][1], 1 + 2 * m[2][2] - trace], axis=-1),
        ],
        axis=-2,
    )
    squares = xp.stack([candidates[..., k, k] for k in range(4)], axis=-1)
    best = xp.argmax(squares, axis=-1)[..., None, None]
    quaternion = xp.take_along_axis(candidates, best, axis=-2)[..., 0, :]
    quaternion = quaternion / xp.linalg.norm(quaternion, axis=-1, keepdims=True)
    return xp.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def rotation_6d_to_matrix(rotation: Array) -> Array:
    """Two columns (..., 6) = (b1, b2), not orthonormal -> matrices (..., 3, 3) with columns b1, b2, b3 (Gram-Schmidt).

    Source: Zhou et al., "On the continuity of rotation representations in neural networks", eq. 15; here the six
    numbers are column 1, then column 2.
    """
    xp = _namespace(rotation)
    first, second = rotation[..., :3], rotation[..., 3:]
    b1 = first / xp.linalg.norm(first, axis=-1, keepdims=True)
    second = second - xp.sum(b1 * second, axis=-1, keepdims=True) * b1
    b2 = second / xp.linalg.norm(second, axis=-1, keepdims=True)
    return xp.stack([b1, b2, xp.cross(b1, b2)], axis=-1)


def matrix_to_rotation_6d(matrix: Array) -> Array:
    """Matrices (..., 3, 3) -> their first two columns, one after the other (..., 6)."""
    xp = _namespace(matrix)
    return xp.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1)


def nearest_rotation(matrix: Array) -> Array:
    """The rotation nearest to each matrix (..., 3, 3) in the Frobenius norm (orthogonal Procrustes)."""
    xp = _namespace(matrix)
    u, _, vt = xp.linalg.svd(matrix)
    sign = xp.where(xp.linalg.det(u @ vt) < 0, -1.0, 1.0).astype(matrix.dtype)
    return xp.concatenate([u[..., :2], u[..., 2:] * sign[..., None, None]], axis=-1) @ vt


def rotation_error(matrix: Array) -> Array:
    """Distance of matrices (..., 3, 3) from rotations, (...): largest entry of |R^T R - 1|, at least 2 if det < 0."""
    xp = _namespace(matrix)
    gram = xp.swapaxes(matrix, -1, -2) @ matrix - xp.eye(3, dtype=matrix.dtype)
    error = xp.max(xp.abs(gram), axis=(-2, -1))
    return xp.where(xp.linalg.det(matrix) < 0, xp.maximum(error, 2.0), error)


def slerp(start: Array, end: Array, fraction: Array) -> Array:
    """Matrices on the shortest path of constant speed from `start` to `end`, both (..., 3, 3).

    Args:
      fraction: (...), 0 gives `start`, 1 gives `end`; outside [0, 1] extrapolates.
    """
    xp = _namespace(start, end, fraction)
    step = matrix_to_axis_angle(xp.swapaxes(start, -1, -2) @ end)
    return start @ axis_angle_to_matrix(step * xp.asarray(fraction)[..., None])


def rotation_about(axis: str, angle: float) -> np.ndarray:
    """The rotation by `angle` radians about 'x', 'y' or 'z', float64 (3, 3)."""
    vector = np.zeros(3)
    vector["xyz".index(axis)] = angle
    return axis_angle_to_matrix(vector)
