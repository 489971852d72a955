"""Points of other programs: written here as those programs write them, read back as the 134 or as 3D joints."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from champ_jax.body.smpl import JOINT_NAMES, KEYPOINT_NAMES
from champ_jax.common.errors import InputError
from champ_jax.conditions.skeleton import coco_to_openpose
from champ_jax.fitting.joints import Joints3D
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.layouts import LAYOUTS_3D, to_whole_body
from champ_jax.fitting.sources import SourceOptions, read_points

SIZE = {"image_size": (64, 48)}


def people(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.concatenate([rng.uniform(1, 48, (count, 2)), np.ones((count, 1))], axis=1)


def test_coco_17_is_the_body_of_coco_wholebody():
    rng = np.random.default_rng(0)
    whole = rng.uniform(0.5, 48, (4, 133, 3))
    whole[..., 2] = 0.9
    expected = coco_to_openpose(whole[..., :2], whole[..., 2])
    body = to_whole_body(whole[:, :17])
    np.testing.assert_allclose(body[:, :18, :2], expected[:, :18, :2])
    assert not body[:, 18:].any()
    np.testing.assert_array_equal(to_whole_body(whole), expected)


def test_body_25_has_the_same_names():
    """Of points that carry their own number: OpenPose's order of BODY_25, from its documentation."""
    points = np.zeros((25, 3))
    points[:, 0] = np.arange(25)
    points[:, 2] = 1
    found = to_whole_body(points)[:, 0]
    np.testing.assert_array_equal(found[:18], [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18])
    np.testing.assert_array_equal(found[18:24], [19, 20, 21, 22, 23, 24])


@pytest.mark.parametrize("layout", LAYOUTS_3D)
def test_layouts_have_their_number_of_joints_and_pairs(layout):
    """Each has the number of points in its name, none twice, and as many of the left as of the right."""
    count = int("".join(character for character in layout if character.isdigit()).removeprefix("36"))
    targets = LAYOUTS_3D[layout]
    assert len(targets) == count
    known = [target for target in targets if target is not None]
    assert len(set(known)) == len(known)
    names = [JOINT_NAMES[-1 - one] if one < 0 else KEYPOINT_NAMES[one] for one in known if one < 18]
    assert sum(name.startswith("left") for name in names) == sum(name.startswith("right") for name in names)


def test_mhr_places():
    """SAM 3D Body's order: wrists are at 41 and 62, the index fingers' knuckles at 28 and 49, toes from 15."""
    assert LAYOUTS_3D["mhr70"][41] == 4
    assert LAYOUTS_3D["mhr70"][62] == 7
    assert LAYOUTS_3D["mhr70"][15:21] == (18, 19, 20, 21, 22, 23)
    assert LAYOUTS_3D["mhr70"][28] == 113 + 5
    assert LAYOUTS_3D["mhr70"][49] == 92 + 5


def write_openpose(folder, frames, name="dance_{:012}_keypoints.json"):
    """As OpenPose's --write_json does, `frames` {number: list of (25, 3)}; every second one has hands and a face."""
    folder.mkdir(exist_ok=True)
    for number, points in frames.items():
        out = []
        for index, person in enumerate(points):
            extra = [] if index % 2 else [0.25] * (21 * 3)
            out.append(
                {
                    "person_id": [-1],
                    "pose_keypoints_2d": [float(value) for value in np.ravel(person)],
                    "face_keypoints_2d": [] if index % 2 else [0.5] * (70 * 3),
                    "hand_left_keypoints_2d": extra,
                    "hand_right_keypoints_2d": extra,
                    "pose_keypoints_3d": [],
                }
            )
        (folder / name.format(number)).write_text(json.dumps({"version": 1.3, "people": out}))
    return folder


def test_openpose_follows_one_person(tmp_path):
    rng = np.random.default_rng(1)
    small = people(rng, 25)
    large = people(rng, 25) * [4, 4, 1] + np.array([300, 0, 0])
    frames = {
        0: [small, large],
        1: [large + np.array([2, 1, 0]), small],
        2: [],
        4: [small, large + np.array([5, 2, 0])],
    }
    points, notes = read_points(write_openpose(tmp_path / "json", frames), SourceOptions(image_size=(640, 480), fps=30))
    assert isinstance(points, Keypoints)
    assert len(points) == 5
    np.testing.assert_array_equal(points.valid, [True, True, False, False, True])
    np.testing.assert_allclose(points.keypoints[0, :18, 0], to_whole_body(large)[:18, 0], rtol=1e-6)
    np.testing.assert_allclose(points.keypoints[4, 0], large[0] + [5, 2, 0], rtol=1e-6)
    assert any("2 people" in note for note in notes)
    other, _ = read_points(tmp_path / "json", SourceOptions(image_size=(640, 480), person=0))
    np.testing.assert_allclose(other.keypoints[1, 0], small[0], rtol=1e-6)
    assert other.keypoints[0, 92:].any()


def test_files_of_arrays(tmp_path):
    rng = np.random.default_rng(2)
    points = np.stack([people(rng, 17) for _ in range(3)])
    np.savez(tmp_path / "coco.npz", keypoints=points, **SIZE)
    read, notes = read_points(tmp_path / "coco.npz", SourceOptions(focal=70.0))
    assert read.fps == 30
    assert any("30" in note for note in notes)
    np.testing.assert_array_equal(read.focal, [70, 70, 70])
    path = np.tile(np.eye(3, dtype=np.float32), (3, 1, 1))
    np.savez(tmp_path / "panned.npz", keypoints=points, focal=[60, 61, 62], camera_rotations=path, fps=25, **SIZE)
    read, _ = read_points(tmp_path / "panned.npz")
    np.testing.assert_array_equal(read.camera_rotations, path)
    for options in (SourceOptions(focal=70.0), SourceOptions(estimate_focal=True)):
        with pytest.raises(InputError, match=r"--focal: .*panned\.npz has the path of a camera"):
            read_points(tmp_path / "panned.npz", options)
    np.save(tmp_path / "lone.npy", points)
    read, _ = read_points(tmp_path / "lone.npy", SourceOptions(image_size=(64, 48), fps=25))
    np.testing.assert_allclose(read.keypoints[:, 0], points[:, 0], rtol=1e-6)
    joints = np.array([0, 0, 3]) + rng.normal(0, 0.4, (3, 17, 3))
    np.savez(tmp_path / "joints.npz", joints3d=joints, layout="h36m17", fps=50, **SIZE)
    read, _ = read_points(tmp_path / "joints.npz")
    assert isinstance(read, Joints3D)
    assert read.before_camera
    assert read.fps == 50


@settings(max_examples=25, deadline=None)
@given(seen=st.lists(st.booleans(), min_size=34, max_size=34), given_scores=st.booleans())
def test_joints_that_are_not_seen_count_for_nothing(seen, given_scores):
    rng = np.random.default_rng(3)
    seen = np.array(seen).reshape(2, 17)
    seen[:, :2] = True
    joints = rng.normal(0, 0.4, (2, 17, 3))
    joints[~seen] = np.nan
    made = Joints3D.create(joints, "coco17", (64, 48), 24, scores=np.where(seen, 0.5, 0) if given_scores else None)
    assert np.isfinite(made.joints).all()
    np.testing.assert_array_equal(made.scores > 0, seen)
    assert not made.before_camera


@pytest.mark.parametrize(
    ("fields", "options", "culprit"),
    [
        ({"joints3d": np.zeros((2, 17, 3))}, {}, "--layout"),
        ({"joints3d": np.zeros((2, 17, 3)), "layout": "halpe"}, {}, "unknown layout"),
        ({"joints3d": np.zeros((2, 17, 3)), "layout": "smpl24"}, {}, "(frames, 24, 3)"),
        ({"joints3d": np.zeros((2, 17, 3)), "layout": "coco17"}, {}, "no person in meters"),
        ({"joints3d": np.arange(102).reshape(2, 17, 3) * 10.0, "layout": "coco17"}, {}, "give meters"),
        ({"joints3d": np.full((2, 17, 3), np.nan), "layout": "coco17"}, {}, "no joint is seen"),
        ({"joints3d": "text", "layout": "coco17"}, {}, "joints3d"),
        ({"keypoints": np.ones((2, 18, 3))}, {}, "(2, 18, 3)"),
        ({"keypoints": np.ones((2, 17, 3))}, {"layout": "coco17"}, "--layout"),
        ({"keypoints": np.ones((2, 17, 2))}, {}, "(2, 17, 2)"),
        ({"other": np.ones(2)}, {}, "holds neither keypoints"),
    ],
)
def test_what_is_refused(tmp_path, fields, options, culprit):
    np.savez(tmp_path / "given.npz", **fields, **SIZE)
    with pytest.raises(InputError) as error:
        read_points(tmp_path / "given.npz", SourceOptions(**options))
    assert str(error.value).startswith(str(tmp_path / "given.npz"))
    assert culprit in str(error.value)


def test_no_picture_size(tmp_path):
    np.save(tmp_path / "lone.npy", np.ones((2, 17, 3)))
    with pytest.raises(InputError, match="--image_size"):
        read_points(tmp_path / "lone.npy")


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        ("{", "is not JSON"),
        ("[]", "people"),
        ('{"people": [3]}', "pose_keypoints_2d"),
        ('{"people": [{"pose_keypoints_2d": [1, 2]}]}', "75 numbers"),
        ('{"people": [{"pose_keypoints_2d": [' + ", ".join(["NaN"] * 75) + "]}]}", "number"),
        ('{"people": [{"pose_keypoints_2d": [' + ", ".join(["1e999"] * 75) + "]}]}", "number"),
        ('{"people": [{"pose_keypoints_2d": [' + ", ".join(["9" * 400] * 75) + "]}]}", "number"),
        ('{"people": [{"pose_keypoints_2d": [' + ", ".join(["-1"] * 75) + "]}]}", "score"),
        ('{"people": []}', "shows nobody"),
    ],
)
def test_damaged_openpose(tmp_path, content, culprit):
    (tmp_path / "a_000000000000_keypoints.json").write_text(content)
    with pytest.raises(InputError) as error:
        read_points(tmp_path, SourceOptions(image_size=(64, 48)))
    assert str(tmp_path) in str(error.value)
    assert culprit in str(error.value)


def test_openpose_numbers(tmp_path):
    write_openpose(tmp_path, {0: [np.ones((25, 3))], 400_000: [np.ones((25, 3))]})
    with pytest.raises(InputError, match="400,001 frames"):
        read_points(tmp_path, SourceOptions(image_size=(64, 48)))
    write_openpose(tmp_path / "twice", {1: [np.ones((25, 3))]})
    write_openpose(tmp_path / "twice", {1: [np.ones((25, 3))]}, name="other_{:06}_keypoints.json")
    with pytest.raises(InputError, match="has the number 1"):
        read_points(tmp_path / "twice", SourceOptions(image_size=(64, 48)))


def sam_3d_body(joints: np.ndarray, places: np.ndarray) -> list[dict]:
    """A frame's people as SAM 3D Body's estimator lists them: joints (P, 70, 3) about the pelvis, places (P, 3)."""
    return [
        {
            "bbox": np.array([10.0, 10, 50, 90]),
            "focal_length": np.float32(600),
            "pred_keypoints_3d": one.astype(np.float32),
            "pred_cam_t": place.astype(np.float32),
            "shape_params": np.zeros(45),
        }
        for one, place in zip(joints, places)
    ]


def test_sam_3d_body(tmp_path):
    rng = np.random.default_rng(4)
    joints = rng.normal(0, 0.4, (2, 70, 3))
    near, far = np.array([0.0, 0, 3]), np.array([1.0, 0, 6])
    frames = [
        sam_3d_body(joints, np.stack([far, near])),
        [],
        sam_3d_body(joints[::-1], np.stack([near + 0.1, far])),
    ]
    (tmp_path / "sam.pkl").write_bytes(pickle.dumps(frames))
    points, notes = read_points(tmp_path / "sam.pkl", SourceOptions(image_size=(640, 480), fps=30))
    assert isinstance(points, Joints3D)
    assert points.layout == "mhr70"
    np.testing.assert_array_equal(points.valid, [True, False, True])
    np.testing.assert_allclose(points.joints[0], joints[1] + near, atol=1e-5)
    np.testing.assert_allclose(points.joints[2], joints[1] + near + 0.1, atol=1e-5)
    np.testing.assert_array_equal(points.focal, [600, 600, 600])
    assert any("2 people" in note for note in notes)
    frames[2][0]["pred_cam_t"] = np.full(3, np.nan)
    (tmp_path / "sam.pkl").write_bytes(pickle.dumps(frames))
    with pytest.raises(InputError, match="frame 2"):
        read_points(tmp_path / "sam.pkl", SourceOptions(image_size=(640, 480)))
