"""Says what this machine has and lacks for champ_jax, and what to do about it.

    champ doctor
    champ doctor --weights=pretrained_models
    champ doctor --json > report.json

Packages, devices, kernels (each tried), codecs (frames are written and read), fonts, OpenGL, weights, disk, memory and
caches. A problem is followed by what to do. The status is 1 if `champ animate` cannot run with the built-in model, else
0. `python -m champ_jax.doctor` is the same command.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from champ_jax import __version__
from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError
from champ_jax.common.files import find_type
from champ_jax.common.ranges import Number
from champ_jax.doctor import machine, packages
from champ_jax.doctor.findings import WARNING, Finding, as_json, main_job_runs, show
from champ_jax.doctor.probes import PROBES
from champ_jax.doctor.probing import reason, run_probes

CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    machine.check_processors,
    machine.check_memory,
    machine.check_shared_memory,
    machine.check_results,
    machine.check_temporary,
    machine.check_caches,
)
"""What is looked at in this process; the rest is tried in others (`champ_jax.doctor.probes`)."""


def parser() -> Parser:
    """What the command takes."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--weights",
        type=Path,
        help="also look at these: a checkpoint, a work folder, pretrained_models, networks of champ evaluate, HMR2, "
        "DWPose, a body; says what is there and what is missing",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--timeout",
        type=Number(minimum=0.1, maximum=3600),
        default=120.0,
        metavar="SECONDS",
        help="seconds after which what does not answer counts as broken",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Parses the arguments, looks, reports; returns the exit status."""
    options = parser().parse_args(argv)
    if options.weights is not None:
        kind = find_type(options.weights)
        if kind not in ("file", "folder"):
            raise InputError(f"--weights={options.weights}: {f'is {kind}' if kind else 'no such file or folder'}")
    findings = examine(options.weights, options.timeout)
    if options.json:
        print(as_json(findings, __version__))
    else:
        show(findings)
    return 0 if main_job_runs(findings) else 1


def examine(weights: Path | None = None, seconds: float = 120.0) -> list[Finding]:
    """All findings, in the order of the report. Whatever a check does, the others go on.

    Args:
      weights: a file or folder to look at, besides the built-in model.
      seconds: the time limit of what runs in processes of its own.
    """
    names = [name for name in PROBES if name != "weights" or weights is not None]
    arguments = {"weights": [str(weights)]}
    probed = run_probes({name: (PROBES[name].first, arguments.get(name, [])) for name in names}, seconds)
    findings = _check(packages.check_packages)
    for name in names:
        findings += probed[name]
    for check in CHECKS:
        findings += _check(check)
    return findings


def _check(check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except Exception as error:
        name = check.__name__.removeprefix("check_")
        return [Finding("Machine", name, WARNING, f"cannot be examined: {reason(error)}", "examine it by hand")]


if __name__ == "__main__":
    run(main)
