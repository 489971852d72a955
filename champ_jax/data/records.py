"""The dataset on disk: parts, each a TFDS dataset of one ArrayRecord file, one record a frame.

    DATASET/videos/part-00000/1.0.0/{videos-train.array_record-00000-of-00001, features.json, metadata.json, ...}

A part holds videos in order. It appears complete, by a rename, and never changes. Its metadata.json lists its videos;
there is no other index. Pictures are stored as the bytes of their files. A video that is too large for one part is cut
into pieces, one a part, and counts when all of them exist. Latents are in parts of the same names beside
(`champ_jax.data.latents`).
"""

import contextlib
import functools
import io
import itertools
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path, read_json, require_file
from champ_jax.common.locks import hold_folder
from champ_jax.common.outputs import Kind, folder_with

VIDEOS = "videos"  # the folder of the parts
PICTURES = ("images", *CONDITIONS, "mask")  # what a record of videos may hold
GRAY = ("depth", "mask")  # the kinds of picture with one channel
MAX_PICTURE = 256 * 2**20  # bytes of the largest picture file
_VERSION = "1.0.0"
_OPEN_PARTS = 128  # files a process keeps open
_LONGEST_REASON = 200  # characters of another library's message
_FEATURES = "tensorflow_datasets.core.features."
_RESTORE = "restore it from a backup, or remove the part and build the dataset again"


@dataclass(frozen=True)
class Video:
    """A video of the dataset.

    Attributes:
      name: 'source/part/video', after the folders it was found in.
      frames: number of frames.
      size: (width, height) of all its pictures.
      fingerprint: digest of the names and sizes of the files it was written from.
    """

    name: str
    frames: int
    size: tuple[int, int]
    fingerprint: str


@dataclass(frozen=True)
class Piece:
    """Consecutive frames of a video in one part: all of the video, unless it is too large for one part.

    Attributes:
      video: the video that the frames belong to.
      first: index of the first frame in the video.
      count: number of frames.
    """

    video: Video
    first: int
    count: int


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Does nothing. TFDS would ask a server for every new part, and leave an empty folder in the temporary one."""


class FrameBuilder(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder of a part.

    Args:
      records: the frames' features in the order of the pieces.
      features: The features of a record.
      pieces: the frames in the part, in order.
      listing: further metadata of the part.
      options: Options of `tfds.core.DatasetBuilder`.
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
        return _Info(
            builder=self,
            description="Frames of videos of people, with motion conditions as Champ reads them.",
            features=tfds.features.FeaturesDict(dict(self._features)),
            disable_shuffling=True,  # frames stay in order
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
    pictures = {kind: tfds.features.Image(shape=(None, None, 1 if kind in GRAY else 3)) for kind in kinds}
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

    TFDS holds the whole part in memory while it writes.

    Raises:
      InputError: the disk is full or `folder` cannot be written.
    """
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


@dataclass(frozen=True)
class Listing:
    """The content of a part's metadata.json.

    Attributes:
      pieces: the frames of its records, in order.
      kinds: the pictures of a record, 'images' first; empty for a part of latents.
      networks: the sha256 of the networks that made a part of latents; '' for a part of videos.
    """

    pieces: tuple[Piece, ...]
    kinds: tuple[str, ...] = ()
    networks: str = ""


def list_parts(folder: str | os.PathLike) -> dict[str, Listing]:
    """{name of the part: its listing}, sorted by name; empty if `folder` does not exist.

    Raises:
      InputError: a part has a name that none has, or its metadata.json is missing or damaged.
    """
    return {part.name: _read_listing(part) for part in sorted(Path(folder).glob("part-*"))}


def _read_listing(part: Path) -> Listing:
    file = part / _VERSION / "metadata.json"
    if not re.fullmatch(r"part-[0-9]{5,9}", part.name):
        raise InputError(f"{part}: no part of a dataset has such a name; move it elsewhere")
    try:
        fields = read_json(file)
        pieces = tuple(_piece(entry) for entry in fields["pieces"])
        listing = Listing(pieces, tuple(fields.get("kinds", ())), fields.get("networks", ""))
        if not pieces or not isinstance(listing.networks, str) or not set(listing.kinds) <= set(PICTURES):
            raise ValueError("it lists no pieces, or unknown kinds of picture")
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = str(error) if isinstance(error, InputError) else f"{file}: not the listing of a part ({error})"
        raise InputError(f"{reason}; {_RESTORE}") from error
    return listing


def _piece(fields: Mapping[str, Any]) -> Piece:
    video = {**fields["video"], "size": tuple(fields["video"]["size"])}
    piece = Piece(**{**fields, "video": Video(**video)})
    video = piece.video
    numbers = (video.frames, *video.size, piece.first, piece.count)
    if not all(type(number) is int for number in numbers) or len(video.size) != 2 or min(video.size) < 1:
        raise ValueError(f"{video.name}: sizes and counts must be whole numbers")
    if not isinstance(video.name, str) or not isinstance(video.fingerprint, str):
        raise ValueError(f"{video.name}: its name and its fingerprint must be texts")
    if not 0 <= piece.first < piece.first + piece.count <= video.frames:
        raise ValueError(f"{video.name}: frames {piece.first} + {piece.count} of {video.frames}")
    return piece


class Part(Sequence):
    """Random access to the records of a part; pictures stay encoded."""

    def __init__(self, folder: str | os.PathLike):
        """
        Raises:
          InputError: the part is damaged.
        """
        self._folder = Path(folder)
        expected = sum(piece.count for piece in _read_listing(self._folder).pieces)
        try:
            for file in sorted((self._folder / _VERSION).iterdir()):
                require_file(file)  # TFDS would wait for a pipe and read a device without end
            read_json(self._folder / _VERSION / "dataset_info.json")
            _check_features(self._folder / _VERSION / "features.json")
            builder = tfds.builder_from_directory(self._folder / _VERSION)
            encoded = {
                name: tfds.decode.SkipDecoding()
                for name, feature in builder.info.features.items()
                if isinstance(feature, tfds.features.Image)
            }
            self._source = builder.as_data_source(split="train", decoders=encoded)
            if len(self._source) != expected:
                raise ValueError(f"it has {len(self._source)} records, its listing {expected}")
        except InputError as error:
            raise InputError(f"{error}; {_RESTORE}") from error
        except Exception as error:  # TFDS and protobuf raise many kinds
            raise self._damaged(error) from error

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, position: int) -> dict[str, Any]:
        """The record at `position`.

        Raises:
          InputError: the record is damaged; ArrayRecord keeps a hash of every chunk.
        """
        try:
            record = self._source[position]
            if any(value is None for value in record.values()):
                raise ValueError(f"record {position} is empty")
        except Exception as error:
            raise self._damaged(error) from error
        return record

    def _damaged(self, error: Exception) -> InputError:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        return InputError(f"{self._folder}: not a readable part of a dataset ({reason}); {_RESTORE}")


def _check_features(file: Path) -> None:
    """Raises InputError for features that are not TFDS's own: TFDS would import the module that a name names."""
    fields = read_json(file)
    waiting = [fields]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            name = value.get("pythonClassName", _FEATURES)
            if not isinstance(name, str) or not name.startswith(_FEATURES):
                raise InputError(f"{file}: names {str(name)[:80]!r}, which is not a feature of TFDS")
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


@functools.lru_cache(maxsize=_OPEN_PARTS)
def open_part(folder: Path) -> Part:
    """The part at `folder`, opened once a process.

    Raises:
      InputError: the part is damaged.
    """
    return Part(folder)


@contextlib.contextmanager
def hold_dataset(output: Path, *, leftovers: Sequence[str] = ()) -> Iterator[None]:
    """Locks the dataset for one run and removes what a killed run left unfinished.

    Args:
      output: the dataset's folder.
      leftovers: patterns in it of unfinished files and folders.

    Raises:
      InputError: another run holds the lock, or `output` cannot be written.
    """
    with hold_folder(output):
        for leftover in itertools.chain.from_iterable(map(output.glob, leftovers)):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _is_dataset(folder: Path) -> bool:
    """Whether a folder holds nothing but what this module and its callers write."""
    if any((folder / VIDEOS).glob("part-*")):
        return True
    return all(re.fullmatch(rf"{VIDEOS}|latents_.*|report\.json|\..*", entry.name) for entry in folder.iterdir())


DATASET: Kind = folder_with("a dataset", _is_dataset)
"""The kind of output that a dataset is."""
