"""The model's training step: what is adjusted, what is left alone, and that plain means plain."""

from __future__ import annotations

import copy
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.utils import comms
from torch import Tensor
from torch.nn.functional import mse_loss

from iga_nerfstudio import SpectralTransform, layerwise_entk, leading_eigenpairs, sum_of_sigmoids
from iga_nerfstudio.adjustment import Chosen
from iga_nerfstudio.nerf.field import IGANerfField
from iga_nerfstudio.nerf.method_configs import iga_nerf_tiny
from iga_nerfstudio.nerf.ray_adjuster import shares_of
from tests.nerf.conftest import train


def step_gradients(pipeline) -> dict[str, Tensor]:
    """Gradients of the first training step, by parameter."""
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    pipeline.zero_grad()
    _, losses, _ = pipeline.get_train_loss_dict(0)
    sum(losses.values()).backward()
    return {name: p.grad.clone() for name, p in pipeline.model.named_parameters() if p.grad is not None}


def test_coarse_gradients_are_untouched_and_fine_ones_adjusted(make_pipeline):
    plain, adjusted = step_gradients(make_pipeline(enabled=False)), step_gradients(make_pipeline())
    assert plain.keys() == adjusted.keys()
    for name, gradient in plain.items():
        if name.startswith("field_coarse"):
            assert torch.equal(gradient, adjusted[name]), name
    fine = [name for name in plain if name.startswith("field_fine")]
    assert len(fine) == 16
    assert all(not torch.equal(plain[name], adjusted[name]) for name in fine if plain[name].any())


@pytest.mark.parametrize("off", [{"enabled": False}, {"end": 0}])
def test_switched_off_trains_bit_for_bit_alike(make_pipeline, off):
    """Whatever the adjustment's other settings are, off is off: same network, data, losses and weights."""
    reference, other = (
        make_pipeline(enabled=False),
        make_pipeline(representative="random", num_representatives=2, **off),
    )
    torch.manual_seed(3)
    random.seed(3)
    losses = train(reference, 5)
    torch.manual_seed(3)
    random.seed(3)
    assert train(other, 5) == losses
    for (name, a), (_, b) in zip(reference.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def callbacks_of(pipeline, steps: int) -> list[TrainingCallback]:
    """What nerfstudio's trainer is given by a model, for a training of so many steps."""
    trainer = SimpleNamespace(config=SimpleNamespace(max_num_iterations=steps))
    attributes = TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=pipeline, trainer=trainer)
    return pipeline.model.get_training_callbacks(attributes)


@pytest.mark.parametrize(("until", "adjusted"), [(1.0, 6), (0.5, 3), (0.4, 3), (0.01, 1)])
def test_a_share_of_the_training_is_adjusted_and_the_rest_is_plain(make_pipeline, until, adjusted):
    pipeline = make_pipeline(until=until)
    model = pipeline.model
    callbacks, seen = callbacks_of(pipeline, 6), []
    for step in range(6):
        for callback in callbacks:
            callback.run_callback_at_location(step, location=TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
        pipeline.get_train_loss_dict(step)
        seen.append(model.adjuster.diagnostics.step)
    assert seen == [min(step, adjusted) for step in range(1, 7)]
    if adjusted < 6:
        gradients = step_gradients(pipeline)
        model.adjuster.reconfigure(enabled=True)
        model.begin_step(5, 6)
        assert model.adjuster.enabled, "who switches it on again means it"
        changed = step_gradients(pipeline)
        assert any(not torch.equal(gradients[name], changed[name]) for name in gradients)


def test_a_run_taken_up_after_that_is_plain_and_one_made_longer_goes_on_being_adjusted(make_pipeline):
    for steps, adjusted in ((10, False), (20, True)):
        model = make_pipeline(until=0.5).model
        model.begin_step(7, steps)
        assert model.adjuster.enabled == adjusted


@pytest.mark.parametrize("until", [0.0, -0.5, 1.5, float("nan")])
def test_what_is_no_share_of_a_training_is_refused(make_pipeline, until):
    with pytest.raises(ValueError, match="share of the training"):
        make_pipeline(until=until)


def test_adjustment_takes_nothing_from_the_global_random_state(make_pipeline):
    states = []
    for enabled in (False, True):
        pipeline = make_pipeline(enabled=enabled, representative="random")
        step_gradients(pipeline)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.parametrize("granularity", ["ray", "sample"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kernel_of", ["samples", "visible"])
def test_step_gradient_is_equation_4_written_out(make_pipeline, granularity, count, kernel_of):
    """Double precision, a naive loop over everything: representatives, kernel, dense S_e, residual, backward."""
    floor = 0.03 if kernel_of == "visible" else 0.0
    pipeline = make_pipeline(granularity=granularity, num_representatives=count, kernel_of=kernel_of, floor=floor)
    model = pipeline.model.double()
    bundle, batch = pipeline.datamanager.next_train(0)
    batch["image"] = batch["image"].double()
    bundle = bundle.to("cpu")
    for name in ("origins", "directions", "pixel_area"):
        setattr(bundle, name, getattr(bundle, name).double())
    parameters = list(model.field_fine.parameters())
    model.sampler_uniform.train_stratified = model.sampler_pdf.train_stratified = False

    outputs = model(bundle)
    got = torch.autograd.grad(model.get_loss_dict(outputs, batch)["rgb_loss_fine"], parameters)

    model.adjuster.enabled = False
    bundle = model.collider(bundle)
    coarse = model.sampler_uniform(bundle)
    _, weights = model._weigh(model.field_coarse.raw_outputs(coarse), coarse)
    fine = model.sampler_pdf(bundle, coarse, weights)
    raw = model.field_fine.network(fine.frustums.get_positions(), fine.frustums.directions)
    colours, weights = model._weigh(raw, fine)
    rendered = model._render(colours, weights, fine)
    columns = []
    for ray in range(raw.shape[0]):
        heaviest = weights[ray, :, 0].argsort(descending=True, stable=True)[:count]
        share = weights[ray, heaviest, 0].detach()
        share = torch.ones(1, dtype=torch.float64) if count == 1 else share / share.sum()
        points = model.field_fine.network(
            fine.frustums.get_positions()[ray, heaviest], fine.frustums.directions[ray, heaviest]
        )
        scalar = (points.sigmoid().sum(1) / 2 * share).sum()
        if kernel_of == "visible":
            scalar = scalar * weights[ray].detach().sum()
        columns.append(torch.cat([g.flatten() for g in torch.autograd.grad(scalar, parameters)]))
    jacobian = torch.stack(columns, 1)
    values, vectors = torch.linalg.eigh(jacobian.T @ jacobian)
    values, vectors = values.flip(0), vectors.flip(1)
    factors = torch.ones_like(values)
    factors[:6] = (values[6] / values[:6]).clamp(min=model.config.adjustment.floor)
    transform = (vectors * factors) @ vectors.T
    carrier = rendered["rgb"] if granularity == "ray" else raw
    loss = mse_loss(rendered["rgb"], batch["image"])
    (residual,) = torch.autograd.grad(loss, carrier, retain_graph=True)
    adjusted = (transform @ residual.flatten(1)).reshape(residual.shape)
    expected = torch.autograd.grad(carrier, parameters, adjusted)
    for a, b in zip(got, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-9 * float(b.abs().max()) + 1e-14)


def test_mixed_precision_keeps_the_kernel_accurate(make_pipeline):
    """The layers run in bfloat16 under autocast; the kernel is that of the float32 network."""
    pipeline = make_pipeline()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, losses, _ = pipeline.get_train_loss_dict(0)
        loss = sum(losses.values())
    (1024.0 * loss).backward()
    diagnostics = pipeline.model.adjuster.diagnostics
    assert diagnostics.adjusted
    assert diagnostics.eigenvalues.dtype == torch.float32
    torch.manual_seed(0)
    network = pipeline.model.field_fine.network
    inputs = (torch.rand(30, 3), torch.rand(30, 3))
    exact = layerwise_entk(network, inputs, sum_of_sigmoids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layerwise_entk(network, inputs, sum_of_sigmoids), exact)


def test_training_learns_the_scene(make_pipeline):
    losses = train(make_pipeline(), 120)
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])


def test_rendering_and_evaluation_are_not_adjusted(make_pipeline):
    pipeline = make_pipeline()
    pipeline.get_eval_loss_dict(0)
    assert pipeline.model.adjuster.diagnostics.step == 0
    metrics, images = pipeline.get_eval_image_metrics_and_images(0)
    assert pipeline.model.adjuster.diagnostics.step == 0
    assert {"psnr", "ssim", "coarse_psnr"} <= metrics.keys()
    assert images["img"].shape == (24, 72, 3)


def test_outputs_have_the_names_that_viewer_and_renderer_expect(make_pipeline):
    pipeline = make_pipeline()
    pipeline.eval()
    outputs = pipeline.model.get_outputs_for_camera(pipeline.datamanager.eval_dataset.cameras[0:1])
    assert outputs["rgb"].shape == (24, 24, 3)
    assert outputs["depth"].shape == outputs["accumulation"].shape == (24, 24, 1)
    assert {"rgb_coarse", "depth_coarse", "accumulation_coarse"} <= outputs.keys()


def test_diagnostics_reach_the_metrics(make_pipeline):
    pipeline = make_pipeline()
    _, _, metrics = pipeline.get_train_loss_dict(0)
    assert {"iga/leading_eigenvalue", "iga/target_eigenvalue", "iga/effective_rank", "iga/steps_unadjusted"} <= set(
        metrics
    )
    assert metrics["iga/leading_eigenvalue"] >= metrics["iga/target_eigenvalue"] > 0
    _, _, metrics = make_pipeline(enabled=False).get_train_loss_dict(0)
    assert not any(name.startswith("iga/") for name in metrics)


def test_an_all_background_batch_trains_on(make_pipeline):
    """No density anywhere: every weight is zero, the first sample stands for its ray, nothing breaks."""
    pipeline = make_pipeline()
    for field in (pipeline.model.field_coarse, pipeline.model.field_fine):
        field.network.density.bias.data.fill_(-1e3)
    bundle, batch = pipeline.datamanager.next_train(0)
    batch["image"] = torch.ones_like(batch["image"])
    outputs = pipeline.model(bundle)
    assert torch.equal(outputs["rgb"], torch.ones_like(outputs["rgb"]))
    sum(pipeline.model.get_loss_dict(outputs, batch).values()).backward()
    gradients = [p.grad for p in pipeline.model.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)


def test_a_nan_in_the_fine_field_is_reported_and_the_run_goes_on(make_pipeline, caplog):
    pipeline = make_pipeline()
    pipeline.model.field_fine.network.trunk[0].weight.data[0, 0] = torch.nan
    _, losses, _ = pipeline.get_train_loss_dict(0)
    sum(losses.values()).backward()
    assert pipeline.model.adjuster.diagnostics.unadjusted["kernel_not_finite"] == 1
    assert "the kernel holds NaN or infinite entries" in caplog.text


def test_checkpoints_hold_the_adjuster_and_nothing_of_lpips(make_pipeline, tmp_path):
    pipeline = make_pipeline()
    train(pipeline, 3)
    pipeline.get_eval_image_metrics_and_images(0)
    state = pipeline.state_dict()
    assert not any("lpips" in key or "alexnet" in key for key in state)
    torch.save(state, tmp_path / "pipeline.pt")
    other = make_pipeline(seed=9)
    other.load_pipeline(torch.load(tmp_path / "pipeline.pt", weights_only=True), step=3)
    assert other.model.adjuster.diagnostics.step == 3
    plain = make_pipeline(seed=9, enabled=False)
    plain.load_pipeline(torch.load(tmp_path / "pipeline.pt", weights_only=True), step=3)
    for a, b in zip(pipeline.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_representative_is_the_heaviest_sample(make_pipeline, monkeypatch):
    pipeline = make_pipeline()
    seen = {}
    model = pipeline.model
    original = model.adjuster._entk
    monkeypatch.setattr(
        model.adjuster, "_entk", lambda inputs, *others: seen.update(x=inputs) or original(inputs, *others)
    )
    bundle, _ = pipeline.datamanager.next_train(0)
    samples = {}
    render = model._render

    def spy(colours, weights, ray_samples):
        samples["fine"], samples["weights"] = ray_samples, weights
        return render(colours, weights, ray_samples)

    monkeypatch.setattr(model, "_render", spy)
    model(bundle)
    positions = samples["fine"].frustums.get_positions()
    heaviest = samples["weights"][..., 0].argmax(1)
    assert torch.equal(seen["x"][0], positions[torch.arange(len(heaviest)), heaviest])


def test_kernel_of_the_field_and_its_transform_are_usable_by_hand(make_pipeline):
    network = make_pipeline().model.field_fine.network
    inputs = (torch.rand(20, 3), torch.rand(20, 3))
    values, vectors = leading_eigenpairs(layerwise_entk(network, inputs), 6)
    assert SpectralTransform.from_eigenpairs(values, vectors, end=5).apply(torch.rand(20, 3)).shape == (20, 3)
    assert IGANerfField.activate(network(*inputs))[0].shape == (20, 3)


@pytest.mark.parametrize("background", ["white", "black", "random", "last_sample"])
@pytest.mark.parametrize("count", [17, 3, 1])
def test_a_kernel_of_rays_is_that_of_their_rendered_colours(make_pipeline, background, count):
    """With all 17 samples exactly; with fewer, that of colours whose other samples' outputs are held fixed."""
    pipeline = make_pipeline(rays=10, kernel_of="rays", num_representatives=count, eigen_method="dense")
    model = pipeline.model
    model.config.background_color = background
    model.renderer_rgb.background_color = background
    seen = {}
    combine = model.sampler_pdf.forward
    model.sampler_pdf.forward = lambda *args, **settings: seen.setdefault("samples", combine(*args, **settings))
    step_gradients(pipeline)
    samples = seen["samples"]
    raw = model.field_fine.raw_outputs(samples)
    weights = samples.get_weights(IGANerfField.activate(raw)[1])[..., 0]
    kept = torch.zeros_like(weights).scatter_(1, weights.topk(count, dim=1).indices, 1.0)[..., None]
    colours, densities = IGANerfField.activate(kept * raw + (1 - kept) * raw.detach())
    shown = "black" if background == "random" else background
    rays = model.renderer_rgb.combine_rgb(colours, samples.get_weights(densities), shown).sum(-1) / 3**0.5
    parameters = list(model.field_fine.parameters())
    jacobian = torch.stack(
        [torch.cat([g.flatten() for g in torch.autograd.grad(ray, parameters, retain_graph=True)]) for ray in rays]
    ).double()
    expected = torch.linalg.eigvalsh(jacobian @ jacobian.T).flip(0)[:7]
    assert torch.allclose(model.adjuster.diagnostics.eigenvalues.double(), expected, rtol=1e-3, atol=1e-6 * expected[0])


@pytest.mark.parametrize("count", [1, 2])
def test_rays_that_see_nothing_have_no_share_and_no_others_have_more_than_their_opacity(count):
    weights = torch.tensor([[0.004, 0.005, 0.0], [0.4, 0.5, 0.0], [0.0, 0.0, 0.0], [0.01, 0.0, 0.0]])
    opacity = torch.tensor([0.0, 0.9, 0.0, 0.01])
    own = None if count == 1 else torch.tensor([[0.5, 0.5]]).expand(4, 2)
    chosen = Chosen(torch.zeros(4, count, dtype=torch.long), own)
    shares = shares_of("visible", chosen, weights)
    assert torch.allclose(shares, opacity if count == 1 else 0.5 * opacity[:, None].expand(4, 2))
    assert shares_of("samples", chosen, weights) is own


@pytest.mark.parametrize("main", [True, False])
def test_of_several_processes_one_says_that_the_adjustment_is_done(make_pipeline, monkeypatch, capsys, main):
    model = make_pipeline(until=0.5).model
    monkeypatch.setattr(comms, "is_main_process", lambda: main)
    model.begin_step(5, 10)
    assert not model.adjuster.enabled
    assert ("50% of the training is adjusted" in capsys.readouterr().out) == main


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [("num_layers", 1, 2), ("hidden_dim", 0, 1), ("num_coarse_samples", 0, 1), ("eval_num_rays_per_chunk", 0, 1)],
)
def test_counts_that_leave_nothing_are_refused(scene, name, value, least):
    config = copy.deepcopy(iga_nerf_tiny.config.pipeline.model)
    setattr(config, name, value)
    option = f"--pipeline.model.{name.replace('_', '-')}"
    with pytest.raises(ValueError, match=rf"^{option} must be at least {least}, but it is {value}"):
        config.setup(scene_box=None, num_train_data=1)


def test_rays_without_planes_are_refused(make_pipeline):
    pipeline = make_pipeline()
    pipeline.model.collider = None
    with pytest.raises(ValueError, match=r"--pipeline\.model\.enable-collider is False"):
        pipeline.get_train_loss_dict(0)


def test_a_batch_has_rays(make_pipeline):
    with pytest.raises(ValueError, match="train-num-rays-per-batch must be at least 1, but it is 0"):
        make_pipeline(rays=0, enabled=False)


def test_a_kernel_of_rays_does_not_go_with_adjusted_samples(make_pipeline):
    with pytest.raises(ValueError, match="granularity ray"):
        make_pipeline(kernel_of="rays", granularity="sample")
