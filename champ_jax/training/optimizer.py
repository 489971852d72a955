"""The optimizer of a run, from its config (Optax): clipping, AdamW or Adafactor, warm-up and schedule, decay mask."""

import ml_collections
import optax

from champ_jax.common.errors import InputError
from champ_jax.weights.flat import Flat

OPTIMIZERS = ("adamw", "adafactor")
SCHEDULES = ("constant", "cosine", "linear")
DECAYED = ("all", "kernels")


def learning_rate_schedule(config: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
    """Learning rate by optimizer step: linear warm-up from 0, then as `config.schedule` says to the end of the run.

    Args:
      config: `config.optimizer` of a run: learning_rate, warmup (steps), schedule ('constant', 'cosine' or 'linear'),
        final_fraction (what is left of the learning rate at the end of 'cosine' and 'linear').
      steps: optimizer steps of the whole run.
    """
    peak, final = config.learning_rate, config.learning_rate * config.final_fraction
    rest = max(steps - config.warmup, 1)
    if config.schedule == "constant":
        after = optax.constant_schedule(peak)
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest, config.final_fraction)
    elif config.schedule == "linear":
        after = optax.linear_schedule(peak, final, rest)
    else:
        raise InputError(f"optimizer.schedule={config.schedule}: unknown; choose {', '.join(SCHEDULES)}")
    if not config.warmup:
        return after
    # The first step already moves: warm-up ends at the peak after `warmup` steps.
    warmup = optax.linear_schedule(peak / config.warmup, peak, config.warmup - 1)
    return optax.join_schedules([warmup, after], [config.warmup])


def decay_mask(parameters: Flat, decayed: str) -> dict[str, bool]:
    """Which parameters weight decay pulls on: 'all' of them, or 'kernels' (no biases, norm scales, embeddings).

    Raises:
      InputError: another name.
    """
    if decayed not in DECAYED:
        raise InputError(f"optimizer.decayed={decayed}: unknown; choose {', '.join(DECAYED)}")
    return {name: decayed == "all" or name.endswith(".kernel") for name in parameters}


def make_optimizer(config: ml_collections.ConfigDict, steps: int) -> optax.GradientTransformation:
    """The gradient transformation of a run over flat dicts of trainable parameters.

    Args:
      config: `config.optimizer`: name, learning_rate, b1, b2, eps, weight_decay, decayed, clip_norm (0: none), and
        the fields of `learning_rate_schedule`.
      steps: optimizer steps of the whole run.

    Raises:
      InputError: a field has a value that is unknown or cannot work.
    """
    for field in ("learning_rate", "weight_decay", "clip_norm", "warmup"):
        if config[field] < 0:
            raise InputError(f"optimizer.{field}={config[field]}: must not be negative")
    schedule = learning_rate_schedule(config, steps)

    def mask(parameters: Flat) -> dict[str, bool]:
        return decay_mask(parameters, config.decayed)

    decay_mask({}, config.decayed)
    if config.name == "adamw":
        update = optax.adamw(
            schedule, b1=config.b1, b2=config.b2, eps=config.eps, weight_decay=config.weight_decay, mask=mask
        )
    elif config.name == "adafactor":
        # Decay is decoupled and scaled by the learning rate, as in AdamW; optax.adafactor's own is not.
        update = optax.chain(
            optax.adafactor(None, multiply_by_parameter_scale=False, momentum=None),
            optax.add_decayed_weights(-config.weight_decay, mask),
            optax.scale_by_schedule(schedule),
        )
    else:
        raise InputError(f"optimizer.name={config.name}: unknown; choose {', '.join(OPTIMIZERS)}")
    if config.clip_norm:
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)
    return update
