"""Python processes that a command starts for itself: they import what their parent does."""

import os
import sys
from collections.abc import Sequence


def python(module: str, arguments: Sequence[str] = ()) -> list[str]:
    """The command line that runs a module with this interpreter; `environment` goes with it."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(**changes: str) -> dict[str, str]:
    """This process's environment with its import path, which may have been changed since it started, and `changes`."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | changes
