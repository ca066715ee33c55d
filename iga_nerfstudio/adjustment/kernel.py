"""The empirical neural tangent kernel of n samples: exact and layer by layer, or by per-sample gradients.

Both functions give K = J^T J, where column i of J is the gradient of sample i's readout with respect to every trainable
parameter. They agree to rounding error; the tests hold them to it. :func:`layerwise_entk` never forms a gradient and is
the one to use; :func:`per_sample_entk` takes any module and is the reference.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.hooks import RemovableHandle

from iga_nerfstudio.adjustment.layer_rules import Factors, LayerRule, LookupFactors, registered_layer_types, rule_for
from iga_nerfstudio.adjustment.limits import require_tensors
from iga_nerfstudio.adjustment.precision import full_precision
from iga_nerfstudio.adjustment.readout import Readout, sum_of_logits

Inputs = Tensor | tuple[Tensor, ...]
"""What a network is fed, ``(n, d)`` each."""

# Largest intermediate, in numbers, of the Gram matrices of samples that pass several points through a layer.
GRAM_CHUNK = 1 << 26
# Rows of a Gram matrix at a time: little enough to stay in a CPU's caches, few launches on a GPU.
GRAM_ROWS = 128
GRAM_ROWS_GPU = 4096
# Rows that `check` recomputes alone, and the relative difference it tolerates: in float32, and in rounding errors of
# what a network computes in where that is coarser.
CHECKED_ROWS = 2
CHECK_TOLERANCE = 1e-3
CHECK_TOLERANCE_ROUNDINGS = 8


class UnsupportedNetworkError(NotImplementedError):
    """The network holds something for which the layerwise kernel would be wrong."""


def layerwise_entk(
    network: nn.Module,
    inputs: Inputs,
    readout: Readout = sum_of_logits,
    shares: Tensor | None = None,
    check: bool = True,
) -> Tensor:
    """The exact eNTK from one forward and one backward pass, with no Jacobian.

    For a linear layer with inputs A and output cotangents D of the n samples, the layer's part of K is
    ``(A A^T + 1) * (D D^T)``, elementwise. K is the sum over layers; skip connections and concatenations need no
    special care, since A is whatever the layer was fed.

    Args:
        network: Called as ``network(*inputs)`` with rows ``(N, d)``; returns ``(N, C)``, or whatever the readout
            takes. Rows must not influence each other. Its trainable parameters must sit in layers with a registered
            rule, each called at most once.
        inputs: One tensor, or a tuple of them, ``(n, d)`` for one point per sample or ``(n, m, d)`` for samples
            that are means of m points.
        readout: Maps the network's outputs, ``(N, C)``, to scalars ``(N,)``.
        shares: Share of each point in its sample, ``(n, m)``; equal shares if missing. Or, where a sample's scalar is
            no sum of its points' readouts (the colour of a rendered ray), the gradient of that scalar with respect to
            its points' outputs, ``(n, m, C)``, or ``(n, C)`` for one point; the readout is then left aside.
        check: Recompute two rows by plain autograd, each alone, and compare. Finds weights that are used outside
            their layer and rows that influence each other. Costs two single-row passes; leave it on for a network
            that has not been checked yet.

    Returns:
        K, symmetric, ``(n, n)``, float32 (float64 if the network is).

    Raises:
        UnsupportedNetworkError: If a trainable parameter is not in a layer with a rule, a layer is called twice or
            shares its weight, batch normalisation is in training mode, or the check fails.
        ValueError: If the inputs' or shares' shapes do not fit.
    """
    rows = _validated(inputs, shares)
    n = rows[0].shape[0]
    layers = _ruled_layers(network)
    with torch.enable_grad(), full_precision(rows[0].device), _on_the_side(network, check):
        traces = _trace_layers(network, rows, layers, readout, shares)
        kernel = torch.zeros(n, n, device=rows[0].device, dtype=_dtype_of_kernel(network, rows))
        with torch.no_grad():
            for trace in traces:
                for factors in trace.factors(n, rows[0].shape[:-1].numel()):
                    _add_gram(kernel, factors)
            _mirror(kernel)
    if check:
        check_rows(kernel, network, rows, readout, shares)
    return kernel


def per_sample_entk(
    network: nn.Module,
    inputs: Inputs,
    readout: Readout = sum_of_logits,
    shares: Tensor | None = None,
    memory_limit_mb: int = 512,
    check: bool = True,
) -> Tensor:
    """The eNTK from per-sample gradients: any module, slow, memory bounded.

    Gradients are formed for a chunk of samples and a chunk of parameter tensors at a time, so that the two blocks
    of gradients that are multiplied stay within the limit; smaller limits recompute more.

    Args:
        network: Any module whose rows do not influence each other; called as ``network(*inputs)``.
        inputs: As for :func:`layerwise_entk`.
        readout: As for :func:`layerwise_entk`.
        shares: As for :func:`layerwise_entk`.
        memory_limit_mb: Bound on the gradients held at once, in MiB. A single sample's gradient of the largest
            parameter tensor is always held.
        check: Recompute two rows by plain autograd among all, and compare. Finds rows that influence each other. Costs
            one pass of all rows; leave it on for a network that has not been checked yet.

    Returns:
        K, symmetric, ``(n, n)``, float32 (float64 if the network is).

    Raises:
        UnsupportedNetworkError: If batch normalisation is in training mode or the check fails: rows then have no
            gradient of their own.
        ValueError: If the inputs' or shares' shapes do not fit.
    """
    rows = _validated(inputs, shares)
    n = rows[0].shape[0]
    _refuse_coupled_rows(network)
    trainable: dict[str, Tensor] = {name: p for name, p in network.named_parameters() if p.requires_grad}
    others: dict[str, Tensor] = {name: p for name, p in network.named_parameters() if not p.requires_grad}
    kernel = torch.zeros(n, n, device=rows[0].device, dtype=_dtype_of_kernel(network, rows))
    if shares is None:  # of the kernel's type: inputs may be integers, which know no fractions
        shares = kernel.new_full(rows[0].shape[:-1], 1 / math.prod(rows[0].shape[1:-1]))
    limit = memory_limit_mb * 2**20 // kernel.element_size()
    with torch.enable_grad(), full_precision(rows[0].device), _on_the_side(network, check):
        others |= dict(network.named_buffers())
        for names in _parameter_chunks(trainable, limit // (2 * n)):
            chosen = {name: trainable[name].detach() for name in names}
            fixed = others | {name: p.detach() for name, p in trainable.items() if name not in chosen}
            size = sum(p.numel() for p in chosen.values())
            step = max(1, min(n, limit // (2 * size)))

            def gradients(
                first: int,
                chosen: dict[str, Tensor] = chosen,
                fixed: dict[str, Tensor] = fixed,
                step: int = step,
            ) -> Tensor:
                def scalar(parameters: dict[str, Tensor], sample: tuple[Tensor, ...], share: Tensor) -> Tensor:
                    alone = tuple(x[None] for x in sample)
                    outputs = functional_call(network, (parameters, fixed), _flat(alone))
                    return _scalars(outputs, alone[0], readout, share[None]).sum()

                chunk = tuple(x[first : first + step] for x in rows)
                with _what_has_no_rows():
                    per_sample = vmap(grad(scalar), in_dims=(None, 0, 0), randomness="error")(
                        chosen, chunk, shares[first : first + step]
                    )
                return torch.cat([_real(g).reshape(len(g), -1) for g in per_sample.values()], dim=1).to(kernel.dtype)

            for i in range(0, n, step):
                left = gradients(i)
                for j in range(i, n, step):
                    right = left if j == i else gradients(j)
                    block = left @ right.T
                    kernel[i : i + step, j : j + step] += block
                    if j != i:
                        kernel[j : j + step, i : i + step] += block.T
    kernel = 0.5 * (kernel + kernel.T)
    if check:
        check_rows(kernel, network, rows, readout, shares, together=True)
    return kernel


@contextmanager
def _what_has_no_rows() -> Iterator[None]:
    """Say of what torch.func cannot take row by row that the network is why."""
    try:
        yield
    except (torch.cuda.OutOfMemoryError, UnsupportedNetworkError):
        raise
    except RuntimeError as error:
        raise UnsupportedNetworkError(
            f"torch.func cannot differentiate the network row by row: {str(error).splitlines()[0]} What goes by values "
            "(if, .item(), assert), derives within forward, goes through torch.utils.checkpoint, draws numbers or is "
            "compiled by torch.jit is to be left out of it."
        ) from error


@dataclass
class _LayerTrace:
    """What one layer saw during the traced pass."""

    name: str
    layer: nn.Module
    rule: LayerRule
    inputs: Tensor | None = None
    # torch's count of the inputs' changes in place, which would make them other ones than the layer saw.
    version: int = 0
    # The layer's own output. The network goes on with a copy, so what it does in place does not touch this one.
    output: Tensor | None = None
    cotangents: Tensor | None = None

    def hook(self, layer: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> Tensor:
        if self.inputs is not None:
            raise UnsupportedNetworkError(
                f"Layer '{self.name}' is called more than once in a forward pass. Its per-sample gradients are sums "
                "over the calls, which the layerwise kernel does not cover: use per_sample_entk, or separate layers."
            )
        given = (*args, *named.values())
        if len(given) != 1 or not all(isinstance(values, Tensor) for values in (*given, output)):
            kinds = ", ".join(type(values).__name__ for values in given)
            raise UnsupportedNetworkError(
                f"Layer '{self.name}' was called with ({kinds}) and gave a {type(output).__name__}, but a rule is for "
                "layers of one tensor that give one. Put its parameters into a layer of that kind, or use "
                "per_sample_entk."
            )
        (fed,) = given
        self.inputs, self.version = fed.detach(), fed._version
        self.output = output
        return output.clone()

    def factors(self, n: int, rows: int) -> Sequence[Factors | LookupFactors]:
        if self.inputs is None or self.cotangents is None:
            return []
        if self.inputs._version != self.version:
            raise UnsupportedNetworkError(
                f"The inputs of layer '{self.name}' were changed in place after it used them, which training refuses "
                "too: change a copy."
            )
        if self.inputs.shape[0] != rows or self.cotangents.shape[0] != rows:
            raise UnsupportedNetworkError(
                f"Layer '{self.name}' was fed a tensor of shape {tuple(self.inputs.shape)} where the first axis should "
                f"run over the {rows} rows. Keep the batch axis in front, or use per_sample_entk."
            )
        cotangents = self.cotangents.to(_accurate(self.cotangents.dtype)).reshape(n, -1, self.cotangents.shape[-1])
        if not (self.inputs.is_floating_point() or self.inputs.is_complex()):
            # Numbers of a table's rows: each is a point. As floating point those of a large table would be others.
            return self.rule(self.layer, self.inputs.reshape(n, -1, 1), cotangents)
        inputs = self.inputs.to(_accurate(self.inputs.dtype))
        return self.rule(self.layer, inputs.reshape(n, -1, inputs.shape[-1]), cotangents)


def _trace_layers(
    network: nn.Module,
    rows: tuple[Tensor, ...],
    layers: dict[str, tuple[nn.Module, LayerRule]],
    readout: Readout,
    shares: Tensor | None,
) -> list[_LayerTrace]:
    """One forward and backward pass that records every ruled layer's inputs and output cotangents."""
    traces = [_LayerTrace(name, layer, rule) for name, (layer, rule) in layers.items()]
    with _hooked(traces):
        outputs = network(*_flat(rows))
    reached = [trace for trace in traces if trace.output is not None and trace.output.requires_grad]
    total = _scalars(outputs, rows[0], readout, shares).sum()
    if total.requires_grad and reached:
        seen = [trace.output for trace in reached if trace.output is not None]
        for trace, cotangents in zip(reached, torch.autograd.grad(total, seen, allow_unused=True), strict=True):
            trace.cotangents = cotangents
    return reached


def _scalars(outputs: Any, points: Tensor, readout: Readout, shares: Tensor | None) -> Tensor:
    """What each point adds to its sample's scalar, ``(n,)`` or ``(n, m)``; the outputs are of the points as rows."""
    size = points.shape[:-1]
    if shares is not None and shares.ndim == points.ndim:
        if shares.shape != (*size, *outputs.shape[1:]) or len(outputs) != size.numel():
            raise ValueError(
                f"Gradients with respect to outputs need the outputs' shape {(*size, *outputs.shape[1:])}, got "
                f"{tuple(shares.shape)}."
            )
        return (outputs.reshape(shares.shape) * shares.to(outputs)).sum(-1)
    scalars = _read(readout, outputs)
    if scalars.shape != (size.numel(),):
        outputs_are = f" of shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else ""
        raise ValueError(
            f"The readout gave shape {tuple(scalars.shape)} for outputs{outputs_are}, where {size.numel()} rows call "
            f"for ({size.numel()},): one scalar per row. The network must return (N, C) for N rows, also for a single "
            "one; of what returns something else, pass readout=lambda outputs: ..."
        )
    if scalars.is_complex():
        raise UnsupportedNetworkError(
            "The readout gave complex scalars, of which there is no gradient to make a kernel of. Say which real part "
            "of the output the loss is of: readout=lambda outputs: torch.view_as_real(outputs).sum((-1, -2))."
        )
    scalars = scalars.reshape(size)
    return scalars * (1 / math.prod(size[1:]) if shares is None else shares.to(scalars))


def _read(readout: Readout, outputs: Any) -> Tensor:
    """The readout of whatever a network returns."""
    try:
        return readout(outputs)
    except (AttributeError, TypeError, KeyError) as error:
        if isinstance(outputs, Tensor):
            raise
        raise UnsupportedNetworkError(
            f"The network returns a {type(outputs).__name__}, of which the readout makes no scalars ({error}). Say "
            "which part the loss is of: readout=lambda outputs: outputs[0].sum(-1), or outputs['...'].sum(-1)."
        ) from error


def _flat(rows: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Points as rows, ``(n, m, d)`` to ``(n m, d)``: some networks take nothing else."""
    return tuple(x.flatten(0, -2) for x in rows)


@contextmanager
def _on_the_side(network: nn.Module, all_buffers: bool = True) -> Iterator[None]:
    """Call a network's own code without a trace of it: what torch.compile makes of it runs no hooks, and no vmap.

    What forward keeps on its modules, as features of the batch, counters and running statistics, stays that of the
    pass that the loss is of. Buffers that it changes in place are those of copies.

    Args:
        network: The network.
        all_buffers: Copy also those that were never changed in place until now. They can be large, and a forward pass
            that came before would have changed them.
    """
    before = [(module, module.__dict__.copy()) for module in network.modules()]
    copies: dict[int, Tensor] = {}
    for module, kept in before:
        for buffer in module._buffers.values():
            if buffer is not None and (all_buffers or buffer.is_inference() or buffer._version):
                copies.setdefault(id(buffer), buffer.clone())
        if module._compiled_call_impl is not None:
            module._compiled_call_impl = None
        if copies and module._buffers:
            module.__dict__["_buffers"] = {
                name: buffer if buffer is None else copies.get(id(buffer), buffer)
                for name, buffer in kept["_buffers"].items()
            }
    try:
        with _eager():
            yield
    finally:
        for module, kept in before:
            module.__dict__.update(kept)
            if len(module.__dict__) > len(kept):
                for name in module.__dict__.keys() - kept.keys():
                    del module.__dict__[name]


def _eager() -> AbstractContextManager[Any]:
    """For compiled functions and modules within the network; torch < 2.6 cannot, and there the check refuses them."""
    # Nothing is compiled before that is imported, which takes seconds; and code that is being compiled may not ask.
    if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance") and not torch.compiler.is_compiling():
        return torch.compiler.set_stance("force_eager")
    return nullcontext()


@contextmanager
def _hooked(traces: list[_LayerTrace]) -> Iterator[None]:
    handles: list[RemovableHandle] = []
    try:
        for trace in traces:
            # Before a user's hooks, which are part of what comes after the layer.
            handles.append(trace.layer.register_forward_hook(trace.hook, prepend=True, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _ruled_layers(network: nn.Module) -> dict[str, tuple[nn.Module, LayerRule]]:
    """Layers with trainable parameters and their rules; refuses what has no rule."""
    _refuse_coupled_rows(network)
    layers: dict[str, tuple[nn.Module, LayerRule]] = {}
    owner: dict[int, str] = {}
    for name, module in network.named_modules():
        own = {p_name: p for p_name, p in module.named_parameters(recurse=False) if p.requires_grad}
        if not own:
            continue
        rule = rule_for(module)
        if isinstance(module, nn.Linear) and not own.keys() <= {"weight", "bias"}:
            # A weight made of others (weight_norm, pruning) has another kernel, though perhaps not at the first step.
            rule = None
        if rule is None:
            raise UnsupportedNetworkError(
                f"Parameters {sorted(own)} belong to {type(module).__name__} '{name}', which has no layerwise kernel "
                f"rule (known: {', '.join(registered_layer_types())}). Register one, freeze them, or use "
                "per_sample_entk."
            )
        for p_name, parameter in own.items():
            if id(parameter) in owner:
                raise UnsupportedNetworkError(
                    f"Parameter '{name}.{p_name}' is tied to '{owner[id(parameter)]}'. The layerwise kernel needs one "
                    "layer per parameter: untie them, or use per_sample_entk."
                )
            owner[id(parameter)] = f"{name}.{p_name}"
        layers[name] = (module, rule)
    return layers


def _refuse_coupled_rows(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            raise UnsupportedNetworkError(
                f"{type(module).__name__} '{name}' normalises by the statistics of its batch, so a row has no gradient "
                "of its own. Put it in eval mode while the kernel is computed."
            )
        if isinstance(module, _DropoutNd) and module.training and module.p > 0:
            raise UnsupportedNetworkError(
                f"{type(module).__name__} '{name}' draws other numbers in every pass, so the kernel would be of "
                "another network than the loss is. Put it in eval mode, or leave it out."
            )


def _add_gram(kernel: Tensor, factors: Factors | LookupFactors) -> None:
    """Add inner products of the per-sample gradients to the kernel's lower triangle, by the cheapest exact route.

    Complex factors stand for complex parameters: their real and imaginary parts are trained as two real ones, and the
    inner product of those is the real part of the complex one.
    """
    if isinstance(factors, LookupFactors):
        _add_gram_of_lookups(kernel, factors)
        return
    left, right = factors.left, factors.right
    (n, s, a), b = left.shape, right.shape[2]
    # Multiplications over n; half of what is symmetric is left out.
    if n * s * s * (a + b) <= 2 * s * a * b + n * a * b:
        _add_gram_of_points(kernel, left, right)
    else:
        _add_gram_of_gradients(kernel, left, right)


def _mirror(kernel: Tensor) -> None:
    """Fill the upper triangle from the lower one, some rows at a time: a copy of a large kernel may not fit."""
    step = _gram_rows(kernel)
    for i in range(0, len(kernel), step):
        j = i + step
        kernel[:i, i:j] = kernel[i:j, :i].T
        block = kernel[i:j, i:j]
        block.copy_(block.tril() + block.tril(-1).T)


def _gram_rows(kernel: Tensor) -> int:
    return GRAM_ROWS if kernel.device.type == "cpu" else GRAM_ROWS_GPU


def _add_gram_of_rows(kernel: Tensor, rows: Tensor) -> None:
    """Add the Gram matrix of rows ``(n, a)``, some at a time, each up to the diagonal: the rest is its mirror image."""
    step = _gram_rows(kernel)
    for i in range(0, len(kernel), step):
        j = i + step
        kernel[i:j, :j].add_((rows[i:j] @ rows[:j].mH).real)


def _add_gram_of_points(kernel: Tensor, left: Tensor, right: Tensor) -> None:
    """Add the elementwise products of two factors' Gram matrices, ``(n, s, a)`` and ``(n, s, b)``, over all pairs of a
    point of one sample and a point of another. Some samples at a time, each up to the diagonal."""
    step, points = _gram_rows(kernel), range(left.shape[1])
    for i in range(0, len(kernel), step):
        j = i + step
        block = kernel[i:j, :j]
        for one, other in product(points, points):
            products = left[i:j, one] @ left[:j, other].mH
            pairs = right[i:j, one] @ right[:j, other].mH
            if right.is_complex():
                block.add_((products * pairs).real)
            else:
                block.addcmul_(products, pairs)


def _add_gram_of_lookups(kernel: Tensor, factors: LookupFactors) -> None:
    """Pairs of points that looked up the same rows, some samples at a time: no gradient of the table is ever formed."""
    n, s, _ = factors.rows.shape
    rows, columns = factors.rows.unique(return_inverse=True)
    right, weights = factors.right.flatten(0, 1), factors.weights.to(factors.right.dtype)
    lookups = _lookups(columns, weights, len(rows))
    step = max(1, GRAM_CHUNK // (s * max(n * s, len(rows))))
    for i in range(0, n, step):
        j = i + step
        some = _lookups(columns[i:j], weights[i:j], len(rows)).to_dense()
        shared = torch.sparse.mm(lookups, some.T).T
        pairs = shared * (right[i * s : j * s] @ right.T)
        kernel[i:j] += pairs.reshape(-1, s, n, s).sum((1, 3))


def _lookups(columns: Tensor, weights: Tensor, width: int) -> Tensor:
    """The matrix of lookups, one row per point: ``(n, s, k)`` columns and their weights to sparse ``(n s, width)``."""
    columns, weights = columns.flatten(0, 1), weights.flatten(0, 1)
    points = torch.arange(len(columns), device=columns.device)[:, None].expand_as(columns)
    places = torch.stack([points.flatten(), columns.flatten()])
    # Coalescing adds the weights where a point looked up one row more than once.
    size = (len(columns), width)
    return torch.sparse_coo_tensor(places, weights.flatten(), size, check_invariants=False).coalesce()


def _add_gram_of_gradients(kernel: Tensor, left: Tensor, right: Tensor) -> None:
    """Form the layer's per-sample gradients, some of their rows at a time."""
    n, _, a = left.shape
    step = max(1, GRAM_CHUNK // (n * right.shape[2]))
    for i in range(0, a, step):
        _add_gram_of_rows(kernel, torch.einsum("nsa,nsb->nab", left[..., i : i + step], right).flatten(1))


def check_rows(
    kernel: Tensor,
    network: nn.Module,
    rows: tuple[Tensor, ...],
    readout: Readout,
    shares: Tensor | None,
    together: bool = False,
) -> None:
    """Compare some rows of a kernel with plain autograd.

    Args:
        kernel: K, ``(n, n)``.
        network: As for :func:`layerwise_entk`, like the others.
        rows: The inputs, ``(n, d)`` or ``(n, m, d)`` each.
        readout: Maps outputs to scalars.
        shares: Shares of the points, or gradients with respect to outputs.
        together: Whether the rows pass through the network among all others, for a kernel of rows alone, or each
            alone, for a kernel of rows that passed together.

    Raises:
        UnsupportedNetworkError: If they disagree.
    """
    n = kernel.shape[0]
    count = min(CHECKED_ROWS, n)
    # Neither the first nor the last: of rows that are sorted on the way through the network those stay in their places.
    checked = [(2 * i + 1) * n // (2 * count) for i in range(count)]
    parameters = [p for p in network.parameters() if p.requires_grad]
    gradients = []
    # What is computed in: a network can have its own autocast.
    precisions: set[torch.dtype] = set()

    def note(saved: Tensor) -> Tensor:
        precisions.add(saved.dtype)
        return saved.detach()

    def scalars(some: slice) -> Tensor:
        chosen = tuple(x[some] for x in rows)
        with _on_the_side(network), torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
            outputs = network(*_flat(chosen))
        found = _scalars(outputs, chosen[0], readout, None if shares is None else shares[some])
        if not found.requires_grad:
            raise UnsupportedNetworkError(
                "The readout's scalars do not depend on any parameter that is trained. It has to be made of the "
                "outputs by what can be differentiated: readout=lambda outputs: outputs.sum(-1)."
            )
        return found

    with torch.enable_grad(), full_precision(rows[0].device):
        among_all = scalars(slice(None)) if together else None
        for i in checked:
            scalar = (scalars(slice(i, i + 1)) if among_all is None else among_all[i]).sum()
            found = torch.autograd.grad(scalar, parameters, allow_unused=True, retain_graph=together)
            gradients.append(
                torch.cat(
                    [
                        _real(torch.zeros_like(p) if g is None else g).flatten()
                        for g, p in zip(found, parameters, strict=True)
                    ]
                )
            )
        stacked = torch.stack(gradients).to(kernel.dtype)
        expected, got = stacked @ stacked.T, kernel[checked][:, checked]
    if not (torch.isfinite(expected).all() and torch.isfinite(got).all()):
        return  # not a matter of structure; whoever uses the kernel sees that it is not finite
    scale = max(expected.abs().max().item(), torch.finfo(kernel.dtype).tiny)
    difference = (got - expected).abs().max().item() / scale
    if difference > max(CHECK_TOLERANCE, CHECK_TOLERANCE_ROUNDINGS * _rounding_error(precisions)):
        hooked = [name for name, p in network.named_parameters() if p.requires_grad and p._backward_hooks]
        if hooked:
            raise UnsupportedNetworkError(
                f"The kernel disagrees with autograd on single rows (relative difference {difference:.2g}), and "
                f"gradients of {', '.join(hooked)} go through hooks. One that changes them makes another kernel: mask "
                "or clip the parameters' .grad after backward instead."
            )
        if together:
            raise UnsupportedNetworkError(
                "The kernel of rows that are each alone disagrees with autograd on rows among all others (relative "
                f"difference {difference:.2g}). Rows influence each other (batch statistics, attention "
                "over the batch), so a row has no gradient of its own."
            )
        raise UnsupportedNetworkError(
            "The layerwise kernel disagrees with autograd on single rows (relative difference "
            f"{difference:.2g}). Rows influence each other (batch statistics, attention, dropout), or a weight is used "
            "outside its layer. Use per_sample_entk if rows are independent."
        )


def _rounding_error(dtypes: set[torch.dtype]) -> float:
    """What the coarsest of some types rounds by, if it is one of half precision; else 0."""
    return max((torch.finfo(dtype).eps for dtype in dtypes & {torch.bfloat16, torch.float16}), default=0.0)


def _validated(inputs: Inputs, shares: Tensor | None) -> tuple[Tensor, ...]:
    """The inputs as a tuple of detached tensors ``(n, d)`` or ``(n, m, d)``."""
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    require_tensors(inputs)
    rows = tuple(x.detach() for x in inputs)
    if not rows or any(x.ndim not in (2, 3) for x in rows) or len({x.shape[:-1] for x in rows}) != 1:
        raise ValueError(
            f"Inputs need shape (n, d) or (n, m, d), alike in n and m, got {[tuple(x.shape) for x in rows]}."
        )
    points = rows[0].shape[:-1]
    if points.numel() == 0:
        raise ValueError(f"Inputs need shape (n, d) or (n, m, d) with n > 0, got {[tuple(x.shape) for x in rows]}.")
    if shares is not None and (shares.shape[: len(points)] != points or shares.ndim > len(points) + 1):
        raise ValueError(f"Shares need shape {tuple(points)}, one per point, got {tuple(shares.shape)}.")
    return rows


def _parameter_chunks(parameters: dict[str, Tensor], limit: int) -> list[list[str]]:
    """Group parameter names so that each group has at most ``limit`` numbers, or is a single tensor."""
    chunks: list[list[str]] = []
    room = 0
    for name, parameter in parameters.items():
        if not chunks or parameter.numel() > room:
            chunks.append([])
            room = limit
        chunks[-1].append(name)
        room -= parameter.numel()
    return chunks


def _real(tensor: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones on a new last axis."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _dtype_of_kernel(network: nn.Module, rows: tuple[Tensor, ...]) -> torch.dtype:
    """That of the kernel's entries: integers that a network is fed say nothing of it."""
    dtypes = {x.dtype for x in (*rows, *network.parameters())}
    return torch.float64 if dtypes & {torch.float64, torch.complex128} else torch.float32


def _accurate(dtype: torch.dtype) -> torch.dtype:
    """At least float32."""
    return torch.promote_types(dtype, torch.float32)
