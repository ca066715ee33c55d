"""The paper's tables: what the commands make of a budget and options, and what stands beside our numbers."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
import tyro

from iga_nerfstudio.benchmark import ablations, cli, images, shapes
from iga_nerfstudio.benchmark.cost_page import paper_cost
from iga_nerfstudio.benchmark.paper import IMAGES, MESHES
from iga_nerfstudio.benchmark.record import table, with_gain
from iga_nerfstudio.benchmark.tables_page import (
    PAPER_IMAGES,
    PAPER_SHAPES,
    images_table,
    shapes_table,
)


def size_of(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[Any, tuple[Any, ...]]:
    """The size that a command line measures, and what else the measurement is given."""
    asked: list[Any] = []
    for module in (ablations, images, shapes):
        name = f"measure_{module.__name__.split('.')[-1]}"
        monkeypatch.setattr(module, name, lambda *given: asked.append(given) or {})
    command = tyro.extras.subcommand_cli_from_dict(cli.COMMANDS, args=list(words))
    assert command.measure() == {"budget": command.budget}
    ((_data, size, *rest),) = asked
    return size, tuple(rest)


def test_without_options_the_budget_is_that_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert size_of(monkeypatch, "images", "--data", "d") == (images.SIZES["cpu"], (Path("outputs/bench/images"), 2))
    assert size_of(monkeypatch, "shapes", "--data", "d")[0] == shapes.SIZES["cpu"]


def test_options_override_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "images --data d --max-side 96 --max-num-iterations 1000 --variants plain iga fr bn --seed 7 --jobs 3"
    size, (_runs, jobs) = size_of(monkeypatch, *line.split())
    assert (size.max_side, size.num_iterations, size.variants) == (96, 1000, ("plain", "iga", "fr", "bn"))
    assert (size.hidden_dim, size.images, size.seed, jobs) == (64, ("kodim01", "kodim02", "kodim03"), 7, 3)
    line = "shapes --data d --budget full --max-num-iterations 30 --networks pe --shapes bunny"
    size, _ = size_of(monkeypatch, *line.split())
    assert (size.num_iterations, size.num_epochs, size.networks, size.shapes) == (30, None, ("pe",), ("bunny",))
    assert (size.resolution, size.optimizer) == (512, "adam")


@pytest.mark.parametrize(("found", "jobs"), [("cuda", 1), ("cpu", 2)])
def test_the_full_budget_takes_a_gpu_where_there_is_one(found: str, jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "default_device", lambda: found)
    size, (_runs, given) = size_of(monkeypatch, "images", "--data", "d", "--budget", "full")
    assert (size.device, given) == (found, jobs)
    assert images.configure(images.Setting("p", "pe", "iga", "adam", 1e-3), size).machine.device_type == found
    size, _ = size_of(monkeypatch, "shapes", "--data", "d", "--budget", "full")
    assert shapes.configure("pe", True, size, Path()).machine.device_type == found
    size, (_runs, given) = size_of(monkeypatch, "ablations", "--data", "d", "--budget", "full")
    assert (size.device, given) == (found, jobs)
    assert ablations.configure("pe", "plain", size).machine.device_type == found
    size, (_runs, given) = size_of(monkeypatch, "images", "--data", "d")
    assert (size.device, given) == ("cpu", 2)


def test_the_papers_rows_have_the_averages_that_it_prints() -> None:
    """Tables 1 and 2; PE + FR and ReLU + BN by their rows."""
    psnr = {row: round(statistics.mean(values), 2) for row, values in IMAGES["psnr"].items()}
    printed = {
        ("relu", "plain"): 21.78, ("relu", "fr"): 22.14, ("relu", "bn"): 22.51, ("relu", "iga"): 23.00,
        ("pe", "plain"): 28.64, ("pe", "fr"): 29.74, ("pe", "bn"): 28.78, ("pe", "iga"): 32.46,
        ("siren", "plain"): 32.65, ("siren", "fr"): 32.61, ("siren", "iga"): 33.48,
    }  # fmt: skip
    assert psnr == pytest.approx(printed, abs=0.011)
    lpips = {network: statistics.mean(IMAGES["lpips"][network, "iga"]) for network in ("relu", "pe", "siren")}
    assert lpips == pytest.approx({"relu": 0.5549, "pe": 0.0938, "siren": 0.0668}, abs=1e-4)
    assert statistics.mean(MESHES["iou"]["pe", "iga"]) == pytest.approx(0.9970, abs=1e-4)
    assert statistics.mean(MESHES["chamfer"]["siren", "plain"]) == pytest.approx(5.6881e-6, abs=1e-9)


def image_figures(**changes: Any) -> dict[str, Any]:
    means = [
        {"network": network, "optimizer": optimizer, "variant": variant, "lr": 0.001, "psnr": psnr, "best_psnr": psnr}
        for network, optimizer, variant, psnr in (
            ("pe", "adam", "plain", 30.0), ("pe", "adam", "iga", 33.0), ("finer", "adam", "iga", 40.0),
            ("pe", "muon", "iga", 41.0),
        )
    ]  # fmt: skip
    size = {"images": ["kodim01", "kodim03"], "max_side": 96, "hidden_dim": 64, "num_iterations": 10, "seed": 1}
    trainings = [
        {"network": "pe", "optimizer": "adam", "variant": variant, "lr": lr, "image": image, "psnr": psnr}
        for image, variant, lr, psnr in (
            ("kodim01", "plain", 0.001, 30.0), ("kodim01", "iga", 0.001, 31.0), ("kodim01", "plain", 0.01, 32.0),
            ("kodim03", "plain", 0.001, 30.0), ("kodim03", "iga", 0.001, 29.0),
        )
    ]  # fmt: skip
    return size | {"means": means, "trainings": trainings} | changes


def test_gains_are_counted_image_by_image_at_the_rates_of_the_table() -> None:
    text = images_table(image_figures())
    assert text.count("IGA has the higher PSNR: pe on 1 of 2.") == 1


def test_the_papers_numbers_are_of_the_same_images() -> None:
    text = images_table(image_figures())
    plain, adjusted = (26.07 + 32.80) / 2, (29.17 + 37.91) / 2
    assert f"| pe | IGA | 0.001 | 33.00 (+3.00) | 33.00 (+3.00) | {with_gain(adjusted, plain)} |" in text
    assert "| finer | IGA | 0.001 | 40.00 | 40.00 | 35.55 (+0.43) |" in text
    assert "| pe | IGA | 0.001 | 41.00 | 41.00 |\n" in text  # none under Muon
    assert "paper: PSNR" not in images_table(image_figures(images=["photo"])).replace("35.55", "").split("### Muon")[1]
    assert "| pe | plain | 0.001 | 30.00 | 30.00 |  |" in images_table(image_figures(images=["photo"]))


def test_pages_say_whether_the_sizes_are_the_papers() -> None:
    """By the full budgets' own values."""
    for module, paper in ((images, PAPER_IMAGES), (shapes, PAPER_SHAPES)):
        full = module.SIZES["full"]  # type: ignore[attr-defined]
        assert paper == {name: getattr(full, name) for name in paper}
    assert "The sizes are not the paper's" in images_table(image_figures())
    text = images_table(image_figures(budget="full", paper_rates=True, **PAPER_IMAGES))
    assert "the paper's learning rates under Adam. Budget `full`. The sizes are the paper's." in text


def test_shapes_have_their_mean_and_the_papers() -> None:
    def run(shape: str, adjusted: bool, **outcome: Any) -> dict[str, Any]:
        return {"shape": shape, "network": "pe", "adjusted": adjusted} | outcome

    good = {"iou": 0.9, "best_iou": 0.95, "chamfer": 0.01, "chamfer_squared": 0.001}
    trainings = [
        run("bunny", False, **good),
        run("lucy", False, iou=0.8, best_iou=0.8),  # without a surface
        run("bunny", True, **good),
        run("lucy", True, diverged="NaN"),
    ]
    figures = {
        "shapes": ["bunny", "lucy"],
        "trainings": trainings,
        "seed": 1,
        "optimizer": "muon",
        "hidden_dim": 8,
        "group_size": 64,
    }
    text = shapes_table(figures | {"resolution": 24, "groups_per_batch": 4, "num_iterations": 7})
    assert "| bunny | pe | plain | 0.9000 | 0.9500 | 1.00e-02 | 1.00e-03 | 0.9985 | 7.74e-06 |" in text
    assert "| mean | pe | plain | 0.8500 | 0.8750 |  |  | 0.9952 | 5.37e-06 |" in text
    assert "| mean | pe | IGA | diverged |  |  |  | 0.9975 | 5.35e-06 |" in text
    assert "IGA has the higher IoU: pe on 0 of 2." in text
    assert "24^3, 7 steps" in text
    full = {"resolution": 512, "group_size": 256, "groups_per_batch": 512, "num_iterations": None, "num_epochs": 200}
    assert "512^3, 200 epochs" in shapes_table(figures | full)


def test_columns_without_a_number_are_left_out() -> None:
    assert table(["a", "b", "c"], [["1", "", ""], ["", "", "2"]]) == "| a | c |\n| --- | --- |\n| 1 |  |\n|  | 2 |\n"


def test_the_papers_cost_is_a_ratio() -> None:
    assert "| signals (1D) | 0.028 s | 965 MB | 1.57 | 1.63 x | 6.61 | 6.07 x |" in paper_cost()
