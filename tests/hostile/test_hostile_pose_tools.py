"""Hostile inputs of the tools that convert the pose networks and learn the bias of their points."""

import struct
from pathlib import Path

import pytest
from hostile import kinds
from hostile.harness import Case, check

from champ_jax.fitting.networks.conversion import FILES

BUILD, LEARN = "tools/build_pose_networks.py", "tools/learn_point_bias.py"


def source(data: bytes):
    """Arguments that convert the person detector from a folder whose file holds these bytes."""

    def make(folder: Path) -> list[str]:
        kinds.content(data)(folder / "package" / FILES["person_detector"])
        return ["--source=package", "--output=networks", "--network=person_detector"]

    return make


def flatbuffer(*offsets: int) -> bytes:
    """A header that says what a .tflite says, and then these numbers."""
    return struct.pack("<I4s", 8, b"TFL3") + struct.pack(f"<{len(offsets)}I", *offsets)


DATA = {
    "empty": b"",
    "html": kinds.HTML,
    "lfs-pointer": kinds.LFS_POINTER,
    "header-only": b"\x08\0\0\0TFL3",
    "offset-outside": flatbuffer(2**31),
    "table-of-itself": flatbuffer(0, 0, 0, 0),
    "huge-counts": flatbuffer(*[2**32 - 1] * 64),
}


def people(make):
    def arguments(folder: Path) -> list[str]:
        (folder / "people" / "one" / "images").mkdir(parents=True)
        make(folder / "people" / "one")
        return ["--source=people", "--output=bias.json"]

    return arguments


def with_picture(folder: Path) -> None:
    (folder / "images" / "0001.png").write_bytes(kinds.png())


CASES = [Case(f"build-{name}", BUILD, source(data), FILES["person_detector"]) for name, data in DATA.items()]
CASES += [
    Case("build-no-folder", BUILD, lambda folder: ["--source=missing", "--output=networks"], "missing"),
    Case("build-no-such-file", BUILD, lambda folder: [f"--source={folder}", "--output=out"], FILES["person_detector"]),
    Case("build-unknown-network", BUILD, lambda folder: ["--source=.", "--output=out", "--network=x"], "--network"),
    Case("learn-no-folder", LEARN, lambda folder: ["--source=missing", "--output=bias.json"], "missing"),
    Case("learn-no-pictures", LEARN, people(lambda folder: None), "images"),
    Case("learn-no-motion", LEARN, people(with_picture), "motion.npz"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile(case, tmp_path):
    check(case, tmp_path)
