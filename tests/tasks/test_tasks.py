"""The three kinds of data: what the network sees, how it is judged, what comes out."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor, nn

from iga_nerfstudio.adjustment import limits
from iga_nerfstudio.data.sines import sum_of_sines
from iga_nerfstudio.data.voxelisation import voxelise
from iga_nerfstudio.data.voxels import VoxelGrid
from iga_nerfstudio.data.waveforms import waveform_of
from iga_nerfstudio.networks import NetworkConfig
from iga_nerfstudio.tasks.config import OptimizerConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.config_files import preset_names, read_preset
from iga_nerfstudio.tasks.image import ImageConfig, ImageTask, automatic_patch_size, fit_image, render_image
from iga_nerfstudio.tasks.run import _summary
from iga_nerfstudio.tasks.sdf import SDFConfig, ShapeTask, fit_shape, load_shape_task
from iga_nerfstudio.tasks.setup import resolved
from iga_nerfstudio.tasks.signal import SignalConfig, SignalTask, fit_signal, load_signal_task
from iga_nerfstudio.tasks.task import Fit
from iga_nerfstudio.tasks.trainer import Record

SMALL: dict[str, Any] = {
    "max_num_iterations": 4,
    "steps_per_eval": 2,
    "network": NetworkConfig("pe", hidden_dim=8, hidden_layers=2),
    "adjustment": TaskAdjustmentConfig(end=3),
}


class Formula(nn.Module):
    """A network whose values are known."""

    def __init__(self, formula: Any) -> None:
        super().__init__()
        self.formula = formula
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x)


def net(formula: Any) -> Any:
    return Formula(formula)


@pytest.mark.parametrize(
    ("size", "patch"),
    [((512, 768), 32), ((128, 192), 8), ((64, 96), 4), ((2, 2), 1), ((2, 500), 1), ((4000, 6000), 256)],
)
def test_automatic_patches_number_about_384(size: tuple[int, int], patch: int) -> None:
    assert automatic_patch_size(*size) == patch


def test_an_image_decodes_at_any_resolution_with_its_corners_in_place() -> None:
    ramp = net(lambda x: torch.stack([x[:, 0], x[:, 1], 0 * x[:, 0]], -1) / 2 + 0.5)
    for size in ((3, 5), (12, 7)):
        picture = render_image(ramp, size)
        assert picture.shape == (*size, 3)
        # The first coordinate runs down, the second to the right.
        assert picture[-1, 0].tolist() == [1.0, 0.0, 0.5]
        assert picture[0, -1].tolist() == [0.0, 1.0, 0.5]
    assert ImageTask(ImageConfig(**SMALL), np.zeros((8, 10, 3))).reconstruct(ramp, 2.5).shape == (20, 25, 3)


def test_values_beyond_white_are_clipped_before_they_are_judged() -> None:
    task = ImageTask(ImageConfig(**SMALL), np.full((12, 12, 3), 0.9))
    found = task.evaluate(net(lambda x: torch.full((len(x), 3), 7.0)))
    assert found["psnr"] == pytest.approx(20.0, abs=1e-3)  # off by 0.1 everywhere


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 3)) + 255, "Divide by 255"),
        (np.full((8, 8, 3), np.nan), "NaN"),
        (np.zeros((1, 8, 3)), "2 pixels or more"),
        (np.zeros((2, 2, 2, 2)), r"\(H, W, C\)"),
    ],
)
def test_arrays_that_are_no_images(image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_image(image, ImageConfig(**SMALL))


def test_grey_arrays_and_tensors_are_images() -> None:
    fit = fit_image(torch.rand(12, 16), ImageConfig(**SMALL))
    assert render_image(fit.model, (12, 16)).shape == (12, 16, 1)
    assert not fit.model.training


def ball(resolution: int = 24, target: Any = "occupancy") -> tuple[VoxelGrid, trimesh.Trimesh]:
    mesh = trimesh.creation.icosphere(3, radius=5.0)
    mesh.apply_translation([10.0, 20.0, 30.0])
    return voxelise(mesh, resolution, target), mesh


def cube_to_file(grid: VoxelGrid, x: Tensor) -> Tensor:
    """From the network's cube to the file's units."""
    cells = torch.tensor(grid.values.shape) - 1
    return torch.tensor(grid.origin) + (x + 1) / 2 * cells * grid.spacing


@pytest.mark.parametrize("target", ["occupancy", "distance"])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_surface_lies_where_the_file_has_it(target: str, scale: float) -> None:
    grid, mesh = ball(target=target)
    task = ShapeTask(SDFConfig(**SMALL, group_size=64, mesh_scale=scale), grid, mesh)
    centre = torch.tensor([10.0, 20.0, 30.0])

    def formula(x: Tensor) -> Tensor:
        distance = (cube_to_file(grid, x) - centre).norm(dim=-1, keepdim=True) - 5.0
        return distance if target == "distance" else 0.5 - 0.2 * distance

    network = net(formula)
    surface = task.surface(network)
    assert surface is not None
    assert np.linalg.norm(surface.vertices - centre.numpy(), axis=1) == pytest.approx(5.0, abs=0.03)
    metrics = task.final_metrics(network)
    assert metrics["iou"] > 0.97
    assert metrics["chamfer"] < 0.02


def test_iou_is_intersection_over_union() -> None:
    grid, mesh = ball()
    task = ShapeTask(SDFConfig(**SMALL, group_size=64), grid, mesh)
    half = net(lambda x: (x[:, :1] > 0).float())
    truth = grid.inside
    guess = np.zeros_like(truth)
    guess[np.linspace(-1, 1, truth.shape[0]) > 0] = True
    assert task.evaluate(half)["iou"] == pytest.approx((truth & guess).sum() / (truth | guess).sum(), abs=1e-6)


def test_a_network_without_surface_has_no_chamfer_distance(caplog: pytest.LogCaptureFixture) -> None:
    grid, mesh = ball()
    task = ShapeTask(SDFConfig(**SMALL, group_size=64), grid, mesh)
    assert task.final_metrics(net(lambda x: torch.zeros(len(x), 1))) == {"iou": 0.0}
    assert "has no surface" in caplog.text


def test_epochs_take_the_place_of_steps(tmp_path: Path) -> None:
    solid = np.zeros((16, 16, 16), dtype=bool)
    solid[3:12, 3:12, 3:12] = True
    np.save(tmp_path / "v.npy", solid)
    config = SDFConfig(**SMALL, data=tmp_path / "v.npy", crop=False, group_size=64, groups_per_batch=8, num_epochs=3)
    assert load_shape_task(config).config.max_num_iterations == 3 * (16**3 // 64 // 8)


def test_arrays_are_shapes() -> None:
    x, y, z = np.mgrid[-1:1:12j, -1:1:12j, -1:1:12j]
    values = np.sqrt(x**2 + y**2 + z**2).astype(np.float32) - 0.6
    fit, task = fit_shape(values, SDFConfig(**SMALL, target="distance", group_size=64))
    assert 0 <= fit.metrics["iou"] <= 1
    assert task.truth.volume > 0


def test_every_signal_is_a_full_batch_of_intervals() -> None:
    task = SignalTask(SignalConfig(**SMALL), sum_of_sines([3.0, 5.0], num_samples=64))
    batch = task.batches.next()
    assert batch.inputs.shape == (64, 1)
    assert batch.inputs[0].item() == -1.0
    assert batch.grouping.split(batch.inputs).shape == (8, 8, 1)
    assert batch.target.abs().max().item() == pytest.approx(1.0)


def test_results_are_in_the_signals_units_whatever_the_network_sees() -> None:
    wave = sum_of_sines([3.0], amplitudes=[40.0], num_samples=64)
    sine = net(lambda x: torch.sin(2 * torch.pi * 3 * x))
    task = SignalTask(SignalConfig(**SMALL), wave)
    assert task.reconstruct(sine).abs().max().item() == pytest.approx(wave.peak, rel=1e-3)
    raw = SignalTask(SignalConfig(**SMALL, normalise=False), wave)
    assert raw.batches.next().target.abs().max().item() == pytest.approx(wave.peak)
    # A sine of amplitude 1 in the place of one of 40.
    assert raw.evaluate(sine)["dft_error/3"] == pytest.approx(39 / 40, rel=1e-5)
    assert raw.evaluate(sine)["mse"] == pytest.approx(39**2 / 2, rel=1e-4)


def test_a_constant_signal_has_no_frequencies_and_still_fits() -> None:
    fit = fit_signal(np.full(64, 0.25, dtype=np.float32), SignalConfig(**SMALL))
    assert set(fit.metrics) == {"psnr", "mse"}


def test_signals_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="1 of the 3 values of the signal are NaN"):
        fit_signal(torch.tensor([0.0, float("nan"), 1.0]), SignalConfig(**SMALL))


def test_a_signal_s_settings_are_those_of_the_command_line_or_refused(tmp_path: Path) -> None:
    path, x = tmp_path / "table.csv", np.arange(64)
    np.savetxt(path, np.stack([x, np.sin(x), np.cos(x)], 1), delimiter=",", header="t,sine,cosine", comments="")
    one = fit_signal(path, SignalConfig(**SMALL, column="cosine"))
    assert one.metrics["mse"] == fit_signal(np.cos(x), SignalConfig(**SMALL)).metrics["mse"]
    for settings in ({"duration": 3.0}, {"channel": 1}, {"num_samples": 20}, {"signal": "experiment2"}):
        with pytest.raises(ValueError, match=r"\w+=.* has no meaning for an array"):
            fit_signal(x / 64, SignalConfig(**SMALL, **settings))
    for settings in ({"max_side": 4}, {"crop": (0, 0, 4, 4)}, {"size": (4, 4)}):
        with pytest.raises(ValueError, match=r"\w+=.* has no meaning for an array"):
            fit_image(np.zeros((8, 8)), ImageConfig(**SMALL, **settings))


def test_what_is_not_finite_is_none_in_json_wherever_it_is() -> None:
    trainer = ImageTask(ImageConfig(**SMALL), np.zeros((8, 8, 1), np.float32)).trainer()
    record = Record(evaluations={"psnr": ([0, 1, 2], [7.0, math.inf, math.nan])})
    fit = Fit(trainer.network, trainer.network, {"psnr": math.inf}, {"psnr": math.inf}, 0, record)
    found = json.loads(json.dumps(_summary(fit, trainer), allow_nan=False))
    assert (found["metrics"], found["evaluations"]) == ({"psnr": None}, {"psnr": [[0, 1, 2], [7.0, None, None]]})


@pytest.mark.parametrize("unit", [1e-40, 1e-21, 1e20, 3e37])
def test_metrics_do_not_depend_on_the_unit(unit: float) -> None:
    wave = np.sin(np.linspace(0, 9, 64)) * np.linspace(0.2, 1, 64)
    one, scaled = (fit_signal(values, SignalConfig(**SMALL)).metrics for values in (wave, wave * unit))
    assert scaled["psnr"] == pytest.approx(one["psnr"], abs=1e-4)
    assert scaled["mse"] == pytest.approx(one["mse"] * unit**2, rel=1e-4)
    assert [scaled[name] for name in scaled if name.startswith("dft")] == pytest.approx(
        [one[name] for name in one if name.startswith("dft")], rel=1e-3
    )


def test_metrics_are_those_of_the_definition() -> None:
    wave = sum_of_sines([3.0], amplitudes=[40.0], num_samples=64)
    task = SignalTask(SignalConfig(**SMALL), wave)
    found = 40 * wave.x
    metrics = task.evaluate(net(lambda x: x))
    error, span = ((wave.values[:, 0] - found) ** 2).mean(), np.ptp(wave.values)
    assert metrics["mse"] == pytest.approx(error, rel=1e-6)
    assert metrics["psnr"] == pytest.approx(10 * np.log10(span**2 / error), abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "adjusted"),
    [
        ({"network": NetworkConfig("relu", hidden_dim=8)}, 6),
        ({"network": NetworkConfig("relu", hidden_dim=8), "optimizer": OptimizerConfig("adam")}, 8),
        ({"network": NetworkConfig("relu", hidden_dim=8), "adjust_from": 0.0}, 8),
        ({}, 8),
        ({"adjust_from": 0.5}, 4),
        ({"adjust_from": 1.0}, 0),
        ({"adjust_from": 0.5, "adjustment": TaskAdjustmentConfig(enabled=False)}, 0),
    ],
)
def test_a_shape_is_adjusted_from_where_it_gains(settings: dict[str, Any], adjusted: int) -> None:
    config = replace(SDFConfig(**SMALL | {"max_num_iterations": 8}, group_size=8, groups_per_batch=16), **settings)
    trainer = ShapeTask(config, *ball()).trainer()
    seen = []
    for _ in range(8):
        trainer.step()
        seen.append(trainer.adjuster.enabled)
    assert seen == [False] * (8 - adjusted) + [True] * adjusted
    assert trainer.adjuster.diagnostics.step == adjusted


@pytest.mark.parametrize("kind", ["relu", "pe", "siren", "gauss", "complex_wire", "finer", "wire_finer"])
def test_a_network_of_an_image_begins_near_its_mean(kind: Any) -> None:
    image = np.random.default_rng(0).random((12, 16, 3)) * [0.2, 0.5, 1.0]
    network = NetworkConfig(kind, hidden_dim=32)
    distances = []
    for first in (None, "drawn"):
        trainer = ImageTask(ImageConfig(**SMALL | {"network": network}, first_output=first), image).trainer()
        output = trainer.network(torch.rand(500, 2) * 2 - 1).detach()
        distances.append((output - torch.from_numpy(image).reshape(-1, 3).mean(0)).square().mean().sqrt().item())
    assert distances[0] < 0.3
    assert distances[0] < distances[1] / 2


@pytest.mark.parametrize(
    ("kind", "settings", "begins"),
    [
        ("siren", {}, "mean"),
        ("finer", {}, "mean"),
        ("pe", {}, "drawn"),
        ("pe", {"first_output": "mean"}, "mean"),
        ("siren", {"first_output": "drawn"}, "drawn"),
    ],
)
def test_what_a_network_of_a_signal_gives_first_suits_it(kind: Any, settings: dict[str, Any], begins: str) -> None:
    config = SignalConfig(**SMALL | {"network": NetworkConfig(kind, hidden_dim=16)}, normalise=False, **settings)
    trainer = SignalTask(config, waveform_of(1000 + np.sin(np.arange(200)))).trainer()
    first = trainer.network(torch.rand(50, 1)).detach()
    assert bool(((first - 1000).abs() < 2).all()) == (begins == "mean")
    assert resolved(trainer.config, trainer.adjuster).first_output == begins


def test_shapes_and_presets_begin_as_drawn() -> None:
    trainer = ShapeTask(SDFConfig(**SMALL, group_size=8, groups_per_batch=16), *ball()).trainer()
    assert resolved(trainer.config, trainer.adjuster).first_output == "drawn"
    config = replace(trainer.config, first_output="mean")
    network = ShapeTask(config, *ball()).trainer().network
    inside = ball()[0].values.mean()
    # Of a grid that is summed in parts.
    assert (network.layers[-1].bias - inside).abs().max() < 1e-6
    assert all(
        read_preset(name, kind).first_output == "drawn"
        for start, kind in (("kodak", ImageConfig), ("shape", SDFConfig), ("experiment2", SignalConfig))
        for name in preset_names()
        if name.startswith(start)
    )


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_an_adjuster_that_somebody_turns_off_stays_off(share: float) -> None:
    config = SDFConfig(**SMALL | {"max_num_iterations": 8}, group_size=8, groups_per_batch=16, adjust_from=share)
    trainer = ShapeTask(config, *ball()).trainer()
    for _ in range(6):
        trainer.step()
    trainer.adjuster.reconfigure(enabled=False)
    trainer.step()
    assert not trainer.adjuster.enabled


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_an_adjustment_that_begins_outside_of_the_run_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="begins at a share of the run"):
        ShapeTask(SDFConfig(**SMALL, group_size=8, groups_per_batch=16, adjust_from=share), *ball()).trainer()


@pytest.mark.parametrize(("samples", "size"), [(64, 8), (2048, 8), (3072, 8), (308_207, 803)])
def test_intervals_follow_the_length(samples: int, size: int) -> None:
    task = SignalTask(SignalConfig(**SMALL), waveform_of(np.sin(np.arange(samples))))
    assert task.grouping.group_size == size
    assert task.batches.num_groups <= 384


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, math.pi * 120 / 60),
        ({"network": NetworkConfig("siren", omega=10.0)}, math.pi * 120 / 20),
        ({"axis_by": "length"}, 4096 / 3072),
        ({"axis_scale": 3.0}, 3.0),
        ({"network": NetworkConfig("pe")}, 1.0),
    ],
)
def test_the_axis_is_as_long_as_the_spectrum_is_wide(settings: dict[str, Any], scale: float) -> None:
    config = replace(SignalConfig(frequencies=(60.0,), num_samples=4096), **settings)
    assert load_signal_task(config).axis_scale == pytest.approx(scale, rel=0.02)  # 60 per unit: 120 on [-1, 1]


def test_an_axis_is_no_shorter_than_1_and_that_of_the_paper_s_signals_is_1() -> None:
    for values in (np.zeros(4096), np.linspace(0, 1, 4096)):
        assert SignalTask(SignalConfig(), waveform_of(values)).axis_scale == 1.0
    assert load_signal_task(SignalConfig(signal="experiment2")).axis_scale == 1.0


@pytest.mark.parametrize(("given", "rate"), [({}, 1.2e-2 / 4), ({"adam_lr": 2e-3}, 2e-3), ({"kind": "adam"}, 1e-3)])
def test_the_first_weights_step_as_little_as_the_axis_is_long(given: dict[str, Any], rate: float) -> None:
    network = {"network": NetworkConfig("siren", hidden_dim=8)}
    config = SignalConfig(**SMALL | network, axis_scale=4.0, optimizer=OptimizerConfig(**given))
    task = SignalTask(config, waveform_of(np.sin(np.arange(640))))
    assert [group["lr"] for group in task.trainer().optimizer.param_groups if "betas" in group] == [rate]


@pytest.mark.parametrize(
    ("settings", "option"),
    [({}, "group-size"), ({"group_size": 9}, "group-size"), ({"groups_per_batch": 3}, "groups-")],
)
@pytest.mark.parametrize("grouping", ["nearby", "rows"])
def test_groups_that_do_not_fit_a_shape_name_the_option(settings: dict[str, int], option: str, grouping: Any) -> None:
    """More groups in a batch than there are is no way out."""
    cube = np.pad(np.ones((5, 5, 5)), 2) if "groups_per_batch" in settings else np.pad(np.ones((1, 1, 1)), 1)
    with pytest.raises(ValueError, match=rf"The option is --{option}"):
        fit_shape(cube, SDFConfig(**SMALL, grouping=grouping, **settings))


def test_a_box_is_not_cropped_to_what_has_no_surface(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    box = np.pad(np.ones((5, 6, 7)), 3)
    np.save(tmp_path / "box.npy", box)
    task = load_shape_task(SDFConfig(**SMALL, data=tmp_path / "box.npy", group_size=8))
    assert task.voxels.values.shape == box.shape
    assert len(task.truth.faces) > 0
    assert "fills its box" in caplog.text
    box[5, 5, 5] = 0
    np.save(tmp_path / "box.npy", box)
    assert load_shape_task(SDFConfig(**SMALL, data=tmp_path / "box.npy", group_size=8)).voxels.values.shape == (5, 6, 7)


def test_a_kernel_that_cannot_fit_is_refused_with_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "memory_of", lambda device: 2**24)
    wave = waveform_of(np.sin(np.arange(20_000)))
    with pytest.raises(ValueError, match=r"kernel of 2500 groups takes .* larger groups\. .*--interval-size"):
        SignalTask(SignalConfig(**SMALL, interval_size=8), wave)
    SignalTask(SignalConfig(**SMALL), wave)
    plain = SMALL | {"adjustment": TaskAdjustmentConfig(enabled=False)}
    SignalTask(SignalConfig(**plain, interval_size=8), wave)
    with pytest.raises(ValueError, match=r"kernel of 2500 groups .*--patch-size"):
        ImageTask(ImageConfig(**SMALL, patch_size=2), np.zeros((100, 100, 1), np.float32))
    cube = np.pad(np.ones((30, 30, 30)), 2)
    with pytest.raises(ValueError, match=r"kernel of 2000 groups .*--groups-per-batch"):
        fit_shape(cube, SDFConfig(**SMALL, group_size=8, groups_per_batch=2000))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 40, 50)), r"got \(3, 40, 50\)\. Is it \(C, H, W\)\?"),
        (np.zeros((8, 8, 3), complex), "complex128 and shape"),
        (torch.zeros(2, 3, 8, 8), r"got \(2, 3, 8, 8\)"),
    ],
)
def test_images_of_another_layout_are_refused(image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_image(image, ImageConfig(**SMALL))


def test_experiment_2_is_learned_sooner_with_the_adjustment() -> None:
    found = {}
    for enabled in (False, True):
        config = SignalConfig(
            signal="experiment2_relu",  # up to 30 Hz, what this small network can follow
            num_samples=512,
            normalise=False,
            max_num_iterations=300,
            steps_per_eval=300,
            network=NetworkConfig("siren", hidden_dim=64, hidden_layers=3, omega=5.0),
            adjustment=TaskAdjustmentConfig(enabled=enabled, end=14, representative="middle"),
            optimizer=OptimizerConfig("adam", 3e-4),
        )
        trainer = load_signal_task(config).trainer()
        trainer.train()
        found[enabled] = trainer.record.evaluations["mse"][1][-1]
    assert found[True] < 0.8 * found[False]
