"""Optimisers and learning rate schedules by their settings."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from iga_nerfstudio.adjustment.transform import BalanceRule
from iga_nerfstudio.arguments import positive_rate
from iga_nerfstudio.muon import MuonWithAdam
from iga_nerfstudio.networks import NetworkConfig
from iga_nerfstudio.settings import NetworkKind
from iga_nerfstudio.tasks.config import OptimizerConfig, ScheduleConfig

# Rates that did best in trials: of networks of ReLUs, of the same behind an encoding, and of sines, Gaussians and
# wavelets, which want a far smaller one: their frequency multiplies every step.
_RATES = {
    "muon": (8e-2, 4e-2, 6e-3),
    "soap": (2e-2, 2e-2, 3e-3),
    "adam": (5e-3, 5e-3, 1e-3),
    "sgd": (1e-1, 1e-1, 1e-2),
}
# Adam's under Muon: behind an encoding of biases alone, else of the first layer, too, whose weights are frequencies.
_ADAM_RATES = (5e-3, 1e-3, 1.2e-2)


def learning_rate(config: OptimizerConfig, network: NetworkConfig) -> float:
    """The learning rate to start with: the given one, or one that suits optimiser and network."""
    if config.lr is not None:
        return config.lr
    return _RATES[config.kind][rate_family(network.kind)]


def adam_learning_rate(config: OptimizerConfig, network: NetworkConfig) -> float:
    """Adam's learning rate under Muon: the given one, or one that suits the network."""
    if config.adam_lr is not None:
        return config.adam_lr
    # Complex matrices are all Adam's.
    rates = _RATES["adam"] if network.kind == "complex_wire" else _ADAM_RATES
    return rates[rate_family(network.kind)]


def rate_family(kind: NetworkKind) -> int:
    """Whose rates are a network's: 0 those of ReLUs, 1 of ReLUs behind an encoding, 2 of sines, Gaussians, wavelets."""
    if kind == "relu":
        return 0
    return 1 if kind in ("pe", "fourier") else 2


def momentum(config: OptimizerConfig) -> float:
    """The momentum of Muon or SGD: the given one, or the optimiser's own."""
    own = 0.95 if config.kind == "muon" else 0.0
    return own if config.momentum is None else config.momentum


def balance_rule(config: OptimizerConfig) -> BalanceRule:
    """The adjustment's rule that goes with an optimiser (paper Sec. 3.4, App. D).

    Adam and Muon set the size of a step themselves, so the leading eigenvalues come down to a small one; plain gradient
    descent wants them raised to the first.
    """
    return "sgd" if config.kind == "sgd" else "adam"


def build_optimizer(config: OptimizerConfig, network: NetworkConfig, module: nn.Module) -> Optimizer:
    """Build an optimiser.

    Args:
        config: Its settings.
        network: The network's settings; they decide the learning rate if none is given.
        module: Whose parameters to train.

    Returns:
        The optimiser.

    Raises:
        ValueError: If a setting is out of range.
    """
    rate = learning_rate(config, network)
    positive_rate("optimizer.lr", rate)
    adam_rate = adam_learning_rate(config, network)
    positive_rate("optimizer.adam_lr", adam_rate)
    used = momentum(config)
    if not 0 <= used < 1:
        raise ValueError(f"Momentum must lie in [0, 1), got {used}.")
    if config.kind == "muon":
        columns = {} if config.first_layer == "adam" else {"fewest_columns": 1}
        return MuonWithAdam(module.parameters(), rate, used, adam_rate, **columns)
    if config.kind == "sgd":
        return SGD(module.parameters(), lr=rate, momentum=used)
    if config.momentum is not None:
        raise ValueError(
            f"optimizer.momentum={used} has no meaning for {config.kind}. Leave it out, or use muon or sgd."
        )
    parameters = list(module.parameters())
    if config.kind == "soap":
        return _soap(parameters, rate)
    # One kernel for all parameters: a third of the time for a small network on a CPU. There is none for complex ones.
    fused = not any(p.is_complex() for p in parameters)
    return Adam(parameters, lr=rate, fused=fused)


def _soap(parameters: list[nn.Parameter], rate: float) -> Optimizer:
    """SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., 2024)."""
    try:
        from pytorch_optimizer import SOAP
    except ImportError:
        raise ValueError(
            "optimizer.kind soap needs the package pytorch-optimizer, which is not installed: pip install "
            "pytorch-optimizer, or use muon."
        ) from None
    if any(parameter.is_complex() for parameter in parameters):
        raise ValueError("optimizer.kind soap takes no complex parameters, which this network has. Use muon or adam.")
    return SOAP(parameters, lr=rate, weight_decay=0.0)


def build_schedule(config: ScheduleConfig, optimizer: Optimizer, num_iterations: int) -> LambdaLR:
    """Attach a learning rate schedule.

    Args:
        config: Its settings.
        optimizer: Whose learning rates fall, all by the same factor.
        num_iterations: Length of the run in steps.

    Returns:
        The schedule, to be stepped once per training step.

    Raises:
        ValueError: If a setting is out of range.
    """
    if not 0 < config.factor <= 1:
        raise ValueError(f"The learning rate falls to a share of itself in (0, 1], got factor={config.factor}.")
    if not 0 <= config.drop_at <= 1:
        raise ValueError(f"A schedule drops at a share of the run in [0, 1], got drop_at={config.drop_at}.")

    def factor(step: int) -> float:
        if config.kind == "constant":
            return 1.0
        if config.kind == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(step / num_iterations, 1.0)))
        if config.kind == "exponential":
            return config.factor ** (step / num_iterations)
        return config.factor if step >= config.drop_at * num_iterations else 1.0

    return LambdaLR(optimizer, factor)
