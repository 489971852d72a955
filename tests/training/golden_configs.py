"""The resolved configs of configs/, field by field, so that a change of a default shows in review.

python tests/training/golden_configs.py    # writes them anew
"""

import json
import sys
from pathlib import Path
from runpy import run_path

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "configs"
NAMES = {  # file below configs/: the names its get_config takes
    "stage1": (),
    "stage2": (),
    "people/autoencoder": (),
    "people/smoke": (),
    "people/stage1": (),
    "people/stage1_pixels": (),
    "people/stage2": (),
    "people/ablations": (
        "full",
        "without_smpl",
        "without_geometry",
        "without_skeleton",
        "without_guidance_attention",
    ),
}


def resolved():
    """{file name below FOLDER: text}."""
    texts = {}
    for name, variants in NAMES.items():
        get_config = run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]
        for variant in variants or (None,):
            config = get_config() if variant is None else get_config(variant)
            file = f"{'_'.join([*name.split('/'), *([variant] if variant else [])])}.json"
            texts[file] = json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n"
    return texts


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for file, text in resolved().items():
        (FOLDER / file).write_text(text)
