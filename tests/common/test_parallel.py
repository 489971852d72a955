"""The same work by processes and by Apache Beam."""

import os
import signal
import sys
from pathlib import Path

import pytest

from champ_jax.common.errors import InputError
from champ_jax.common.parallel import map_items
from champ_jax.data import build
from champ_jax.data.build import build_dataset
from champ_jax.data.dataset import Dataset
from champ_jax.data.records import list_parts


def square(item):
    return {"square": item**2}


def refuse(item):
    raise InputError(f"item {item} is bad")


def killed(item):
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_from_this_process_or_from_workers():
    for workers in (1, 2):
        results = [result["square"] for result in map_items(square, range(5), workers=workers)]
        assert sorted(results) == [0, 1, 4, 9, 16]
    assert list(map_items(square, [], workers=2)) == []


def test_errors_of_workers_are_raised_here():
    with pytest.raises(InputError, match=r"item \d is bad"):
        list(map_items(refuse, [1, 2], workers=2))
    with pytest.raises(InputError, match="a worker process was killed, probably because memory ran out"):
        list(map_items(killed, [1, 2], workers=2))


def test_beam_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(InputError, match=r"--runner=DirectRunner: needs Apache Beam; pip install 'champ_jax\[beam\]'"):
        list(map_items(square, [1], runner="DirectRunner"))


@pytest.mark.slow
def test_beam_writes_the_same_dataset(tmp_path, sources, dataset_path, monkeypatch):
    pytest.importorskip("apache_beam", reason="needs the extra 'beam'")
    monkeypatch.setattr(build, "_SMALLEST_PART", 1)
    report = build_dataset(
        [sources], tmp_path / "out", runner="DirectRunner", runner_options=["--direct_num_workers=2"]
    )
    assert report["videos"] == 4
    assert len(list_parts(tmp_path / "out" / "videos")) == 4
    assert not list(Path(tmp_path / "out").glob(".results*"))
    one, two = Dataset(dataset_path), Dataset(tmp_path / "out")
    assert one.fingerprint == two.fingerprint
    for index, video in enumerate(one.videos):
        for frame in range(video.frames):
            assert one.record(index, frame)["images"] == two.record(index, frame)["images"]
    again = build_dataset([sources], tmp_path / "out", runner="DirectRunner")
    assert again["added"] == []
    results = map_items(square, list(range(20)), runner="DirectRunner", scratch=tmp_path)
    assert [result["square"] for result in results] == [i**2 for i in range(20)]
