"""The networks that metrics look through: inference only, channels last, float32.

Their attributes carry the published files' key names in lower case, so that the name map (`evaluation.network_weights`)
is one rule. Layers, padding and preprocessing: docs/evaluation.md.
"""

from champ_jax.evaluation.networks.i3d import I3D
from champ_jax.evaluation.networks.inception import FIDInception
from champ_jax.evaluation.networks.lpips import LPIPS
from champ_jax.evaluation.networks.resnet3d import ResNet3D

__all__ = ["I3D", "LPIPS", "FIDInception", "ResNet3D"]
