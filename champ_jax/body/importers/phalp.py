"""Results of PHALP and 4D-Humans (HMR2 tracking): a joblib dict, frame name -> lists over people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.cameras import hmr2_focal
from champ_jax.body.fields import METERS, SIDE, Field, read_field, read_fields
from champ_jax.body.importers.tracks import ROTATION, Source, Track, is_mapping_with
from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Number

FORMAT = "4D-Humans / PHALP"
_BODY = {
    "global_orient": Field((1, 3, 3), np.float64, ROTATION, reshape=True),
    "body_pose": Field((23, 3, 3), np.float64, ROTATION, reshape=True),
    "betas": Field(("*",), reshape=True),
}
_IDS = Field(("*",), np.int64, Number(minimum=-(2**31), maximum=2**31))
_CAMERA = Field((3,), np.float64, METERS, reshape=True)
_SIZE = Field((2,), np.float64, SIDE, reshape=True)


def read(path: Path, data: Any) -> Source | None:
    """Reads the dict; None if it is another one. A person whom the tracker only predicts in a frame is unseen there."""
    entries = list(data.values()) if isinstance(data, Mapping) else []
    if not entries or not all(is_mapping_with(entry, "tid", "smpl", "camera") for entry in entries):
        return None
    people: dict[str, list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]] = {}
    image_size = None
    times = {
        name: float(read_field(f"{path}: frame {name}", "time", frame.get("time", 0), Field((), reshape=True)))
        for name, frame in data.items()
    }
    for index, name in enumerate(sorted(data, key=lambda name: (times[name], str(name)))):
        source, frame = f"{path}: frame {name}", data[name]
        ids = read_field(source, "tid", _people(source, "tid", frame["tid"]), _IDS).tolist()
        columns = {key: _people(source, key, frame[key], len(ids)) for key in ("smpl", "camera")}
        times_missed = _people(source, "tracked_time", frame.get("tracked_time"), len(ids), required=False)
        missed = read_field(source, "tracked_time", times_missed or [0] * len(ids), Field(("*",)))
        sizes = _people(source, "size", frame.get("size"), len(ids), required=False)
        for slot, person in enumerate(ids):
            if missed[slot] or not is_mapping_with(columns["smpl"][slot], *_BODY):
                continue
            body = read_fields(source, columns["smpl"][slot], _BODY)
            rotations = np.concatenate([body["global_orient"], body["body_pose"]])
            camera = read_field(source, "camera", columns["camera"][slot], _CAMERA)
            people.setdefault(str(person), []).append((index, rotations, body["betas"], camera))
            if image_size is None and sizes:
                image_size = read_field(source, "size", sizes[slot], _SIZE)[::-1]  # the file has [H, W]
    if not people:
        raise InputError(f"{path}: nobody was tracked in any of its {len(data)} frames")
    tracks = {person: Track(*_stack(path, person, rows)) for person, rows in people.items()}
    return Source(FORMAT, tracks, "smpl", image_size, default_focal=hmr2_focal, length=len(data))


def _people(source: str, name: str, values: Any, count: int | None = None, *, required: bool = True) -> list[Any]:
    """One value a person, `count` of them; none at all where `values` may be missing and is."""
    if values is None and not required:
        return []
    if not isinstance(values, list | tuple) and not (isinstance(values, np.ndarray) and values.ndim):
        raise InputError(f"{source}: {name} holds {type(values).__name__}, a list of people is expected")
    if count is not None and len(values) != count and (required or len(values)):
        raise InputError(f"{source}: {name} holds {len(values)} people, tid {count}")
    return list(values)


def _stack(path: Path, person: str, rows: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    if len({len(betas) for _, _, betas, _ in rows}) > 1:
        raise InputError(f"{path}: person {person}: betas have different lengths in different frames")
    return [np.array(column) for column in zip(*rows)]
