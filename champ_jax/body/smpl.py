"""SMPL in JAX: shape, pose correctives, joints and linear blend skinning, for any body in SMPL's 24-joint form."""

import dataclasses
import os
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from champ_jax.body.body_files import read_body
from champ_jax.common.errors import InputError

AnyArray = jax.Array | np.ndarray

NUM_JOINTS = 24
JOINT_NAMES = (
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hand",
    "right_hand",
)
# OpenPose's 18 body points; those from 14 on and the nose lie on the surface, the neck between the shoulders.
KEYPOINT_NAMES = (
    "nose",
    "neck",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_eye",
    "left_eye",
    "right_ear",
    "left_ear",
)
_LIMB_JOINTS = tuple(JOINT_NAMES.index(name) for name in KEYPOINT_NAMES[2:14])
_SHOULDERS = (JOINT_NAMES.index("left_shoulder"), JOINT_NAMES.index("right_shoulder"))
_FACE_ORDER = ("nose", "right_eye", "left_eye", "right_ear", "left_ear")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BodyModel:
    """A body in SMPL's form; meters, y up, facing +z in the rest pose (a T-pose). A pytree of arrays.

    Attributes:
      v_template: (V, 3) rest shape.
      shapedirs: (V, 3, 10) shape directions, meters per unit of beta.
      posedirs: (V, 3, 207) pose correctives, or (V, 3, 0) for a body without them (the open body).
      J_regressor: (24, V) joints from rest vertices.
      weights: (V, 24) skinning weights, each row sums to 1.
      faces: (M, 3) int32 triangles.
      parts: (V,) int32, the joint with the largest skinning weight.
      face_vertices: (5, K) int32, whose mean with `face_weights` is the nose, right eye, left eye, right ear, left
        ear; K is 0 where the body's file says nothing about them.
      face_weights: (5, K), each row sums to 1.
      uvs: (U, 2) texture coordinates in [0, 1], v up, or None.
      uv_faces: (M, 3) int32 into `uvs`, or None.
      parents: 24 parent joints, -1 for the root.
      space: 'smpl' (also SMPL-H), 'smplx' or 'open'; betas mean nothing outside their own space.
    """

    v_template: jax.Array
    shapedirs: jax.Array
    posedirs: jax.Array
    J_regressor: jax.Array
    weights: jax.Array
    faces: jax.Array
    parts: jax.Array
    face_vertices: jax.Array
    face_weights: jax.Array
    uvs: jax.Array | None
    uv_faces: jax.Array | None
    parents: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    space: str = dataclasses.field(metadata={"static": True})


def load_body(path: str | os.PathLike | None = None) -> BodyModel:
    """Reads a body: SMPL's .pkl or .npz, SMPL-H's and SMPL-X's (reduced to 24 joints), or the shipped open body (None).

    Raises:
      InputError: no such file, not a body, or shapes that do not fit together.
    """
    if path is None:
        with resources.as_file(resources.files("champ_jax") / "assets/open_body/open_body.npz") as file:
            arrays = read_body(file)
    else:
        arrays = read_body(path)
    space, parents = arrays.pop("space"), arrays.pop("parents")
    uvs, uv_faces = arrays.pop("uvs", None), arrays.pop("uv_faces", None)
    parts = np.argmax(arrays["weights"], axis=1).astype(np.int32)
    return BodyModel(
        **{name: jnp.asarray(value) for name, value in arrays.items()},
        parts=jnp.asarray(parts),
        uvs=None if uvs is None else jnp.asarray(uvs),
        uv_faces=None if uv_faces is None else jnp.asarray(uv_faces),
        parents=parents,
        space=space,
    )


def rest_joints(body: BodyModel, betas: Float[AnyArray, "*batch 10"]) -> Float[jax.Array, "*batch 24 3"]:
    """Joints (..., 24, 3) of the rest pose for shapes `betas` (..., 10), meters."""
    return _regress(body, _shaped(body, jnp.asarray(betas)))


def smpl(
    body: BodyModel, betas: Float[AnyArray, "*#batch 10"], rotations: Float[AnyArray, "*#batch 24 3 3"]
) -> tuple[Float[jax.Array, "... vertices 3"], Float[jax.Array, "... 24 3"]]:
    """Shapes and poses a body (Loper et al., "SMPL", eq. 2-12); works under jit, vmap and grad.

    Args:
      betas: (..., 10) shape; leading axes broadcast against those of `rotations`.
      rotations: (..., 24, 3, 3) of each joint relative to its parent, the root's relative to the camera. The root
        turns about the pelvis joint, as in the `smplx` package.

    Returns:
      vertices (..., V, 3) and joints (..., 24, 3), meters, without any translation.
    """
    betas, rotations = jnp.asarray(betas), jnp.asarray(rotations)
    shaped = _shaped(body, betas)
    rest = _regress(body, shaped)
    posed = shaped
    if body.posedirs.shape[-1]:
        feature = (rotations[..., 1:, :, :] - jnp.eye(3, dtype=rotations.dtype)).reshape(*rotations.shape[:-3], -1)
        posed = posed + jnp.einsum("vck,...k->...vc", body.posedirs, feature, precision="highest")
    batch = jnp.broadcast_shapes(shaped.shape[:-2], rotations.shape[:-3])
    rest = jnp.broadcast_to(rest, (*batch, NUM_JOINTS, 3))
    rotations = jnp.broadcast_to(rotations, (*batch, NUM_JOINTS, 3, 3))
    turns, joints = _forward_kinematics(rotations, rest, body.parents)
    # A vertex v moves with joint j as R_j v + (joint_j - R_j rest_j). The 3x4 matrices are blended with vertices last,
    # so that the product below runs along contiguous rows: 3 times as fast on a CPU as 3x3 products a vertex.
    offsets = joints - _apply(turns, rest)
    transforms = jnp.concatenate([turns, offsets[..., None]], axis=-1)
    blended = jnp.einsum("vj,...jab->...abv", body.weights, transforms, precision="highest")
    x, y, z = (posed[..., None, :, axis] for axis in range(3))
    vertices = blended[..., 0, :] * x + blended[..., 1, :] * y + blended[..., 2, :] * z + blended[..., 3, :]
    return jnp.swapaxes(vertices, -1, -2), joints


def body_keypoints(
    body: BodyModel, vertices: Float[AnyArray, "*batch vertices 3"], joints: Float[AnyArray, "*batch 24 3"]
) -> Float[jax.Array, "*batch 18 3"]:
    """OpenPose's 18 body points (`KEYPOINT_NAMES`) of a posed body.

    Args:
      vertices: (..., V, 3). joints: (..., 24, 3). Both in the same frame.

    Returns:
      (..., 18, 3) in that frame.

    Raises:
      InputError: the body's file says nothing about nose, eyes and ears.
    """
    if not body.face_vertices.shape[-1]:
        raise InputError(
            f"the body has {body.v_template.shape[0]} vertices and does not say which are nose, eyes and ears, so no "
            "skeleton can be drawn; use a SMPL, SMPL-H or SMPL-X file or the open body"
        )
    face = jnp.sum(vertices[..., body.face_vertices, :] * body.face_weights[..., None], axis=-2)
    neck = joints[..., _SHOULDERS, :].mean(axis=-2, keepdims=True)
    limbs = joints[..., _LIMB_JOINTS, :]
    return jnp.concatenate([face[..., :1, :], neck, limbs, face[..., 1:, :]], axis=-2)


def _shaped(body: BodyModel, betas: jax.Array) -> jax.Array:
    return body.v_template + jnp.einsum("vck,...k->...vc", body.shapedirs, betas, precision="highest")


def _regress(body: BodyModel, shaped: jax.Array) -> jax.Array:
    return jnp.einsum("jv,...vc->...jc", body.J_regressor, shaped, precision="highest")


def _apply(matrices: jax.Array, vectors: jax.Array) -> jax.Array:
    return jnp.sum(matrices * vectors[..., None, :], axis=-1)


def _forward_kinematics(rotations: jax.Array, rest: jax.Array, parents: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """World rotations (..., 24, 3, 3) and positions (..., 24, 3) of the joints along the tree.

    Joints of equal depth in the tree are done together: 8 steps in place of 23, which compiles much faster.
    """
    depths = [0]
    for parent in parents[1:]:
        depths.append(depths[parent] + 1)
    turns, joints, order = rotations[..., :1, :, :], rest[..., :1, :], [0]
    for depth in range(1, max(depths) + 1):
        level = np.array([joint for joint, value in enumerate(depths) if value == depth])
        above = np.array([parents[joint] for joint in level])
        place = np.array([order.index(joint) for joint in above])
        turn, bone = turns[..., place, :, :], rest[..., level, :] - rest[..., above, :]
        joints = jnp.concatenate([joints, joints[..., place, :] + _apply(turn, bone)], axis=-2)
        # A product written as a sum: exact on every backend, and one fused loop where a 3x3 dot is a call.
        turn = jnp.sum(turn[..., :, :, None] * rotations[..., level, None, :, :], axis=-2)
        turns = jnp.concatenate([turns, turn], axis=-3)
        order.extend(level.tolist())
    back = np.argsort(order)
    return turns[..., back, :, :], joints[..., back, :]
