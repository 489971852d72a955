"""The extras of the distribution: what each is for, and which modules it brings.

It loads the standard library alone, as the command line and the doctor do.
"""

PURPOSES = {
    "app": "champ app, the page in the browser and the API",
    "convert": "champ export, and tests",
    "fit": "champ fit --detector=dwpose and --camera=moving",
    "evaluate": "champ evaluate of optical flow",
    "pyrender": "champ render --backend=pyrender",
    "train": "champ train and tools/build_dataset.py",
    "tpu": "TPUs",
    "cuda": "NVIDIA GPUs",
    "beam": "tools on an Apache Beam runner",
}
"""{extra: what it is for}. The extras 'docs' and 'test' are for developers and not among them."""

MODULES = {
    "app": ("gradio", "fastapi", "uvicorn"),
    "convert": ("torch",),
    "fit": ("onnxruntime", "cv2"),
    "evaluate": ("cv2",),
    "pyrender": ("pyrender",),
    "train": ("grain", "tensorflow_datasets", "importlib_resources", "tensorboardX"),
    "beam": ("apache_beam",),
}
"""{extra: the modules that are imported of its packages}. 'tpu' and 'cuda' bring plugins that JAX finds itself."""


def advice(error: ModuleNotFoundError) -> str | None:
    """One line that names the extra to install for what `error` misses; None if no extra brings it."""
    missing = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in MODULES.items() if missing in modules), None)
    return f"{missing} is not installed; pip install 'champ_jax[{extra}]'" if extra else None
