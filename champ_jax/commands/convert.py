"""Converts the weights people have to a checkpoint directory of champ_jax.

  convert_weights.py --source=pretrained_models --output=DIR [--dtype=bfloat16]
      Champ's tree: champ/*.pth, sd-vae-ft-mse/, image_encoder/, stable-diffusion-v1-5/unet/config.json.

  convert_weights.py --source=stable-diffusion-v1-5 --image_encoder=DIR --motion_module=mm_sd_v15_v2.ckpt --output=DIR
  convert_weights.py --source=v1-5-pruned.safetensors --image_encoder=DIR --output=DIR
      Stable Diffusion 1.5, as a folder of diffusers or one file, to start training: ReferenceNet and denoiser are both
      its UNet; guidance encoders, and motion modules where none are given, are initialized.

  convert_weights.py --source=FOLDER --output=DIR
      The published files of the networks that python -m champ_jax.evaluate looks through (docs/evaluation.md).

  convert_weights.py --source=epoch=35-step=1000000.ckpt --output=hmr2.safetensors
      HMR2's published checkpoint, for tools/fit_motion.py --hmr2 (docs/fitting.md).

Prints a line for each part: tensors, parameters, and the file they were read from or that they were initialized.
Nothing is written unless every tensor fits.
"""

from collections.abc import Sequence

from champ_jax.common.cli import Parser
from champ_jax.evaluation import network_weights as evaluation_weights
from champ_jax.fitting.hmr2 import weights as hmr2_weights
from champ_jax.weights.convert import convert
from champ_jax.weights.orbax_arrays import ignore_orphaned_writes


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--source", required=True, help="pretrained_models tree, Stable Diffusion folder or file")
    parser.add_argument("--output", required=True, help="checkpoint directory to write or replace")
    parser.add_argument(
        "--dtype", default="float32", help="dtype of the arrays written: float32 (lossless) or bfloat16"
    )
    parser.add_argument("--vae", help="folder or file of the VAE, if not the source's")
    parser.add_argument("--image_encoder", help="folder of the image encoder, if not the source's")
    parser.add_argument(
        "--motion_module", help="file of the motion modules (AnimateDiff v1, v2), if not the source's; none: leave out"
    )
    parser.add_argument(
        "--conditions", default="depth,normal,semantic_map,dwpose", help="the guidance encoders to have"
    )
    parser.add_argument(
        "--partial", action="store_true", help="initialize (or take from Stable Diffusion) what champ/ lacks"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the initialization")
    arguments = parser.parse_args(argv)
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
