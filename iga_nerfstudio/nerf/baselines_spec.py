"""Registers ``iga-nerf`` and ``iga-nerf-muon`` with nerfbaselines, which finds this module by its entry point.

Where both packages are installed, ``nerfbaselines train --method iga-nerf --data external://blender/lego --backend
python`` trains and evaluates in the protocol of the data.
"""

from __future__ import annotations

from typing import Any

from nerfbaselines import register

_METADATA: dict[str, Any] = {
    "paper_title": "Inductive Gradient Adjustment for Spectral Bias in Implicit Neural Representations",
    "licenses": [{"name": "Apache 2.0"}],
}
# nerfbaselines hands over its own images and cameras, at full resolution; the paper's scenes are at half of it.
_PRESETS: dict[str, dict[str, Any]] = {
    "blender": {
        "@apply": [{"dataset": "blender"}],
        "@description": "The paper's kernel and balance.",
        "pipeline.datamanager.dataparser": "blender-data",
        "pipeline.model.adjustment.kernel_of": "samples",
        "pipeline.model.adjustment.floor": 0.0,
        "pipeline.model.adjustment.until": 1.0,
    },
    "blender-ficus": {
        "@apply": [{"dataset": "blender", "scene": "ficus"}],
        "@description": "Fine foliage: more balanced eigenvalues, as in the paper.",
        "pipeline.model.adjustment.end": 30,
    },
    "plain": {
        "@description": "The same network without the adjustment.",
        "pipeline.model.adjustment.enabled": False,
    },
}

register(
    {
        "id": "iga-nerf",
        "method_class": "iga_nerfstudio.nerf.baselines:IGANerf",
        "metadata": _METADATA
        | {
            "name": "IGA-NeRF",
            "description": "The original NeRF trained with Inductive Gradient Adjustment.",
        },
        "presets": _PRESETS,
        "implementation_status": {"blender": "working"},
    }
)
register(
    {
        "id": "iga-nerf-muon",
        "method_class": "iga_nerfstudio.nerf.baselines:IGANerfMuon",
        "metadata": _METADATA
        | {
            "name": "IGA-NeRF, Muon",
            "description": "The original NeRF trained with Inductive Gradient Adjustment under Muon.",
        },
        "presets": _PRESETS,
        "implementation_status": {"blender": "working"},
    }
)
