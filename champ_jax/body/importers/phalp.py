"""Results of PHALP and 4D-Humans (HMR2 tracking): a joblib dict, frame name -> lists over people."""

from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.cameras import hmr2_focal
from champ_jax.body.importers.base import Source, Track, is_mapping_with
from champ_jax.common.errors import InputError

FORMAT = "4D-Humans / PHALP"


def read(path: Path, data: Any) -> Source | None:
    """Reads the dict; None if it is another one. A person whom the tracker only predicts in a frame is unseen there."""
    entries = list(data.values()) if isinstance(data, dict) else []
    if not entries or not all(is_mapping_with(entry, "tid", "smpl", "camera") for entry in entries):
        return None
    people: dict[str, list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]] = {}
    image_size = None
    names = sorted(data, key=lambda name: (data[name].get("time", 0), str(name)))
    for index, name in enumerate(names):
        frame = data[name]
        missed = frame.get("tracked_time") or [0] * len(frame["tid"])
        for slot, person in enumerate(frame["tid"]):
            if missed[slot] or not is_mapping_with(frame["smpl"][slot], "global_orient", "body_pose", "betas"):
                continue
            smpl = frame["smpl"][slot]
            rotations = np.concatenate(
                [np.asarray(smpl[key], np.float64).reshape(-1, 3, 3) for key in ("global_orient", "body_pose")]
            )
            if len(rotations) != 24:
                raise InputError(f"{path}: frame {name}: {len(rotations)} rotations, SMPL has 24")
            betas = np.asarray(smpl["betas"], np.float64).ravel()
            camera = np.asarray(frame["camera"][slot], np.float64).ravel()
            people.setdefault(str(person), []).append((index, rotations, betas, camera))
            if image_size is None and frame.get("size"):
                image_size = np.asarray(frame["size"][slot], np.float64).ravel()[::-1]  # the file has [H, W]
    if not people:
        raise InputError(f"{path}: nobody was tracked in any of its {len(data)} frames")
    tracks = {person: Track(*(np.array(column) for column in zip(*rows))) for person, rows in people.items()}
    return Source(FORMAT, tracks, "smpl", image_size, default_focal=hmr2_focal, length=len(data))
