"""The pose networks against what the published files give in TensorFlow Lite's runtime, and against that runtime."""

import os
from pathlib import Path

import numpy as np
import pytest
from pose_network_goldens import GOLDEN, OUTPUTS, kept, of_litert, pictures

import champ_jax
from champ_jax.body.motion import Motion
from champ_jax.common.errors import InputError
from champ_jax.fitting.networks.conversion import FILES, convert
from champ_jax.fitting.networks.pose_landmarks import refine
from champ_jax.fitting.networks.tflite import read_graph
from champ_jax.fitting.networks.weights import FOLDER
from champ_jax.fitting.programs import programs
from champ_jax.fitting.video import find_people
from champ_jax.weights.tensor_files import open_tensors

SOURCES = "CHAMP_JAX_TFLITE"  # folders with the .tflite files, as PATH has them

# Presence is a probability: its range over two pictures says nothing.
LEAST_RANGE = 1.0


@pytest.fixture(scope="module")
def outputs() -> dict[str, list[np.ndarray]]:
    return {name: program(pictures(program.size)) for name, program in programs().items()}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_network_gives_what_its_file_gives(name, outputs):
    with np.load(GOLDEN / f"{name}.npz") as golden:
        for index, ours in enumerate(outputs[name]):
            theirs, extent = golden[f"output{index}"], max(golden[f"range{index}"], LEAST_RANGE)
            difference = np.abs(kept(ours) - theirs).max()
            assert difference <= 1e-3 * extent, f"output {index}: {difference:g} of {extent:g}"


def tflite(name: str) -> Path:
    for folder in filter(None, os.environ.get(SOURCES, "").split(os.pathsep)):
        for path in sorted(Path(folder).rglob(FILES[name])):
            return path
    pytest.skip(f"{FILES[name]} is not in a folder of ${SOURCES}")


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_network_gives_what_the_runtime_gives(name, outputs):
    path = tflite(name)
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    theirs = of_litert(name, path)
    for ours, reference in zip(outputs[name], theirs):
        assert np.abs(ours.ravel() - reference.ravel()).max() <= 1e-3 * max(np.ptp(reference), LEAST_RANGE)


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_shipped_weights_are_those_of_the_file(name):
    path = tflite(name)
    weights = convert(name, path, path.read_bytes())
    with open_tensors(FOLDER / f"{name}.safetensors") as file:
        assert set(file.tensors) == set(weights)
        for key, array in weights.items():
            np.testing.assert_array_equal(file.read(key), array)


def test_refinement_moves_a_point_to_its_heat():
    heat = np.full((1, 64, 64, 2), -20.0, np.float32)
    heat[0, 10, 21, 0] = heat[0, 12, 21, 0] = 20
    points = np.array([[[80.0, 40.0], [80.0, 40.0]]], np.float32)
    refined = refine(points, heat)
    np.testing.assert_allclose(refined[0, 0], (84, 44), atol=1e-3)  # cell (21, 11) of 4 px
    np.testing.assert_array_equal(refined[0, 1], points[0, 1])  # no heat: stays


@pytest.mark.parametrize("data", [b"", b"\0" * 4 + b"TFL3", b"\x10\0\0\0TFL3" + b"\xff" * 64, b"\x08\0\0\0TFL3" * 40])
def test_a_file_that_is_no_network_is_refused(data):
    with pytest.raises(InputError, match=r"net\.tflite: is (a damaged|not a) TensorFlow Lite file"):
        read_graph(Path("net.tflite"), data)


def test_the_points_of_a_person_are_where_the_body_is():
    """The whole way, on a synthetic person of the package whose points are known."""
    folder = Path(champ_jax.__file__).parent / "assets" / "people" / "p00000_m00000"
    truth = Motion.load(folder / "motion.npz").keypoints[0]
    (shot,) = find_people(folder / "reference.png").shots
    found = shot.chosen.keypoints.keypoints[0]
    seen = (truth[:, 2] > 0) & (found[:, 2] > 0.5)
    errors = np.linalg.norm((found - truth)[:, :2], axis=-1)
    height = np.ptp(truth[:18, 1])
    assert seen[:18].sum() >= 12  # of a person seen to the knees
    assert np.median(errors[:18][seen[:18]]) < 0.03 * height
    assert np.median(errors[24:92][seen[24:92]]) < 0.03 * height
