"""HMR 2.0's network in PyTorch, whose state_dict has the keys of the published checkpoint; written for the tests."""

import torch
from torch import nn
from torch.nn import functional as F

from champ_jax.fitting.hmr2.network import HMR2Config

SMALL = HMR2Config(
    hidden_size=24,
    layers=2,
    heads=3,
    mlp_size=40,
    patch_size=64,
    head_size=20,
    head_layers=2,
    head_heads=2,
    head_channels=6,
    head_mlp_size=28,
)


def attend(query, key, value, heads):
    """Softmax attention of (B, N, heads * channels), written out."""
    split = [array.unflatten(-1, (heads, -1)).transpose(1, 2) for array in (query, key, value)]
    weights = (split[0] @ split[1].transpose(-1, -2) / split[0].shape[-1] ** 0.5).softmax(-1)
    return (weights @ split[2]).transpose(1, 2).flatten(2)


def named(**parts):
    """A module that only holds others, by name."""
    module = nn.Module()
    for name, part in parts.items():
        setattr(module, name, part)
    return module


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(c.hidden_size, eps=1e-6) for _ in range(2))
        self.attn = named(qkv=nn.Linear(c.hidden_size, 3 * c.hidden_size), proj=nn.Linear(c.hidden_size, c.hidden_size))
        self.mlp = named(fc1=nn.Linear(c.hidden_size, c.mlp_size), fc2=nn.Linear(c.mlp_size, c.hidden_size))
        self.heads = c.heads

    def forward(self, x):
        x = x + self.attn.proj(attend(*self.attn.qkv(self.norm1(x)).chunk(3, -1), self.heads))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class Twin(nn.Module):
    def __init__(self, c):
        super().__init__()
        inner = c.head_heads * c.head_channels
        proj = nn.Conv2d(3, c.hidden_size, c.patch_size, stride=c.patch_size, padding=2)
        self.backbone = named(
            patch_embed=named(proj=proj),
            blocks=nn.ModuleList(Block(c) for _ in range(c.layers)),
            last_norm=nn.LayerNorm(c.hidden_size, eps=1e-6),
        )
        self.backbone.pos_embed = nn.Parameter(torch.randn(1, 1 + c.tokens, c.hidden_size))

        def layer():
            def out():
                return nn.Sequential(nn.Linear(inner, c.head_size), nn.Dropout())

            parts = (
                named(to_qkv=nn.Linear(c.head_size, 3 * inner, bias=False), to_out=out()),
                named(
                    to_kv=nn.Linear(c.hidden_size, 2 * inner, bias=False),
                    to_q=nn.Linear(c.head_size, inner, bias=False),
                    to_out=out(),
                ),
                named(
                    net=nn.Sequential(
                        nn.Linear(c.head_size, c.head_mlp_size),
                        nn.GELU(),
                        nn.Dropout(),
                        nn.Linear(c.head_mlp_size, c.head_size),
                        nn.Dropout(),
                    )
                ),
            )
            return nn.ModuleList(named(norm=nn.LayerNorm(c.head_size), fn=part) for part in parts)

        decoder = named(
            to_token_embedding=nn.Linear(1, c.head_size),
            transformer=named(layers=nn.ModuleList(layer() for _ in range(c.head_layers))),
        )
        decoder.pos_embedding = nn.Parameter(torch.randn(1, 1, c.head_size))
        self.smpl_head = named(
            transformer=decoder,
            decpose=nn.Linear(c.head_size, 144),
            decshape=nn.Linear(c.head_size, 10),
            deccam=nn.Linear(c.head_size, 3),
        )
        for name, size in (("init_body_pose", 144), ("init_betas", 10), ("init_cam", 3)):
            self.smpl_head.register_buffer(name, torch.randn(1, size))
        self.heads = c.head_heads

    def forward(self, crops):
        """Crops (B, 256, 256, 3) of 0..255 -> six numbers a joint (B, 24, 6), betas, camera."""
        mean, std = (255 * torch.tensor(one) for one in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        x = ((crops - mean) / std).permute(0, 3, 1, 2)[:, :, :, 32:224]
        backbone, head = self.backbone, self.smpl_head
        x = backbone.patch_embed.proj(x).flatten(2).transpose(1, 2)
        x = x + backbone.pos_embed[:, 1:] + backbone.pos_embed[:, :1]
        for block in backbone.blocks:
            x = block(x)
        context = backbone.last_norm(x)
        token = head.transformer.to_token_embedding(torch.zeros(len(x), 1, 1)) + head.transformer.pos_embedding
        for own, cross, mlp in head.transformer.transformer.layers:
            token = token + own.fn.to_out(attend(*own.fn.to_qkv(own.norm(token)).chunk(3, -1), self.heads))
            key, value = cross.fn.to_kv(context).chunk(2, -1)
            token = token + cross.fn.to_out(attend(cross.fn.to_q(cross.norm(token)), key, value, self.heads))
            token = token + mlp.fn.net(mlp.norm(token))
        token = token[:, 0]
        pose = (head.decpose(token) + head.init_body_pose).reshape(-1, 24, 6)
        return pose, head.decshape(token) + head.init_betas, head.deccam(token) + head.init_cam


def twin(seed: int = 0) -> Twin:
    """A twin of `SMALL` with random weights, biases and norms too."""
    torch.manual_seed(seed)
    model = Twin(SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def checkpoint(model: Twin) -> dict:
    """What Lightning saves around it, with what a released checkpoint holds besides."""
    besides = {
        "smpl.v_template": torch.zeros(5, 3),
        "discriminator.fc.weight": torch.ones(2),
        "initialized": torch.tensor(True),
    }
    return {"epoch": 35, "state_dict": {**model.state_dict(), **besides}, "optimizer_states": [{"lr": 1e-5}]}
