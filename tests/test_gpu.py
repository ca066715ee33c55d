"""On a CUDA GPU: what the other tests say of a CPU. They need one; CI has none."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from iga_nerfstudio import InductiveGradientAdjuster, Patches, layerwise_entk, leading_eigenpairs, per_sample_entk
from iga_nerfstudio.adjustment.eigen import TOLERANCE
from iga_nerfstudio.nerf.commands import run_command
from iga_nerfstudio.networks import NetworkConfig
from iga_nerfstudio.tasks.config import MachineConfig, OptimizerConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig, fit_image
from iga_nerfstudio.tasks.signal import SignalConfig, fit_signal
from tests.tasks.test_trainer import picture

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
CUDA = MachineConfig(device_type="cuda")


def network(width: int = 64) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3)]
    return nn.Sequential(*layers)


def adjusted_gradient(net: nn.Module, coordinates: torch.Tensor, target: torch.Tensor, **settings: Any) -> torch.Tensor:
    adjuster = InductiveGradientAdjuster(net, Patches((32, 32), 2), end=20, **settings)
    loss = mse_loss(adjuster(net(coordinates), coordinates, target), target)
    found = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])
    assert adjuster.diagnostics.steps_unadjusted == 0
    return found


@pytest.mark.parametrize("eigen_method", ["dense", "subspace"])
@pytest.mark.parametrize("tf32", [False, True])
def test_a_step_is_that_of_the_cpu_in_float64(eigen_method: str, tf32: bool) -> None:
    axis = torch.linspace(-1, 1, 32)
    coordinates = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    target = torch.rand(len(coordinates), 3, generator=torch.Generator().manual_seed(1))
    net = network()
    slow = {"kernel": "per_sample", "eigen_method": "dense"}
    expected = adjusted_gradient(copy.deepcopy(net).double(), coordinates.double(), target.double(), **slow)
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        got = adjusted_gradient(net.cuda(), coordinates.cuda(), target.cuda(), eigen_method=eigen_method)
    finally:
        torch.set_float32_matmul_precision("highest")
    error = (got.cpu().double() - expected).norm() / expected.norm()
    # What the transform takes away is a hundred times what it leaves. A GPU's full decomposition is the less exact one,
    # and residuals are as exact as the prediction.
    assert error < (1e-1 if tf32 else 2e-2 if eigen_method == "dense" else 2e-3)


@pytest.mark.parametrize("n", [64, 300, 1024])
def test_kernel_and_eigenpairs_are_those_of_the_cpu(n: int) -> None:
    net, x = network(), torch.rand(n, 2, generator=torch.Generator().manual_seed(2))
    expected = per_sample_entk(copy.deepcopy(net).double(), x.double())
    kernel = layerwise_entk(net.cuda(), x.cuda())
    assert (kernel.cpu().double() - expected).norm() / expected.norm() < 1e-5
    values, vectors = leading_eigenpairs(kernel, 6)
    assert torch.allclose(values.cpu().double(), torch.linalg.eigvalsh(expected).flip(0)[:6], rtol=1e-3)
    residuals = (kernel @ vectors - vectors * values).norm(dim=0)
    assert (residuals <= (2 * TOLERANCE * values).clamp_min(n * 1e-7 * values[0])).all()


def test_replayed_kernels_are_those_of_the_weights_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    """A CUDA graph reads parameters where they are; other shapes and settings are recorded anew."""
    net = network().cuda()
    slow = copy.deepcopy(net)
    adjusters = [
        InductiveGradientAdjuster(one, Patches((32, 32), 2), end=10, cuda_graph=graph)
        for one, graph in ((net, True), (slow, False))
    ]
    optimisers = [torch.optim.Adam(one.parameters(), 1e-2) for one in (net, slow)]
    coordinates = torch.rand(1024, 2, generator=torch.Generator().manual_seed(3)).cuda()
    target = torch.rand(1024, 3, generator=torch.Generator().manual_seed(4)).cuda()
    for step in range(12):
        found = []
        for one, adjuster, optimiser in zip((net, slow), adjusters, optimisers, strict=True):
            if step == 6:
                adjuster.reconfigure(end=5)
            grouping = Patches((32, 32), 4) if step in (8, 9) else None
            optimiser.zero_grad()
            loss = mse_loss(adjuster(one(coordinates), coordinates, target, grouping=grouping), target)
            loss.backward()
            optimiser.step()
            found.append(adjuster.diagnostics.eigenvalues.clone())
            assert adjuster.diagnostics.adjusted
        assert torch.allclose(*found, rtol=1e-2)
        slow.load_state_dict(net.state_dict())
    assert adjusters[0]._replay.replayed
    assert adjusters[0]._replay_of_look.replayed
    assert not caplog.records


@pytest.mark.parametrize("kind", ["adam", "muon"])
@pytest.mark.parametrize("grouping", [{"patch_size": 4}, {"grouping": "axes"}])
def test_an_image_is_learned_sooner(kind: str, grouping: dict) -> None:
    network = NetworkConfig("pe", hidden_dim=64, hidden_layers=3)
    optimizer = OptimizerConfig(kind=kind)
    settings = ImageConfig(max_num_iterations=300, network=network, optimizer=optimizer, machine=CUDA, **grouping)
    plain = replace(settings, adjustment=TaskAdjustmentConfig(enabled=False))
    fits = [fit_image(picture(48, 64), config) for config in (settings, plain)]
    assert fits[0].metrics["psnr"] > fits[1].metrics["psnr"] > 15
    assert next(fits[0].model.parameters()).is_cuda


def test_a_signal_is_learned() -> None:
    settings = SignalConfig(max_num_iterations=100, network=NetworkConfig("relu", hidden_dim=64), machine=CUDA)
    fit = fit_signal(np.sin(np.linspace(0, 40, 512, dtype=np.float32)), settings)
    assert np.isfinite(list(fit.metrics.values())).all()


@pytest.mark.parametrize("method", ["iga-nerf-tiny", "iga-nerf", "iga-nerf-muon", "iga-nerfacto"])
@pytest.mark.parametrize("mixed", [False, True])
def test_ns_train_goes_on_where_it_stopped(method: str, mixed: bool, scene: Path, tmp_path: Path) -> None:
    """A GPU is what ns-train takes unless told otherwise."""
    run = tmp_path / "demo" / method / "run"
    options = ("--data", scene, "--output-dir", tmp_path, "--experiment-name", "demo", "--timestamp", "run")
    options += ("--vis", "tensorboard", "--mixed-precision", mixed, "--pipeline.model.eval-num-rays-per-chunk", 4096)
    options += ("--steps-per-eval-all-images", 1000, "--steps-per-eval-image", 1000, "--steps-per-eval-batch", 1000)
    options += ("--pipeline.model.adjustment.until", 1)
    parser = ("iga-blender", "--downscale-factor", 1)
    run_command("ns-train", method, *options, "--max-num-iterations", 20, *parser, log=tmp_path / "first.log")
    more = ("--max-num-iterations", 30, "--load-dir", run / "nerfstudio_models")
    run_command("ns-train", method, *options, *more, *parser, log=tmp_path / "second.log")
    checkpoint = torch.load(run / "nerfstudio_models" / "step-000000029.ckpt", map_location="cpu", weights_only=False)
    assert all(value.isfinite().all() for value in checkpoint["pipeline"].values() if torch.is_tensor(value))
    assert "IGA left the gradient" not in (tmp_path / "second.log").read_text()
    run_command(
        "ns-eval", "--load-config", run / "config.yml", "--output-path", tmp_path / "e.json", log=tmp_path / "e"
    )


def test_the_report_of_a_fault_names_the_gpu() -> None:
    told = subprocess.run([sys.executable, "-m", "iga_nerfstudio"], capture_output=True, text=True, check=True).stdout
    assert torch.cuda.get_device_name() in told
