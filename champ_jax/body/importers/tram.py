"""TRAM's hps/hps_track_K.npy with camera.npy: the results folder, its hps folder, or one track."""

from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.importers.base import Source, Track, image_size_from_center, is_mapping_with
from champ_jax.common.errors import InputError
from champ_jax.common.pickles import read_arrays

FORMAT = "TRAM"


def read(path: Path, data: Any) -> Source | None:
    """Reads one track or all of a folder; None if there is none."""
    if path.is_dir():
        files = sorted([*path.glob("hps_track_*.npy"), *path.glob("hps/hps_track_*.npy")])
        tracks = {file.stem.removeprefix("hps_track_"): read_arrays(file) for file in files}
    else:
        files = [path]
        tracks = {path.stem.removeprefix("hps_track_"): data}
    names = ("pred_rotmat", "pred_shape", "pred_trans")
    if not tracks or not all(is_mapping_with(track, *names) for track in tracks.values()):
        return None
    nearby = [folder / "camera.npy" for folder in (files[0].parent, files[0].parent.parent)]
    camera_file = next((file for file in nearby if file.is_file()), None)
    focal = image_size = None
    if camera_file is not None:
        camera = read_arrays(camera_file)
        if not is_mapping_with(camera, "img_focal", "img_center"):
            raise InputError(f"{camera_file}: lacks img_focal or img_center")
        focal = float(np.asarray(camera["img_focal"]))
        image_size = image_size_from_center(camera["img_center"])
    people = {}
    for name, track in tracks.items():
        rotations = np.asarray(track["pred_rotmat"], np.float64)
        frames = np.asarray(track["frame"]).ravel() if "frame" in track else np.arange(len(rotations))
        people[name] = Track(
            frames.astype(np.int64),
            rotations,
            np.asarray(track["pred_shape"], np.float64),
            np.asarray(track["pred_trans"], np.float64).reshape(-1, 3),
            focal,
        )
    return Source(FORMAT, people, "smpl", image_size)
