"""Compiles a training step for a TPU slice on a machine without one, and says what it takes of memory and links.

    python tools/compile_for_tpu.py --config=configs/stage2.py --topology=v6e:2x4 --config.mesh.fsdp=8 \\
        --report=stage2.json
    python tools/compile_for_tpu.py --config=configs/stage2.py --scaling=stage2.json

Needs libtpu (pip install 'champ_jax[tpu]'), no TPU: shapes stand for all arrays. The full-size steps compile for tens
of minutes on one core and take some 12 GiB of memory. --program=FILE keeps the compiled program. The second command
compiles nothing: it reckons from a report how memory and time depend on the mesh (docs/scaling.md). Model sizes are
those of --config.model, or Champ's; --config.init is not read.
"""

import os
import resource
from collections.abc import Sequence
from pathlib import Path

from champ_jax.cli import parse_config, run
from champ_jax.errors import InputError

UTILISATION = 0.4  # of the peak, assumed in the table of step times
# What libtpu needs where there is no TPU.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def main(argv: Sequence[str]) -> None:
    from champ_jax.training.config import check, stage2  # loads JAX, after the environment is set

    names = ("topology", "report", "program", "scaling")
    config, options = parse_config(argv, stage2, description=__doc__, options=names)
    check(config)
    if ("topology" in options) == ("scaling" in options):
        raise InputError("give --topology=NAME (v5e:4x4) to compile, or --scaling=REPORT to reckon from a report")
    with config.unlocked():
        config.init = config.init_motion = ""
    from champ_jax.training import ahead, initialise, scaling

    network = initialise.load_initial(config, "tpu").network
    if "scaling" in options:
        print(scaling.scaling_table(config, network, ahead.Report.load(options["scaling"]), UTILISATION))
        return
    _compile(config, network, options)


def _compile(config, network, options) -> None:
    from champ_jax.training import ahead, scaling
    from champ_jax.training.config import kernels, tokens
    from champ_jax.training.sharding import make_mesh

    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, ahead.tpu_devices(options["topology"]))
    shape = f"mesh data={mesh.shape['data']} fsdp={mesh.shape['fsdp']}"
    print(f"stage {config.stage} on {options['topology']}, {shape}, batch {config.data.batch_size}", flush=True)
    chosen = kernels(config, network.config, "tpu")
    for level, count in enumerate(tokens(config, network.config)):
        print(f"attention, level {level}: {count} tokens, {chosen.at_level(level)}")
    print(f"attention of guidance: {chosen.guidance}, over frames: {chosen.temporal}, VAE: {chosen.vae}", flush=True)
    report, text = ahead.compile_step(config, network, mesh)
    if "report" in options:
        report.save(options["report"])
    if "program" in options:
        Path(options["program"]).write_text(text)
    memory, chip = report.memory, scaling.CHIPS.get(options["topology"].split(":")[0])
    print(f"memory of a chip, GiB ({report.devices}):")
    changed = memory.outputs - memory.aliased
    parts = {"arguments": memory.arguments, "outputs, not in their place": changed, "temporaries": memory.temporaries}
    for name, size in {**parts, "program": memory.program, "all": memory.total}.items():
        of = f" of {chip.memory / scaling.GIB:.0f}" if name == "all" and chip else ""
        print(f"  {name}: {size / scaling.GIB:.3f}{of}")
    print("collectives of a step (count, GiB of whole tensors, GiB that a chip sends):")
    for one in report.collectives:
        sizes = f"{one.payload / scaling.GIB:.3f}, {one.sent / scaling.GIB:.3f}"
        print(f"  {one.kind} among {one.group}: {one.count}, {sizes}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"traced in {report.tracing:.0f} s, compiled in {report.compiling:.0f} s, {peak:.1f} GiB of host memory")


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)  # before JAX is loaded
    run(main)
