"""Throws damaged and invented files at the readers of arrays: only InputError may come out, and no signal.

    python tests/common/fuzz_readers.py SECONDS SEED

The files of fuzz_seeds/ (small ones, as NumPy, joblib, scipy, chumpy and PyTorch write them) are cut, spliced, and have
bytes changed; pickles are also invented opcode by opcode. A file that breaks the rule is left as fuzz_crash.
"""

import random
import resource
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

from champ_jax.common.errors import InputError
from champ_jax.common.pickle_machine import _HANDLERS
from champ_jax.common.pickles import read_arrays
from champ_jax.weights.tensor_files import open_tensors

SEEDS = Path(__file__).parent / "fuzz_seeds"
OPCODES = sorted(_HANDLERS)
NAMES = (
    "numpy dtype", "numpy ndarray", "numpy._core.multiarray _reconstruct", "numpy.core.multiarray scalar",
    "numpy._core.numeric _frombuffer", "joblib.numpy_pickle NumpyArrayWrapper", "scipy.sparse._csc csc_matrix",
    "scipy.sparse.coo coo_matrix", "chumpy.ch Ch", "collections OrderedDict", "_codecs encode", "builtins bytearray",
    "builtins set", "builtins slice", "copyreg _reconstructor", "torch._utils _rebuild_tensor_v2", "torch FloatStorage",
    "torch.storage _load_from_bytes", "pathlib PosixPath", "builtins complex",
)  # fmt: skip
WORDS = (
    "O8",
    "f4",
    "i8",
    "<",
    "|",
    "V8",
    "S0",
    "U999999999",
    "shape",
    "dtype",
    "order",
    "C",
    "data",
    "indptr",
    "_shape",
)
NUMBERS = (0, 1, 2, 3, 8, 63, 255, 256, 2**16, 2**31 - 1, -1, -(2**31))


def number(rng):
    return b"J" + rng.choice(NUMBERS).to_bytes(4, "little", signed=True)


def invent(rng):
    """A pickle of random, but often sensible, steps."""
    pieces = [b"\x80\x04"]
    for _ in range(rng.randrange(2, 60)):
        kind = rng.randrange(8)
        if kind == 0:
            module, name = rng.choice(NAMES).split()
            pieces.append(b"c" + module.encode() + b"\n" + name.encode() + b"\n")
        elif kind == 1:
            word = rng.choice(WORDS).encode()
            pieces.append(b"\x8c" + bytes([len(word)]) + word)
        elif kind == 2:
            pieces.append(number(rng))
        elif kind == 3:
            data = rng.randbytes(rng.choice((0, 1, 8, 24)))
            pieces.append(b"C" + bytes([len(data)]) + data)
        elif kind == 4:
            pieces.append(rng.choice((b"(", b"}", b"]", b")", b"N", b"\x88", b"\x89", b"\x94", b"2")))
        elif kind == 5:
            pieces.append(b"h" + bytes([rng.randrange(6)]))
        elif kind == 6:
            pieces.append(
                rng.choice((b"R", b"b", b"\x81", b"t", b"\x85", b"\x86", b"\x87", b"u", b"e", b"s", b"a", b"d"))
            )
        else:
            pieces.append(rng.choice(OPCODES))
    return b"".join(pieces) + b"."


def mutate(rng, data, other):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(7)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, *b"().0RbON"))
        elif kind == 2:
            del data[at : at + rng.choice((1, 2, 8, 100))]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 8)))
        elif kind == 4:
            start = rng.randrange(len(other))
            data[at:at] = other[start : start + rng.choice((4, 16, 64))]
        elif kind == 5:
            data[at : at + 8] = rng.choice((2**63 - 1, 2**32, 2**31, 10**9)).to_bytes(8, "little")
        else:
            data[at:at] = rng.choice(OPCODES)
    return bytes(data)


def wrapped(rng, data):
    """The data in a container, so that its sums do not end the reading early."""
    kind = rng.randrange(6)
    if kind == 0:
        return zlib.compress(data)
    if kind == 1:
        header = b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }\n"
        return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data
    return data


def candidate(rng, seeds):
    if rng.random() < 0.4:
        return wrapped(rng, invent(rng))
    seed, other = rng.choice(seeds), rng.choice(seeds)
    return wrapped(rng, mutate(rng, seed, other)) if rng.random() < 0.3 else mutate(rng, seed, other)


def in_archive(rng, data, path):
    """Writes the data as an entry of a zip archive, as .npz and PyTorch's files are."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(rng.choice(("x.npy", "x/data.pkl")), data)
        archive.writestr("x/data/0", bytes(16))


def use(path):
    for read in (read_arrays, lambda path: open_tensors(path).__enter__()):
        try:
            read(path)
        except InputError as error:
            if not str(error).isprintable():
                raise AssertionError(f"not one printable line: {error}") from error


def fuzz(seconds, seed, folder):
    """Returns how many files were tried."""
    rng = random.Random(seed)
    seeds = [path.read_bytes() for path in sorted(SEEDS.iterdir())]
    path, count, end = Path(folder) / "fuzz_crash", 0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = candidate(rng, seeds)
        if rng.random() < 0.1:
            in_archive(rng, data, path)
        else:
            path.write_bytes(data)
        use(path)
        count += 1
    return count


if __name__ == "__main__":
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 2**30,) * 2)
    place = tempfile.mkdtemp()
    print(fuzz(float(sys.argv[1]), int(sys.argv[2]), place), "files", place)
