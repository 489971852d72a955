"""The legs of a day on an accelerator, in the order of what is missed most, and the time each gets."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from .runner import GRACE, Leg, Step

LONGEST = 8.0
"""Minutes of a leg at most."""

NAMES = ("parity", "speed", "model", "few_steps")
# Of the minutes of a day; the rest goes to starting the machine and to copying. A call asks for a leg's minutes.
_SHARES = {"parity": 0.15, "speed": 0.26, "model": 0.52}
_UNUSED = 0.07
_PATIENCE = 1200.0  # seconds of a step at toy size
# Figures without TF32, and kernels whose sums have one order.
_EXACT = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}
_REPEATABLE = {"XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}
# Kernels inside of a recorded graph do not say which operation they are of.
_NO_GRAPHS = {"XLA_FLAGS": "--xla_gpu_enable_command_buffer="}
_GROWING = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # several processes share the device
_MEMORY = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}
_ON_CPU = {"JAX_PLATFORMS": "cpu"}  # what needs no device leaves it alone
_MODELS = ("test_unet", "test_guidance", "test_clip", "test_vae")
_GOLDEN, _STEP = "tests/models/test_training_golden.py", "tests/training/test_step.py"


def make_legs(
    minutes: float, chosen: Sequence[str], scratch: Path, results: Path, *, size: int = 0, toy: bool = False
) -> list[Leg]:
    """The legs of a day.

    Args:
      minutes: how long the machine is there, all calls together.
      chosen: names of NAMES; the time is shared among these.
      scratch: the folder for what stays on the machine.
      results: the folder of the results so far.
      size: side of the pictures the model is trained on, 128 or 256; 0 takes 256 where there is time.
      toy: whether everything is as small as a CPU takes it.
    """
    total = sum(_SHARES.get(name, 0.0) for name in chosen)
    share = {name: minutes * (1 - _UNUSED) * _SHARES[name] / total for name in _SHARES if name in chosen}
    longest = math.inf if toy else LONGEST
    legs = []
    if "parity" in share:
        legs.append(_parity(min(share["parity"], longest), toy))
    if "speed" in share:
        legs.append(_speed(min(share["speed"], longest), toy))
    if "model" in share:
        legs += _model(share["model"], scratch, results, size, toy)
    if "few_steps" in chosen:
        legs.append(Leg("few_steps", "few-step training", 0.0, (), absent="does not exist yet; nothing is done"))
    return [_patient(leg) for leg in legs] if toy else legs


def _patient(leg: Leg) -> Leg:
    """The leg with steps that a busy CPU has time for."""
    steps = (dataclasses.replace(step, seconds=max(step.seconds, _PATIENCE)) for step in leg.steps)
    return dataclasses.replace(leg, steps=tuple(steps))


def _parity(minutes: float, toy: bool) -> Leg:
    def tests(name: str, *files: str, seconds: float = 150.0, **options) -> Step:
        # The tests themselves say what they compare and which error they allow.
        arguments = ("-m", "pytest", "--quiet", "-p", "no:cacheprovider", "--errors={output}")
        environment = _GROWING | options.pop("environment", _EXACT)
        marker = ("-m", "parity and not slow" if toy else "parity")
        workers = () if toy else ("--numprocesses=6", "--dist=load")
        return Step(name, (*arguments, *marker, *workers, *files), seconds, 10.0, environment, measures=True, **options)

    attention = "tests/models/test_attention.py"
    if toy:
        small = f"{attention}::test_kernels_of_this_device_compute_the_formula_in_bfloat16"
        return Leg("parity", "the networks against tests/golden", minutes, (tests("kernels", small),))
    networks = [f"tests/models/{name}.py" for name in _MODELS]
    steps = (
        tests("networks", *networks),
        tests("gradients", _GOLDEN, _STEP, "-k", "not repeat and not bfloat16", seconds=180.0),
        tests("kernels", attention, seconds=90.0),
        tests("bfloat16", *networks, _GOLDEN, "-k", "bfloat16", seconds=120.0),
        tests("repeats", _GOLDEN, "tests/inference/test_pipeline.py", "-k", "repeat or arrays", seconds=120.0),
        # With XLA's order of sums fixed: what it takes where the step before found a difference.
        tests("repeats_deterministic", _GOLDEN, "-k", "repeat", environment=_EXACT | _REPEATABLE, seconds=120.0),
        # Errors with the matrix units' own float32 (TF32 on GPUs, bfloat16 passes on TPUs); beyond the tests' bounds.
        tests("networks_default_precision", *networks, environment={}, seconds=120.0),
    )
    return Leg("parity", "networks, gradients and kernels against tests/golden, repeats bit for bit", minutes, steps)


def _speed(minutes: float, toy: bool) -> Leg:
    model = "toy" if toy else "full"
    few = ("--frames=4", "--steps=1", "--repeats=1", "--chunk=4") if toy else ()

    def measure(name: str, what: str, *options: str, seconds: float = 120.0, **more) -> Step:
        arguments = ("tools/benchmark.py", f"--what={what}", f"--model={model}", "--output={output}", *few, *options)
        return Step(name, arguments, seconds, 10.0, **more)

    if toy:
        steps = (measure("peaks", "peaks"), measure("kernels_32", "kernels", "--size=32"))
        trace = measure("trace_32", "trace", "--size=32")
        return Leg("speed", "the device's peaks, attention kernels and a profile", minutes, (*steps, trace))
    steps = (
        measure("peaks", "peaks", seconds=60.0),
        measure("inference_512", "inference", "--size=512", "--repeats=3", seconds=180.0),
        measure("training_2_512", "training", "--size=512", "--stage=2", "--repeats=3", seconds=240.0),
        measure("training_1_512", "training", "--size=512", "--stage=1", "--repeats=3", seconds=180.0),
        measure("trace_512", "trace", "--size=512", environment=_NO_GRAPHS),
        measure("inference_768", "inference", "--size=768", "--steps=20", "--repeats=3", seconds=180.0),
        measure("kernels_512", "kernels", "--size=512"),
        measure("training_1_768", "training", "--size=768", "--stage=1", "--repeats=3", seconds=180.0),
        measure("kernels_768", "kernels", "--size=768"),
    )
    return Leg("speed", "inference, training, attention kernels, the device's peaks and a profile", minutes, steps)


def _model(minutes: float, scratch: Path, results: Path, size: int, toy: bool) -> list[Leg]:
    """As many legs as the minutes need, each of which ends with its weights in the results."""
    count = 2 if toy else max(1, math.ceil(minutes / LONGEST - 1e-9))
    each, folder = minutes / count, scratch / "recipe"
    size = size or (256 if count > 1 else 128)
    variant = "toy" if toy else {256: "accelerator", 128: "accelerator_128"}[size]
    titles = f"the built-in model's accelerator recipe at {'toy size' if toy else f'{size}x{size}'}"
    reserve = 60.0 + GRACE  # seconds to end the training and to take the weights along
    train = ("tools/train_builtin.py", f"--output={folder}", f"--variant={variant}", f"--within={0.85 * minutes:.2f}")
    carry = ("tools/carry_weights.py", f"--recipe={folder}")
    legs = []
    for number in range(1, count + 1):
        steps = (
            Step("bring", (*carry, f"--from={results}"), 60.0, environment=_ON_CPU),
            Step(
                "train",
                (*train, "--minutes={minutes}"),
                60 * each - reserve,
                60.0,
                _MEMORY,
                resumes=True,
                leave=reserve,
            ),
            Step("carry", (*carry, "--to={files}", "--summary={output}"), 60.0, 1.0, _ON_CPU),
        )
        legs.append(Leg(f"model_{number}", f"{titles}, part {number} of {count}", each, steps))
    return legs
