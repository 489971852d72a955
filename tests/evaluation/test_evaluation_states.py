"""States merge: any split of the videos between hosts gives the same report."""

import json
import random

import numpy as np
import pytest

from champ_jax.evaluation import bootstrap, report
from champ_jax.evaluation.frechet import Gaussian
from champ_jax.evaluation.protocol import METRICS, PROTOCOLS
from champ_jax.evaluation.published import TABLES
from champ_jax.evaluation.sheet import worst_frames
from champ_jax.evaluation.states import Results

RNG = np.random.default_rng(0)


def one_video(name, frames):
    features = [Gaussian.from_features(RNG.standard_normal((frames, 5))) for _ in range(2)]
    return Results(
        values={name: {"psnr": RNG.uniform(20, 30, frames), "flicker": RNG.uniform(0, 9, frames - 1)}},
        frames={name: frames},
        sets={"fid": tuple(features)},
        resized={name: "prediction 8x8 -> 9x9"} if frames == 4 else {},
        remarks=["said on every host", f"said of {name}"],
    )


@pytest.fixture(scope="module")
def videos():
    return [one_video(f"v{k}", frames) for k, frames in enumerate([4, 30, 1, 17, 8])]


def merged(parts):
    total = Results()
    for part in parts:
        total = total.merge(part)
    return total


def content(results, metrics=("psnr", "flicker", "fid"), absent=()):
    return report.make_report(
        results,
        protocol_name="correct",
        protocol=PROTOCOLS["correct"],
        metrics=metrics,
        absent=dict(absent),
        resamples=200,
    )


def test_splits_between_hosts_and_their_order_change_nothing(videos):
    expected = content(merged(videos))
    for seed in range(5):
        shuffled = list(videos)
        random.Random(seed).shuffle(shuffled)
        hosts = [merged(shuffled[rank::3]) for rank in range(3)]
        sent = [Results.from_bytes(host.to_bytes()) for host in hosts]
        found = content(merged(sent))
        assert found["metrics"].pop("fid") == pytest.approx(expected["metrics"]["fid"], rel=1e-12)
        for key in ("videos", "confidence_intervals", "resized", "samples"):
            assert found[key] == expected[key], key
        assert found["metrics"] == {k: v for k, v in expected["metrics"].items() if k != "fid"}
        assert sorted(found["remarks"]) == sorted(expected["remarks"])
    assert expected["remarks"].count("said on every host") == 1


def test_an_empty_host_changes_nothing(videos):
    assert content(Results().merge(merged(videos)))["metrics"] == content(merged(videos))["metrics"]
    assert content(merged([*videos, Results()]))["metrics"] == content(merged(videos))["metrics"]


def test_means_are_over_frames_not_over_videos(videos):
    results = merged(videos)
    everything = np.concatenate([values["psnr"] for values in results.values.values()])
    assert results.mean("psnr") == pytest.approx(everything.mean(), rel=1e-12)


def test_intervals_come_from_drawing_videos():
    """Videos that agree give a narrow interval however their frames vary; one video gives none."""
    agreeing = Results(values={f"v{k}": {"psnr": np.array([10.0, 30.0])} for k in range(6)})
    assert agreeing.interval("psnr", 100) == (20, 20)
    apart = Results(values={f"v{k}": {"psnr": np.full(3, float(k))} for k in range(30)})
    low, high = apart.interval("psnr", 2000)
    spread = 1.96 * np.std(np.arange(30)) / np.sqrt(30)
    assert (low, high) == pytest.approx((14.5 - spread, 14.5 + spread), abs=0.4)
    assert Results(values={"v": {"psnr": np.ones(5)}}).interval("psnr", 100) is None
    assert apart.interval("psnr", 0) is None


def test_few_samples_are_said_and_one_is_refused(videos):
    found = content(merged(videos[:1]))
    assert "4 samples for 5 features: the distance is biased upwards" in " ".join(found["remarks"])
    single = content(merged(videos[2:3]))
    assert "fid" not in single["metrics"]
    assert "two samples" in single["absent"]["fid"]
    assert "no two neighboring frames" in single["absent"]["flicker"]
    assert single["metrics"]["psnr"] > 0


def test_json_holds_only_finite_numbers(videos, tmp_path):
    report.write_json(tmp_path / "report.json", content(merged(videos)))
    assert json.loads((tmp_path / "report.json").read_text())["protocol"] == "correct"
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.write_json(tmp_path / "other.json", {"metrics": {"psnr": float("nan")}})
    assert not (tmp_path / "other.json").exists()


def test_markdown_names_everything(videos):
    found = content(merged(videos), absent={"fvd": "needs weights"})
    text = report.to_markdown(found, sheet="worst.png", published=TABLES["tiktok"])
    for expected in ("| v3 | 17 |", "![ground truth", "worst.png", "`fvd`: needs weights", "v0: prediction 8x8 -> 9x9"):
        assert expected in text
    others = text[text.index("## Others' figures") :]
    assert "not computed here" in others
    assert "| Champ, fine-tuned on TikTok | 2.94e-04 | 29.91 | 0.802 | 0.234 | 21.07 | 160.82 |" in others


def test_published_tables_use_known_columns():
    for table in TABLES.values():
        assert all(len(row) == len(table.columns) for row in table.rows.values())
        assert set(table.columns) <= set(METRICS)


def test_the_worst_frames_come_first_and_from_more_than_one_video():
    values = {"bad": {"psnr": np.arange(50.0)}, "good": {"psnr": np.arange(60.0, 90.0)}}
    metric, chosen = worst_frames(Results(values=values), 6)
    assert metric == "psnr"
    assert chosen == [("bad", k, float(k)) for k in range(0, 40, 8)] + [("good", 0, 60.0)]
    short = Results(values={"v": {"psnr": np.arange(5.0)}})
    assert worst_frames(short, 4)[1] == [("v", k, float(k)) for k in range(4)]
    assert worst_frames(Results(values={"v": {"flicker": np.ones(3)}}), 4) is None


def test_intervals_do_not_depend_on_how_many_resamples_are_drawn_together(monkeypatch):
    rng = np.random.default_rng(0)
    results = Results(values={str(video): {"psnr": rng.normal(size=video + 2)} for video in range(5)})
    together = results.interval("psnr", 2500)
    monkeypatch.setattr(bootstrap, "_DRAWN_TOGETHER", 7)
    assert results.interval("psnr", 2500) == together
