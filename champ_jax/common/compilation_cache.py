"""JAX's cache of compiled programs on disk, which processes share and a restart reads."""

import os

import jax

DEFAULT = "~/.cache/champ_jax"


def use_compilation_cache(folder: str) -> None:
    """Has JAX keep compiled programs in a folder. JAX_COMPILATION_CACHE_DIR goes before it.

    On CPUs only that variable turns the cache on: a CPU's programs are of one kind of processor, and a home folder may
    be shared by machines of several.

    Args:
      folder: the folder, made when the first program is kept; '' is none.
    """
    if folder and jax.default_backend() != "cpu" and not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
