"""Writes folders of videos as a dataset to train on, and caches what the frozen networks make of it.

  python tools/build_dataset.py --source=DIR --output=DATASET
  python tools/build_dataset.py --output=DATASET --cache_latents --weights=CHECKPOINT --size=512x512

A source holds videos at any depth: VIDEO/{images,depth,normal,semantic_map,dwpose,mask}/NNNN.png, and human_bbox.json
if there are boxes of the person. Every picture is checked. What cannot be used is left out and named with the reason,
here and in DATASET/report.json. The same command again adds what is new and continues a run that was killed.

The cache holds the VAE's posterior and the CLIP embedding of every frame, for training with data.cached=true and the
same size, crop and resize. It fixes the window of every frame, so training on it has no random crops.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence

from champ_jax.common.cli import Parser, run
from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.data.build import REPORT, build_dataset
from champ_jax.data.framing import Framing
from champ_jax.data.latents import Encoder, cache_latents, check_fixed, folder_name

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
    cache.add_argument("--cache_latents", action="store_true", help="compute it for all frames that lack it")
    cache.add_argument("--weights", help="a checkpoint directory or work folder with the VAE and the image encoder")
    cache.add_argument("--size", default="512x512", help="WIDTHxHEIGHT of the training (%(default)s)")
    cache.add_argument("--crop", default="center", help="center or none (%(default)s)")
    cache.add_argument("--resize", default="cover", help="cover, pad or stretch (%(default)s)")
    cache.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="(%(default)s)")
    cache.add_argument("--batch_size", type=int, default=8, help="frames a device at a time (%(default)s)")
    options = parser.parse_args(argv)
    if not options.source and not options.cache_latents:
        raise InputError("--source: names no folder of videos; see --help")
    if options.source:
        build(options)
    if options.cache_latents:
        cache_frames(options)
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


def cache_frames(options: argparse.Namespace) -> None:
    if not options.weights:
        raise InputError("--cache_latents: needs --weights=CHECKPOINT (tools/convert_weights.py makes one)")
    framing = Framing(parse_size(options.size), options.crop, options.resize)
    check_fixed(framing)
    encoder = read_encoder(options.weights, options.dtype)
    count = cache_latents(options.output, encoder, framing, batch_size=options.batch_size)
    print(f"{options.output}/{folder_name(framing)}: {count} frames encoded", file=sys.stderr)


def read_encoder(weights: str, dtype: str) -> Encoder:
    """The networks of a checkpoint directory or a training work folder."""
    # JAX and the networks are not needed to build
    from champ_jax.data.encoder import NETWORKS, encoder_of, load_encoder
    from champ_jax.weights.checkpoint import cast, describe
    from champ_jax.weights.work_folder import is_work_folder, load_for_inference

    if not is_work_folder(weights):
        return load_encoder(weights, dtype)
    model, components = load_for_inference(weights)
    trees = {name: components[name] for name in NETWORKS}
    described = {name: describe(tree) for name, tree in trees.items()}
    return encoder_of(model, {name: cast(tree, dtype) for name, tree in trees.items()}, described, dtype)


def parse_size(text: str) -> tuple[int, int]:
    """'512x768' -> (512, 768)."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise InputError(f"--size={text}: write WIDTHxHEIGHT, for example 512x512")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    run(main)
