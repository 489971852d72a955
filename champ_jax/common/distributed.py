"""The settings of a run of several processes, `config.distributed`; `champ_jax.common.cluster` acts on them."""

import ml_collections

from champ_jax.common.field_meanings import comments_of
from champ_jax.common.ranges import Integer, Number, Rule

# For the whole config of a command (`champ_jax.common.ranges.check_config`).
RULES: dict[str, Rule] = {
    "distributed.processes": Integer(minimum=0),
    "distributed.process": Integer(minimum=-1),
    "distributed.timeout": Number(minimum=1, maximum=24 * 3600),
}


def defaults() -> ml_collections.ConfigDict:
    """The default settings."""
    config = ml_collections.ConfigDict()
    config.coordinator = "auto"  # process 0's HOST:PORT; auto: what the launcher says; none: this process is alone
    config.processes = 0  # the number of processes; 0: what the launcher says
    config.process = -1  # the number of this process; -1: what the launcher says
    config.timeout = 60.0  # seconds without a heartbeat after which a process counts as dead
    return config


def meanings() -> dict[str, str]:
    """{dotted field of the whole config: what it is}."""
    return {f"distributed.{name}": meaning for name, meaning in comments_of(defaults).items()}
