"""The method: Inductive Gradient Adjustment for any coordinate network. Needs torch and nothing else."""

from iga_nerfstudio.adjustment.adjuster import Diagnostics, InductiveGradientAdjuster, require_enough_groups
from iga_nerfstudio.adjustment.axes import Axes, AxesAdjuster
from iga_nerfstudio.adjustment.eigen import EigenSolverError, leading_eigenpairs
from iga_nerfstudio.adjustment.grouping import Blocks, Grouping, Intervals, Patches, Rays, order_by_place
from iga_nerfstudio.adjustment.kernel import UnsupportedNetworkError, layerwise_entk, per_sample_entk
from iga_nerfstudio.adjustment.layer_rules import Factors, LookupFactors, register_layer_rule
from iga_nerfstudio.adjustment.readout import sum_of_logits, sum_of_sigmoids
from iga_nerfstudio.adjustment.representatives import Chosen, choose
from iga_nerfstudio.adjustment.transform import DegenerateKernelError, SpectralTransform

__all__ = [
    "Axes",
    "AxesAdjuster",
    "Blocks",
    "Chosen",
    "DegenerateKernelError",
    "Diagnostics",
    "EigenSolverError",
    "Factors",
    "Grouping",
    "InductiveGradientAdjuster",
    "Intervals",
    "LookupFactors",
    "Patches",
    "Rays",
    "SpectralTransform",
    "UnsupportedNetworkError",
    "choose",
    "layerwise_entk",
    "leading_eigenpairs",
    "order_by_place",
    "per_sample_entk",
    "register_layer_rule",
    "require_enough_groups",
    "sum_of_logits",
    "sum_of_sigmoids",
]
