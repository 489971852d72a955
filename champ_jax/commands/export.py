"""Writes a checkpoint directory of champ_jax as the `pretrained_models/` tree that PyTorch users load.

  champ export --checkpoint=DIR --output=pretrained_models_out
  champ export --checkpoint=WORKDIR --lora=kohya --output=adapters

DIR is a checkpoint directory or a training's work folder (its newest checkpoint, averaged parameters if it keeps any).
A tensor goes out in the dtype it once came in where that loses nothing, in float32 otherwise, as all of a work folder's
do; the VAE's attention has the names diffusers uses since 0.18. Needs PyTorch (pip install 'champ_jax[convert]').

With --lora the adapters alone of a training with trainable=lora are written, a .safetensors file (kohya) or a folder
(peft) for each network that has some.
"""

from collections.abc import Sequence

from champ_jax.common.cli import Parser
from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Choice
from champ_jax.weights.export import export, export_run
from champ_jax.weights.lora_export import NAMINGS, export_lora
from champ_jax.weights.work_folder import is_work_folder


def parser() -> Parser:
    """What the command takes."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--checkpoint", required=True, metavar="PATH", help="checkpoint directory or training work folder"
    )
    parser.add_argument("--output", required=True, metavar="PATH", help="folder to write; must not exist, or be empty")
    parser.add_argument(
        "--lora", type=Choice(*NAMINGS), metavar="|".join(NAMINGS), help="write adapters alone, so named"
    )
    return parser


def main(argv: Sequence[str]) -> None:
    """Parses the arguments and exports."""
    arguments = parser().parse_args(argv)
    if arguments.lora:
        if not is_work_folder(arguments.checkpoint):
            raise InputError(f"--lora={arguments.lora}: {arguments.checkpoint} is no work folder of a training by LoRA")
        for place, count in export_lora(arguments.checkpoint, arguments.output, arguments.lora).items():
            print(f"{place}: {count} tensors")
        print(f"written: {arguments.output}")
        return
    write = export_run if is_work_folder(arguments.checkpoint) else export
    written = write(arguments.checkpoint, arguments.output)
    for place, dtypes in written.items():
        print(f"{place}: {', '.join(f'{count} {dtype}' for dtype, count in dtypes.items())}")
    print(f"written: {arguments.output}")
