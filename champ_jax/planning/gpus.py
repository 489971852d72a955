"""GPUs that programs are compiled for without one: their numbers, and the device that stands for them.

`champ_jax/assets/gpus/NAME.json` has the numbers of a GPU and where they are from. A program compiled for a described
device is the one that a real device would get, but for what is chosen by trying: no convolution and no product has been
tuned, and none has its workspace.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax

from champ_jax.common.errors import InputError, first_line
from champ_jax.common.files import read_json

FOLDER = Path(__file__).parents[1] / "assets" / "gpus"

# Of the peaks on paper, what long products and copies reach on such GPUs. A roofline of peaks that nobody reaches would
# call every program slow.
ATTAINED_FLOPS, ATTAINED_BANDWIDTH = 0.7, 0.9
_CUDNN, _CUDA = "9.10.0", "12.8.0"  # what the compiler may take to be installed


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Attributes:
      name: The full name.
      source: where the numbers are from.
      compute_capability: NVIDIA's version of its instructions, as '9.0'.
      accelerated: whether instructions of that version alone may be used ('9.0a').
      cores: streaming multiprocessors.
      fpus_per_core: float32 units of one.
      threads_per_core: threads that one holds.
      shared_memory_per_core: bytes.
      shared_memory_per_block: bytes that a block may ask for.
      l2: bytes of the cache.
      clock_ghz: at boost.
      memory: bytes.
      bandwidth: bytes a second of the memory, at peak.
      flops: FLOPs a second of dense bfloat16 products accumulated in float32, at peak.
    """

    name: str
    source: str
    compute_capability: str
    accelerated: bool
    cores: int
    fpus_per_core: int
    threads_per_core: int
    shared_memory_per_core: int
    shared_memory_per_block: int
    l2: int
    clock_ghz: float
    memory: int
    bandwidth: int
    flops: float

    @classmethod
    def load(cls, name: str) -> "Gpu":
        """One of `GPUS`; raises InputError for another name."""
        if name not in GPUS:
            raise InputError(f"--gpu={name}: unknown; choose {', '.join(GPUS)}")
        return cls(**read_json(FOLDER / f"{name}.json"))

    def seconds(self, flops: float, moved: float) -> float:
        """The roofline: no less than computing or moving takes at the attained shares of the peaks."""
        return max(flops / (ATTAINED_FLOPS * self.flops), moved / (ATTAINED_BANDWIDTH * self.bandwidth))

    def target_config(self) -> str:
        """XLA's description of the device: text of GpuTargetConfigProto (stream_executor/device_description.proto)."""
        major, minor = self.compute_capability.split(".")
        info = {
            "threads_per_block_limit": 1024,
            "threads_per_warp": 32,
            "shared_memory_per_block": 49152,
            "shared_memory_per_core": self.shared_memory_per_core,
            "shared_memory_per_block_optin": self.shared_memory_per_block,
            "threads_per_core_limit": self.threads_per_core,
            "core_count": self.cores,
            "fpus_per_core": self.fpus_per_core,
            "block_dim_limit_x": 2**31 - 1,
            "block_dim_limit_y": 65535,
            "block_dim_limit_z": 65535,
            "thread_dim_limit_x": 1024,
            "thread_dim_limit_y": 1024,
            "thread_dim_limit_z": 64,
            "registers_per_core_limit": 65536,
            "registers_per_block_limit": 65536,
            "memory_bandwidth": self.bandwidth,
            "l2_cache_size": self.l2,
            "clock_rate_ghz": self.clock_ghz,
            "device_memory_size": self.memory,
            "device_address_bits": 64,
        }
        texts = {
            "name": self.name,
            "device_vendor": "NVIDIA Corporation",
            "driver_version": "13.0.0",
            "runtime_version": _CUDA,
            "compile_time_toolkit_version": _CUDA,
            "dnn_version": _CUDNN,
        }
        lines = [f"  {name}: {value}" for name, value in info.items()]
        lines += [f'  {name}: "{value}"' for name, value in texts.items()]
        extension = "ACCELERATED_FEATURES" if self.accelerated else "NONE"
        lines.append(f"  cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: {extension} }}")
        versions = {
            key: " ".join(f"{part}: {number}" for part, number in zip(("major", "minor", "patch"), text.split(".")))
            for key, text in (("dnn_version_info", _CUDNN), ("runtime_version", _CUDA))
        }
        return "\n".join(
            [
                "gpu_device_info {",
                *lines,
                "}",
                'platform_name: "CUDA"',
                *(f"{key} {{ {value} }}" for key, value in versions.items()),
                f'device_description_str: "{self.name}"',
            ]
        )

    def device(self) -> jax.Device:
        """The device that stands for it, to lower and compile for.

        JAX's fused attention asks the GPU that is present for its compute capability; from here on it is told this
        one's. Call it in a process that computes nothing.

        Raises:
          InputError: JAX has no CUDA plugin.
        """
        from jax.experimental import topologies

        try:
            topology = topologies.get_topology_desc(
                platform="cuda", target_config=self.target_config(), topology="1x1x1"
            )
        except Exception as error:  # of many kinds
            raise InputError(
                f"a {self.name} cannot be described ({first_line(error)}); JAX's CUDA plugin must be installed, which "
                "needs no GPU: pip install 'champ_jax[cuda]'"
            ) from error
        _answer_for(self.compute_capability)
        return topology.devices[0]


GPUS = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def _answer_for(compute_capability: str) -> None:
    """Has the checks of JAX's cuDNN attention see this capability in place of that of the GPU that is present."""
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    def version(text: Any) -> tuple[int, ...]:
        return tuple(int(part) for part in str(text).split("."))

    own = version(compute_capability)
    checks = {
        "check_compute_capability": lambda least: own >= version(least),
        "is_cuda_compute_capability_equal": lambda other: own == version(other),
    }
    for name, check in checks.items():
        known = getattr(cudnn, name, None)
        if known is None:
            raise InputError(
                f"jax {jax.__version__} has no {name} where its cuDNN attention is; install the version of setup.py"
            )
        setattr(cudnn, name, functools.wraps(known)(check))
