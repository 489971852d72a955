"""How fast a run goes: samples a second, model FLOP utilization, memory."""

import resource
import time
from collections import deque

import jax
from ml_collections import ConfigDict

from champ_jax.models.network_flops import training_sample_flops
from champ_jax.training.parameters import Network

# Dense bf16 TFLOP/s of one device, by the beginning of jax's device_kind (makers' data sheets).
PEAK_TFLOPS = (
    ("NVIDIA H200", 989.0),
    ("NVIDIA H100 PCIe", 756.0),
    ("NVIDIA H100", 989.0),
    ("NVIDIA A100", 312.0),
    ("NVIDIA L40S", 362.0),
    ("TPU v4", 275.0),
    ("TPU v5 lite", 197.0),
    ("TPU v5e", 197.0),
    ("TPU v5p", 459.0),
    ("TPU v5", 459.0),
    ("TPU v6", 918.0),
)


def peak_flops(device: jax.Device) -> float | None:
    """Dense bf16 FLOP/s of a device; None for one that is not in PEAK_TFLOPS (a CPU)."""
    for kind, tflops in PEAK_TFLOPS:
        if device.device_kind.startswith(kind):
            return tflops * 1e12
    return None


def useful_flops(config: ConfigDict, network: Network) -> int:
    """FLOPs of a step over all devices, counted from the traced networks; without recomputation."""
    width, height = (side // network.config.vae.downscale for side in config.data.image_size)
    frames = config.data.frames if config.stage == 2 else 1
    sample = training_sample_flops(network.config, height, width, frames=frames, trained=network.differentiated)
    return config.data.batch_size * sample


def memory_in_use() -> int:
    """Most bytes in use so far: of the fullest local device, or of this process where the devices don't count them."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    counted = [each["peak_bytes_in_use"] for each in stats if each and "peak_bytes_in_use" in each]
    return max(counted) if counted else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Meter:
    """Seconds a step, from the times at which steps were seen to be done."""

    def __init__(self, samples: int, flops: float, window: int = 20):
        """Args: `samples` and useful `flops` of a step, over all devices; `window` steps make the average."""
        self._samples, self._flops = samples, flops
        self._seconds: deque[float] = deque(maxlen=window)
        self._last = time.monotonic()

    def restart(self) -> None:
        """Leaves the time since the last step out (validation, a checkpoint)."""
        self._last = time.monotonic()

    def lap(self) -> dict[str, float]:
        """A step is done: seconds, samples a second, and over the last steps MFU where the device is known."""
        now = time.monotonic()
        seconds, self._last = max(now - self._last, 1e-9), now
        self._seconds.append(seconds)
        rates = {"seconds": seconds, "samples_per_second": self._samples / seconds}
        peak = peak_flops(jax.devices()[0])
        if peak is not None:
            mean = sum(self._seconds) / len(self._seconds)
            rates["mfu"] = self._flops / mean / (peak * jax.device_count())
        return rates
