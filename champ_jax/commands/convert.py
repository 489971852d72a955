"""Converts the weights people have to a checkpoint directory of champ_jax.

  champ convert --source=pretrained_models --output=DIR [--dtype=bfloat16]
      Champ's tree: champ/*.pth, sd-vae-ft-mse/, image_encoder/, stable-diffusion-v1-5/unet/config.json.

  champ convert --source=stable-diffusion-v1-5 --image_encoder=DIR --motion_module=mm_sd_v15_v2.ckpt --output=DIR
  champ convert --source=v1-5-pruned.safetensors --image_encoder=DIR --output=DIR
      Stable Diffusion 1.5, as a folder of diffusers or one file, to start training: ReferenceNet and denoiser are both
      its UNet; guidance encoders, and motion modules where none are given, are initialized.

  champ convert --source=FOLDER --output=DIR
      The published files of the networks that `champ evaluate` looks through (docs/evaluation.md).

  champ convert --source=epoch=35-step=1000000.ckpt --output=hmr2.safetensors
      HMR2's published checkpoint, for `champ fit --hmr2` (docs/fitting.md).

Prints a line for each part: tensors, parameters, and the file they were read from or that they were initialized.
Nothing is written unless every tensor fits.
"""

from collections.abc import Sequence

from champ_jax.common.cli import Parser
from champ_jax.common.ranges import Choice
from champ_jax.evaluation import network_weights as evaluation_weights
from champ_jax.fitting.hmr2 import weights as hmr2_weights
from champ_jax.weights.checkpoint import DTYPES
from champ_jax.weights.convert import convert
from champ_jax.weights.orbax_arrays import ignore_orphaned_writes


def parser() -> Parser:
    """What the command takes."""
    parser = Parser(description=__doc__)
    files = parser.add_argument_group("inputs and outputs")
    files.add_argument(
        "--source", required=True, metavar="PATH", help="pretrained_models tree, Stable Diffusion folder or file"
    )
    files.add_argument("--output", required=True, metavar="PATH", help="checkpoint directory to write or replace")
    files.add_argument("--vae", metavar="PATH", help="folder or file of the VAE, if not the source's")
    files.add_argument("--image_encoder", metavar="PATH", help="folder of the image encoder, if not the source's")
    files.add_argument(
        "--motion_module",
        metavar="PATH",
        help="file of the motion modules (AnimateDiff v1, v2), if not the source's; none: leave out",
    )
    model = parser.add_argument_group("the checkpoint")
    model.add_argument(
        "--dtype", default="float32", type=Choice(*DTYPES), help="of the arrays written; float32 is lossless"
    )
    model.add_argument(
        "--conditions",
        default="depth,normal,semantic_map,dwpose",
        metavar="LIST",
        help="the guidance encoders to have",
    )
    model.add_argument(
        "--partial", action="store_true", help="initialize (or take from Stable Diffusion) what champ/ lacks"
    )
    model.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the initialization")
    return parser


def main(argv: Sequence[str]) -> None:
    """Parses the arguments and converts."""
    arguments = parser().parse_args(argv)
    ignore_orphaned_writes()
    if hmr2_weights.is_published(arguments.source):
        lines = hmr2_weights.convert(arguments.source, arguments.output, dtype=arguments.dtype)
        print("\n".join([*lines, f"written: {arguments.output}"]))
        return
    if evaluation_weights.find_published(arguments.source):
        converted, lacking = evaluation_weights.convert(arguments.source, arguments.output)
        for network, files in converted.items():
            print(f"{network}  from {', '.join(files)}")
        for network, why in lacking.items():
            print(f"{network}  left out: {why}")
        print(f"written: {arguments.output}")
        return
    arguments.conditions = [name.strip() for name in arguments.conditions.split(",") if name.strip()]
    plan = convert(**vars(arguments))
    print(plan.table())
    print(f"written: {arguments.output}")
