"""A tiny dataset that many tests read."""

import pytest
from tiny_videos import LENGTHS, write_video

from champ_jax.data.build import build_dataset


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """A folder of four videos of different lengths, at different depths."""
    root = tmp_path_factory.mktemp("sources") / "people"
    for video, (name, frames) in enumerate(LENGTHS.items()):
        write_video(root / name, frames, video=video)
    return root


@pytest.fixture(scope="session")
def dataset_path(sources, tmp_path_factory):
    path = tmp_path_factory.mktemp("dataset") / "people"
    build_dataset([sources], path)
    return path
