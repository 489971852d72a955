"""Samplers against the reference's DDIM steps and diffusers' schedulers on the same model function."""

from functools import partial
from pathlib import Path as FilePath

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    LCMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers import scheduling_lcm, scheduling_tcd

from champ_jax.diffusion.samplers import SAMPLERS, Path
from champ_jax.diffusion.schedules import Schedule

GOLDEN = FilePath(__file__).parent.parent / "golden" / "model"
SHAPE = (3, 4, 4, 2)


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "d_scheduler.npz")


def predict(x, t, library):
    """A model function that depends on everything, smooth and bounded, the same in numpy, torch and jax."""
    return 0.7 * library.sin(1.3 * x + t / 300.0) + 0.2 * x


def ours(sampler, path, x, noises=None):
    """A run with v-prediction at the path's own levels."""
    memory = SAMPLERS[sampler].start(x)
    for i, t in enumerate(path.timesteps):
        denoised = path.alphas[i] * x - path.sigmas[i] * predict(x, float(t), jnp)
        x, memory = SAMPLERS[sampler].step(path, i, x, denoised, memory, None if noises is None else noises[i])
    return np.asarray(x)


def theirs(scheduler, steps, x, **kwargs):
    scheduler.set_timesteps(steps)
    x = torch.from_numpy(x).double()
    for i, t in enumerate(scheduler.timesteps):
        now = {name: torch.from_numpy(value[i]).double() for name, value in kwargs.items() if name == "variance_noise"}
        rest = {name: value for name, value in kwargs.items() if name != "variance_noise"}
        x = scheduler.step(predict(x, float(t), torch), t, x, **rest, **now).prev_sample
    return x.numpy()


def theirs_with_noise(monkeypatch, scheduler, path, x, noises, **kwargs):
    """A run at the path's timesteps, in float64, of a scheduler that draws noise itself: it draws `noises`."""
    draws = iter(torch.from_numpy(noises).double())
    for module in (scheduling_lcm, scheduling_tcd):
        monkeypatch.setattr(module, "randn_tensor", lambda shape, **_: next(draws))
    scheduler.set_timesteps(timesteps=path.timesteps.tolist())
    x = torch.from_numpy(x).double()
    for t in scheduler.timesteps:
        x = scheduler.step(predict(x, float(t), torch), t, x, **kwargs).prev_sample
    return x.numpy()


def initial(steps=0):
    draws = np.random.default_rng(0).standard_normal((steps + 1, *SHAPE)).astype(np.float32)
    return draws[0], draws[1:]


def diffusers_config(schedule):
    return {
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
        "beta_schedule": schedule.betas,
        "prediction_type": schedule.prediction,
        "timestep_spacing": schedule.spacing,
        "rescale_betas_zero_snr": schedule.zero_terminal_snr,
    }


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_ddim_steps_equal_the_reference(golden, place):
    schedule, path = Schedule(), Path.of(Schedule(), 20)
    x, prediction, t = golden["sample"], golden["model_output"], golden[f"t_{place}"]
    i = int(np.flatnonzero(path.timesteps == t)[0])
    denoised = schedule.denoised(prediction, x, jnp.asarray(t))
    after, _ = SAMPLERS["ddim"].step(path, i, x, denoised, (), None)
    for value, expected in ((denoised, golden[f"x0_{place}"]), (after, golden[f"prev_{place}"])):
        assert np.linalg.norm(value - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_equals_diffusers(eta):
    schedule = Schedule()
    x, noises = initial(10)
    config = diffusers_config(schedule) | {"clip_sample": False, "set_alpha_to_one": True}
    expected = theirs(DDIMScheduler(**config), 10, x, eta=eta, variance_noise=noises)
    result = ours("ddim", Path.of(schedule, 10, eta), x, noises)
    np.testing.assert_allclose(result, expected, atol=2e-5)


def test_ddim_steps_to_the_next_timestep_where_steps_do_not_divide():
    """The prediction of the true noise must lead to the clean sample whatever the number of steps."""
    schedule = Schedule()
    x0, noise = jax.random.normal(jax.random.key(1), (2, *SHAPE))
    path = Path.of(schedule, 7)
    x = schedule.add_noise(x0, noise, jnp.full(SHAPE[:1], 999))
    for i, t in enumerate(path.timesteps):
        t = jnp.full(SHAPE[:1], t)
        np.testing.assert_allclose(x, schedule.add_noise(x0, noise, t), atol=1e-5)
        x, _ = SAMPLERS["ddim"].step(path, i, x, x0, (), None)
    np.testing.assert_allclose(x, x0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize(
    ("name", "scheduler"), [("dpm_solver_2m", DPMSolverMultistepScheduler), ("unipc", UniPCMultistepScheduler)]
)
def test_multistep_samplers_equal_diffusers(name, scheduler, zero_terminal_snr, steps):
    schedule = Schedule("scaled_linear", zero_terminal_snr=zero_terminal_snr)
    path = Path.of(schedule, steps)
    if zero_terminal_snr:  # diffusers has 2^-24 where alpha^2 is 0
        path.alphas[0], path.sigmas[0] = 2**-12, (1 - 2**-24) ** 0.5
    x, _ = initial()
    expected = theirs(scheduler(**diffusers_config(schedule), final_sigmas_type="zero"), steps, x)
    np.testing.assert_allclose(ours(name, path, x), expected, atol=2e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("schedule", [Schedule(), Schedule("scaled_linear", zero_terminal_snr=False)])
def test_lcm_equals_diffusers(monkeypatch, schedule, steps):
    path = Path.of(schedule, steps)
    x, noises = initial(steps)
    scheduler = LCMScheduler(**diffusers_config(schedule))
    expected = theirs_with_noise(monkeypatch, scheduler, path, x, noises)
    np.testing.assert_allclose(ours("lcm", path, x, noises), expected, atol=2e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("schedule", [Schedule(), Schedule("scaled_linear")])
def test_tcd_equals_diffusers(monkeypatch, schedule, eta, steps):
    path = Path.of(schedule, steps, eta)
    x, noises = initial(steps)
    scheduler = TCDScheduler(**diffusers_config(schedule))
    expected = theirs_with_noise(monkeypatch, scheduler, path, x, noises, eta=eta)
    np.testing.assert_allclose(ours("tcd", path, x, noises), expected, atol=2e-5)


def test_lcm_keeps_a_sample_that_is_clean_already():
    """The boundary condition: at timestep 0 the consistency function is the identity."""
    path = Path.of(Schedule(spacing="leading"), 1)
    path.timesteps[:] = 0
    x = jax.random.normal(jax.random.key(0), SHAPE)
    after, _ = SAMPLERS["lcm"].step(path, 0, x, jnp.full(SHAPE, 7.0), (), jnp.zeros(SHAPE))
    np.testing.assert_allclose(after, x, atol=1e-6)


def test_samplers_converge_to_one_solution():
    """These solve one equation: with many steps they meet, from pure noise (infinite log-SNRs) to the clean end."""
    schedule = Schedule()
    x, _ = initial()
    expected = ours("ddim", Path.of(schedule, 1000), x)
    solvers = ("ddim", "dpm_solver_2m", "unipc")
    errors = {name: np.abs(ours(name, Path.of(schedule, 50), x) - expected).max() for name in solvers}
    assert errors["ddim"] < 0.1
    assert errors["dpm_solver_2m"] < errors["ddim"] / 2
    assert errors["unipc"] < errors["ddim"] / 2


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_traced_step_in_a_scan_equals_the_loop(name):
    schedule, path = Schedule(), Path.of(Schedule(), 6)
    x, noises = initial(6)
    noises = jnp.asarray(noises)

    def body(carry, i):
        x, memory = carry
        t = jnp.asarray(path.timesteps)[i]
        denoised = schedule.denoised(predict(x, t.astype(jnp.float32), jnp), x, t)
        return SAMPLERS[name].step(path, i, x, denoised, memory, noises[i]), None

    run = jax.jit(lambda x: jax.lax.scan(body, (x, SAMPLERS[name].start(x)), jnp.arange(6))[0][0])
    np.testing.assert_allclose(run(jnp.asarray(x)), ours(name, path, jnp.asarray(x), noises), atol=1e-5)


def test_steps_can_be_jitted_alone():
    path = Path.of(Schedule(), 4)
    x = jnp.ones(SHAPE)
    step = jax.jit(partial(SAMPLERS["unipc"].step, path))
    after, memory = step(2, x, 0.5 * x, SAMPLERS["unipc"].start(x), None)
    assert after.shape == x.shape
    assert len(memory) == SAMPLERS["unipc"].memory
