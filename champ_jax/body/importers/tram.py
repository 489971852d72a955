"""TRAM's hps/hps_track_K.npy with camera.npy: the results folder, its hps folder, or one track."""

from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.fields import FOCAL, Field, read_field
from champ_jax.body.importers.tracks import (
    FRAME_NUMBERS,
    TRANSLATIONS,
    Source,
    Track,
    image_size_from_center,
    is_mapping_with,
    read_betas,
    read_matrices,
)
from champ_jax.common.errors import InputError
from champ_jax.common.pickles import read_arrays

FORMAT = "TRAM"


def read(path: Path, data: Any) -> Source | None:
    """Reads one track or all of a folder; None if there is none."""
    if path.is_dir():
        files = sorted([*path.glob("hps_track_*.npy"), *path.glob("hps/hps_track_*.npy")])
        tracks = {file: read_arrays(file) for file in files}
    else:
        tracks = {path: data}
    names = ("pred_rotmat", "pred_shape", "pred_trans")
    if not tracks or not all(is_mapping_with(track, *names) for track in tracks.values()):
        return None
    first = next(iter(tracks))
    nearby = [folder / "camera.npy" for folder in (first.parent, first.parent.parent)]
    camera_file = next((file for file in nearby if file.is_file()), None)
    focal = image_size = None
    if camera_file is not None:
        camera = read_arrays(camera_file)
        if not is_mapping_with(camera, "img_focal", "img_center"):
            raise InputError(f"{camera_file}: lacks img_focal or img_center")
        lengths = Field((1,), values=FOCAL, reshape=True)
        focal = float(read_field(str(camera_file), "img_focal", camera["img_focal"], lengths)[0])
        image_size = image_size_from_center(camera_file, "img_center", camera["img_center"])
    people = {}
    for file, track in tracks.items():
        rotations = read_matrices(file, "pred_rotmat", track["pred_rotmat"])
        people[file.stem.removeprefix("hps_track_")] = Track(
            read_field(str(file), "frame", track.get("frame", np.arange(len(rotations))), FRAME_NUMBERS),
            rotations,
            read_betas(file, "pred_shape", track["pred_shape"]),
            read_field(str(file), "pred_trans", track["pred_trans"], TRANSLATIONS),
            focal,
        )
    return Source(FORMAT, people, "smpl", image_size)
