"""The devices that JAX sees, and whether its kernels compute on them what they should."""

import glob
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from champ_jax.common.errors import InputError
from champ_jax.common.limits import size_text
from champ_jax.doctor.findings import OK, WARNING, Finding
from champ_jax.doctor.probing import Attempt, Probe, reason
from champ_jax.models.attention import KERNELS, SPLASH_BLOCK, attention, recommended_kernels

GROUP = "Devices and kernels"
_ENVIRONMENT = ("JAX_PLATFORMS", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION")
_NVIDIA, _TPU = ("/dev/nvidia[0-9]*", "/proc/driver/nvidia/version"), ("/dev/accel[0-9]*", "/dev/vfio/[0-9]*")
_TOLERANCE = {"float32": 0.02, "bfloat16": 0.05}  # tensor cores and TPUs round float32 to 10 bits and fewer


def try_devices() -> Probe:
    """Devices, then each kernel at a tiny shape on the first of them."""
    environment = [f"{name}={os.environ[name]}" for name in _ENVIRONMENT if name in os.environ]
    if environment:
        yield Finding(GROUP, "environment", OK, " ".join(environment))
    remedy = "unset JAX_PLATFORMS, or set it to cpu to do without an accelerator; end other programs that hold it"
    yield Attempt(GROUP, "devices", remedy, needed=True)
    devices = jax.local_devices()
    yield Finding(GROUP, "devices", OK, f"{len(devices)} by JAX {jax.__version__}: {_listed(devices)}")
    yield from _unseen(devices[0].platform)
    first = devices[0]
    best = recommended_kernels(first.platform, getattr(first, "compute_capability", None))
    recommended = {*best.spatial} if isinstance(best.spatial, tuple) else {best.spatial}
    for kernel in KERNELS:
        yield from _try_attention(kernel, first.platform, kernel in recommended)
    for dtype in _TOLERANCE:
        yield from _try_convolution(dtype)


def _listed(devices: list[jax.Device]) -> str:
    kinds: dict[str, int] = {}
    for device in devices:
        memory = (device.memory_stats() or {}).get("bytes_limit") if device.platform != "cpu" else None
        kind = f"{device.platform} ({device.device_kind}{f', {size_text(memory)}' if memory else ''})"
        kinds[kind] = kinds.get(kind, 0) + 1
    return ", ".join(f"{count} x {kind}" if count > 1 else kind for kind, count in kinds.items())


def _unseen(platform: str) -> Probe:
    """An accelerator of the machine that JAX does not use."""
    if platform != "cpu" or os.environ.get("JAX_PLATFORMS") == "cpu":
        return
    for name, patterns, extra in (("NVIDIA GPU", _NVIDIA, "cuda"), ("TPU", _TPU, "tpu")):
        if any(glob.glob(pattern) for pattern in patterns):
            value = f"this machine seems to have one, JAX does not use it{_driver() if extra == 'cuda' else ''}"
            remedy = f"pip install 'champ_jax[{extra}]', and see that the driver and the container give access to it"
            yield Finding(GROUP, name, WARNING, value, remedy)


def _driver() -> str:
    try:
        return f" (driver: {Path(_NVIDIA[1]).read_text().splitlines()[0][:80]})"
    except (OSError, IndexError, UnicodeDecodeError):
        return ""


def _try_attention(kernel: str, platform: str, recommended: bool) -> Probe:
    """softmax(q k^T / sqrt(d)) v, against NumPy."""
    name = f"attention '{kernel}'"
    remedy = (
        "the CPU's basic kernel is broken: install jax and jaxlib again"
        if kernel == "xla"
        else f"update the driver and pip install --upgrade 'champ_jax[{'tpu' if kernel == 'splash' else 'cuda'}]'"
    )
    attempt = Attempt(GROUP, name, remedy, needed=recommended)
    yield attempt
    shape = (1, SPLASH_BLOCK, 2, 128 if kernel == "splash" else 40)
    q, k, v = (np.random.default_rng(seed).standard_normal(shape).astype(np.float32) for seed in range(3))
    scores = np.einsum("nqhd,nkhd->nhqk", q, k) / shape[-1] ** 0.5
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = np.einsum("nhqk,nkhd->nqhd", weights / weights.sum(-1, keepdims=True), v)
    dtype = "float32" if platform == "cpu" else "bfloat16"
    try:
        run = jax.jit(lambda q, k, v: attention(q, k, v, kernel=kernel))
        found = run(*(jnp.asarray(array, dtype) for array in (q, k, v)))
    except InputError as error:  # it is of another platform
        why = reason(error).removeprefix(f"attention kernel {kernel!r} ").removesuffix(": choose 'xla'")
        yield Finding(GROUP, name, OK, f"not for this device: {why}")
        return
    yield _compared(attempt, found, expected, dtype, "recommended here" if recommended else "works")


def _try_convolution(dtype: str) -> Probe:
    """A 3 x 3 convolution as the networks have it, against NumPy."""
    attempt = Attempt(GROUP, f"convolution {dtype}", "install jax and jaxlib again; update the driver", needed=True)
    yield attempt
    generator = np.random.default_rng(0)
    image, kernel = (generator.standard_normal(shape).astype(np.float32) for shape in ((1, 8, 8, 4), (3, 3, 4, 8)))
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = sum(padded[:, y : y + 8, x : x + 8] @ kernel[y, x] for y in range(3) for x in range(3))
    dimensions = ("NHWC", "HWIO", "NHWC")
    run = jax.jit(
        lambda image, kernel: jax.lax.conv_general_dilated(image, kernel, (1, 1), "SAME", None, None, dimensions)
    )
    found = run(jnp.asarray(image, dtype), jnp.asarray(kernel, dtype))
    yield _compared(attempt, found, expected, dtype, "works")


def _compared(attempt: Attempt, found: jax.Array, expected: np.ndarray, dtype: str, good: str) -> Finding:
    array = np.asarray(found, np.float32)
    error = float(np.abs(array - expected).max() / np.abs(expected).max()) if array.shape == expected.shape else np.inf
    if not error <= _TOLERANCE[dtype]:
        return attempt.failed(f"computes something else: off by {100 * error:.3g}% of the largest value")
    return Finding(attempt.group, attempt.name, OK, f"{good}, {dtype} within {100 * error:.1g}%")
