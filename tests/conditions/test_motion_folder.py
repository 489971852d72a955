"""Motion folders: what is read, and every way they come broken."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image
from champ_jax.conditions.frame_files import parse_frames
from champ_jax.conditions.motion_folder import MotionFolder

PICTURES = Path(__file__).parent.parent / "golden" / "model" / "pictures"


@pytest.fixture
def folder(tmp_path):
    """The first five frames of the golden motion, to be broken."""
    for kind in (PICTURES / "motion").iterdir():
        (tmp_path / "motion" / kind.name).mkdir(parents=True)
        for name in ("0000", "0001", "0002", "0003", "0004"):
            shutil.copy(kind / f"{name}.png", tmp_path / "motion" / kind.name)
    return tmp_path / "motion"


def test_semantic_maps_are_masked_as_by_the_reference():
    motion = MotionFolder(PICTURES / "motion")
    frame = motion.read(3, 4)
    np.testing.assert_array_equal(frame["semantic_map"][0], read_image(PICTURES / "semantic_masked_0003_expected.png"))
    np.testing.assert_array_equal(frame["depth"][0], read_image(PICTURES / "motion/depth/0003.png"))


def test_frames_are_resized_by_pillows_bicubic(folder):
    resized = MotionFolder(folder, ["normal"]).read(1, 3, size=(128, 64))["normal"]
    assert resized.shape == (2, 64, 128, 3)
    expected = Image.open(folder / "normal/0002.png").convert("RGB").resize((128, 64), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(resized[1].astype(int), np.asarray(expected).astype(int), atol=1)  # order of the passes


def test_only_the_conditions_asked_for_are_needed(folder):
    for kind in ("dwpose", "mask", "semantic_map"):
        shutil.rmtree(folder / kind)
    motion = MotionFolder(folder, ("normal", "depth"))
    motion.check()
    assert list(motion.read(0, 1)) == ["normal", "depth"]


def test_stray_files_are_ignored(folder):
    (folder / "overview.mp4").write_bytes(b"x")
    (folder / "depth" / ".DS_Store").write_bytes(b"x")
    (folder / "depth" / "depth.mp4").write_bytes(b"x")
    (folder / "depth" / "Thumbs.db").write_bytes(b"x")
    (folder / "depth" / "0001").mkdir()
    assert MotionFolder(folder).names == ["0000", "0001", "0002", "0003", "0004"]


def test_jpeg_and_webp_are_read_beside_png(folder):
    for kind, suffix in (("normal", "jpg"), ("mask", "jpg"), ("depth", "webp")):
        for path in (folder / kind).iterdir():
            Image.open(path).convert("RGB").save(path.with_suffix(f".{suffix}"), quality=95)
            path.unlink()
    motion = MotionFolder(folder)
    motion.check()
    frames, original = motion.read(0, 5), MotionFolder(PICTURES / "motion", frames="0:5").read(0, 5)
    for kind in motion.conditions:
        assert np.abs(frames[kind].astype(int) - original[kind].astype(int)).mean() < 2


def test_unpadded_names_are_sorted_as_numbers(folder):
    for kind in folder.iterdir():
        for path in sorted(kind.iterdir()):
            path.rename(path.with_name(f"{int(path.stem) + 8}.png"))
    assert MotionFolder(folder).names == ["8", "9", "10", "11", "12"]


@pytest.mark.parametrize(
    ("frames", "taken"),
    [(None, range(10)), ("", range(10)), (":", range(10)), ("2:5", range(2, 5)), ("-3:", range(7, 10)),
     (":4", range(4)), ("0:10:4", range(0, 10, 4)), (":-8", range(2))],
)  # fmt: skip
def test_frame_ranges_are_python_slices(frames, taken):
    assert list(parse_frames(frames, 10, "motion")) == list(taken)


@pytest.mark.parametrize("frames", ["0:11", "5", "a:b", "5:5", "12:", "-11:", "0:4:0", "1:2:3:4", "4:2"])
def test_frame_ranges_outside_are_refused(frames):
    with pytest.raises(InputError, match=f"frames={frames}"):
        parse_frames(frames, 10, "motion")


def test_frames_apply_to_what_is_read(folder):
    motion = MotionFolder(folder, frames="1:4:2")
    assert motion.names == ["0001", "0003"]
    assert len(motion) == 2
    np.testing.assert_array_equal(motion.read(1, 2)["depth"][0], read_image(folder / "depth/0003.png"))


def broken(kind, name):
    def apply(folder):
        (folder / kind / name).write_bytes((folder / kind / name).read_bytes()[:200])

    return apply


def removed(*places):
    def apply(folder):
        for place in places:
            path = folder / place
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return apply


def emptied(folder):
    for path in (folder / "normal").iterdir():
        path.unlink()


def doubled(folder):
    Image.open(folder / "depth/0001.png").save(folder / "depth/0001.jpg")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (removed("normal/0003.png", "dwpose/0001.png"), r"missing dwpose/0001, normal/0003 .*4 normal"),
        (removed("mask/0002.png"), r"missing mask/0002"),
        (removed("semantic_map"), r"has no semantic_map/.*it has depth, dwpose, mask, normal"),
        (removed("mask"), r"has no mask/ \(semantic maps are masked.*leave semantic_map out"),
        (removed("../motion"), r"no such folder"),
        (emptied, r"normal: holds no pictures"),
        (doubled, r"0001\.png is the same frame|0001\.jpg is the same frame"),
        (broken("normal", "0004.png"), r"normal/0004\.png: is a damaged picture"),
    ],
)
def test_damage_is_named(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError, match=message):
        MotionFolder(folder).check()


def test_a_turned_png_is_checked_as_it_is_read(folder):
    path, exif = folder / "depth" / "0000.png", Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (50, 40)).save(path, exif=exif)
    assert MotionFolder(folder, ["depth"]).image_size == read_image(path).shape[1::-1] == (40, 50)


def test_pictures_of_unequal_size_need_an_output_size(folder):
    Image.new("RGB", (50, 40)).save(folder / "depth/0002.png")
    motion = MotionFolder(folder, ["depth"])
    assert motion.read(0, 5, size=(32, 32))["depth"].shape == (5, 32, 32, 3)
    with pytest.raises(InputError, match=r"0002\.png: is 50x40"):
        motion.read(0, 5)


def test_files_named_after_their_condition_or_padded_otherwise_are_matched_by_number(folder):
    for path in (folder / "depth").iterdir():
        path.rename(path.with_name(f"depth_{path.name}"))
    for path in (folder / "mask").iterdir():
        path.rename(path.with_name(f"{int(path.stem)}.png"))
    motion = MotionFolder(folder)
    assert motion.names == ["0000", "0001", "0002", "0003", "0004"]
    expected = read_image(folder / "depth" / "depth_0003.png")
    np.testing.assert_array_equal(motion.read(3, 4)["depth"][0], expected)
    (folder / "depth" / "depth_0002.png").unlink()
    with pytest.raises(InputError, match=r"missing depth/0002 \("):
        MotionFolder(folder)


def test_odd_names_are_sorted_as_text(folder):
    for kind in folder.iterdir():
        (kind / "0003.png").rename(kind / "²²².png")
    assert MotionFolder(folder).names == ["0000", "0001", "0002", "0004", "²²²"]


@pytest.mark.parametrize("damage", ["black", "inverted"])
def test_masks_that_empty_the_semantic_maps_are_named(folder, damage):
    for path in (folder / "mask").iterdir():
        body = np.zeros((112, 96), np.uint8)
        body[30:80, 40:60] = 255
        Image.fromarray(body).save(path)
        Image.fromarray(np.stack([body] * 3, axis=-1)).save(folder / "semantic_map" / path.name)
    motion = MotionFolder(folder, ["semantic_map"])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*colors that are not Champ's")
        motion.check()
    for number, path in enumerate(sorted((folder / "mask").iterdir())):
        mask = np.asarray(Image.open(path))
        Image.fromarray(255 - mask if damage == "inverted" else 0 * mask).save(path)
        if number == 0:
            with pytest.warns(UserWarning, match=r"mask/0000\.png: keeps 0% of the body in .*semantic_map/0000\.png;"):
                motion.check()
    with pytest.raises(InputError, match=r"mask/0000\.png: keeps 0% .*, and so in 4 more frames; the mask is black"):
        motion.check()


def test_a_nested_folder_is_named(folder):
    with pytest.raises(InputError, match=r"has no depth/, but .*motion has; give that folder"):
        MotionFolder(folder.parent)


def test_a_hole_in_the_numbers_is_reported(folder):
    for kind in folder.iterdir():
        (kind / "0002.png").unlink()
    with pytest.warns(UserWarning, match="jump from 0001 to 0003"):
        MotionFolder(folder)


def test_an_even_stride_is_not_a_hole(folder):
    for kind in folder.iterdir():
        for name in ("0001", "0003"):
            (kind / f"{name}.png").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MotionFolder(folder).check()
