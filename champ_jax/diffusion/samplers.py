"""Samplers: how the next, less noisy sample follows from the model's prediction.

Each sampler is one short function with the signature

    sampler(path, i, x, denoised, memory, noise) -> (x, memory)

x (...) is the sample at point i of the path, `denoised` (...) the clean sample the model sees in it, `memory` a tuple
of arrays shaped like x (its length is `SAMPLERS[name].memory`, zeros at first), `noise` (...) fresh normal noise or
None. All are sums of these arrays whose weights depend on the path alone, so the weights are worked out in float64 on
the host and `i` may be traced: one compiled step serves a whole run, in a Python loop as well as in jax.lax.scan.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from champ_jax.common.ranges import Number
from champ_jax.diffusion.schedules import Schedule

Memory = tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Path:
    """The noise levels a sampling run goes through.

    Attributes:
      timesteps: (N,) int32, noisiest first.
      alphas, sigmas: (N + 1,) float64 signal and noise levels; the last point is the clean sample (1, 0).
      cumprod: (T,) float64 alpha^2 of every training timestep, for samplers that pass through others than the path's.
      eta: 0 is deterministic; DDIM adds fresh noise in proportion to it, 1 being DDPM's amount; TCD's gamma.

    Raises:
      InputError: eta is not within 0 ... 1.
    """

    timesteps: np.ndarray
    alphas: np.ndarray
    sigmas: np.ndarray
    cumprod: np.ndarray
    eta: float = 0.0

    def __post_init__(self) -> None:
        Number(minimum=0, maximum=1).check("eta", self.eta)

    @classmethod
    def of(cls, schedule: Schedule, steps: int, eta: float = 0.0) -> "Path":
        """The path of `steps` steps that `schedule.timesteps` lays."""
        timesteps = schedule.timesteps(steps)
        cumprod = np.append(schedule.alphas_cumprod[timesteps], 1.0)
        return cls(timesteps, np.sqrt(cumprod), np.sqrt(1.0 - cumprod), schedule.alphas_cumprod, eta)

    @property
    def log_snrs(self) -> np.ndarray:
        """(N + 1,) half log-SNRs lambda = log(alpha / sigma); -inf for pure noise, +inf for the clean sample."""
        with np.errstate(divide="ignore"):
            return np.log(self.alphas) - np.log(self.sigmas)


def ddim(
    path: Path,
    i: Int[ArrayLike, ""],
    x: Float[ArrayLike, "*shape"],
    denoised: Float[ArrayLike, "*shape"],
    memory: Memory,
    noise: Float[ArrayLike, "*shape"] | None,
) -> tuple[Float[Array, "*shape"], Memory]:
    """Song et al., Denoising Diffusion Implicit Models, equation 12, with sigma = eta * equation 16."""
    alpha, sigma, next_alpha, next_sigma = path.alphas[:-1], path.sigmas[:-1], path.alphas[1:], path.sigmas[1:]
    spread = path.eta * next_sigma / sigma * np.sqrt(1.0 - (alpha / next_alpha) ** 2)
    kept = np.sqrt(next_sigma**2 - spread**2) / sigma
    x = _at(kept, i) * x + _at(next_alpha - kept * alpha, i) * denoised
    return (x if path.eta == 0 else x + _at(spread, i) * noise), memory


def dpm_solver_2m(
    path: Path,
    i: Int[ArrayLike, ""],
    x: Float[ArrayLike, "*shape"],
    denoised: Float[ArrayLike, "*shape"],
    memory: Memory,
    noise: Float[ArrayLike, "*shape"] | None,
) -> tuple[Float[Array, "*shape"], Memory]:
    """Lu et al., DPM-Solver++, algorithm 2 (second order, multistep); the first and last step are of first order."""
    (previous,) = memory
    kept, new, slope = _exponential_step(path)
    x = _at(kept, i) * x + _at(new, i) * denoised + _at(new * slope, i) * (denoised - previous)
    return x, (denoised,)


def unipc(
    path: Path,
    i: Int[ArrayLike, ""],
    x: Float[ArrayLike, "*shape"],
    denoised: Float[ArrayLike, "*shape"],
    memory: Memory,
    noise: Float[ArrayLike, "*shape"] | None,
) -> tuple[Float[Array, "*shape"], Memory]:
    """Zhao et al., UniPC, second order with B_2(h) = e^h - 1: corrects x with the prediction made at it, then predicts.

    Memory: the corrected sample of the last point, and the last two denoised samples. The predictor of second order is
    dpm_solver_2m's.
    """
    corrected, previous, before = memory
    kept, new, slope = _exponential_step(path)
    back, here = _corrector(path)
    first, last = _at(np.append(0.0, kept)[:-1], i), _at(np.append(0.0, new)[:-1], i)
    corrected = first * corrected + last * (
        previous + _at(back, i) * (before - previous) + _at(here, i) * (denoised - previous)
    )
    corrected = jnp.where(i == 0, x, corrected)
    x = _at(kept, i) * corrected + _at(new, i) * denoised + _at(new * slope, i) * (denoised - previous)
    return x, (corrected, denoised, previous)


def lcm(
    path: Path,
    i: Int[ArrayLike, ""],
    x: Float[ArrayLike, "*shape"],
    denoised: Float[ArrayLike, "*shape"],
    memory: Memory,
    noise: Float[ArrayLike, "*shape"] | None,
) -> tuple[Float[Array, "*shape"], Memory]:
    """Luo et al., Latent Consistency Models, algorithm 3: the clean sample, noised afresh to the next level.

    The clean sample is c_skip * x + c_out * denoised, whose weights make it x itself at timestep 0 (the boundary
    condition of Song et al., Consistency Models, appendix C, with sigma_data = 0.5 and timesteps times 10).
    """
    t = 10.0 * path.timesteps
    skip, out = 0.25 / (t**2 + 0.25), t / np.sqrt(t**2 + 0.25)
    clean = _at(skip, i) * x + _at(out, i) * denoised
    return _at(path.alphas[1:], i) * clean + _at(path.sigmas[1:], i) * noise, memory


def tcd(
    path: Path,
    i: Int[ArrayLike, ""],
    x: Float[ArrayLike, "*shape"],
    denoised: Float[ArrayLike, "*shape"],
    memory: Memory,
    noise: Float[ArrayLike, "*shape"] | None,
) -> tuple[Float[Array, "*shape"], Memory]:
    """Zheng et al., Trajectory Consistency Distillation, algorithm 4 (strategic stochastic sampling).

    A DDIM step goes to timestep (1 - eta) * t' and fresh noise leads back up to the next timestep t'. The last step
    ends at timestep 0, where the trajectories end that a student has learned, and not at alpha = 1.
    """
    following = np.append(path.timesteps[1:], 0)
    below = path.cumprod[np.floor((1.0 - path.eta) * following).astype(int)]
    up = path.cumprod[following] / below
    kept = np.sqrt(up * (1.0 - below)) / path.sigmas[:-1]
    x = _at(kept, i) * x + _at(np.sqrt(up * below) - kept * path.alphas[:-1], i) * denoised
    return (x if path.eta == 0 else x + _at(np.sqrt(1.0 - up), i) * noise), memory


def _exponential_step(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (N,) of the exponential integrator's step, of first order where the slope is 0.

    x' = kept * x + new * (denoised + slope * (denoised - previous)) with h = lambda' - lambda, kept = sigma'/sigma,
    new = alpha' * (1 - e^-h), slope = h / (2 * h_previous), 0 in the first and in the last step.
    """
    h = np.diff(path.log_snrs)
    kept = path.sigmas[1:] / path.sigmas[:-1]
    new = -path.alphas[1:] * np.expm1(-h)
    slope = np.zeros_like(h)
    if len(h) > 2:
        slope[1:-1] = h[1:-1] / (2.0 * h[:-2])
    return kept, new, slope


def _corrector(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """UniC's weights (N,) of (m_{i-2} - m_{i-1}) and (m_i - m_{i-1}); first order at i = 1, none at i = 0."""
    h = np.diff(path.log_snrs)
    back, here = np.zeros_like(h), np.zeros_like(h)
    here[1:] = 0.5
    for i in range(2, len(h)):
        # With r = (lambda_{i-2} - lambda_{i-1}) / h: a + c = b1 and r a + c = b2 (UniPC, equation 5 for B_2), where
        # `a / r` weighs the older difference. A first point of pure noise has r = -inf and drops out.
        r = -h[i - 2] / h[i - 1]
        phi2 = np.expm1(-h[i - 1]) / -h[i - 1] - 1.0
        phi3 = phi2 / -h[i - 1] - 0.5
        b1, b2 = phi2 / np.expm1(-h[i - 1]), 2.0 * phi3 / np.expm1(-h[i - 1])
        a = (b2 - b1) / (r - 1.0)
        back[i], here[i] = a / r, b1 - a
    return back, here


def _at(weights: np.ndarray, i: ArrayLike) -> jax.Array:
    return jnp.asarray(weights, jnp.float32)[i]


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A sampler.

    Attributes:
      step: its function.
      memory: how many arrays it remembers.
      takes_eta: whether `Path.eta` says how much fresh noise it adds.
      needs_noise: whether it adds fresh noise whatever `Path.eta` is.
    """

    step: Callable[..., tuple[jax.Array, Memory]]
    memory: int = 0
    takes_eta: bool = False
    needs_noise: bool = False

    def start(self, x: ArrayLike) -> Memory:
        """The memory of a run that begins at x."""
        return tuple(jnp.zeros_like(x) for _ in range(self.memory))


SAMPLERS = {
    "ddim": Sampler(ddim, takes_eta=True),
    "dpm_solver_2m": Sampler(dpm_solver_2m, memory=1),
    "unipc": Sampler(unipc, memory=3),
    "lcm": Sampler(lcm, needs_noise=True),
    "tcd": Sampler(tcd, takes_eta=True),
}
