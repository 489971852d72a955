"""The pipeline's benchmark counts what is delivered."""

import time

import pytest

from champ_jax.data.benchmark import measure, write_example
from champ_jax.data.build import build_dataset
from champ_jax.data.pipeline import Loader


@pytest.mark.parametrize(("stage", "files"), [(1, 7), (2, 8 * 6 + 1)])
def test_rates_are_those_of_the_loader(tmp_path, monkeypatch, stage, files):
    write_example(tmp_path / "in", (48, 32), videos=2, frames=9)
    build_dataset([tmp_path / "in"], tmp_path / "out")
    plain = Loader.__call__

    def slow(self, number):
        time.sleep(0.05)
        return plain(self, number)

    monkeypatch.setattr(Loader, "__call__", slow)
    options = {"frames": 8} if stage == 2 else {"margin": 3}
    result = measure(tmp_path / "out", stage, batch_size=2, seconds=1.0, image_size=(32, 32), read_ahead=0, **options)
    assert 1 < result["samples_per_second"] <= 20
    assert result["pictures_per_second"] == pytest.approx(files * result["samples_per_second"], rel=0.01)
