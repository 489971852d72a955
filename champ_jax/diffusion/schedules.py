"""Noise schedules: how much signal and how much noise a sample holds at each timestep.

A sample at timestep t is x_t = alpha_t * x_0 + sigma_t * noise with alpha_t^2 + sigma_t^2 = 1 and
alpha_t^2 = prod_{s <= t} (1 - beta_s) (Ho et al., DDPM, equation 4). Tables are made in float64 on the host, once a
schedule, and rounded to float32 at the end; everything here can be called inside jax.jit.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from champ_jax.common.ranges import Integer
from champ_jax.models.champ import ScheduleConfig


@dataclasses.dataclass(frozen=True)
class Schedule(ScheduleConfig):
    """A noise schedule and what the model predicts under it. Frozen and hashable: fit for static arguments.

    betas: 'linear' from beta_start to beta_end; 'scaled_linear', linear in the square root (Stable Diffusion's); or
    'cosine' (Nichol & Dhariwal, Improved DDPM, equation 17; beta_start and beta_end unused). zero_terminal_snr rescales
    them (Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed, algorithm 1) and needs
    'v_prediction' (Salimans & Ho: v = alpha * noise - sigma * x_0). spacing: 'trailing' starts at the last training
    timestep, 'leading' ends at timestep 1.
    """

    @classmethod
    def of(cls, config: ScheduleConfig) -> "Schedule":
        """The schedule that a model's config describes."""
        return cls(**dataclasses.asdict(config))

    @functools.cached_property
    def alphas_cumprod(self) -> np.ndarray:
        """prod (1 - beta), float64 (length,); alpha_t is its square root."""
        cumprod = np.cumprod(1.0 - _betas(self))
        return _zero_terminal_snr(cumprod) if self.zero_terminal_snr else cumprod

    def alpha(self, t: Int[Array, "*batch"], ndim: int = 0) -> Float[Array, "..."]:
        """alpha_t, float32, of timesteps t, with `ndim` trailing axes added."""
        return _lookup(np.sqrt(self.alphas_cumprod), t, ndim)

    def sigma(self, t: Int[Array, "*batch"], ndim: int = 0) -> Float[Array, "..."]:
        """sigma_t, float32, of timesteps t, with `ndim` trailing axes added."""
        return _lookup(np.sqrt(1.0 - self.alphas_cumprod), t, ndim)

    def snr(self, t: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        """Signal-to-noise ratio alpha_t^2 / sigma_t^2, float32, of timesteps t."""
        return _lookup(self.alphas_cumprod / (1.0 - self.alphas_cumprod), t, 0)

    def add_noise(
        self, x0: Float[ArrayLike, " batch *shape"], noise: Float[ArrayLike, " batch *shape"], t: Int[Array, " batch"]
    ) -> Float[Array, " batch *shape"]:
        """x_t of clean samples x0, noise and timesteps t."""
        ndim = x0.ndim - t.ndim
        return self.alpha(t, ndim) * x0 + self.sigma(t, ndim) * noise

    def target(
        self, x0: Float[ArrayLike, " batch *shape"], noise: Float[ArrayLike, " batch *shape"], t: Int[Array, " batch"]
    ) -> Float[Array, " batch *shape"]:
        """What the model should predict for x_t of (x0, noise, t): the noise, or v = alpha * noise - sigma * x0."""
        if self.prediction == "epsilon":
            return noise
        ndim = x0.ndim - t.ndim
        return self.alpha(t, ndim) * noise - self.sigma(t, ndim) * x0

    def denoised(
        self,
        prediction: Float[ArrayLike, " batch *shape"],
        x: Float[ArrayLike, " batch *shape"],
        t: Int[Array, " batch"] | Int[Array, ""],
    ) -> Float[Array, " batch *shape"]:
        """The clean sample that a prediction at the noisy sample x and timesteps t implies."""
        ndim = x.ndim - t.ndim
        alpha, sigma = self.alpha(t, ndim), self.sigma(t, ndim)
        if self.prediction == "epsilon":
            return (x - sigma * prediction) / alpha
        return alpha * x - sigma * prediction

    def timesteps(self, steps: int) -> Int[np.ndarray, " steps"]:
        """The timesteps of a sampling run, int32, noisiest first.

        Raises:
          InputError: `steps` is not within 1 ... length.
        """
        Integer(minimum=1, maximum=self.length).check("steps", steps)
        if self.spacing == "trailing":
            spread = np.round(np.arange(self.length, 0, -self.length / steps))[:steps] - 1
        else:  # Stable Diffusion's: an even stride from timestep 1
            spread = (np.arange(steps) * (self.length // steps))[::-1] + 1
        return np.clip(spread, 0, self.length - 1).astype(np.int32)


def _betas(schedule: Schedule) -> np.ndarray:
    start, end, length = schedule.beta_start, schedule.beta_end, schedule.length
    if schedule.betas == "linear":
        return np.linspace(start, end, length, dtype=np.float64)
    if schedule.betas == "scaled_linear":
        return np.linspace(start**0.5, end**0.5, length, dtype=np.float64) ** 2
    ends = np.arange(length + 1, dtype=np.float64) / length
    level = np.cos((ends + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1.0 - level[1:] / level[:-1], 0.999)


def _zero_terminal_snr(alphas_cumprod: np.ndarray) -> np.ndarray:
    """Shifts and scales alpha so that its last entry is 0 and its first stays."""
    alpha = np.sqrt(alphas_cumprod)
    return (alpha[0] / (alpha[0] - alpha[-1]) * (alpha - alpha[-1])) ** 2


def _lookup(table: np.ndarray, t: jax.Array, ndim: int) -> jax.Array:
    values = jnp.asarray(table, jnp.float32)[t]
    return values.reshape(values.shape + (1,) * ndim)
