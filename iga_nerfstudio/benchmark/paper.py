"""The paper's settings, from ``configs/``, and its Tables 4 to 14 as far as something here is compared with them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import yaml

from iga_nerfstudio.networks.builder import NetworkKind
from iga_nerfstudio.tasks.config_files import read_preset, recipe_folder
from iga_nerfstudio.tasks.image import ImageConfig
from iga_nerfstudio.tasks.sdf import SDFConfig


def photograph_settings(network: NetworkKind) -> ImageConfig:
    """How it trains a network with IGA on a Kodak image."""
    return read_preset(f"kodak_{network.removesuffix('_finer')}", ImageConfig)


def shape_settings(network: NetworkKind) -> SDFConfig:
    """How it trains a network with IGA on a mesh."""
    return read_preset(f"shape_{network}", SDFConfig)


def scene_settings(scene: str) -> dict[str, Any]:
    """Options of ``ns-train iga-nerf`` for a Blender scene; none for scenes that it does not have."""
    path = recipe_folder() / "blender" / f"{scene}.yaml"
    if not path.is_file():
        return {}
    return {
        f"--{name.replace('_', '-')}": value for name, value in yaml.safe_load(path.read_text(encoding="utf-8")).items()
    }


# Adam's learning rates without IGA: 1e-3 for images, but for these; 2e-3 for shapes, but for SIREN.
RATES: dict[tuple[str, str], float] = {("relu", "fr"): 5e-3, ("pe", "bn"): 3e-3}
SHAPE_RATES: dict[str, float] = {"relu": 2e-3, "pe": 2e-3, "siren": 5e-4}

# By network and variant.
Rows = dict[tuple[str, str], tuple[float, ...]]

KODAK = tuple(f"kodim0{i}" for i in range(1, 9))
# Tables 8 to 11, by the name of the metric: one number for each image of KODAK, 768x512.
IMAGES: dict[str, Rows] = {
    "psnr": {
        ("relu", "plain"): (19.78, 26.62, 25.88, 24.70, 17.70, 21.98, 21.52, 16.07),
        ("relu", "fr"): (19.96, 26.63, 26.53, 25.31, 18.05, 22.03, 22.13, 16.52),
        ("relu", "bn"): (20.13, 26.97, 26.91, 25.49, 18.65, 22.42, 22.64, 16.91),
        ("relu", "iga"): (20.42, 27.71, 28.20, 26.17, 18.81, 22.69, 22.96, 16.99),
        ("pe", "plain"): (26.07, 32.51, 32.80, 31.37, 24.60, 27.28, 31.74, 22.79),
        ("pe", "fr"): (26.95, 32.23, 33.92, 32.14, 26.63, 28.49, 32.71, 24.85),
        ("pe", "bn"): (26.50, 31.42, 32.21, 31.31, 25.45, 27.82, 31.54, 23.95),
        ("pe", "iga"): (29.17, 35.18, 37.91, 35.07, 28.06, 31.27, 36.60, 26.41),
        ("siren", "plain"): (29.61, 35.19, 36.31, 35.10, 29.74, 31.01, 36.73, 27.50),
        ("siren", "fr"): (30.00, 34.73, 36.95, 34.87, 29.72, 30.79, 36.31, 27.52),
        ("siren", "iga"): (30.10, 35.85, 38.60, 35.80, 30.13, 31.94, 37.68, 27.73),
    },
    "ssim": {
        ("relu", "plain"): (0.2978, 0.6455, 0.7235, 0.6199, 0.2797, 0.4531, 0.5681, 0.2785),
        ("relu", "fr"): (0.3063, 0.6450, 0.7310, 0.6302, 0.2920, 0.4546, 0.5789, 0.2972),
        ("relu", "bn"): (0.3150, 0.6461, 0.7230, 0.6319, 0.3198, 0.4635, 0.5896, 0.3145),
        ("relu", "iga"): (0.3298, 0.6628, 0.7564, 0.6387, 0.3195, 0.4753, 0.5946, 0.3232),
        ("pe", "plain"): (0.7193, 0.8126, 0.8634, 0.8077, 0.7371, 0.7553, 0.8911, 0.6790),
        ("pe", "fr"): (0.7653, 0.8082, 0.8819, 0.8266, 0.8074, 0.7953, 0.8947, 0.7546),
        ("pe", "bn"): (0.7552, 0.7985, 0.8428, 0.8198, 0.7897, 0.7880, 0.8778, 0.7525),
        ("pe", "iga"): (0.8458, 0.8806, 0.9402, 0.8994, 0.8542, 0.8778, 0.9462, 0.8132),
        ("siren", "plain"): (0.8715, 0.8948, 0.9168, 0.9060, 0.9040, 0.8689, 0.9534, 0.8643),
        ("siren", "fr"): (0.8781, 0.8869, 0.9308, 0.9011, 0.8971, 0.8797, 0.9536, 0.8654),
        ("siren", "iga"): (0.8830, 0.9070, 0.9492, 0.9173, 0.9110, 0.8996, 0.9606, 0.8688),
    },
    "ms_ssim": {
        ("relu", "plain"): (0.5270, 0.7839, 0.8414, 0.7741, 0.4697, 0.6534, 0.6646, 0.5031),
        ("relu", "fr"): (0.5454, 0.7973, 0.8621, 0.7964, 0.5164, 0.6679, 0.7024, 0.5523),
        ("relu", "bn"): (0.5837, 0.8075, 0.8581, 0.8047, 0.5943, 0.6929, 0.7331, 0.5976),
        ("relu", "iga"): (0.6205, 0.8364, 0.8947, 0.8249, 0.6208, 0.7290, 0.7591, 0.6211),
        ("pe", "plain"): (0.9356, 0.9518, 0.9668, 0.9489, 0.9382, 0.9331, 0.9744, 0.9242),
        ("pe", "fr"): (0.9493, 0.9494, 0.9713, 0.9559, 0.9566, 0.9470, 0.9755, 0.9464),
        ("pe", "bn"): (0.9491, 0.9507, 0.9615, 0.9560, 0.9561, 0.9481, 0.9726, 0.9491),
        ("pe", "iga"): (0.9705, 0.9720, 0.9880, 0.9788, 0.9713, 0.9692, 0.9895, 0.9622),
        ("siren", "plain"): (0.9808, 0.9817, 0.9851, 0.9829, 0.9845, 0.9714, 0.9918, 0.9761),
        ("siren", "fr"): (0.9797, 0.9788, 0.9877, 0.9819, 0.9810, 0.9781, 0.9926, 0.9766),
        ("siren", "iga"): (0.9815, 0.9851, 0.9895, 0.9873, 0.9860, 0.9803, 0.9921, 0.9759),
    },
    "lpips": {
        ("relu", "plain"): (0.7571, 0.5392, 0.4000, 0.5547, 0.7788, 0.5854, 0.6172, 0.8089),
        ("relu", "fr"): (0.7692, 0.5513, 0.3871, 0.5362, 0.7829, 0.6110, 0.6131, 0.8008),
        ("relu", "bn"): (0.7654, 0.5471, 0.3865, 0.5458, 0.7188, 0.5959, 0.5859, 0.7999),
        ("relu", "iga"): (0.6857, 0.4770, 0.2927, 0.4730, 0.6695, 0.5609, 0.5278, 0.7527),
        ("pe", "plain"): (0.2803, 0.2092, 0.1062, 0.2128, 0.2643, 0.2517, 0.1218, 0.3322),
        ("pe", "fr"): (0.2547, 0.2278, 0.0905, 0.1897, 0.1566, 0.2179, 0.1154, 0.2426),
        ("pe", "bn"): (0.3161, 0.2605, 0.1474, 0.2065, 0.2393, 0.2592, 0.1554, 0.2926),
        ("pe", "iga"): (0.1363, 0.0938, 0.0256, 0.0956, 0.1056, 0.1068, 0.0310, 0.1559),
        ("siren", "plain"): (0.1052, 0.0878, 0.0661, 0.0994, 0.0654, 0.0967, 0.0271, 0.0980),
        ("siren", "fr"): (0.0928, 0.0888, 0.0465, 0.1121, 0.0661, 0.1258, 0.0317, 0.0865),
        ("siren", "iga"): (0.0895, 0.0746, 0.0246, 0.0858, 0.0628, 0.0853, 0.0199, 0.0921),
    },
}
# Tables 6 and 7: PSNR of ReLU, PE, SIREN on Kodak 1 to 3 by our names of the cases.
ABLATIONS: dict[str, tuple[float, float, float]] = {
    "plain": (24.09, 30.46, 33.70),
    "largest residual": (25.44, 34.09, 34.85),
    "random once": (25.52, 33.77, 33.76),
    "random each step": (25.19, 34.05, 33.69),
    "patches half as large": (25.49, 34.25, 34.87),
    "patches twice as large": (25.19, 32.54, 34.10),
    "patches four times as large": (25.06, 32.08, 33.75),
}
# Table 5: PSNR, of which the paper has the average over KODAK alone.
ACTIVATIONS: dict[tuple[str, str], float] = {
    ("gauss_finer", "plain"): 33.79,
    ("gauss_finer", "iga"): 34.45,
    ("wire_finer", "plain"): 30.37,
    ("wire_finer", "iga"): 31.49,
    ("finer", "plain"): 35.12,
    ("finer", "iga"): 35.55,
}

SHAPES = ("thai", "armadillo", "dragon", "bunny", "lucy")
# Tables 12 and 13, by the name of the metric: one number for each of SHAPES, 512^3.
MESHES: dict[str, Rows] = {
    "iou": {
        ("relu", "plain"): (0.9379, 0.9756, 0.9708, 0.9924, 0.9467),
        ("relu", "iga"): (0.9563, 0.9805, 0.9793, 0.9931, 0.9571),
        ("pe", "plain"): (0.9897, 0.9956, 0.9953, 0.9985, 0.9920),
        ("pe", "iga"): (0.9943, 0.9979, 0.9975, 0.9990, 0.9961),
        ("siren", "plain"): (0.9786, 0.9908, 0.9937, 0.9953, 0.9862),
        ("siren", "iga"): (0.9802, 0.9920, 0.9938, 0.9958, 0.9868),
    },
    "chamfer": {
        ("relu", "plain"): (5.6726e-06, 5.5805e-06, 6.5588e-06, 8.0611e-06, 3.8048e-06),
        ("relu", "iga"): (4.7463e-06, 5.4097e-06, 5.7295e-06, 8.2330e-06, 3.3144e-06),
        ("pe", "plain"): (4.2759e-06, 5.2162e-06, 5.3788e-06, 7.7409e-06, 3.0036e-06),
        ("pe", "iga"): (4.2551e-06, 5.1524e-06, 5.4319e-06, 7.7695e-06, 2.9288e-06),
        ("siren", "plain"): (4.2920e-06, 7.8573e-06, 5.3923e-06, 7.9121e-06, 2.9870e-06),
        ("siren", "iga"): (4.3520e-06, 5.2203e-06, 5.3757e-06, 7.8457e-06, 2.9934e-06),
    },
}

# Table 14, by scene and variant: PSNR, SSIM, LPIPS at 400x400.
SCENES: dict[tuple[str, str], tuple[float, float, float]] = {
    ("ship", "plain"): (29.30, 0.8693, 0.077),
    ("ship", "iga"): (29.49, 0.8716, 0.074),
    ("materials", "plain"): (29.55, 0.9577, 0.021),
    ("materials", "iga"): (29.87, 0.9619, 0.019),
    ("chair", "plain"): (34.52, 0.9795, 0.011),
    ("chair", "iga"): (34.69, 0.9807, 0.010),
    ("ficus", "plain"): (29.14, 0.9647, 0.021),
    ("ficus", "iga"): (29.38, 0.9667, 0.019),
    ("hotdog", "plain"): (36.78, 0.9793, 0.012),
    ("hotdog", "iga"): (37.22, 0.9801, 0.011),
    ("drums", "plain"): (25.66, 0.9293, 0.052),
    ("drums", "iga"): (25.80, 0.9315, 0.049),
    ("mic", "plain"): (33.37, 0.9783, 0.022),
    ("mic", "iga"): (33.48, 0.9791, 0.020),
    ("lego", "plain"): (31.53, 0.9626, 0.019),
    ("lego", "iga"): (31.83, 0.9648, 0.017),
}

# Table 4, by task: seconds and MB of a plain step, of one adjusted by IGA, and by the eNTK of all inputs.
COST: dict[str, tuple[tuple[float, int], tuple[float, int], tuple[float, int] | None]] = {
    "signals (1D)": ((0.028, 965), (0.044, 1574), (0.185, 5861)),
    "images (2D)": ((0.061, 3703), (0.088, 5174), None),
    "shapes (3D)": ((0.118, 2291), (0.169, 2468), None),
    "NeRF (5D)": ((0.159, 9451), (0.286, 11033), None),
}


def mean_over(rows: Rows, row: tuple[str, str], names: Sequence[str], columns: Sequence[str]) -> float | None:
    """The mean of a row over the columns of some names; None if the paper lacks the row or one of them."""
    if row not in rows or not set(names) <= set(columns):
        return None
    return statistics.mean(rows[row][columns.index(name)] for name in names)
