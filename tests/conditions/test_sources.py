"""What a motion path may be, and how conditions of another aspect than the picture's are fitted."""

import shutil
import subprocess
import sys
from pathlib import Path

import golden_meshes
import joblib
import numpy as np
import pytest
from PIL import Image

from champ_jax.body.authored import load_authored
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image
from champ_jax.conditions.motion_folder import MotionFolder
from champ_jax.conditions.sources import open_conditions

FOLDER = Path(__file__).parents[1] / "golden" / "model" / "pictures" / "motion"
MESH_FILE = golden_meshes.FOLDER / "512x512" / "mesh_sequence.npz"


def test_a_motion_folder_is_read():
    source, notes = open_conditions(FOLDER, conditions=["depth"], frames="2:4")
    assert isinstance(source, MotionFolder)
    assert (source.names, source.conditions, notes) == (["0002", "0003"], ("depth",), [])


def test_a_motion_is_drawn_and_its_frames_are_counted_alike(tmp_path):
    load_authored("wave")[:6].save(tmp_path / "motion.npz")
    source, _ = open_conditions(tmp_path / "motion.npz", frames="2:4", conditions=["mask"])
    assert (len(source), source.conditions) == (2, ("mask",))
    with pytest.raises(InputError, match=r"frames=0:7: .*motion\.npz has 6 frames"):
        open_conditions(tmp_path / "motion.npz", frames="0:7")


def test_a_mesh_sequence_is_drawn_without_a_skeleton():
    source, notes = open_conditions(MESH_FILE, conditions=["dwpose", "depth"])
    assert source.conditions == ("depth",)
    assert "dwpose is left out" in notes[0]
    with pytest.raises(InputError, match="no poses"):
        open_conditions(MESH_FILE, conditions=["dwpose"])


def test_other_programs_files_are_imported_or_the_way_is_named(tmp_path):
    person = {"pose": np.zeros((2, 72)), "trans": np.ones((2, 3)), "betas": np.zeros((2, 10)), "frame_ids": [0, 1]}
    joblib.dump({0: person}, tmp_path / "wham_output.pkl")
    with pytest.raises(InputError, match=r"give --image_size=WxH to tools/import_motion\.py"):
        open_conditions(tmp_path / "wham_output.pkl")


@pytest.mark.parametrize(
    ("name", "message"),
    [("dance.mp4", "is a video"), ("person.png", "is a picture"), ("nothing", "no such file or folder")],
)
def test_what_is_not_a_motion_is_named(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        open_conditions(tmp_path / name)


@pytest.mark.parametrize("fit", ["crop", "pad", "none"])
def test_a_motion_of_another_aspect_keeps_the_bodys_proportions(tmp_path, fit):
    """A square motion in a picture twice as wide as high, drawn at the picture's size."""
    load_authored("wave")[:1].save(tmp_path / "motion.npz")
    original, _ = open_conditions(tmp_path / "motion.npz", conditions=["mask"])
    source, notes = open_conditions(tmp_path / "motion.npz", conditions=["mask"], picture_size=(400, 200), fit=fit)
    assert "the motion is 256x256, the picture 400x200" in notes[0]
    rows, cols = np.nonzero(source.read(0, 1, (256, 128))["mask"][0, ..., 0])
    expected_rows, expected_cols = np.nonzero(original.read(0, 1)["mask"][0, ..., 0])
    zoom = {"crop": (1, 1), "pad": (0.5, 0.5), "none": (0.5, 1)}[fit]
    for seen, known, factor, limit in zip((rows, cols), (expected_rows, expected_cols), zoom, (128, 256)):
        assert np.ptp(seen) + 1 == pytest.approx(min((np.ptp(known) + 1) * factor, limit), abs=2)


@pytest.mark.parametrize(("fit", "shape"), [("crop", (60, 60)), ("pad", (80, 80)), ("none", (80, 60))])
def test_pictures_of_another_aspect_are_cut_or_padded(tmp_path, fit, shape):
    folder = tmp_path / "maps"
    (folder / "depth").mkdir(parents=True)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (80, 60, 3), np.uint8)
    Image.fromarray(picture).save(folder / "depth" / "0001.png")
    source, notes = open_conditions(folder, conditions=["depth"], picture_size=(500, 500), fit=fit)
    read = source.read(0, 1)["depth"][0]
    assert read.shape[:2] == shape
    assert len(notes) == 1
    inner = {"crop": picture[10:70], "pad": picture, "none": picture}[fit]
    np.testing.assert_array_equal(read[:, 10:70] if fit == "pad" else read, inner)
    assert source.read(0, 1, (32, 32))["depth"].shape == (1, 32, 32, 3)
    assert not open_conditions(folder, conditions=["depth"], picture_size=(120, 160))[1]


def test_a_folder_of_maps_needs_no_drawing(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "maps")
    source, _ = open_conditions(tmp_path / "maps", conditions=["depth"])
    np.testing.assert_array_equal(source.read(0, 1)["depth"][0], read_image(tmp_path / "maps/depth/0000.png"))


def test_public_names_are_in_the_package_and_readers_load_no_jax():
    code = (
        "import sys; import champ_jax.conditions.motion_folder, champ_jax.conditions as c;"
        "assert 'jax' not in sys.modules; assert callable(c.render) and callable(c.draw_skeleton)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)
