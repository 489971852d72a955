"""tools/report_builtin.py on two small videos: every figure is where it belongs, and what is known must come out."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from flax import nnx

from champ_jax.body.authored import load_authored
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image, write_image
from champ_jax.evaluation import keypoint_detector
from champ_jax.evaluation.baselines import find_people
from champ_jax.evaluation.held_out_sheet import chosen_frames
from champ_jax.evaluation.pose import training_digest
from tools.report_builtin import main as report

SIZE, LENGTH = 32, 3
NAMES = ("p00000_m00000", "p00001_m00001")


def write_frames(folder, frames):
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        write_image(folder / f"{number:04}.png", frame)


@pytest.fixture(scope="module")
def videos():
    """{name: frames}: a light square that walks over a dark wall."""
    rng = np.random.default_rng(0)
    videos = {}
    for name in NAMES:
        frames = np.repeat(rng.integers(20, 90, (1, SIZE, SIZE, 3)), LENGTH, axis=0)
        for index in range(LENGTH):
            frames[index, 10:20, 4 + 5 * index : 12 + 5 * index] = 200 + 10 * index
        videos[name] = frames.astype(np.uint8)
    return videos


@pytest.fixture
def place(tmp_path, videos):
    """test/ and train/ of two videos each, and what a model made of them in made/: two levels too bright everywhere."""
    walk = load_authored("wave")[:LENGTH]
    points = np.zeros((LENGTH, 134, 3), np.float32)
    points[:, :, :2], points[:, :, 2] = walk.image_size / 2, 1
    motion = dataclasses.replace(walk, keypoints=points)
    _, parameters = nnx.split(keypoint_detector.KeypointDetector(nnx.Rngs(0)))
    for name, frames in videos.items():
        for part in ("test", "train"):
            (tmp_path / part / name).mkdir(parents=True)
            motion.save(tmp_path / part / name / "motion.npz")
        write_frames(tmp_path / "test" / name / "images", frames)
        masks = np.where(frames[..., 0] >= 200, 255, 0).astype(np.uint8)
        write_frames(tmp_path / "test" / name / "mask", masks)
        write_frames(tmp_path / "made" / name, frames + 2)
        write_frames(tmp_path / "train" / name / "images", frames[::-1] + 1)
    # A detector that has learned nothing, as if it had been trained on these: nothing is trained here.
    digest = training_digest(find_people(tmp_path / "train"), 600)
    keypoint_detector.write(tmp_path / "out" / "report_detector.safetensors", parameters, digest)
    return tmp_path


def run(place, *more, predictions="made"):
    folders = ",".join(str(place / name) for name in predictions.split(","))
    arguments = [
        f"--held_out={place / 'test'}",
        f"--predictions={folders}",
        f"--output={place / 'out' / 'report.json'}",
    ]
    report([*arguments, "--resamples=50", *more])
    return json.loads((place / "out" / "report.json").read_text())


def test_the_report_has_every_system_and_its_difference_to_copying(place):
    content = run(place, f"--train={place / 'train'}")
    systems = content["systems"]
    assert list(systems) == ["made", "copy", "nearest", "truth"]
    made, copy = systems["made"]["metrics"], systems["copy"]["metrics"]
    assert made["psnr"] == made["psnr_person"] == pytest.approx(20 * np.log10(255 / 2))
    assert systems["nearest"]["metrics"]["psnr"] == pytest.approx(20 * np.log10(255))
    assert made["flicker"] == 0
    assert copy["flicker_ratio"] == pytest.approx(1)
    assert copy["psnr"] > copy["psnr_later"]  # the first frame is the reference
    assert systems["made"]["minus_copy"]["psnr"] == pytest.approx(made["psnr"] - copy["psnr"])
    low, high = systems["copy"]["intervals"]["psnr"]
    assert low <= copy["psnr"] <= high
    assert sorted(systems["made"]["videos"]) == sorted(content["videos"]) == list(NAMES)
    text = (place / "out" / "report.md").read_text()
    assert "| the model | 42.11 [42.11, 42.11] |" in text
    assert "| the reference picture, copied |" in text
    assert systems["truth"]["metrics"].keys() == {"pck", "pck_head", "pck_arms", "pck_legs"}
    assert 0 <= copy["pck"] <= 1
    assert "people.json" in content["absent"]["colors of garments"]
    assert content["absent"]["the autoencoder alone"] == "needs --weights"
    width = read_image(place / "out" / "report_sheet.png").shape[1]
    assert width > 7 * SIZE


def test_without_training_videos_what_needs_them_is_named(place):
    (place / "out" / "report_detector.safetensors").unlink()
    content = run(place)
    assert list(content["systems"]) == ["made", "copy"]
    assert "needs --train" in content["absent"]["the nearest training frame"]
    assert "needs --train" in content["absent"]["the pose"]
    assert "the nearest training frame: needs --train" in (place / "out" / "report.md").read_text()


def test_several_folders_are_compared_by_their_names(place):
    shutil.copytree(place / "made", place / "other")
    content = run(place, predictions="made,other")
    assert list(content["systems"]) == ["made", "other", "copy", "truth"]
    assert content["systems"]["other"]["title"] == "other"
    with pytest.raises(InputError, match="needs a name of its own"):
        run(place, predictions="made,made")
    (place / "other").rename(place / "copy")
    with pytest.raises(InputError, match="needs a name of its own"):
        run(place, predictions="copy")


def test_missing_videos_are_refused_or_left_out(place):
    shutil.rmtree(place / "made" / NAMES[1])
    with pytest.raises(InputError, match=r"lacks 1 of 2 videos: p00001_m00001"):
        run(place)
    content = run(place, "--missing=skip")
    assert list(content["videos"]) == [NAMES[0]]
    assert NAMES[1] in content["remarks"][0]


@pytest.mark.parametrize(("length", "count", "expected"), [(44, 2, [21, 43]), (3, 2, [1, 2]), (1, 2, [0]), (1, 1, [0])])
def test_frames_of_the_sheet(length, count, expected):
    assert chosen_frames(length, count) == expected
