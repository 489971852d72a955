"""Batches: right frames, right windows, the same whatever the workers, processes and restarts."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_videos import LENGTHS, picture, write_video

from champ_jax.common.errors import InputError
from champ_jax.data.build import build_dataset
from champ_jax.data.dataset import Dataset, decode
from champ_jax.data.pipeline import make_stage1, make_stage2
from champ_jax.data.sampling import clip_stride, pick_clip, pick_pair

OPTIONS = {"seed": 3, "batch_size": 4, "image_size": (32, 32)}


def flat(batch):
    """{name: array}, names of the samples as an array."""
    arrays = {f"conditions/{name}": value for name, value in batch["conditions"].items()}
    rest = {name: np.asarray(value) for name, value in batch.items() if name != "conditions"}
    return {**arrays, **rest}


def assert_same(one, two):
    one, two = flat(one), flat(two)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def take(iterator, count):
    batches = [next(iterator) for _ in range(count)]
    iterator.close()
    return batches


@given(st.integers(1, 200), st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_reference_and_target_keep_their_distance(frames, margin, seed):
    reference, target = pick_pair(frames, margin, np.random.default_rng(seed))
    assert 0 <= reference < frames
    assert 0 <= target < frames
    assert abs(reference - target) >= (margin if frames > margin else frames // 2)


def test_every_target_with_a_partner_is_reached():
    rng = np.random.default_rng(0)
    pairs = [pick_pair(50, 30, rng) for _ in range(4000)]
    targets = np.bincount([target for _, target in pairs], minlength=50)
    assert (targets[:20] > 50).all()
    assert (targets[30:] > 50).all()
    assert not targets[20:30].any()  # no frame lies 30 away from these
    assert {reference for reference, target in pairs if target == 0} == set(range(30, 50))


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_clips_lie_in_the_video_at_the_largest_stride_that_fits(frames, length, stride, seed):
    taken = clip_stride(frames, length, stride)
    if frames < length:
        assert taken == 0
        return
    assert 1 <= taken <= stride
    if length > 1 and taken < stride:
        assert (length - 1) * (taken + 1) > frames - 1
    reference, clip = pick_clip(frames, length, stride, np.random.default_rng(seed))
    assert 0 <= reference < frames
    assert len(clip) == length
    assert clip[0] >= 0
    assert clip[-1] < frames
    assert set(np.diff(clip)) <= {taken}


def test_stage_1_gives_the_frames_it_names(dataset_path):
    dataset = Dataset(dataset_path)
    index = {video.name: i for i, video in enumerate(dataset.videos)}
    batches = take(make_stage1(dataset_path, **{**OPTIONS, "image_size": (64, 64)}, crop="none", margin=8), 3)
    for batch in batches:
        assert batch["pixels"].shape == (4, 1, 64, 64, 3)
        assert batch["reference"].shape == (4, 64, 64, 3)
        assert batch["clip_pixels"].shape == (4, 224, 224, 3)
        assert set(batch["conditions"]) == {"depth", "normal", "semantic_map", "dwpose"}
        assert all(array.dtype == np.uint8 for name, array in flat(batch).items() if name != "names")
        for row, name in enumerate(batch["names"]):
            video, reference, target = name.split(" ")[0], int(name.split(" ")[2]), int(name.split(" ")[4])
            reference_frame = decode(dataset.record(index[video], reference - 1), ["images"])
            target_frame = decode(dataset.record(index[video], target - 1), ["images", "depth", "semantic_map"])
            assert abs(reference - target) >= min(8, dataset.videos[index[video]].frames // 2)
            np.testing.assert_array_equal(batch["reference"][row], reference_frame["images"])
            np.testing.assert_array_equal(batch["pixels"][row, 0], target_frame["images"])
            for kind in ("depth", "semantic_map"):
                expected = np.asarray(target_frame[kind].convert("RGB"))
                np.testing.assert_array_equal(batch["conditions"][kind][row, 0], expected)


def test_stage_2_gives_clips(dataset_path):
    with pytest.warns(UserWarning, match="1 of 4 videos have fewer than 20 frames and are left out"):
        iterator = make_stage2(dataset_path, **{**OPTIONS, "image_size": (64, 64)}, frames=20, stride=2, crop="none")
    lengths = {video.name: video.frames for video in Dataset(dataset_path).videos}
    for batch in take(iterator, 2):
        assert batch["pixels"].shape == (4, 20, 64, 64, 3)
        for row, name in enumerate(batch["names"]):
            stride = 2 if lengths[name.split(" ")[0]] >= 39 else 1
            blue = batch["pixels"][row, :, 0, 0, 2].astype(int)
            assert set(np.diff(blue) % 256) == {3 * stride}  # pictures show their frame in blue, 3 levels a frame
            np.testing.assert_array_equal(batch["conditions"]["normal"][row, :, 0, 0, 2], blue)


@pytest.mark.parametrize("crop", ["random", "box"])
def test_one_window_for_target_and_conditions(dataset_path, crop):
    """Pictures show each pixel's place, so equal pictures mean equal windows."""
    with pytest.warns(UserWarning, match="left out"):
        iterator = make_stage2(dataset_path, **OPTIONS, frames=13, stride=1, crop=crop, area=(0.2, 0.6))
    seen = set()
    for batch in take(iterator, 3):
        places = batch["pixels"][..., :2].astype(int)
        for kind in ("normal", "dwpose"):
            # The target is resized by Lanczos, conditions by bicubic: equal on ramps but for the rounding.
            assert np.abs(batch["conditions"][kind][..., :2] - places).max() <= 2
        depth = batch["conditions"]["depth"][..., 0].astype(int)
        assert np.abs(depth - places.sum(axis=-1) / 2).max() <= 2  # x + y
        assert (places == places[:, :1]).all()  # the window stands still in a clip
        seen |= {tuple(row) for row in places[:, 0, 0, 0]}
        if crop == "random":
            assert (places[:, 0] == batch["reference"][..., :2]).all()
    assert len(seen) > 6  # and moves from sample to sample


def test_batches_do_not_depend_on_workers_read_ahead_or_time(dataset_path):
    expected = take(make_stage1(dataset_path, **OPTIONS, read_ahead=0), 5)
    for batch, same in zip(expected, take(make_stage1(dataset_path, **OPTIONS, read_ahead=3), 5)):
        assert_same(batch, same)
    iterator = make_stage1(dataset_path, **OPTIONS, workers=2)
    for batch, same in zip(expected[:4], [next(iterator) for _ in range(4)]):
        assert_same(batch, same)
    state = iterator.get_state()
    iterator.close()
    resumed = make_stage1(dataset_path, **OPTIONS)
    resumed.set_state(json.loads(json.dumps(state)))
    assert_same(next(resumed), expected[4])
    resumed.set_state({**state, "next_sample": 4})
    assert_same(next(resumed), expected[1])
    resumed.close()
    assert_same(expected[0], take(make_stage1(dataset_path, **OPTIONS), 1)[0])
    singles = take(make_stage1(dataset_path, **{**OPTIONS, "batch_size": 1}), 4)
    for row, batch in enumerate(singles):
        np.testing.assert_array_equal(batch["pixels"][0], expected[0]["pixels"][row])
    other = take(make_stage1(dataset_path, **{**OPTIONS, "seed": 4}), 1)[0]
    assert (other["pixels"] != expected[0]["pixels"]).any()


@pytest.mark.parametrize("count", [2, 4])
def test_processes_hold_rows_of_one_global_batch(dataset_path, count):
    whole = take(make_stage1(dataset_path, **OPTIONS), 2)
    shards = [take(make_stage1(dataset_path, **OPTIONS, rows=range(i, 4, count)), 2) for i in range(count)]
    for step in range(2):
        parts = [flat(shard[step]) for shard in shards]
        for name, array in flat(whole[step]).items():
            for i, part in enumerate(parts):
                np.testing.assert_array_equal(part[name], array[i::count])


def test_every_epoch_has_every_video_in_another_order(dataset_path):
    iterator = make_stage1(dataset_path, **{**OPTIONS, "batch_size": 3}, conditions=["depth"])
    names = [name.split(" ")[0] for batch in take(iterator, 8) for name in batch["names"]]
    epochs = [tuple(names[start : start + 4]) for start in range(0, 24, 4)]  # batches of 3 straddle the epochs
    assert all(len(set(epoch)) == 4 for epoch in epochs)
    assert len(set(epochs)) > 2


def test_a_state_of_other_data_or_another_seed_is_reported(dataset_path, tmp_path):
    state = make_stage1(dataset_path, **OPTIONS).get_state()
    with pytest.raises(InputError, match="seed=5: the run was started with 3"):
        make_stage1(dataset_path, **{**OPTIONS, "seed": 5}).set_state(state)
    write_video(tmp_path / "in" / "video", 3)
    build_dataset([tmp_path / "in"], tmp_path / "out")
    with pytest.warns(UserWarning, match="has changed since"):
        make_stage1(tmp_path / "out", **OPTIONS).set_state(state)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"batch_size": 0}, "batch_size=0: must be 1 or more"),
        ({"crop": "rnd"}, "crop='rnd': unknown; choose none, center, random, box"),
        ({"resize": "fit"}, "resize='fit': unknown"),
        ({"area": (0.5, 1.5)}, "area="),
        ({"image_size": (0, 4)}, "image_size="),
        ({"conditions": ["pose"]}, "has no condition 'pose'; it has depth, normal, semantic_map, dwpose"),
        ({"conditions": ["images"]}, "has no condition 'images'"),
        ({"seed": -1}, "seed=-1"),
        ({"workers": -1}, "workers=-1"),
        ({"frames": 41}, "no video is long enough for a clip of 41 frames, the longest has 40"),
    ],
)
def test_bad_settings_are_named(dataset_path, options, complaint):
    with pytest.raises(InputError, match=complaint.replace("(", r"\(")):
        make_stage2(dataset_path, **{**OPTIONS, "frames": 8, **options})


def test_a_missing_dataset_is_reported(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: holds no dataset; write one with python tools/build_dataset\.py"):
        make_stage1(tmp_path / "nowhere", **OPTIONS)
    with pytest.raises(InputError, match="holds no videos; a video is a folder with images/"):
        make_stage1(tmp_path, **OPTIONS)


def test_folders_of_videos_give_the_batches_of_their_dataset(dataset_path, sources):
    from_files = take(make_stage1(sources, **OPTIONS, crop="box"), 2)
    for batch, same in zip(take(make_stage1(dataset_path, **OPTIONS, crop="box"), 2), from_files):
        assert_same(batch, same)
    with pytest.raises(InputError, match=r"cached latents need a dataset; make one with tools/build_dataset\.py"):
        make_stage1(sources, **OPTIONS, crop="center", cached=True)


def test_workers_end_when_the_program_is_killed(sources, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from champ_jax.data.pipeline import make_stage1\n"
        "if __name__ == '__main__':\n"
        f"    batches = make_stage1({str(sources)!r}, seed=0, batch_size=2, image_size=(32, 32), workers=2)\n"
        "    next(batches)\n"
        "    print('ready', flush=True)\n"
        "    while True:\n"
        "        pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, str(program)], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        threads = Path(f"/proc/{process.pid}/task").glob("*/children")
        children = " ".join(thread.read_text() for thread in threads).split()
        assert len(children) >= 2
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "workers outlive the program"
        time.sleep(0.1)


def test_bad_folders_of_videos_are_reported(tmp_path):
    write_video(tmp_path / "good", 4)
    (write_video(tmp_path / "bad", 4) / "depth" / "0002.png").unlink()
    with pytest.warns(UserWarning, match="1 of 2 videos are left out; .*missing depth/0002"):
        iterator = make_stage1(tmp_path, **OPTIONS, read_ahead=0)
    for path in (tmp_path / "good" / "normal").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"good/normal/000\d\.png: is a damaged picture"):
        next(iterator)


def test_pictures_are_those_of_the_files(dataset_path):
    batch = take(make_stage1(dataset_path, **{**OPTIONS, "image_size": (64, 64)}, crop="none"), 1)[0]
    name, _, _, _, frame = batch["names"][0].split(" ")
    video = list(LENGTHS).index(name.removeprefix("people/"))
    np.testing.assert_array_equal(batch["pixels"][0, 0], picture("images", int(frame) - 1, (64, 64), video))
