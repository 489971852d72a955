"""The rasterizer against a brute-force renderer on random triangles of every kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import Delaunay

from champ_jax.conditions import rasterizer
from champ_jax.conditions.rasterizer import NEAR, barycentrics, project, rasterize

SIZE = 37, 29
NUM_VERTICES, NUM_FACES = 90, 40
FEW_PAIRS = 512  # so that a frame takes several steps


def brute_force(points: np.ndarray, faces: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel against every triangle in double precision: (triangle or -1, z or inf), each (H, W).

    A sample on an edge counts as moved by (e, -e * e) for a vanishing e.
    """
    points = points.astype(np.float64)
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    nearest, owner = np.full(x.shape, np.inf), np.full(x.shape, -1)
    for number, corners in enumerate(points[faces]):
        if (corners[:, 2] < NEAR).any():
            continue
        areas, signs = [], []
        for i in range(3):
            (ax, ay, _), (bx, by, _) = corners[(i + 1) % 3], corners[(i + 2) % 3]
            area = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
            tie = np.sign(-(by - ay)) if by != ay else np.sign(-(bx - ax))
            areas.append(area)
            signs.append(np.where(area != 0, np.sign(area), tie))
        total = sum(areas)
        inside = (signs[0] == signs[1]) & (signs[1] == signs[2]) & (total != 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = total / sum(area / z for area, z in zip(areas, corners[:, 2]))
        closer = inside & (z < nearest)
        nearest[closer], owner[closer] = z[closer], number
    return owner, nearest


def draw(points: np.ndarray, faces: np.ndarray, pairs: int = FEW_PAIRS) -> tuple[np.ndarray, np.ndarray]:
    raster = rasterize(jnp.asarray(points, jnp.float32), jnp.asarray(faces, jnp.int32), SIZE, pairs)
    return tuple(np.asarray(array).reshape(SIZE[::-1]) for array in raster)


def soup(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat triangles at distinct depths: small, huge, thin, degenerate, outside; corners on a quarter-pixel grid."""
    rng = np.random.default_rng(seed)
    reach = rng.choice([2, 8, 40, 150], NUM_FACES)
    centers = rng.uniform(-20, 60, (NUM_FACES, 1, 2))
    corners = np.round((centers + reach[:, None, None] * rng.uniform(-1, 1, (NUM_FACES, 3, 2))) * 4) / 4
    thin = rng.random(NUM_FACES) < 0.2
    corners[thin, 2] = corners[thin, 0] + rng.choice([0, 0.25], (thin.sum(), 2))
    corners[rng.random(NUM_FACES) < 0.1, 1:] = corners[0, 0]
    on_centers = rng.random(NUM_FACES) < 0.3
    corners[on_centers] = np.floor(corners[on_centers]) + 0.5
    z = np.repeat(rng.permutation(NUM_FACES) + 1.0, 3).reshape(-1, 3, 1)
    z[rng.random(NUM_FACES) < 0.1, rng.integers(3)] = -1
    points = np.concatenate([corners, z], axis=-1).reshape(-1, 3)
    return points, np.arange(3 * NUM_FACES).reshape(-1, 3)


@pytest.mark.parametrize("seed", range(60))
def test_random_triangles_are_drawn_exactly(seed):
    points, faces = soup(seed)
    expected, _ = brute_force(points, faces, SIZE)
    triangle, depth = draw(points, faces)
    np.testing.assert_array_equal(triangle, expected)
    z = points[faces[np.maximum(expected, 0), 0], 2]
    np.testing.assert_allclose(depth, np.where(expected >= 0, z, 0), rtol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_triangles_that_cross_each_other_in_perspective(seed):
    rng = np.random.default_rng(seed)
    vertices = rng.uniform([-1, -1, 0.5], [1, 1, 3], (NUM_VERTICES, 3)).astype(np.float32)
    faces = rng.integers(0, NUM_VERTICES, (NUM_FACES, 3))
    points = np.asarray(project(jnp.asarray(vertices), jnp.array([20.0, 25.0]), SIZE))
    np.testing.assert_allclose(
        points[:, :2], np.array(SIZE) / 2 + [20, 25] * vertices[:, :2] / vertices[:, 2:], rtol=1e-5, atol=1e-4
    )
    expected, z = brute_force(points, faces, SIZE)
    triangle, depth = draw(points, faces)
    # Single precision may decide otherwise on an edge or where two surfaces meet; there the depths agree, or nearly no
    # pixel is concerned.
    np.testing.assert_array_equal(triangle >= 0, expected >= 0)
    hit = expected >= 0
    assert np.mean(triangle != expected) < 0.01
    np.testing.assert_allclose(depth[hit & (triangle == expected)], z[hit & (triangle == expected)], rtol=1e-4)
    differing = hit & (triangle != expected)
    np.testing.assert_allclose(depth[differing], z[differing], rtol=1e-3)


@pytest.mark.parametrize("seed", range(10))
def test_neighboring_triangles_leave_no_gap_and_share_no_sample(seed):
    rng = np.random.default_rng(seed)
    flat = rng.uniform(-3, 45, (NUM_VERTICES, 2)).astype(np.float32)
    flat[: NUM_VERTICES // 3] = np.floor(flat[: NUM_VERTICES // 3]) + 0.5  # corners on samples
    flat[-4:] = [(-9, -9), (50, -9), (-9, 50), (50, 50)]
    faces = Delaunay(flat).simplices
    points = np.concatenate([flat, np.ones((NUM_VERTICES, 1))], axis=-1)
    faces = np.concatenate([faces, np.zeros((2 * NUM_VERTICES - len(faces), 3), int)])  # one shape for all seeds
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    _, inside, _ = jax.jit(barycentrics)(
        jnp.asarray(flat)[faces][:, None, None], jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    )
    np.testing.assert_array_equal(inside.sum(axis=0), 1)
    assert (draw(points, faces)[0] >= 0).all()


def test_the_first_of_equally_near_triangles_wins():
    points = np.array([(0, 0, 1), (60, 0, 1), (0, 60, 1)])
    faces = np.zeros((NUM_FACES, 3), int)
    faces[7:12] = (0, 1, 2)
    triangle, _ = draw(np.resize(points, (NUM_VERTICES, 3)), faces)
    assert set(np.unique(triangle)) <= {-1, 7}


def test_more_pairs_than_can_be_numbered_are_drawn_in_rounds(monkeypatch):
    monkeypatch.setattr(rasterizer, "_MAX_PAIRS", 2 * SIZE[0] * SIZE[1])
    for seed in range(5):
        points, faces = soup(seed)
        expected, _ = brute_force(points, faces, SIZE)
        triangle, _ = draw(points, faces, pairs=FEW_PAIRS + 1)  # another program
        np.testing.assert_array_equal(triangle, expected)


def test_frames_can_be_batched():
    points, faces = zip(*(soup(seed) for seed in range(3)))
    batched = jax.vmap(lambda p: rasterize(p, jnp.asarray(faces[0], jnp.int32), SIZE, FEW_PAIRS))(
        jnp.asarray(points, jnp.float32)
    )
    for p, triangle in zip(points, batched.triangle):
        np.testing.assert_array_equal(triangle.reshape(SIZE[::-1]), draw(p, faces[0])[0])
