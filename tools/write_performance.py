"""Writes docs/performance.md from what was measured, and from what is known ahead of time.

  python tools/write_performance.py                  from docs/performance/ and docs/scaling/
  python tools/write_performance.py --count_flops    counts docs/performance/flops.json anew before
  python tools/write_performance.py --results=results --output=page.md    from other results

Where no accelerator has run, the page says so and has the estimates alone. docs/performance/README.md lists the files.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerator.runner import FORMAT, read_record
from benchmarks import inference, training

from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError, listed
from champ_jax.common.files import read_json, require_folder, write_json, write_text
from champ_jax.common.outputs import Kind, Output, claim
from champ_jax.common.ranges import Number
from champ_jax.planning.cost_report import CostReport, load_reports
from champ_jax.planning.gpus import Gpu
from champ_jax.planning.report import Report
from champ_jax.training.throughput import PEAK_TFLOPS

ROOT = Path(__file__).resolve().parent.parent
FOLDER, SCALING, PAGE = ROOT / "docs" / "performance", ROOT / "docs" / "scaling", ROOT / "docs" / "performance.md"
FLOPS = FOLDER / "flops.json"
DEVICES = ("NVIDIA A100", "NVIDIA H100", "NVIDIA H200", "TPU v5 lite", "TPU v6")
_WORK = {  # what is counted, with the figure of the reference for the same work
    "denoising step, 512x512": inference.REFERENCE[512]["denoising step"],
    "denoising step, 768x768": inference.REFERENCE[768]["denoising step"],
    "decoding 24 frames, 512x512": inference.REFERENCE[512]["decode"],
    "decoding 24 frames, 768x768": inference.REFERENCE[768]["decode"],
    "stage 1, 4 samples, 512x512": training.REFERENCE[1, 512][0],
    "stage 1, 4 samples, 768x768": training.REFERENCE[1, 768][0],
    "stage 2, 24 frames, 512x512": training.REFERENCE[2, 512][0],
}
_GIB = 2**30
_PAGE = Kind("a page of figures", lambda path: path.read_bytes().startswith(b"# Performance"))


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--results", help="a results folder, in place of those in docs/performance")
    parser.add_argument("--output", default=str(PAGE), help="the page (docs/performance.md)")
    parser.add_argument("--count_flops", action="store_true", help="count the FLOPs of the full-size programs anew")
    options = parser.parse_args(argv)
    folders = [require_folder(options.results)] if options.results else result_folders()
    claim([Output("--output", options.output, _PAGE)], folders)
    if options.count_flops:
        write_json(FLOPS, count_flops())
    write_text(options.output, make_page(folders))


def result_folders() -> list[Path]:
    """The folders of machines in docs/performance."""
    return sorted(path for path in FOLDER.iterdir() if path.is_dir())


def make_page(folders: Iterable[Path]) -> str:
    """The page, of the records in `folders`."""
    parts = [machine_section(folder) for folder in folders]
    measured = "\n\n".join(parts) or (
        "**Not measured.** No accelerator has run this code yet; the figures that follow are the\n"
        "compilers' and the data sheets'."
    )
    text = (ROOT / "tools" / "performance_page.md").read_text()
    for name, value in {"reference": reference(), "measured": measured, "estimates": estimates()}.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def count_flops() -> dict[str, float]:
    """{work: TFLOP} of full-size programs."""
    from champ_jax.models import network_flops
    from champ_jax.models.champ import ChampConfig
    from champ_jax.training.config import default_config
    from champ_jax.training.initial_weights import build_network

    config, found = ChampConfig(), {}
    for size in (512, 768):
        side, name = size // config.vae.downscale, f"{size}x{size}"
        step = network_flops.denoising_step_flops(config, side, side, 24, classifier_free=True)
        found[f"denoising step, {name}"] = step
        found[f"decoding 24 frames, {name}"] = 24 * network_flops.vae_decode_flops(config, size, size)
        for stage, samples, frames in ((1, 4, 1), (2, 1, 24)):
            work = f"stage {stage}, {'4 samples' if stage == 1 else '24 frames'}, {name}"
            if work in _WORK:
                run_config = default_config()
                run_config.stage, run_config.trainable = stage, f"stage{stage}"
                network = build_network(run_config, config)
                trained = frozenset(network.trainable)
                found[work] = samples * network_flops.training_sample_flops(
                    network.config, side, side, frames=frames, trained=trained
                )
    return {name: found[name] / 1e12 for name in _WORK}


def reference() -> str:
    """The reference's figures."""
    rows = []
    for size, figures in inference.REFERENCE.items():
        rows += [(name, f"{size}x{size}", f"{seconds:g}", "") for name, seconds in figures.items()]
    for (stage, size), (seconds, gib) in training.REFERENCE.items():
        rows.append((f"a step of stage {stage}", f"{size}x{size}", f"{seconds:g}", f"{gib:g}"))
    return table(("work", "size", "seconds", "peak GiB"), rows)


def estimates() -> str:
    """What is known without a device."""
    fields = read_json(FLOPS)
    rule = Number(above=0)
    if not isinstance(fields, dict) or set(fields) != set(_WORK):
        raise InputError(f"{FLOPS}: is not the count of --count_flops; count again")
    peaks = [dict(PEAK_TFLOPS)[device] for device in DEVICES]
    rows = []
    for name, seconds in _WORK.items():
        rule.check(f"{FLOPS}: {name}", fields[name])
        least = [f"{1e3 * fields[name] / tflops:.0f}" for tflops in peaks]
        rows.append((name, f"{fields[name]:.1f}", *least, f"{1e3 * seconds:.0f}"))
    header = ("work", "TFLOP", *(f"{device}, ms" for device in DEVICES), "reference on an H100, ms")
    lines = [
        "### Arithmetic alone",
        "",
        "The least time that the useful FLOPs of a program take at a device's dense bf16 peak by its data\n"
        "sheet. No program reaches it: normalizations, activations and copies move bytes besides, and\n"
        "recomputation in the backward pass is not counted.",
        "",
        table(header, rows),
        "",
        "### Compiled for a TPU without one",
        "",
        "What the compiler plans for a training step on one chip ([scaling.md](scaling.md) says how, and\n"
        "for other meshes). Nothing was timed.",
        "",
        _compiled(),
        "",
        "### Compiled for a GPU without one",
        "",
        "What `python tools/compile_for_gpu.py` finds of the programs as they are, in bfloat16 and at the\n"
        "default settings: the kernels that the compiler makes, the bytes that they must move, and the time\n"
        "that none can beat: a kernel takes at least what its FLOPs need at 70% of the data sheet's peak, or\n"
        "its bytes at 90%, one kernel after the other. It is a yardstick for changes of the code, and says\n"
        "which part moves too much. It is no measurement: launches, poor tiles, convolutions' workspaces and\n"
        "what a cache saves are not in it, and nothing is tuned where no device is there to try on.",
        "",
        _gpu_programs(),
    ]
    return "\n".join(lines)


def _compiled() -> str:
    rows = []
    for path in sorted(SCALING.glob("*.json")):
        report = Report.load(path)
        mesh = f"{report.mesh[0]} x {report.mesh[1]}"
        memory = [f"{size / _GIB:.2f}" for size in (report.memory.arguments, report.memory.temporaries)]
        sent = sum(one.sent for one in report.collectives) / _GIB
        rows.append((f"stage {report.stage}", report.devices, mesh, str(report.batch_size), *memory, f"{sent:.2f}"))
    header = ("step", "devices", "data x fsdp", "batch", "arguments, GiB", "temporaries, GiB", "sent by a chip, GiB")
    return table(header, rows)


def _gpu_programs() -> str:
    rows, parts = [], []
    for path in sorted(FOLDER.glob("compiled_*.json")):
        for report in load_reports(path):
            gpu, total, memory = Gpu.load(report.gpu), report.total, report.memory
            amounts = (f"{memory.arguments / _GIB:.2f}", f"{memory.temporaries / _GIB:.2f}", str(total.kernels))
            sums = (f"{total.moved / 1e9:.1f}", f"{total.flops / 1e12:.1f}", f"{1e3 * total.seconds:.1f}")
            rows.append((report.key, *amounts, *sums, f"{report.compute_share(gpu):.0%}"))
            if report.program == "denoiser" and report.reduction == 1 and not parts:
                parts = [f"Where the time of the first of these goes ({report.key}):", _cost_table(report)]
    header = (
        "program",
        "arguments, GiB",
        "temporaries, GiB",
        "kernels",
        "GB moved",
        "TFLOP",
        "ms at least",
        "computing",
    )
    return "\n\n".join([table(header, rows), *parts])


def _cost_table(report: CostReport) -> str:
    rows = []
    for group in ("kind", "module"):
        for name, cost in report.groups[group].items():
            share = cost.seconds / report.total.seconds
            if share >= 0.01:
                ends = (f"{1e3 * cost.seconds:.1f}", f"{share:.0%}")
                rows.append(
                    (group, name, str(cost.kernels), f"{cost.moved / 1e9:.1f}", f"{cost.flops / 1e12:.1f}", *ends)
                )
    return table(("by", "", "kernels", "GB moved", "TFLOP", "ms at least", "share"), rows)


def machine_section(folder: Path) -> str:
    """What the records of one machine say.

    Raises:
      InputError: there are none, or one is damaged.
    """
    records = {}
    for path in sorted(folder.glob("*.json")):
        fields = read_json(path)
        if isinstance(fields, dict) and fields.get("format") == FORMAT:
            records[path.stem] = read_record(folder, path.stem)
    if not records:
        raise InputError(f"{folder}: holds no records of tools/accelerator_day.py")
    try:
        return "\n\n".join(filter(None, _sections(folder, records)))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{folder}: a record is damaged ({type(error).__name__}: {error}); copy it again or run its leg again"
        ) from error


def _sections(folder: Path, records: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    steps = {(leg, name): step for leg, record in records.items() for name, step in record["steps"].items()}
    results = {key: step["result"] for key, step in steps.items() if "result" in step}
    calls = [call for record in records.values() for call in record["calls"]]
    speed = {name: result for (leg, name), result in results.items() if leg == "speed"}
    machines = {_machine(result["machine"]) for result in speed.values()}
    devices = {result["device"] for (leg, _), result in results.items() if leg == "parity"}
    title = " and ".join(sorted({name for name, _ in machines} or devices)) or folder.name
    dates = sorted({call["date"][:10] for call in calls})
    yield f"### {title}, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}"
    versions = "; ".join(sorted(words for _, words in machines))
    commands = "\n".join(f"    {command}" for command in dict.fromkeys(call["command"] for call in calls))
    yield f"{versions}.\n\n{commands}" if versions else commands
    peaks = _peaks(speed)
    if peaks:
        yield "Best rates: " + ", ".join(f"{name} {value:,.0f} {unit}" for name, (value, unit) in peaks.items()) + "."
    yield _timings(speed, peaks)
    yield _kernels(speed, peaks)
    yield from _profiles(speed)
    yield _parity({name: result for (leg, name), result in results.items() if leg == "parity"})
    yield from _models({leg: result for (leg, name), result in results.items() if name == "carry"})
    missing = [f"{leg}, {name} ({step.get('message') or step['state']})" for (leg, name), step in steps.items()]
    missing = [words for words, step in zip(missing, steps.values()) if step["state"] != "done"]
    if missing:
        yield f"Not measured: {listed(missing, 50)}."


def _machine(fields: Mapping[str, Any]) -> tuple[str, str]:
    return fields["device"], f"{fields['devices']} x {fields['device']}, jax {fields['jax']}, Python {fields['python']}"


def _peaks(speed: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    found = {}
    for row in speed.get("peaks", {}).get("rows", ()):
        if row["tflop"] is not None:
            found[row["name"]] = (row["tflop"] / row["seconds"], "TFLOP/s")
        elif row["moved"] is not None:
            found[row["name"]] = (row["moved"] / row["seconds"] / 1e9, "GB/s")
    return found


def _share(row: Mapping[str, Any], peaks: Mapping[str, tuple[float, str]], unit: str = "TFLOP/s") -> str:
    """What a row reaches of the best rate that was measured."""
    best = max((value for value, of in peaks.values() if of == unit), default=None)
    amount = row["tflop"] if unit == "TFLOP/s" else row["moved"] and row["moved"] / 1e9
    return "" if best is None or amount is None else f"{amount / row['seconds'] / best:.1%}"


def _timings(speed: Mapping[str, Any], peaks: Mapping[str, tuple[float, str]]) -> str:
    rows = []
    for name, result in speed.items():
        if not name.startswith(("inference", "training")):
            continue
        size = result["settings"]["size"][0]
        for row in result["rows"]:
            seconds, theirs = row["seconds"], row["reference_seconds"]
            known = ("", "") if theirs is None else (f"{theirs:.4g}", f"{theirs / seconds:.2f}")
            memory = "" if row["memory"] is None else f"{row['memory'] / _GIB:.1f}"
            rate = "" if row["tflop"] is None else f"{row['tflop'] / seconds:.4g}"
            shares = _share(row, peaks), _share(row, peaks, "GB/s")
            cells = (row["name"], f"{size}x{size}", row["per"], f"{seconds:.4g}", rate, *shares, memory)
            rows.append((*cells, *known))
    header = ("work", "size", "for", "seconds", "TFLOP/s", "of the best", "bytes, of the best", "GiB")
    return table((*header, "reference s", "times as fast"), rows) if rows else ""


def _kernels(speed: Mapping[str, Any], peaks: Mapping[str, tuple[float, str]]) -> str:
    rows = []
    for name, result in speed.items():
        if name.startswith("kernels"):
            size = result["settings"]["size"][0]
            rows += [
                (row["name"], f"{size}x{size}", row["per"], f"{1e3 * row['seconds']:.4g}", _share(row, peaks))
                for row in result["rows"]
            ]
    return table(("attention", "size", "shape", "ms", "of the best"), rows) if rows else ""


def _profiles(speed: Mapping[str, Any]) -> Iterable[str]:
    for result in speed.values():
        for profile in result.get("profiles", ()):
            yield f"One denoising step at {profile['size']}x{profile['size']}:"
            total = sum(share["seconds"] for share in profile["shares"])
            for field in ("kind", "module"):
                sums: dict[str, float] = defaultdict(float)
                for share in profile["shares"]:
                    sums[share[field] or share["kind"]] += share["seconds"]
                order = sorted(sums, key=lambda name: -sums[name])
                rows = [(name, f"{1e3 * sums[name]:.3f}", f"{sums[name] / total:.1%}") for name in order]
                yield table((field, "ms", "share"), rows)


def _parity(results: Mapping[str, Any]) -> str:
    rows = []
    for name, result in results.items():
        tests = result["tests"]
        passed = [test for test, found in tests.items() if found["outcome"] == "passed"]
        skipped = [test for test, found in tests.items() if found["outcome"] == "skipped"]
        failed = sorted(set(tests) - set(passed) - set(skipped))
        largest = max((found["largest"] for found in tests.values() if found["largest"] is not None), default=None)
        count = sum(found["comparisons"] for found in tests.values())
        words = listed((test.split("::")[-1] for test in failed), 5)
        counts = f"{len(passed)} of {len(passed) + len(failed)}"
        error = "" if largest is None else f"{largest:.2g}"
        rows.append((name, result["matmul_precision"], counts, str(len(skipped)), str(count), error, words))
    header = ("against the reference's numbers", "precision", "passed", "skipped", "comparisons")
    header = (*header, "largest relative error", "failed")
    return table(header, rows) if rows else ""


def _models(results: Mapping[str, Any]) -> Iterable[str]:
    for leg, result in results.items():
        rows = [(name, f"{entry['seconds'] / 60:.1f}") for name, entry in result["legs"].items()]
        yield f"The built-in model's accelerator recipe ({leg}):\n\n{table(('leg', 'minutes'), rows)}"
        if result["report"] is not None:
            names = [name for name in ("psnr", "psnr_person", "ssim", "flicker") if name in result["report"]["metrics"]]
            systems = result["report"]["systems"].values()
            rows = [(about["title"], *(f"{about['metrics'][name]:.4g}" for name in names)) for about in systems]
            yield table(("held-out people", *names), rows)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. Bars, which would end a cell, become slashes."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


if __name__ == "__main__":
    run(main)
