"""Hostile inputs of the fit's tool: key points, 3D joints, OpenPose's folders, its options and its output."""

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hostile import kinds
from hostile.harness import Case, check
from hostile.test_hostile_motion import SPOILED, body, spoil, write

FIT = "tools/fit_motion.py"
FRAMES = 2
SIZE = {"image_size": np.array([64, 64]), "fps": np.array(25.0), "focal": np.full(FRAMES, 90.0)}


def keypoints() -> dict[str, Any]:
    camera = {"camera_rotations": np.tile(np.eye(3, dtype=np.float32), (FRAMES, 1, 1))}
    return {"keypoints": np.ones((FRAMES, 134, 3), np.float32), "valid": np.ones(FRAMES, bool), **camera, **SIZE}


def joints() -> dict[str, Any]:
    joints3d = np.random.default_rng(0).normal(0, 0.4, (FRAMES, 24, 3))
    return {"joints3d": joints3d, "scores": np.ones((FRAMES, 24)), "layout": np.array("smpl24"), **SIZE}


def sam_3d_body() -> dict[str, Any]:
    """One person of the second frame; the first one is good."""
    return {"pred_keypoints_3d": np.zeros((70, 3)), "pred_cam_t": np.array([0.0, 0, 3]), "focal_length": np.float32(90)}


FORMATS: dict[str, Callable[[], dict[str, Any]]] = {"keypoints.npz": keypoints, "joints.npz": joints}
# Not hostile: what the tool does without.
OPTIONAL = {("valid", "none"), ("scores", "none"), ("focal", "none"), ("fps", "none"), ("camera_rotations", "none")}


def given(name: str, data: dict[str, Any], *options: str) -> Callable[[Path], list[Any]]:
    return lambda folder: [f"--input={write(folder / name, data)}", f"--output={folder / 'out.npz'}", *options]


def field_cases() -> Iterator[Case]:
    for name, make in FORMATS.items():
        for field in make():
            for kind in SPOILED:
                if (field, kind) not in OPTIONAL:
                    culprit = "--image_size" if (field, kind) == ("image_size", "none") else name
                    data = spoil(make(), (field,), kind)
                    if name == "joints.npz" and (field, kind) == ("joints3d", "nan"):
                        culprit = "no joint is seen"
                    yield Case(f"{name}-{field}-{kind}", FIT, given(name, data), culprit)
    for field in sam_3d_body():
        for kind in SPOILED:

            def of_sam(folder: Path, field: str = field, kind: str = kind) -> list[Any]:
                frames = [[sam_3d_body()], [spoil(sam_3d_body(), (field,), kind)]]
                path = kinds.content(pickle.dumps(frames))(folder / "sam.pkl")
                return [f"--input={path}", "--image_size=64x64", f"--output={folder / 'out.npz'}"]

            if (field, kind) != ("focal_length", "short"):
                yield Case(f"sam.pkl-{field}-{kind}", FIT, of_sam, "sam.pkl")
    for field in ("v_template", "weights", "J_regressor"):

        def posing(folder: Path, field: str = field) -> list[Any]:
            spoiled = write(folder / "body.npz", spoil(body(), (field,), "nan"))
            return [*given("keypoints.npz", keypoints())(folder), f"--body={spoiled}"]

        yield Case(f"body-{field}", FIT, posing, "body.npz")


def file_cases() -> Iterator[Case]:
    for kind, make in kinds.ARRAYS.items():
        culprit = kinds.LONG_NAME[:9] if kind == "long-name" else "given.npz"
        yield Case(
            f"input-{kind}",
            FIT,
            lambda folder, make=make: [f"--input={make(folder / 'given.npz')}", f"--output={folder / 'out.npz'}"],
            culprit,
        )
    for kind, make in kinds.FILE_OUTPUTS.items():
        culprit = kinds.LONG_NAME[:9] if kind == "long-name" else "given.npz"
        yield Case(
            f"output-{kind}",
            FIT,
            lambda folder, make=make: [
                f"--input={write(folder / 'keypoints.npz', keypoints())}",
                f"--output={make(folder / 'given.npz')}",
            ],
            culprit,
        )
    for kind, make in kinds.JSON.items():
        if kind not in ("missing", "empty-name", "long-name"):

            def openpose(folder: Path, make: kinds.Maker = make) -> list[Any]:
                (folder / "json").mkdir()
                make(folder / "json" / "a_000000000000_keypoints.json")
                return [f"--input={folder / 'json'}", "--image_size=64x64", f"--output={folder / 'out.npz'}"]

            yield Case(f"openpose-{kind}", FIT, openpose, "json")


def video_cases() -> Iterator[Case]:
    """Videos that cannot be read; the networks have nothing to look at."""
    for kind, make in kinds.VIDEOS.items():
        if kind in ("truncated", "picture"):  # there are frames to look at: tests/fitting/test_find_people.py
            continue
        culprit = kinds.LONG_NAME[:9] if kind == "long-name" else "dance.mp4"
        for option in ("--camera=static", "--camera=moving"):
            yield Case(
                f"video-{kind}-{option[9:]}",
                FIT,
                lambda folder, make=make, option=option: [
                    f"--input={make(folder / 'dance.mp4')}",
                    f"--output={folder / 'out.npz'}",
                    option,
                ],
                culprit,
            )


def option_cases() -> Iterator[Case]:
    values = {
        "fps": ("nan", "-1", "0", "1e300", "text", ""),
        "focal": ("nan", "-1", "0", "1e300", "text", "", "exif"),
        "image_size": ("0x5", "64", "64x64x3", "text", "1e3x5"),
        "layout": ("smpl23", ""),
        "person": ("-1", "0", "1.5", "1e9", "longest"),
        "at": ("3", "nan,2", "3,4"),
        "tiles": ("1", "99", "text", ""),
        "detector": ("yolo", "", "dwpose"),
        "cuts": ("none", ""),
        "camera": ("moving", "still", ""),
    }
    for option, texts in values.items():
        for text in texts:
            yield Case(f"{option}={text}", FIT, given("keypoints.npz", keypoints(), f"--{option}={text}"), option)
    one = {"people": [{"pose_keypoints_2d": [1.0] * 75}]}

    def of_many(folder: Path) -> list[Any]:
        path = kinds.content(json.dumps(one).encode())(folder / "json" / "a_000000000000_keypoints.json")
        return [f"--input={path.parent}", "--image_size=64x64", "--person=3", f"--output={folder / 'out.npz'}"]

    yield Case("person-of-many", FIT, of_many, "no person 3")
    nobody = keypoints() | {"valid": np.zeros(FRAMES, bool)}
    yield Case("nobody", FIT, given("keypoints.npz", nobody), "keypoints.npz")
    few = keypoints()
    few["keypoints"][:, 3:, 2] = 0
    yield Case("few-points", FIT, given("keypoints.npz", few), "four of the points")
    yield Case(
        "onto-the-input",
        FIT,
        lambda folder: [f"--{name}={write(folder / 'k.npz', keypoints())}" for name in ("input", "output")],
        "--output",
    )


def edit_cases() -> Iterator[Case]:
    for kind, make in kinds.JSON.items():
        culprit = kinds.LONG_NAME[:9] if kind == "long-name" else "edits.json"
        yield Case(
            f"edit-{kind}",
            FIT,
            lambda folder, make=make: [
                *given("keypoints.npz", keypoints())(folder),
                f"--edit={make(folder / 'edits.json')}",
            ],
            culprit,
        )
    yield Case(
        "edit-of-3d-joints",
        FIT,
        lambda folder: [
            *given("joints.npz", joints())(folder),
            f"--edit={kinds.content(b'{}')(folder / 'edits.json')}",
        ],
        "--edit",
    )


def hmr2_cases() -> Iterator[Case]:
    """Weights that are not HMR2's: the line names the file, and where they are published."""

    def on(make: kinds.Maker, name: str) -> Callable[[Path], list[Any]]:
        return lambda folder: [
            f"--input={kinds.content(kinds.png())(folder / 'person.png')}",
            f"--output={folder / 'out.npz'}",
            f"--hmr2={make(folder / name)}",
        ]

    for kind, make in kinds.SAFETENSORS.items():
        culprit = kinds.LONG_NAME[:9] if kind == "long-name" else "hmr2.safetensors"
        yield Case(f"hmr2-{kind}", FIT, on(make, "hmr2.safetensors"), culprit)
    pickles = {"executing": kinds.executing_pickle(), "truncated": pickle.dumps({"a": 1})[:-4]}
    for kind, data in pickles.items():
        yield Case(f"hmr2-{kind}-pickle", FIT, on(kinds.content(data), "hmr2.ckpt"), "4D-Humans")
    for kind, sizes in (("text", "text"), ("deep", '{"layers": 100000}'), ("other", '{"widths": 3}'), ("list", "[]")):
        data = safetensors.numpy.save({"a": np.ones(1, np.float32)}, {"hmr2": sizes})
        yield Case(f"hmr2-sizes-{kind}", FIT, on(kinds.content(data), "hmr2.safetensors"), "4D-Humans")
    yield Case(
        "hmr2-of-points",
        FIT,
        lambda folder: [*given("keypoints.npz", keypoints())(folder), f"--hmr2={folder / 'hmr2.safetensors'}"],
        "--hmr2",
    )


CASES = [*edit_cases(), *field_cases(), *file_cases(), *hmr2_cases(), *option_cases(), *video_cases()]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile(case, tmp_path):
    check(case, tmp_path)
