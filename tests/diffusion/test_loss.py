"""Noise, targets, weights and loss against the reference's."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from champ_jax.diffusion.loss import diffusion_loss, min_snr_weights, offset_noise, sample_noise
from champ_jax.diffusion.schedules import Schedule

GOLDEN = Path(__file__).parent.parent / "golden" / "model"
TRAINING = Schedule("scaled_linear")


def channels_last(x):
    return np.moveaxis(x, 1, -1)


@pytest.fixture(scope="module")
def golden():
    data = dict(np.load(GOLDEN / "g_loss.npz"))
    return {name: channels_last(value) if value.ndim == 5 else value for name, value in data.items()}


@pytest.mark.parametrize("stage", ["s1", "s2"])
def test_the_whole_objective_equals_the_reference(golden, stage):
    def of(name):
        return jnp.asarray(golden[f"{stage}_{name}"])

    t, x0 = of("timesteps"), of("latents")
    noise = offset_noise(of("noise_raw"), of("noise_offset_randn").reshape(len(t), 4))
    np.testing.assert_allclose(noise, of("noise"), atol=1e-6)
    np.testing.assert_allclose(TRAINING.add_noise(x0, noise, t), of("noisy"), atol=2e-6)
    target = TRAINING.target(x0, noise, t)
    np.testing.assert_allclose(target, of("velocity"), atol=2e-6)
    weights = min_snr_weights(TRAINING, t)
    np.testing.assert_allclose(weights, of("weights"), rtol=2e-4)
    np.testing.assert_allclose(diffusion_loss(of("model_pred"), target, weights), of("loss"), rtol=1e-5)
    unweighted = diffusion_loss(of("model_pred"), target, min_snr_weights(TRAINING, t, gamma=0))
    np.testing.assert_allclose(unweighted, of("loss_snr_gamma0"), rtol=1e-5)


def test_snr_and_weights_of_every_timestep(golden):
    """The reference's float32 loses digits of 1 - alpha^2 near the clean end, hence the relative tolerance."""
    t = jnp.arange(1000)
    np.testing.assert_allclose(TRAINING.snr(t), golden["all_snr"], rtol=2e-4, atol=1e-7)
    np.testing.assert_allclose(min_snr_weights(TRAINING, t), golden["all_weights"], rtol=2e-4)


def test_weights_of_noise_prediction_are_the_papers():
    schedule = Schedule("scaled_linear", zero_terminal_snr=False, prediction="epsilon")
    t = jnp.array([10, 500, 900])
    snr = np.asarray(schedule.snr(t))
    np.testing.assert_allclose(min_snr_weights(schedule, t), np.minimum(snr, 5) / snr, rtol=1e-6)


def test_the_offset_is_shared_by_the_pixels_of_a_sample_and_channel():
    noise = sample_noise(jax.random.key(0), (64, 3, 16, 16, 4), strength=0.5)
    means = np.asarray(noise.mean(axis=(1, 2, 3)))
    assert np.std(means) == pytest.approx(0.5, rel=0.15)
    assert np.std(np.asarray(noise - means[:, None, None, None])) == pytest.approx(1.0, rel=0.02)


def test_places_weigh_the_elements_of_a_sample():
    generator = np.random.default_rng(0)
    prediction, target = jnp.asarray(generator.standard_normal((2, 3, 1, 4, 5, 2)), jnp.float32)
    places, weights = jnp.asarray(generator.uniform(0.5, 2, (3, 1, 4, 5, 1))), jnp.asarray([1.0, 0.5, 2.0])
    expected = np.mean(weights * np.mean(places * (prediction - target) ** 2, axis=(1, 2, 3, 4)))
    np.testing.assert_allclose(diffusion_loss(prediction, target, weights, places), expected, rtol=1e-5)
    np.testing.assert_allclose(
        diffusion_loss(prediction, target, weights),
        diffusion_loss(prediction, target, weights, jnp.ones_like(places)),
        rtol=1e-6,
    )
