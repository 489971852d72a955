"""Whole motions: skeleton and maps of one body, sizes, frames, folders, the command."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import golden_meshes
import numpy as np
import pytest

from champ_jax.body.authored import load_authored
from champ_jax.body.motion import camera_points
from champ_jax.body.smpl import load_body
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image
from champ_jax.common.videos import read_video
from champ_jax.conditions.body_skeleton import body_skeleton
from champ_jax.conditions.map_renderer import render
from champ_jax.conditions.mesh_sequence import MeshSequence
from champ_jax.conditions.motion_folder import MotionFolder
from champ_jax.conditions.motion_folder_writer import OVERVIEW, write_motion_folder, write_overview
from champ_jax.conditions.preview import preview
from champ_jax.conditions.rendered_motion import RENDERED, render_mesh_sequence, render_motion

TOOL = Path(__file__).parents[2] / "tools" / "render_conditions.py"
MESH_FILE = golden_meshes.FOLDER / "512x512" / "mesh_sequence.npz"
SIZE = 96, 96


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def motion():
    """18 frames: half a turn of the body, from its front to its back."""
    return load_authored("turn")[:18]


@pytest.fixture(scope="module")
def rendered(motion, body):
    return render_motion(motion, body, image_size=SIZE)


def test_frames_are_what_render_draws(motion, body, rendered):
    vertices, _ = camera_points(body, motion)
    focal = motion.focal * SIZE[0] / motion.image_size[0]
    expected = render(vertices, body.faces, body.parts, focal=focal, image_size=SIZE)
    assert len(rendered) == len(motion)
    for index, frame in enumerate(rendered):
        assert tuple(frame) == RENDERED
        for name in expected:
            np.testing.assert_array_equal(frame[name], expected[name][index])


def test_the_skeleton_is_inside_the_body(rendered):
    for frame in rendered:
        skeleton, mask = frame["dwpose"].any(axis=-1), frame["mask"] > 0
        assert skeleton.any()
        # Limbs are 8 px wide, which at this size is more than an arm.
        assert np.count_nonzero(skeleton & mask) > 0.5 * np.count_nonzero(skeleton)


def test_reading_a_stretch_at_any_size(rendered):
    stretch = rendered.read(3, 12)
    for name, images in stretch.items():
        assert images.shape == (9, *SIZE[::-1], 3)
        first = rendered[3][name]
        np.testing.assert_array_equal(images[0], first if first.ndim == 3 else np.stack([first] * 3, axis=-1))
    assert rendered.read(3, 4, (96, 48))["dwpose"].shape == (1, 48, 96, 3)
    squeezed = rendered.read(3, 4, (96, 48))["mask"][0, ..., 0] > 0
    shrunk = stretch["mask"][0, ..., 0].reshape(48, 2, 96).any(axis=1)
    assert np.count_nonzero(squeezed & shrunk) > 0.85 * np.count_nonzero(squeezed | shrunk)


def test_frames_and_conditions_can_be_chosen(motion, body, rendered):
    some = render_motion(
        motion, body, image_size=SIZE, frames=slice(4, 10, 2), conditions=("dwpose", "depth"), backend="jax"
    )
    assert (len(some), some.conditions, some.fps) == (3, ("dwpose", "depth"), motion.fps)
    np.testing.assert_array_equal(some[1]["depth"], rendered[6]["depth"])
    np.testing.assert_array_equal(some[-1]["dwpose"], rendered[8]["dwpose"])
    with pytest.raises(IndexError):
        some[3]
    with pytest.raises(InputError, match="no frames"):
        render_motion(motion, body, frames=slice(5, 5))
    with pytest.raises(InputError, match="conditions=pose: pose: expected depth"):
        render_motion(motion, body, conditions=("pose",))


def test_frames_that_are_not_valid_are_empty_and_said(motion, body, rendered):
    valid = np.ones(len(motion), bool)
    valid[2] = False
    rotations = motion.rotations.copy()
    rotations[2] = np.nan
    gappy = dataclasses.replace(motion, valid=valid, rotations=rotations)
    with pytest.warns(UserWarning, match="frame 2: not valid in the motion, drawn empty"):
        frames = render_motion(gappy, body, image_size=SIZE)
    assert not any(image.any() for image in frames[2].values())
    np.testing.assert_array_equal(frames[3]["normal"], rendered[3]["normal"])


def test_a_body_of_another_space_is_refused(motion, body):
    with pytest.raises(InputError, match="betas do not carry over"):
        render_motion(dataclasses.replace(motion, body="smpl"), body)


# The skeleton of the body itself.

# A person 4 m before the camera, facing it, in meters: nose, neck, right arm, left arm, right leg, left leg, right eye,
# left eye, right ear, left ear.
# fmt: off
POSE = np.array(
    [
        (0, -0.70, 3.9), (0, -0.5, 4), (-0.2, -0.5, 4), (-0.3, -0.25, 4), (-0.35, 0, 4), (0.2, -0.5, 4),
        (0.3, -0.25, 4), (0.35, 0, 4), (-0.1, 0, 4), (-0.1, 0.45, 4), (-0.1, 0.9, 4), (0.1, 0, 4), (0.1, 0.45, 4),
        (0.1, 0.9, 4), (-0.03, -0.73, 3.92), (0.03, -0.73, 3.92), (-0.07, -0.72, 4), (0.07, -0.72, 4),
    ]
)
# fmt: on
FOCAL, PICTURE = np.array([500.0]), np.array([400, 600])


def skeleton_of(points: np.ndarray, driver: np.ndarray | None = None) -> np.ndarray:
    return body_skeleton(points[None], FOCAL, PICTURE, None if driver is None else driver[None])[0]


@pytest.fixture
def driver():
    """The key points of somebody in that very pose."""
    keypoints = skeleton_of(POSE).astype(np.float64)
    rng = np.random.default_rng(0)
    keypoints[24:92, :2] = keypoints[0, :2] + rng.uniform(-12, 12, (68, 2))
    keypoints[92:113, :2] = keypoints[7, :2] + rng.uniform(0, 10, (21, 2))
    keypoints[113:, :2] = keypoints[4, :2] + rng.uniform(-10, 0, (21, 2))
    keypoints[24:, 2] = rng.uniform(0, 1, 110)
    return keypoints


def test_body_points_are_projected():
    skeleton = skeleton_of(POSE)
    np.testing.assert_allclose(skeleton[:18, :2], PICTURE / 2 + 500 * POSE[:, :2] / POSE[:, 2:], atol=1e-4)
    assert (skeleton[:18, 2] == 1).all()
    assert not skeleton[18:, 2].any()


def test_points_behind_the_camera_are_invisible():
    points = POSE.copy()
    points[10, 2] = -0.5
    skeleton = skeleton_of(points)
    assert np.isfinite(skeleton).all()
    assert np.flatnonzero(skeleton[:18, 2] == 0).tolist() == [10]


@pytest.mark.parametrize(("yaw", "hidden"), [(0, []), (90, [17]), (-90, [16]), (180, [0, 14, 15])])
def test_points_on_the_far_side_of_the_head_are_invisible(yaw, hidden):
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    turned = (POSE - [0, 0, 4]) @ np.array([(c, 0, -s), (0, 1, 0), (s, 0, c)]).T + [0, 0, 4]
    assert np.flatnonzero(skeleton_of(turned)[:18, 2] == 0).tolist() == hidden


def test_face_and_hands_stay_where_the_body_is_the_drivers_own(driver):
    carried = skeleton_of(POSE, driver)
    np.testing.assert_allclose(carried[24:], driver[24:], atol=1e-3)


def test_face_and_hands_move_grow_and_turn_with_the_body(driver):
    # In the picture: half as large again, turned by 0.4 rad, moved.
    c, s = 1.5 * np.cos(0.4), 1.5 * np.sin(0.4)
    turn = np.array([(c, -s), (s, c)])
    points = POSE.copy()
    points[:, :2] = (POSE[:, :2] / POSE[:, 2:] @ turn.T + [0.05, -0.02]) * points[:, 2:]
    carried = skeleton_of(points, driver)
    middle = PICTURE / 2
    expected = (driver[24:, :2] - middle) @ turn.T + middle + 500 * np.array([0.05, -0.02])
    # Drawn a little towards no turn, as the wrists and the head are determined by few points.
    np.testing.assert_allclose(carried[24:, :2], expected, atol=1.5)
    np.testing.assert_allclose(carried[24:, 2], driver[24:, 2], atol=1e-6)


def test_a_wrist_the_driver_does_not_show_has_no_hand(driver):
    driver[7, 2] = 0.1
    carried = skeleton_of(POSE, driver)
    assert not carried[92:113, 2].any()
    np.testing.assert_allclose(carried[113:], driver[113:], atol=1e-3)


def test_a_forearm_seen_end_on_turns_no_hand(driver):
    points = POSE.copy()
    points[3] = points[4] + [0.0005, 0.0005, -0.2]
    driver[3, :2] = driver[4, :2] + [0.3, -0.2]
    hand = skeleton_of(points, driver)[113:, :2] - skeleton_of(points, driver)[4, :2]
    np.testing.assert_allclose(hand, driver[113:, :2] - driver[4, :2], rtol=0.15, atol=0.5)


def test_the_drivers_face_and_hands_are_drawn(motion, body, rendered):
    vertices = camera_points(body, motion)
    keypoints = np.zeros((len(motion), 134, 3), np.float32)
    keypoints[:, :18, :2] = [(128 + 3 * k, 100 + 2 * k) for k in range(18)]
    keypoints[:, :18, 2] = 1
    keypoints[:, 24:92] = (130, 100, 0.9)
    driven = render_motion(dataclasses.replace(motion, keypoints=keypoints), body, image_size=SIZE)
    assert (driven[0]["dwpose"] == 255).all(axis=-1).any()
    assert not (rendered[0]["dwpose"] == 255).all(axis=-1).any()
    assert len(vertices[0]) == len(motion)


# Meshes without poses, folders and the command.


def test_a_mesh_sequence_is_drawn_as_its_points_are():
    sequence, mesh = MeshSequence.load(MESH_FILE), golden_meshes.load("512x512")
    frames = render_mesh_sequence(sequence)
    expected = render(mesh["points"], mesh["faces"], mesh["parts"], focal=mesh["focal"], image_size=[512, 512])
    for name, images in expected.items():
        np.testing.assert_array_equal(frames[1][name], images[1])
    with pytest.raises(InputError, match="no poses"):
        render_mesh_sequence(sequence, conditions=RENDERED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vertices": None}, "lacks vertices"),
        ({"vertices": np.zeros((0, 4, 3))}, "the motion has no frames"),
        ({"translation": np.zeros((3, 3))}, r"translation has shape \(3, 3\), it should be \(2, 3\)"),
        ({"parts": np.zeros((5,), int)}, r"parts has shape \(5,\), it should be \(4,\)"),
    ],
)
def test_broken_mesh_sequences_are_refused(tmp_path, changes, message):
    fields = {
        "vertices": np.zeros((2, 4, 3)),
        "faces": np.zeros((1, 3), int),
        "parts": np.zeros(4, int),
        "translation": np.zeros((2, 3)),
        "focal": np.ones(2),
        "image_size": np.array([8, 8]),
    } | changes
    np.savez(tmp_path / "mesh.npz", **{name: value for name, value in fields.items() if value is not None})
    with pytest.raises(InputError, match=rf"mesh.npz: {message}"):
        MeshSequence.load(tmp_path / "mesh.npz")


def test_motion_folders_are_whole_and_resume_where_they_were(tmp_path, rendered, motion, body):
    assert write_motion_folder(rendered, tmp_path) == len(rendered)
    folder = MotionFolder(tmp_path)
    folder.check()
    assert folder.names == [f"{number:04}" for number in range(1, len(rendered) + 1)]
    for name, images in folder.read(5, 6).items():
        np.testing.assert_array_equal(images[0], rendered.read(5, 6)[name][0])
    assert read_image(tmp_path / "depth" / "0006.png", "L").tolist() == rendered[5]["depth"].tolist()

    untouched = (tmp_path / "depth" / "0001.png").stat().st_mtime_ns
    (tmp_path / "normal" / "0007.png").unlink()
    (tmp_path / "mask" / "0011.png").unlink()
    assert write_motion_folder(rendered, tmp_path) == 2
    assert write_motion_folder(rendered, tmp_path) == 0
    assert (tmp_path / "depth" / "0001.png").stat().st_mtime_ns == untouched

    with pytest.raises(InputError, match="another motion"):
        write_motion_folder(render_motion(motion[:5], body, image_size=SIZE), tmp_path)
    (tmp_path / "render.json").unlink()
    with pytest.raises(InputError, match="not drawn by this program"):
        write_motion_folder(rendered, tmp_path)


def test_the_overview_shows_the_body_and_every_condition(tmp_path, rendered):
    write_motion_folder(rendered, tmp_path)
    path = write_overview(tmp_path, rendered, picture=np.full((10, 10, 3), (0, 200, 0), np.uint8))
    frames = list(read_video(path))
    assert path.name == OVERVIEW
    assert len(frames) == len(rendered)
    assert frames[0].shape == (SIZE[1], SIZE[0] * (1 + len(RENDERED)), 3)
    np.testing.assert_allclose(frames[0][2:6, 2:6].mean(axis=(0, 1)), (0, 200, 0), atol=12)
    np.testing.assert_allclose(frames[0][:, SIZE[0] : 2 * SIZE[0], 0].mean(), rendered[0]["depth"].mean(), atol=3)


def test_the_preview_is_lit_from_above_and_keeps_the_picture():
    normal = np.zeros((2, 2, 3), np.uint8)
    normal[0, 0] = 128, 255, 128  # up
    normal[0, 1] = 128, 0, 128  # down
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    shaded = preview(normal, picture)
    np.testing.assert_array_equal(shaded[1], picture[1])
    assert (shaded[0, 0] > shaded[0, 1]).all()


def run_tool(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, TOOL, *map(str, arguments)]
    environment = {"PYTHONPATH": str(TOOL.parents[1])}
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


def test_the_command_draws_a_mesh_sequence_and_says_what_is_left_out(tmp_path):
    output = tmp_path / "maps"
    done = run_tool(f"--motion={MESH_FILE}", f"--output={output}", "--size=128x128")
    assert done.returncode == 0, done.stderr
    assert "dwpose is left out" in done.stderr
    assert "2 drawn now" in done.stdout
    assert sorted(path.name for path in output.iterdir() if path.is_dir()) == sorted(set(RENDERED) - {"dwpose"})
    assert (output / OVERVIEW).is_file()


def test_several_motions_go_to_folders_of_their_names(tmp_path):
    copies = [tmp_path / f"{name}.npz" for name in ("one", "two")]
    for copy in copies:
        copy.write_bytes(MESH_FILE.read_bytes())
    output = tmp_path / "maps"
    done = run_tool(f"--motion={copies[0]},{copies[1]}", f"--output={output}", "--size=128x128", "--workers=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 drawn now") == 2
    first, second = (sorted((output / name / "normal").iterdir()) for name in ("one", "two"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    again = run_tool(f"--motion={copies[0]},{copies[0]}", f"--output={output}", "--workers=1")
    assert again.returncode == 2
    assert "2 of them are named one" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--motion=nothing.npz"], "nothing.npz: no such file"),
        ([f"--motion={MESH_FILE}", "--size=big"], "expected WIDTHxHEIGHT"),
        ([f"--motion={MESH_FILE}", "--conditions=dwpose"], "no poses"),
        ([f"--motion={MESH_FILE}", "--width=1"], "unrecognized arguments"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, arguments, message):
    done = run_tool(*arguments, f"--output={tmp_path / 'maps'}")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "maps").exists()
