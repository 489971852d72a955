"""The real step function: against the reference implementation's numbers, and its accumulation."""

import dataclasses

import golden_models
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from golden_models import channels_last, distance, golden, relative

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.diffusion.schedules import Schedule
from champ_jax.models.initial_values import initial_value
from champ_jax.training.objective import Draws, Objective, draw, person_places
from champ_jax.training.parameters import Network
from champ_jax.training.state import initial_state
from champ_jax.training.step import StepOptions, accumulated_gradients, fast_compiler_options, make_step
from champ_jax.weights.flat import from_components

OBJECTIVE = Objective(Schedule.of(golden_models.CONFIG.training))
jitted_draw = jax.jit(draw, static_argnums=(1, 2))


def golden_arrays(network):
    """The golden weights by name; the frozen VAE and image encoder take no part and get fresh ones."""
    components = {
        name: nnx.to_pure_dict(nnx.state(golden_models.build(name, network.config)))
        for name in ("reference_unet", "denoising_unet", "guidance")
    }
    arrays = from_components(components)
    return {
        name: arrays[name] if name in arrays else jnp.asarray(initial_value(name, shape.shape, 0))
        for name, shape in network.shapes.items()
    }


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("stage", [1, 2])
def test_loss_and_gradient_norm_are_the_reference_implementations(stage):
    arrays = golden(f"g_train_stage{stage}_uncond0")
    config = golden_models.CONFIG if stage == 2 else dataclasses.replace(golden_models.CONFIG, motion=None)
    network = Network.build(config, f"stage{stage}")
    values = golden_arrays(network)
    params = {name: values[name] for name in network.trainable}
    frozen = {name: values[name] for name in network.frozen}
    latents, noise = channels_last(arrays["latents"]), channels_last(arrays["noise"])
    timesteps = jnp.asarray(arrays["timesteps"], jnp.int32)
    scale = config.vae.scaling_factor
    reference = channels_last(arrays["ref_latents"]) / scale
    conditions = np.split(channels_last(arrays["guidance_cond"]).astype(np.float32), len(CONDITIONS), axis=-1)
    batch = {
        "latents_mean": latents / scale,
        "latents_std": np.zeros_like(latents),
        "reference_mean": reference,
        "reference_std": np.zeros_like(reference),
        "embedding": arrays["clip_embeds"][:, 0],
        "conditions": dict(zip(CONDITIONS, conditions)),
    }

    def known(key, shape, objective):
        nothing = jnp.zeros(shape)
        return Draws(nothing, nothing[:, 0], noise, timesteps, jnp.zeros(shape[0], bool))

    options = StepOptions()
    optimizer = optax.sgd(1.0)
    compiler_options = fast_compiler_options(jax.default_backend())
    step = jax.jit(make_step(network, optimizer, OBJECTIVE, options, draws=known), compiler_options=compiler_options)
    state, metrics = step(initial_state(params, optimizer, averaged=False), frozen, batch)
    total = float(arrays["total_grad_norm"])
    assert relative(metrics["loss"], arrays["loss"]) < 1e-5
    assert relative(metrics["gradient_norm"], total) < 1e-4
    compared = 0
    for key, theirs in arrays.items():
        if key.startswith("grad__") and theirs.ndim == 1:
            name = key.removeprefix("grad__").replace("guidance_encoder_", "guidance.encoders.")
            name = name.removesuffix(".weight") + ".scale" if name.endswith(".weight") else name
            ours = params[name] - state.params[name]  # plain gradient descent with rate 1 shows the gradient
            assert distance(ours, theirs, total) < 1e-4, name
            compared += 1
    assert compared > 1


@pytest.mark.parametrize("unroll", ["unroll", "scan"])
def test_accumulated_gradients_are_those_of_the_whole_batch(unroll):
    x = jax.random.normal(jax.random.key(0), (8, 3))

    def loss(params, x):
        return jnp.mean((x @ params["w"] - 1) ** 2)

    params = {"w": jnp.arange(3.0)}
    whole = accumulated_gradients(loss, params, (x,), StepOptions())
    pieces = accumulated_gradients(loss, params, (x,), StepOptions(accumulate=4, unroll=unroll))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, pieces)


def test_draws_depend_on_the_key_alone_and_have_the_right_moments():
    draws, again = (jitted_draw(jax.random.key(1), (2000, 1, 2, 2, 4), OBJECTIVE) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, draws, again)
    assert abs(float(draws.unconditional.mean()) - 0.1) < 0.03
    assert int(draws.timesteps.min()) < 10
    assert int(draws.timesteps.max()) > 989
    means = np.asarray(draws.noise).mean((1, 2, 3))  # of 4 numbers: variance 1/4, and the offset's
    assert abs(means.var() - (0.25 + 0.05**2)) < 0.03


def test_drops_of_whole_batches():
    objective = dataclasses.replace(OBJECTIVE, drop_rate=0.5, drop_per="batch")
    drops = [np.asarray(jitted_draw(jax.random.key(i), (4, 1, 1, 1, 4), objective).unconditional) for i in range(20)]
    assert {tuple(drop) for drop in drops} == {(True,) * 4, (False,) * 4}


def test_the_last_timesteps_alone_are_drawn_if_asked_for():
    length = OBJECTIVE.schedule.length
    for first in (0, length - 3, length - 1):
        objective = dataclasses.replace(OBJECTIVE, first_timestep=first)
        draws = [np.asarray(jitted_draw(jax.random.key(i), (16, 1, 1, 1, 4), objective).timesteps) for i in range(4)]
        assert np.min(draws) >= first
        assert np.max(draws) < length
        assert len(np.unique(draws)) >= min(length - first, 30)


def test_the_person_weighs_more_by_what_the_maps_show():
    depth = np.zeros((2, 1, 32, 40, 3), np.uint8)
    dwpose = np.zeros_like(depth)
    depth[0, 0, 9, 12] = (0, 3, 0)  # within latent (1, 1) of 4 x 5
    dwpose[0, 0, 31, 39] = 255  # and within the last one
    places = np.asarray(person_places({"depth": depth, "dwpose": dwpose}, (4, 5), 3.0))
    near = np.ones((4, 5))
    near[:3, :3] = near[2:, 3:] = 3.0
    np.testing.assert_allclose(places[0, 0, :, :, 0], near / near.mean(), rtol=1e-6)
    np.testing.assert_array_equal(places[1], 1.0)  # nobody there


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StepOptions(unroll="yes"), "optimizer.unroll=yes"),
        (lambda: StepOptions(average_decay=1.0), "average.decay=1.0"),
        (lambda: dataclasses.replace(OBJECTIVE, drop_rate=2.0), "loss.drop_rate=2.0"),
        (lambda: dataclasses.replace(OBJECTIVE, drop_per="clip"), "loss.drop_per=clip"),
        (lambda: dataclasses.replace(OBJECTIVE, person_weight=0.0), "loss.person_weight=0.0"),
        (lambda: dataclasses.replace(OBJECTIVE, first_timestep=1000), "loss.first_timestep=1000: must be in 0 ... 999"),
    ],
)
def test_bad_options_are_named(make, words):
    with pytest.raises(InputError, match=words):
        make()
