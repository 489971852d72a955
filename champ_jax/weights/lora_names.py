"""What LoRA files call their tensors, in every naming there is -> the keys of the UNet's tensors.

    kohya      lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight, .lora_up.weight, .alpha
    ... LDM    lora_unet_input_blocks_1_1_proj_in.lora_down.weight
    diffusers  unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight
               down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora.down.weight
    PEFT       base_model.model.down_blocks.0.attentions.0.proj_in.lora_A.default.weight, .lora_B.default.weight
    AnimateDiff down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.
               to_q_lora.down.weight

A file may mix them, and any of the prefixes may stand before any dotted name.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from champ_jax.weights import ldm
from champ_jax.weights.names import TensorName, canonical

DOWN, UP, ALPHA = "down", "up", "alpha"
KOHYA = "lora_unet_"

# (pattern of a key's end, what the tensor is): group 'part' of it, or ALPHA where there is none.
_ENDS = (
    re.compile(r"\.lora_(?P<part>A|B)(\.default)?\.weight$"),
    re.compile(r"\.lora(_linear_layer)?\.(?P<part>down|up)\.weight$"),
    re.compile(r"(?P<kept>\.to_[qkv]|\.to_out)_lora\.(?P<part>down|up)\.weight$"),
    re.compile(r"\.lora_(?P<part>down|up)\.weight$"),
    re.compile(r"\.alpha$"),
)
_PARTS = {"A": DOWN, "B": UP}
_PREFIXES = ("base_model.model.", "unet.", ldm.UNET_PREFIX, "diffusion_model.")
_TEXT_ENCODER = re.compile(r"(base_model\.model\.)?(lora_te\d?_|text_encoder(_\d)?\.|text_model\.)")
_DORA = re.compile(r"\.dora_scale$|lora_magnitude_vector")

# Places in LDM's numbering whose dots kohya's trainer has made underscores.
_LDM_DOTS = (
    (re.compile(r"^(input_blocks|output_blocks)_(\d+)_(\d+)(_|$)"), r"\1.\2.\3."),
    (re.compile(r"^(middle_block|time_embed|out)_(\d+)(_|$)"), r"\1.\2."),
    (re.compile(r"\.(in_layers|out_layers|emb_layers)_(\d+)$"), r".\1.\2"),
)
_LDM = re.compile(r"(input_blocks|middle_block|output_blocks|time_embed|out)[._]\d")


class Place(NamedTuple):
    """What one tensor of a LoRA file is: DOWN, UP or ALPHA of a module, named by its weight's key less '.weight'."""

    module: str
    part: str


class Modules:
    """The modules of a network that a LoRA may change, found by the names files have for them."""

    def __init__(self, names: Iterable[TensorName], level: int):
        """
        Args:
          names: the network's tensors; those whose variable is a kernel are products and convolutions.
          level: LDM's layers a level of the UNet: its ResNets going down and one.
        """
        self.names: Mapping[str, TensorName] = {
            name.key.removesuffix(".weight"): name for name in names if name.path[-1] == "kernel"
        }
        self._level = level
        self._joined = {_joined(module): module for module in self.names}

    def place(self, key: str) -> Place | None:
        """What the tensor `key` of a file is; None if its name is in no known naming, or names no module of these."""
        for end in _ENDS:
            if match := end.search(key):
                groups = match.groupdict()
                part = groups.get("part", ALPHA)
                module = self._module(key[: match.start()] + (groups.get("kept") or ""))
                return None if module is None else Place(module, _PARTS.get(part, part))
        return None

    def _module(self, written: str) -> str | None:
        if written.startswith(KOHYA):
            joined = written.removeprefix(KOHYA)
            if _LDM.match(joined):
                for pattern, dotted in _LDM_DOTS:
                    joined = pattern.sub(dotted, joined)
                joined = _joined(ldm.unet_name(joined.rstrip(".") + ".", self._level).rstrip("."))
            return self._joined.get(joined)
        for prefix in _PREFIXES:
            written = written.removeprefix(prefix)
        if _LDM.match(written):
            written = ldm.unet_name(written + ".", self._level).rstrip(".")
        written = canonical(written.replace(".processor.", ".") + ".").rstrip(".")
        if written.endswith(".to_out"):
            written += ".0"
        return written if written in self.names else None


def belongs_to_text_encoder(key: str) -> bool:
    """Whether a tensor of a LoRA file changes Stable Diffusion's text encoder, which Champ has not."""
    return bool(_TEXT_ENCODER.match(key))


def is_dora(key: str) -> bool:
    """Whether a tensor of a LoRA file is a magnitude, which only DoRA has (Liu et al. 2024)."""
    return bool(_DORA.search(key))


def _joined(name: str) -> str:
    return name.replace(".", "_")
