"""Shared settings of the tests: CPU, 8 host devices, one compilation cache for every worker and run."""

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest
import record_errors
import shape_checks

os.environ.setdefault("JAX_PLATFORMS", "cpu")
FLAGS = ["--xla_force_host_platform_device_count=8"]
if os.environ["JAX_PLATFORMS"] == "cpu":
    # Most of the tests' time is LLVM optimizing programs that run once.
    FLAGS += ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# The machine's load decides how long one example takes; the same examples every time.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tests")
shape_checks.install()


def pytest_addoption(parser: pytest.Parser) -> None:
    record_errors.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    record_errors.configure(config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    before = record_errors.count()
    try:
        return (yield)
    finally:
        if item.config.getoption("--errors") or hasattr(item.config, "workerinput"):
            record_errors.take_errors(item, before)


@pytest.fixture(scope="session")
def golden_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden model's weights, converted."""
    from golden_weights import write_pretrained_models

    from champ_jax.weights.convert import convert

    folder = tmp_path_factory.mktemp("golden")
    convert(write_pretrained_models(folder / "pretrained_models"), folder / "checkpoint")
    return folder / "checkpoint"


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny dataset for every test that trains."""
    from training_data import write_dataset

    return write_dataset(tmp_path_factory.mktemp("data"))
