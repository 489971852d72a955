"""Times the drawing of conditions: every map of a frame of the open body (13,718 vertices), and its skeleton.

  python tools/benchmark_conditions.py --image-size=512x512 --frames=48 --backend=jax

Compilation is not counted. `busy` is the processor time of a frame, summed over cores: unlike the time that passes, it
does not depend on what else the machine does.
"""

import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from champ_jax.body.authored import load_authored
from champ_jax.body.motion import camera_points
from champ_jax.body.smpl import load_body
from champ_jax.cli import Parser, run
from champ_jax.conditions import BACKENDS, render_motion
from champ_jax.conditions.maps import MAPS
from champ_jax.conditions.render import MapRenderer
from champ_jax.errors import InputError


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--image-size", default="512x512", help="WxH of the maps")
    parser.add_argument("--frames", type=int, default=48, help="how many frames to draw")
    parser.add_argument("--backend", default="jax", help=f"one of {', '.join(BACKENDS)}")
    arguments = parser.parse_args(argv)
    sides = arguments.image_size.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() for side in sides):
        raise InputError(f"--image-size={arguments.image_size}: want WxH, for example 512x512")
    if arguments.frames < 1:
        raise InputError(f"--frames={arguments.frames}: want 1 or more")
    benchmark((int(sides[0]), int(sides[1])), arguments.frames, arguments.backend)


def benchmark(image_size: tuple[int, int], frames: int, backend: str) -> None:
    """Prints the time a frame takes; the person's height is about four fifths of the picture's."""
    body, motion = load_body(), load_authored("wave")
    motion = motion[np.arange(frames) % len(motion)]
    vertices = np.asarray(camera_points(body, motion)[0])
    focal = 0.8 * image_size[1] * vertices[..., 2].mean() / np.ptp(vertices[..., 1], axis=1).min()
    renderer = MapRenderer(np.asarray(body.faces), np.asarray(body.parts), image_size, backend=backend)
    skeletons = render_motion(motion, body, image_size=image_size, conditions=("dwpose",))
    device = jax.devices()[0]
    print(f"{device.platform} ({device.device_kind}), {image_size[0]}x{image_size[1]}, {frames} frames, {backend}")
    _report(", ".join(MAPS), lambda: renderer(vertices, focal), frames)
    _report("posing, dwpose", lambda: skeletons.read(0, frames), frames)


def _report(name: str, draw: Callable[[], object], frames: int) -> None:
    draw()
    start, busy = time.perf_counter(), time.process_time()
    draw()
    passed, busy = time.perf_counter() - start, time.process_time() - busy
    print(f"{name:35s} {1000 * passed / frames:8.1f} ms a frame ({1000 * busy / frames:.1f} ms busy)")


if __name__ == "__main__":
    run(main)
