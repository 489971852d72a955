"""Finding and matching videos, and what is said of bad ones."""

import numpy as np
import pytest
from PIL import Image

from champ_jax.common.errors import InputError
from champ_jax.common.pictures import write_image
from champ_jax.common.videos import write_video
from champ_jax.evaluation.videos import find_videos, match_videos


def frames(folder, count, names="{:04d}.png", size=(16, 12)):
    for k in range(count):
        write_image(folder / names.format(k + 1), np.full((*size, 3), k, np.uint8))


def match(tmp_path, missing="refuse", lengths="strict"):
    sides = [find_videos(tmp_path / side, side) for side in ("predictions", "ground_truth")]
    return match_videos(*sides, missing=missing, lengths=lengths)


@pytest.fixture
def tree(tmp_path):
    frames(tmp_path / "predictions" / "a", 12, "frame_{}.png")
    frames(tmp_path / "ground_truth" / "a" / "images", 12)
    frames(tmp_path / "ground_truth" / "a" / "mask", 3)
    pictures = [np.full((16, 12, 3), k, np.uint8) for k in range(3)]
    write_video(tmp_path / "predictions" / "b.mp4", pictures, 8)
    frames(tmp_path / "ground_truth" / "b", 3)
    (tmp_path / "predictions" / "notes.txt").write_text("not a video")
    (tmp_path / "predictions" / ".DS_Store").write_text("")
    return tmp_path


def test_folders_training_folders_and_video_files_match_by_name(tree):
    pairs, remarks = match(tree)
    assert [(pair.name, pair.count) for pair in pairs] == [("a", 12), ("b", 3)]
    assert remarks == []
    # frame_2 comes before frame_10
    assert [int(prediction[0, 0, 0]) for _, prediction in pairs[0].read()] == list(range(12))


def test_single_videos_need_no_name(tree):
    sides = [find_videos(tree / "predictions" / "b.mp4", "p"), find_videos(tree / "ground_truth" / "b", "g")]
    pairs, _ = match_videos(*sides, missing="refuse", lengths="strict")
    assert [(pair.name, pair.count) for pair in pairs] == [("b", 3)]
    with pytest.raises(InputError, match="one side is a single video"):
        match_videos(sides[0], find_videos(tree / "ground_truth", "g"), missing="refuse", lengths="strict")


def test_missing_videos_are_named_and_skipped_only_on_request(tree):
    frames(tree / "ground_truth" / "c", 2)
    frames(tree / "predictions" / "d", 2)
    with pytest.raises(InputError, match=r"lacks 1 of 3 videos: c;.*missing=skip"):
        match(tree)
    pairs, remarks = match(tree, missing="skip")
    assert [pair.name for pair in pairs] == ["a", "b"]
    assert remarks == ["no predictions for 1 of 3 videos: c", "predictions without ground truth, left out: d"]


def test_unequal_lengths_are_named_and_cut_only_on_request(tree):
    frames(tree / "ground_truth" / "b", 5)
    with pytest.raises(InputError, match=r"b: 3 predicted frames, 5 of ground truth.*lengths=shortest"):
        match(tree)
    pairs, remarks = match(tree, lengths="shortest")
    assert len(list(pairs[1].read())) == pairs[1].count == 3
    assert "the first 3 are compared" in remarks[0]


def test_alpha_and_other_numbering_are_reported(tmp_path):
    frames(tmp_path / "ground_truth" / "a", 2)
    frames(tmp_path / "predictions" / "a", 1, "0005.png")
    pixels = np.zeros((16, 12, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "predictions" / "a" / "0006.png")
    _, remarks = match(tmp_path)
    assert "number their frames differently" in remarks[0]
    assert "0006.png: has an alpha channel" in remarks[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no such file or folder"),
        (lambda root: root.mkdir(), "holds no folders of frames and no video files"),
        (lambda root: root.write_text("x"), "neither a folder nor a video file"),
    ],
)
def test_places_without_videos(tmp_path, make, message):
    make(tmp_path / "x")
    with pytest.raises(InputError, match=f"--config.predictions.*{message}"):
        find_videos(tmp_path / "x", "predictions")


def test_two_videos_of_one_name(tree):
    frames(tree / "predictions" / "b", 1)
    with pytest.raises(InputError, match="share a name"):
        find_videos(tree / "predictions", "predictions")


def test_no_names_in_common(tmp_path):
    for side, name in (("predictions", "a"), ("ground_truth", "b")):
        frames(tmp_path / side / name, 1)
    with pytest.raises(InputError, match="no names match: predictions are a; ground truth is b"):
        match(tmp_path, missing="skip")


def test_frames_are_turned_upright(tmp_path):
    """A phone's JPEG frames lie on their side and say so in EXIF: they are compared as people see them."""
    upright = np.zeros((32, 16, 3), np.uint8)
    upright[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    for number in range(2):
        write_image(tmp_path / "ground_truth" / "a" / f"{number:04d}.png", upright)
        path = tmp_path / "predictions" / "a" / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rot90(upright)).save(path, exif=exif, quality=95)
    pairs, _ = match(tmp_path)
    for truth, prediction in pairs[0].read():
        assert truth.shape == prediction.shape
        assert np.abs(truth.astype(int) - prediction).mean() < 4


def test_names_with_digits_of_other_scripts_are_ordered(tmp_path):
    """'²' is a digit but not a number."""
    frames(tmp_path / "ground_truth" / "a", 2)
    frames(tmp_path / "predictions" / "a", 2, "frame²²²_{}.png")
    pairs, _ = match(tmp_path)
    assert pairs[0].count == 2
