"""The study of balances at the smoke budget: what is trained, chosen, judged and reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from iga_nerfstudio.benchmark.studies.balance import (
    JUDGED,
    OTHER_RATES,
    RATES,
    SIZES,
    WAYS,
    Setting,
    _best_rate,
    _cell,
    configure,
    measure_balance,
    psnr_at,
)
from iga_nerfstudio.benchmark.balance_page import balance_table
from tests.benchmark.test_experiments import report


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i in (1, 2):
        noise = np.random.default_rng(i).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"kodim0{i}.png")
    return folder


def test_chosen_on_one_photograph_and_judged_on_another(photos: Path, tmp_path: Path) -> None:
    told: list[str] = []
    figures = measure_balance(photos, SIZES["smoke"], "cpu", tmp_path / "runs", 1, told.append)
    # Under Muon all ways, under Adam those that are judged, which are tried at other rates too.
    assert len(figures["compared"]) == len(WAYS) + len(JUDGED) + 2 * len(JUDGED) * len(OTHER_RATES)
    assert {run["image"] for run in figures["compared"]} == {"kodim01"}
    assert {run["image"] for run in figures["judged"]} == {"kodim02"}
    assert len(figures["judged"]) == len(figures["cells"]) == 2 * len(JUDGED)
    assert len(told) == len(figures["compared"]) + len(figures["judged"])
    (muon,) = [row["psnr"] for row in figures["ways"] if (row["optimizer"], row["way"]) == ("muon", "plain")]
    (run,) = [
        run
        for run in figures["compared"]
        if (run["optimizer"], run["way"], run["lr"]) == ("muon", "plain", RATES["muon"]["pe"])
    ]
    assert muon == run["psnr"]
    page = report("balance", figures, tmp_path)
    assert balance_table(figures) in page
    assert "| pe | Muon, power 0.7 |" in page
    assert (tmp_path / "docs" / "results" / "balance_curves.png").stat().st_size > 5_000
    # Nothing is trained twice.
    told.clear()
    measure_balance(photos, SIZES["smoke"], "cpu", tmp_path / "runs", 1, told.append)
    assert told == []


def test_ways_are_what_their_names_say() -> None:
    def chosen(way: str) -> Any:
        return configure(Setting("p", "relu", "muon", way, 1.0, 0), SIZES["full"], "cpu").adjustment

    assert not chosen("plain").enabled
    assert (chosen("paper").end, chosen("paper").power, chosen("paper").representative) == (
        25,
        None,
        "largest_residual",
    )
    assert (chosen("half").end, chosen("twice").end) == (12, 50)
    assert (chosen("power 0.5").end, chosen("power 0.5").power) == (25, 0.5)
    assert (chosen("60, power 0.5").end, chosen("60, power 0.5").power) == (60, 0.5)
    assert (chosen("mean of 4").representative, chosen("mean of 4").num_representatives) == ("mean", 4)
    assert chosen("up").rule == "sgd"


def test_the_rate_is_the_one_of_highest_mean_where_all_are_tried() -> None:
    def run(image: str, lr: float, psnr: float) -> dict[str, Any]:
        return {"network": "pe", "optimizer": "adam", "way": "plain", "image": image, "lr": lr, "psnr": psnr}

    runs = [run("a", 1.0, 20.0), run("a", 2.0, 30.0), run("a", 2.0, 24.0), run("a", 3.0, float("-inf"))]
    assert _best_rate("pe", "adam", "plain", "a", [*runs, run("b", 1.0, 90.0)]) == 2.0


def test_a_cell_compares_steps_and_seconds_with_plain_adam() -> None:
    def run(optimizer: str, way: str, *psnr: float) -> dict[str, Any]:
        curve = [{"step": 10 * i, "psnr": value} for i, value in enumerate(psnr)]
        return {"network": "pe", "optimizer": optimizer, "way": way, "image": "a", "psnr": psnr[-1], "curve": curve}

    runs = [run("adam", "plain", 0.0, 10.0, 20.0), run("muon", "power 0.7", 0.0, 20.0, 40.0)]
    found = _cell("pe", "muon", "power 0.7", 0.5, runs, {("muon", "power 0.7"): 4.0})
    assert found["psnr"] == 40.0
    assert found["psnr_of_images"] == {"a": 40.0}
    assert (found["steps_to_quality"], found["seconds_to_quality"]) == (0.5, 2.0)
    assert found["psnr_at_equal_seconds"] == 10.0  # at step 20 / 4


def test_between_and_beyond_the_points_of_a_curve() -> None:
    curve = [(0, 10.0), (10, 20.0)]
    assert [psnr_at(curve, step) for step in (0, 5, 10, 99)] == [10.0, 15.0, 20.0, 20.0]


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no image .*kodim01\.png"):
        measure_balance(tmp_path, SIZES["smoke"], "cpu", tmp_path / "runs", 1)
