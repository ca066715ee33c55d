"""nerfstudio's pipeline, for several processes on CPUs too."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import Nerfstudio
from nerfstudio.models.base_model import Model
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from torch.cuda.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from iga_nerfstudio.arguments import whole_number
from iga_nerfstudio.nerf.nerfstudio_fixes.unreadable_views import named_where_unreadable
from iga_nerfstudio.nerf.ray_adjuster import AdjustedRays
from iga_nerfstudio.nerf.transforms import require_nerfstudio_data
from iga_nerfstudio.tensor_files import checksum


@dataclass
class IGANerfPipelineConfig(VanillaPipelineConfig):
    """nerfstudio's pipeline configuration."""

    _target: type = field(default_factory=lambda: IGANerfPipeline)
    """Target class to instantiate."""


class IGANerfPipeline(VanillaPipeline):
    """nerfstudio's pipeline; its DistributedDataParallel insists on a GPU per process, this one does not.

    It also shows the model the training views, for the error of what it renders at their places.

    Args:
        config: Data manager and model.
        device: Where they live.
        test_mode: See nerfstudio's pipeline.
        world_size: Number of processes.
        local_rank: This process's place on its machine.
        grad_scaler: The trainer's gradient scaler.

    Raises:
        ValueError: If the data are not of the layout that the parser reads, or a batch has no rays.
    """

    def __init__(
        self,
        config: VanillaPipelineConfig,
        device: str,
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        grad_scaler: GradScaler | None = None,
    ) -> None:
        manager = config.datamanager
        parser = getattr(manager, "dataparser", None)
        if parser is not None and parser._target is Nerfstudio:  # other parsers' settings may be built on its own
            require_nerfstudio_data(manager.data or parser.data)
        for name in ("train", "eval"):
            rays = getattr(manager, f"{name}_num_rays_per_batch", 1)  # others' data managers may have none
            whole_number(f"--pipeline.datamanager.{name}-num-rays-per-batch", rays, 1)
        wrap_here = world_size > 1 and torch.device(device).type == "cpu"
        with named_where_unreadable():
            super().__init__(config, device, test_mode, 1 if wrap_here else world_size, local_rank, grad_scaler)
        if isinstance(self.model, AdjustedRays):
            self.model.training_views = self.datamanager.train_dataset
        if wrap_here:
            self.world_size = world_size
            self._model = cast(Model, DistributedDataParallel(self._model, find_unused_parameters=True))

    def get_average_image_metrics(
        self,
        data_loader: Any,
        image_prefix: str,
        step: int | None = None,
        output_path: Path | None = None,
        get_std: bool = False,
    ) -> dict[str, Any]:
        """As nerfstudio's; where it gives standard deviations too, as for ns-eval, also medians and every view.

        Args:
            data_loader: Cameras and views.
            image_prefix: What the names of written pictures begin with.
            step: The training's step.
            output_path: Folder for the pictures, if they are to be written.
            get_std: Whether to look at how views differ.

        Returns:
            Means over the views; with ``get_std``, ``<metric>_std``, ``<metric>_median``, and ``views``: the metrics of
            each by the name of its file. One floater before one camera is seen there, and hidden in a mean.
        """
        if not get_std:
            return super().get_average_image_metrics(data_loader, image_prefix, step, output_path)
        views: dict[str, dict[str, float]] = {}
        judge = self.model.get_image_metrics_and_images

        def judged(outputs: Any, batch: dict[str, Any]) -> tuple[dict[str, float], Any]:
            metrics, images = judge(outputs, batch)
            file = Path(data_loader.input_dataset.image_filenames[int(batch["image_idx"])])
            views[f"{file.parent.name}/{file.name}"] = {name: float(value) for name, value in metrics.items()}
            return metrics, images

        vars(self.model)["get_image_metrics_and_images"] = judged
        try:
            means = super().get_average_image_metrics(data_loader, image_prefix, step, output_path, get_std)
        finally:
            del vars(self.model)["get_image_metrics_and_images"]
        names = next(iter(views.values()))
        medians = {f"{name}_median": statistics.median(view[name] for view in views.values()) for name in names}
        return means | medians | {"views": views}

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """As nerfstudio's, which every command loads a checkpoint by.

        Args:
            loaded_state: The pipeline's part of a checkpoint.
            step: The checkpoint's step.

        Raises:
            ValueError: If the weights are not those that were saved.
        """
        state = dict(loaded_state)
        saved = state.pop("checksum", None)  # not in checkpoints of earlier versions, or of nerfstudio's trainer
        if saved is not None and saved != checksum(state):
            raise ValueError(
                f"The checkpoint of step {step} is damaged: its weights are not those that were saved. Use another one "
                "(load_step in config.yml names it), or copy it again."
            )
        super().load_pipeline(state, step)
