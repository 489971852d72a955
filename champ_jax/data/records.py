"""The dataset on disk: parts, each a TFDS dataset of ArrayRecord files, one record a frame.

    DATASET/videos/part-00000/1.0.0/{videos-train.array_record-00000-of-00001, features.json, metadata.json, ...}

A part holds videos in order, is written elsewhere and renamed, and never changes. Its metadata.json lists its videos,
so that the parts together are all there is to know about the dataset. Pictures are the bytes of their files. A video
too large for one part is cut into pieces, each a part, and counts when all of them are there.
Latents lie beside, in parts of the same name (`champ_jax.data.latents`).
"""

import contextlib
import fcntl
import functools
import io
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path

VIDEOS = "videos"  # the folder of the parts
GREY = ("depth", "mask")  # the kinds of picture with one channel
_VERSION = "1.0.0"
_OPEN_PARTS = 128  # files a process keeps open


@dataclass(frozen=True)
class Video:
    """A video of the dataset.

    Attributes:
      name: 'source/part/video', after the folders it was found in.
      frames: how many it has.
      size: (width, height) of all its pictures.
      fingerprint: of the files it was written from.
    """

    name: str
    frames: int
    size: tuple[int, int]
    fingerprint: str


@dataclass(frozen=True)
class Piece:
    """Neighbouring frames of a video in one part: all of them, but of videos too large for one.

    Attributes:
      video: whose.
      first: the first frame.
      count: how many.
    """

    video: Video
    first: int
    count: int


class FrameBuilder(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder of a part.

    Args:
      records: the frames' features in the order of the pieces.
      features: of a record.
      pieces: what the part holds.
      listing: further metadata of the part.
      options: of `tfds.core.DatasetBuilder`.
    """

    VERSION = tfds.core.Version(_VERSION)

    def __init__(
        self,
        *,
        records: Iterator[Mapping[str, Any]],
        features: Mapping[str, Any],
        pieces: Sequence[Piece],
        listing: Mapping[str, Any],
        **options: Any,
    ):
        self._records, self._features = records, features
        self._listing = tfds.core.MetadataDict(**listing, pieces=[asdict(piece) for piece in pieces])
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Frames of videos of people, with motion conditions as Champ reads them.",
            features=tfds.features.FeaturesDict(dict(self._features)),
            disable_shuffling=True,  # a video's frames stay neighbours
            metadata=self._listing,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        yield from enumerate(self._records)


class Videos(FrameBuilder):
    """Frames with their pictures: {'video', 'frame', 'box', 'images', a picture for every kind}."""


def video_features(kinds: Sequence[str]) -> dict[str, Any]:
    """The features of a record of `Videos`; `kinds` are the folders its pictures come from."""
    pictures = {kind: tfds.features.Image(shape=(None, None, 1 if kind in GREY else 3)) for kind in kinds}
    box = tfds.features.Tensor(
        shape=(4,), dtype=np.int32, doc="left, top, right, bottom of the person in pixels; -1 where there is none"
    )
    return {"video": tfds.features.Text(), "frame": tfds.features.Text(), "box": box, **pictures}


def write_part(
    folder: str | os.PathLike,
    builder: type[FrameBuilder],
    records: Iterator[Mapping[str, Any]],
    features: Mapping[str, Any],
    pieces: Sequence[Piece],
    listing: Mapping[str, Any],
) -> None:
    """Writes the part at `folder`, which appears whole or not at all; arguments as of `FrameBuilder`.

    TFDS holds the part in memory meanwhile.

    Raises:
      InputError: the disk is full or `folder` cannot be written.
    """
    folder = Path(folder)
    tfds.disable_progress_bar()
    with atomic_path(folder, folder=True, replace=False) as scratch, contextlib.redirect_stdout(io.StringIO()):
        made = builder(
            records=records, features=features, pieces=pieces, listing=listing, data_dir=scratch.parent / "tfds"
        )
        made.download_and_prepare(
            file_format="array_record",
            download_dir=scratch.parent / "downloads",  # TFDS makes one even where nothing is downloaded
            download_config=tfds.download.DownloadConfig(num_shards=1),
        )
        os.rename(Path(made.data_dir).parent, scratch)


def list_parts(folder: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """{name of the part: its metadata, with 'pieces' as Piece}, sorted by name; empty if `folder` does not exist."""
    listings = {}
    for file in sorted(Path(folder).glob(f"part-*/{_VERSION}/metadata.json")):
        listing = json.loads(file.read_text())
        listing["pieces"] = [_piece(fields) for fields in listing["pieces"]]
        listings[file.parent.parent.name] = listing
    return listings


def _piece(fields: Mapping[str, Any]) -> Piece:
    video = {**fields["video"], "size": tuple(fields["video"]["size"])}
    return Piece(**{**fields, "video": Video(**video)})


@functools.lru_cache(maxsize=_OPEN_PARTS)
def open_part(folder: Path) -> Sequence[dict[str, Any]]:
    """Random access to the records of a part; pictures stay encoded. Parts are opened once a process.

    Raises:
      InputError: the part is damaged.
    """
    try:
        builder = tfds.builder_from_directory(folder / _VERSION)
        features = builder.info.features
        encoded = {
            name: tfds.decode.SkipDecoding()
            for name, feature in features.items()
            if isinstance(feature, tfds.features.Image)
        }
        return builder.as_data_source(split="train", decoders=encoded)
    except Exception as error:
        raise InputError(
            f"{folder}: not a readable part of a dataset ({error}); remove it and build it again"
        ) from error


@contextlib.contextmanager
def locked(output: Path, *, leftovers: Sequence[str] = ()) -> Iterator[None]:
    """Holds the dataset for one run; the lock goes with the process, however it ends.

    Args:
      output: the dataset's folder.
      leftovers: patterns in it of what a killed run may have left half done; removed.

    Raises:
      InputError: another run holds it, or `output` cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        file = open(output / ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror}); name another output") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"{output}: another run is writing there; wait for it or name another output") from error
        for leftover in itertools.chain.from_iterable(map(output.glob, leftovers)):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
