"""A whole fit, from key points and from 3D joints, against the motion that the points came from."""

import dataclasses
import itertools
import runpy

import numpy as np
import pytest
from body.bodies import write_pickle
from hostile.harness import ROOT
from panorama import look, path_of, texture, with_person
from PIL import Image
from synthetic_clips import clip

from champ_jax.body.camera_path import through_camera, turn_frames
from champ_jax.body.cameras import project
from champ_jax.body.measurements import rest_pelvis
from champ_jax.body.motion import Motion
from champ_jax.body.rotations import matrix_to_axis_angle, rotation_about
from champ_jax.body.smpl import load_body
from champ_jax.common.errors import InputError
from champ_jax.data.synthetic.choreography import pose_frames
from champ_jax.data.synthetic.keypoints import whole_body_keypoints
from champ_jax.fitting import clip as clips
from champ_jax.fitting.camera_motion import estimate_camera
from champ_jax.fitting.fit import FitSettings, _in_world, fit_joints, fit_keypoints
from champ_jax.fitting.joints import Joints3D
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.kinematics import TRANSLATION
from champ_jax.fitting.objective import State
from champ_jax.fitting.predicted import PredictedPoses


def joints_of(motion) -> np.ndarray:
    return pose_frames(load_body(), motion.betas, motion.rotations)[1] + motion.translation[:, None]


def error(found, truth) -> float:
    """Mean distance of the joints after the pelvis was put onto the true one, mm."""
    one, other = joints_of(found), joints_of(truth)
    return 1000 * float(np.linalg.norm((one - one[:, :1]) - (other - other[:, :1]), axis=-1).mean())


@pytest.fixture(scope="module")
def case():
    truth, keypoints = clip()
    keypoints = dataclasses.replace(keypoints, valid=np.arange(len(keypoints)) != 7)
    stages = []
    fit = fit_keypoints(keypoints, load_body(), report=lambda stage, share: stages.append((stage, share)))
    return truth, keypoints, fit, stages


def test_key_points(case):
    truth, keypoints, fit, stages = case
    assert error(fit.motion, truth) < 30
    flat = np.asarray(project(joints_of(fit.motion), truth.focal, truth.image_size))
    expected = np.asarray(project(joints_of(truth), truth.focal, truth.image_size))
    assert np.linalg.norm(flat - expected, axis=-1).mean() < 4
    np.testing.assert_array_equal(fit.motion.valid, keypoints.valid)
    np.testing.assert_array_equal(fit.motion.focal, truth.focal)
    np.testing.assert_array_equal(fit.motion.keypoints, keypoints.keypoints)
    assert fit.motion.fps == truth.fps
    assert fit.motion.body == "open"
    assert 0 < np.median(fit.errors) < 3
    assert [share for stage, share in stages if stage == "fit"][-1] == 1
    assert all(before[1] <= after[1] for before, after in itertools.pairwise(stages) if before[0] == after[0])


def test_frames_without_the_person_are_bridged(case):
    """The frame in which nobody was seen lies between its neighbors."""
    _, _, fit, _ = case
    joints = joints_of(fit.motion)
    assert np.linalg.norm(joints[7] - (joints[6] + joints[8]) / 2, axis=-1).max() < 0.05


def test_3d_joints_relative_to_the_pelvis(case):
    truth = case[0]
    joints = joints_of(truth)
    given = Joints3D.create(joints - joints[:, :1], "smpl24", truth.image_size, truth.fps)
    fit = fit_joints(given, load_body())
    assert error(fit.motion, truth) < 25
    assert np.median(fit.errors) < 0.03
    flat = np.asarray(project(joints_of(fit.motion), fit.motion.focal, truth.image_size))
    assert ((flat > 0) & (flat < truth.image_size)).all()


def test_an_interrupted_fit_goes_on(case, tmp_path):
    """Stopped after the first stage, started again: the same result, without the stages that were done."""
    _, keypoints, fit, _ = case
    store = tmp_path / "store.npz"

    class Stop(Exception):
        pass

    def stop(stage, share):
        if stage == "fit":
            raise Stop

    with pytest.raises(Stop):
        fit_keypoints(keypoints, load_body(), report=stop, store=store)
    assert store.is_file()
    stages = []
    again = fit_keypoints(keypoints, load_body(), report=lambda stage, share: stages.append(stage), store=store)
    assert "start" not in stages
    np.testing.assert_allclose(again.motion.rotations, fit.motion.rotations, atol=1e-3)
    store.write_bytes(b"PK damaged")
    other = fit_keypoints(keypoints, load_body(), FitSettings(ground=False), store=store)
    assert not other.planted.any()


def test_stretches_agree_at_their_seams(case, monkeypatch):
    """A clip solved in overlapping stretches is nearly the clip solved at once, and as smooth where they meet."""
    _, keypoints, fit, _ = case
    monkeypatch.setattr(clips, "STRETCH", 24)
    monkeypatch.setattr(clips, "OVERLAP", 16)
    parts = fit_keypoints(keypoints, load_body()).motion
    one, other = joints_of(parts), joints_of(fit.motion)
    assert np.linalg.norm((one - one[:, :1]) - (other - other[:, :1]), axis=-1).mean() < 0.03
    shake = np.linalg.norm(np.diff(one, 2, axis=0), axis=-1).mean(axis=1)
    usual = np.linalg.norm(np.diff(other, 2, axis=0), axis=-1).mean(axis=1)
    assert shake.max() < 2 * usual.max() + 0.005


def test_nothing_compiles_again_for_another_length(case):
    before = clips._forward._cache_size(), clips._backward._cache_size(), clips._cost._cache_size()
    _, keypoints = clip(frames=40)
    fit_keypoints(keypoints[:9], load_body())
    assert (clips._forward._cache_size(), clips._backward._cache_size(), clips._cost._cache_size()) == before


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_shortest_clips(case, frames):
    _, keypoints, _, _ = case
    fit = fit_keypoints(keypoints[:frames], load_body())
    assert len(fit.motion) == frames
    assert np.median(fit.errors) < 6


def test_an_unknown_focal_length_stays_in_its_range(case):
    truth, keypoints, _, _ = case
    fit = fit_keypoints(dataclasses.replace(keypoints, focal=None), load_body())
    assert truth.focal[0] > 3 * 512
    assert 2.5 * 512 <= fit.focal <= 3 * 512 + 1
    assert error(fit.motion, truth) < 50
    assert len(np.unique(fit.motion.focal)) == 1


def test_an_unknown_focal_length_is_found(case):
    """From a march towards the camera, with the distance; the search starts further away."""
    truth, keypoints = clip(7, focal=False)
    fit = fit_keypoints(keypoints, load_body())
    assert abs(np.log(fit.focal / truth.focal[0])) < 0.1
    distance = np.linalg.norm(truth.translation, axis=1)
    assert np.median(np.linalg.norm(fit.motion.translation - truth.translation, axis=1) / distance) < 0.1


@pytest.mark.parametrize("taken", [0.7, 0.2])
def test_distances_follow_the_focal_length(taken):
    """A step along the line of equal sizes in the picture ends on the curve of equal sizes, also where it is cut."""
    vector, turns = np.zeros((2, 75)), np.tile(np.eye(3), (2, 1, 1))
    vector[:, TRANSLATION] = [[0, 0, 4], [1, 0, 6]]
    linear = vector.copy()
    linear[:, TRANSLATION.stop - 1] *= 1 + 0.7
    found = clips._zoomed(State(vector, turns), State(linear, turns), 0.7, taken).vector[:, TRANSLATION]
    np.testing.assert_allclose(np.exp(taken) / found[:, 2], 1 / vector[:, TRANSLATION][:, 2])
    np.testing.assert_array_equal(found[:, :2], vector[:, TRANSLATION][:, :2])


@pytest.fixture(scope="module")
def panned():
    """Somebody 4 m away before a camera that turns by 40 degrees and zooms: the true motion, in the first frame's
    camera, with the true path; and the points that the camera saw, with 1 px of noise."""
    frames, body = 24, load_body()
    truth, _ = clip(frames=frames)
    rest = rest_pelvis(body, truth.betas)
    translation = truth.translation - (truth.translation + rest).mean(axis=0) + [0, 0.1, 4]
    aside = np.tile(rotation_about("y", np.radians(20)), (frames, 1, 1))
    rotations, translation = turn_frames(aside, truth.rotations, translation, rest)
    time = np.linspace(0, 1, frames)
    path = path_of(40 * time, 2 * np.sin(7 * time), np.sin(5 * time))
    world = dataclasses.replace(
        truth,
        rotations=rotations,
        translation=translation,
        focal=np.full(frames, 440, np.float32),
        keypoints=None,
        camera_rotations=(path @ path[0].T).astype(np.float32),
        camera_focal=(440 * (1 + 0.3 * time)).astype(np.float32),
    )
    seen = through_camera(world, body)
    posed = [part + seen.translation[:, None] for part in pose_frames(body, seen.betas, seen.rotations)]
    points = whole_body_keypoints(*posed, 440.0, (512, 512))
    points[..., :2] = (points[..., :2] - 256) * (seen.focal / 440)[:, None, None] + 256
    points[..., :2] += np.random.default_rng(0).normal(0, 1, points[..., :2].shape)
    return world, points


@pytest.fixture(scope="module")
def followed(panned):
    """The camera's path, as the background of rendered pictures tells it."""
    world, points = panned
    boxes = np.concatenate([points[:, :18, :2].min(axis=1) - 20, points[:, :18, :2].max(axis=1) + 20], axis=1)
    surrounding, first = texture(), path_of([-20], [0], [0])[0]
    pictures = [
        Image.fromarray(with_person(look(surrounding, turn @ first, focal, (512, 512)), box, seed))
        for seed, (turn, focal, box) in enumerate(zip(world.camera_rotations, world.camera_focal, boxes))
    ]
    return estimate_camera(pictures, [boxes], None, 768.0)[0]


def test_a_camera_that_pans_by_40_degrees(panned, followed):
    """From pictures of the background and points of the person to the motion in the first frame's camera."""
    world, points = panned
    between = followed.rotations @ world.camera_rotations.transpose(0, 2, 1)
    assert np.degrees(np.linalg.norm(matrix_to_axis_angle(between), axis=-1)).max() < 0.5
    given = Keypoints.create(points, (512, 512), 24, focal=followed.focal, camera_rotations=followed.rotations)
    motion = fit_keypoints(given, load_body()).motion
    np.testing.assert_array_equal(motion.camera_rotations, followed.rotations)
    np.testing.assert_array_equal(motion.camera_focal, followed.focal)
    assert (motion.focal == followed.focal[0]).all()
    missed = np.linalg.norm(joints_of(motion)[:, 0] - joints_of(world)[:, 0], axis=-1)
    assert np.median(missed) < 0.03
    assert missed.max() < 0.06
    assert error(motion, world) < 25
    assert np.ptp(motion.translation[:, 0]) < 0.4  # who stays in the world does not walk because the camera turns
    seen = through_camera(motion, load_body())
    flat = np.asarray(project(joints_of(seen), seen.focal, seen.image_size))
    own = through_camera(world, load_body())
    expected = np.asarray(project(joints_of(own), own.focal, own.image_size))
    assert np.linalg.norm(flat - expected, axis=-1).mean() < 4


def test_what_a_network_saw_is_brought_to_the_world(panned):
    world, body = panned[0], load_body()
    seen = through_camera(world, body)
    own = PredictedPoses(seen.rotations, seen.translation, np.arange(len(seen)) != 3, seen.betas)
    found = _in_world(own, world.camera_rotations, body)
    np.testing.assert_allclose(found.rotations, world.rotations, atol=1e-5)
    np.testing.assert_allclose(found.translation, world.translation, atol=1e-4)
    np.testing.assert_array_equal(found.known, own.known)
    assert _in_world(own, None, body) is own


def test_too_few_points():
    points = np.zeros((3, 134, 3))
    points[:, :3] = [10, 10, 1]
    with pytest.raises(InputError, match="four of the points"):
        fit_keypoints(Keypoints.create(points, (64, 64), 24), load_body())


@pytest.fixture
def body_file(tmp_path):
    """The open body with its first two shape directions exchanged, as an SMPL file that says nothing about faces."""
    body = load_body()
    parents = np.array(body.parents, np.int64)
    order = np.array([1, 0, *range(2, 10)])
    fields = {
        "v_template": np.asarray(body.v_template, np.float64),
        "shapedirs": np.asarray(body.shapedirs, np.float64)[..., order],
        "posedirs": np.zeros((len(body.v_template), 3, 207)),
        "J_regressor": np.asarray(body.J_regressor, np.float64),
        "weights": np.asarray(body.weights, np.float64),
        "kintree_table": np.stack([np.where(parents < 0, 2**32 - 1, parents), np.arange(24)]).astype(np.uint32),
        "f": np.asarray(body.faces).astype(np.uint32),
    }
    return write_pickle(tmp_path / "SMPL_NEUTRAL.pkl", fields)


def test_a_body_in_smpl_form(case, tmp_path, body_file, capsys):
    """The motion is that body's: its joints, posed by the file's shapes, are where the true ones are."""
    truth, keypoints, _, _ = case
    keypoints[:8].save(tmp_path / "keypoints.npz")
    main = runpy.run_path(str(ROOT / "tools/fit_motion.py"))["main"]
    output = tmp_path / "motion.npz"
    main([f"--input={tmp_path / 'keypoints.npz'}", f"--output={output}", f"--body={body_file}", "--quiet"])
    assert "body 'smpl'" in capsys.readouterr().out
    found = Motion.load(output)
    assert found.body == "smpl"
    assert len(found) == 8
    joints = pose_frames(load_body(body_file), found.betas, found.rotations)[1]
    expected = pose_frames(load_body(), truth.betas, truth.rotations[:8])[1]
    missed = np.linalg.norm((joints - joints[:, :1]) - (expected - expected[:, :1]), axis=-1).mean()
    assert missed < 0.05
    # Read as the other body's, the same numbers are another shape.
    wrong = pose_frames(load_body(), found.betas, found.rotations)[1]
    assert np.abs(wrong - joints).max() > 0.005
