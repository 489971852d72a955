"""The shape of a dressed person: cloth and shoes are offsets from the skin, skirts and hair are separate meshes.

All people have meshes of one topology, so that posing and drawing compile once; a piece that a person does not wear is
shrunk to a point, which no pixel sees.
"""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np

from champ_jax.body.measurements import rest_vertices
from champ_jax.body.smpl import JOINT_NAMES, NUM_JOINTS, BodyModel
from champ_jax.conditions.maps import vertex_normals
from champ_jax.data.synthetic import regions
from champ_jax.data.synthetic.anatomy import BODY, Anatomy, load_anatomy
from champ_jax.data.synthetic.identity import Identity

SKIRT, LOCKS, KNOT, BRIM = 3, 4, 5, 6
"""Pieces beside those of the body: skirt, falling hair, bun or ponytail, brim of a cap."""

_SKIRT_GRID, _LOCKS_GRID, _KNOT_GRID, _BRIM_GRID = (14, 40), (10, 28), (10, 16), (4, 14)
_J = {name: number for number, name in enumerate(JOINT_NAMES)}


@dataclasses.dataclass(frozen=True)
class Outfit:
    """A dressed person, ready to be posed by `champ_jax.body.smpl.smpl` with betas of 0.

    Attributes:
      model: the dressed body. Its last 24 vertices are its joints, so that it moves by the bare body's skeleton.
      points: (N, 3) canonical coordinates of its vertices.
      pieces: (M,) the piece that each face belongs to.
    """

    model: BodyModel
    points: np.ndarray
    pieces: np.ndarray


@functools.cache
def _topology() -> tuple[np.ndarray, np.ndarray]:
    """Faces (M, 3) of all pieces and the piece of each."""
    anatomy = load_anatomy()
    faces = [np.asarray(anatomy.body.faces)]
    pieces = [anatomy.pieces[faces[0][:, 0]]]
    start = len(anatomy.points)
    for piece, (grid, closed) in {
        SKIRT: (_SKIRT_GRID, True),
        LOCKS: (_LOCKS_GRID, False),
        KNOT: (_KNOT_GRID, True),
        BRIM: (_BRIM_GRID, False),
    }.items():
        one = _grid_faces(*grid, closed) + start
        faces.append(one)
        pieces.append(np.full(len(one), piece))
        start += grid[0] * grid[1]
    return np.concatenate(faces).astype(np.int32), np.concatenate(pieces)


def dress(identity: Identity) -> Outfit:
    """Builds the dressed rest shape of a person."""
    anatomy = load_anatomy()
    body = anatomy.body
    rest = rest_vertices(body, identity.betas)
    joints = np.asarray(body.J_regressor) @ rest
    valence = np.float32(np.bincount(np.asarray(body.faces).ravel()).max())
    normals = np.asarray(vertex_normals(jnp.asarray(rest, jnp.float32), body.faces, valence))
    dressed = rest + normals * _thickness(identity, anatomy)[:, None] + _shoe_shape(identity, anatomy)
    weights = np.asarray(body.weights)
    parts = [
        _skirt(identity, rest, joints),
        _locks(identity, rest, joints),
        _knot(identity, rest, joints),
        _brim(identity, rest, joints),
    ]
    vertices = np.concatenate([dressed, *(vertices for vertices, _ in parts), joints])
    weights = np.concatenate([weights, *(weight for _, weight in parts), np.eye(NUM_JOINTS)])
    faces, pieces = _topology()
    count = len(vertices)
    regressor = np.zeros((NUM_JOINTS, count), np.float32)
    regressor[np.arange(NUM_JOINTS), count - NUM_JOINTS + np.arange(NUM_JOINTS)] = 1
    model = dataclasses.replace(
        body,
        v_template=jnp.asarray(vertices, jnp.float32),
        shapedirs=jnp.zeros((count, 3, 10), jnp.float32),
        posedirs=jnp.zeros((count, 3, 0), jnp.float32),
        J_regressor=jnp.asarray(regressor),
        weights=jnp.asarray(weights, jnp.float32),
        faces=jnp.asarray(faces),
        parts=jnp.asarray(weights.argmax(axis=1), jnp.int32),
        uvs=None,
        uv_faces=None,
    )
    # Separate meshes are painted by their places on this person.
    points = np.concatenate([anatomy.points, vertices[len(anatomy.points) :]])
    return Outfit(model, points.astype(np.float32), pieces)


def _thickness(identity: Identity, anatomy: Anatomy) -> np.ndarray:
    """(V,) meters that cloth and hair stand off the skin."""
    points = anatomy.points
    top, bottom = identity.top, identity.bottom
    cloth = top.looseness * regions.smooth(regions.top(top, points), 0.03)
    if top.kind == "jacket":
        cloth *= 1 - 0.6 * regions.smooth(regions.opening(points), 0.02)
    low = bottom.looseness if bottom.kind not in ("skirt", "dress") else 0.004
    below = regions.bottom(bottom, points)
    # Wide legs fall straight: they stand off most at the hem.
    width = low * (0.6 + 0.6 * np.clip(-points[:, 1] / 0.8, 0, 1)) * regions.smooth(below, 0.012)
    cloth = np.maximum(cloth, width)
    cloth = np.maximum(cloth, 0.007 * regions.smooth(identity.shoe_height - points[:, 1], 0.012))
    hair = {"bald": 0.0, "buzz": 0.004, "afro": 0.065, "cap": 0.010, "bob": 0.022, "long": 0.018}
    locks = hair.get(identity.hair_style, 0.014) * regions.smooth(regions.hair(identity, points), 0.025)
    if identity.hair_style == "cap":
        locks = np.maximum(locks, 0.020 * regions.smooth(regions.cap(points), 0.01))
    locks = locks * (points[:, 1] > 0.57)
    return np.where(anatomy.pieces == BODY, np.maximum(cloth, locks), 0.0)


def _shoe_shape(identity: Identity, anatomy: Anatomy) -> np.ndarray:
    """(V, 3) how shoes are larger than feet: toes run together into a cap, the sole is thick."""
    y = anatomy.points[:, 1]
    if identity.shoe_height < y.min():
        return np.zeros_like(anatomy.points)
    toes = regions.smooth(anatomy.points[:, 2] - 0.05, 0.05) * (y < -0.84)
    lift = 0.012 * toes * np.clip((y + 0.924) / 0.02, 0, 1)
    sole = np.where(y < -0.90, -0.006, 0.0)
    return np.stack([np.zeros_like(y), lift + sole, 0.008 * toes], axis=-1) * (anatomy.pieces == BODY)[:, None]


def _skirt(identity: Identity, rest: np.ndarray, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = _SKIRT_GRID
    garment = identity.bottom
    weights = np.zeros((rows, columns, NUM_JOINTS))
    if garment.kind not in ("skirt", "dress"):
        weights[..., 0] = 1
        return np.tile(rest[0], (rows * columns, 1)), weights.reshape(-1, NUM_JOINTS)
    # The canonical heights carried to this shape by the legs' length.
    legs = (joints[_J["left_hip"], 1] - joints[_J["left_ankle"], 1]) / 0.831
    angles = 2 * np.pi * np.arange(columns) / columns
    directions = np.stack([np.sin(angles), np.cos(angles)], axis=-1)  # (x, z)
    near = np.abs(rest[:, 0]) < 0.35 + 0.2 * (rest[:, 1] < 0)
    heights = np.linspace(garment.upper, garment.lower, rows)
    radii = np.zeros((rows, columns))
    for row, height in enumerate(heights):
        band = near & (np.abs(rest[:, 1] - height * legs) < 0.03)
        radii[row] = (rest[band][:, [0, 2]] @ directions.T).max(axis=0) + 0.010
    radii = np.maximum.accumulate(0.985 * radii, axis=0)  # falls from the widest place above
    share = np.linspace(0, 1, rows)[:, None]
    folds = 1 + (0.05 + 0.08 * garment.flare) * share * np.sin(columns / 5 * angles + identity.phase)
    radii = radii * (1 + garment.flare * share**1.3) * (1 + (folds - 1) * share)
    x, z = radii * directions[:, 0], radii * directions[:, 1]
    vertices = np.stack([x, np.broadcast_to(heights[:, None] * legs, x.shape), z], axis=-1)
    # Below the hips the cloth goes half with the pelvis, half with the leg of its side.
    leg = 0.62 * np.clip(-heights / 0.25, 0, 1)[:, None]
    left = 1 / (1 + np.exp(-x / 0.06))
    weights[..., _J["left_hip"]] = leg * left
    weights[..., _J["right_hip"]] = leg * (1 - left)
    weights[..., 0] = 1 - leg
    return vertices.reshape(-1, 3), weights.reshape(-1, NUM_JOINTS)


def _locks(identity: Identity, rest: np.ndarray, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hair that falls behind the ears from the crown, round the back of the head."""
    rows, columns = _LOCKS_GRID
    weights = np.zeros((rows, columns, NUM_JOINTS))
    weights[..., _J["head"]] = 1
    length = {"bob": 0.20, "long": 0.38}.get(identity.hair_style)
    head = joints[_J["head"]]
    if length is None:
        return np.tile(head, (rows * columns, 1)), weights.reshape(-1, NUM_JOINTS)
    share = np.linspace(0, 1, rows)[:, None]
    angles = np.linspace(-2.15, 2.15, columns)[None]  # 0 is behind
    ripple = 1 + 0.035 * np.sin(9 * angles + identity.phase) * share
    width = (0.088 + 0.025 * np.sin(np.pi * np.minimum(share * 0.9, 1))) * ripple
    depth = (0.118 - 0.030 * share) * ripple
    x = width * np.sin(angles)
    z = head[2] - 0.012 - depth * np.cos(angles)
    side = np.clip(np.cos(angles), -0.6, 1)
    y = head[1] + 0.085 - length * share * (0.86 + 0.14 * side)
    vertices = np.stack(np.broadcast_arrays(x + head[0], y, z), axis=-1)
    lower = np.clip((share - 0.55) / 0.45, 0, 1) * (0.75 if identity.hair_style == "long" else 0.2)
    weights[..., _J["spine3"]] = np.broadcast_to(lower, (rows, columns))
    weights[..., _J["head"]] = 1 - weights[..., _J["spine3"]]
    return vertices.reshape(-1, 3), weights.reshape(-1, NUM_JOINTS)


def _knot(identity: Identity, rest: np.ndarray, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A bun, or a tail that hangs from the back of the head."""
    rows, columns = _KNOT_GRID
    weights = np.zeros((rows * columns, NUM_JOINTS))
    weights[:, _J["head"]] = 1
    head = joints[_J["head"]]
    if identity.hair_style not in ("bun", "ponytail"):
        return np.tile(head, (rows * columns, 1)), weights
    theta, phi = np.meshgrid(np.linspace(0, np.pi, rows), 2 * np.pi * np.arange(columns) / columns, indexing="ij")
    ball = np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], axis=-1)
    if identity.hair_style == "bun":
        vertices = head + [0, 0.135, -0.085] + ball * 0.048
    else:
        vertices = ball * [0.032, 0.15, 0.030]
        vertices[..., 2] -= 0.05 * np.sin(theta) * np.clip(ball[..., 1] + 0.3, 0, 1)
        vertices = vertices + head + [0, -0.02, -0.135]
    return vertices.reshape(-1, 3), weights


def _brim(identity: Identity, rest: np.ndarray, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = _BRIM_GRID
    weights = np.zeros((rows * columns, NUM_JOINTS))
    weights[:, _J["head"]] = 1
    head = joints[_J["head"]]
    if identity.hair_style != "cap":
        return np.tile(head, (rows * columns, 1)), weights
    out, angles = np.meshgrid(np.linspace(0, 1, rows), np.linspace(-1.05, 1.05, columns), indexing="ij")
    x = (0.085 + 0.004 * out) * np.sin(angles)
    z = 0.015 + 0.085 * np.cos(angles) + 0.075 * out * np.cos(angles) ** 0.7
    y = 0.098 - 0.018 * out - 0.015 * np.sin(angles) ** 2
    return (np.stack([x, y, z], axis=-1) + head).reshape(-1, 3), weights


def _grid_faces(rows: int, columns: int, closed: bool) -> np.ndarray:
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    a, b = row * columns + column, row * columns + (column + 1) % columns
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])
