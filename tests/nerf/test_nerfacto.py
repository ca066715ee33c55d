"""iga-nerfacto: the hash table's kernel, what is adjusted, and that switched off it is nerfacto."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.configs.method_configs import method_configs
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.field_components.encodings import HashEncoding
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.models.nerfacto import NerfactoModelConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline
from torch import Tensor, nn

from iga_nerfstudio import layerwise_entk, sum_of_logits
from iga_nerfstudio.adjustment import UnsupportedNetworkError
from iga_nerfstudio.adjustment import kernel as kernel_module
from iga_nerfstudio.nerf import nerfacto as nerfacto_module
from iga_nerfstudio.nerf.dataparser import IGABlenderDataParserConfig
from iga_nerfstudio.nerf.hash_encoding import corners
from iga_nerfstudio.nerf.method_configs import iga_nerfacto
from iga_nerfstudio.nerf.nerfacto import IGANerfactoModelConfig, NerfactoAdjustmentConfig
from iga_nerfstudio.nerf.nerfstudio_fixes.without_lpips import without_lpips
from tests.adjustment.test_kernel import naive_entk, relative

PipelineFactory = Callable[..., VanillaPipeline]
SMALL: dict[str, Any] = {
    "num_levels": 4,
    "max_res": 64,
    "log2_hashmap_size": 8,
    "hidden_dim": 16,
    "hidden_dim_color": 16,
    "num_proposal_samples_per_ray": (16, 12),
    "num_nerf_samples_per_ray": 8,
    "average_init_density": 0.01,
    "implementation": "torch",
    "background_color": "white",
    "near_plane": 2.0,
    "far_plane": 6.0,
    "disable_scene_contraction": True,
    "proposal_initial_sampler": "uniform",
}


def encoding(log2_hashmap_size: int = 5, dtype: torch.dtype = torch.float64) -> HashEncoding:
    """A table so small that its finer levels collide all over."""
    torch.manual_seed(0)
    layer = HashEncoding(4, 4, 32, log2_hashmap_size, hash_init_scale=1.0, implementation="torch")
    return layer.to(dtype)


def positions(n: int, *points: int) -> Tensor:
    """Some of them in the same cells, one on a corner."""
    x = torch.rand(n, *points, 3, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    x[: n // 3] = x[:1] + 0.02 * x[: n // 3]
    x[-1] = 0.25
    return x


def test_corners_interpolate_to_the_encoding() -> None:
    layer, x = encoding(), positions(40)
    rows, weights = corners(layer, x)
    assert rows.shape == weights.shape == (40, 4, 8)
    assert torch.allclose(weights.sum(-1), torch.ones(40, 4, dtype=torch.float64))
    assert torch.allclose((layer.hash_table[rows] * weights[..., None]).sum(-2).flatten(1), layer(x))


@pytest.mark.parametrize("points", [(), (3,)])
@pytest.mark.parametrize("log2_hashmap_size", [3, 5, 12])
@pytest.mark.parametrize("chunk", [1 << 26, 50])
def test_the_tables_kernel_is_that_of_autograd(
    points: tuple[int, ...], log2_hashmap_size: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_module, "GRAM_CHUNK", chunk)
    layer = encoding(log2_hashmap_size)
    network = nn.Sequential(layer, nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 4)).double()
    x = positions(15, *points)
    shares = torch.rand(15, 3, dtype=torch.float64) if points else None
    expected = naive_entk(network, (x,), sum_of_logits, shares)
    assert relative(layerwise_entk(network, x, sum_of_logits, shares), expected) < 1e-12
    without_table = network.requires_grad_(True)
    layer.requires_grad_(False)
    assert relative(layerwise_entk(without_table, x, sum_of_logits, shares), expected) > 1e-3  # so the table matters


def test_a_table_of_tinycudanns_is_refused() -> None:
    layer = encoding()
    layer.tcnn_encoding = lambda x: layer.pytorch_fwd(x)
    with pytest.raises(UnsupportedNetworkError, match="torch's encoding only"):
        layerwise_entk(layer, positions(5))


@pytest.fixture
def make_pipeline(scene: Path) -> PipelineFactory:
    """A small nerfacto's pipeline on the tiny scene: nerfstudio's own, or ours with an adjustment."""

    def make(ours: bool = True, rays: int = 48, hash_table: bool = False, **adjustment: Any) -> VanillaPipeline:
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        config: Any = copy.deepcopy(iga_nerfacto.config.pipeline)
        config.datamanager.data = scene
        config.datamanager.dataparser = IGABlenderDataParserConfig()
        config.datamanager.train_num_rays_per_batch = rays
        proposal = {"hidden_dim": 8, "log2_hashmap_size": 6, "num_levels": 3, "max_res": 32, "use_linear": False}
        settings = SMALL | {"proposal_net_args_list": [proposal, proposal]}
        if ours:
            chosen = NerfactoAdjustmentConfig(end=6, hash_table=hash_table, **adjustment)
            config.model = IGANerfactoModelConfig(**settings, adjustment=chosen)
        else:
            config.model = NerfactoModelConfig(**settings)
        pipeline = config.setup(device="cpu", test_mode="val")
        pipeline.train()
        return pipeline

    return make


def train(pipeline: VanillaPipeline, steps: int) -> list[float]:
    torch.manual_seed(5)
    random.seed(5)
    groups = pipeline.get_param_groups()
    optimisers = Optimizers({name: iga_nerfacto.config.optimizers[name] for name in groups}, groups)
    losses = []
    for step in range(steps):
        optimisers.zero_grad_all()
        _, found, _ = pipeline.get_train_loss_dict(step)
        sum(found.values()).backward()
        optimisers.optimizer_step_all()
        optimisers.scheduler_step_all(step)
        losses.append(found["rgb_loss"].item())
    return losses


@pytest.mark.parametrize("off", [{"enabled": False}, {"end": 0}])
def test_switched_off_it_is_nerfacto_bit_for_bit(make_pipeline: PipelineFactory, off: dict[str, Any]) -> None:
    with without_lpips():
        reference = make_pipeline(ours=False)
    other = make_pipeline(**off) if "end" not in off else make_pipeline()
    if "end" in off:
        other.model.adjuster.end = 0
    assert train(other, 4) == train(reference, 4)
    for (name, a), (_, b) in zip(reference.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def first_step(pipeline: VanillaPipeline) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The first training step's outputs, and gradients by parameter."""
    random.seed(1)
    torch.manual_seed(1)
    pipeline.zero_grad()
    outputs, losses, _ = pipeline.get_train_loss_dict(0)
    sum(losses.values()).backward()
    return outputs, {name: p.grad.clone() for name, p in pipeline.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("hash_table", [False, True])
def test_the_field_is_adjusted_and_proposals_are_not(make_pipeline: PipelineFactory, hash_table: bool) -> None:
    _, plain = first_step(make_pipeline(enabled=False))
    pipeline = make_pipeline(hash_table=hash_table)
    _, adjusted = first_step(pipeline)
    assert pipeline.model.adjuster.diagnostics.adjusted
    assert plain.keys() == adjusted.keys()
    for name, gradient in plain.items():
        if name.startswith("proposal_networks"):
            assert torch.equal(gradient, adjusted[name]), name
        if name.startswith(("field.mlp_base", "field.mlp_head")) and gradient.any():
            assert not torch.equal(gradient, adjusted[name]), name


@pytest.mark.parametrize("hash_table", [False, True])
@pytest.mark.parametrize("readout", ["activated", "logits", "colours"])
def test_the_kernel_is_that_of_the_field_at_the_heaviest_samples(
    make_pipeline: PipelineFactory, hash_table: bool, readout: str
) -> None:
    """Eigenvalues against gradients through nerfacto's own field, one sample at a time."""
    pipeline = make_pipeline(rays=20, hash_table=hash_table, readout=readout, eigen_method="dense")
    field = pipeline.model.field
    with torch.no_grad():
        for p in field.mlp_base.parameters():
            p.mul_(20 if p.shape[-1] == 2 else 1.5)  # a table of some size, or its features are all but zero
    outputs, _ = first_step(pipeline)
    samples, weights = outputs["ray_samples_list"][-1], outputs["weights_list"][-1]
    slots = weights[..., 0].argmax(1)
    encoder, base = field.mlp_base.model
    parameters = [*base.parameters(), *field.mlp_head.parameters(), *(encoder.parameters() if hash_table else ())]
    columns = []
    for ray, slot in enumerate(slots):
        one = samples[ray : ray + 1, slot : slot + 1]
        one.camera_indices = one.camera_indices.expand(1, 1, 1)
        _, geometry = field.get_density(one)
        colour = field.get_outputs(one, geometry)[FieldHeadNames.RGB].squeeze()
        raw = field._density_before_activation.squeeze()
        scalar = {
            "activated": (colour.sum() + raw.sigmoid()) / 2,
            "logits": (colour.logit().sum() + raw) / 2,
            "colours": colour.sum() / 3**0.5,
        }[readout]
        found = torch.autograd.grad(scalar, parameters, allow_unused=True)
        columns.append(
            torch.cat(
                [(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(found, parameters, strict=True)]
            )
        )
    jacobian = torch.stack(columns).double()
    expected = torch.linalg.eigvalsh(jacobian @ jacobian.T).flip(0)[:7]
    assert torch.allclose(pipeline.model.adjuster.diagnostics.eigenvalues.double(), expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("hash_table", [False, True])
def test_training_learns(make_pipeline: PipelineFactory, hash_table: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a table and samples enough for the scene."""
    larger = {"num_levels": 8, "max_res": 256, "log2_hashmap_size": 14, "num_nerf_samples_per_ray": 24}
    for name, value in (larger | {"num_proposal_samples_per_ray": (32, 24)}).items():
        monkeypatch.setitem(SMALL, name, value)
    pipeline = make_pipeline(rays=128, hash_table=hash_table)
    losses = train(pipeline, 60)
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    assert pipeline.model.adjuster.diagnostics.steps_unadjusted == 0


def test_layers_made_visible_for_tinycudann_work_alike(make_pipeline: PipelineFactory) -> None:
    """Without tinycudann its encoding falls back to torch's, so that the new layers can be run."""
    pipeline = make_pipeline()
    field = pipeline.model.field
    shapes = [p.shape for p in field.parameters()]
    nerfacto_module._show_layers(field)
    assert [p.shape for p in field.parameters()] == shapes
    outputs, _, _ = pipeline.get_train_loss_dict(0)
    assert outputs["rgb"].isfinite().all()


def test_a_table_that_the_kernel_cannot_reach_is_refused(
    make_pipeline: PipelineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nerfacto_module, "TCNN_EXISTS", True)
    monkeypatch.setitem(SMALL, "implementation", "tcnn")
    with pytest.raises(ValueError, match=r"implementation torch, or .*hash_table False"):
        make_pipeline(hash_table=True)


def test_what_a_scene_wants_is_said_before_training(
    make_pipeline: PipelineFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(SMALL, "background_color", "last_sample")
    pipeline = make_pipeline()
    assert not caplog.text
    attributes = TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=pipeline, trainer=None)
    pipeline.model.get_training_callbacks(attributes)
    assert "do not fit this scene. Add --pipeline.model.object-on-white True." in caplog.text


def test_settings_are_nerfactos() -> None:
    ours, theirs = iga_nerfacto.config, method_configs["nerfacto"]
    for name in ("max_num_iterations", "steps_per_save", "steps_per_eval_batch", "mixed_precision"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("train_num_rays_per_batch", "eval_num_rays_per_batch"):
        assert getattr(ours.pipeline.datamanager, name) == getattr(theirs.pipeline.datamanager, name), name
    for name, value in vars(theirs.pipeline.model).items():
        if name != "_target":
            assert getattr(ours.pipeline.model, name) == value, name
    assert ours.optimizers.keys() == theirs.optimizers.keys()
    for name in ours.optimizers:
        assert vars(ours.optimizers[name]["optimizer"]) == vars(theirs.optimizers[name]["optimizer"])
        rates = []
        for config in (ours, theirs):
            settings = config.optimizers[name]
            optimiser = settings["optimizer"].setup([nn.Parameter(torch.zeros(1))])
            schedule = settings["scheduler"].setup().get_scheduler(optimiser, settings["optimizer"].lr)
            rates.append([schedule.base_lrs[0] * schedule.lr_lambdas[0](step) for step in (0, 700, 5_000, 30_000)])
        assert rates[0] == pytest.approx(rates[1], rel=1e-9)
