"""All that chance has decided of a training, so that one that is resumed goes on as if it had not been interrupted."""

from __future__ import annotations

import random
from collections.abc import Sized
from typing import Any, cast

import numpy as np
import torch
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager
from nerfstudio.data.utils.dataloaders import CacheDataloader
from nerfstudio.utils.misc import get_dict_to_torch

_LOADERS = ("train_image_dataloader", "eval_image_dataloader")


def random_state(datamanager: object) -> dict[str, Any]:
    """The states of all global generators, and which images the data manager draws pixels from, in which order.

    Args:
        datamanager: nerfstudio's; of others than VanillaDataManager nothing is kept.

    Returns:
        Tensors and plain values, for :func:`restore_random_state`.
    """
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "images": {name: _images(loader) for name, loader in _loaders(datamanager).items()},
    }


def restore_random_state(state: dict[str, Any], datamanager: object) -> None:
    """Take up a state of :func:`random_state`. GPUs' generators are left alone where there are not as many of them."""
    for name, loader in _loaders(datamanager).items():
        if name in state["images"]:
            _draw_from(loader, state["images"][name])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def seed_generators(seed: int) -> None:
    """Start all global generators anew, where there is no state to go on from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _loaders(datamanager: object) -> dict[str, CacheDataloader]:
    if not isinstance(datamanager, VanillaDataManager):
        return {}
    found = {name: getattr(datamanager, name, None) for name in _LOADERS}
    return {name: loader for name, loader in found.items() if isinstance(loader, CacheDataloader)}


def _images(loader: CacheDataloader) -> dict[str, Any] | None:
    """The images that are loaded now, in order, and how often they have been drawn from."""
    batch = loader.cached_collated_batch
    if batch is None:
        return None
    return {"of": _num_images(loader), "order": [int(i) for i in batch["image_idx"]], "uses": loader.num_repeated}


def _draw_from(loader: CacheDataloader, images: dict[str, Any] | None) -> None:
    """Load the images of another session; those of other data are left to the session's own order."""
    if images is None or images["of"] != _num_images(loader):
        return
    now = _images(loader)
    if now is None or now["order"] != images["order"]:
        batch = loader.collate_fn([loader.dataset[i] for i in images["order"]])
        loader.cached_collated_batch = get_dict_to_torch(
            batch, device=loader.device, exclude=loader.exclude_batch_keys_from_device
        )
    loader.num_repeated, loader.first_time = images["uses"], False


def _num_images(loader: CacheDataloader) -> int:
    return len(cast(Sized, loader.dataset))
