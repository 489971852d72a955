"""`--errors=FILE`: what the comparisons of tests found, as JSON, whether the tests passed or not.

    {device, matmul_precision, tests: {NAME: {outcome, seconds, comparisons, largest, message}}}

`comparisons` counts the errors (`golden_models.COMPARED`), `largest` is the largest one, relative to what was compared.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest


class Recorder:
    """Collects the reports of a session, which with pytest-xdist come from its workers."""

    def __init__(self, path: str):
        self._path = Path(path)
        self._tests: dict[str, dict[str, Any]] = {}
        self._devices: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = dict(report.user_properties)
        if report.when == "call" or report.outcome != "passed":
            errors = found.get("errors", [])
            message = "" if report.outcome == "passed" else str(getattr(report, "longreprtext", ""))[-500:]
            self._tests[report.nodeid] = {
                "outcome": report.outcome,
                "seconds": round(report.duration, 2),
                "comparisons": len(errors),
                "largest": max(errors, default=None),
                "message": message,
            }
            self._devices |= {found["device"]} if "device" in found else set()

    def pytest_sessionfinish(self) -> None:
        content = {
            "device": ", ".join(sorted(self._devices)),
            "matmul_precision": os.environ.get("JAX_DEFAULT_MATMUL_PRECISION", "default"),
            "tests": dict(sorted(self._tests.items())),
        }
        self._path.write_text(json.dumps(content, indent=1) + "\n")


def add_option(parser: pytest.Parser) -> None:
    parser.addoption("--errors", metavar="FILE", help="write what the comparisons found, as JSON")


def configure(config: pytest.Config) -> None:
    path = config.getoption("--errors")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(path))


def take_errors(item: pytest.Item, before: int) -> None:
    """Adds to a test's report the errors it found since `count()` was `before`."""
    if (golden_models := sys.modules.get("golden_models")) is not None:
        item.user_properties.append(("errors", golden_models.COMPARED[before:]))
    if (jax := sys.modules.get("jax")) is not None:
        item.user_properties.append(("device", jax.devices()[0].device_kind))


def count() -> int:
    """How many errors were found so far."""
    golden_models = sys.modules.get("golden_models")
    return 0 if golden_models is None else len(golden_models.COMPARED)
