"""Numbers of tables: means, their spread over seeds, gains case by case; and what curves say."""

from __future__ import annotations

from typing import Any

import pytest

from iga_nerfstudio.benchmark import paper
from iga_nerfstudio.benchmark.curves import steps_to_quality, to_quality, value_at
from iga_nerfstudio.benchmark.tables import (
    count,
    differences,
    gain,
    gains_rows,
    grouped,
    mean,
    number,
    spread,
    table,
    those,
    with_gain,
)


def run(image: str, seed: int, psnr: float | None) -> dict[str, Any]:
    return {"image": image, "seed": seed} | ({"diverged": "NaN"} if psnr is None else {"psnr": psnr})


PLAIN = [run("a", 1, 10.0), run("b", 1, 20.0), run("a", 2, 12.0), run("b", 2, 22.0)]
OURS = [run("a", 1, 13.0), run("b", 1, 19.0), run("a", 2, 13.0), run("b", 2, 25.0)]


def test_columns_without_a_number_are_left_out() -> None:
    assert table(["a", "b", "c"], [["1", "", ""], ["", "", "2"]]) == "| a | c |\n| --- | --- |\n| 1 |  |\n|  | 2 |\n"


def test_the_spread_is_that_of_the_seeds_means() -> None:
    assert mean(PLAIN, "psnr") == 16.0
    assert spread(PLAIN, "psnr") == "16.00 ± 1.41"  # of 15 and 17, not of four numbers
    assert spread(PLAIN[:2], "psnr", ".1f") == "15.0"  # one seed has none
    assert spread(PLAIN, "ssim") == ""


def test_what_diverged_is_told_and_counted_nowhere() -> None:
    runs = [*PLAIN[:2], run("a", 2, None)]
    assert mean(runs, "psnr") == 15.0
    assert spread(runs, "psnr") == "15.00, 1 diverged"
    assert spread([run("a", 1, None)], "psnr") == "1 diverged"
    assert len(differences(OURS, runs, "psnr", "image")) == 2


def test_gains_are_of_the_same_case_and_seed() -> None:
    found = differences(reversed(OURS), PLAIN, "psnr", "image")
    assert sorted(one["difference"] for one in found) == [-1.0, 1.0, 3.0, 3.0]
    assert gain(found) == "+1.50 ± 0.71 (3 of 4)"  # seeds' means: 1 and 2
    assert count(found) == "3 of 4"
    assert gain([]) == ""
    runs = [run | {"network": "x", "optimizer": "adam", "variant": "plain"} for run in PLAIN]
    runs += [run | {"network": "x", "optimizer": "adam", "variant": "iga"} for run in OURS]
    rows = gains_rows("images", "network", runs, "psnr", "image")
    assert rows == [["images, x: PSNR", "16.00", "17.50: +1.50 ± 0.71 (3 of 4)", "", ""]]


def test_trainings_are_found_by_their_labels() -> None:
    assert those(PLAIN, image="a", seed=2) == [PLAIN[2]]
    assert list(grouped(PLAIN, "image")) == [("a",), ("b",)]


def test_numbers_that_are_not_there_are_not_written() -> None:
    assert (number(None), number(1.234, ".1f")) == ("", "1.2")
    assert with_gain(None, 1.0) == ""
    assert with_gain(2.0, None) == with_gain(2.0, 2.0) == "2.00"
    assert with_gain(2.5, 3.0) == "2.50 (-0.50)"


def test_quality_is_reached_between_two_points_of_the_curve() -> None:
    curve = [(100, 20.0), (200, 22.0), (300, 21.0), (400, 24.0)]
    assert steps_to_quality(curve, 19.0) == 100
    assert steps_to_quality(curve, 21.5) == 175
    assert steps_to_quality(curve, 23.0) == pytest.approx(366.667, abs=1e-3)
    assert steps_to_quality(curve, 25.0) is None
    ends = [to_quality(curve, [(100, quality)], 2.0) for quality in (21.5, 25.0)]
    assert ends == [["1.75", "3.50"], ["not reached"] * 2]
    # 80 of its 400 steps cost twice as much, or all until then.
    assert [to_quality(curve, curve[:2], 2.0, until)[1] for until in (0.2, 0.9)] == ["1.40", "2.00"]
    assert [value_at(curve, step) for step in (100, 150, 999)] == [20.0, 21.0, 24.0]


def test_the_papers_mean_is_over_the_images_that_were_trained() -> None:
    assert paper.number("image", "pe", "iga", "psnr", ["kodim01", "kodim03"]) == pytest.approx((29.17 + 37.91) / 2)
    assert paper.number("image", "pe", "iga", "psnr", ["mine"]) is None
    assert paper.number("image", "finer", "iga", "psnr", ["kodim01"]) is None
    assert paper.number("image", "finer", "iga", "psnr") == 35.55


def test_the_papers_rows_have_the_averages_that_it_prints() -> None:
    """Tables 1 and 2; PE + FR and ReLU + BN by their rows."""
    printed = {
        ("relu", "plain"): 21.78, ("relu", "fr"): 22.14, ("relu", "bn"): 22.51, ("relu", "iga"): 23.00,
        ("pe", "plain"): 28.64, ("pe", "fr"): 29.74, ("pe", "bn"): 28.78, ("pe", "iga"): 32.46,
        ("siren", "plain"): 32.65, ("siren", "fr"): 32.61, ("siren", "iga"): 33.48,
    }  # fmt: skip
    assert {row: paper.number("image", *row, "psnr", paper.KODAK) for row in printed} == pytest.approx(
        printed, abs=0.011
    )
    lpips = [paper.number("image", network, "iga", "lpips", paper.KODAK) for network in ("relu", "pe", "siren")]
    assert lpips == pytest.approx([0.5549, 0.0938, 0.0668], abs=1e-4)
    assert paper.number("shape", "pe", "iga", "iou", paper.SHAPES) == pytest.approx(0.9970, abs=1e-4)
    assert paper.number("shape", "siren", "plain", "chamfer", paper.SHAPES) == pytest.approx(5.6881e-6, abs=1e-9)
