"""Shows that device memory hardly grows with a video's length.

python tools/memory_by_length.py [--lengths=24,100,400,2000] [--size=64] [--weights=DIR]

Runs one denoising step and the decoder on videos of several lengths and prints, for each, the most arrays alive on the
device, the temporary memory of the largest program (one compile serves all lengths beyond a window), and the growth a
frame beside what a frame's latents (float32, three times: sample, prediction, next sample) and guidance take.
"""

import contextlib
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from tqdm import tqdm

from champ_jax.common.cli import Parser, run
from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.progress import Progress
from champ_jax.common.ranges import Integer, Items
from champ_jax.inference import builtin
from champ_jax.inference.pipeline import ChampPipeline
from champ_jax.inference.settings import Settings


class Frames:
    """A motion of any length that takes no memory of its own."""

    conditions, fps = CONDITIONS, None

    def __init__(self, length: int):
        self.length = length

    def __len__(self) -> int:
        return self.length

    def read(self, start: int, stop: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
        return {name: np.full((stop - start, size[1], size[0], 3), start % 256, np.uint8) for name in CONDITIONS}


class Watch(Progress):
    """Notes the most bytes of arrays alive whenever a bar moves, and at a bar's end."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.peak = 0

    @contextlib.contextmanager
    def bar(self, name: str, total: int, unit: str) -> Iterator[tqdm]:
        with super().bar(name, total, unit) as bar:
            bar.update = lambda count=1: self.note()
            yield bar
            self.note()

    def note(self) -> None:
        """Looks at the arrays that are alive now."""
        self.peak = max(self.peak, sum(array.nbytes for array in jax.live_arrays()))


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--lengths",
        type=Items(Integer(minimum=1, maximum=100_000), 1),
        default="24,100,400,2000",
        help="frames of each video",
    )
    parser.add_argument(
        "--size",
        type=Integer(minimum=8, maximum=4096, multiple_of=8),
        default=64,
        help="width and height of the pictures",
    )
    parser.add_argument("--weights", default="", help="weights of any kind; empty: the built-in small model")
    options = parser.parse_args(argv)
    pipeline = ChampPipeline.from_checkpoint(options.weights or builtin.MODEL, devices=jax.local_devices()[:1])
    settings = Settings(width=options.size, height=options.size, steps=1)
    picture = np.zeros((options.size, options.size, 3), np.uint8)
    shape = settings.latent_shape(pipeline.config, picture.shape, 1)[1:]
    per_frame = 3 * 4 * np.prod(shape) + 2 * np.prod(shape[:2]) * pipeline.config.guidance.out_channels
    print(f"a frame's latents and guidance: {per_frame / 2**10:.1f} KiB")
    print(f"{'frames':>7} {'arrays MiB':>11} {'largest program MiB':>20} {'growth KiB/frame':>17}")
    before = None
    for length in sorted(options.lengths):
        watch = Watch()
        animation = pipeline.animate(picture, Frames(length), settings, progress=watch)
        for _ in animation.decode():
            pass
        temporary = max(program.memory_analysis().temp_size_in_bytes for program in pipeline.compiled.values())
        growth = "" if before is None else f"{(watch.peak - before[1]) / (length - before[0]) / 2**10:.1f}"
        print(f"{length:7} {watch.peak / 2**20:11.1f} {temporary / 2**20:20.1f} {growth:>17}", flush=True)
        before = length, watch.peak


if __name__ == "__main__":
    run(main)
