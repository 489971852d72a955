"""The list of probes. Their modules are imported in the probes' own processes."""

import dataclasses
import importlib
from typing import Any

from champ_jax.doctor.probing import Attempt, Probe

REINSTALL = "install it again in a fresh environment: python3 -m venv .venv && . .venv/bin/activate && pip install ."


@dataclasses.dataclass(frozen=True)
class Listed:
    """A probe.

    Attributes:
      first: what to blame if it does not even begin.
      module, function: the generator.
    """

    first: Attempt
    module: str
    function: str

    def run(self, *arguments: str) -> Probe:
        """Starts the generator; what is missing for it shows here as an ImportError."""
        function: Any = getattr(importlib.import_module(self.module), self.function)
        yield from function(*arguments)


PROBES = {
    "imports": Listed(
        Attempt("Packages", "imports", REINSTALL, needed=True), "champ_jax.doctor.packages", "try_imports"
    ),
    "devices": Listed(
        Attempt("Devices and kernels", "JAX", REINSTALL, needed=True), "champ_jax.doctor.devices", "try_devices"
    ),
    "media": Listed(
        Attempt("Pictures and videos", "codecs", REINSTALL, needed=True), "champ_jax.doctor.media", "try_media"
    ),
    "graphics": Listed(
        Attempt("Pictures and videos", "OpenGL", "do without: --backend=jax, the default, draws the same maps"),
        "champ_jax.doctor.media",
        "try_graphics",
    ),
    "builtin": Listed(
        Attempt("Weights", "built-in model", REINSTALL, needed=True), "champ_jax.doctor.weights", "try_builtin"
    ),
    "weights": Listed(
        Attempt("Weights", "--weights", "name a folder of champ convert, of a training, or pretrained_models"),
        "champ_jax.doctor.weights",
        "look_at",
    ),
}
