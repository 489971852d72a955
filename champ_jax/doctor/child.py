"""The process of one probe: python -m champ_jax.doctor.child PIPE NAME [ARGUMENT ...]"""

import dataclasses
import json
import os
import sys
from collections.abc import Sequence

from champ_jax.doctor.findings import Finding
from champ_jax.doctor.probes import PROBES
from champ_jax.doctor.probing import DONE, Attempt, attempts


def main(pipe: int, name: str, arguments: Sequence[str]) -> None:
    """Runs a probe and sends what it yields, a line of JSON each."""
    for item in attempts(PROBES[name].run, PROBES[name].first, *arguments):
        _send(pipe, item)
    _send(pipe, DONE)
    os._exit(0)  # libraries may hang while they are torn down


def _send(pipe: int, item: Attempt | Finding | str) -> None:
    fields = item if isinstance(item, str) else dataclasses.asdict(item)
    os.write(pipe, json.dumps(fields).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
