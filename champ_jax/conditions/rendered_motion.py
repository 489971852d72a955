"""The conditions of a whole motion, drawn in memory when they are asked for."""

import dataclasses
import hashlib
import warnings
from collections.abc import Sequence

import jax
import numpy as np

from champ_jax.body.motion import Motion, camera_points, require_same_space
from champ_jax.body.smpl import BodyModel, body_keypoints
from champ_jax.common.condition_names import CONDITIONS, MASK
from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Choice, Items
from champ_jax.conditions.body_skeleton import body_skeleton
from champ_jax.conditions.map_renderer import MapRenderer, check_image_size, name_frames
from champ_jax.conditions.maps import MAPS
from champ_jax.conditions.mesh_sequence import MeshSequence
from champ_jax.conditions.skeleton import draw_skeleton

SKELETON = "dwpose"
RENDERED = (*CONDITIONS, MASK)  # what can be drawn

# Frames posed and drawn at a time. Posing is compiled for this many.
_CHUNK = 8


class RenderedMotion:
    """Frames of conditions: `rendered[i]` draws frame i, iteration all of them, `read` a stretch at any size.

    A frame is {condition: uint8}, (H, W, 3) for 'normal', 'semantic_map' and 'dwpose', (H, W) for 'depth' and 'mask'.
    Frames of a motion that are not valid are empty (all 0).

    Attributes:
      conditions: the names drawn.
      image_size: (W, H) of the frames.
      fps: frames per second, None if unknown.
    """

    def __init__(
        self,
        source: "_BodySource | _MeshSource",
        frames: slice,
        image_size: Sequence[int] | None,
        conditions: Sequence[str],
        backend: str,
    ):
        Items(Choice(*RENDERED), minimum=1, distinct=True).check("conditions", tuple(conditions))
        self._source, self._backend = source, backend
        self._frames = np.arange(len(source.valid))[frames]
        if not len(self._frames):
            raise InputError(f"no frames: {frames} takes none of {len(source.valid)}")
        self.conditions = tuple(conditions)
        self.fps = source.fps
        self._native_size = check_image_size(source.image_size)
        self.image_size = self._native_size if image_size is None else check_image_size(image_size)
        self._renderers: dict[tuple[int, int], MapRenderer] = {}
        self._chunk: tuple[int, dict[str, np.ndarray]] | None = None
        self._renderer(self.image_size)  # a missing backend is an error at once
        invalid = self._frames[~source.valid[self._frames]]
        if len(invalid):
            warnings.warn(
                f"{name_frames(invalid)}: not valid in the motion, drawn empty; fill gaps with `champ align`",
                stacklevel=3,
            )

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def fingerprint(self) -> str:
        """A hash of everything that the pixels depend on."""
        drawn = (self._frames.tolist(), self.image_size, self.conditions, self._backend)
        digest = hashlib.sha256(repr(drawn).encode())
        for array in self._source.arrays():
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        index = range(len(self))[index]
        start = index - index % _CHUNK
        if self._chunk is None or self._chunk[0] != start:
            self._chunk = start, self._draw(start, min(start + _CHUNK, len(self)), self.image_size)
        return {name: images[index - start] for name, images in self._chunk[1].items()}

    def read(self, start: int, stop: int, size: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """Frames start..stop as {condition: (stop - start, H, W, 3) uint8}, gray maps in three equal channels.

        Args:
          size: (W, H), drawn at this size (the picture is squeezed or stretched where its proportions differ, as
            resizing pictures does); None takes `image_size`.
        """
        drawn = self._draw(start, stop, self.image_size if size is None else check_image_size(size))
        return {
            name: images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=-1)
            for name, images in drawn.items()
        }

    def _draw(self, start: int, stop: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
        pieces = [
            self._draw_chunk(self._frames[first : min(first + _CHUNK, stop)], size)
            for first in range(start, stop, _CHUNK)
        ]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in self.conditions}

    def _draw_chunk(self, frames: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
        width, height = size
        shapes = {
            name: (height, width) if name in ("depth", "mask") else (height, width, 3) for name in self.conditions
        }
        images = {name: np.zeros((len(frames), *shape), np.uint8) for name, shape in shapes.items()}
        places = np.flatnonzero(self._source.valid[frames])
        if not len(places):
            return images
        scale = np.array(size) / self._native_size
        renderer = self._renderer(size)
        vertices, focal, skeletons = self._source.pose(frames[places], SKELETON in self.conditions)
        if renderer is not None:
            drawn = renderer(vertices, focal[:, None] * scale, frames[places])
            for name in drawn:
                images[name][places] = drawn[name]
        if skeletons is not None:
            for place, skeleton in zip(places, skeletons):
                images[SKELETON][place] = draw_skeleton(skeleton[None] * [*scale, 1], size)
        return images

    def _renderer(self, size: tuple[int, int]) -> MapRenderer | None:
        maps = [name for name in self.conditions if name in MAPS]
        if size not in self._renderers and maps:
            self._renderers[size] = MapRenderer(
                self._source.faces, self._source.parts, size, backend=self._backend, maps=maps
            )
        return self._renderers.get(size)


def render_motion(
    motion: Motion,
    body: BodyModel,
    *,
    image_size: Sequence[int] | None = None,
    frames: slice = slice(None),
    conditions: Sequence[str] = RENDERED,
    backend: str = "jax",
) -> RenderedMotion:
    """The conditions of a motion on a body, drawn when asked for.

    Args:
      image_size: [W, H] of the frames, the motion's own by default; the picture is scaled to it.
      frames: which frames, as a slice.
      conditions: some of 'depth', 'normal', 'semantic_map', 'dwpose', 'mask'.
      backend: see `render`.

    Raises:
      InputError: the body is of another space than the motion, or an argument is not one of those named.

    Warns:
      UserWarning: frames that are not valid or do not show the body.
    """
    require_same_space(motion, body)
    return RenderedMotion(_BodySource(motion, body), frames, image_size, conditions, backend)


def render_mesh_sequence(
    sequence: MeshSequence,
    *,
    image_size: Sequence[int] | None = None,
    frames: slice = slice(None),
    conditions: Sequence[str] = MAPS,
    backend: str = "jax",
) -> RenderedMotion:
    """The maps of a moving mesh, as `render_motion`; a mesh has no skeleton, so 'dwpose' is refused."""
    if SKELETON in conditions:
        raise InputError("a mesh sequence has no poses, so 'dwpose' cannot be drawn; leave it out")
    return RenderedMotion(_MeshSource(sequence), frames, image_size, conditions, backend)


class _BodySource:
    def __init__(self, motion: Motion, body: BodyModel):
        motion.validate()
        self.motion, self.body = motion, body
        self.faces, self.parts = np.asarray(body.faces), np.asarray(body.parts)
        self.valid, self.fps, self.image_size = motion.valid, motion.fps, motion.image_size

    def arrays(self) -> list[np.ndarray]:
        """Everything the frames depend on."""
        fields = [np.asarray(value) for value in vars(self.motion).values() if value is not None]
        return fields + [np.asarray(leaf) for leaf in jax.tree.leaves(self.body)]

    def pose(self, frames: np.ndarray, skeleton: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Camera-space vertices (n, V, 3), focal (n,) and, if wanted, key points (n, 134, 3) of some frames."""
        padded = np.concatenate([frames, np.repeat(frames[-1:], _CHUNK - len(frames))])
        part = self.motion[padded]
        part = dataclasses.replace(part, valid=np.ones(_CHUNK, bool))
        vertices, joints = camera_points(self.body, part)
        count, skeletons = len(frames), None
        if skeleton:
            points = np.asarray(body_keypoints(self.body, vertices, joints))[:count]
            driver = None if part.keypoints is None else part.keypoints[:count]
            skeletons = body_skeleton(points, part.focal[:count], self.image_size, driver)
        return np.asarray(vertices)[:count], part.focal[:count], skeletons


class _MeshSource:
    fps = None

    def __init__(self, sequence: MeshSequence):
        self.sequence = sequence
        self.faces, self.parts, self.image_size = sequence.faces, sequence.parts, sequence.image_size
        self.valid = np.ones(len(sequence), bool)

    def arrays(self) -> list[np.ndarray]:
        return list(vars(self.sequence).values())

    def pose(self, frames: np.ndarray, skeleton: bool) -> tuple[np.ndarray, np.ndarray, None]:
        sequence = self.sequence
        return sequence.vertices[frames] + sequence.translation[frames, None], sequence.focal[frames], None
