"""The paper's two experiments at the smoke budget: what is trained, compared and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from torch.nn.functional import mse_loss

from iga_nerfstudio.adjustment import layerwise_entk, leading_eigenpairs, sum_of_logits
from iga_nerfstudio.benchmark import ablations, cli, experiment1, experiment2
from iga_nerfstudio.benchmark.studies.ablations import measure_ablations
from iga_nerfstudio.benchmark.ablations_page import ablations_table
from iga_nerfstudio.benchmark.cli import main
from iga_nerfstudio.benchmark.studies.experiment1 import circle, measure_experiment1
from iga_nerfstudio.benchmark.studies.experiment2 import measure_experiment2
from iga_nerfstudio.benchmark.experiments_page import (
    _coarse_groups,
    _monotonicity,
    _over_training,
    experiment1_table,
    experiment2_table,
)
from iga_nerfstudio.benchmark.record import write_result
from iga_nerfstudio.benchmark.report import write_report
from iga_nerfstudio.benchmark.tables_page import nerf_table
from iga_nerfstudio.networks.two_layer import two_layer_ntk
from tests.benchmark.test_cost import MUON


def report(name: str, figures: dict[str, Any], folder: Path) -> str:
    write_result(folder / "results" / f"{name}.json", figures)
    write_result(folder / "results" / "muon_step.json", json.loads(MUON))
    write_report(folder / "results", folder / "docs")
    return (folder / "docs" / "results" / f"{name}.md").read_text()


def test_the_first_experiment(tmp_path: Path) -> None:
    size = experiment1.SIZES["smoke"]
    figures = measure_experiment1(size, tmp_path / "runs", 1, lambda _: None)
    assert len(figures["trainings"]) == len(size.widths) * 4
    assert all(run["curve"][-1]["step"] == 60 for run in figures["trainings"])
    # Every adjustment is faster than none, for every width.
    for width in size.widths:
        plain, *adjusted = [run["mse"] for run in figures["trainings"] if run["width"] == width]
        assert max(adjusted) < plain
    narrow, wide = figures["kernels"]
    assert wide["eigenvalues"] < narrow["eigenvalues"]
    assert wide["eigenvectors"] < narrow["eigenvectors"]
    page = report("experiment1", figures, tmp_path)
    assert experiment1_table(figures) in page
    assert (tmp_path / "docs" / "results" / "experiment1_end6.png").stat().st_size > 10_000


def test_points_and_values_are_the_papers() -> None:
    x, y, sample_rate = circle(32)
    angle = 2 * np.pi * 3 / 32
    assert np.allclose(x[3], [np.cos(angle), np.sin(angle)])
    assert y[3, 0].item() == pytest.approx(sum(np.sin(f * np.pi * angle) for f in (0.4, 0.8, 1.6, 3.2)), abs=1e-5)
    assert sample_rate == pytest.approx(32 / (2 * np.pi))


@pytest.mark.parametrize("name", ["ntk", "entk", "iga"])
def test_a_step_is_equation_4_with_its_kernel(name: Any) -> None:
    """S = V diag(lambda_1 / lambda) V^T on the leading eigenvectors of each kernel, the identity elsewhere."""
    x, y, _ = circle(64)
    network = experiment1._network(32, 0)
    settings = {"adjustment": name, "end": 4, "group_size": 8, "refresh_interval": 1}
    adjust = experiment1._adjustment(network, x, settings)
    mse_loss(adjust(network(x)), y).backward()
    found = [p.grad.clone() for p in network.parameters()]

    double = experiment1._network(32, 0).double()
    points = x.double()
    group_size = 8 if name == "iga" else 1
    chosen = points[group_size // 2 :: group_size]
    kernel = two_layer_ntk(points) if name == "ntk" else layerwise_entk(double, (chosen,), sum_of_logits)
    values, vectors = leading_eigenpairs(kernel, 4, "dense")
    transform = torch.eye(len(kernel), dtype=torch.float64) + vectors @ torch.diag(values[0] / values - 1) @ vectors.T
    prediction = double(points)
    residual = 2 * (prediction - y).detach() / 64
    adjusted = (transform @ residual.reshape(len(kernel), group_size)).reshape(64, 1)
    expected = torch.autograd.grad(prediction, list(double.parameters()), adjusted)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours.double(), theirs, atol=1e-4 * float(theirs.abs().max()))


def test_loss_differences_are_distances_of_curves() -> None:
    def run(adjustment: str, *mse: float) -> dict[str, Any]:
        return {"width": 8, "adjustment": adjustment, "end": 2, "curve": [{"mse": value} for value in mse]}

    outcomes = [run("ntk", 1.0, 0.1), run("entk", 1.0, 0.01), run("iga", 10.0, 0.01)]
    found = experiment1._loss_differences(8, 2, outcomes)
    assert found == pytest.approx({"width": 8, "end": 2, "ntk_entk": 0.5, "entk_iga": 0.5, "ntk_iga": 1.0})


def test_the_second_experiment(tmp_path: Path) -> None:
    size = experiment2.SIZES["smoke"]
    figures = measure_experiment2(size, tmp_path / "runs", 1, lambda _: None)
    assert [(run["network"], run["end"]) for run in figures["trainings"]] == [
        ("relu", 0), ("relu", 3), ("siren", 0), ("siren", 3)
    ]  # fmt: skip
    assert list(figures["trainings"][0]["errors"]) == ["5", "10", "15", "20", "25", "30"]
    assert list(figures["trainings"][2]["errors"]) == ["10", "20", "30", "40", "50", "60"]
    page = report("experiment2", figures, tmp_path)
    assert experiment2_table(figures) in page
    for picture in ("heat", "ends"):
        assert f"](experiment2_{picture}.png)" in page
        assert (tmp_path / "docs" / "results" / f"experiment2_{picture}.png").stat().st_size > 5_000


def test_the_full_budget_is_the_papers() -> None:
    first, second = experiment1.SIZES["full"], experiment2.SIZES["full"]
    assert (first.widths, first.ends, len(first.seeds)) == ((1024, 2048, 4096, 8192), (10, 12, 14), 10)
    assert (first.num_inputs, first.num_iterations, first.refresh_interval) == (1024, 20_000, 1)
    assert (second.ends, second.group_sizes, len(second.seeds)) == ((1, 2, 3, 4, 5, 6, 7), (1, 4, 8), 10)
    config = experiment2.configure("siren", 4, 3, 7, second)
    assert (config.network.hidden_dim, config.network.hidden_layers, config.num_samples) == (256, 4, 2048)
    assert (config.optimizer.lr, config.max_num_iterations, config.interval_size) == (5e-5, 10_000, 4)
    assert (config.adjustment.end, config.adjustment.enabled, config.machine.seed) == (3, True, 7)
    assert not experiment2.configure("relu", 1, 0, 0, second).adjustment.enabled


def test_words_say_where_the_error_does_not_fall() -> None:
    falling = [(1, 0, 0.9), (4, 1, 0.5), (4, 2, 0.1)]
    assert (
        _monotonicity(falling, "60", "last")
        == "p = 4: the last error at 60 Hz falls with every step of end (0.900 to 0.100)."
    )
    assert "does not fall from end 1 to 3 (" in _monotonicity([*falling[:2], (4, 3, 0.6)], "60", "mean")


def test_errors_over_the_training_are_means_over_steps_and_seeds() -> None:
    def run(network: str, end: int, *errors: float) -> dict[str, Any]:
        return {"network": network, "group_size": 4, "end": end, "errors": {"60": list(errors)}}

    figures = {"trainings": [run("pe", 2, 1.0, 0.5), run("pe", 2, 0.5, 0.0), run("pe", 3, 9.0, 9.0)]}
    assert _over_training(figures, {"network": "pe", "group_size": 4, "end": 2}, "60") == 0.5


def test_the_ablations(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "kodim01.png")
    told: list[str] = []
    size = ablations.SIZES["smoke"]
    figures = measure_ablations(tmp_path, size, tmp_path / "runs", 1, told.append)
    # ReLU's 25 eigenvalues want more patches than there are at four times the side; SIREN has one rate.
    assert set(figures["means"]["plain"]) == {"relu", "pe", "siren"}
    assert set(figures["means"]["plain, rate of IGA"]) == {"relu", "pe"}
    assert figures["means"]["patches four times as large"] == {}
    assert len(told) == len(figures["trainings"]) == 12 * 3 - 1 - 3
    page = report("ablations", figures, tmp_path)
    assert ablations_table(figures) in page
    plain, largest = (figures["means"][case]["pe"] for case in ("plain", "largest residual"))
    assert f"| {largest:.2f} ({largest - plain:+.2f}) |" in page
    assert "| 25.44 (+1.35) | 34.09 (+3.63) | 34.85 (+1.15) |" in page
    for run in figures["trainings"]:
        run["psnr"] = 10.0 if run["case"] == "plain" else 11.0
    assert "Every case is above plain training on every pair" in ablations_table(figures)
    figures["trainings"][-1]["psnr"] = 9.0
    last = figures["trainings"][-1]["case"]
    pairs = sum(run["case"] == last for run in figures["trainings"])
    assert f"Not above plain training on every pair of network and image: {last} on 1 of {pairs}." in ablations_table(
        figures
    )


def test_groups_too_few_for_a_tone_are_named() -> None:
    """Two representatives per period are the least; the signal is two units long."""
    assert _coarse_groups(2048, [1, 4, 8], "60") == ""
    assert "p = 8 leaves 128 representatives for the 120 periods of 60 Hz" in _coarse_groups(1024, [1, 4, 8], "60")
    assert "p = 4" not in _coarse_groups(1024, [1, 4, 8], "60")


def test_cases_differ_in_what_they_are_named_for() -> None:
    size = ablations.SIZES["full"]

    def chosen(case: str) -> tuple[Any, ...]:
        config = ablations.configure("pe", case, size)
        own = config.adjustment
        return (own.enabled, own.representative, own.num_representatives, config.patch_size, config.optimizer.lr)

    assert chosen("plain")[0] is chosen("plain, rate of IGA")[0] is False
    assert (chosen("plain")[4], chosen("plain, rate of IGA")[4]) == (1e-3, 5e-3)
    assert chosen("largest residual") == (True, "largest_residual", 1, 32, 5e-3)
    assert chosen("random once")[1:3] == ("random_once", 1)
    assert chosen("random each step")[1:3] == ("random", 1)
    assert chosen("mean of 8")[1:3] == ("mean", 8)
    assert chosen("all maxima")[1:3] == ("all_maxima", 1)
    assert [chosen(f"patches {how} as large")[3] for how in ("half", "twice", "four times")] == [16, 64, 128]
    config = ablations.configure("relu", "largest residual", size)
    assert (config.adjustment.end, config.network.hidden_dim, config.max_num_iterations) == (25, 256, 10_000)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no image .*kodim01\.png"):
        measure_ablations(tmp_path, ablations.SIZES["smoke"], tmp_path / "runs", 1)


def test_all_of_them_by_one_command(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each at its budget, into files of its own."""
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    for name in ("kodim01", "kodim02"):  # to choose on, and to judge on
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    trimesh.creation.icosphere(2).export(tmp_path / "bunny.ply")
    places = {"--data": tmp_path, "--meshes": tmp_path, "--scene": scene}
    bench(monkeypatch, "all", "--budget", "smoke", "--jobs", 1, *options(places), *options(outputs(tmp_path)))
    assert "not run" not in capsys.readouterr().out
    written = {path.stem: json.loads(path.read_text())["figures"] for path in (tmp_path / "results").iterdir()}
    assert set(written) == {"experiment1", "experiment2", "ablations", "images", "balance", "shapes", "nerf_pair"}
    assert {figures["budget"] for figures in written.values()} == {"smoke"}
    assert [run["adjusted"] for run in written["nerf_pair"]["runs"]] == [False, True]
    assert {run["network"] for run in written["images"]["trainings"]} == {"relu", "pe", "siren"}
    write_report(tmp_path / "results", tmp_path / "docs")
    pages = {path.stem: path.read_text() for path in (tmp_path / "docs" / "results").glob("*.md")}
    assert set(pages) == {"experiment1", "experiment2", "ablations", "images", "balance", "shapes", "nerf"}
    assert nerf_table(written["nerf_pair"]) in pages["nerf"]
    assert "Budget `smoke`. **The sizes are not the paper's**" in pages["images"]


def test_what_has_no_data_is_left_out_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in (cli.Experiment1, cli.Experiment2, cli.Ablations, cli.Images, cli.Balance):
        monkeypatch.setattr(kind, "measure", lambda self: {"budget": self.budget})
        monkeypatch.setitem(cli.TABLES, kind, str)
    bench(monkeypatch, "all", "--data", tmp_path, *options(outputs(tmp_path)))
    assert {path.stem for path in (tmp_path / "results").iterdir()} == {
        "experiment1", "experiment2", "ablations", "images", "balance",
    }  # fmt: skip
    out = capsys.readouterr().out
    assert "not run: shapes (no --meshes given)" in out
    assert "not run: nerf-pair (no --scene given)" in out


def bench(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    """Call the command."""
    monkeypatch.setattr("sys.argv", ["iga-bench", *map(str, words)])
    main()


def options(values: dict[str, Any]) -> list[Any]:
    return [word for pair in values.items() for word in pair]


def outputs(folder: Path) -> dict[str, Path]:
    return {"--runs": folder / "runs", "--output": folder / "results"}
