"""The maps against the reference renderer's own pictures, and their formulas on small meshes."""

import golden_meshes
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from champ_jax.common.errors import InputError
from champ_jax.conditions import maps
from champ_jax.conditions.colors import PART_COLORS
from champ_jax.conditions.map_renderer import render
from champ_jax.conditions.pyrender_backend import PyrenderRasterizer

# Mean absolute difference to the reference inside the eroded mask, in levels.
TOLERANCE = {"depth": 0.05, "normal": 0.32, "semantic_map": 0.43}


@pytest.fixture(scope="module", params=golden_meshes.SIZES)
def golden(request):
    """(size, mesh fields, our maps)."""
    mesh = golden_meshes.load(request.param)
    drawn = render(mesh["points"], mesh["faces"], mesh["parts"], focal=mesh["focal"], image_size=mesh["image_size"])
    return request.param, mesh, drawn


def inner(*masks: np.ndarray) -> np.ndarray:
    """Pixels at least 2 px inside of all masks."""
    return binary_erosion(np.logical_and.reduce([mask > 0 for mask in masks]), np.ones((3, 3)), iterations=2)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero((a > 0) & (b > 0)) / np.count_nonzero((a > 0) | (b > 0))


def difference(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    return np.abs(a.astype(float) - b)[where].mean()


def test_the_references_pictures(golden):
    size, mesh, drawn = golden
    for frame in range(len(mesh["points"])):
        reference = golden_meshes.pictures(size, frame)
        ours = {name: images[frame] for name, images in drawn.items()}
        assert overlap(ours["mask"], reference["mask"]) >= 0.9995
        where = inner(ours["mask"], reference["mask"])
        for name, tolerance in TOLERANCE.items():
            assert ours[name].shape == reference[name].shape
            assert difference(ours[name], reference[name], where) <= tolerance
            assert not ours[name][ours["mask"] == 0].any()


def test_pyrender_draws_the_same(golden):
    _, mesh, drawn = golden
    try:
        PyrenderRasterizer(mesh["faces"], (64, 64))
    except InputError as error:
        pytest.skip(str(error))
    theirs = render(
        mesh["points"],
        mesh["faces"],
        mesh["parts"],
        focal=mesh["focal"],
        image_size=mesh["image_size"],
        backend="pyrender",
    )
    for frame in range(len(mesh["points"])):
        assert overlap(drawn["mask"][frame], theirs["mask"][frame]) >= 0.9998
        where = inner(drawn["mask"][frame], theirs["mask"][frame])
        for name, tolerance in {"depth": 0.02, "normal": 0.01, "semantic_map": 0.01}.items():
            assert difference(drawn[name][frame], theirs[name][frame], where) <= tolerance


def test_vertex_normals_weigh_faces_by_their_angles():
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(30, 3))
    faces = np.array([rng.choice(30, 3, replace=False) for _ in range(70)])
    expected = np.zeros((30, 3))
    for face in faces:
        a, b, c = vertices[face]
        normal = np.cross(b - a, c - a)
        for i in range(3):
            p, q, r = vertices[np.roll(face, -i)]
            cosine = (q - p) @ (r - p) / np.linalg.norm(q - p) / np.linalg.norm(r - p)
            expected[face[i]] += np.arccos(cosine) * normal / np.linalg.norm(normal)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    valence = np.float32(np.bincount(faces.ravel()).max())
    ours = maps.vertex_normals(jnp.asarray(vertices, jnp.float32), jnp.asarray(faces), valence)
    np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_colors_go_through_linear_light_and_back():
    color = np.linspace(0, 1, 256)
    linear = maps.srgb_to_linear(color)
    np.testing.assert_allclose(maps.linear_to_srgb(jnp.asarray(linear, jnp.float32)), color, atol=1e-6)
    np.testing.assert_allclose(linear[[10, 128, 255]], [0.003035, 0.215861, 1], atol=1e-6)


SQUARE = np.array([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)], np.float32)


def moved(x, y, z):
    return SQUARE + np.array([x, y, z], np.float32)


SQUARE_FACES = np.array([(0, 2, 1), (0, 3, 2)])  # seen from its front by a camera that looks along z


def draw_square(vertices: np.ndarray, faces: np.ndarray = SQUARE_FACES) -> dict[str, np.ndarray]:
    drawn = render(vertices[None], faces, np.array([15, 15, 0, 0]), focal=16.0, image_size=[24, 20])
    return {name: images[0] for name, images in drawn.items()}


def test_a_square_seen_from_the_front():
    drawn = draw_square(moved(0, 0, 2))
    covered = np.zeros((20, 24), bool)
    covered[2:18, 4:20] = True
    np.testing.assert_array_equal(drawn["mask"], covered * 255)
    np.testing.assert_array_equal(drawn["depth"], covered * 255)  # all at one depth: all nearest
    np.testing.assert_array_equal(drawn["normal"][covered], [[128, 128, 255]] * covered.sum())
    # Parts 15 at the upper edge and 0 at the lower one, mixed in linear light.
    share = (np.arange(16) + 0.5) / 16
    ends = maps.srgb_to_linear(PART_COLORS[[15, 0]] / 255)
    column = maps.linear_to_srgb(jnp.asarray((1 - share[:, None]) * ends[0] + share[:, None] * ends[1]))
    np.testing.assert_array_equal(drawn["semantic_map"][2:18, 12], np.floor(255 * np.asarray(column) + 0.92))


def test_back_faces_are_drawn_with_flipped_normals():
    front, back = draw_square(moved(0, 0, 2)), draw_square(moved(0, 0, 2), SQUARE_FACES[:, ::-1])
    np.testing.assert_array_equal(front["normal"], back["normal"])


def test_depth_is_planar_and_spans_all_levels():
    tilted = moved(0, 0, 3)
    tilted[2:, 2] += 1
    depth = draw_square(tilted)["depth"]
    rows = np.flatnonzero(depth[:, 12])
    # On the plane z = 3.5 + y / 2 the row at v looks along y = z (v - 10) / 16.
    z = 3.5 / (1 - (np.arange(20) + 0.5 - 10) / 32)
    rows = np.flatnonzero(draw_square(tilted)["mask"][:, 12])
    z = z[rows]
    expected = np.floor(255 * (1 - (z - z.min()) / (z.max() - z.min())) + 0.5)
    np.testing.assert_allclose(depth[rows, 12], expected, atol=1)
    assert depth[rows[0], 12] == 255
    assert depth[rows[-1], 12] == 0


def test_interpolation_is_perspective_correct():
    # A floor: half of its height on the screen is far less than half of its length.
    floor = np.array([(-1, 1, 2), (1, 1, 2), (1, 1, 20), (-1, 1, 20)], np.float32)
    drawn = draw_square(floor)["semantic_map"]
    rows = np.flatnonzero(drawn.any(axis=(1, 2)))
    z = 16 / (rows + 0.5 - 10)
    share = ((z - 2) / 18)[:, None]
    ends = maps.srgb_to_linear(PART_COLORS[[15, 0]] / 255)
    expected = np.floor(
        255 * np.asarray(maps.linear_to_srgb(jnp.asarray((1 - share) * ends[0] + share * ends[1]))) + 0.92
    )
    assert len(rows) >= 6
    np.testing.assert_allclose(drawn[rows, 12], expected, atol=1)


def test_a_batch_is_drawn_as_its_frames_are():
    mesh = np.stack([moved(0, 0, 2), moved(0.3, 0.1, 3), moved(90, 0, 3)])
    arguments = jnp.asarray(SQUARE_FACES, jnp.int32), maps.LINEAR_PART_COLORS[[15, 15, 0, 0]], np.float32(2)
    focal = np.full((3, 2), 16, np.float32)
    batch = maps.draw_maps(mesh, focal, *arguments, (24, 20))
    for frame in range(3):
        alone = maps.draw_maps(mesh[frame : frame + 1], focal[:1], *arguments, (24, 20))
        for name in maps.MAPS:
            np.testing.assert_array_equal(batch[name][frame], alone[name][0])
