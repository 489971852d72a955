"""What each pixel of a synthetic person shows, skin, hair or a garment: drawn anew from the numbers of the video."""

import dataclasses
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from champ_jax.body.motion import Motion
from champ_jax.common.errors import InputError
from champ_jax.common.files import read_json
from champ_jax.common.ranges import Integer, Items, Number
from champ_jax.conditions.rasterizer import project, rasterize
from champ_jax.data.synthetic import regions
from champ_jax.data.synthetic.anatomy import BODY
from champ_jax.data.synthetic.choreography import pose_frames
from champ_jax.data.synthetic.identity import Identity
from champ_jax.data.synthetic.many_videos import RECORD
from champ_jax.data.synthetic.one_video import PARTS, Settings, Take, VideoName, draw_take
from champ_jax.data.synthetic.outfit import BRIM, KNOT, LOCKS, SKIRT, dress
from champ_jax.data.synthetic.renderer import corner_weights

NAMES = ("", "skin", "face", "hair", "cap", "top", "shirt", "bottom", "socks", "shoes")
"""The names of the labels 0 (what is not the person), 1, 2, ...; a shirt is what an open jacket shows."""

_LABELS = {name: number for number, name in enumerate(NAMES)}
_FACE = (0.57, 0.03)  # the lowest canonical height of the face, and its least distance to the front
_PAIRS_PER_STEP = 1 << 14
_SAME = 1e-3  # meters, or entries of rotations: how far the motion of another machine may be from this one's
_RULES = {
    "seed": Integer(minimum=0),
    "size": Items(Integer(minimum=1), 2, 2),
    "frames": Integer(minimum=1),
    "videos_per_identity": Integer(minimum=1),
    "test_share": Number(minimum=0, maximum=1),
}


def draw_labels(take: Take) -> np.ndarray:
    """(T, H, W) uint8: what each pixel's center shows in the frames of `one_video.draw_images`, numbers of `NAMES`."""
    outfit, camera = dress(take.identity), take.camera
    faces = np.asarray(outfit.model.faces)
    vertices, _ = pose_frames(outfit.model, np.zeros(10), take.motion.rotations)
    width, height = camera.image_size
    labels = np.zeros((len(vertices), height * width), np.uint8)
    for index, points in enumerate(vertices + take.motion.translation[:, None]):
        placed = project(jnp.asarray(points, jnp.float32), jnp.full(2, camera.focal, jnp.float32), (width, height))
        seen = rasterize(placed, outfit.model.faces, (width, height), _PAIRS_PER_STEP).triangle
        triangle = np.asarray(seen).reshape(-1)
        hit = np.flatnonzero(triangle >= 0)
        if not len(hit):
            continue
        corner = faces[triangle[hit]]
        # The renderer's lattice has two samples a pixel, this one has one.
        weights = corner_weights(points, corner, hit, camera.focal / 2, (width, height))
        places = np.einsum("nk,nkc->nc", weights, outfit.points[corner])
        labels[index, hit] = label_points(take.identity, places, outfit.pieces[triangle[hit]])
    return labels.reshape(-1, height, width)


def label_points(identity: Identity, points: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """(N,) labels of canonical points (N, 3) on pieces (N,): what `paint.paint` covers them with last."""
    y, z = points[:, 1], points[:, 2]
    top = regions.top(identity.top, points)
    labels = np.where((y > _FACE[0]) & (z > _FACE[1]), _LABELS["face"], _LABELS["skin"])

    def cover(where: np.ndarray, name: str) -> None:
        labels[where] = _LABELS[name]

    cover(identity.sock_height > y, "socks")
    cover(regions.bottom(identity.bottom, points) > 0, "bottom")
    cover(top > 0, "top")
    if identity.top.kind == "jacket":
        inner = (top > 0) & (regions.opening(points) > 0)
        cover(inner & (y < 0.49), "shirt")
        cover(inner & (y >= 0.49), "skin")
    cover(identity.shoe_height > y, "shoes")
    head = y > 0.5
    hair = head & (regions.hair(identity, points) > 0)
    if identity.hair_style in ("buzz", "short", "cap", "bun", "ponytail"):
        hair &= np.abs(points[:, 0]) <= 0.083
    cover(hair, "hair")
    if identity.hair_style == "cap":
        cover(head & (regions.cap(points) > 0), "cap")
    labels[pieces != BODY] = _LABELS["face"]  # eyes and mouth
    cover(pieces == SKIRT, "bottom")
    cover((pieces == LOCKS) | (pieces == KNOT), "hair")
    cover(pieces == BRIM, "cap")
    return labels.astype(np.uint8)


def read_take(folder: Path) -> Take:
    """The take of a video that tools/make_people.py wrote: its person and scene drawn anew, its motion compared.

    Args:
      folder: DIR/{train,test}/pPERSON_mMOTION, with DIR/people.json.

    Raises:
      InputError: the folder is not called so, people.json is missing or damaged, or the motion is another than these
        numbers give.
    """
    found = re.fullmatch(r"p(\d{5,9})_m(\d{5,9})", folder.name)
    part, record = folder.parent.name, folder.parent.parent / RECORD
    if found is None or part not in PARTS:
        raise InputError(f"{folder}: is not a video of tools/make_people.py, DIR/{'|'.join(PARTS)}/pPERSON_mMOTION")
    settings = _read_settings(record)
    name = VideoName(part, *map(int, found.groups()))
    saved = Motion.load(folder / "motion.npz")
    if len(saved) != settings.frames or tuple(saved.image_size) != settings.size:
        raise InputError(f"{folder / 'motion.npz'}: is of other frames than {record} says; make the people again")
    take = draw_take(settings, name)
    for field in ("rotations", "translation", "betas"):
        if not np.allclose(getattr(take.motion, field), getattr(saved, field), atol=_SAME):
            raise InputError(
                f"{folder / 'motion.npz'}: its {field} are not those of this person and motion; another version of "
                "tools/make_people.py made it"
            )
    return dataclasses.replace(take, motion=saved)


def _read_settings(path: Path) -> Settings:
    """The settings of people.json."""
    record = read_json(path)
    names = [field.name for field in dataclasses.fields(Settings)]
    if not isinstance(record, dict) or sorted(record) != sorted(names):
        raise InputError(f"{path}: is not a record of tools/make_people.py, which holds {', '.join(names)}")
    for name, value in record.items():
        if name in _RULES:
            _RULES[name].check(f"{path}: {name}", tuple(value) if isinstance(value, list) else value)
        elif not isinstance(value, bool):
            raise InputError(f"{path}: {name} is {value!r}, it should be true or false")
    return Settings(**{**record, "size": tuple(record["size"])})
