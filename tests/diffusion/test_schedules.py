"""The noise schedule against the reference's tables and diffusers'."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusers import DDIMScheduler, DDPMScheduler

from champ_jax.common.errors import InputError
from champ_jax.diffusion.schedules import Schedule

GOLDEN = Path(__file__).parent.parent / "golden" / "model"


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "d_scheduler.npz")


def test_tables_of_inference_and_training(golden):
    np.testing.assert_allclose(Schedule().alphas_cumprod, golden["alphas_cumprod"], atol=1e-6)
    np.testing.assert_allclose(
        Schedule("scaled_linear").alphas_cumprod, golden["alphas_cumprod_train_scaled_linear"], atol=1e-6
    )


def test_last_training_timestep_is_pure_noise():
    for betas in ("linear", "scaled_linear", "cosine"):
        schedule = Schedule(betas)
        assert schedule.alphas_cumprod[-1] == 0
        assert schedule.alphas_cumprod[0] == pytest.approx(Schedule(betas, zero_terminal_snr=False).alphas_cumprod[0])
        assert np.all(np.diff(schedule.alphas_cumprod) < 0)


@pytest.mark.parametrize(
    ("betas", "theirs"), [("linear", "linear"), ("scaled_linear", "scaled_linear"), ("cosine", "squaredcos_cap_v2")]
)
def test_betas_equal_diffusers(betas, theirs):
    expected = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule=theirs).alphas_cumprod.numpy()
    np.testing.assert_allclose(Schedule(betas, zero_terminal_snr=False).alphas_cumprod, expected, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("steps", [1, 2, 4, 10, 20, 25, 30, 50, 1000])
def test_trailing_timesteps_equal_the_reference(golden, steps):
    np.testing.assert_array_equal(Schedule().timesteps(steps), golden[f"timesteps_{steps}"])


@pytest.mark.parametrize("steps", [1, 7, 20, 30, 50])
def test_leading_timesteps_equal_diffusers(steps):
    theirs = DDIMScheduler(timestep_spacing="leading", steps_offset=1)
    theirs.set_timesteps(steps)
    np.testing.assert_array_equal(Schedule(spacing="leading").timesteps(steps), theirs.timesteps.numpy())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_prediction_and_denoised_are_inverse(prediction):
    schedule = Schedule("scaled_linear", zero_terminal_snr=False, prediction=prediction)
    x0, noise = jax.random.normal(jax.random.key(0), (2, 5, 3, 4))
    t = jnp.array([0, 10, 400, 700, 999])
    x = schedule.add_noise(x0, noise, t)
    recovered = schedule.denoised(schedule.target(x0, noise, t), x, t)
    np.testing.assert_allclose(recovered, x0, atol=1e-4)


def test_snr_is_the_ratio_of_the_squares():
    schedule = Schedule()
    t = jnp.array([0, 500, 999])
    np.testing.assert_allclose(schedule.snr(t), (schedule.alpha(t) / schedule.sigma(t)) ** 2, rtol=1e-5)
    assert schedule.snr(jnp.array(999)) == 0


@pytest.mark.parametrize(
    "fields", [{"betas": "sqrt"}, {"prediction": "x0"}, {"spacing": "linspace"}, {"prediction": "epsilon"}]
)
def test_unknown_or_impossible_schedules_are_refused(fields):
    with pytest.raises(InputError, match="schedule"):
        Schedule(**fields)


@pytest.mark.parametrize("steps", [0, 1001])
def test_step_counts_outside_the_schedule_are_refused(steps):
    with pytest.raises(InputError, match=r"steps=.*from 1 to 1,000"):
        Schedule().timesteps(steps)
