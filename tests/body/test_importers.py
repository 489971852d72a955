"""Every source people have, written here in its own layout, comes out as the same motion."""

import dataclasses
import pickle

import joblib
import numpy as np
import pytest
import torch
from bodies import random_rotations
from motions import random_motion
from scipy.spatial.transform import Rotation

from champ_jax.body.cameras import project
from champ_jax.body.importers import import_motion
from champ_jax.body.motion import MEAN_PELVIS
from champ_jax.common.errors import InputError

FRAMES, SIZE = 5, (320, 240)
ROTATIONS = random_rotations((FRAMES, 24), seed=7)
AXIS_ANGLES = Rotation.from_matrix(ROTATIONS.reshape(-1, 3, 3)).as_rotvec().reshape(FRAMES, 72).astype(np.float32)
BETAS = np.random.default_rng(0).normal(size=10).astype(np.float32)
WALK = (np.random.default_rng(1).normal(size=(FRAMES, 3)) + np.array([0, 0, 40])).astype(np.float32)


def check(motion, hands=True, frames=slice(None)):
    joints = 24 if hands else 22
    np.testing.assert_allclose(motion.rotations[frames, :joints], ROTATIONS[:, :joints], atol=1e-5)
    if not hands:
        np.testing.assert_array_equal(motion.rotations[frames, 22:], np.broadcast_to(np.eye(3), (FRAMES, 2, 3, 3)))
    np.testing.assert_allclose(motion.betas, BETAS, atol=1e-6)
    np.testing.assert_allclose(motion.translation[frames], WALK, atol=1e-5)
    assert motion.valid[frames].all()
    assert motion.image_size.tolist() == list(SIZE)


def smpls(frame, people=1):
    return {
        "global_orient": np.repeat(ROTATIONS[frame : frame + 1, None, 0], people, axis=0),
        "body_pose": np.repeat(ROTATIONS[frame : frame + 1, 1:], people, axis=0),
        "betas": np.repeat(BETAS[None], people, axis=0),
    }


def write_reference_frames(folder, focal=6250.0, numbers=None, people=1):
    folder.mkdir(exist_ok=True)
    for frame, number in enumerate(numbers or range(FRAMES)):
        data = {
            "verts": [np.zeros((6890, 3), np.float32)] * people,
            "cam_t": [WALK[frame] + 5 * person for person in range(people)],
            "render_res": np.array(SIZE, np.float32),
            "scaled_focal_length": np.array(focal, np.float32),
            "smpls": smpls(frame, people),
        }
        np.save(folder / f"{number:04d}.npy", data)


def test_reference_frames_a_frame_0000_and_a_missing_one(tmp_path):
    write_reference_frames(tmp_path / "smpl", numbers=[0, 1, 2, 4, 5])
    (tmp_path / "smpl" / ".DS_Store").write_text("stray")
    motion, notes = import_motion(tmp_path / "smpl")
    check(motion, frames=[0, 1, 2, 4, 5])
    assert motion.focal.tolist() == [6250.0] * 6
    assert motion.valid.tolist() == [True, True, True, False, True, True]
    assert motion.body == "smpl"
    assert any("not seen in 1 of 6" in note for note in notes)


@pytest.mark.parametrize("focal", ["in the file", "beside", "nowhere"])
def test_reference_group(tmp_path, focal):
    group = {"smpl": np.array([smpls(frame) for frame in range(FRAMES)], dtype=object), "camera": WALK}
    if focal == "in the file":
        group |= {"scaled_focal_length": np.float32(5000), "render_res": np.array(SIZE)}
    if focal == "beside":
        write_reference_frames(tmp_path, focal=5100.0)
        group["camera"] = WALK * [1, -1, 1]  # what the reference's smoothing does
    np.savez(tmp_path / "smpls_group.npz", **group)
    if focal == "nowhere":
        with pytest.raises(InputError, match=r"smpls_group\.npz: .*--image_size"):
            import_motion(tmp_path / "smpls_group.npz")
    size = SIZE if focal == "nowhere" else None
    motion, notes = import_motion(tmp_path / "smpls_group.npz", image_size=size)
    check(motion)
    expected = {"in the file": 5000.0, "beside": 5100.0, "nowhere": 6250.0}[focal]
    np.testing.assert_allclose(motion.focal, expected)
    assert any("turned back" in note for note in notes) == (focal == "beside")


@pytest.mark.parametrize("name", ["ref-01.npy", "person.npy", "²²².npy", "frame_0007.npy"])
def test_a_frame_is_read_by_any_name(tmp_path, name):
    write_reference_frames(tmp_path / "smpl")
    (tmp_path / "smpl" / "0000.npy").rename(tmp_path / name)
    motion, _ = import_motion(tmp_path / name)
    np.testing.assert_allclose(motion.translation, WALK[:1], atol=1e-5)


def test_folders_of_frames_with_other_names_and_of_a_group_file(tmp_path):
    write_reference_frames(tmp_path / "smpl")
    for path in sorted((tmp_path / "smpl").iterdir()):
        path.rename(path.with_name(f"frame_{path.name}"))
    check(import_motion(tmp_path / "smpl")[0])
    group = {"smpl": np.array([smpls(frame) for frame in range(FRAMES)], dtype=object), "camera": WALK}
    (tmp_path / "group").mkdir()
    np.savez(tmp_path / "group" / "smpls_group.npz", **group)
    check(import_motion(tmp_path / "group", image_size=SIZE)[0])


def test_unnormalized_rotations_are_corrected_and_reported(tmp_path):
    group = {"smpl": np.array([smpls(frame) for frame in range(FRAMES)], dtype=object), "camera": WALK}
    for frame in group["smpl"]:
        frame["body_pose"] = frame["body_pose"] * 0.99
    np.savez(tmp_path / "g.npz", **group)
    motion, notes = import_motion(tmp_path / "g.npz", image_size=SIZE)
    check(motion)
    assert any("nearest ones" in note for note in notes)
    for frame in group["smpl"]:
        frame["body_pose"] = frame["body_pose"] * 0.5
    np.savez(tmp_path / "g.npz", **group)
    with pytest.raises(InputError, match="frame 0, joint 1: the matrix is not a rotation"):
        import_motion(tmp_path / "g.npz", image_size=SIZE)


@pytest.mark.parametrize("compress", [0, 3])
def test_phalp(tmp_path, compress):
    """Person 2 is seen in all frames, person 1 in two; in the third frame person 1 is only predicted."""
    result = {}
    for frame in range(FRAMES):
        people = [2, 1] if frame < 3 else [2]
        smpl = {"global_orient": ROTATIONS[frame, :1], "body_pose": ROTATIONS[frame, 1:], "betas": BETAS}
        result[f"frames/{frame:06d}.jpg"] = {
            "time": frame,
            "tid": people,
            "tracked_time": [0, 0 if frame < 2 else 1][: len(people)],
            "smpl": [smpl] * len(people),
            "camera": [WALK[frame], WALK[frame] + 1][: len(people)],
            "size": [list(SIZE[::-1])] * len(people),
        }
    joblib.dump(result, tmp_path / "demo.pkl", compress=compress)
    motion, notes = import_motion(tmp_path / "demo.pkl")
    check(motion)
    np.testing.assert_allclose(motion.focal, 6250.0)
    assert any("2 (5 frames), 1 (2 frames); person 2" in note for note in notes)
    other, _ = import_motion(tmp_path / "demo.pkl", person="1")
    assert other.valid.tolist() == [True, True, False, False, False]
    np.testing.assert_allclose(other.translation[:2], WALK[:2] + 1)
    with pytest.raises(InputError, match=r"no person 9; it has 2 \(5 frames\), 1 \(2 frames\)"):
        import_motion(tmp_path / "demo.pkl", person="9")
    joined, notes = import_motion(tmp_path / "demo.pkl", person="1,2")
    assert joined.valid.all()
    np.testing.assert_allclose(joined.translation, np.concatenate([WALK[:2] + 1, WALK[2:]]), atol=1e-5)
    assert any("2 frames show several of 1, 2" in note for note in notes)


def test_nlf(tmp_path):
    """Arrays of one person, and lists over frames of people, as NLF's `detect_smpl_batched` gives them."""
    rng = np.random.default_rng(0)
    pose, betas = rng.normal(0, 0.4, (4, 72)), rng.normal(size=(4, 10))
    trans = rng.normal(size=(4, 3)) + np.array([0, 0, 4])
    np.savez(tmp_path / "nlf.npz", pose=pose, betas=betas, trans=trans)
    motion, _ = import_motion(tmp_path / "nlf.npz", image_size=(640, 480), fps=24)
    expected = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(4, 24, 3, 3)
    np.testing.assert_allclose(motion.rotations, expected, atol=1e-6)
    np.testing.assert_allclose(motion.translation, trans, rtol=1e-6)
    np.testing.assert_allclose(motion.focal, 320 / np.tan(np.radians(27.5)), rtol=1e-6)
    people = {
        "pose": [pose[:2], np.zeros((0, 72)), pose[2:3], pose[3:]],
        "betas": [betas[:2], np.zeros((0, 10)), betas[2:3], betas[3:]],
        "trans": [trans[:2], np.zeros((0, 3)), trans[2:3], trans[3:]],
    }
    (tmp_path / "nlf.pkl").write_bytes(pickle.dumps(people))
    motion, notes = import_motion(tmp_path / "nlf.pkl", image_size=(640, 480), fps=24)
    np.testing.assert_array_equal(motion.valid, [True, False, True, True])
    np.testing.assert_allclose(motion.translation[[0, 2, 3]], trans[[0, 2, 3]], rtol=1e-6)
    assert any("follows nobody" in note for note in notes)


def test_wham(tmp_path):
    person = {
        "pose": AXIS_ANGLES,
        "trans": WALK,
        "pose_world": AXIS_ANGLES,
        "trans_world": WALK,
        "betas": np.tile(BETAS, (FRAMES, 1)),
        "verts": np.zeros((FRAMES, 6890, 3), np.float32),
        "frame_ids": np.arange(3, 3 + FRAMES),
    }
    joblib.dump({0: person}, tmp_path / "wham_output.pkl")
    with pytest.raises(InputError, match="WHAM does not say how large the video is"):
        import_motion(tmp_path / "wham_output.pkl")
    motion, _ = import_motion(tmp_path / "wham_output.pkl", image_size=SIZE, fps=24)
    check(motion, frames=slice(3, None))
    np.testing.assert_allclose(motion.focal, 400.0)  # the diagonal of 320x240
    assert motion.valid.tolist() == [False] * 3 + [True] * FRAMES
    assert motion.fps == 24
    measured, _ = import_motion(tmp_path / "wham_output.pkl", image_size=SIZE, focal=123)
    np.testing.assert_allclose(measured.focal, 123)


@pytest.mark.parametrize("given", ["track", "hps", "."])
def test_tram(tmp_path, given):
    """TRAM's arrays are torch tensors inside pickled .npy files."""
    (tmp_path / "hps").mkdir()
    for track, frames in ((0, FRAMES), (1, 2)):
        result = {
            "pred_rotmat": torch.from_numpy(ROTATIONS[:frames]),
            "pred_shape": torch.from_numpy(np.tile(BETAS, (frames, 1))),
            "pred_trans": torch.from_numpy(WALK[:frames, None]),
            "frame": torch.arange(frames),
        }
        np.save(tmp_path / f"hps/hps_track_{track}.npy", result)
    np.save(tmp_path / "camera.npy", {"img_focal": 333.0, "img_center": np.array(SIZE) / 2})
    path = {"track": tmp_path / "hps/hps_track_0.npy", "hps": tmp_path / "hps", ".": tmp_path}[given]
    motion, _ = import_motion(path)
    check(motion)
    np.testing.assert_allclose(motion.focal, 333.0)
    if given == "track":
        (tmp_path / "camera.npy").unlink()
        with pytest.raises(InputError, match="--focal"):
            import_motion(path, image_size=SIZE)


def test_gvhmr(tmp_path):
    intrinsics = torch.tensor([[500.0, 0, SIZE[0] / 2], [0, 500, SIZE[1] / 2], [0, 0, 1]]).repeat(FRAMES, 1, 1)
    body = {
        "body_pose": torch.from_numpy(AXIS_ANGLES[:, 3:66]),
        "global_orient": torch.from_numpy(AXIS_ANGLES[:, :3]),
        "betas": torch.from_numpy(np.tile(BETAS, (FRAMES, 1))),
        "transl": torch.from_numpy(WALK),
    }
    torch.save({"smpl_params_incam": body, "smpl_params_global": body, "K_fullimg": intrinsics}, tmp_path / "r.pt")
    motion, _ = import_motion(tmp_path / "r.pt")
    check(motion, hands=False)
    np.testing.assert_allclose(motion.focal, 500)
    assert (motion.body, motion.fps) == ("smplx", 30)
    torch.save({"smpl_params_incam": body}, tmp_path / "r.pt")
    with pytest.raises(InputError, match=r"give --image_size"):
        import_motion(tmp_path / "r.pt")
    with pytest.raises(InputError, match=r"give --focal"):
        import_motion(tmp_path / "r.pt", image_size=SIZE)
    check(import_motion(tmp_path / "r.pt", image_size=SIZE, focal=500)[0], hands=False)


@pytest.mark.parametrize("form", ["rotmat", "pose"])
def test_prompthmr(tmp_path, form):
    poses = np.zeros((FRAMES, 165), np.float32)
    poses[:, :66] = AXIS_ANGLES[:, :66]
    body = {"shape": np.tile(BETAS, (FRAMES, 1)), "trans": WALK, "pose": poses}
    if form == "rotmat":
        body["rotmat"] = np.concatenate([ROTATIONS[:, :22], np.tile(np.eye(3), (FRAMES, 33, 1, 1))], axis=1)
    result = {
        "camera": {"img_focal": np.float64(700), "img_center": np.array(SIZE) / 2},
        "people": {1: {"track_id": 1, "frames": np.arange(FRAMES), "smplx_cam": body}},
        "masks": None,
    }
    joblib.dump(result, tmp_path / "results.pkl")
    motion, _ = import_motion(tmp_path / "results.pkl")
    check(motion, hands=False)
    assert motion.body == "smplx"


@pytest.mark.parametrize(("joints", "space"), [(24, "smpl"), (52, "smpl"), (55, "smplx")])
def test_amass_gets_a_camera_in_front_of_the_person(tmp_path, joints, space):
    """Upright in a z-up world, facing any way, and walking: seen from the front, whole, walking towards the camera."""
    poses = np.zeros((FRAMES, joints, 3))
    heading = Rotation.from_euler("z", 130, degrees=True)
    poses[:, 0] = (heading * Rotation.from_euler("x", 90, degrees=True)).as_rotvec()
    forward = heading.apply([0, -1, 0])
    trans = np.array([3, -2, 0.9]) + np.arange(FRAMES)[:, None] * 0.2 * forward
    np.savez(
        tmp_path / "walk.npz", poses=poses.reshape(FRAMES, -1), betas=np.zeros(16), trans=trans, mocap_framerate=120.0
    )
    motion, notes = import_motion(tmp_path / "walk.npz", image_size=(480, 640))
    assert motion.body == space
    assert motion.fps == 120
    assert any("camera was placed" in note for note in notes)
    np.testing.assert_allclose(motion.rotations[:, 0], np.broadcast_to(np.diag([1, -1, -1]), (FRAMES, 3, 3)), atol=1e-5)
    pelvis = motion.translation + np.array(MEAN_PELVIS[space])
    steps = np.diff(pelvis, axis=0)
    np.testing.assert_allclose(steps, np.tile([0, 0, -0.2], (FRAMES - 1, 1)), atol=1e-4)
    ends = pelvis[:, None] + np.array([[0, -0.8, 0], [0, 1.0, 0], [-0.8, 0, 0], [0.8, 0, 0]])
    pixels = np.asarray(project(ends, motion.focal, motion.image_size))
    assert (pixels > 0).all()
    assert (pixels < motion.image_size).all()


def test_motion_npz_itself(tmp_path):
    motion = random_motion(keypoints=True)
    motion.save(tmp_path / "m.npz")
    again, _ = import_motion(tmp_path / "m.npz", focal=77, fps=12)
    np.testing.assert_array_equal(again.keypoints, motion.keypoints)
    assert (again.focal[0], again.fps) == (77, 12)


@pytest.mark.parametrize("content", ["empty folder", "other folder", "other npz", "mesh sequence", "nobody", "no file"])
def test_what_is_not_a_motion_is_refused_by_name(tmp_path, content):
    path = tmp_path / "input"
    message = "holds no motion in a known format"
    if content == "empty folder":
        path.mkdir()
    elif content == "other folder":
        path.mkdir()
        np.save(path / "0001.npy", np.zeros(3))
    elif content == "other npz":
        path = tmp_path / "input.npz"
        np.savez(path, x=np.zeros(3))
    elif content == "mesh sequence":
        path = tmp_path / "input.npz"
        np.savez(path, vertices=np.zeros((1, 3, 3)), faces=np.zeros((1, 3)), translation=np.zeros((1, 3)))
        message = r"champ render"
    elif content == "nobody":
        joblib.dump({"0.jpg": {"time": 0, "tid": [], "smpl": [], "camera": []}}, path)
        message = "nobody was tracked"
    else:
        message = "no such file or folder"
    with pytest.raises(InputError, match=message) as caught:
        import_motion(path)
    assert str(path) in str(caught.value)


def test_bad_values_name_file_and_frame(tmp_path):
    write_reference_frames(tmp_path / "smpl")
    data = np.load(tmp_path / "smpl/0003.npy", allow_pickle=True).item()
    data["cam_t"] = [np.array([0, np.nan, 1], np.float32)]
    np.save(tmp_path / "smpl/0003.npy", data)
    with pytest.raises(InputError, match=r"smpl/0003\.npy: cam_t holds a number that is not finite"):
        import_motion(tmp_path / "smpl")
    del data["smpls"]
    np.save(tmp_path / "smpl/0003.npy", data)
    with pytest.raises(InputError, match=r"0003\.npy: is not a frame"):
        import_motion(tmp_path / "smpl")


def test_dataclass_fields_of_a_motion_are_float32(tmp_path):
    write_reference_frames(tmp_path / "smpl", people=2)
    motion, notes = import_motion(tmp_path / "smpl", person="1")
    np.testing.assert_allclose(motion.translation, WALK + 5, atol=1e-5)
    assert not any("several" in note for note in notes)
    for field in dataclasses.fields(motion):
        value = getattr(motion, field.name)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            assert value.dtype == np.float32
