"""A denoising step by windows on 8 devices, with a small function in the network's place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from champ_jax.diffusion.windows import Windows, plan_windows
from champ_jax.inference.denoiser import WindowDenoiser, denoising_mesh, lower_denoiser, make_mesh

LENGTH, SIZE, SCALE = 21, 6, 3.5
HEIGHT, WIDTH, CHANNELS = 3, 2, 4


class Stub:
    """Depends on everything a denoiser depends on: frame order, timestep, picture, guidance, unconditional rows."""

    def bind(self, parameters):
        def apply(latents, timestep, reference, guidance, unconditional=0):
            rows = len(latents)
            if isinstance(unconditional, int):
                unconditional = jnp.arange(rows) < unconditional
            seen = jnp.where(unconditional, 0.0, reference).reshape(rows, 1, 1, 1, 1)
            order = jnp.arange(latents.shape[1]).reshape(1, -1, 1, 1, 1)
            return parameters * jnp.sin(latents + seen * order + timestep / 100) + guidance.mean(-1, keepdims=True)

        return apply


def arrays():
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((LENGTH, HEIGHT, WIDTH, CHANNELS), np.float32)
    return latents, rng.standard_normal((24, HEIGHT, WIDTH, 5), np.float32)


def expected(plan, scale):
    """The definition, window by window."""
    latents, features = arrays()
    network = Stub().bind(2.0)
    total = np.zeros_like(latents)
    for frames, weights in zip(plan.frames, plan.weights):
        window, guidance = latents[frames][None], features[frames][None]
        using = network(window, 700, 0.3, guidance)[0]
        if scale > 1:
            without = network(window, 700, 0.3, guidance, unconditional=1)[0]
            using = without + scale * (using - without)
        np.add.at(total, frames, weights[:, None, None, None] * np.asarray(using))
    return total


def run(mesh, batch, plan, scale):
    slots, size = batch * mesh.shape["windows"], plan.frames.shape[1]
    lowered = lower_denoiser(
        Stub(),
        jnp.float32(2.0),
        jnp.float32(0.3),
        (slots, size, HEIGHT, WIDTH, CHANNELS),
        jax.ShapeDtypeStruct((slots, size, HEIGHT, WIDTH, 5), jnp.float32),
        mesh=mesh,
        guided=scale > 1,
    )
    # The clip lives on a mesh of another shape, as in the pipeline.
    everywhere = jax.NamedSharding(make_mesh(mesh.devices.ravel().tolist()), jax.P())
    latents, features = jax.device_put(arrays(), everywhere)
    constants = jax.device_put((jnp.float32(2.0), jnp.float32(0.3)), everywhere)
    denoiser = WindowDenoiser(mesh, slots, lowered.compile())
    return np.asarray(denoiser(*constants, latents, features, plan, 700, scale))


@pytest.mark.parametrize(
    ("devices", "halves", "batch", "scale"),
    [
        (1, 1, 1, 1.0),
        (1, 1, 1, SCALE),
        (1, 1, 3, SCALE),
        (8, 1, 1, 1.0),
        (8, 1, 1, SCALE),
        (8, 2, 1, SCALE),
        (8, 2, 2, SCALE),
        (3, 1, 1, SCALE),
    ],
)
def test_every_layout_of_devices_gives_the_definition(devices, halves, batch, scale):
    plan = plan_windows(Windows("shifted", SIZE, 2), LENGTH, 1)
    result = run(make_mesh(jax.devices()[:devices], halves), batch, plan, scale)
    np.testing.assert_allclose(result, expected(plan, scale), atol=1e-5)


@pytest.mark.parametrize("windows", [Windows("closed_loop", SIZE, 2), Windows("closed_loop", SIZE, 2, stride=3)])
def test_rings_that_meet_a_frame_twice_are_averaged(windows):
    plan = plan_windows(windows, LENGTH)
    result = run(make_mesh(jax.devices()[:1]), 2, plan, SCALE)
    np.testing.assert_allclose(result, expected(plan, SCALE), atol=1e-5)


@pytest.mark.parametrize(
    ("devices", "windows", "batch", "guided", "shape"),
    [
        (1, 1, 1, True, (1, 1)),
        (8, 1, 1, True, (4, 2)),
        (8, 7, 1, True, (4, 2)),
        (8, 8, 1, True, (8, 1)),
        (8, 7, 1, False, (8, 1)),
        (8, 12, 2, True, (4, 2)),
        (7, 1, 1, True, (7, 1)),
    ],
)
def test_guidance_halves_part_where_windows_are_fewer_than_devices(devices, windows, batch, guided, shape):
    mesh = denoising_mesh(jax.devices()[:devices], windows, batch, guided)
    assert (mesh.shape["windows"], mesh.shape["guidance"]) == shape
