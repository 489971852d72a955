"""Makes videos of synthetic people to train on, with exact conditions and key points.

  python tools/make_people.py --output=DIR --count=200 --seed=0 --workers=8
  python tools/make_people.py --output=DIR --count=20 --seed=1 --extreme     # shapes far from the mean

DIR becomes {train,test}/VIDEO/{images,depth,normal,semantic_map,dwpose,mask}/NNNN.png with motion.npz, which
tools/build_dataset.py takes as it is (--source=DIR/train), and split.json. People and motions of test/ are never in
train/. The same options give the same bytes for any number of --workers. The same command again continues a run that
was interrupted, and a larger --count adds videos.
"""

import os
from collections.abc import Sequence

from champ_jax.common.cli import Parser, run
from champ_jax.data.framing import parse_size
from champ_jax.data.synthetic.many_videos import make_people
from champ_jax.data.synthetic.one_video import Settings


def main(argv: Sequence[str]) -> None:
    default = Settings()
    parser = Parser(description=__doc__)
    parser.add_argument("--output", required=True, help="folder of the videos")
    parser.add_argument("--count", type=int, required=True, help="number of videos, of both parts together")
    parser.add_argument("--seed", type=int, default=default.seed, help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--size", default="x".join(map(str, default.size)), help="size of the pictures (%(default)s)")
    parser.add_argument(
        "--frames", type=int, default=default.frames, help="frames of each video, 24 a second (%(default)s)"
    )
    parser.add_argument("--extreme", action="store_true", help="tall or small, heavy or lean: far from the mean")
    parser.add_argument("--plain", action="store_true", help="studios and clothes of one color: easy to learn")
    parser.add_argument("--videos_per_identity", type=int, default=1, help="motions of each person (%(default)s)")
    parser.add_argument(
        "--test_share", type=float, default=default.test_share, help="share of the videos for testing (%(default)s)"
    )
    options = parser.parse_args(argv)
    settings = Settings(
        seed=options.seed,
        size=parse_size("--size", options.size),
        frames=options.frames,
        extreme=options.extreme,
        plain=options.plain,
        videos_per_identity=options.videos_per_identity,
        test_share=options.test_share,
    )
    made = make_people(options.output, options.count, settings, options.workers)
    print(f"{options.output}: {options.count} videos of {options.frames} frames, {made} made now")


if __name__ == "__main__":
    run(main)
