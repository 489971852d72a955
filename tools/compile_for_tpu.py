"""Compiles a training step for a TPU slice on a machine without one, and says what it takes of memory and links.

    python tools/compile_for_tpu.py --config=configs/stage2.py --topology=v6e:2x4 --config.mesh.fsdp=8 \\
        --report=stage2.json
    python tools/compile_for_tpu.py --config=configs/stage2.py --scaling=stage2.json

Needs libtpu (pip install 'champ_jax[tpu]'), no TPU: shapes stand for all arrays. It stops when the compiler has
optimized and scheduled the program and placed its buffers, which for the full-size steps takes minutes;
--machine_code=true continues to the end, which takes more than an hour and 15 GiB of memory. --program=FILE keeps the
program as text. The second command compiles nothing: it reckons from a report how memory and time depend on the mesh
(docs/scaling.md). Model sizes are those of --config.model, or Champ's; --config.init is not read.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from runpy import run_path

from champ_jax.common.cli import run
from champ_jax.common.configs import parse_config
from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Choice

UTILIZATION = 0.4  # share of the peak, assumed in the table of step times
# What libtpu needs where there is no TPU.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def main(argv: Sequence[str]) -> None:
    from champ_jax.training.config import check  # loads JAX, after the environment is set

    names = ("topology", "report", "program", "machine_code", "scaling")
    config, options = parse_config(argv, _stage2, description=__doc__, options=names)
    check(config)
    machine_code = options.get("machine_code", "false")
    Choice("true", "false").check("--machine_code", machine_code)
    if ("topology" in options) == ("scaling" in options):
        raise InputError("give --topology=NAME (v5e:4x4) to compile, or --scaling=REPORT to reckon from a report")
    with config.unlocked():
        config.init = config.init_motion = ""
    from champ_jax.planning import scaling
    from champ_jax.planning.compiled_step import compile_step, tpu_devices
    from champ_jax.planning.report import Report
    from champ_jax.training.initial_weights import load_initial
    from champ_jax.training.sharding import make_mesh

    if "scaling" in options:
        report = Report.load(options["scaling"])
        print(scaling.scaling_table(config, load_initial(config, "tpu").network, report, UTILIZATION))
        return
    network = load_initial(config, "tpu").network
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, tpu_devices(options["topology"]))
    if machine_code == "true":
        report, text = compile_step(config, network, mesh)
    else:
        report, text = _plan(argv, config, mesh)
    _print(config, network, options["topology"], report)
    if "report" in options:
        report.save(options["report"])
    if "program" in options:
        Path(options["program"]).write_text(text)


def _stage2():
    return run_path(str(Path(__file__).parents[1] / "configs/stage2.py"))["get_config"]()


def _plan(argv, config, mesh):
    """Lets another process compile until the buffers are placed."""
    from champ_jax.planning.compiled_step import make_report
    from champ_jax.planning.dump import Dump

    with tempfile.TemporaryDirectory() as folder:
        dump, began = Dump(folder), time.monotonic()
        command = [sys.executable, __file__, *argv, "--machine_code=true"]
        flags = f"{os.environ.get('XLA_FLAGS', '')} {dump.flags}"
        with subprocess.Popen(command, env=os.environ | {"XLA_FLAGS": flags}, stdout=subprocess.DEVNULL) as process:
            while not (placed := dump.poll()) and process.poll() is None:
                time.sleep(1)
            seconds = time.monotonic() - began
            process.terminate()
        if not placed:
            sys.exit(process.returncode)  # it has printed the reason
        memory, text = dump.read()
    return make_report(config, mesh, memory, text, complete=False, seconds=seconds), text


def _print(config, network, topology, report) -> None:
    from champ_jax.planning.scaling import CHIPS, GIB
    from champ_jax.training.config import kernels, tokens

    data, fsdp = report.mesh
    print(f"stage {config.stage} on {topology}, mesh data={data} fsdp={fsdp}, batch {config.data.batch_size}")
    chosen = kernels(config, network.config, "tpu")
    for level, count in enumerate(tokens(config, network.config)):
        print(f"attention, level {level}: {count} tokens, {chosen.at_level(level)}")
    print(f"attention of guidance: {chosen.guidance}, over frames: {chosen.temporal}, VAE: {chosen.vae}")
    memory, chip = report.memory, CHIPS.get(topology.split(":")[0])
    print(f"memory of a chip, GiB ({report.devices}):")
    changed = memory.outputs - memory.aliased
    parts = {"arguments": memory.arguments, "outputs, not in their place": changed, "temporaries": memory.temporaries}
    for name, size in {**parts, "program": memory.program, "all": memory.total}.items():
        of = f" of {chip.memory / GIB:.0f}" if name == "all" and chip else ""
        print(f"  {name}: {size / GIB:.3f}{of}")
    print("collectives of a step (count, GiB of whole tensors, GiB that a chip sends):")
    for one in report.collectives:
        print(f"  {one.kind} among {one.group}: {one.count}, {one.payload / GIB:.3f}, {one.sent / GIB:.3f}")
    who = resource.RUSAGE_SELF if report.complete else resource.RUSAGE_CHILDREN
    peak = resource.getrusage(who).ru_maxrss / 2**20
    what = "with its machine code" if report.complete else "until its buffers were placed"
    print(f"compiled {what} in {report.seconds:.0f} s with {peak:.1f} GiB of host memory")


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)  # before JAX is loaded
    run(main)
