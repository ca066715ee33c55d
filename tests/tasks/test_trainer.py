"""The training loop: what it learns, resuming bit for bit, best and last, schedules."""

from __future__ import annotations

import copy
import math
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iga_nerfstudio.adjustment import AxesAdjuster
from iga_nerfstudio.divergence import TrainingDiverged
from iga_nerfstudio.networks import NetworkConfig, build_network
from iga_nerfstudio.tasks import optimizers as optimizers_module
from iga_nerfstudio.tasks import setup as run_setup
from iga_nerfstudio.tasks.checkpoints import Checkpoints
from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig, ScheduleConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig, ImageTask, automatic_grouping, fit_image
from iga_nerfstudio.tasks.optimizers import balance_rule, build_optimizer, build_schedule, learning_rate
from iga_nerfstudio.tasks.setup import automatic_balance, chunk_size
from iga_nerfstudio.tasks.trainer import Trainer


def picture(height: int = 24, width: int = 32) -> np.ndarray:
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(9 * x + 4 * y), np.sin(30 * x * y), (x > y).astype(float)]
    return (0.5 + 0.5 * np.stack(waves, -1)).clip(0, 1).astype(np.float32)


def config(**changes: object) -> ImageConfig:
    """A run small enough for a test."""
    settings = ImageConfig(
        max_num_iterations=12,
        steps_per_log=3,
        steps_per_eval=5,
        steps_per_save=5,
        patch_size=4,
        network=NetworkConfig("pe", hidden_dim=16, hidden_layers=2, octaves=4),
        adjustment=TaskAdjustmentConfig(end=5),
    )
    return replace(settings, **changes)  # type: ignore[arg-type]


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [value.clone() for value in trainer.network.state_dict().values()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", ["muon", "adam", "soap", "sgd"])
@pytest.mark.parametrize("batches", [{}, {"patches_per_batch": 10}, {"grouping": "axes", "patch_size": None}])
@pytest.mark.parametrize("adjustment", [{"representative": "random"}, {"refresh_interval": 3}, {"enabled": False}])
def test_a_resumed_run_is_the_uninterrupted_one(
    tmp_path: Path, kind: str, batches: dict[str, object], adjustment: dict[str, object]
) -> None:
    if batches.get("grouping") == "axes":
        adjustment = {name: value for name, value in adjustment.items() if name != "representative"}
    settings = config(
        optimizer=OptimizerConfig(kind),  # type: ignore[arg-type]
        **batches,
        adjustment=replace(TaskAdjustmentConfig(end=5), **adjustment),  # type: ignore[arg-type]
    )
    whole = ImageTask(settings, picture()).trainer()
    whole.train()

    checkpoints = Checkpoints(tmp_path)
    first = ImageTask(settings, picture()).trainer(checkpoints)
    first.config = replace(settings, max_num_iterations=7)  # stops early; the schedule is that of the whole run
    first.train()
    second = ImageTask(settings, picture()).trainer(checkpoints)
    second.load_state_dict(checkpoints.load_latest())
    assert second.record.steps == 7
    second.train()
    assert same(weights(second), weights(whole))
    assert second.record.history["train/loss"] == whole.record.history["train/loss"]
    assert second.best.metrics == whole.best.metrics or second.best.step in (7, whole.best.step)
    assert second.adjuster.diagnostics.unadjusted == whole.adjuster.diagnostics.unadjusted


@pytest.mark.parametrize(
    ("given", "rates"),
    [({}, [4e-2, 1e-3]), ({"lr": 1e-2}, [1e-2, 1e-3]), ({"adam_lr": 5e-3}, [4e-2, 5e-3])],
)
def test_a_resumed_run_has_the_rates_that_it_began_with_or_that_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, float], rates: list[float]
) -> None:
    settings = config(schedule=ScheduleConfig("constant"), optimizer=OptimizerConfig("muon"))
    checkpoints = Checkpoints(tmp_path)
    ImageTask(settings, picture()).trainer(checkpoints).train()
    monkeypatch.setitem(optimizers_module._RATES, "muon", (0.3, 0.3, 0.3))  # what a later version might have
    monkeypatch.setattr(optimizers_module, "_ADAM_RATES", (0.3, 0.3, 0.3))
    longer = replace(settings, max_num_iterations=30, optimizer=replace(settings.optimizer, **given))
    trainer = ImageTask(longer, picture()).trainer(checkpoints)
    assert [group["lr"] for group in trainer.optimizer.param_groups] != rates
    trainer.load_state_dict(checkpoints.load_latest())
    assert [group["lr"] for group in trainer.optimizer.param_groups] == rates
    trainer.step()
    assert [group["lr"] for group in trainer.optimizer.param_groups] == rates


@pytest.mark.parametrize("changes", [{"enabled": False}, {"end": 0}])
def test_disabled_and_end_0_are_the_plain_run_bit_for_bit(changes: dict[str, object]) -> None:
    settings = config()
    plain = ImageTask(config(adjustment=TaskAdjustmentConfig(**changes)), picture())  # type: ignore[arg-type]
    trainer = plain.trainer()
    trainer.train()

    reference = ImageTask(settings, picture()).trainer()
    samples = plain.batches.next()
    for _ in range(settings.max_num_iterations):
        reference.optimizer.zero_grad()
        torch.nn.functional.mse_loss(reference.network(samples.inputs), samples.target).backward()
        reference.optimizer.step()
        reference.schedule.step()
    assert same(weights(trainer), weights(reference))


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    ImageTask(config(patches_per_batch=10), picture()).trainer().train()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_decides_everything() -> None:
    runs = []
    for seed in (1, 1, 2):
        trainer = ImageTask(config(machine=MachineConfig(seed=seed), patches_per_batch=10), picture()).trainer()
        trainer.train()
        runs.append(weights(trainer))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_a_compiled_network_gives_the_same_gradients() -> None:
    gradients = []
    for compiled in (False, True):
        machine = MachineConfig(compile=compiled, points_per_chunk=100)
        trainer = ImageTask(config(machine=machine), picture()).trainer()
        trainer.step()
        assert trainer.adjuster.diagnostics.adjusted
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.network.parameters() if p.grad is not None]))
    eager, compiled = gradients
    assert (compiled - eager).norm() < 1e-5 * eager.norm()


def test_best_is_a_copy_from_the_best_evaluation() -> None:
    values = iter([1.0, 5.0, 3.0, 2.0])
    task = ImageTask(config(), picture())
    trainer = task.trainer()
    seen: list[list[torch.Tensor]] = []

    def evaluate(_network: object) -> dict[str, float]:
        seen.append(weights(trainer))
        return {"psnr": next(values)}

    trainer._evaluate = evaluate
    trainer.train()
    assert trainer.record.evaluations["psnr"] == ([0, 5, 10, 12], [1.0, 5.0, 3.0, 2.0])
    assert trainer.best.step == 5
    assert same(list(trainer.best.weights.values()), seen[1])
    assert not same(weights(trainer), seen[1])


def test_a_fit_reports_last_and_best() -> None:
    fit = fit_image(picture(), config(max_num_iterations=100))
    assert fit.record.evaluations["psnr"][1][-1] == pytest.approx(fit.metrics["psnr"], abs=1e-3)
    assert fit.best_metrics["psnr"] >= fit.metrics["psnr"] - 1e-6
    assert fit.metrics["psnr"] > fit.record.evaluations["psnr"][1][0] + 3
    assert not fit.record.interrupted


def test_iga_learns_faster_than_the_plain_run_and_so_does_who_begins_near_the_mean() -> None:
    found = {}
    for first, enabled in product(("drawn", "mean"), (False, True)):
        settings = config(
            max_num_iterations=150,
            first_output=first,
            network=NetworkConfig("pe", hidden_dim=32, hidden_layers=2, octaves=4),
            optimizer=OptimizerConfig("adam", 5e-3),
            adjustment=TaskAdjustmentConfig(enabled=enabled, end=15),
        )
        found[first, enabled] = fit_image(picture(), settings).metrics["psnr"]
    assert found["drawn", True] > found["drawn", False] + 1.0
    assert found["mean", False] > found["drawn", False] + 1.0
    assert found["mean", True] > found["mean", False]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_best() -> None:
    trainer = ImageTask(config(optimizer=OptimizerConfig("sgd", 1e12), max_num_iterations=60), picture()).trainer()
    with pytest.raises(TrainingDiverged, match=r"--optimizer\.lr.*smaller learning rate"):
        trainer.train()
    assert trainer.best.step == 0
    assert math.isfinite(trainer.best.metrics["psnr"])


def test_a_failing_checkpoint_does_not_end_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = Checkpoints(tmp_path)
    real = checkpoints.save
    attempts = []

    def full_in_the_middle(step: int, state: dict[str, object]) -> Path:
        attempts.append(step)
        if step == 10:
            raise OSError(28, "No space left on device")
        return real(step, state)

    checkpoints.save = full_in_the_middle  # type: ignore[method-assign]
    trainer = ImageTask(config(), picture()).trainer(checkpoints)
    trainer.train()
    assert attempts == [5, 10, 12]
    assert "step 10 could not be written" in caplog.text
    assert "the one of step 5 is still there" in caplog.text
    assert [path.name for path in checkpoints.paths()] == ["step-000000012.ckpt"]


def test_a_longer_run_continues_with_its_own_schedule(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    ImageTask(config(), picture()).trainer(checkpoints).train()
    longer = ImageTask(config(max_num_iterations=60), picture()).trainer(checkpoints)
    longer.load_state_dict(checkpoints.load_latest())
    # Step 12 of 60 has nearly all of the rate left, step 12 of 12 had nothing of it.
    rate = learning_rate(OptimizerConfig(), NetworkConfig("pe"))
    assert longer.optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * (1 + math.cos(math.pi * 12 / 60)) * rate)
    longer.train()
    assert longer.record.steps == 60


def test_a_run_that_was_stopped_before_its_first_step_is_evaluated_there_once(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    first = ImageTask(config(), picture()).trainer(checkpoints)
    first.config = config(max_num_iterations=0)
    first.train()
    assert [path.name for path in checkpoints.paths()] == ["step-000000000.ckpt"]
    second = ImageTask(config(), picture()).trainer(checkpoints)
    second.load_state_dict(checkpoints.load_latest())
    steps = second.train().evaluations["psnr"][0]
    assert (steps[0], steps[-1]) == (0, 12)
    assert len(set(steps)) == len(steps)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    ImageTask(config(), picture()).trainer(checkpoints).train()
    other = ImageTask(config(network=NetworkConfig("pe", hidden_dim=8)), picture()).trainer()
    with pytest.raises(ValueError, match="another network, optimiser or data"):
        other.load_state_dict(checkpoints.load_latest())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_num_iterations": 0}, "max_num_iterations must be at least 1, got 0"),
        ({"steps_per_eval": 0}, "steps_per_eval"),
        ({"patch_size": 0}, "patch_size must be at least 1, got 0"),
        ({"patches_per_batch": 0}, "patches_per_batch must be at least 1, got 0"),
        ({"machine": MachineConfig(seed=10**30)}, r"machine.seed must lie between -\d+ and \d+, got 10{30}\."),
        ({"machine": MachineConfig(points_per_chunk=0)}, "points_per_chunk"),
        ({"network": NetworkConfig("pe", batch_norm=True)}, r"--adjustment\.enabled False"),
        ({"optimizer": OptimizerConfig(lr=-1.0)}, "must be a positive, finite learning rate"),
        ({"optimizer": OptimizerConfig("adam", momentum=0.9)}, "has no meaning for adam"),
        ({"optimizer": OptimizerConfig("soap", momentum=0.9)}, "has no meaning for soap"),
        ({"optimizer": OptimizerConfig("soap"), "network": NetworkConfig("complex_wire")}, "takes no complex param"),
        ({"optimizer": OptimizerConfig("sgd", momentum=1.0)}, r"\[0, 1\), got 1"),
        ({"schedule": ScheduleConfig(factor=0.0)}, "factor=0"),
        ({"schedule": ScheduleConfig(drop_at=2.0)}, "drop_at=2"),
        ({"adjustment": TaskAdjustmentConfig(end=48)}, "batch of 48 groups"),
        ({"patches_per_batch": 4}, "batch of 4 groups"),
        ({"patches_per_batch": 49, "adjustment": TaskAdjustmentConfig(enabled=False)}, "cannot be drawn from 48"),
        ({"patch_size": 25}, "larger than the grid"),
        ({"grouping": "axes"}, "patch_size=4 has no meaning with grouping=axes"),
        (
            {"grouping": "axes", "patch_size": None, "adjustment": TaskAdjustmentConfig(representative="middle")},
            "own rep",
        ),
        ({"grouping": "axes", "patch_size": None, "adjustment": TaskAdjustmentConfig(end=24)}, "Lower end to 23"),
        ({"render_scale": 0.0}, "render_scale"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageTask(config(**changes), picture()).trainer()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_device_is_refused() -> None:
    with pytest.raises(ValueError, match="torch finds no such device"):
        ImageTask(config(machine=MachineConfig(device_type="cuda")), picture())


def test_batch_norm_trains_plain() -> None:
    network = NetworkConfig("relu", hidden_dim=16, hidden_layers=2, batch_norm=True)
    fit = fit_image(picture(), config(network=network, adjustment=TaskAdjustmentConfig(enabled=False)))
    assert fit.metrics["psnr"] > 0


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (ScheduleConfig("constant"), [1, 1, 1, 1, 1]),
        (ScheduleConfig("cosine"), [1, (1 + 2**-0.5) / 2, 0.5, (1 - 2**-0.5) / 2, 0]),
        (ScheduleConfig("step", 0.1, 0.5), [1, 1, 0.1, 0.1, 0.1]),
        (ScheduleConfig("exponential", 0.1), [0.1 ** (i / 4) for i in range(5)]),
    ],
)
def test_schedules(schedule: ScheduleConfig, factors: list[float]) -> None:
    network = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(OptimizerConfig("adam", 2.0), NetworkConfig(), network)
    scheduler = build_schedule(schedule, optimizer, 4)
    for factor in factors:
        assert optimizer.param_groups[0]["lr"] == pytest.approx(2 * factor)
        optimizer.step()
        scheduler.step()


def test_rates_and_rules_suit_optimiser_and_network() -> None:
    assert learning_rate(OptimizerConfig("muon"), NetworkConfig("pe")) > learning_rate(
        OptimizerConfig("muon"), NetworkConfig("siren")
    )
    assert learning_rate(OptimizerConfig("adam", 0.25), NetworkConfig("siren")) == 0.25
    assert [balance_rule(OptimizerConfig(kind)) for kind in ("muon", "soap", "adam", "sgd")] == [
        "adam",
        "adam",
        "adam",
        "sgd",
    ]


@pytest.mark.parametrize(
    ("network", "settings", "of_muon", "adam_rate"),
    [
        ("relu", {}, 3, 5e-3),
        ("siren", {}, 3, 1.2e-2),
        ("siren", {"adam_lr": 2e-3}, 3, 2e-3),
        ("siren", {"first_layer": "muon", "adam_lr": 1e-3}, 4, 1e-3),
        ("pe", {}, 4, 1e-3),  # behind an encoding no layer has positions as they are
        ("complex_wire", {}, 0, 1e-3),
    ],
)
def test_muon_leaves_biases_and_what_positions_go_into_to_adam(network, settings, of_muon, adam_rate) -> None:
    config = NetworkConfig(network, 16)
    groups = build_optimizer(OptimizerConfig("muon", **settings), config, build_network(config, 2, 3)).param_groups
    assert [len(group["params"]) for group in groups if "betas" not in group] == ([of_muon] if of_muon else [])
    assert [group["lr"] for group in groups if "betas" in group] == [adam_rate]


def test_soap_without_its_package_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(ValueError, match="pip install pytorch-optimizer"):
        build_optimizer(OptimizerConfig("soap"), NetworkConfig(), torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("settings", "optimizer", "num_groups", "expected"),
    [
        # The paper's 20 of 384 groups in proportion, at most its 25; a part of the way under Muon alone.
        (TaskAdjustmentConfig(), "muon", 384, (20, 0.7)),
        (TaskAdjustmentConfig(), "adam", 384, (20, 1.0)),
        (TaskAdjustmentConfig(), "sgd", 5, (1, 1.0)),
        (TaskAdjustmentConfig(), "muon", 5000, (25, 0.7)),
        (TaskAdjustmentConfig(power=0.5), "muon", 48, (2, 0.5)),
        # The paper's way where the number is given.
        (TaskAdjustmentConfig(end=20), "muon", 384, (20, 1.0)),
        (TaskAdjustmentConfig(end=20, power=0.5), "muon", 384, (20, 0.5)),
    ],
)
def test_the_automatic_balance(
    settings: TaskAdjustmentConfig, optimizer: Any, num_groups: int, expected: tuple[int, float]
) -> None:
    chosen = config(adjustment=settings, optimizer=OptimizerConfig(optimizer))
    assert automatic_balance(chosen, num_groups) == expected


def test_the_automatic_balance_goes_by_the_groups_of_a_batch() -> None:
    own = config(adjustment=TaskAdjustmentConfig(), patch_size=2)
    whole = ImageTask(own, picture()).trainer().adjuster
    assert (whole.end, whole.power) == (10, 0.7)  # 24x32 pixels in patches of 2x2
    batch = ImageTask(replace(own, patches_per_batch=60), picture()).trainer().adjuster
    assert (batch.end, batch.power) == (3, 0.7)
    axes = ImageTask(replace(own, patch_size=None, grouping="axes"), picture()).trainer().adjuster
    assert (axes.end, axes.power) == (4, 0.7)  # of 24 rows


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "axes"),
        ({"adjustment": TaskAdjustmentConfig(end=23)}, "axes"),
        ({"adjustment": TaskAdjustmentConfig(enabled=False)}, "axes"),
        # What says that there are patches.
        ({"grouping": "patches"}, "patches"),
        ({"patch_size": 4}, "patches"),
        ({"patches_per_batch": 40}, "patches"),
        ({"adjustment": TaskAdjustmentConfig(end=5, representative="middle")}, "patches"),
        ({"adjustment": TaskAdjustmentConfig(end=5, num_representatives=2)}, "patches"),
        # Of 24 rows no more than 23 can be balanced.
        ({"adjustment": TaskAdjustmentConfig(end=24)}, "patches"),
        # 768 pixels.
        ({"machine": MachineConfig(points_per_chunk=768)}, "axes"),
        ({"machine": MachineConfig(points_per_chunk=767)}, "patches"),
    ],
)
def test_the_automatic_grouping(changes: dict[str, object], expected: str) -> None:
    task = ImageTask(replace(config(patch_size=None), **changes), picture())  # type: ignore[arg-type]
    assert task.resolved_settings()["grouping"] == expected
    assert isinstance(task.trainer().adjuster, AxesAdjuster) == (expected == "axes")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_an_image_is_adjusted_by_is_the_same_on_every_device(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_setup, "choose_device", lambda machine: torch.device(machine.device_type))
    own = ImageConfig(machine=MachineConfig(device_type=device), network=NetworkConfig(hidden_dim=256))
    assert chunk_size(own) == {"cpu": 131_072, "cuda": 524_288}[device]
    assert [automatic_grouping(own, 256, width) for width in (512, 513)] == ["axes", "patches"]
    assert [automatic_grouping(own, 256, width) for width in (24, 23, 2)] == ["axes", "patches", "patches"]
    narrow = replace(own, network=NetworkConfig(hidden_dim=16))
    assert chunk_size(narrow) == 4 * chunk_size(own)


def test_the_record_does_not_follow_later_training() -> None:
    trainer = ImageTask(config(), picture()).trainer()
    state = copy.deepcopy(trainer.state_dict())
    trainer.train()
    assert state["record"]["steps"] == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "largest_residual"),
        ({"machine": MachineConfig(points_per_chunk=100)}, "previous_residual"),
        # Other groups at every step: there is no step before.
        ({"machine": MachineConfig(points_per_chunk=100), "patches_per_batch": 40}, "largest_residual"),
        (
            {
                "machine": MachineConfig(points_per_chunk=100),
                "adjustment": TaskAdjustmentConfig(end=5, representative="middle"),
            },
            "middle",
        ),
    ],
)
def test_who_stands_for_a_group_where_that_is_left_open(changes: dict[str, object], expected: str) -> None:
    """A full batch in chunks goes by the step before: the residuals of now would take another forward pass."""
    trainer = ImageTask(config(**changes), picture()).trainer()
    assert trainer.adjuster.representative == expected  # type: ignore[union-attr]
    trainer.train()
    assert trainer.adjuster.diagnostics.steps_unadjusted == 0
