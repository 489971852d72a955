"""What a step that was compiled ahead of time takes of a device's memory, and what devices send each other."""

import dataclasses
import os

from champ_jax.common.errors import InputError
from champ_jax.common.files import read_json, write_json
from champ_jax.common.ranges import Choice, Integer, Items, Number, check_config
from champ_jax.planning.collectives import Collective

_BYTES = Integer(minimum=0, maximum=2**63)
_RULES = {
    "stage": Choice(0, 1, 2),
    "mesh": Items(Integer(minimum=1), minimum=2, maximum=2),
    "batch_size": Integer(minimum=1),
    **{f"memory.{name}": _BYTES for name in ("arguments", "outputs", "aliased", "temporaries", "program")},
    "seconds": Number(minimum=0),
}
_COLLECTIVE_RULES = {
    "kind": Choice("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute"),
    "group": Integer(minimum=1),
    "count": _BYTES,
    "payload": _BYTES,
}


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device, as the compiler plans them.

    Attributes:
      arguments: state, frozen parameters and batch.
      outputs: the next state and the metrics.
      aliased: outputs that take the place of arguments (the donated state).
      temporaries: everything between.
      program: the program itself; 0 where its machine code was not made.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    program: int

    @property
    def total(self) -> int:
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.program


@dataclasses.dataclass(frozen=True)
class Report:
    """A compiled step.

    Attributes:
      stage: 1 or 2.
      devices: kind and number of devices, by name.
      mesh: its (data, fsdp).
      batch_size: over all devices.
      memory: The memory of one device.
      collectives: The collectives of one step on one device.
      complete: whether machine code was made, too.
      seconds: The time to trace and compile so far.
    """

    stage: int
    devices: str
    mesh: tuple[int, int]
    batch_size: int
    memory: Memory
    collectives: tuple[Collective, ...]
    complete: bool
    seconds: float

    def save(self, path: str | os.PathLike) -> None:
        """Writes it as JSON."""
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Report":
        """Reads what `save` wrote; raises InputError if it is something else."""
        fields = read_json(path)
        try:
            fields["memory"] = Memory(**fields["memory"])
            fields["collectives"] = tuple(Collective(**each) for each in fields["collectives"])
            report = cls(**fields | {"mesh": tuple(fields["mesh"])})
            check_config(dataclasses.asdict(report), _RULES, prefix="")
            for one in report.collectives:
                check_config(dataclasses.asdict(one), _COLLECTIVE_RULES, prefix="collectives: ")
        except (InputError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path}: is not a report of tools/compile_for_tpu.py ({error})") from error
        return report
