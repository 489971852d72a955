"""Datasets: what is read back is what the files hold, what cannot be used is named, nothing written is lost."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tiny_videos import KINDS, LENGTHS, picture, write_video

from champ_jax.common.cli import run
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image
from champ_jax.conditions.colors import PART_COLORS
from champ_jax.data import build
from champ_jax.data.build import build_dataset
from champ_jax.data.dataset import Dataset, decode, person_box
from champ_jax.data.records import list_parts

TOOL = Path(__file__).parents[2] / "tools" / "build_dataset.py"


def names(dataset):
    return [video.name for video in dataset.videos]


def run_tool(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[1])}
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **options)


def test_any_frame_is_read_back_byte_for_byte(dataset_path, sources):
    dataset = Dataset(dataset_path)
    assert names(dataset) == sorted(f"people/{name}" for name in LENGTHS)
    rng = np.random.default_rng(0)
    for index in rng.permutation(len(dataset)):
        video = dataset.videos[index]
        assert video.frames == LENGTHS[video.name.removeprefix("people/")]
        assert video.size == (64, 64)
        for frame in rng.integers(video.frames, size=3):
            record = dataset.record(index, frame)
            assert record["frame"].decode() == f"{frame + 1:04d}"
            for kind in KINDS:
                file = sources.parent / video.name / kind / f"{frame + 1:04d}.png"
                assert record[kind] == file.read_bytes()
    with pytest.raises(IndexError):
        dataset.record(0, dataset.videos[0].frames)


def test_tfds_alone_reads_a_part_and_neither_tensorflow_nor_jax_is_needed(dataset_path):
    part = next((dataset_path / "videos").glob("part-*/1.0.0"))
    source = tfds.builder_from_directory(part).as_data_source(split="train")
    np.testing.assert_array_equal(source[5]["normal"], picture("normal", 5, (64, 64), video=0))
    assert source[5]["mask"].shape == (64, 64, 1)
    code = (
        "import sys\n"
        "from champ_jax.data.dataset import Dataset, decode\n"
        f"print(decode(Dataset({str(dataset_path)!r}).record(0, 3), ['images', 'semantic_map'])['images'].size)\n"
        "print('tensorflow' in sys.modules, 'jax' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "(64, 64)\nFalse False\n", done.stderr


def test_the_semantic_map_is_black_outside_of_the_mask(dataset_path):
    frame = decode(Dataset(dataset_path).record(2, 4), ["semantic_map", "normal"])
    mask = picture("mask", 4, (64, 64))[..., None] > 0
    normal = np.asarray(frame["normal"])
    np.testing.assert_array_equal(np.asarray(frame["semantic_map"]), np.where(mask, normal, 0))
    assert (normal[~mask[..., 0]] > 0).any()


def test_boxes_come_from_the_file_or_from_the_mask(tmp_path, dataset_path):
    boxes = [[1, 2, 30, 40], None, [-3.0, 0.2, 70, 63.6]]
    write_video(tmp_path / "in" / "video", 3, boxes=boxes)
    build_dataset([tmp_path / "in"], tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    found = [person_box(dataset.record(0, frame)) for frame in range(3)]
    assert found[1] is None
    np.testing.assert_array_equal(found[0], [1, 2, 30, 40])
    np.testing.assert_array_equal(found[2], [0, 0, 64, 64])
    rows, columns = np.nonzero(picture("mask", 7, (64, 64)))
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_array_equal(person_box(Dataset(dataset_path).record(0, 7)), expected)


def damage_truncated(video):
    path = video / "normal" / "0003.png"
    path.write_bytes(path.read_bytes()[:200])
    return r"normal/0003\.png: is a damaged picture"


def damage_flipped(video):
    path = video / "images" / "0002.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return r"images/0002\.png: is a damaged picture"


def damage_missing_frame(video):
    (video / "depth" / "0004.png").unlink()
    return r"missing depth/0004 \(5 images, 4 depth"


def damage_missing_folder(video):
    shutil.rmtree(video / "dwpose")
    return "has no dwpose/"


def damage_no_images(video):
    shutil.rmtree(video / "images")
    return "has no images/.*put the frames of the video there"


def damage_sizes(video):
    Image.fromarray(picture("mask", 0, (64, 48))).save(video / "mask" / "0001.png")
    return r"mask/0001\.png: is 64x48, .*images/0001\.png is 64x64"


def damage_depth_16_bit(video):
    Image.fromarray(np.zeros((64, 64), np.uint16)).save(video / "depth" / "0001.png")
    return r"depth/0001\.png: has more than 8 bits"


def damage_boxes(video):
    (video / "human_bbox.json").write_text("[[1, 2, 3, 4]]")
    return "holds 1 boxes, the video has 5 frames"


def damage_box(video):
    (video / "human_bbox.json").write_text(json.dumps([[1, 2, 30, 40]] * 4 + [[5, 5, 5]]))
    return r"frame 0005 has \[5, 5, 5\]"


def damage_not_a_picture(video):
    (video / "images" / "0001.png").write_text("hello")
    return r"images/0001\.png: is text"


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path):
    reasons = {}
    for damage in DAMAGES:
        name = damage.__name__
        reasons[f"in/{name}"] = damage(write_video(tmp_path / "in" / name, 5))
    good = write_video(tmp_path / "in" / "good", 5)
    (good / "images" / ".DS_Store").write_bytes(b"x")
    (good / "depth" / "preview.mp4").write_bytes(b"x")
    (good / "motion.npz").write_bytes(b"x")
    (tmp_path / "in" / "notes.txt").write_text("x")
    done = run_tool(f"--source={tmp_path / 'in'}", f"--output={tmp_path / 'out'}", "--workers=1")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["added"] == ["in/good"]
    assert {entry["name"] for entry in report["left_out"]} == set(reasons)
    for entry in report["left_out"]:
        assert re.search(reasons[entry["name"]], entry["reason"]), entry
        assert f"left out {entry['name']}: {entry['reason']}" in done.stderr
    assert "1 videos, 5 frames; 1 added, 10 left out" in done.stderr
    assert names(Dataset(tmp_path / "out")) == ["in/good"]


def test_gaps_and_foreign_colors_are_noted(tmp_path):
    video = write_video(tmp_path / "in" / "video", 6)
    for kind in KINDS:
        (video / kind / "0003.png").unlink()
    report = build_dataset([tmp_path / "in"], tmp_path / "out")
    notes = " ".join(entry["note"] for entry in report["notes"])
    assert "frame numbers jump from 0002 to 0004" in notes
    assert "semantic_map/0001.png" in notes
    assert report["frames"] == 5


def test_frames_are_ordered_by_number(tmp_path):
    video = write_video(tmp_path / "in" / "video", 11)
    for kind in KINDS:
        for path in sorted((video / kind).iterdir()):
            path.rename(path.with_name(f"frame_{int(path.stem)}.png"))
    build_dataset([tmp_path / "in"], tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    blues = [np.asarray(decode(dataset.record(0, i), ["images"])["images"])[0, 0, 2] for i in range(11)]
    assert blues == [3 * i for i in range(11)]


def test_a_second_run_adds_only_what_is_new(tmp_path):
    write_video(tmp_path / "in" / "one", 4)
    first = build_dataset([tmp_path / "in"], tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "videos").rglob("*") if path.is_file()}
    write_video(tmp_path / "in" / "two", 3, video=1)
    write_video(tmp_path / "other" / "one", 2, video=2)
    second = build_dataset([tmp_path / "in", tmp_path / "other"], tmp_path / "out")
    assert first["added"] == ["in/one"]
    assert second["added"] == ["in/two", "other/one"]
    assert second["videos"] == 3
    assert second["frames"] == 9
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in before.items())
    third = build_dataset([tmp_path / "in"], tmp_path / "out")
    assert third["added"] == third["left_out"] == []
    write_video(tmp_path / "again" / "in" / "one", 5)
    changed = build_dataset([tmp_path / "again" / "in"], tmp_path / "out")
    assert "other files" in changed["left_out"][0]["reason"]
    with pytest.raises(InputError, match="choose the same conditions"):
        build_dataset([tmp_path / "in"], tmp_path / "out", conditions=["depth"])


def test_workers_and_runs_make_no_difference_to_the_reader(tmp_path, sources, dataset_path, monkeypatch):
    monkeypatch.setattr(build, "_SMALLEST_PART", 1)
    build_dataset([sources], tmp_path / "out", workers=2)
    assert len(list_parts(tmp_path / "out" / "videos")) == 4
    one, two = Dataset(dataset_path), Dataset(tmp_path / "out")
    assert one.videos == two.videos
    assert one.fingerprint == two.fingerprint
    for video in range(4):
        assert one.record(video, 9)["dwpose"] == two.record(video, 9)["dwpose"]


def test_a_video_too_large_for_one_part_is_cut_and_counts_when_complete(tmp_path, monkeypatch):
    write_video(tmp_path / "in" / "small", 5)
    write_video(tmp_path / "in" / "large", 40)
    monkeypatch.setattr(build, "_LARGEST_PART", 20_000)
    build_dataset([tmp_path / "in"], tmp_path / "out")
    parts = list_parts(tmp_path / "out" / "videos")
    assert len(parts) > 2
    dataset = Dataset(tmp_path / "out")
    assert [(video.name, video.frames) for video in dataset.videos] == [("in/large", 40), ("in/small", 5)]
    assert [dataset.record(0, i)["frame"].decode() for i in range(40)] == [f"{i + 1:04d}" for i in range(40)]
    shutil.rmtree(tmp_path / "out" / "videos" / "part-00001")
    assert names(Dataset(tmp_path / "out")) == ["in/small"]
    report = build_dataset([tmp_path / "in"], tmp_path / "out")
    assert report["added"] == ["in/large"]
    again = Dataset(tmp_path / "out")
    assert [again.record(0, i)["images"] for i in range(40)] == [dataset.record(0, i)["images"] for i in range(40)]
    assert len(list_parts(tmp_path / "out" / "videos")) == len(parts)


def test_a_killed_run_keeps_what_it_wrote_and_goes_on(tmp_path, sources):
    out = tmp_path / "out"
    code = (
        "import sys, champ_jax.data.build as build\n"
        "build._SMALLEST_PART = 1\n"
        f"build.build_dataset([{str(sources)!r}], {str(out)!r})"
    )
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[1])}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    while not list_parts(out / "videos"):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = list_parts(out / "videos")
    kept = sum(len(listing.pieces) for listing in written.values())
    assert 1 <= kept < 4
    report = build_dataset([sources], out)
    assert len(report["added"]) == 4 - kept
    assert report["videos"] == 4
    assert not list((out / "videos").glob(".*"))
    dataset = Dataset(out)
    assert all(dataset.record(i, video.frames - 1) for i, video in enumerate(dataset.videos))


def test_two_runs_at_once_are_refused(tmp_path, sources):
    with build.hold_dataset(tmp_path / "out"), pytest.raises(InputError, match=r"another run .*is writing it"):
        build_dataset([sources], tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--source={}/empty"], "holds no videos; a video is a folder with images/"),
        (["--source={}/nowhere"], "nowhere: no such folder"),
        (["--source={}/in", "--conditions=depth,pose"], "'pose' is unknown; choose from depth"),
        (["--source={}/in", "--workers=0"], "--workers=0: must be 1 to 1024"),
        (["--source={}/bad"], "none of the 1 videos can be used; bad/video: .*missing depth/0002"),
        (["--source={}/in", "--source", "{}/x/in"], "has the same name, in/video; rename one of them"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, line):
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    write_video(tmp_path / "in" / "video", 2)
    write_video(tmp_path / "x" / "in" / "video", 2)
    (write_video(tmp_path / "bad" / "video", 2) / "depth" / "0002.png").unlink()
    arguments = [argument.format(tmp_path) for argument in arguments]
    spec = importlib.util.spec_from_file_location("build_dataset", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    with pytest.raises(SystemExit) as exit_:
        run(tool.main, ["--workers=1", *arguments, f"--output={tmp_path / 'out'}"])
    assert exit_.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert re.search(line, last)


def test_pictures_are_shared_with_nothing_lossy(dataset_path, sources):
    frame = decode(Dataset(dataset_path).record(0, 0), ["images", "depth"])
    folder = sources.parent / Dataset(dataset_path).videos[0].name
    np.testing.assert_array_equal(np.asarray(frame["images"]), read_image(folder / "images" / "0001.png"))
    np.testing.assert_array_equal(np.asarray(frame["depth"]), read_image(folder / "depth" / "0001.png", "L"))


@pytest.mark.parametrize("damage", ["black", "inverted", "of-another-frame"])
def test_a_mask_that_hides_the_body_is_an_error(tmp_path, damage):
    video = write_video(tmp_path / "in" / "video", 2)
    body = np.zeros((64, 64, 3), np.uint8)
    body[8:56, 8:32] = np.repeat(PART_COLORS[:24], 2, axis=0)[:, None]
    mask = np.where(body.any(axis=2), 255, 0).astype(np.uint8)
    for name in ("0001.png", "0002.png"):
        Image.fromarray(body).save(video / "semantic_map" / name)
        Image.fromarray(mask).save(video / "mask" / name)
    assert build_dataset([tmp_path / "in"], tmp_path / "good")["notes"] == []
    changed = {"black": np.zeros_like(mask), "inverted": 255 - mask, "of-another-frame": np.roll(mask, 32, axis=1)}
    Image.fromarray(changed[damage]).save(video / "mask" / "0002.png")
    with pytest.raises(InputError, match=r"mask/0002\.png: keeps 0% of the body"):
        build_dataset([tmp_path / "in"], tmp_path / "out")
