"""The golden outputs of the pose networks: what the published files give in TensorFlow Lite's own runtime.

  pip install ai-edge-litert
  python tests/pose_network_goldens.py FOLDER...     writes tests/golden/pose_networks; folders as of
                                                     tools/build_pose_networks.py

As a module it has what the tests compare: the pictures, and which outputs a golden keeps.
"""

import sys
from pathlib import Path

import numpy as np

from champ_jax.fitting.networks.conversion import FILES
from champ_jax.fitting.programs import programs

GOLDEN = Path(__file__).parent / "golden" / "pose_networks"
STEP = 61  # of large outputs every 61st value is kept
LARGE = 2000


OUTPUTS = {
    "person_detector": (0, 1),
    "pose_landmarks": (0, 4, 3, 1),
    "hand_landmarks": (0, 1, 2),
    "hand_recrop": (0,),
    "face_mesh": (0, 1),
}
"""Network: of each of its outputs here the number among the file's."""


def pictures(side: int) -> np.ndarray:
    """Two pictures (2, side, side, 3) uint8: noise, and soft patches."""
    rng = np.random.default_rng(side)
    patches = rng.uniform(0, 1, (9, 9, 3))
    rows = np.linspace(0, 8, side, endpoint=False)
    low, part = rows.astype(int), rows % 1
    soft = patches[low] * (1 - part)[:, None, None] + patches[low + 1] * part[:, None, None]
    soft = soft[:, low] * (1 - part)[:, None] + soft[:, low + 1] * part[:, None]
    return np.round(255 * np.stack([rng.uniform(0, 1, (side, side, 3)), soft])).astype(np.uint8)


def kept(output: np.ndarray) -> np.ndarray:
    """(2, N): what a golden keeps of an output of two pictures."""
    flat = output.reshape(len(output), -1)
    return flat[:, ::STEP] if flat.shape[1] > LARGE else flat


def of_litert(name: str, path: Path) -> list[np.ndarray]:
    """The outputs of a network's file for `pictures`, in TensorFlow Lite's runtime."""
    from ai_edge_litert.interpreter import Interpreter

    program = programs()[name]
    batch = pictures(program.size).astype(np.float32) * ((1 - program.lowest) / 255) + program.lowest
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    results = []
    for picture in batch.astype(np.float32):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None])
        interpreter.invoke()
        details = interpreter.get_output_details()
        results.append([interpreter.get_tensor(details[index]["index"])[0].copy() for index in OUTPUTS[name]])
    outputs = [np.stack(values) for values in zip(*results)]
    if name == "face_mesh":  # the file leaves the last sigmoid to its reader
        outputs[1] = 1 / (1 + np.exp(-outputs[1]))
    return outputs


def main(folders: list[str]) -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name in OUTPUTS:
        path = next(path for folder in folders for path in sorted(Path(folder).rglob(FILES[name])))
        outputs = of_litert(name, path)
        arrays = {f"output{index}": kept(value) for index, value in enumerate(outputs)}
        ranges = {f"range{index}": np.ptp(value) for index, value in enumerate(outputs)}
        np.savez_compressed(GOLDEN / f"{name}.npz", **arrays, **ranges)
        print(name, {key: value.shape for key, value in arrays.items()})


if __name__ == "__main__":
    main(sys.argv[1:])
