"""NeRF with Inductive Gradient Adjustment: every ray is a group, its heaviest sample stands for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from nerfstudio.cameras.rays import RayBundle, RaySamples
from nerfstudio.model_components.ray_samplers import PDFSampler, UniformSampler
from nerfstudio.model_components.renderers import AccumulationRenderer, DepthRenderer, RGBRenderer
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.utils import colormaps, misc
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import mse_loss

from iga_nerfstudio.adjustment import SpectralTransform
from iga_nerfstudio.arguments import whole_number
from iga_nerfstudio.nerf.field import IGANerfField
from iga_nerfstudio.nerf.near_far import TRAINING_POSES, SceneBounds, TrainedSpaceCollider, find_bounds, set_bounds
from iga_nerfstudio.nerf.ray_adjuster import (
    AdjustedRays,
    RayAdjustmentConfig,
    build_ray_adjuster,
    diagnostic_metrics,
    shares_of,
)
from iga_nerfstudio.networks import NeRFMLP


@dataclass
class AdjustmentConfig(RayAdjustmentConfig):
    """How the fine field's gradient is adjusted."""

    granularity: Literal["ray", "sample"] = "ray"
    """What is adjusted: the gradient of the rendered ray colours, or of every sample's raw outputs."""
    floor: float = field(default=0.03, metadata={"earlier": 0.0})
    """No balanced pattern of the residual is slowed to less than that share of its speed, in [0, 1). 0 is the paper's:
    in short trainings and at small learning rates it finds the shape of a scene late."""
    until: float = field(default=0.25, metadata={"earlier": 1.0})
    """How much of the training is adjusted, from its beginning on: a share of its steps, in (0, 1]. The rest is plain
    training, at its price: what was begun sooner stays ahead, and long trainings end higher than by an adjustment to
    their end, which is 1, the paper's."""
    kernel_of: Literal["samples", "visible", "rays"] = "visible"  # type: ignore[assignment]
    """What the kernel is of: the representatives' readouts times the opacity of their rays ("visible"), by which rays
    that see nothing have no part in it, and what teaches them emptiness is left as it is; the readouts alone, as in the
    paper ("samples"), which on scenes of little but empty space does harm; or the rendered colours of the rays
    ("rays"), through the samples that represent them, exactly so with num_representatives as large as a ray has
    samples: the readout is then left aside."""


@dataclass
class IGANerfModelConfig(ModelConfig):
    """The original NeRF, trained with Inductive Gradient Adjustment."""

    _target: type = field(default_factory=lambda: IGANerfModel)
    """Target class to instantiate."""
    adjustment: AdjustmentConfig = field(default_factory=AdjustmentConfig)
    """How the fine field's gradient is adjusted."""
    collider_params: dict[str, float] | None = None
    """Between which distances from its camera a ray is sampled: near_plane N far_plane F. If not given, 2 and 6 on a
    Blender scene, and on others what their cameras ask for."""
    num_coarse_samples: int = 64
    """Samples per ray in the coarse field."""
    num_importance_samples: int = 128
    """Further samples per ray in the fine field, which sees the coarse ones too."""
    num_layers: int = 8
    """Layers of each field's trunk."""
    hidden_dim: int = 256
    """Width of each field's trunk."""
    skip_layer: int = 4
    """Trunk layer, counted from 0, whose output the encoded position is joined to; the last but one of a trunk that is
    not that deep."""
    view_dim: int = 128
    """Width of each field's view branch."""
    position_octaves: int = 10
    """Octaves of the encoding of positions."""
    direction_octaves: int = 4
    """Octaves of the encoding of directions."""
    initial_density: float = 0.1
    """Starting bias of the density heads. A small positive one keeps ReLU densities from starting, and staying, at zero
    everywhere, as happens to some seeds without it."""
    background_color: Literal["random", "last_sample", "black", "white"] = "white"
    """Colour behind the scene."""
    eval_num_rays_per_chunk: int = 4096
    """Rays rendered at once outside training."""
    lpips_backbone: Path | None = None
    """AlexNet weights for LPIPS; torch's cache, or a download, if not given."""


# What there has to be of everything that a person counts.
_LEAST = {
    "num_coarse_samples": 1,
    "num_importance_samples": 0,
    "num_layers": 2,  # the encoding is joined to the output of one and is the input of another
    "hidden_dim": 1,
    "view_dim": 1,
    "position_octaves": 0,
    "direction_octaves": 0,
    "eval_num_rays_per_chunk": 1,
}


class IGANerfModel(AdjustedRays, Model):
    """Coarse and fine NeRF whose fine ray colours carry adjusted gradients.

    Going forward this is the original NeRF. In training, the gradient of the loss with respect to the fine colours of
    a batch's n rays, ``(n, 3)``, is multiplied by the (n, n) transform that the kernel of the fine field gives; the
    coarse loss is left alone.
    """

    config: IGANerfModelConfig

    def populate_modules(self) -> None:
        """Build fields, samplers, renderers, and the adjuster of the fine field.

        Raises:
            ValueError: If settings do not go together, or near and far are not set and cannot be told.
        """
        # Here, as nerfstudio's models do: every ns-train imports this file, and torchmetrics takes seconds.
        from torchmetrics.functional.image import peak_signal_noise_ratio

        from iga_nerfstudio.evaluation.metrics import ImageMetrics

        for name, least in _LEAST.items():
            whole_number(f"--pipeline.model.{name.replace('_', '-')}", getattr(self.config, name), least)
        # nerfstudio's own builds the collider alone, and wants its planes given.
        if self.config.enable_collider:
            self.collider = TrainedSpaceCollider()  # type: ignore[assignment]
        poses = (self.kwargs.get("metadata") or {}).get(TRAINING_POSES)
        self._sample_within(find_bounds(poses, self.config.collider_params))
        self.field_coarse = self._build_field()
        self.field_fine = self._build_field()
        self.sampler_uniform = UniformSampler(num_samples=self.config.num_coarse_samples)
        self.sampler_pdf = PDFSampler(num_samples=self.config.num_importance_samples)
        self.renderer_rgb = RGBRenderer(background_color=self.config.background_color)
        self.renderer_accumulation = AccumulationRenderer()
        self.renderer_depth = DepthRenderer()
        self.psnr = partial(peak_signal_noise_ratio, data_range=1.0)
        self.image_metrics = ImageMetrics(self.config.lpips_backbone)
        settings = self.config.adjustment
        if settings.kernel_of == "rays" and settings.granularity == "sample":
            raise ValueError(
                "A kernel of rendered rays adjusts the gradient of ray colours. Use adjustment.granularity ray, or "
                "adjustment.kernel_of samples or visible."
            )
        # The resampler keeps the coarse bins and adds one more edge than it was asked for samples.
        samples_per_ray = self.config.num_coarse_samples + self.config.num_importance_samples + 1
        adjuster = build_ray_adjuster(settings, self.field_fine.network, samples_per_ray, cuda_graph=True)
        self.adjust_with(adjuster, settings.until)

    def get_extra_state(self) -> dict[str, Any]:
        """The adjuster's state, the spectrum's history and the scene's bounds."""
        return super().get_extra_state() | {"bounds": asdict(self.bounds)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take them up from a checkpoint, whose network knows no other bounds; earlier versions had the set ones."""
        super().set_extra_state(state)
        if "bounds" in state:
            # A checkpoint of earlier versions does not say how close cameras were; near was half of it.
            bounds = SceneBounds(**({"closest": 2 * state["bounds"]["near"]} | state["bounds"]))
        else:
            bounds = set_bounds(self.config.collider_params)
        self._sample_within(bounds)

    def _sample_within(self, bounds: SceneBounds) -> None:
        self.bounds = bounds
        if self.collider is not None:
            self.collider.within(bounds)

    def _build_field(self) -> IGANerfField:
        config = self.config
        return IGANerfField(
            NeRFMLP(
                num_layers=config.num_layers,
                hidden_dim=config.hidden_dim,
                skip_layer=min(config.skip_layer, config.num_layers - 2),
                view_dim=config.view_dim,
                position_octaves=config.position_octaves,
                direction_octaves=config.direction_octaves,
                initial_density=config.initial_density,
            )
        )

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """One group, ``fields``: both fields' parameters."""
        return {"fields": [*self.field_coarse.parameters(), *self.field_fine.parameters()]}

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Tensor]:  # type: ignore[override]
        """Render a bundle of rays.

        Args:
            ray_bundle: n rays with near and far set by the collider.

        Returns:
            ``rgb`` (n, 3), ``depth`` and ``accumulation`` (n, 1) of the fine field, and the same of the coarse field
            under ``*_coarse``. In training, gradients of ``rgb`` are adjusted; otherwise there is
            ``coarse_fine_difference`` (n, 1) too, the mean absolute difference of both colours.

        Raises:
            ValueError: If near and far are not set.
        """
        if ray_bundle.nears is None:
            raise ValueError(
                "Rays have no near and far: --pipeline.model.enable-collider is False. Leave it True; "
                "--pipeline.model.collider-params sets the two."
            )
        ray_bundle = self.bounds.to_network(ray_bundle)
        coarse_samples = self.sampler_uniform(ray_bundle)
        coarse_colours, coarse_weights = self._weigh(self.field_coarse.raw_outputs(coarse_samples), coarse_samples)
        fine_samples = self.sampler_pdf(ray_bundle, coarse_samples, coarse_weights)
        raw = self.field_fine.raw_outputs(fine_samples)
        if self.training and self.config.adjustment.granularity == "sample":
            with torch.no_grad():
                weights = fine_samples.get_weights(IGANerfField.activate(raw)[1])
            raw = self.adjuster.rebalance(raw, self._begin_adjustment(fine_samples, weights, raw)())
        colours, weights = self._weigh(raw, fine_samples)
        # A GPU computes the kernel while the host renders.
        by_ray = self.training and self.config.adjustment.granularity == "ray"
        transform = self._begin_adjustment(fine_samples, weights, raw) if by_ray else None
        coarse = self._render(coarse_colours, coarse_weights, coarse_samples)
        fine = self._render(colours, weights, fine_samples)
        if transform is not None:
            fine["rgb"] = self.adjuster.rebalance(fine["rgb"], transform())
        outputs = fine | {f"{name}_coarse": value for name, value in coarse.items()}
        if not self.training:
            difference = (fine["rgb"] - coarse["rgb"]).abs().mean(dim=-1, keepdim=True)
            outputs["coarse_fine_difference"] = difference
        return outputs

    @staticmethod
    def _weigh(raw: Tensor, samples: RaySamples) -> tuple[Tensor, Tensor]:
        """Colours ``(n, p, 3)`` and rendering weights ``(n, p, 1)`` of raw outputs ``(n, p, 4)`` along rays."""
        colours, densities = IGANerfField.activate(raw)
        return colours, samples.get_weights(densities)

    def _render(self, colours: Tensor, weights: Tensor, samples: RaySamples) -> dict[str, Tensor]:
        """Integrate along rays."""
        return {
            "rgb": self.renderer_rgb(rgb=colours, weights=weights),
            "accumulation": self.renderer_accumulation(weights),
            "depth": self.renderer_depth(weights, samples) / self.bounds.scale,
        }

    def _begin_adjustment(
        self, samples: RaySamples, weights: Tensor, raw: Tensor
    ) -> Callable[[], SpectralTransform | None]:
        """Begin the kernel of the fine field at the rays' representatives; what gives the step's transform."""

        def representatives() -> tuple[tuple[Tensor, ...], Tensor | None]:
            scores = weights.detach()[..., 0]
            chosen = self.adjuster.choose((scores.shape[0], scores.shape[1]), scores, scores.device)
            frustums = samples.frustums
            inputs = (chosen.gather(frustums.get_positions()), chosen.gather(frustums.directions))
            self.latest_points = self.bounds.to_world(inputs[0].detach().reshape(-1, 3))
            if self.config.adjustment.kernel_of == "rays":
                return inputs, chosen.gather(self._colour_gradients(raw, samples))
            return inputs, shares_of(self.config.adjustment.kernel_of, chosen, scores)

        return self.adjuster.begin(len(weights), representatives, weights.device)

    def _colour_gradients(self, raw: Tensor, samples: RaySamples) -> Tensor:
        """Gradients of every ray's summed colour over sqrt(3) with respect to raw outputs, both ``(n, p, 4)``.

        They reach through opacity too: density changes the weights of all samples behind.
        """
        with torch.enable_grad():
            outputs = raw.detach().requires_grad_()
            colours, densities = IGANerfField.activate(outputs)
            # A random background is drawn by the loss's rendering alone.
            behind = "black" if self.config.background_color == "random" else self.config.background_color
            rendered = RGBRenderer.combine_rgb(colours, samples.get_weights(densities), behind)
            return torch.autograd.grad(rendered.sum() / rendered.shape[-1] ** 0.5, outputs)[0]

    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, Any]:
        """Training PSNR in dB and, while adjusting, the adjustment's diagnostics under ``iga/``."""
        truth = self.renderer_rgb.blend_background(batch["image"].to(self.device))
        metrics: dict[str, Any] = {"psnr": self.psnr(outputs["rgb"].detach(), truth)}
        if self.training:
            self.collapse.see(outputs["rgb"], truth)
            metrics |= diagnostic_metrics(self.adjuster)
        return metrics

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Any], metrics_dict: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Mean squared colour errors of both fields."""
        del metrics_dict
        image = batch["image"].to(self.device)
        losses = {}
        for name, suffix in {"rgb_loss_coarse": "_coarse", "rgb_loss_fine": ""}.items():
            prediction, truth = self.renderer_rgb.blend_background_for_loss_computation(
                pred_image=outputs[f"rgb{suffix}"],
                pred_accumulation=outputs[f"accumulation{suffix}"],
                gt_image=image,
            )
            losses[name] = mse_loss(prediction, truth)
        return misc.scale_dict(losses, self.config.loss_coefficients)

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of a whole rendered view, and pictures: truth beside fine and coarse, accumulation, depth."""
        truth = self.renderer_rgb.blend_background(batch["image"].to(outputs["rgb"].device))
        metrics = self.image_metrics(outputs["rgb"], truth)
        metrics["coarse_psnr"] = self.psnr(outputs["rgb_coarse"], truth).item()
        images = {
            "img": torch.cat([truth, outputs["rgb"], outputs["rgb_coarse"]], dim=1),
            "accumulation": colormaps.apply_colormap(outputs["accumulation"]),
            "depth": colormaps.apply_depth_colormap(
                outputs["depth"],
                accumulation=outputs["accumulation"],
                near_plane=self.bounds.near,
                far_plane=self.bounds.far,
            ),
        }
        return metrics, images
