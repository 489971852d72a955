"""The second rasterizer: OpenGL through pyrender on OSMesa, in software and without a display.

It finds which triangle every pixel sees; the maps are then shaded by the same code as with the JAX rasterizer.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np

from champ_jax.common.errors import InputError
from champ_jax.conditions.maps import shade
from champ_jax.conditions.rasterizer import NEAR, Raster

# How far beyond the body the clipping planes lie, as a share of its depth: close, for a precise depth buffer.
_MARGIN = 0.05


class PyrenderRasterizer:
    """Draws frames of one mesh at one size.

    Raises:
      InputError: pyrender or OSMesa is not there.
    """

    def __init__(self, faces: np.ndarray, image_size: tuple[int, int]):
        os.environ.setdefault("PYOPENGL_PLATFORM", "osmesa")
        try:
            import pyrender

            self._renderer = pyrender.OffscreenRenderer(*image_size)
        except Exception as error:  # a missing library shows as ImportError, AttributeError, OSError or an OpenGL error
            raise InputError(
                f"backend 'pyrender' cannot start ({type(error).__name__}: {error}); pip install "
                "'champ_jax[pyrender]' and OSMesa (libosmesa6 on Debian), or use backend 'jax'"
            ) from error
        self._pyrender = pyrender
        self._image_size = image_size
        self._faces = faces
        # Every triangle is drawn in the color that encodes its number in three bytes.
        number = np.arange(len(faces))
        spelled = np.stack([number >> 16, (number >> 8) & 255, number & 255], axis=-1)
        opaque = np.concatenate([spelled / 255, np.ones((len(faces), 1))], axis=-1)
        self._colors = np.repeat(opaque.astype(np.float32), 3, axis=0)

    def rasterize(self, vertices: np.ndarray, focal: np.ndarray) -> Raster:
        """What each pixel sees of camera-space vertices (V, 3), with focal lengths (2,) px along x and y."""
        pyrender = self._pyrender
        width, height = self._image_size
        z = vertices[:, 2]
        z = z[z >= NEAR]
        margin = _MARGIN * max(float(z.max() - z.min()), NEAR)
        camera = pyrender.IntrinsicsCamera(
            *(float(f) for f in focal),
            width / 2,
            height / 2,
            znear=max(float(z.min()) - margin, NEAR / 2),
            zfar=float(z.max()) + margin,
        )
        corners = vertices[self._faces]
        corners = np.where((corners[..., 2] >= NEAR).all(axis=1)[:, None, None], corners, -1)
        corners = corners.reshape(-1, 3) * np.array([1, -1, -1], np.float32)  # OpenGL: y up, z backward
        primitive = pyrender.Primitive(positions=corners, color_0=self._colors)
        scene = pyrender.Scene(bg_color=(0, 0, 0, 1))
        scene.add(pyrender.Mesh([primitive]))
        scene.add(camera)
        flags = pyrender.RenderFlags.FLAT | pyrender.RenderFlags.SKIP_CULL_FACES
        color, depth = self._renderer.render(scene, flags=flags)
        depth, color = depth.reshape(-1), color.reshape(-1, 3).astype(np.int32)
        triangle = color[:, 0] << 16 | color[:, 1] << 8 | color[:, 2]
        triangle = np.where(depth > 0, triangle, -1)
        return Raster(jnp.asarray(triangle, jnp.int32), jnp.asarray(depth, jnp.float32))

    def draw(
        self,
        vertices: np.ndarray,
        focal: np.ndarray,
        faces: jax.Array,
        colors: jax.Array,
        valence: jax.Array,
        maps: tuple[str, ...],
    ) -> dict[str, np.ndarray]:
        """The maps of one frame; arguments as `maps.shade`."""
        raster = self.rasterize(vertices, focal)
        return jax.device_get(shade(raster, vertices, focal, faces, colors, valence, self._image_size, maps))
