"""The choice of the frames of a training sample: pure functions of a video's length and a random generator."""

import numpy as np


def pick_pair(frames: int, margin: int, rng: np.random.Generator) -> tuple[int, int]:
    """The reference and the target frame of a stage-1 sample.

    The target is uniform among the frames that have a frame at least `margin` away, the reference uniform among those.
    A video of `margin` frames or fewer uses half its length as the margin.

    Args:
      frames: length of the video, at least 1.
      margin: least distance in frames.
      rng: source of the random numbers.

    Returns:
      (reference, target), positions 0 ... frames - 1.
    """
    if margin >= frames:
        margin = frames // 2
    positions = np.arange(frames)
    targets = positions[(positions >= margin) | (positions + margin < frames)]
    target = int(rng.choice(targets))
    references = positions[np.abs(positions - target) >= margin]
    return int(rng.choice(references)), target


def clip_stride(frames: int, length: int, stride: int) -> int:
    """The stride at which a clip of `length` frames is taken: `stride`, or the largest smaller one that fits the video.

    Returns 0 if the video has fewer than `length` frames.
    """
    if frames < length:
        return 0
    return stride if length == 1 else min(stride, (frames - 1) // (length - 1))


def pick_clip(frames: int, length: int, stride: int, rng: np.random.Generator) -> tuple[int, list[int]]:
    """The reference frame and the clip of a stage-2 sample.

    Args:
      frames: length of the video, at least `length`.
      length: frames of the clip.
      stride: distance between them, made smaller for a video too short (`clip_stride`).
      rng: source of the random numbers.

    Returns:
      (reference, clip): any frame of the video, and `length` positions an equal stride apart.
    """
    stride = clip_stride(frames, length, stride)
    start = int(rng.integers(frames - (length - 1) * stride))
    return int(rng.integers(frames)), list(range(start, start + (length - 1) * stride + 1, stride))
