"""nerfacto with Inductive Gradient Adjustment on its final field: ``iga-nerfacto``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from nerfstudio.cameras.rays import RayBundle, RaySamples
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.field_components.encodings import HashEncoding
from nerfstudio.field_components.mlp import MLP, MLPWithHashEncoding
from nerfstudio.fields.base_field import get_normalized_directions
from nerfstudio.fields.nerfacto_field import NerfactoField
from nerfstudio.models.nerfacto import NerfactoModel, NerfactoModelConfig
from nerfstudio.utils.external import TCNN_EXISTS
from torch import Tensor, nn

from iga_nerfstudio.adjustment import Chosen
from iga_nerfstudio.nerf import hash_encoding  # noqa: F401  (registers the table's kernel rule)
from iga_nerfstudio.nerf.nerfacto_advice import advise, set_for_object
from iga_nerfstudio.nerf.nerfstudio_fixes.without_lpips import without_lpips
from iga_nerfstudio.nerf.ray_adjuster import (
    AdjustedRays,
    RayAdjustmentConfig,
    build_ray_adjuster,
    diagnostic_metrics,
    shares_of,
)


@dataclass
class NerfactoAdjustmentConfig(RayAdjustmentConfig):
    """How the final field's gradient is adjusted."""

    hash_table: bool = False
    """Whether the kernel is that of the hash table's entries too, rather than of the networks' weights alone. Needs
    implementation torch."""


@dataclass
class IGANerfactoModelConfig(NerfactoModelConfig):
    """nerfacto, trained with Inductive Gradient Adjustment."""

    _target: type = field(default_factory=lambda: IGANerfactoModel)
    """Target class to instantiate."""
    adjustment: NerfactoAdjustmentConfig = field(default_factory=NerfactoAdjustmentConfig)
    """How the final field's gradient is adjusted."""
    object_on_white: bool = False
    """For an object before a white background, as in Blender's scenes: near 2 and far 6, no scene contraction, uniform
    first samples, no distortion loss, no appearance embedding, cameras as given. What is set beside it is kept."""
    lpips_backbone: Path | None = None
    """AlexNet weights for LPIPS; torch's cache, or a download, if not given."""


class HashFieldNetwork(nn.Module):
    """The layers of nerfacto's field that the kernel is of; the weights are the field's own.

    Args:
        field: The field; its layers must be torch's.
        hash_table: Whether to begin at positions, with the encoding's table among the parameters, or at features.
    """

    def __init__(self, field: NerfactoField, hash_table: bool) -> None:
        super().__init__()
        encoder, self.base = field.mlp_base.model
        self.encoder = encoder if hash_table else nn.Identity()
        self.head = field.mlp_head

    def forward(self, points: Tensor, directions: Tensor, appearance: Tensor) -> Tensor:
        """Raw outputs.

        Args:
            points: Positions in [0, 1], ``(..., 3)``, or their features, ``(..., F)``.
            directions: Encoded, ``(..., D)``.
            appearance: Embedded, ``(..., A)``; A may be 0.

        Returns:
            Colours and density before their activations, ``(..., 4)``.
        """
        density, geometry = _logits(self.base, self.encoder(points)).tensor_split([1], dim=-1)
        colours = _logits(self.head, torch.cat([directions, geometry, appearance], dim=-1))
        return torch.cat([colours, density], dim=-1)


def _logits(mlp: MLP, x: Tensor) -> Tensor:
    """An MLP's output before its last activation; the field's have no skip connections."""
    for layer in mlp.layers[:-1]:
        x = mlp.activation(layer(x))  # type: ignore[misc]
    return mlp.layers[-1](x)


class IGANerfactoModel(AdjustedRays, NerfactoModel):
    """nerfacto whose ray colours carry adjusted gradients in training; proposal networks are left alone.

    A ray is represented by its heaviest sample in the final field. The kernel is of the field's two networks, and if
    asked for of the hash table too; camera poses and appearance embeddings are none of it. With tinycudann the
    encodings are its own, but the final field's networks are torch's, whose layers the kernel can see.
    """

    config: IGANerfactoModelConfig

    def populate_modules(self) -> None:
        """nerfacto's modules, and the adjuster of its field.

        Raises:
            ValueError: If the kernel is to reach a hash table that is not torch's.
        """
        if self.config.object_on_white:
            set_for_object(self.config)
        with without_lpips():
            super().populate_modules()
        # Here, as nerfstudio's models do: every ns-train imports this file, and torchmetrics takes seconds.
        from iga_nerfstudio.evaluation.metrics import ImageMetrics

        self.image_metrics = ImageMetrics(self.config.lpips_backbone)
        settings = self.config.adjustment
        if self.config.implementation == "tcnn" and TCNN_EXISTS:
            if settings.hash_table:
                raise ValueError(
                    "The kernel reaches the hash table of torch's encoding only, not tinycudann's. Use "
                    "--pipeline.model.implementation torch, or --pipeline.model.adjustment.hash_table False."
                )
            _show_layers(self.field)
        network = HashFieldNetwork(self.field, settings.hash_table)
        # Of the hash table, what is looked up, and how often, is another thing at every step.
        adjuster = build_ray_adjuster(
            settings, network, self.config.num_nerf_samples_per_ray, cuda_graph=not settings.hash_table
        )
        self.adjust_with(adjuster, settings.until)

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """The model's own; before the first step, what the scene wants is told.

        Raises:
            ValueError: If ``adjustment.end`` asks for more eigenvalues than the kernel has rays.
        """
        pipeline = training_callback_attributes.pipeline
        if pipeline is not None:
            manager = cast(VanillaDataManager, pipeline.datamanager)
            advise(self.config, manager.train_dataset, manager.dataparser)
        return super().get_training_callbacks(training_callback_attributes)

    def get_extra_state(self) -> dict[str, Any]:
        """The adjuster's, and when the proposal networks were trained last: they are at some steps only."""
        sampler = self.proposal_sampler
        return super().get_extra_state() | {"proposals": [sampler._step, sampler._steps_since_update]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up both from a checkpoint."""
        super().set_extra_state(state)
        if "proposals" in state:  # not in checkpoints of earlier versions
            self.proposal_sampler._step, self.proposal_sampler._steps_since_update = state["proposals"]

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Any]:  # type: ignore[override]
        """nerfacto's outputs; in training, gradients of ``rgb`` are adjusted."""
        outputs = super().get_outputs(ray_bundle)
        if self.training:
            samples, weights = outputs["ray_samples_list"][-1], outputs["weights_list"][-1]
            settings = self.config.adjustment

            def representatives() -> tuple[tuple[Tensor, ...], Tensor | None]:
                scores = weights.detach()[..., 0]
                chosen = self.adjuster.choose((scores.shape[0], scores.shape[1]), scores, scores.device)
                return self._kernel_inputs(samples, chosen), shares_of(settings.kernel_of, chosen, scores)

            outputs["rgb"] = self.adjuster.adjust(outputs["rgb"], representatives)
        return outputs

    @torch.no_grad()
    def _kernel_inputs(self, samples: RaySamples, chosen: Chosen) -> tuple[Tensor, ...]:
        """What the field's layers see at the chosen samples: positions or features, directions, appearance."""
        field, frustums = self.field, samples.frustums
        positions = chosen.gather(frustums.get_positions())
        self.latest_points = positions.reshape(-1, 3)
        if field.spatial_distortion is not None:
            positions = (field.spatial_distortion(positions) + 2.0) / 4.0
        else:
            positions = SceneBox.get_normalized_positions(positions, field.aabb)
        points = positions * ((positions > 0.0) & (positions < 1.0)).all(dim=-1, keepdim=True)
        if not self.config.adjustment.hash_table:
            points = _each_row(field.mlp_base.model[0], points)
        directions = get_normalized_directions(chosen.gather(frustums.directions))
        appearance = positions.new_zeros(*positions.shape[:-1], 0)
        if field.embedding_appearance is not None and samples.camera_indices is not None:
            appearance = field.embedding_appearance(chosen.gather(samples.camera_indices)[..., 0])
        return points, _each_row(field.direction_encoding, directions), appearance

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """nerfacto's metrics and, while adjusting, the adjustment's diagnostics under ``iga/``."""
        metrics = super().get_metrics_dict(outputs, batch)
        if not self.training:
            return metrics
        self.collapse.see(outputs["rgb"], batch["image"])
        return metrics | diagnostic_metrics(self.adjuster)

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Tensor]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of a whole rendered view by this package's :class:`ImageMetrics`, and nerfacto's pictures."""
        _, images = super().get_image_metrics_and_images(outputs, batch)
        truth = self.renderer_rgb.blend_background(batch["image"].to(outputs["rgb"].device))
        return self.image_metrics(outputs["rgb"], truth), images


class _InFloat32(nn.Sequential):
    """tinycudann's features, which are half precision, for layers that are not."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()


def _show_layers(field: NerfactoField) -> None:
    """Replace a field's fused networks by an encoding of tinycudann's and torch's layers."""
    fused = field.mlp_base
    grid: dict[str, Any] = {
        name: getattr(fused, name)
        for name in ("num_levels", "min_res", "max_res", "log2_hashmap_size", "features_per_level")
    }
    encoding = _InFloat32(HashEncoding(**grid, implementation="tcnn"))
    base = _torch_mlp(fused, in_dim=fused.num_levels * fused.features_per_level)
    fused.model = nn.Sequential(encoding, base)
    in_dim = field.direction_encoding.get_out_dim() + field.geo_feat_dim + field.appearance_embedding_dim
    field.mlp_head = _torch_mlp(field.mlp_head, in_dim)


def _torch_mlp(fused: MLP | MLPWithHashEncoding, in_dim: int) -> MLP:
    return MLP(
        in_dim=in_dim,
        num_layers=fused.num_layers,
        layer_width=fused.layer_width,
        out_dim=fused.out_dim,
        activation=fused.activation,
        out_activation=fused.out_activation,
        implementation="torch",
    )


def _each_row(module: nn.Module, x: Tensor) -> Tensor:
    """An encoding that takes ``(N, 3)`` only, on ``(..., 3)``."""
    return module(x.flatten(0, -2)).to(x.dtype).unflatten(0, x.shape[:-1])
