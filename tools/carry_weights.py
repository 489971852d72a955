"""Takes the weights of a training recipe from machine to machine, as small files.

  python tools/carry_weights.py --recipe=work/accelerator --to=results       # results/weights.00.piece, ...
  python tools/carry_weights.py --recipe=work/accelerator --from=results     # on another machine: DIR/carried
  python tools/carry_weights.py --from=results --output=model.safetensors    # the packed model that a recipe ended with

--to writes the newest training's weights (their average if there is one), bfloat16, and the packed model once there is
one, in pieces of at most 15 MiB. --from puts them where tools/train_builtin.py goes on from them: with new data, a new
optimizer state, and the time that is left. It does nothing where the recipe has begun already, or where there is
nothing to bring.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import recipe
import safetensors.numpy
from accelerator import pieces

from champ_jax.common.cli import Parser, run
from champ_jax.common.errors import InputError, first_line
from champ_jax.common.files import parse_json, read_json, real_output, require_folder, write_json
from champ_jax.common.outputs import Kind, Output, claim, json_with

WEIGHTS, MODEL = "weights", "model"
PACKED = "model.safetensors"


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--recipe", help="the folder of a recipe (tools/train_builtin.py --output)")
    parser.add_argument("--to", help="the folder to write pieces to")
    parser.add_argument("--summary", help="with --to: a JSON file for what the recipe took and found")
    parser.add_argument("--from", dest="source", help="the folder of the pieces")
    parser.add_argument("--output", help="the packed model to write")
    options = parser.parse_args(argv)
    if (options.to is None) == (options.source is None):
        parser.error("name either --to or --from")
    if options.output is not None:
        if options.source is None:
            parser.error("--output: belongs to --from")
        source = require_folder(options.source)
        claim([Output("--output", options.output, packed_model())], [source])
        pieces.join(source, MODEL, options.output)
    elif options.recipe is None:
        parser.error("--recipe: missing; name the folder of the recipe")
    elif options.to is not None:
        directory, folder = require_folder(options.recipe), real_output(options.to, folder=True)
        if options.summary is not None:
            claim([Output("--summary", options.summary, json_with("a summary", "legs", "steps", "report"))])
        take(directory, folder)
        if options.summary is not None:
            write_json(options.summary, summarize(directory, folder))
    else:
        bring(require_folder(options.source), real_output(options.recipe, folder=True))


def packed_model() -> Kind:
    from champ_jax.weights.packed import is_packed  # JAX loads after the arguments are read

    return Kind("a packed model", is_packed)


def take(directory: Path, folder: Path) -> None:
    """Writes the pieces of a recipe's newest weights.

    Raises:
      InputError: nothing has been trained yet.
    """
    from champ_jax.weights.flat import from_components
    from champ_jax.weights.packed import pack_run
    from champ_jax.weights.work_folder import RunCheckpoint, saved_steps

    packed, record = directory / PACKED, directory / recipe.LEGS
    times = read_json(record) if record.is_file() else {}
    if not packed.is_file() and times.get("stage2", {}).get("finished"):
        pack_run(directory / "stage2", packed)
    if packed.is_file():
        made = pieces.split(packed, folder, MODEL)
        print(f"{PACKED}: {len(made)} pieces")
        return
    trained = [leg for leg in recipe.TRAININGS if saved_steps(directory / leg)]
    if not trained:
        raise InputError(f"{directory}: nothing has been trained yet")
    leg = trained[-1]
    snapshot = RunCheckpoint.find(directory / leg)
    fields = {
        "model": snapshot.model.to_json(),
        "leg": leg,
        "finished": times.get(leg, {}).get("finished", False),
        "seconds": {name: entry["seconds"] for name, entry in times.items() if name in recipe.TRAININGS},
    }
    arrays = {
        name: array.astype(ml_dtypes.bfloat16) if array.dtype == np.float32 else array
        for name, array in from_components(snapshot.load()).items()
    }
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "weights.safetensors"
        safetensors.numpy.save_file(arrays, path, metadata={name: json.dumps(fields[name]) for name in fields})
        made = pieces.split(path, folder, WEIGHTS)
    print(f"{leg}, step {snapshot.step}: {len(made)} pieces")


def summarize(directory: Path, folder: Path) -> dict[str, Any]:
    """{legs, steps, report} of a recipe so far: times, the last line of each training, and figures of held-out people,
    whose picture it copies to `folder`."""
    steps = {}
    for leg in recipe.TRAININGS:
        metrics = directory / leg / "metrics.jsonl"
        if metrics.is_file():
            lines = metrics.read_text().splitlines()
            steps[leg] = parse_json(lines[-1], str(metrics)) if lines else {}
    report, sheet = directory / "report.json", directory / "report_sheet.png"
    if sheet.is_file():
        shutil.copy(sheet, folder / "held_out.png")
    legs = directory / recipe.LEGS
    return {
        "legs": read_json(legs) if legs.is_file() else {},
        "steps": steps,
        "report": read_json(report) if report.is_file() else None,
    }


def bring(folder: Path, directory: Path) -> None:
    """Writes DIR/carried from pieces.

    Raises:
      InputError: a piece is missing or damaged, or they hold something else.
    """
    if (directory / recipe.LEGS).exists():
        print(f"{directory}: has begun; nothing is brought")
        return
    found = pieces.names(folder)
    if MODEL in found:
        pieces.join(folder, MODEL, directory / PACKED)
        write_json(directory / f"{recipe.CARRIED}.json", {"leg": recipe.TRAININGS[-1], "finished": True})
        print(f"{directory / PACKED}: the model")
        return
    if WEIGHTS not in found:
        print(f"{folder}: holds no weights; nothing is brought")
        return
    from champ_jax.models.champ import ChampConfig
    from champ_jax.weights.checkpoint import save_checkpoint
    from champ_jax.weights.flat import to_components
    from champ_jax.weights.tensor_files import open_tensors

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "weights.safetensors"
        pieces.join(folder, WEIGHTS, path)
        damaged = f"{folder / WEIGHTS}: the pieces hold no weights of a recipe"
        with open_tensors(path) as file:
            texts = file.metadata
            if not {"model", "leg", "finished", "seconds"} <= set(texts):
                raise InputError(damaged)
            fields = {name: parse_json(text, damaged) for name, text in texts.items()}
            arrays = {name: file.read(name) for name in file.tensors}
    seconds = fields["seconds"] if isinstance(fields["seconds"], dict) else {}
    if fields["leg"] not in recipe.TRAININGS or any(type(value) not in (int, float) for value in seconds.values()):
        raise InputError(damaged)
    try:
        model = ChampConfig.from_json(fields["model"])
    except (InputError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{damaged} ({first_line(error)})") from error
    wide = {name: array if array.dtype.kind == "i" else array.astype(np.float32) for name, array in arrays.items()}
    save_checkpoint(directory / recipe.CARRIED, to_components(wide), model.to_json())
    write_json(directory / f"{recipe.CARRIED}.json", {"leg": fields["leg"], "finished": bool(fields["finished"])})
    spent = {name: {"command": "", "seconds": value, "finished": False} for name, value in seconds.items()}
    write_json(directory / recipe.LEGS, spent)
    print(f"{directory / recipe.CARRIED}: the weights of {fields['leg']}")


if __name__ == "__main__":
    run(main)
