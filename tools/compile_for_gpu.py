"""Compiles programs for a GPU on a machine without one, and says what they move, compute and take of its memory.

    python tools/compile_for_gpu.py --gpu=h100 --program=denoiser,decoder --size=512 --frames=24 --report=now.json
    python tools/compile_for_gpu.py --gpu=h100 --program=denoiser --compare=before.json

Needs JAX's CUDA plugin (pip install 'champ_jax[cuda]'), no GPU: shapes stand for all arrays, in bfloat16, at Champ's
sizes. A full-size program compiles in minutes. Times are a roofline's, which no program beats, and no measurement:
docs/performance.md says what they are good for.
"""

import dataclasses
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from runpy import run_path

from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Integer

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
# Products by cuBLAS: without a device nothing chooses between them and Triton's, whose default tiles are slow.
OPTIONS = {"xla_gpu_enable_triton_gemm": "false"}
# Frames of a call, where it takes not a whole window: the default chunk, a reference, single frames.
FRAMES = {"decoder": 4, "conditions": 4, "picture": 1, "stage1": 1, "stage1_lora": 1}
LORA = "_lora"


def main(argv: Sequence[str]) -> None:
    from champ_jax.planning.cost_report import comparison, load_reports, report_table, save_reports
    from champ_jax.planning.gpu_programs import PROGRAMS
    from champ_jax.planning.gpus import GPUS, Gpu

    parser = Parser(description=__doc__)
    parser.add_argument("--gpu", default="h100", help=f"{', '.join(GPUS)} (%(default)s)")
    parser.add_argument("--program", default="denoiser", help=f"of {', '.join(PROGRAMS)}; several with commas")
    parser.add_argument("--size", default="512", help="pixels of a side, or WIDTHxHEIGHT; several with commas")
    parser.add_argument("--frames", type=Integer(minimum=1, maximum=24), default=24, help="of a window or clip")
    parser.add_argument("--batch", type=Integer(minimum=1, maximum=4096), default=1, help="samples of a training step")
    parser.add_argument(
        "--reduction",
        type=int,
        choices=(1, 2, 5, 10),
        default=1,
        help="divides the channels of the UNets; 10 compiles soon",
    )
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of the compiler")
    parser.add_argument("--report", help="JSON file to write")
    parser.add_argument("--compare", help="JSON file of an earlier --report; prints what changed")
    parser.add_argument("--hlo", help="folder for the programs' text")
    options = parser.parse_args(argv)
    gpu = Gpu.load(options.gpu)
    programs = _names("--program", options.program, PROGRAMS)
    sizes = [_size(text) for text in options.size.split(",")]
    compiler = OPTIONS | dict(_option(text) for text in options.option)
    before = load_reports(options.compare) if options.compare else []
    device = gpu.device()
    reports = []
    for size in sizes:
        for program in programs:
            report, text = _compile(program, gpu, device, size, compiler, options)
            reports.append(report)
            print(report_table(report, gpu), end="\n\n", flush=True)
            if options.hlo:
                folder = Path(options.hlo)
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{re.sub('[^a-z0-9]+', '_', report.key)}.hlo").write_text(text)
            if options.report:
                save_reports(options.report, reports)
    if before:
        print(comparison(before, reports))


def _compile(program, gpu, device, size, compiler, options):
    import jax

    from champ_jax.planning.compiled_step import compile_lowered
    from champ_jax.planning.cost_report import CostReport
    from champ_jax.planning.gpu_programs import TRAINING, lower_inference, lower_training
    from champ_jax.planning.hlo import Program
    from champ_jax.planning.kernel_costs import kernels_of

    began = time.monotonic()
    if program in TRAINING:
        config = run_path(str(CONFIGS / f"{program.removesuffix(LORA)}.py"))["get_config"]()
        if program.endswith(LORA):
            config.trainable = "lora"
        config.data.image_size, config.data.batch_size = size, options.batch
        config.data.frames = options.frames
        lowered = lower_training(config, device, gpu)
    else:
        model = _model(options.reduction)
        lowered = lower_inference(model, program, device, size, options.frames, jax.numpy.bfloat16)
    memory, text = compile_lowered(lowered, {name: _value(value) for name, value in compiler.items()})
    report = CostReport.make(
        kernels_of(Program.parse(text)),
        gpu,
        program=program,
        gpu=options.gpu,
        size=size,
        frames=FRAMES.get(program, options.frames),
        batch=options.batch,
        reduction=options.reduction,
        options=compiler,
        jax=jax.__version__,
        memory=memory,
        seconds=time.monotonic() - began,
    )
    return report, text


def _model(reduction: int):
    from champ_jax.models.champ import ChampConfig

    config = ChampConfig()
    channels = tuple(count // reduction for count in config.unet.block_out_channels)
    guidance = dataclasses.replace(config.guidance, out_channels=channels[0])
    return dataclasses.replace(
        config, unet=dataclasses.replace(config.unet, block_out_channels=channels), guidance=guidance
    )


def _names(option: str, text: str, known: Sequence[str]) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in known:
            raise InputError(f"{option}={name}: unknown; choose {', '.join(known)}")
    return names


def _size(text: str) -> tuple[int, int]:
    from champ_jax.data.framing import parse_size

    return parse_size("--size", text if "x" in text else f"{text}x{text}")


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--option={text}: expected NAME=VALUE, for example xla_gpu_dot_merger_threshold_mb=0")
    return name, value


def _value(text: str) -> bool | int | str:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.lstrip("-").isdigit() else text


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX is loaded: nothing is computed
    run(main)
