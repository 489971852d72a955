"""The program and the buffers of a step that another process compiles, from the files that XLA dumps on the way.

A device's memory and the collectives are known once the compiler has optimized and scheduled the program and placed its
buffers; the machine code, which takes ten times as long, adds itself and some scratch.
"""

import os
import re
from pathlib import Path

from champ_jax.planning.report import Memory

_PLACED = "after_optimizations_after_buffer_assignment"


class Dump:
    """The dump of a compilation that runs in another process: the step's program and its buffers.

    That process needs XLA_FLAGS = `flags` from its start.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = Path(folder)
        self._size = -1

    @property
    def flags(self) -> str:
        return f"--xla_dump_to={self._folder} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=jit_step"

    def poll(self) -> bool:
        """Whether the compiler has placed all buffers: the program with them, the last file that it writes of this, is
        there and has not grown since the last call."""
        before = self._size
        self._size = sum(path.stat().st_size for path in self._folder.glob(f"*.{_PLACED}.txt"))
        return 0 < self._size == before

    def read(self) -> tuple[Memory, str]:
        """A device's memory, and the optimized program."""
        (program,) = self._folder.glob(f"*.{_PLACED}.txt")
        (buffers,) = self._folder.glob("*.after_optimizations-buffer-assignment.txt")
        return read_buffers(buffers.read_text()), program.read_text()


def read_buffers(text: str) -> Memory:
    """The memory in XLA's buffer assignment: its allocations in HBM, which is the space without a color."""
    sizes = {"argument": 0, "aliased": 0, "output": 0, "temporary": 0}
    for size, kind in re.findall(r"^allocation \d+: size (\d+), (.*)$", text, re.MULTILINE):
        if re.match(r"color [1-9]", kind):
            continue
        if "parameter" in kind:
            sizes["argument"] += int(size)
            sizes["aliased"] += int(size) if "maybe-live-out" in kind else 0
        else:
            sizes["output" if "maybe-live-out" in kind else "temporary"] += int(size)
    return Memory(
        sizes["argument"], sizes["output"] + sizes["aliased"], sizes["aliased"], sizes["temporary"], program=0
    )
