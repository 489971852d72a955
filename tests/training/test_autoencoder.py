"""Stage 0: its loss against torch's distributions, the factor it ends with, and the stage 1 that begins from it."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict
from training_data import smoke, smoke_config, tiny_config

from champ_jax.common.errors import InputError
from champ_jax.diffusion.schedules import Schedule
from champ_jax.models.champ import Champ, ChampConfig
from champ_jax.models.initial_values import initialized
from champ_jax.models.vae import VAE
from champ_jax.training.autoencoder import reconstruct, reconstruction_loss, scaling_factor
from champ_jax.training.config import check
from champ_jax.training.initial_weights import load_initial
from champ_jax.training.loop import train
from champ_jax.training.objective import Draws, Objective
from champ_jax.weights.work_folder import load_for_inference, read_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def champ():
    # Under another name than 'vae': none of its branches begins as the identity.
    return initialized(Champ(ChampConfig.from_json(smoke().model.to_dict()), components=("vae",)), prefix="random")


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return {"pixels": rng.integers(0, 256, (2, 1, 16, 16, 3), np.uint8)}


def test_the_loss_is_the_absolute_error_and_torchs_divergence(champ, batch):
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((2, 2, 2, 4), np.float32)
    draws = Draws(jnp.asarray(noise[:, None]), None, None, None, None)
    schedule = Schedule.of(champ.config.training)
    with_weight, without = (
        float(reconstruction_loss(champ, batch, draws, Objective(schedule, kl_weight=weight))) for weight in (0.5, 0.0)
    )
    pictures = batch["pixels"][:, 0] / np.float32(127.5) - 1
    posterior = champ.vae.encode(jnp.asarray(pictures))
    mean, logvar = (torch.tensor(np.asarray(x)) for x in (posterior.mean, posterior.logvar))
    normal = torch.distributions.Normal(mean, torch.exp(0.5 * logvar))
    divergence = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean()
    decoded = np.asarray(champ.vae.decode(jnp.asarray((mean + normal.stddev * torch.tensor(noise)).numpy())))
    assert without == pytest.approx(np.abs(decoded - pictures).mean(), rel=1e-5)
    assert with_weight - without == pytest.approx(0.5 * float(divergence), rel=1e-4)


def test_reconstructions_are_bytes_of_the_decoded_means(champ, batch):
    made = np.asarray(reconstruct(champ, batch))
    pictures = jnp.asarray(batch["pixels"][:, 0] / np.float32(127.5) - 1)
    expected = np.asarray(champ.vae.decode(champ.vae.encode(pictures).mean)) * 127.5 + 127.5
    assert made.shape == batch["pixels"].shape
    assert np.abs(made[:, 0] - np.clip(expected, 0, 255)).max() <= 0.51


def test_a_fresh_autoencoder_gives_latents_that_say_something(champ):
    """Their noise is small beside how they differ from picture to picture."""
    fresh = initialized(VAE(champ.config.vae), prefix="vae")
    levels = jnp.linspace(-1, 1, 5)[:, None, None, None]
    posterior = fresh.encode(jnp.broadcast_to(levels, (5, 16, 16, 3)))
    noise = np.exp(0.5 * np.asarray(posterior.logvar)).mean()
    assert np.asarray(posterior.mean).std(axis=0).mean() > 2 * noise


def test_the_factor_gives_unit_variance():
    rng = np.random.default_rng(0)
    means, deviations = rng.normal(1.5, 3, (6, 500)), rng.uniform(0.1, 1, (6, 500))
    gathered = [np.array([m.mean(), (m**2 + s**2).mean()]) for m, s in zip(means, deviations)]
    drawn = means[..., None] + deviations[..., None] * rng.standard_normal((6, 500, 200))
    assert (scaling_factor(gathered) * drawn).std() == pytest.approx(1, rel=5e-3)


@pytest.fixture(scope="module")
def autoencoder(dataset, tmp_path_factory):
    """The work folder of a few steps of stage 0."""
    workdir = tmp_path_factory.mktemp("autoencoder")
    train(tiny_config(dataset, stage=0, trainable="autoencoder", steps=6, checkpoint__every=6), workdir)
    return workdir


def test_stage_0_trains_the_autoencoder_alone(autoencoder):
    lines = [json.loads(line) for line in (autoencoder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]
    trained = autoencoder / "checkpoints" / "6" / "params"
    assert trained.is_dir()
    model, components = load_for_inference(autoencoder)
    assert model.vae.scaling_factor != smoke().model.vae.scaling_factor
    assert 0.05 < model.vae.scaling_factor < 20
    assert {"vae", "denoising_unet", "image_encoder"} <= set(components)


def test_running_it_again_ends_with_the_same_factor(autoencoder, dataset):
    factor = read_model(autoencoder).vae.scaling_factor
    train(tiny_config(dataset, stage=0, trainable="autoencoder", steps=6, checkpoint__every=6), autoencoder)
    assert read_model(autoencoder).vae.scaling_factor == pytest.approx(factor, rel=0.05)


def test_a_decoder_alone_needs_an_encoder(dataset):
    with pytest.raises(InputError, match="trainable=decoder: without init there is no encoder"):
        load_initial(smoke_config(dataset, stage=0, trainable="decoder"))


def test_a_decoder_alone_leaves_encoder_and_factor(autoencoder, dataset, tmp_path):
    """So that the latents stay those that a denoiser has learned."""
    fields = {"stage": 0, "trainable": "decoder", "steps": 1, "checkpoint__every": 1, "init": str(autoencoder)}
    train(tiny_config(dataset, model={}, **fields), tmp_path / "decoder")
    (before, old), (after, new) = (load_for_inference(folder) for folder in (autoencoder, tmp_path / "decoder"))
    assert after == before
    for component, arrays in old.items():
        others = flatten_dict(new[component])
        changed = {name[0] for name, value in flatten_dict(arrays).items() if not np.array_equal(value, others[name])}
        assert changed == ({"decoder", "post_quant_conv"} if component == "vae" else set()), component


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stage": 0}, "stage 0, and no other, trains autoencoder or decoder"),
        ({"trainable": "autoencoder"}, "stage 0, and no other, trains autoencoder or decoder"),
        ({"stage": 0, "trainable": "autoencoder", "data__cached": True}, r"data\.cached=True: stage 0"),
        ({"trainable": "stage1_image_encoder", "data__cached": True}, r"pass --config\.data\.cached_embeddings=false"),
        ({"stage": 3}, "stage=3: expected 0, 1 or 2"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        check(smoke_config("somewhere", **fields))


@pytest.mark.slow
def test_stage_1_begins_from_it_on_cached_latents_and_trains_the_image_encoder(autoencoder, dataset, tmp_path):
    command = [sys.executable, ROOT / "tools" / "build_dataset.py", f"--output={dataset}", "--cache_latents"]
    subprocess.run([*command, f"--weights={autoencoder}", "--size=64x64"], check=True, env={"PYTHONPATH": str(ROOT)})
    fields = {"data__cached": True, "data__cached_embeddings": False, "data__crop": "center", "steps": 2}
    train(tiny_config(dataset, init=str(autoencoder), trainable="stage1_image_encoder", **fields), tmp_path)
    before = load_for_inference(autoencoder)[1]  # averaged, which is what another run begins from
    after = load_for_inference(tmp_path, average=False)[1]
    same = jax.tree.map(np.array_equal, before["vae"], after["vae"])
    assert all(jax.tree.leaves(same))
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before["image_encoder"], after["image_encoder"])
    assert any(jax.tree.leaves(moved))
    assert read_model(tmp_path).vae.scaling_factor == read_model(autoencoder).vae.scaling_factor
