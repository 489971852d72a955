"""The latent cache: the frozen networks' outputs for every frame of a dataset, so that training need not run them.

    DATASET/latents_512x512_center_cover/part-00000/1.0.0/...   beside the part of the same name in DATASET/videos

A record holds the VAE's posterior of a frame (mean and deviation, not scaled) and its CLIP embedding, for one picture
size and one fixed window. The part's listing keeps the sha256 of the networks; outputs of different ones are not mixed.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from champ_jax.common.errors import InputError
from champ_jax.common.limits import require_space
from champ_jax.data.dataset import Dataset, FolderDataset, decode, text_field
from champ_jax.data.framing import Framing, clip_picture
from champ_jax.data.records import VIDEOS, FrameBuilder, Listing, hold_dataset, list_parts, open_part, write_part

_MAKE_AGAIN = "remove the folder and make it again"


@dataclass(frozen=True)
class Encoder:
    """The frozen networks.

    Attributes:
      encode: (pictures (B, H, W, 3) uint8, CLIP's pictures (B, 224, 224, 3) uint8) -> {'mean' and 'std' (B, h, w, C),
        'embedding' (B, D)} float32.
      networks: sha256 of their weights and dtype.
      downscale: factor between the sizes of a picture and its latents.
      devices: number that B must be a multiple of.
    """

    encode: Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]]
    networks: str
    downscale: int
    devices: int = 1


class Latents(FrameBuilder):
    """The posterior and the embedding of every frame: {'mean', 'std', 'embedding'}."""


class LatentReader:
    """Random access to the cached outputs for frames of a dataset.

    Attributes:
      networks: sha256 of the networks that made the outputs.
    """

    def __init__(self, dataset: Dataset | FolderDataset, framing: Framing):
        """
        Raises:
          InputError: `dataset` is a folder of videos, windows are not fixed, or outputs are missing, damaged, of other
            videos, or of different networks.
        """
        check_fixed(framing)
        if isinstance(dataset, FolderDataset):
            raise InputError(f"{dataset.path}: cached latents need a dataset; make one with tools/build_dataset.py")
        self._dataset, self._folder = dataset, dataset.path / folder_name(framing)
        cached, videos = list_parts(self._folder), list_parts(dataset.path / VIDEOS)
        missing = set(videos) - set(cached)
        if missing:
            raise InputError(
                f"{self._folder}: {len(missing)} parts have no cached latents; make them with "
                f"python tools/build_dataset.py --output={dataset.path} --cache_latents --weights=CHECKPOINT "
                f"--size={framing.size[0]}x{framing.size[1]} --crop={framing.crop} --resize={framing.resize}"
            )
        for part, listing in videos.items():
            _check_pieces(self._folder / part, cached[part], listing)
        networks = {cached[part].networks for part in videos}
        if len(networks) > 1:
            raise InputError(f"{self._folder}: its parts are of different networks; {_MAKE_AGAIN}")
        self.networks = networks.pop()

    def record(self, video: int, frame: int) -> dict[str, np.ndarray]:
        """{'mean' (h, w, 4), 'std' (h, w, 4), 'embedding' (D,)} float32 of a frame."""
        part, position = self._dataset.position(video, frame)
        return open_part(self._folder / part)[position]


def folder_name(framing: Framing) -> str:
    """The folder in the dataset that holds the outputs for one framing."""
    return f"latents_{framing.size[0]}x{framing.size[1]}_{framing.crop}_{framing.resize}"


def check_fixed(framing: Framing) -> None:
    """Raises InputError if the window of a frame is not always the same."""
    if not framing.is_fixed:
        raise InputError(
            f"crop={framing.crop!r}: cached latents have one fixed window a frame; choose crop=center or none, "
            "or train without the cache"
        )


def cache_latents(path: str | os.PathLike, encoder: Encoder, framing: Framing, *, batch_size: int = 8) -> int:
    """Computes what is missing of the cache for one framing; continues a run that was killed.

    Args:
      path: the dataset's folder.
      encoder: the networks (`champ_jax.data.encoder.load_encoder`).
      framing: size and window of the pictures.
      batch_size: frames for each device at a time.

    Returns:
      How many frames were encoded.

    Raises:
      InputError: there is no dataset, the size does not divide, windows are not fixed, the cache is of other networks,
        the networks' outputs are not finite, or the disk is full.
    """
    check_fixed(framing)
    if any(side % encoder.downscale for side in framing.size):
        size = "x".join(map(str, framing.size))
        raise InputError(f"size={size}: both must be multiples of the VAE's reduction, {encoder.downscale}")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: must be 1 or more")
    dataset = Dataset(path)
    folder = dataset.path / folder_name(framing)
    with hold_dataset(dataset.path, leftovers=[f"{folder.name}/.part-*"]):
        cached, videos = list_parts(folder), list_parts(dataset.path / VIDEOS)
        for part, listing in cached.items():
            if listing.networks != encoder.networks:
                raise InputError(
                    f"{folder / part}: was made by other networks (sha256 {listing.networks[:12]}, not "
                    f"{encoder.networks[:12]}); {_MAKE_AGAIN}"
                )
            if part in videos:
                _check_pieces(folder / part, listing, videos[part])
        todo = {part: listing for part, listing in videos.items() if part not in cached}
        frames = sum(piece.count for listing in todo.values() for piece in listing.pieces)
        require_space(folder, frames * _bytes_a_frame(framing, encoder.downscale))
        with tqdm(total=frames, unit="frame", desc="latents", disable=not todo) as progress:
            for part, listing in todo.items():
                source = open_part(dataset.path / VIDEOS / part)
                records = _encode_part(source, encoder, framing, batch_size * encoder.devices, progress.update)
                first = next(records)
                features = {
                    name: tfds.features.Tensor(shape=value.shape, dtype=value.dtype, encoding="bytes")
                    for name, value in first.items()
                }
                records = itertools.chain([first], records)
                write_part(folder / part, Latents, records, features, listing.pieces, {"networks": encoder.networks})
    return frames


def _check_pieces(part: Path, cached: Listing, videos: Listing) -> None:
    """Raises InputError if the cached part does not belong to the part of videos."""
    if cached.pieces != videos.pieces:
        raise InputError(f"{part}: was made for other videos than the part of this name holds; {_MAKE_AGAIN}")


def _bytes_a_frame(framing: Framing, downscale: int) -> int:
    """Bytes of the posterior of a frame: mean and deviation of 4 channels, float32."""
    width, height = (side // downscale for side in framing.size)
    return width * height * 2 * 4 * 4


def _encode_part(
    source: Sequence[Mapping[str, Any]],
    encoder: Encoder,
    framing: Framing,
    batch_size: int,
    done: Callable[[int], Any],
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the outputs for every record of a part; pictures are read ahead while the networks run."""
    starts = range(0, len(source), batch_size)

    def load(start: int) -> tuple[np.ndarray, np.ndarray]:
        # The last batch repeats its last frame, so that one shape is compiled.
        pairs = [_pictures(source[min(start + i, len(source) - 1)], framing) for i in range(batch_size)]
        return tuple(np.stack(pictures) for pictures in zip(*pairs))

    with ThreadPoolExecutor(max_workers=2) as pool:
        coming = [pool.submit(load, start) for start in starts[:2]]
        for number, start in enumerate(starts):
            pictures = coming.pop(0).result()
            if number + 2 < len(starts):
                coming.append(pool.submit(load, starts[number + 2]))
            outputs = encoder.encode(*pictures)
            count = min(batch_size, len(source) - start)
            for i in range(count):
                output = {name: np.asarray(value[i]) for name, value in outputs.items()}
                for name, value in output.items():
                    if not np.isfinite(value).all():
                        video, frame = (text_field(source[start + i], field) for field in ("video", "frame"))
                        raise InputError(
                            f"{video} frame {frame}: the networks' {name} is not finite; use --dtype=float32 or other "
                            "weights"
                        )
                yield output
            done(count)


def _pictures(record: Mapping[str, Any], framing: Framing) -> tuple[np.ndarray, np.ndarray]:
    picture = decode(record, ["images"])["images"]
    window = framing.window(picture.size, np.zeros(3))
    return framing.apply(picture, window, Image.Resampling.LANCZOS), clip_picture(picture, window)
