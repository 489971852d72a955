"""Floating-point operations of the networks, counted from their sizes: what MFU and TFLOP/s are taken against.

A multiply-add counts as two. Convolutions, linears and the two products of attention are counted, elementwise work and
norms are not. The exact savings are applied: no cross-attention over one token, the bank projected once a video.
(XLA's own count takes a loop's body once and a Pallas or cuDNN kernel for nothing.)
"""

from champ_jax.models.champ import ChampConfig
from champ_jax.models.clip import CLIPVisionConfig
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig


def _conv(pixels: int, in_channels: int, out_channels: int, taps: int = 9) -> int:
    return 2 * pixels * in_channels * out_channels * taps


def _linear(tokens: int, in_features: int, out_features: int) -> int:
    return 2 * tokens * in_features * out_features


def _attention(queries: int, keys: int, width: int) -> int:
    return 4 * queries * keys * width


def _resnet(pixels: int, in_channels: int, out_channels: int) -> int:
    shortcut = _conv(pixels, in_channels, out_channels, 1) if in_channels != out_channels else 0
    return _conv(pixels, in_channels, out_channels) + _conv(pixels, out_channels, out_channels) + shortcut


def _feed_forward(tokens: int, width: int) -> int:
    return _linear(tokens, width, 8 * width) + _linear(tokens, 4 * width, width)


def _transformer(pixels: int, width: int, bank_tokens: int) -> int:
    """A spatial transformer on one picture whose queries also see `bank_tokens` keys that were projected before."""
    projections = 6 * _linear(pixels, width, width)  # in, q, k, v, attention's out, out
    return projections + _attention(pixels, pixels + bank_tokens, width) + _feed_forward(pixels, width)


def _motion_module(pixels: int, width: int, frames: int, attention_blocks: int) -> int:
    """A motion module, per frame."""
    attend = 4 * _linear(pixels, width, width) + _attention(pixels, frames, width)
    return 2 * _linear(pixels, width, width) + attention_blocks * attend + _feed_forward(pixels, width)


def _unet_frame(config: ChampConfig, height: int, width: int, frames: int, bank: bool, output: bool) -> dict[str, int]:
    """FLOPs of one frame of the UNet by kind: 'motion' and 'rest'. `frames` is the window's length; 0: no motion."""
    unet: UNetConfig = config.unet
    count = {"motion": 0, "rest": 0}
    sizes = [(height, width)]
    for _ in range(unet.levels - 1):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    pixels = [h * w for h, w in sizes]
    widths = unet.block_out_channels

    def layer(level: int, in_channels: int, attention: bool, motion: bool) -> None:
        count["rest"] += _resnet(pixels[level], in_channels, widths[level])
        if attention:
            count["rest"] += _transformer(pixels[level], widths[level], pixels[level] if bank else 0)
        if motion and frames and config.motion is not None:
            count["motion"] += _motion_module(pixels[level], widths[level], frames, config.motion.attention_blocks)

    count["rest"] += _conv(pixels[0], unet.in_channels, widths[0])
    for level, has_attention in enumerate(unet.attention_levels):
        for index in range(unet.layers_per_block):
            layer(level, widths[max(level - 1, 0)] if index == 0 else widths[level], has_attention, True)
        if level < unet.levels - 1:
            count["rest"] += _conv(pixels[level + 1], widths[level], widths[level])
    last = unet.levels - 1
    layer(last, widths[last], True, config.motion is not None and config.motion.in_middle)
    layer(last, widths[last], False, False)
    for level in reversed(range(unet.levels)):
        layers = unet.layers_per_block + 1
        for index in range(layers):
            below = widths[min(level + 1, last)] if index == 0 else widths[level]
            skip = widths[level] if index < layers - 1 else widths[max(level - 1, 0)]
            layer(level, below + skip, unet.attention_levels[level], True)
        if level > 0:
            count["rest"] += _conv(pixels[level - 1], widths[level], widths[level])
    if output:
        count["rest"] += _conv(pixels[0], widths[0], unet.out_channels)
    return count


def denoiser_flops(config: ChampConfig, height: int, width: int, frames: int, *, bank: bool = True) -> int:
    """One row of the denoiser: `frames` latents of (height, width), reading a bank or not."""
    return frames * sum(_unet_frame(config, height, width, frames, bank, output=True).values())


def denoising_step_flops(
    config: ChampConfig, height: int, width: int, frames: int, *, classifier_free: bool = True
) -> int:
    """One denoising step of one window: the conditional row and, with guidance, the unconditional one."""
    conditional = denoiser_flops(config, height, width, frames)
    return conditional + (denoiser_flops(config, height, width, frames, bank=False) if classifier_free else 0)


def reference_flops(config: ChampConfig, height: int, width: int) -> int:
    """The ReferenceNet's pass over one latent, less what follows the last norm1, and the bank's projections."""
    widths, pixels = config.unet.block_out_channels, height * width
    count = _unet_frame(config, height, width, 0, bank=False, output=False)["rest"]
    count -= _transformer(pixels, widths[0], 0) - _linear(pixels, widths[0], widths[0])
    projections = 0
    for level, has in enumerate(config.unet.attention_levels):
        level_pixels = -(-height // 2**level) * -(-width // 2**level)
        blocks = has * (2 * config.unet.layers_per_block + 1) + (level == config.unet.levels - 1)
        projections += blocks * 2 * _linear(level_pixels, widths[level], widths[level])
    return count + projections


def guidance_flops(config: ChampConfig, height: int, width: int, conditions: int) -> int:
    """`conditions` guidance encoders on one frame of (height, width) pixels."""
    sizes: GuidanceConfig = config.guidance
    pixels = height * width
    count = _conv(pixels, 3, sizes.block_out_channels[0])
    for in_channels, out_channels, stride in sizes.stages:
        pixels //= stride**2
        count += _conv(pixels, in_channels, out_channels)
    last = sizes.block_out_channels[-1]
    count += _transformer(pixels, last, 0) if sizes.attention else 0
    return conditions * (count + _conv(pixels, last, sizes.out_channels))


def vae_encode_flops(config: VAEConfig, height: int, width: int) -> int:
    """Encoding one picture of (height, width) pixels."""
    widths, pixels = config.block_out_channels, height * width
    count = _conv(pixels, config.in_channels, widths[0])
    for level, channels in enumerate(widths):
        for index in range(config.layers_per_block):
            count += _resnet(pixels, widths[max(level - 1, 0)] if index == 0 else channels, channels)
        if level < len(widths) - 1:
            pixels //= 4
            count += _conv(pixels, channels, channels)
    moments = 2 * config.latent_channels
    return (
        count
        + _vae_middle(pixels, widths[-1])
        + _conv(pixels, widths[-1], moments)
        + _conv(pixels, moments, moments, 1)
    )


def vae_decode_flops(config: VAEConfig, height: int, width: int) -> int:
    """Decoding one picture of (height, width) pixels."""
    widths, latents = config.block_out_channels, config.latent_channels
    pixels = height * width // config.downscale**2
    count = _conv(pixels, latents, latents, 1) + _conv(pixels, latents, widths[-1]) + _vae_middle(pixels, widths[-1])
    for level in reversed(range(len(widths))):
        for index in range(config.layers_per_block + 1):
            before = widths[min(level + 1, len(widths) - 1)] if index == 0 else widths[level]
            count += _resnet(pixels, before, widths[level])
        if level > 0:
            pixels *= 4
            count += _conv(pixels, widths[level], widths[level])
    return count + _conv(pixels, widths[0], config.out_channels)


def _vae_middle(pixels: int, width: int) -> int:
    attend = 4 * _linear(pixels, width, width) + _attention(pixels, pixels, width)
    return 2 * _resnet(pixels, width, width) + attend


def image_encoder_flops(config: CLIPVisionConfig) -> int:
    """The CLIP vision tower on one picture."""
    tokens, width = config.tokens, config.hidden_size
    layer = 4 * _linear(tokens, width, width) + 2 * _linear(tokens, width, config.intermediate_size)
    layer += _attention(tokens, tokens, width)
    patches = _conv(tokens - 1, config.num_channels, width, config.patch_size**2)
    return patches + config.num_hidden_layers * layer + _linear(1, width, config.projection_dim)


def training_step_flops(
    config: ChampConfig, height: int, width: int, *, stage: int, batch: int, frames: int, conditions: int
) -> int:
    """One optimizer step on `batch` samples at (height, width) latent pixels, without recomputation.

    A backward pass costs as much again for the activations' gradients and once more for the weights'. Stage 2 trains
    the motion modules only: ReferenceNet and guidance encoders run forward, other weights' gradients are not needed.
    The frozen VAE and image encoder are left out: a latent cache can spare them. Stage 0 is the autoencoder alone.
    """
    scale = config.vae.downscale
    if stage == 0:
        size = scale * height, scale * width
        return batch * 3 * (vae_encode_flops(config.vae, *size) + vae_decode_flops(config.vae, *size))
    guidance = frames * guidance_flops(config, scale * height, scale * width, conditions)
    reference = reference_flops(config, height, width)
    if stage == 1:
        denoiser = sum(_unet_frame(config, height, width, 0, bank=True, output=True).values())
        return batch * 3 * (frames * denoiser + reference + guidance)
    parts = _unet_frame(config, height, width, frames, bank=True, output=True)
    return batch * (frames * (3 * parts["motion"] + 2 * parts["rest"]) + reference + guidance)
