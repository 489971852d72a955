"""tools/make_people.py: folders, determinism, resuming, splits and refusals."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from champ_jax.body.motion import Motion
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image
from champ_jax.conditions.rendered_motion import RENDERED
from champ_jax.data.build import build_dataset
from champ_jax.data.pipeline import make_stage1, make_stage2
from champ_jax.data.synthetic import many_videos
from champ_jax.data.synthetic.many_videos import make_people
from champ_jax.data.synthetic.one_video import PARTS, Settings, draw_take, name_video, write_video

ROOT = Path(__file__).parents[3]
SETTINGS = Settings(seed=2, frames=3, size=(40, 56), test_share=0.34)
COUNT = 3


def _tool():
    path = ROOT / "tools" / "make_people.py"
    spec = importlib.util.spec_from_file_location("make_people_tool", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _bytes(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small run by one process."""
    output = tmp_path_factory.mktemp("people") / "one"
    assert make_people(output, COUNT, SETTINGS, workers=1) == COUNT
    return output


def test_two_processes_make_the_same_bytes_and_resume(made, tmp_path):
    """Two processes; then again after one video was lost and another was being written when the run was killed."""
    output = tmp_path / "two"
    arguments = f"--output={output} --count={COUNT} --seed=2 --frames=3 --size=40x56 --test_share=0.34 --workers=2"
    lost, unfinished = name_video(SETTINGS, 0).folder, name_video(SETTINGS, 1).folder
    _tool().main(arguments.split())
    assert _bytes(output) == _bytes(made)
    kept = output / name_video(SETTINGS, 2).folder / "motion.npz"
    before = kept.stat().st_mtime_ns
    shutil.rmtree(output / lost)
    scratch = output / unfinished
    scratch = scratch.parent / f".{scratch.name}.abc123" / scratch.name
    shutil.copytree(output / unfinished / "images", scratch / "images")
    assert make_people(output, COUNT, SETTINGS, workers=1) == 1
    assert _bytes(output) == _bytes(made)
    assert kept.stat().st_mtime_ns == before


def test_layout(made):
    """Every folder has every frame, of the size asked for, in the mode its kind has."""
    videos = sorted(path.parent for path in made.glob("*/*/motion.npz"))
    assert len(videos) == COUNT
    for video in videos:
        for kind in ("images", *RENDERED):
            files = sorted((video / kind).iterdir())
            assert [file.name for file in files] == ["0001.png", "0002.png", "0003.png"]
            for file in files:
                with Image.open(file) as image:
                    assert image.size == SETTINGS.size
                    assert image.mode == ("L" if kind in ("depth", "mask") else "RGB")
        assert json.loads((video / "video.json").read_text())["actions"]


def test_conditions_are_what_rendering_the_motion_gives(made, tmp_path):
    """Byte for byte: the ground truth is exactly what an animation from motion.npz is guided by. In a process of its
    own, for the tests' compiler options are not those of the command and round otherwise."""
    video = made / name_video(SETTINGS, 0).folder
    motion = Motion.load(video / "motion.npz")
    assert motion.keypoints.shape == (3, 134, 3)
    assert motion.image_size.tolist() == list(SETTINGS.size)
    assert motion.fps == 24
    command = [sys.executable, ROOT / "tools" / "render_conditions.py", f"--motion={video / 'motion.npz'}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    subprocess.run([*command, f"--output={tmp_path / 'rendered'}"], env=environment, check=True)
    for kind in RENDERED:
        for path in sorted((video / kind).iterdir()):
            expected = read_image(tmp_path / "rendered" / kind / path.name, "RGB")
            np.testing.assert_array_equal(read_image(path, "RGB"), expected, err_msg=kind)


def test_the_dataset_builder_takes_it_as_it_is(made, tmp_path):
    """Nothing is left out or noted, and both stages' batches hold the folders' pictures."""
    report = build_dataset([made / "train"], tmp_path / "dataset", workers=1)
    assert (report["videos"], report["frames"]) == (2, 6)
    assert not report["left_out"]
    assert not report["notes"]
    options = {"seed": 0, "batch_size": 2, "image_size": SETTINGS.size, "crop": "none"}
    for batches, frames in (
        (make_stage1(tmp_path / "dataset", margin=1, **options), 1),
        (make_stage2(tmp_path / "dataset", frames=3, stride=1, **options), 3),
    ):
        batch = next(batches)
        batches.close()
        assert batch["pixels"].shape == (2, frames, 56, 40, 3)
        assert set(batch["conditions"]) == set(RENDERED) - {"mask"}
    whole = {video.name: read_image(video / "images" / "0002.png") for video in (made / "train").iterdir()}
    for name, pixels in zip(batch["names"], batch["pixels"]):
        video = next(key for key in whole if key in name)
        np.testing.assert_array_equal(pixels[1], whole[video])


def test_split(made):
    """People and motions of the test part are not in the training part."""
    split = json.loads((made / "split.json").read_text())
    assert [len(split[part]["videos"]) for part in PARTS] == [2, 1]
    for part in PARTS:
        assert all((made / video).is_dir() for video in split[part]["videos"])
    for key in ("identities", "motions", "videos"):
        assert not set(split["train"][key]) & set(split["test"][key])


def test_people_and_motions_of_the_parts_differ():
    """The first person of one part is not that of the other, nor is the motion; one person may do several motions."""
    settings = Settings(frames=2, size=(32, 32), test_share=0.5, videos_per_identity=2)
    names = [name_video(settings, number) for number in range(6)]
    assert [name.part for name in names] == ["train", "test"] * 3
    assert [name.identity for name in names] == [0, 0, 0, 0, 1, 1]
    train, test, again, other = (draw_take(settings, name) for name in (names[0], names[1], names[2], names[4]))
    assert np.abs(train.identity.betas - test.identity.betas).max() > 0.1
    assert np.abs(train.motion.rotations[:, 1:] - test.motion.rotations[:, 1:]).max() > 0.05
    np.testing.assert_array_equal(train.identity.betas, again.identity.betas)
    assert np.abs(train.identity.betas - other.identity.betas).max() > 0.1
    assert np.abs(train.motion.rotations[:, 1:] - again.motion.rotations[:, 1:]).max() > 0.05


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5])
def test_more_videos_leave_the_first_ones_as_they_are(share):
    settings = Settings(test_share=share)
    names = [name_video(settings, number) for number in range(400)]
    assert len({name.folder for name in names}) == 400
    assert sum(name.part == "test" for name in names) == round(400 * share)
    for part in PARTS:
        assert [name.motion for name in names if name.part == part] == list(
            range(sum(name.part == part for name in names))
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--count=0", "--count=0: expected a whole number of at least 1"),
        ("--count=x", "count"),
        ("--count=1 --size=12", "--size=12: expected WIDTHxHEIGHT"),
        ("--count=1 --size=8x8", "at least 16x16"),
        ("--count=1 --frames=0", "--frames=0"),
        ("--count=1 --workers=0", "--workers=0"),
        ("--count=1 --seed=-1", "--seed=-1"),
        ("--count=1 --test_share=1.5", "--test_share=1.5"),
        ("--count=1 --videos_per_identity=0", "--videos_per_identity=0"),
        ("--count=1 --color=red", "--color=red"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(tmp_path, arguments, message):
    with pytest.raises(InputError, match=None) as error:
        _tool().main([f"--output={tmp_path / 'out'}", *arguments.split()])
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_folders_of_something_else_are_refused(made, tmp_path):
    with pytest.raises(InputError, match="another seed, frames"):
        make_people(made, COUNT, Settings(seed=3, frames=4, size=(40, 56), test_share=0.34))
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="a folder that holds other things, not synthetic people"):
        make_people(tmp_path, 1, SETTINGS)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="is a file"):
        make_people(file, 1, SETTINGS)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "people.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        make_people(tmp_path / "broken", 1, SETTINGS)


def test_too_small_a_disk_is_reported_before_anything_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(many_videos, "require_space", lambda path, size: _refuse(size))
    with pytest.raises(InputError, match="needs"):
        make_people(tmp_path / "out", 1000, Settings(size=(512, 512)))
    assert not list(tmp_path.iterdir())


def _refuse(size):
    assert size > 1000 * 48 * 512 * 512
    raise InputError("needs more")


def test_a_disk_that_fills_up_leaves_nothing_half_written(tmp_path, monkeypatch):
    save, saved = Image.Image.save, []

    def full(self, path, *args, **kwargs):
        saved.append(path)
        if len(saved) > 7:
            raise OSError(28, "No space left on device")
        save(self, path, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(InputError, match="disk or quota is full"):
        write_video(SETTINGS, name_video(SETTINGS, 0), tmp_path)
    assert len(saved) == 8
    assert not list(tmp_path.iterdir())
