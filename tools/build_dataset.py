"""Writes folders of videos as a dataset to train on, and caches the frozen networks' outputs for it.

  python tools/build_dataset.py --source=DIR --output=DATASET
  python tools/build_dataset.py --output=DATASET --cache_latents --weights=CHECKPOINT --size=512x512

A source holds videos at any depth: VIDEO/{images,depth,normal,semantic_map,dwpose,mask}/NNNN.png, and optionally the
person's boxes in VIDEO/human_bbox.json. Every picture is checked. Videos that cannot be used are left out; the reasons
are printed and written to DATASET/report.json. The same command again adds new videos and continues a run that was
killed.

The cache holds the VAE's posterior and the CLIP embedding of every frame, for training with data.cached=true and the
same size, crop and resize. It fixes the window of every frame, so training on it has no random crops.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from champ_jax.common.cli import Parser, run
from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Integer
from champ_jax.data.build import REPORT, build_dataset
from champ_jax.data.framing import Framing, parse_size
from champ_jax.data.latents import cache_latents, check_fixed, folder_name

_SHOWN = 20  # lines of a report on the screen


def main(argv: Sequence[str]) -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("--source", nargs="+", action="extend", default=[], help="folders of videos; may be repeated")
    parser.add_argument("--output", required=True, help="the dataset's folder")
    parser.add_argument("--conditions", default=",".join(CONDITIONS), help="folders a video must have (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--runner", help="an Apache Beam runner instead of processes of this machine")
    parser.add_argument("--runner_options", default="", help="Beam's pipeline options, separated by spaces")
    cache = parser.add_argument_group("latent cache")
    cache.add_argument("--cache_latents", action="store_true", help="compute the cache for all frames that lack it")
    cache.add_argument("--weights", help="the VAE and the image encoder: a converted checkpoint or a work folder")
    cache.add_argument("--size", default="512x512", help="WIDTHxHEIGHT of the training (%(default)s)")
    cache.add_argument("--crop", default="center", help="center or none (%(default)s)")
    cache.add_argument("--resize", default="cover", help="cover, pad or stretch (%(default)s)")
    cache.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="(%(default)s)")
    cache.add_argument(
        "--batch_size",
        type=Integer(minimum=1, maximum=4096),
        default=8,
        help="frames for each device at a time (%(default)s)",
    )
    options = parser.parse_args(argv)
    if not options.source and not options.cache_latents:
        raise InputError("--source: expected a folder of videos; see --help")
    if options.cache_latents:
        framing = read_framing(options)  # wrong settings are errors before the first picture is read
    if options.source:
        build(options)
    if options.cache_latents:
        cache_frames(options, framing)
    return 0


def build(options: argparse.Namespace) -> None:
    report = build_dataset(
        options.source,
        options.output,
        conditions=tuple(options.conditions.split(",")),
        workers=options.workers,
        runner=options.runner,
        runner_options=options.runner_options.split(),
    )
    lines = [f"left out {entry['name']}: {entry['reason']}" for entry in report["left_out"]]
    lines += [f"note on {entry['name']}: {entry['note']}" for entry in report["notes"]]
    for line in lines[:_SHOWN]:
        print(line, file=sys.stderr)
    if len(lines) > _SHOWN:
        print(f"... and {len(lines) - _SHOWN} more in {options.output}/{REPORT}", file=sys.stderr)
    print(
        f"{options.output}: {report['videos']} videos, {report['frames']} frames; "
        f"{len(report['added'])} added, {len(report['left_out'])} left out",
        file=sys.stderr,
    )


def read_framing(options: argparse.Namespace) -> Framing:
    if not options.weights:
        raise InputError("--cache_latents: needs --weights=CHECKPOINT (`champ convert` makes one)")
    framing = Framing(parse_size("--size", options.size), options.crop, options.resize)
    check_fixed(framing)
    return framing


def cache_frames(options: argparse.Namespace, framing: Framing) -> None:
    from champ_jax.data.encoder import load_encoder  # building a dataset needs neither JAX nor the networks

    encoder = load_encoder(options.weights, options.dtype)
    count = cache_latents(options.output, encoder, framing, batch_size=options.batch_size)
    print(f"{options.output}/{folder_name(framing)}: {count} frames encoded", file=sys.stderr)


if __name__ == "__main__":
    run(main)
