"""Features of every 16-frame window at stride 1 of a video that is read once, frame after frame."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from champ_jax.evaluation.devices import LocalDevices, pad_batch
from champ_jax.evaluation.networks import i3d, resnet3d
from champ_jax.evaluation.resize import bicubic

LENGTH = resnet3d.LENGTH

_MEAN_COLOR = (114.7748, 107.7354, 99.4750)  # mean of Kinetics, RGB, as the 3D ResNet was trained with


@jax.jit
def resnet3d_frames(frames: jax.Array) -> jax.Array:
    """uint8 (B, H, W, 3) -> what the 3D ResNet reads, (B, 112, 112, 3)."""
    return bicubic(frames, resnet3d.SIZE, resnet3d.SIZE) - np.float32(_MEAN_COLOR)


@jax.jit
def i3d_frames(frames: jax.Array) -> jax.Array:
    """uint8 (B, H, W, 3) -> what I3D reads, (B, 224, 224, 3)."""
    return bicubic(frames, i3d.SIZE, i3d.SIZE) / 127.5 - 1


def resnet3d_windows(model: resnet3d.ResNet3D, frames: jax.Array) -> jax.Array:
    """(1, K + 15, 112, 112, 3) -> (K, 2048)."""
    return model.of_windows(frames[0])


def i3d_windows(model: i3d.I3D, frames: jax.Array) -> jax.Array:
    """(1, K + 15, 224, 224, 3) -> (K, 400)."""
    frames = frames[0]
    starts = range(frames.shape[0] - LENGTH + 1)
    return model(jax.numpy.stack([frames[start : start + LENGTH] for start in starts]))


@dataclasses.dataclass(frozen=True)
class ClipNetwork:
    """How a network looks at clips.

    Attributes:
      prepare: uint8 frames -> what it reads.
      windows: (model, chunk of frames) -> features of the chunk's windows.
      at_once: windows taken together, on a CPU and on an accelerator: enough to fill it, few enough that short videos
        waste little.
    """

    prepare: Callable[[jax.Array], jax.Array]
    windows: Callable[..., jax.Array]
    at_once: tuple[int, int]


NETWORKS = {
    "resnet3d": ClipNetwork(resnet3d_frames, resnet3d_windows, (8, 64)),
    "i3d": ClipNetwork(i3d_frames, i3d_windows, (2, 16)),
}


class ClipFeatures:
    """Collects the features of one video.

    Args:
      compiled: features of D chunks of frames, (D, K + 15, h, w, 3) -> (D * K, d).
      devices: D of them.
      windows: K.
    """

    def __init__(self, compiled: Callable[[np.ndarray], jax.Array], devices: LocalDevices, windows: int):
        self._compiled = compiled
        self._count, self._windows = devices.count, windows
        self._frames: list[np.ndarray] = []

    def add(self, frames: np.ndarray) -> list[np.ndarray]:
        """Takes further prepared frames (B, h, w, 3); returns the features (n, d) that became ready."""
        self._frames.extend(frames)
        ready, step = [], self._count * self._windows
        while len(self._frames) >= step + LENGTH - 1:
            ready.append(self._features(np.stack(self._frames[: step + LENGTH - 1])))
            del self._frames[:step]
        return ready

    def finish(self) -> list[np.ndarray]:
        """The features of the windows that are left; none of a video shorter than a window."""
        left = len(self._frames) - LENGTH + 1
        if left < 1:
            return []
        frames = pad_batch(np.stack(self._frames), self._count * self._windows + LENGTH - 1)
        self._frames = []
        return [self._features(frames)[:left]]

    def _features(self, frames: np.ndarray) -> np.ndarray:
        starts = range(0, self._count * self._windows, self._windows)
        chunks = np.stack([frames[start : start + self._windows + LENGTH - 1] for start in starts])
        return np.asarray(self._compiled(chunks))
