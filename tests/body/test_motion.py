"""The motion container: its file, its slices, and every bad input by its first line."""

import dataclasses

import numpy as np
import pytest
from bodies import random_body
from motions import random_motion

from champ_jax.body.motion import MEAN_PELVIS, Motion, camera_points, change_space
from champ_jax.body.smpl import load_body
from champ_jax.common.errors import InputError


@pytest.mark.parametrize("keypoints", [True, False])
def test_survives_its_file(tmp_path, keypoints):
    motion = random_motion(keypoints=keypoints, valid=[1, 1, 0, 1, 1, 1])
    motion.save(tmp_path / "motion.npz")
    with np.load(tmp_path / "motion.npz") as file:
        assert {name: file[name].shape for name in file.files} == {
            "rotations": (6, 24, 3, 3),
            "betas": (10,),
            "translation": (6, 3),
            "focal": (6,),
            "image_size": (2,),
            "fps": (),
            "valid": (6,),
            "body": (),
        } | ({"keypoints": (6, 134, 3)} if keypoints else {})
    loaded = Motion.load(tmp_path / "motion.npz")
    for field in dataclasses.fields(Motion):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(motion, field.name))


def test_every_third_frame_comes_at_a_third_of_the_frame_rate():
    motion = random_motion(7)
    assert motion[1:7:3].fps == motion.fps / 3
    assert motion[1:7].fps == motion[::-1].fps == motion[np.array([0, 3])].fps == motion.fps


def test_slices_and_picks_frames():
    motion = random_motion(keypoints=True)
    for frames in (slice(1, 5, 2), np.array([5, 0]), motion.rotations[:, 0, 0, 0] > 0):
        part = motion[frames]
        np.testing.assert_array_equal(part.translation, motion.translation[frames])
        np.testing.assert_array_equal(part.keypoints, motion.keypoints[frames])
        assert len(part) == len(part.focal) == len(part.valid)


def bad_rotation(fields):
    fields["rotations"][2, 5] *= 1.25


def mirrored(fields):
    fields["rotations"][3, 7, :, 0] *= -1


def not_finite(name):
    def change(fields):
        fields[name][4] = np.nan

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(rotations=f["rotations"][:0]), "the motion has no frames"),
        (lambda f: f.update(rotations=f["rotations"][:, :23]), r"rotations has shape \(6, 23, 3, 3\), it should be"),
        (
            lambda f: f.update(translation=f["translation"][:5]),
            r"translation has shape \(5, 3\), it should be \(6, 3\)",
        ),
        (lambda f: f.update(betas=np.zeros(16)), r"betas has shape \(16,\)"),
        (lambda f: f.update(keypoints=np.zeros((6, 133, 3))), r"keypoints has shape \(6, 133, 3\)"),
        (lambda f: f.update(betas=np.full(10, np.inf)), "betas holds a number that is not finite"),
        (not_finite("rotations"), "frame 4: rotations holds a number that is not finite"),
        (not_finite("translation"), "frame 4: translation holds a number that is not finite"),
        (not_finite("focal"), "frame 4: focal holds a number that is not finite"),
        (bad_rotation, r"frame 2, joint 5: the matrix is not a rotation, it is 0\.5\d* away"),
        (mirrored, "frame 3, joint 7: the matrix is not a rotation, it is 2 away"),
        (lambda f: f.update(body="mano"), "unknown body 'mano'"),
        (lambda f: f.update(fps=0.0), "fps is 0"),
        (lambda f: f.update(focal=-f["focal"]), "frame 0: focal holds -5000, expected a number above 0"),
        (lambda f: f.update(image_size=[0, 480]), "image_size holds 0, expected"),
        (lambda f: f.update(valid=np.zeros(6, bool)), "no frame is valid"),
        (lambda f: f.pop("valid"), "lacks valid"),
        (lambda f: f.update(rotations=np.array(["a"])), "rotations holds text"),
    ],
)
def test_bad_fields_are_named(tmp_path, change, message):
    fields = dataclasses.asdict(random_motion())
    del fields["keypoints"]
    change(fields)
    np.savez(tmp_path / "bad.npz", **fields)
    with pytest.raises(InputError, match=message) as caught:
        Motion.load(tmp_path / "bad.npz")
    assert str(tmp_path / "bad.npz") in str(caught.value)


def test_invalid_frames_may_hold_anything():
    motion = random_motion()
    motion.rotations[2] = np.nan
    motion.translation[2] = np.nan
    with pytest.raises(InputError, match="frame 2: rotations"):
        motion.validate()
    dataclasses.replace(motion, valid=np.arange(6) != 2).validate()


def test_a_bad_motion_is_not_written(tmp_path):
    motion = random_motion()
    motion.translation[0] = np.nan
    with pytest.raises(InputError):
        motion.save(tmp_path / "out.npz")
    assert not list(tmp_path.iterdir())


def test_missing_file_and_other_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        Motion.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match=r"text\.npz: (cannot be read|is text)"):
        Motion.load(tmp_path / "text.npz")
    np.savez(tmp_path / "objects.npz", rotations=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"objects\.npz: is not a motion\.npz, it lacks betas"):
        Motion.load(tmp_path / "objects.npz")


def test_camera_points_are_the_body_plus_translation_and_spaces_do_not_mix(tmp_path):
    np.savez(tmp_path / "body.npz", **random_body(30), space=np.array("open"))
    body = load_body(tmp_path / "body.npz")
    motion = random_motion(2)
    vertices, joints = camera_points(body, motion)
    still, still_joints = camera_points(body, dataclasses.replace(motion, translation=0 * motion.translation))
    np.testing.assert_allclose(vertices - motion.translation[:, None], still, atol=1e-5)
    np.testing.assert_allclose(joints - motion.translation[:, None], still_joints, atol=1e-5)
    with pytest.raises(
        InputError, match=r"'smpl' body, the body given is 'open'.*--body=SMPL_NEUTRAL.pkl.*--space=open"
    ):
        camera_points(body, dataclasses.replace(motion, body="smpl"))


def test_change_space_keeps_poses_and_the_pelvis():
    motion = random_motion(body="smplx")
    changed = change_space(motion, "smpl")
    np.testing.assert_array_equal(changed.rotations, motion.rotations)
    assert changed.body == "smpl"
    assert not changed.betas.any()
    before = motion.translation + np.array(MEAN_PELVIS["smplx"])
    np.testing.assert_allclose(changed.translation + np.array(MEAN_PELVIS["smpl"]), before, atol=1e-5)
    assert change_space(motion, "smplx") is motion
