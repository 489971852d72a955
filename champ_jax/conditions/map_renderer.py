"""Renders a moving mesh into condition maps: checks what it is given, then draws by the backend asked for."""

import warnings
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import UInt8

from champ_jax.body.fields import SIDE, Field, read_field, read_fields
from champ_jax.common.errors import InputError
from champ_jax.common.limits import require_memory
from champ_jax.common.ranges import Choice, Items
from champ_jax.conditions.maps import LINEAR_PART_COLORS, MAPS, draw_maps
from champ_jax.conditions.mesh_sequence import FIELDS
from champ_jax.conditions.pyrender_backend import PyrenderRasterizer
from champ_jax.conditions.rasterizer import NEAR

BACKENDS = ("jax", "pyrender")

# Frames drawn by one program: a CPU runs them one by one, side by side on its cores.
_CPU_FRAMES_IN_FLIGHT = 2
_ACCELERATOR_BATCH = 8

# What a chunk of frames takes with everything that is computed on the way: 192 measured at 2000x2000 on a CPU.
_BYTES_PER_PIXEL = 240


def render(
    vertices: np.ndarray,
    faces: np.ndarray,
    parts: np.ndarray,
    *,
    focal: np.ndarray | float,
    image_size: Sequence[int],
    backend: str = "jax",
    maps: Sequence[str] = MAPS,
) -> dict[str, UInt8[np.ndarray, "frames height width *channels"]]:
    """Draws the condition maps of a mesh that moves in front of a camera at the picture's center.

    Pixel (i, j) is sampled once at its center. Depth runs from 255 at a frame's nearest visible pixel to 0 at its
    farthest; normals are R = (1 + n_x)/2, G = (1 - n_y)/2, B = (1 - n_z)/2 in camera axes, from angle-weighted vertex
    normals; the semantic map interpolates the colors of the vertices' parts in linear light.

    Args:
      vertices: (T, V, 3) meters, camera space (x right, y down, z forward).
      faces: (M, 3) integers.
      parts: (V,) SMPL joint of each vertex, 0..23.
      focal: px; one number, one a frame (T,), or one along each axis (T, 2).
      image_size: [W, H].
      backend: 'jax', or 'pyrender' (OpenGL on OSMesa; the extra `pyrender` and the system's libOSMesa).
      maps: which of 'depth', 'normal', 'semantic_map', 'mask'.

    Returns:
      For each map uint8 (T, H, W, 3), or (T, H, W) for 'depth' and 'mask'; 0 where there is no body.

    Raises:
      InputError: no frames, wrong shapes, numbers that are not finite, a body behind the camera or cut by it in view,
        or a backend that is not there.

    Warns:
      UserWarning: frames that do not show the body at all, whose maps are empty.
    """
    vertices = np.asarray(vertices)
    if vertices.ndim != 3 or vertices.shape[2] != 3:
        raise InputError(f"vertices have shape {vertices.shape}; expected (frames, vertices, 3)")
    renderer = MapRenderer(faces, parts, image_size, backend=backend, maps=maps)
    return renderer(vertices, focal)


class MapRenderer:
    """Draws frames of one mesh at one size; see `render`, which this is cut in two for drawing piece by piece."""

    def __init__(
        self,
        faces: np.ndarray,
        parts: np.ndarray,
        image_size: Sequence[int],
        *,
        backend: str = "jax",
        maps: Sequence[str] = MAPS,
    ):
        self.image_size = check_image_size(image_size)
        mesh = read_fields(
            "mesh", {"faces": faces, "parts": parts}, {name: FIELDS[name] for name in ("faces", "parts")}
        )
        faces, parts = mesh["faces"], mesh["parts"]
        if not len(faces) or faces.max() >= len(parts):
            raise InputError(
                f"faces name vertices up to {faces.max(initial=-1)}, parts describes {len(parts)} vertices"
            )
        Items(Choice(*MAPS)).check("maps", tuple(maps))
        Choice(*BACKENDS).check("backend", backend)
        self.maps = tuple(maps)
        self._drawn = tuple(name for name in MAPS if name in maps or name == "mask")  # the mask shows empty frames
        self._faces = faces
        self._mesh: tuple[jax.Array, jax.Array, jax.Array] = jax.device_put(
            (self._faces, LINEAR_PART_COLORS[parts], np.float32(np.max(np.bincount(faces.ravel()))))
        )
        self._rasterizer = PyrenderRasterizer(self._faces, self.image_size) if backend == "pyrender" else None
        self._num_vertices = len(parts)

    def __call__(
        self, vertices: np.ndarray, focal: np.ndarray | float, numbers: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Draws vertices (T, V, 3); messages call the frames `numbers` (T,), 0.. by default."""
        vertices = np.asarray(vertices, np.float32)
        numbers = np.arange(len(vertices)) if numbers is None else numbers
        focal = self._check(vertices, np.asarray(focal, np.float32), numbers)
        if self._rasterizer is None:
            drawn = self._draw_jax(vertices, focal)
        else:
            drawn = self._draw_pyrender(self._rasterizer, vertices, focal)
        empty = numbers[~drawn["mask"].any(axis=(1, 2))]
        if len(empty):
            warnings.warn(f"{name_frames(empty)}: the body is outside the picture, the maps are empty", stacklevel=2)
        return {name: drawn[name] for name in self.maps}

    def _draw_jax(self, vertices: np.ndarray, focal: np.ndarray) -> dict[str, np.ndarray]:
        on_cpu = jax.default_backend() == "cpu"
        size, in_flight = (1, _CPU_FRAMES_IN_FLIGHT) if on_cpu else (_ACCELERATOR_BATCH, 2)
        pending, done = [], []
        for start in range(0, len(vertices), size):
            frames = np.minimum(np.arange(start, start + size), len(vertices) - 1)  # the last batch repeats its end
            pending.append(draw_maps(vertices[frames], focal[frames], *self._mesh, self.image_size, self._drawn))
            if len(pending) == in_flight:
                done.append(jax.device_get(pending.pop(0)))
        done += jax.device_get(pending)
        return {name: np.concatenate([part[name] for part in done])[: len(vertices)] for name in self._drawn}

    def _draw_pyrender(
        self, rasterizer: PyrenderRasterizer, vertices: np.ndarray, focal: np.ndarray
    ) -> dict[str, np.ndarray]:
        frames = [
            rasterizer.draw(points, lengths, *self._mesh, self._drawn) for points, lengths in zip(vertices, focal)
        ]
        return {name: np.stack([frame[name] for frame in frames]) for name in self._drawn}

    def _check(self, vertices: np.ndarray, focal: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Refuses what cannot be drawn; returns the focal lengths as (T, 2)."""
        count = len(vertices)
        if not count:
            raise InputError("the sequence has no frames")
        if vertices.shape[1:] != (self._num_vertices, 3):
            raise InputError(f"vertices have shape {vertices.shape}; expected (frames, {self._num_vertices}, 3)")
        if focal.shape not in ((), (count,), (count, 2)):
            raise InputError(f"focal has shape {focal.shape}; expected a number, ({count},) or ({count}, 2)")
        focal = np.broadcast_to(focal if focal.ndim == 2 else focal.reshape(-1, 1), (count, 2))
        for name, bad in (
            ("vertices are not finite", ~np.isfinite(vertices).all(axis=(1, 2))),
            ("focal is not a positive number of pixels", ~(np.isfinite(focal) & (focal > 0)).all(axis=1)),
            ("the body is behind the camera", (vertices[..., 2] < NEAR).all(axis=1)),
        ):
            if bad.any():
                raise InputError(f"frame {numbers[np.argmax(bad)]}: {name}")
        for frame in np.flatnonzero((vertices[..., 2] < NEAR).any(axis=1)):
            if self._cut_in_view(vertices[frame], focal[frame]):
                raise InputError(
                    f"frame {numbers[frame]}: the body passes through the camera (nearest point at "
                    f"z = {vertices[frame, :, 2].min():.2f} m); move it away"
                )
        return focal

    def _cut_in_view(self, vertices: np.ndarray, focal: np.ndarray) -> bool:
        """Whether a triangle that reaches from before `NEAR` to behind it may show in the frame."""
        corners = vertices[self._faces].astype(np.float64)
        behind = corners[..., 2] < NEAR
        corners = corners[behind.any(axis=1) & ~behind.all(axis=1)]
        if not len(corners):
            return False
        # Each triangle's part before the camera is the hull of its corners there and its edges' crossings of z = NEAR.
        following = np.roll(corners, -1, axis=1)
        rise = following[..., 2] - corners[..., 2]
        share = np.divide(NEAR - corners[..., 2], rise, out=np.full(rise.shape, -1.0), where=rise != 0)
        crossings = corners + share[..., None] * (following - corners)
        points = np.concatenate([corners, crossings], axis=1)
        counts = np.concatenate([corners[..., 2] >= NEAR, (share >= 0) & (share <= 1)], axis=1)
        positions = np.array(self.image_size) / 2 + focal * points[..., :2] / np.maximum(points[..., 2:], NEAR)
        low = np.where(counts[..., None], positions, np.inf).min(axis=1)
        high = np.where(counts[..., None], positions, -np.inf).max(axis=1)
        return bool(((high >= 0) & (low <= self.image_size)).all(axis=1).any())


def check_image_size(image_size: Sequence[int] | np.ndarray) -> tuple[int, int]:
    """[W, H] as a tuple of positive integers.

    Raises:
      InputError: it is something else, or drawing frames of this size would take more memory than there is.
    """
    width, height = read_field("maps", "image_size", image_size, Field((2,), np.int64, SIDE)).tolist()
    require_memory(
        width * height * _BYTES_PER_PIXEL, f"image_size {width}x{height}: drawing the maps", "choose a smaller size"
    )
    return width, height


def name_frames(frames: np.ndarray) -> str:
    """'frame 3', 'frames 3, 4' or 'frames 3, 4, 5 and 12 more'."""
    named = ", ".join(str(frame) for frame in frames[:3])
    more = f" and {len(frames) - 3} more" if len(frames) > 3 else ""
    return f"frame{'s' if len(frames) > 1 else ''} {named}{more}"
