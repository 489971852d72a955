"""Making synthetic people: a whole video's folder, from its numbers to its files."""

import dataclasses
import tempfile

from benchmarks.timing import Row, measure
from champ_jax.data.synthetic.one_video import Settings, name_video, write_video


def run(size: int, frames: int, repeats: int) -> list[Row]:
    """Times a frame of `size` x `size`, all conditions and files included, over the first four videos of seed 0."""
    settings = Settings(size=(size, size), frames=frames)
    names = [name_video(settings, number) for number in range(4)]

    def make() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                write_video(settings, name, folder)

    row = measure("pictures, conditions, key points", make, repeats=repeats)
    count = len(names) * frames
    return [
        dataclasses.replace(
            row,
            seconds=row.seconds / count,
            fastest=row.fastest / count,
            slowest=row.slowest / count,
            per="1 frame",
        )
    ]
