"""Random people: shape, skin, hair and clothes as plain data. `outfit` makes meshes of it and `paint` colors."""

import dataclasses

import numpy as np

from champ_jax.data.synthetic import palette
from champ_jax.data.synthetic.patterns import LOGOS, PATTERNS

# {style: relative frequency for (men, women)}
HAIR_STYLES = {
    "bald": (2, 0), "buzz": (3, 0.3), "short": (4, 1), "bob": (0.3, 2), "long": (0.5, 3), "ponytail": (0.4, 2),
    "bun": (0.3, 2), "afro": (0.8, 1), "cap": (1.5, 0.7),
}  # fmt: skip
TOPS = {"tee": (3, 3), "tank": (1, 2), "longsleeve": (2, 2), "shirt": (2, 1), "jacket": (1.5, 1.5), "hoodie": (1.5, 1)}
BOTTOMS = {
    "trousers": (3, 2), "jeans": (2, 2), "leggings": (0.4, 2), "shorts": (2, 1.5), "skirt": (0, 2), "dress": (0, 2),
}  # fmt: skip
# Directions of the open body's shape: bodies on the positive side of the sum of these two are women's.
_FEMALE = (1, 2)
_HEIGHT, _WEIGHT = 0, 3


@dataclasses.dataclass(frozen=True)
class Garment:
    """A garment. Colors are linear light, lengths are meters on the canonical body.

    Attributes:
      kind: one of `TOPS` or `BOTTOMS`.
      color: (3,) of the cloth.
      second: (3,) the pattern's color.
      accent: (3,) of logo and trimmings.
      pattern: one of `PATTERNS`.
      period: The period of the pattern.
      looseness: distance of the cloth from the skin.
      upper: height of the neckline or waistband.
      lower: height of the hem.
      sleeve: distance of the sleeves' ends from the body's middle; 0 for bottoms.
      logo: one of `LOGOS` on the front, or ''.
      logo_radius: The radius of both logos.
      back: one of `LOGOS` on the back, or ''.
      back_color: (3,) of the back panel, mostly equal to `color`.
      flare: share by which a skirt is wider at its hem.
    """

    kind: str
    color: np.ndarray
    second: np.ndarray
    accent: np.ndarray
    pattern: str
    period: float
    looseness: float
    upper: float
    lower: float
    sleeve: float = 0.0
    logo: str = ""
    logo_radius: float = 0.0
    back: str = ""
    back_color: np.ndarray | None = None
    flare: float = 0.0


@dataclasses.dataclass(frozen=True)
class Identity:
    """A person.

    Attributes:
      betas: (10,) shape on the open body.
      skin, hair, eyes, lips: (3,) colors in linear light.
      hair_style: one of `HAIR_STYLES`.
      beard: density, 0 (none) to 1.
      top, bottom: clothes.
      shoes, sole, socks: (3,) colors in linear light.
      shoe_height, sock_height: canonical heights of their upper edges; none are worn if those lie below the body.
      phase: The phase of the cloth's folds, radians.
    """

    betas: np.ndarray
    skin: np.ndarray
    hair: np.ndarray
    eyes: np.ndarray
    lips: np.ndarray
    hair_style: str
    beard: float
    top: Garment
    bottom: Garment
    shoes: np.ndarray
    sole: np.ndarray
    socks: np.ndarray
    shoe_height: float
    sock_height: float
    phase: float


def draw_identity(rng: np.random.Generator, *, extreme: bool = False) -> Identity:
    """A random person.

    Args:
      extreme: tall or small (2 to 3 standard deviations of the shape space) and heavy or lean (3 to 4); else all are
        within 2.
    """
    betas = np.clip(rng.normal(0, 0.8, 10), -2, 2)
    far = rng.choice([-1, 1], 2) * rng.uniform([2.0, 3.0], [3.0, 4.0])
    if extreme:
        betas[[_HEIGHT, _WEIGHT]] = far
    woman = int(betas[list(_FEMALE)].sum() > 0)
    skin, hair = palette.skin(rng), palette.hair(rng)
    top = _top(rng, woman)
    bottom = _bottom(rng, top, woman)
    if bottom.kind == "dress":
        top = dataclasses.replace(
            top, kind="tank" if top.sleeve < 0.25 else "tee", lower=0.02, looseness=0.008,
            sleeve=min(top.sleeve, 0.33), color=bottom.color, second=bottom.second, accent=bottom.accent,
            pattern=bottom.pattern, period=bottom.period, logo="", back="", back_color=bottom.color,
        )  # fmt: skip
    elif bottom.kind == "skirt":  # worn over what is above
        top = dataclasses.replace(top, lower=bottom.upper - 0.03, looseness=min(top.looseness, 0.012))
    shoes = palette.cloth(rng, bottom.color)
    lips = skin * np.array([0.92, 0.55, 0.55]) * rng.uniform(0.8, 1.0) + np.array([0.06, 0, 0]) * rng.uniform(0, 1)
    return Identity(
        betas=betas.astype(np.float32),
        skin=skin,
        hair=hair,
        eyes=palette.linear(palette.EYES[rng.integers(len(palette.EYES))]),
        lips=lips.astype(np.float32),
        hair_style=_pick(rng, HAIR_STYLES, woman),
        beard=float(rng.uniform(0.4, 0.9)) if rng.uniform() < 0.4 and not woman else 0.0,
        top=top,
        bottom=bottom,
        shoes=shoes,
        sole=palette.linear([235, 232, 225]) if rng.uniform() < 0.6 else shoes * 0.35,
        socks=palette.cloth(rng, shoes),
        shoe_height=float(rng.choice([-0.865, -0.85, -0.82, -0.68], p=[0.35, 0.3, 0.2, 0.15])),
        sock_height=float(rng.choice([-0.84, -0.78, -0.62, -0.5], p=[0.5, 0.2, 0.2, 0.1])),
        phase=float(rng.uniform(0, 2 * np.pi)),
    )


def undecorated(identity: Identity) -> Identity:
    """The same person, every garment of one color."""
    plain = [
        dataclasses.replace(garment, pattern="plain", logo="", back="", back_color=garment.color)
        for garment in (identity.top, identity.bottom)
    ]
    return dataclasses.replace(identity, top=plain[0], bottom=plain[1])


def _top(rng: np.random.Generator, woman: int) -> Garment:
    kind = _pick(rng, TOPS, woman)
    color = palette.cloth(rng)
    second = palette.cloth(rng, color)
    accent = palette.cloth(rng, color, second)
    sleeve = {"tank": 0.165, "tee": rng.uniform(0.28, 0.36), "shirt": rng.choice([0.33, 0.65])}.get(kind, 0.65)
    loose = {"tank": 0.006, "jacket": 0.024, "hoodie": 0.022}.get(kind, rng.uniform(0.009, 0.018))
    patterned = rng.uniform() < (0.35 if kind in ("jacket", "hoodie") else 0.6)
    logo = not patterned and rng.uniform() < 0.65
    return Garment(
        kind=kind,
        color=color,
        second=second,
        accent=accent,
        pattern=str(rng.choice(list(PATTERNS)[1:])) if patterned else "plain",
        period=float(rng.uniform(0.05, 0.13)),
        looseness=float(loose),
        upper=float({"tank": 0.455, "hoodie": 0.56}.get(kind, rng.uniform(0.5, 0.535))),
        lower=float(rng.uniform(-0.06, 0.04) if kind != "jacket" else rng.uniform(-0.12, -0.02)),
        sleeve=float(sleeve),
        logo=str(rng.choice(list(LOGOS))) if logo else "",
        logo_radius=float(rng.uniform(0.05, 0.09)),
        back=str(rng.choice(list(LOGOS))) if rng.uniform() < 0.35 else "",
        back_color=second if rng.uniform() < 0.2 else color,
    )


def _bottom(rng: np.random.Generator, top: Garment, woman: int) -> Garment:
    kind = _pick(rng, BOTTOMS, woman)
    color = palette.cloth(rng, top.color)
    if kind == "jeans":
        color = palette.linear(np.array([52, 74, 118]) * rng.uniform(0.5, 1.5))
    second = palette.cloth(rng, color)
    patterned = kind in ("skirt", "dress", "leggings", "shorts") and rng.uniform() < 0.5
    lower = {
        "shorts": rng.uniform(-0.42, -0.2), "skirt": rng.uniform(-0.5, -0.24), "dress": rng.uniform(-0.62, -0.26),
        "leggings": rng.uniform(-0.8, -0.5),
    }.get(kind, rng.uniform(-0.87, -0.8))  # fmt: skip
    loose = {"leggings": 0.003, "jeans": 0.011, "shorts": 0.02}.get(kind, rng.uniform(0.012, 0.026))
    return Garment(
        kind=kind,
        color=color,
        second=second,
        accent=palette.cloth(rng, color, second),
        pattern=str(rng.choice(list(PATTERNS)[1:])) if patterned else "plain",
        period=float(rng.uniform(0.05, 0.12)),
        looseness=float(loose),
        upper=float(rng.uniform(0.06, 0.12)),
        lower=float(lower),
        logo="stripe" if not patterned and rng.uniform() < 0.3 else "",
        back_color=color,
        flare=float(rng.uniform(0.1, 0.5)),
    )


def _pick(rng: np.random.Generator, choices: dict[str, tuple[float, float]], woman: int) -> str:
    weights = np.array([weight[woman] for weight in choices.values()])
    return str(rng.choice(list(choices), p=weights / weights.sum()))
