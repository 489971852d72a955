"""Converts MediaPipe's networks, once, into the files that the package ships (champ_jax/assets/pose_networks).

python tools/build_pose_networks.py --source=mediapipe,pose --output=champ_jax/assets/pose_networks

--source names folders with the unpacked packages, separated by commas. Two have all five files:

  pip download --no-deps --only-binary=:all: --python-version 3.12 mediapipe==0.10.21     unzipped: four of them
  npm pack @mediapipe/pose@0.5.1675469404                                untarred: pose_landmark_heavy.tflite

--network=NAME converts one network only. Nothing but their weights is taken; what the layers do is written in
champ_jax/fitting/networks.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from safetensors.numpy import save_file

from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path, require_folder
from champ_jax.common.limits import size_text
from champ_jax.fitting.networks.conversion import FILES, convert

ORIGIN = """# Origin

Weights of MediaPipe's networks, copyright the MediaPipe authors, under the Apache License 2.0 (`LICENSE`). They were
taken from the packages mediapipe 0.10.21 (PyPI) and @mediapipe/pose 0.5.1675469404 (npm) by
`tools/build_pose_networks.py`, which changes their layout and names, leaves out the mask that the pose network also
draws, and keeps every remaining value.

| file | from | SHA-256 of that file |
| --- | --- | --- |
"""

OURS = """
`point_bias.json` was learned on synthetic people by `tools/learn_point_bias.py` and belongs to this project.
"""


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--source", required=True, help="folders with .tflite files, separated by commas")
    parser.add_argument("--output", required=True, help="folder for the .safetensors files")
    parser.add_argument("--network", choices=FILES, help="one network only")
    options = parser.parse_args(argv)
    folders = [require_folder(folder) for folder in options.source.split(",")]
    rows = ""
    for name in [options.network] if options.network else FILES:
        path = _find(folders, FILES[name])
        data = path.read_bytes()
        weights = convert(name, path, data)
        output = Path(options.output) / f"{name}.safetensors"
        with atomic_path(output) as temporary:
            save_file(weights, temporary)
        rows += f"| {output.name} | {FILES[name]} | {hashlib.sha256(data).hexdigest()} |\n"
        values = sum(array.size for array in weights.values())
        print(f"{output}: {len(weights)} arrays, {values:,} values, {size_text(output.stat().st_size)}")
    if not options.network:
        with atomic_path(Path(options.output) / "ORIGIN.md") as temporary:
            temporary.write_text(ORIGIN + rows + OURS)


def _find(folders: list[Path], name: str) -> Path:
    found = sorted(path for folder in folders for path in folder.rglob(name))
    if not found:
        raise InputError(f"--source: {', '.join(map(str, folders))} hold no {name}; the help text names the packages")
    return found[0]


if __name__ == "__main__":
    run(main)
