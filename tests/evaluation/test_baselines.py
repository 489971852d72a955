"""The baselines of held-out results: what they write is what their names say."""

import numpy as np
import pytest

from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image, write_image
from champ_jax.evaluation.baselines import find_people, write_copies, write_nearest


def write_people(root, pictures):
    for video, frames in pictures.items():
        folder = root / video / "images"
        folder.mkdir(parents=True)
        for number, frame in enumerate(frames, 1):
            write_image(folder / f"{number:04}.png", frame)
    return root


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 4, 4, 3), np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


def frames_of(folder):
    return np.stack([read_image(path) for path in sorted(folder.iterdir())])


def test_copies_are_the_first_frame_again_and_again(tmp_path, pictures):
    videos = find_people(write_people(tmp_path / "test", {"a": pictures[:3], "b": pictures[3:]}))
    write_copies(videos, tmp_path / "copy")
    assert np.array_equal(frames_of(tmp_path / "copy" / "a"), pictures[[0, 0, 0]])
    assert np.array_equal(frames_of(tmp_path / "copy" / "b"), pictures[[3, 3]])


def test_the_nearest_frame_is_found(tmp_path, pictures):
    train = find_people(write_people(tmp_path / "train", {"t": pictures[:2], "u": pictures[2:]}))
    noise = np.random.default_rng(1).integers(-9, 10, pictures.shape)
    near = np.clip(pictures.astype(int) + noise, 0, 255).astype(np.uint8)
    videos = find_people(write_people(tmp_path / "test", {"v": near[[4, 0, 2]]}))
    write_nearest(videos, train, tmp_path / "nearest")
    assert np.array_equal(frames_of(tmp_path / "nearest" / "v"), pictures[[4, 0, 2]])


def test_a_folder_without_videos_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no videos"):
        find_people(tmp_path)
