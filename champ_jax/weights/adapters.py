"""Low-rank adapters (Hu et al. 2021): as training holds them, as PyTorch's files do, and what they add to a tensor.

Training holds two arrays beside a kernel: NAME.lora_down, shaped as NAME.kernel with `rank` outputs, (..., in, rank),
and NAME.lora_up, (rank, out). The kernel is NAME.kernel + lora_down @ lora_up: alpha is the rank.
"""

import numpy as np

from champ_jax.weights.flat import Flat, path_of
from champ_jax.weights.names import TensorName, tensor_name

KERNEL, DOWN, UP = ".kernel", ".lora_down", ".lora_up"


def adapter_shapes(kernel: str, shape: tuple[int, ...], rank: int) -> dict[str, tuple[int, ...]]:
    """{name: shape} of the two arrays of the adapter of a kernel, the one on the input's side first."""
    base = kernel.removesuffix(KERNEL)
    return {base + DOWN: (*shape[:-1], rank), base + UP: (rank, shape[-1])}


def adapted_kernels(arrays: Flat) -> list[str]:
    """The names of the kernels that arrays hold adapters of."""
    return [name.removesuffix(DOWN) + KERNEL for name in arrays if name.endswith(DOWN)]


def torch_factors(kernel: str, arrays: Flat) -> tuple[np.ndarray, np.ndarray]:
    """(down, up) of a kernel's adapter as PyTorch's files hold them.

    They are (rank, in) and (out, rank), or (rank, in, height, width) and (out, rank, 1, 1) of a convolution.
    """
    base, path = kernel.removesuffix(KERNEL), path_of(kernel)
    down, up = np.asarray(arrays[base + DOWN]), np.ascontiguousarray(np.asarray(arrays[base + UP]).T)
    held = tensor_name(path, down.shape)
    return held.to_torch(down), up.reshape(*up.shape, *[1] * (len(held.shape) - 2))


def product(name: TensorName, down: np.ndarray, up: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """factor * up @ down, float32, as Flax holds the tensor `name`; the factors are as PyTorch's files hold them."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = up.reshape(up.shape[:2]) @ down.reshape(len(down), -1) * np.float32(factor)
    return name.to_flax(found.reshape(len(up), *down.shape[1:]))


def fuse(arrays: Flat) -> Flat:
    """The arrays with every adapter added to its kernel, in float32, and none left."""
    fused = {name: array for name, array in arrays.items() if not name.endswith((DOWN, UP))}
    for kernel in adapted_kernels(arrays):
        name = tensor_name(path_of(kernel), tuple(fused[kernel].shape))
        fused[kernel] = fused[kernel].astype(np.float32) + product(name, *torch_factors(kernel, arrays))
    return fused
