"""The error of decoded pictures: against numpy over the decoder's own output, and what it trains."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_data import smoke

from champ_jax.common.errors import InputError
from champ_jax.diffusion.schedules import Schedule
from champ_jax.models.champ import Champ, ChampConfig
from champ_jax.models.initial_values import initialized
from champ_jax.training.objective import Draws, Objective, loss, pixel_loss
from champ_jax.training.parameters import TRAINABLE

CONFIG = ChampConfig.from_json(smoke().model.to_dict())
OBJECTIVE = Objective(Schedule.of(CONFIG.training), snr_gamma=0.0, drop_rate=0.0)


@pytest.fixture(scope="module")
def vae():
    # Under another name than 'vae': none of its branches begins as the identity.
    return initialized(Champ(CONFIG, components=("vae",)), prefix="random").vae


@pytest.fixture(scope="module")
def decode(vae):
    """Latents (F, 2, 4, 4) to pictures, as numpy."""
    compiled = jax.jit(vae.decode)
    return lambda latents: np.asarray(compiled(jnp.asarray(latents)))


@dataclasses.dataclass
class Known:
    """Networks whose prediction is known."""

    vae: object
    prediction: jax.Array
    config: ChampConfig = CONFIG

    def __call__(self, noisy, timesteps, reference, token, conditions, *, unconditional):
        return self.prediction


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_it_is_the_weighted_squared_error_of_the_decoders_pictures(vae, decode):
    latents, shrink = drawn(0, 2, 3, 2, 4, 4), CONFIG.vae.downscale
    pictures = np.random.default_rng(1).integers(0, 256, (2, 3, 2 * shrink, 4 * shrink, 3), np.uint8)
    weights, places = jnp.array([1.0, 3.0]), np.abs(drawn(2, 2, 3, 2, 4, 1))
    value = jax.jit(lambda *x: pixel_loss(vae, *x))(latents, pictures, weights, places)
    squares = np.zeros(2)
    for sample in range(2):
        decoded = decode(latents[sample] / CONFIG.vae.scaling_factor)
        for frame in range(3):
            errors = (decoded[frame] - (pictures[sample, frame] / 127.5 - 1)) ** 2
            pixels = np.kron(places[sample, frame, :, :, 0], np.ones((shrink, shrink)))
            squares[sample] += np.mean(pixels[..., None] * errors) / 3
    assert float(value) == pytest.approx(np.mean([1.0, 3.0] * squares), rel=1e-5)


def test_it_stands_beside_the_error_of_the_latents_and_reads_the_clean_sample(vae, decode):
    """At the last timestep v = -x0, which gives the decoder's picture exactly."""
    shrink = CONFIG.vae.downscale
    latents, noise, wrong = (drawn(seed, 1, 3, 2, 4, 4) for seed in (3, 4, 5))
    pictures = np.random.default_rng(6).integers(0, 256, (1, 3, 2 * shrink, 4 * shrink, 3), np.uint8)
    nobody = np.zeros((1, 3, 2 * shrink, 4 * shrink, 3), np.uint8)
    scale = CONFIG.vae.scaling_factor
    batch = {
        "latents_mean": latents / scale,
        "latents_std": np.zeros_like(latents),
        "reference_mean": np.zeros_like(latents[:, 0]),
        "reference_std": np.zeros_like(latents[:, 0]),
        "embedding": np.zeros((1, 4), np.float32),
        "pixels": pictures,
        "conditions": {"depth": nobody},
    }
    draws = Draws(np.zeros_like(latents), np.zeros_like(latents[:, 0]), noise, jnp.array([999]), jnp.array([False]))
    objective = dataclasses.replace(OBJECTIVE, pixel_weight=0.5)

    @jax.jit
    @jax.value_and_grad
    def both(prediction):
        return loss(Known(vae, prediction), batch, draws, objective)

    value, slope = both(jnp.asarray(-wrong))
    alone = float(loss(Known(vae, jnp.asarray(-wrong)), batch, draws, OBJECTIVE))
    assert alone == pytest.approx(np.mean((wrong - latents) ** 2), rel=1e-5)
    expected = np.mean((decode(wrong[0] / scale) - (pictures[0] / 127.5 - 1)) ** 2)
    assert float(value) - alone == pytest.approx(0.5 * expected, rel=1e-4)
    of_latents = 2 * (latents - wrong) / latents.size
    assert np.abs(slope - of_latents).max() > 0.01 * np.abs(of_latents).max()  # it reaches the prediction


def test_the_decoder_is_trained_along_and_the_encoder_is_not():
    trained = TRAINABLE["stage1_pixels"]
    assert trained.holds("vae.decoder.conv_in.kernel", CONFIG)
    assert trained.holds("image_encoder.pre_layernorm.scale", CONFIG)
    assert not trained.holds("vae.encoder.conv_in.kernel", CONFIG)
    assert not trained.holds("denoising_unet.down_blocks.0.motion_modules.0.norm.scale", CONFIG)


def test_noise_predicted_stands_for_no_picture():
    schedule = dataclasses.replace(CONFIG.training, prediction="epsilon", zero_terminal_snr=False)
    with pytest.raises(InputError, match=r"loss\.pixel_weight=1\.0: no picture follows from predicted noise"):
        Objective(Schedule.of(schedule), pixel_weight=1.0)
