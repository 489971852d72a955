"""Batches for training, read with grain. A batch is a function of the dataset, the settings, the seed and its number.

Training samples are numbered 0, 1, 2, ... without end. Batch k of B samples holds samples kB ... kB + B - 1, for any
number of processes, workers and restarts. Sample n is of video n mod V in the order that the seed and the epoch n div V
give, and draws its frames and its window from the seed and n.

A batch is a dict of numpy arrays, F = 1 in stage 1:
    pixels      (B, F, H, W, 3) uint8  target frames
    reference   (B, H, W, 3) uint8
    clip_pixels (B, 224, 224, 3) uint8  the reference as CLIP sees it in training: shortest edge 224, center crop
    conditions  {name: (B, F, H, W, 3) uint8}, the semantic map black outside of the mask
    names       B texts that name a sample in messages: 'video reference 0012 frames 0045 ... 0137'
With cached=True the frozen networks' outputs replace the first three:
    latents_mean, latents_std     (B, F, h, w, 4) float32, the posterior of the target frames, not scaled
    reference_mean, reference_std (B, h, w, 4) float32
    embedding                     (B, D) float32; clip_pixels in its place with cached_embeddings=False
Pictures stay uint8; the jitted step normalizes them on the device.
"""

import functools
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from absl import flags
from PIL import Image

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.common.parallel import end_with_parent
from champ_jax.data.dataset import Dataset, FolderDataset, decode, open_dataset, person_box, text_field
from champ_jax.data.framing import Framing, Window, clip_picture
from champ_jax.data.latents import LatentReader
from champ_jax.data.recoloring import draw_recoloring, recolor
from champ_jax.data.sampling import clip_stride, pick_clip, pick_pair

Batch = dict[str, Any]

_ENDLESS = 2**48  # samples; grain requires a length
PICTURE_FILTER, CONDITION_FILTER = Image.Resampling.LANCZOS, Image.Resampling.BICUBIC  # those of inference


def make_stage1(path: str | os.PathLike, *, margin: int = 30, **options: Any) -> "Batches":
    """Batches of stage 1: a reference frame, one target frame, the target's conditions.

    Args:
      path: a dataset's folder, or a folder of videos (slower to open and to read).
      margin: least distance of reference and target in frames (`sampling.pick_pair`).
      options: Options of `make_batches`.
    """
    if margin < 0:
        raise InputError(f"margin={margin}: must be 0 or more frames")
    return make_batches(path, PairSampler(margin), **options)


def make_stage2(path: str | os.PathLike, *, frames: int = 24, stride: int = 4, **options: Any) -> "Batches":
    """Batches of stage 2: a reference frame, a clip, the clip's conditions.

    A video shorter than the clip's span is taken at the largest stride that fits; videos of fewer than `frames` frames
    are left out with a warning.

    Args:
      path: a dataset's folder, or a folder of videos (slower to open and to read).
      frames: length of the clip.
      stride: distance of its frames in the video.
      options: Options of `make_batches`.
    """
    if frames < 1 or stride < 1:
        raise InputError(f"frames={frames}, stride={stride}: must be 1 or more")
    return make_batches(path, ClipSampler(frames, stride), **options)


def make_batches(
    path: str | os.PathLike,
    sampler: "PairSampler | ClipSampler",
    *,
    seed: int,
    batch_size: int,
    image_size: tuple[int, int],
    conditions: Sequence[str] = CONDITIONS,
    crop: str = "random",
    resize: str = "cover",
    area: tuple[float, float] = (0.9, 1.0),
    box_scale: tuple[float, float] = (0.8, 1.2),
    recolored: float = 0.0,
    rows: Sequence[int] | None = None,
    workers: int = 0,
    read_ahead: int = 2,
    cached: bool = False,
    cached_embeddings: bool = True,
) -> "Batches":
    """An endless iterator over batches.

    Args:
      path: a dataset's folder, or a folder of videos (slower to open and to read).
      sampler: picks the frames of a sample.
      seed: The seed of everything random.
      batch_size: samples of a batch over all processes.
      image_size: (width, height) of the pictures.
      conditions: which ones to read.
      crop, resize, area, box_scale: how pictures become that size (`framing.Framing`).
      recolored: share of the samples whose pictures get other colors, the same for reference and targets
        (`recoloring.draw_recoloring`).
      rows: rows of each batch that this process makes, in ascending order; None: all of them. A sample depends on its
        number and the seed only, so processes that share the rows make the batches that one process would.
      workers: processes that read and decode; 0 uses threads of this process. A program with workers must guard its
        main module (`if __name__ == "__main__"`).
      read_ahead: batches that each worker makes ahead; 0 makes a batch when it is asked for (without workers).
      cached: whether to give the latents and embeddings that `tools/build_dataset.py --cache_latents` computed.
      cached_embeddings: with `cached`, whether to give the embedding (True) or the picture that CLIP sees (False).

    Raises:
      InputError: there is no dataset, it lacks a condition or the cache, no video is long enough, or settings
        contradict each other.
    """
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: must be 1 or more")
    if not 0 <= seed < 2**32:
        raise InputError(f"seed={seed}: must be in 0 ... 2**32 - 1")
    if workers < 0 or read_ahead < 0:
        raise InputError(f"workers={workers}, read_ahead={read_ahead}: must be 0 or more")
    if recolored and cached:
        raise InputError(
            f"recolored={recolored}: cached latents have the colors they were made of; choose recolored=0 or "
            "cached=False"
        )
    dataset = open_dataset(path, conditions)
    framing = Framing(tuple(image_size), crop, resize, tuple(area), tuple(box_scale))
    loader = Loader(dataset, sampler, framing, tuple(conditions), seed, cached, cached_embeddings, recolored)
    return Batches(
        loader,
        batch_size=batch_size,
        rows=range(batch_size) if rows is None else rows,
        workers=workers,
        read_ahead=read_ahead,
    )


@dataclass(frozen=True)
class PairSampler:
    """Stage 1: one target frame."""

    margin: int

    def fits(self, frames: int) -> bool:
        return frames >= 1

    def pick(self, frames: int, rng: np.random.Generator) -> tuple[int, list[int]]:
        """The reference and the target frames."""
        reference, target = pick_pair(frames, self.margin, rng)
        return reference, [target]


@dataclass(frozen=True)
class ClipSampler:
    """Stage 2: a clip of target frames."""

    frames: int
    stride: int

    def fits(self, frames: int) -> bool:
        return clip_stride(frames, self.frames, self.stride) > 0

    def pick(self, frames: int, rng: np.random.Generator) -> tuple[int, list[int]]:
        """The reference and the target frames."""
        return pick_clip(frames, self.frames, self.stride, rng)


class Loader:
    """Makes sample n from n alone. It is sent to the workers."""

    def __init__(
        self,
        dataset: Dataset | FolderDataset,
        sampler: PairSampler | ClipSampler,
        framing: Framing,
        conditions: tuple[str, ...],
        seed: int,
        cached: bool,
        cached_embeddings: bool = True,
        recolored: float = 0.0,
    ):
        for name in conditions:
            if name not in dataset.kinds or name in ("images", "mask"):
                there = ", ".join(kind for kind in dataset.kinds if kind not in ("images", "mask"))
                raise InputError(f"{dataset.path}: has no condition {name!r}; it has {there}")
        self._usable = np.array([i for i, video in enumerate(dataset.videos) if sampler.fits(video.frames)])
        left_out = len(dataset) - len(self._usable)
        if not len(self._usable):
            longest = max(video.frames for video in dataset.videos)
            raise InputError(
                f"{dataset.path}: no video is long enough for a clip of {sampler.frames} frames, "
                f"the longest has {longest}; ask for shorter clips"
            )
        if left_out:
            warnings.warn(
                f"{dataset.path}: {left_out} of {len(dataset)} videos have fewer than {sampler.frames} frames "
                "and are left out",
                stacklevel=4,
            )
        self.dataset, self.seed = dataset, seed
        self._sampler, self._framing, self._conditions = sampler, framing, conditions
        self._latents = LatentReader(dataset, framing) if cached else None
        self._cached_embeddings, self._recolored = cached_embeddings, recolored

    def __call__(self, number: int) -> Batch:
        epoch, place = divmod(number, len(self._usable))
        video = int(self._usable[_order(self.seed, epoch, len(self._usable))[place]])
        rng = np.random.default_rng((self.seed, number))
        reference, targets = self._sampler.pick(self.dataset.videos[video].frames, rng)
        draws = self._framing.draw(rng)
        first, *records = (self.dataset.record(video, frame) for frame in (reference, *targets))
        size = self.dataset.videos[video].size
        # One window for the whole clip, so that the camera does not move.
        window = self._framing.window(size, draws, _mean_box(records))
        if self._latents is None:
            picture = decode(first, ["images"], size)["images"]
            own_window = self._framing.window(size, draws, person_box(first))
            sample = {
                "reference": self._framing.apply(picture, own_window, PICTURE_FILTER),
                "clip_pixels": clip_picture(picture, own_window),
            }
            rows = [self._frame(record, size, window, ("images", *self._conditions)) for record in records]
            sample["pixels"] = np.stack([row.pop("images") for row in rows])
            # Numbers of its own: which frames are drawn does not depend on it.
            colors = np.random.default_rng((self.seed, number, 3))
            if colors.random() < self._recolored:
                matrix = draw_recoloring(colors)
                sample = {name: recolor(pictures, matrix) for name, pictures in sample.items()}
        else:
            sample = _cached(self._latents, video, reference, targets)
            if not self._cached_embeddings:
                del sample["embedding"]
                picture = decode(first, ["images"], size)["images"]
                sample["clip_pixels"] = clip_picture(picture, self._framing.window(size, draws))
            rows = [self._frame(record, size, window, self._conditions) for record in records]
        sample["conditions"] = {name: np.stack([row[name] for row in rows]) for name in self._conditions}
        ends = dict.fromkeys(text_field(record, "frame") for record in (records[0], records[-1]))
        name, start = text_field(first, "video"), text_field(first, "frame")
        sample["names"] = f"{name} reference {start} frames {' ... '.join(ends)}"
        return sample

    def _frame(
        self, record: Mapping[str, Any], size: tuple[int, int], window: Window, kinds: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """{kind: (height, width, 3) uint8} of a record whose pictures have `size`."""
        frame = {}
        for kind, picture in decode(record, kinds, size).items():
            framed = self._framing.apply(picture, window, PICTURE_FILTER if kind == "images" else CONDITION_FILTER)
            frame[kind] = framed if framed.ndim == 3 else np.broadcast_to(framed[..., None], (*framed.shape, 3))
        return frame


def _mean_box(records: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    boxes = [box for box in map(person_box, records) if box is not None]
    return np.mean(boxes, axis=0) if boxes else None


def _cached(latents: LatentReader, video: int, reference: int, targets: Sequence[int]) -> Batch:
    first, *rows = (latents.record(video, frame) for frame in (reference, *targets))
    return {
        "latents_mean": np.stack([row["mean"] for row in rows]),
        "latents_std": np.stack([row["std"] for row in rows]),
        "reference_mean": first["mean"],
        "reference_std": first["std"],
        "embedding": first["embedding"],
    }


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, videos: int) -> np.ndarray:
    """The order of the videos in an epoch, a permutation of 0 ... videos - 1."""
    return np.random.default_rng((seed, epoch, 1)).permutation(videos)


def collate(samples: Sequence[Batch]) -> Batch:
    """Stacks samples along a new first axis; texts become a list."""
    first = samples[0]
    if isinstance(first, Mapping):
        return {name: collate([sample[name] for sample in samples]) for name in first}
    return list(samples) if isinstance(first, str) else np.stack(samples)


class _Numbers:
    """The numbers of the samples that a process loads, in order, from sample `start` on."""

    def __init__(self, start: int, batch_size: int, rows: Sequence[int]):
        self._start, self._batch_size, self._rows = start, batch_size, rows

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, position: int) -> int:
        batch, place = divmod(position, len(self._rows))
        return self._start + batch * self._batch_size + int(self._rows[place])


class Batches(grain.DatasetIterator):
    """An endless iterator over batches. Its state is one number, so other workers or processes can continue from it.

    `close()` ends the workers.
    """

    def __init__(
        self, load: Callable[[int], Batch], *, batch_size: int, rows: Sequence[int], workers: int, read_ahead: int
    ):
        super().__init__()
        self._load, self._batch_size, self._rows = load, batch_size, rows
        self._workers, self._read_ahead = workers, read_ahead
        self._next = 0
        self._iterator: grain.DatasetIterator | None = None

    def __next__(self) -> Batch:
        self._assert_not_closed()
        self.start_prefetch()
        batch = next(self._iterator)
        self._next += self._batch_size
        return batch

    def start_prefetch(self) -> None:
        """Starts making batches before the first one is asked for."""
        if self._iterator is None:
            self._iterator = iter(self._dataset())
            self._iterator.start_prefetch()

    def get_state(self) -> dict[str, Any]:
        """The state that `set_state` continues from, as a dict that JSON can hold."""
        return {"next_sample": self._next, "seed": self._load.seed, "dataset": self._load.dataset.fingerprint}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues from a state of `get_state`, also one of another program.

        Raises:
          InputError: the state has another seed, or is none.

        Warns:
          UserWarning: the dataset has changed since, so the samples to come differ.
        """
        try:
            seed, dataset, next_sample = state["seed"], state["dataset"], int(state["next_sample"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self._load.dataset.path}: the saved position in it is damaged ({error!r})") from error
        if seed != self._load.seed:
            raise InputError(f"seed={self._load.seed}: the run was started with {seed}; resume it with that")
        if dataset != self._load.dataset.fingerprint:
            warnings.warn(
                f"{self._load.dataset.path}: the dataset has changed since the run was saved; the coming batches "
                "differ from those of an uninterrupted run",
                stacklevel=2,
            )
        self._drop()
        self._next = next_sample

    def close(self) -> None:
        self._drop()
        super().close()

    def _drop(self) -> None:
        if getattr(self, "_iterator", None) is not None:
            self._iterator.close()
            self._iterator = None

    def _dataset(self) -> grain.IterDataset:
        numbers = _Numbers(self._next, self._batch_size, self._rows)
        batches = grain.MapDataset.source(numbers).map(self._load)
        batches = batches.batch(len(self._rows), batch_fn=collate)
        threads = 0 if self._workers else self._read_ahead
        batches = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
        if not self._workers:
            return batches
        if not flags.FLAGS.is_parsed():  # grain asks absl for its flags, which only absl's own programs parse
            flags.FLAGS.mark_as_parsed()
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=max(self._read_ahead, 1)),
            worker_init_fn=functools.partial(_start_worker, os.getpid()),
        )
        # Batches arrive in shared memory, which is scarce and must not be held when the program ends.
        return grain.experimental.ThreadPrefetchIterDataset(batches.map(_copy), prefetch_buffer_size=1)


def _start_worker(parent: int, index: int, count: int) -> None:
    end_with_parent(parent)


def _copy(batch: Batch) -> Batch:
    """The batch in this process's own memory."""
    if isinstance(batch, Mapping):
        return {name: _copy(value) for name, value in batch.items()}
    return np.array(batch) if isinstance(batch, np.ndarray) else batch
