"""Figures that other people published, for printing next to a report; nothing here is computed by this project."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Table:
    """A published table.

    Attributes:
      title: what it compares.
      source: where the figures stand.
      columns: metric names of this project whose arithmetic the figures used.
      rows: {system: figures in the columns' order, None where none was given}.
    """

    title: str
    source: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float | None, ...]]


_ALL = ("l1_legacy", "psnr_legacy", "ssim_legacy", "lpips_legacy", "fid_vid", "fvd")

TABLES = {
    "tiktok": Table(
        "TikTok test set",
        "Champ (Zhu et al., ECCV 2024), table 1; the last row from UniAnimate (Wang et al. 2024)",
        _ALL,
        {
            "MRAA": (3.21e-4, 29.39, 0.672, 0.296, 54.47, 284.82),
            "DisCo": (3.78e-4, 29.03, 0.668, 0.292, 59.90, 292.80),
            "MagicAnimate": (3.13e-4, 29.16, 0.714, 0.239, 21.75, 179.07),
            "Animate Anyone": (None, 29.56, 0.718, 0.285, None, 171.9),
            "Champ": (3.02e-4, 29.84, 0.773, 0.235, 26.14, 170.20),
            "Champ, fine-tuned on TikTok": (2.94e-4, 29.91, 0.802, 0.234, 21.07, 160.82),
            "UniAnimate": (2.66e-4, 30.77, 0.811, 0.231, None, 148.1),
        },
    ),
    "unseen": Table(
        "Champ's own 100 unseen videos",
        "Champ (Zhu et al., ECCV 2024), table 2",
        ("psnr_legacy", "ssim_legacy", "lpips_legacy", "fvd"),
        {
            "MRAA": (None, 0.663, 0.311, 321.5),
            "DisCo": (28.32, 0.694, 0.286, 295.4),
            "MagicAnimate": (29.14, 0.713, 0.235, 193.6),
            "Animate Anyone": (28.86, 0.727, 0.242, 199.2),
            "Champ": (29.87, 0.806, 0.211, 173.5),
        },
    ),
    "guidance": Table(
        "Ablation of the motion guidance, TikTok test set",
        "Champ (Zhu et al., ECCV 2024), table 3",
        _ALL,
        {
            "without SMPL": (4.83e-4, 28.57, 0.672, 0.296, 30.06, 192.34),
            "without geometry": (4.06e-4, 28.78, 0.714, 0.276, 29.75, 189.07),
            "without skeleton": (3.76e-4, 29.05, 0.724, 0.264, 34.12, 184.24),
            "Champ": (3.02e-4, 29.84, 0.773, 0.235, 26.14, 170.20),
        },
    ),
    "attention": Table(
        "Ablation of the guidance self-attention, TikTok test set",
        "Champ (Zhu et al., ECCV 2024), table 4",
        _ALL,
        {
            "without": (3.21e-4, 29.44, 0.752, 0.248, 25.36, 174.46),
            "with": (3.02e-4, 29.84, 0.785, 0.235, 21.28, 170.20),
        },
    ),
}
