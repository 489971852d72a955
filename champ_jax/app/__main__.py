"""Serves a page in the browser and a JSON API that animate pictures of people.

    champ app
    champ app --config.weights=DIR --config.port=8000
    champ app --config.host=0.0.0.0 --config.user=NAME --config.password=SECRET

Without arguments it runs the built-in model at http://127.0.0.1:7860/, for this machine only. `python -m champ_jax.app`
is the same command. docs/app.md describes every field, what the server promises, and the API.
"""

from collections.abc import Sequence

from champ_jax.app.settings import AppSettings, get_config, guide
from champ_jax.common.cli import Parser, run
from champ_jax.common.configs import config_parser, parse_config
from champ_jax.common.errors import InputError


def parser() -> Parser:
    """What the command takes, for completion."""
    return config_parser(get_config(), description=__doc__, guide=guide())


def main(argv: Sequence[str]) -> int:
    """Serves until Ctrl-C; returns the exit status."""
    config, _ = parse_config(argv, get_config, description=__doc__, guide=guide)
    settings = AppSettings.from_config(config)
    try:
        from champ_jax.app.server import serve  # loads JAX and the extra
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("fastapi", "gradio", "starlette", "uvicorn", "anyio", "pydantic"):
            raise
        raise InputError(f"champ app: {error.name} is not installed; pip install 'champ_jax[app]'") from error
    serve(settings)
    return 0


if __name__ == "__main__":
    run(main)
