"""A lower bound of a run's memory, compared with what programs take, and what is said where it does not fit."""

import jax
import pytest

from champ_jax.common.errors import InputError
from champ_jax.inference import needs
from champ_jax.inference.settings import Settings
from champ_jax.models.champ import ChampConfig

GIB = 2**30


def full_size(size=(512, 512), frames=24, dtype="bfloat16", **settings):
    return needs.estimate(
        ChampConfig(), Settings(**settings), size, frames, dtype=dtype, devices=1, parameters=2_500_000_000
    )


def test_the_published_model_fits_where_it_is_known_to_run():
    """The reference runs 24 frames at 512x512 and 768x768 in half precision on one GPU of 80 GB."""
    for side in (512, 768):
        assert 5 * GIB < full_size((side, side)).device < 40 * GIB


@pytest.mark.parametrize(
    ("change", "stage"), [({"chunk": 512}, "chunk"), ({"batch": 64}, "windows.batch"), ({"size": (16384, 16384)}, "")]
)
def test_what_does_not_fit_is_named_with_both_numbers(change, stage, monkeypatch):
    monkeypatch.setattr(needs, "available_memory", lambda: 40 * GIB)
    needs.require(full_size(), jax.devices()[:1], (512, 512))
    with pytest.raises(InputError, match=rf"needs at least .* .* of memory, 40\.0 GiB are available.*{stage}"):
        needs.require(full_size(**change), jax.devices()[:1], (512, 512))


def test_a_devices_own_memory_counts(monkeypatch):
    class Device:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": GIB}

    monkeypatch.setattr(needs, "available_memory", lambda: 100 * GIB)
    with pytest.raises(InputError, match=r"on each device, which has 1\.0 GiB"):
        needs.require(full_size(), [Device()], (512, 512))


def test_frames_and_settings_add_up():
    assert full_size(frames=2000).device - full_size(frames=100).device == pytest.approx(1900 * 2.8e6, rel=0.1)
    assert full_size(guidance_scale=1.0).device < full_size().device
    assert full_size(dtype="float32").device > 1.8 * full_size().device
