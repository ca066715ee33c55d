"""All measurements, by the name of their command and of their results."""

from __future__ import annotations

from typing import Any

import tyro

from iga_nerfstudio.benchmark.cost.kernel import Kernel
from iga_nerfstudio.benchmark.cost.options import Options
from iga_nerfstudio.benchmark.cost.scaling import Scaling
from iga_nerfstudio.benchmark.cost.step import Step
from iga_nerfstudio.benchmark.cost.viewer import Viewer
from iga_nerfstudio.benchmark.studies import (
    ablations,
    balance,
    experiment1,
    experiment2,
    grouping,
    images,
    kodak,
    nerf,
    noise,
    rays,
    shapes,
)
from iga_nerfstudio.benchmark.study import Study

# What trains, at the sizes that it comes with: a minute, two CPU cores in some hours, the paper's.
STUDIES: dict[str, dict[str, Any]] = {
    module.PRESETS["smoke"].name: module.PRESETS
    for module in (experiment1, experiment2, images, ablations, balance, grouping, kodak, noise, shapes, rays, nerf)
}
# What times something, at once.
MEASUREMENTS: dict[str, Any] = {
    study.name: study for study in (Step(), Scaling(), Options(tyro.MISSING), Kernel(), Viewer())
}
KINDS: dict[str, type[Study]] = {
    name: type(study)
    for name, study in ({name: sizes["smoke"] for name, sizes in STUDIES.items()} | MEASUREMENTS).items()
}
