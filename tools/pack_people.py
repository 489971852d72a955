"""Packs synthetic people in the form in which the package has them: a picture, a motion, and the true video.

python tools/pack_people.py --source=work/builtin/held_out/test --names=p00003_m00003 --output=champ_jax/assets/people

OUTPUT/NAME gets reference.png (the first frame), motion.npz and truth.mp4.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from champ_jax.body.motion import Motion
from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.common.outputs import Output, claim, folder_of
from champ_jax.common.pictures import list_images, read_image
from champ_jax.common.videos import write_video
from champ_jax.evaluation.baselines import IMAGES, find_people

_PERSON = folder_of("a packed person", r"reference\.png|motion\.npz|truth\.mp4")


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--source", required=True, help="folder of videos that tools/make_people.py made")
    parser.add_argument("--names", required=True, help="names of the videos to pack, separated by commas")
    parser.add_argument("--output", required=True, help="folder for the people")
    options = parser.parse_args(argv)
    videos, names = {video.name: video for video in find_people(options.source)}, options.names.split(",")
    for name in names:
        if name not in videos:
            raise InputError(f"--names={name}: {options.source} holds no such video")
    outputs = [Output("--output", Path(options.output) / name, _PERSON) for name in names]
    claim(outputs, [videos[name] for name in names])
    for name in names:
        video, frames = videos[name], list_images(videos[name] / IMAGES)
        fps = Motion.load(video / "motion.npz").fps
        with atomic_path(Path(options.output) / name, folder=True) as folder:
            folder.mkdir(parents=True)
            shutil.copyfile(frames[0], folder / "reference.png")
            shutil.copyfile(video / "motion.npz", folder / "motion.npz")
            write_video(folder / "truth.mp4", map(read_image, frames), fps)
        size = sum(path.stat().st_size for path in (Path(options.output) / name).iterdir())
        print(f"{options.output}/{name}: {len(frames)} frames, {size / 2**10:.0f} KiB")


if __name__ == "__main__":
    run(main)
