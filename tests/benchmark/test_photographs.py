"""The studies of photographs: what is trained, what rates are chosen on, and what the pages say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from iga_nerfstudio.benchmark.cli import Comparison
from iga_nerfstudio.benchmark.studies import ablations, balance, images, kodak, noise
from iga_nerfstudio.benchmark.studies.ablations import Ablations
from iga_nerfstudio.benchmark.studies.balance import DEFAULT, PATCHES, Balance
from iga_nerfstudio.benchmark.studies.grouping import Grouping
from iga_nerfstudio.benchmark.studies.images import Images
from iga_nerfstudio.benchmark.studies.kodak import Kodak
from iga_nerfstudio.benchmark.studies.variants import RATES
from iga_nerfstudio.evaluation.metrics import BACKBONE_SHAPES
from iga_nerfstudio.tasks.image import automatic_patch_size, load_image_task
from tests.benchmark.studies import Pretended, psnr, write_photographs


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_photographs(tmp_path, "a", "b", "c")


def images_of(data: Path, **changes: Any) -> Images:
    return replace(Images(data, 48, 8, 10, rates_on="a", images=("b", "c"), networks=("relu",)), **changes)


class TestImages:
    def test_rates_are_chosen_on_one_photograph_and_judged_on_others(self, data: Path) -> None:
        train = Pretended(lambda run: psnr({1e-3: 10.0, 5e-3: 20.0, 1e-2: 30.0}.get(run["lr"], 1.0)))
        figures = images_of(data, optimizers=("adam",)).measure(train)
        tried, judged = figures["tried"], figures["judged"]
        assert {run["image"] for run in tried} == {"a"}
        assert {run["seed"] for run in tried} == {42}
        assert {run["lr"] for run in tried if run["variant"] != "fr"} == {5e-3, 1e-2}
        assert {run["lr"] for run in tried if run["variant"] == "fr"} == {1e-3, 5e-3, 1e-2}
        assert {(run["image"], run["lr"]) for run in judged} == {("b", 1e-2), ("c", 1e-2)}
        assert len(judged) == 4 * 2 * 3  # variants, photographs, seeds
        configs = [training.configuration for training in train.asked]
        assert {config.data.stem for config in configs} == {"a", "b", "c"}
        assert {config.machine.seed for config in configs} == {42, 43, 44}

    def test_a_rate_that_diverged_is_not_the_best(self, data: Path) -> None:
        train = Pretended(lambda run: psnr(10.0) if run["lr"] == 5e-3 else {"diverged": "NaN"})
        figures = images_of(data, optimizers=("adam",), variants=("plain",)).measure(train)
        assert {run["lr"] for run in figures["judged"]} == {5e-3}

    def test_the_papers_rates_are_not_chosen_but_under_muon(self, data: Path) -> None:
        study = images_of(data, networks=images.PRESETS["full"].networks, paper_rates=True)
        train = Pretended(lambda run: psnr(1.0))
        study.measure(train)
        runs = [training.labels for training in train.asked]
        rates = {(run["network"], run["variant"]): run["lr"] for run in runs if run["optimizer"] == "adam"}
        others = {("relu", "iga"): 5e-3, ("pe", "iga"): 5e-3, ("pe", "bn"): 3e-3, ("relu", "fr"): 5e-3}
        assert rates == dict.fromkeys(rates, 1e-3) | others
        assert len(rates) == 4 + 4 + 3 + 2 + 2 + 2
        assert {run["image"] for run in runs if run["optimizer"] == "adam"} == {"b", "c"}
        assert len({run["lr"] for run in runs if (run["optimizer"], run["image"]) == ("muon", "a")}) > 2

    def test_variants_differ_in_what_they_are_named_for(self, data: Path) -> None:
        study = images_of(data)
        configs = {variant: study.config_of("pe", variant, "muon") for variant in ("plain", "iga", "fr", "bn")}  # type: ignore[arg-type]
        assert {name for name, config in configs.items() if config.adjustment.enabled} == {"iga"}
        assert {n for n, c in configs.items() if c.network.fourier_reparameterisation.enabled} == {"fr"}
        assert {n for n, c in configs.items() if c.network.batch_norm} == {"bn"}

    def test_the_full_size_is_the_papers(self) -> None:
        full = images.PRESETS["full"]
        assert (full.images, full.optimizers, full.paper_rates) == (
            tuple(f"kodim0{i}" for i in range(1, 9)), ("adam",), True,
        )  # fmt: skip
        config = full.config_of("relu", "iga", "adam")
        assert (config.max_side, config.network.hidden_dim, config.network.hidden_layers) == (768, 256, 3)
        assert (config.max_num_iterations, config.adjustment.representative) == (10_000, "largest_residual")
        assert (config.schedule.kind, config.schedule.factor, config.schedule.drop_at) == ("step", 0.1, 0.3)
        assert (config.patch_size, automatic_patch_size(512, 768)) == (None, 32)
        ends = {network: full.config_of(network, "iga", "adam").adjustment.end for network in full.networks}
        assert ends == {"relu": 25, "pe": 20, "siren": 20, "gauss_finer": 20, "wire_finer": 20, "finer": 15}
        assert {name: getattr(full, name) for name in images.FULL} == images.FULL

    def test_the_page_has_the_papers_numbers_of_the_same_images(self, tmp_path: Path) -> None:
        write_photographs(tmp_path, "kodim01", "kodim02", "kodim03")
        study = Images(tmp_path, 48, 8, 10, rates_on="kodim02", images=("kodim01", "kodim03"), networks=("pe", "finer"))
        values = {"plain": 30.0, "iga": 31.0, "fr": 29.0, "bn": 28.0}
        train = Pretended(lambda run: psnr(values[run["variant"]] - 2 * (run["image"] == "kodim03")))
        figures = study.settings() | study.measure(train)
        text = Images.section(figures, "images")
        assert "| pe | IGA | 0.005 | 30.00 ± 0.00 | +1.00 ± 0.00 (6 of 6) | 31.00 | 33.54 (+4.11) |" in text
        assert "| finer | IGA | 0.001 | 30.00 ± 0.00 | +1.00 ± 0.00 (6 of 6) | 31.00 | 35.55 (+0.43) |" in text
        assert "paper" not in text.split("### Muon")[1]
        assert text.count("IGA has the higher psnr: pe in 6 of 6, finer in 6 of 6 cases (with their seeds).") == 2
        assert "The sizes are not the paper's" in text
        assert "The sizes are the paper's." in Images.section(figures | images.FULL, "images")
        ((name, *cells),) = Images.gains(figures)
        assert (name, cells[0], cells[1]) == ("images, finer: PSNR", "29.00", "30.00: +1.00 ± 0.00 (6 of 6)")

    def test_what_is_missing_is_named(self, data: Path) -> None:
        train = Pretended(lambda run: psnr(1.0))
        with pytest.raises(ValueError, match=r"There is no image .*d\.png"):
            images_of(data, images=("d",)).measure(train)
        with pytest.raises(ValueError, match="at least one image"):
            images_of(data, images=()).measure(train)


class TestBalance:
    @pytest.fixture
    def study(self, data: Path) -> Balance:
        return Balance(data, 48, 8, 10, 5, (1, 2), chosen_on=("a",), held_out=("b",), networks=("pe",), rounds=1)

    def test_chosen_on_one_photograph_and_judged_on_another(self, study: Balance, tmp_path: Path) -> None:
        values = {"paper": 22.0, "default": 24.0, "default, plain": 23.0}
        train = Pretended(lambda run: psnr(values.get(run["variant"], 20.0)))
        figures = study.settings() | study.measure(train)
        entries = len(Balance.judged)
        assert len(figures["compared"]) == len(Balance.variants) * 2
        assert {run["lr"] for run in figures["compared"]} == {RATES["muon"]["pe"]}
        assert len(figures["tried"]) == entries * (1 + len(Balance.other_rates))
        assert len(figures["judged"]) == entries * 2
        assert {run["image"] for run in figures["judged"]} == {"b"}
        assert figures["step_costs"][0]["cost"] == 1.0  # plain Adam's
        text = Balance.section(figures, "balance")
        assert "| paper | 22.00 ± 0.00 |" in text
        assert "- Muon, default against Muon, default, plain: pe +1.00 ± 0.00 (2 of 2) dB." in text
        # It has 14.67 after 5 and 22 after 10 steps, so plain Adam's 20 after 8.64 of its 10.
        assert "| pe | Adam, paper | 0.005 | 22.00 ± 0.00 | 22.00 ± 0.00 |" in text
        assert "| 0.86 |" in text
        Balance.draw(figures, tmp_path / "balance")
        assert (tmp_path / "balance_curves.png").stat().st_size > 5_000
        assert Balance.gains(figures)[0][:2] == ["images, pe: PSNR", "20.00"]

    def test_ways_are_what_their_names_say(self) -> None:
        full = balance.PRESETS["full"]

        def chosen(way: str) -> Any:
            return full.entry("relu", "muon", way).config

        assert not chosen("plain").adjustment.enabled
        paper = chosen("paper").adjustment
        assert (paper.end, paper.power, paper.representative) == (25, None, "largest_residual")
        assert (chosen("half").adjustment.end, chosen("twice").adjustment.end) == (12, 50)
        assert (chosen("power 0.5").adjustment.end, chosen("power 0.5").adjustment.power) == (25, 0.5)
        assert chosen("60, power 0.7").adjustment.end == 60
        assert chosen("up").adjustment.rule == "sgd"
        assert (chosen("paper").schedule.kind, chosen(DEFAULT).schedule.kind) == ("step", "cosine")
        # What iga-image does unless told otherwise.
        assert (chosen(DEFAULT).adjustment.end, chosen(DEFAULT).adjustment.power) == (None, None)
        assert (chosen(DEFAULT).grouping, chosen(PATCHES).grouping) == ("axes", "patches")
        assert chosen("default, half").max_num_iterations == 5000


class TestGrouping:
    def test_patches_and_axes_beside_plain_training(self, data: Path, tmp_path: Path) -> None:
        study = Grouping(data, 48, 8, 10, 5, (1, 2), chosen_on=("a",), held_out=("b", "c"), networks=("pe",), rounds=1)
        train = Pretended(lambda run: psnr({"patches": 21.0, "axes": 23.5}.get(run["variant"], 20.0)))
        figures = study.settings() | study.measure(train)
        assert {run["image"] for run in figures["judged"]} == {"b", "c"}
        assert {run["variant"] for run in figures["compared"]} == set(Grouping.variants)
        configs = {training.labels["variant"]: training.configuration for training in train.asked}
        assert {name: config.grouping for name, config in configs.items() if config.adjustment.enabled} == {
            "patches": "patches", "patches, before": "patches", "axes": "axes", "axes, few": "axes", "default": "axes",
        }  # fmt: skip
        assert [name for name, config in configs.items() if config.first_output == "mean"] == [
            "default, plain",
            "default",
        ]
        by = {name: config.adjustment.representative for name, config in configs.items() if name.startswith("patches")}
        assert by == {"patches": "largest_residual", "patches, before": "previous_residual"}
        assert (configs["axes, few"].adjustment.end, configs["axes, few"].adjustment.power) == (10, 0.4)
        text = Grouping.section(figures, "grouping")
        assert "- Muon, axes against Muon, patches: pe +2.50 ± 0.00 (4 of 4) dB." in text
        assert "- Muon, patches, before against Muon, patches: pe -1.00 ± 0.00 (0 of 4) dB." in text
        assert "| pe | Muon, axes | 0.04 | 23.50 ± 0.00 |" in text
        Grouping.draw(figures, tmp_path / "grouping")
        assert (tmp_path / "grouping_curves.png").stat().st_size > 5_000


class TestKodak:
    def test_every_metric_over_steps_and_over_time(self, data: Path, tmp_path: Path) -> None:
        study = replace(kodak.PRESETS["smoke"], data=data, held_out=("b", "c"), seeds=(1, 2))
        curves = {"psnr": [[0, 10.0], [6, 16.0]], "ssim": [[0, 0.0], [6, 0.6]], "lpips": [[0, 0.9], [6, 0.3]]}
        train = Pretended(lambda run: {name: curve[-1][1] for name, curve in curves.items()} | {"curves": curves})
        figures = study.settings() | study.measure(train)
        assert len(figures["judged"]) == 5 * 2 * 2  # entries, photographs, seeds
        assert figures["compared"] == figures["tried"] == []
        rates = {run["variant"]: run["lr"] for run in figures["judged"] if run["optimizer"] == "adam"}
        assert rates == {"paper, plain": 1e-3, "paper": 5e-3}
        costs = {"axes": 2.0, "plain": 1.0}
        figures["step_costs"] = [cost | {"cost": costs.get(cost["variant"], 1.5)} for cost in figures["step_costs"]]
        text = Kodak.section(figures, "kodak")
        whole = "16.00 ± 0.00 | 0.6000 ± 0.0000 | 0.3000 ± 0.0000"
        assert f"| pe | Muon, axes | 0.04 | {whole} | 2.00 | 13.00 | 0.3000 | 0.6000 |" in text
        assert f"| pe | Muon, plain | 0.04 | {whole} | 1.00 | 16.00 | 0.6000 | 0.3000 |" in text
        assert "- Muon, axes against Muon, plain: pe +0.00 ± 0.00 (0 of 4) dB." in text
        Kodak.draw(figures, tmp_path / "kodak")
        drawn = {path.name for path in tmp_path.glob("kodak_*.png")}
        assert drawn == {f"kodak_{metric}_{over}.png" for metric in curves for over in ("steps", "time")}
        assert all(f"({name})" in text for name in drawn)

    def test_a_training_is_seen_by_all_metrics(self, data: Path, tmp_path: Path) -> None:
        weights = {f"{layer}.weight": torch.randn(shape) / 10 for layer, shape in BACKBONE_SHAPES.items()}
        biases = {f"{layer}.bias": torch.zeros(shape[0]) for layer, shape in BACKBONE_SHAPES.items()}
        torch.save(weights | biases, tmp_path / "alexnet.pth")
        study = replace(kodak.PRESETS["smoke"], data=data, lpips_backbone=tmp_path / "alexnet.pth")
        training = study.training(study.entry("pe", "muon", "axes"), "a", 1e-2, 1)
        outcome = training.run(training.configuration)
        assert {name: [step for step, _ in curve] for name, curve in outcome["curves"].items()} == {
            name: [0, 2, 4, 6] for name in ("psnr", "ssim", "lpips")
        }
        assert outcome["psnr"] == outcome["curves"]["psnr"][-1][1] > outcome["curves"]["psnr"][0][1]


class TestAblations:
    def test_cases_differ_in_what_they_are_named_for(self) -> None:
        full = ablations.PRESETS["full"]
        assert full.images == ("kodim01", "kodim02", "kodim03")
        entries = {(e.labels["network"], e.labels["case"]): e for e in full.entries()}

        def chosen(case: str) -> tuple[Any, ...]:
            entry = entries["pe", case]
            own = entry.config.adjustment
            kind = (own.enabled, own.representative, own.num_representatives)
            return (*kind, entry.config.patch_size, entry.rates[0])

        assert chosen("plain")[0] is chosen("plain, rate of IGA")[0] is False
        assert (chosen("plain")[4], chosen("plain, rate of IGA")[4]) == (1e-3, 5e-3)
        assert ("siren", "plain, rate of IGA") not in entries
        assert chosen("largest residual") == (True, "largest_residual", 1, 32, 5e-3)
        assert chosen("random once")[1:3] == ("random_once", 1)
        assert chosen("random each step")[1:3] == ("random", 1)
        assert chosen("mean of 4")[1:3] == ("mean", 4)
        assert chosen("all maxima")[1] == "all_maxima"
        assert [chosen(f"patches {how} as large")[3] for how in ("half", "twice", "four times")] == [16, 64, 128]
        # ReLU's 25 eigenvalues want more than the 24 patches that there are at four times the side.
        assert ("relu", "patches four times as large") not in entries
        config = entries["relu", "largest residual"].config
        assert (config.adjustment.end, config.network.hidden_dim, config.max_num_iterations) == (25, 256, 10_000)

    def test_the_page_says_where_a_case_is_not_above_plain_training(self, data: Path) -> None:
        study = Ablations(data, 48, 8, 10, seeds=(1,), images=("a", "b"))
        worse = ("siren", "b", "largest residual")
        train = Pretended(
            lambda run: psnr(
                11.0 + (run["case"] != "plain") * (1 - 2 * ((run["network"], run["image"], run["case"]) == worse))
            )
        )
        figures = study.settings() | study.measure(train)
        text = Ablations.section(figures, "ablations")
        assert "| largest residual | 12.00 (+1.00 (2 of 2)) | 12.00 (+1.00 (2 of 2)) | 11.00 (+0.00 (1 of 2)) |" in text
        assert "| 25.44 (+1.35) | 34.09 (+3.63) | 34.85 (+1.15) |" in text
        assert "Not above plain training for every network, image and seed: largest residual in 5 of 6." in text
        for run in figures["trainings"]:
            run["psnr"] = 11.0 + (run["case"] != "plain")
        assert "Every case is above plain training" in Ablations.section(figures, "ablations")


def test_a_study_of_real_trainings_is_run_once(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    study = images_of(data, max_num_iterations=3, seeds=(1,), optimizers=("adam",), networks=("finer",), images=("b",))
    command = Comparison(study, tmp_path / "results" / "images.json", 1, tmp_path / "records")
    command.run(Console())
    assert capsys.readouterr().out.count("left: ") == 4 + 2  # two variants at two rates, then each at its best
    command.run(Console())
    out = capsys.readouterr().out
    assert "left: " not in out
    assert "| finer | IGA |" in out
    assert len(list((tmp_path / "records").iterdir())) == 6


class Constant(torch.nn.Module):
    """Gives the pixels of a picture, whatever it is asked for."""

    def __init__(self, pixels: torch.Tensor) -> None:
        super().__init__()
        self.pixels = torch.nn.Parameter(pixels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pixels


class TestNoise:
    def config(self, data: Path, sigma: float | None) -> noise.PartConfig:
        study = replace(noise.PRESETS["smoke"], data=data, max_side=11)
        return study.training(study.entry("pe", sigma, True), "a", 1e-2, 5).configuration

    def test_noise_is_judged_by_the_clean_photograph(self, data: Path) -> None:
        task = noise.PartTask(self.config(data, 0.1))
        clean = load_image_task(task.config).image
        assert task.image.shape == clean.shape == (9, 11, 3)
        assert 0.05 < (task.image - clean).std() < 0.1  # some of it is cut off at black and white
        assert torch.equal(task.image, noise.PartTask(self.config(data, 0.1)).image)
        right = Constant(clean.reshape(-1, 3))
        assert task.evaluate(right)["psnr"] > 60  # type: ignore[arg-type]

    def test_every_second_pixel_is_judged_by_the_others_in_their_places(self, data: Path) -> None:
        task = noise.PartTask(self.config(data, None))
        clean = load_image_task(task.config).image
        assert torch.equal(task.image, clean[::2, ::2])
        assert (~task._judged).nonzero().tolist() == [
            [row, column] for row in range(0, 9, 2) for column in range(0, 11, 2)
        ]

    def test_the_page_says_what_is_gained_and_when_it_was_best(self, data: Path, tmp_path: Path) -> None:
        study = replace(noise.Noise(data), seeds=(1, 2), photographs=("a", "b"), networks=("pe",), sigmas=(0.1,))
        train = Pretended(
            lambda run: {
                "psnr": 20.0 + (run["variant"] == "IGA"),
                "best_psnr": 25.0 - (run["variant"] == "IGA"),
                "best_step": 100 if run["variant"] == "IGA" else 200,
                "curve": [[100, 24.0], [200, 25.0]],
            }
        )
        figures = study.settings() | study.measure(train)
        assert {training.labels["fitted"] for training in train.asked} == {"noise of 0.1", "every second pixel"}
        assert {training.configuration.sigma for training in train.asked} == {0.1, None}
        row = (
            "| pe | noise of 0.1 | 20.00 ± 0.00 | 25.00 ± 0.00 | 21.00 ± 0.00 | 24.00 ± 0.00 | +1.00 ± 0.00 (4 of 4) | "
        )
        assert row + "-1.00 ± 0.00 (0 of 4) | 200 / 100 |" in noise.Noise.section(figures, "noise")
        noise.Noise.draw(figures, tmp_path / "noise")
        assert (tmp_path / "noise_curves.png").stat().st_size > 5_000
