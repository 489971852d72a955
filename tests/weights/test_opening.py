"""Weights of every kind open in one way, and say what they are before their arrays are read."""

import json

import numpy as np
import pytest

from champ_jax.common.errors import InputError
from champ_jax.inference import builtin
from champ_jax.models.champ import COMPONENTS
from champ_jax.weights.checkpoint import load_checkpoint, read_config
from champ_jax.weights.opening import open_weights


def test_a_checkpoint_says_what_its_config_says(golden_checkpoint):
    weights = open_weights(golden_checkpoint)
    config = read_config(golden_checkpoint)
    assert weights.components == COMPONENTS
    assert weights.sources == config["sources"]
    assert weights.untrained == {}
    trees = weights.load(["guidance"])
    assert list(trees) == ["guidance"]
    assert weights.digest("guidance", trees["guidance"]) == config["components"]["guidance"]["sha256"]


def test_arrays_come_in_the_dtype_asked_for(golden_checkpoint):
    as_stored = load_checkpoint(golden_checkpoint, ["vae"])[1]["vae"]["quant_conv"]["bias"]
    half = open_weights(golden_checkpoint).load(["vae"], "bfloat16")["vae"]["quant_conv"]["bias"]
    np.testing.assert_array_equal(half, as_stored.astype(half.dtype))
    assert half.dtype == "bfloat16"


def test_a_packed_model_opens_like_a_checkpoint():
    weights = open_weights(builtin.MODEL)
    assert weights.components == COMPONENTS
    assert len(weights.identity) > 64
    tree = weights.load(["guidance"])["guidance"]
    assert len(weights.digest("guidance", tree)) == 64


def test_parts_that_were_never_trained_are_named(golden_checkpoint, tmp_path):
    config = json.loads((golden_checkpoint / "config.json").read_text())
    config["untrained"]["denoising_unet"] = "Stable Diffusion"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert open_weights(tmp_path).untrained == {"denoising_unet": "Stable Diffusion"}


def test_what_is_missing_is_named(golden_checkpoint, tmp_path):
    config = json.loads((golden_checkpoint / "config.json").read_text())
    del config["components"]["guidance"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="has no guidance"):
        open_weights(tmp_path).require()
    (tmp_path / "weights.bin").write_bytes(b"x")
    for path, message in ((tmp_path / "weights.bin", "holds no weights"), (tmp_path / "none", "no such")):
        with pytest.raises(InputError, match=message):
            open_weights(path)
