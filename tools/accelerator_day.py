"""Does on one GPU or TPU, rented for minutes, what this project measures and trains on an accelerator.

  python tools/accelerator_day.py --plan                                    what it would do, and how long that may take
  python tools/accelerator_day.py --travel --installed=pip_list.txt         what has to travel there, and is missing
  python tools/accelerator_day.py --results=results --minutes=30            there: the next eight minutes of it
  python tools/accelerator_day.py --dry_run --results=/tmp/day              the same at toy size, on any machine

The same call again continues: with what is left, on the same machine or another, from what --results holds. A leg that
fails does not stop the rest. RESULTS gets LEG.json for each leg, pictures, and weights in pieces of at most 15 MiB, at
most eight new files a call; where a machine hands back one new folder, --output names it: copy what it holds to
RESULTS. docs/performance.md is written from RESULTS by tools/write_performance.py.
"""

import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from accelerator import plan, runner, travel

from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import listed
from champ_jax.common.files import real_output, require_folder
from champ_jax.common.locks import hold_folder
from champ_jax.common.ranges import Choice, Items, Number

CHECKOUT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str]) -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("--results", default="results", help="folder of what was found so far (%(default)s)")
    parser.add_argument("--output", help="folder for what this call finds; without it, RESULTS")
    parser.add_argument(
        "--minutes",
        type=Number(minimum=1, maximum=600),
        default=30.0,
        help="how long the machine is there in all, by which the legs are scaled (%(default)s; 15 for example)",
    )
    parser.add_argument(
        "--call_minutes",
        type=Number(above=0, maximum=600),
        default=plan.LONGEST,
        help="how long this call may take (%(default)s)",
    )
    parser.add_argument(
        "--legs",
        type=Items(Choice(*plan.NAMES), 1, distinct=True),
        default=",".join(plan.NAMES),
        help="legs that share the minutes, by commas (%(default)s)",
    )
    parser.add_argument(
        "--size", type=Choice("auto", "128", "256"), default="auto", help="side of the trained pictures"
    )
    parser.add_argument("--retry", action="store_true", help="run failed steps again")
    parser.add_argument(
        "--wheels", help="folder of wheels that the machine lacks; they are unpacked, nothing is changed"
    )
    parser.add_argument("--scratch", help="folder for what stays on the machine (a fixed one among temporary files)")
    parser.add_argument("--plan", action="store_true", help="print what would be done, and end")
    parser.add_argument("--travel", action="store_true", help="print what has to travel to the machine, and end")
    parser.add_argument("--installed", help="with --travel: a file with what `pip list` prints there")
    parser.add_argument("--python", default="3.12", help="with --travel: the version of Python there (%(default)s)")
    parser.add_argument("--dry_run", action="store_true", help="everything at toy size, on a CPU")
    options = parser.parse_args(argv)
    results = real_output(options.results, folder=True)
    output = results if options.output is None else real_output(options.output, folder=True)
    if options.travel:
        print_travel(results, options.wheels, options.installed, options.python)
        return 0
    kind = "dry_run" if options.dry_run else "day"
    scratch = Path(options.scratch or Path(tempfile.gettempdir()) / f"champ_jax_{kind}_{os.getuid()}").absolute()
    size = 0 if options.size == "auto" else int(options.size)
    legs = plan.make_legs(options.minutes, options.legs, scratch, results, size=size, toy=options.dry_run)
    day = runner.Day(
        legs,
        results=results,
        output=output,
        scratch=scratch,
        checkout=CHECKOUT,
        command=shlex.join(["python", "tools/accelerator_day.py", *argv]),
        environment=environment(scratch, options.dry_run),
        retry=options.retry,
    )
    print(
        f"{options.minutes:g} minutes, of which this call takes {options.call_minutes:g}:\n\n{day.plan()}\n", flush=True
    )
    if options.plan:
        return 0
    output.mkdir(parents=True, exist_ok=True)
    with hold_folder(output):
        prepare(options.wheels, scratch)
        signal.signal(signal.SIGTERM, _interrupt)
        day.run(options.call_minutes)
    print("\n" + "\n".join(runner.summary(record) for record in day.records.values()))
    return 0


def environment(scratch: Path, dry_run: bool) -> dict[str, str]:
    """What all steps find in their environment: the checkout, unpacked wheels, a cache of compiled programs."""
    paths = [CHECKOUT, CHECKOUT / "tools", CHECKOUT / "tests", scratch / "site"]
    known = os.environ.get("PYTHONPATH", "")
    variables = {
        "PYTHONPATH": os.pathsep.join([*map(str, paths), *filter(None, [known])]),
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(scratch / "jax_cache")),
        "TOKENIZERS_PARALLELISM": "false",
    }
    if not dry_run:
        # The tests ask for a CPU where nothing else is named.
        return variables | {"JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "")}
    return variables | {"JAX_PLATFORMS": "cpu"}


def prepare(wheels: str | None, scratch: Path) -> None:
    """Unpacks wheels, and warns of packages that are still missing."""
    site = scratch / "site"
    if wheels is not None:
        travel.unpack(Path(wheels), site)
        sys.path.append(str(site))
    if missing := sorted(travel.required()[1]):
        print(f"warning: not installed here: {listed(missing, 20)}; --travel says how to bring them", file=sys.stderr)


def print_travel(results: Path, wheels: str | None, installed: str | None, python: str) -> None:
    """Prints what would travel and which wheels would have to.

    Raises:
      InputError: it is more than can travel, or a folder or file is not there.
    """
    there = travel.read_installed(installed) if installed else []
    brought = sorted(require_folder(wheels).glob("*.whl")) if wheels else []
    names = travel.wheels_to_bring(there, brought)
    if names:
        print(f"{len(names)} packages are not known to be there: {listed(names, 100)}. To bring them:")
        print("\n".join(travel.commands(names, wheels or ".wheels", python)))
    else:
        print("every package is there or travels as a wheel")
    folders = [folder for folder in (results, Path(wheels) if wheels else None) if folder and folder.is_dir()]
    print(travel.report(travel.sizes(CHECKOUT, folders)))


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    run(main)
