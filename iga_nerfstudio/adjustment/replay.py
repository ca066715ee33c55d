"""What a GPU is told to do for every kernel, recorded once and replayed.

A kernel is hundreds of operations of a few microseconds each, and telling a GPU to begin one takes the host ten. A CUDA
graph is told in one go.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

logger = logging.getLogger("iga_nerfstudio")

Result = TypeVar("Result")

# Recording takes as long as some steps. Where shapes are other ones time and again it is given up.
MOST_RECORDINGS = 8
# Calls before a recording: libraries allocate and choose at the first ones.
WARM_UP_CALLS = 2


class Replay(Generic[Result]):
    """A function of tensors and of a network whose operations a CUDA graph repeats.

    They must be the same at every call of the same shapes: what Python decides on the way is decided at the recording.
    Parameters are read where they are, so the graph sees what an optimiser has made of them.

    Attributes:
        replayed: Whether the latest call was: its result lies where that of the one before did.
    """

    def __init__(self) -> None:
        self.replayed = False
        self._key: Hashable = None
        self._graph: Any = None
        self._inputs: list[Tensor] = []
        self._result: Result | None = None
        self._recordings = 0

    def __reduce__(self) -> tuple[type[Replay[Any]], tuple[()]]:
        """A copy, or what is read from a file, records anew."""
        return Replay, ()

    def __call__(
        self,
        function: Callable[..., Result],
        inputs: Sequence[Tensor],
        network: nn.Module | None = None,
        constants: Hashable = None,
    ) -> Result:
        """The function's result; its tensors are overwritten by the next call.

        Args:
            function: Called with the inputs. Launches work on the GPU and waits for nothing.
            inputs: On the same GPU.
            network: Whose parameters and buffers it reads, if any.
            constants: What else decides what it does, places of tensors that it reads included.
        """
        state = [] if network is None else [*network.parameters(), *network.buffers()]
        key = (
            constants,
            tuple((x.shape, x.dtype, x.device) for x in inputs),
            tuple((x.data_ptr(), x.shape, x.requires_grad) for x in state),
            network is not None and network.training,
        )
        self.replayed = False
        if key != self._key:
            if self._recordings >= MOST_RECORDINGS:
                return function(*inputs)
            self._record(function, inputs, key)
        if self._graph is None:
            return function(*inputs)
        with torch.no_grad():
            torch._foreach_copy_(self._inputs, list(inputs))
        self._graph.replay()
        self.replayed = True
        return cast(Result, self._result)

    def _record(self, function: Callable[..., Result], inputs: Sequence[Tensor], key: Hashable) -> None:
        self._key, self._graph, self._result = key, None, None
        self._recordings += 1
        self._inputs = [x.detach().clone() for x in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_CALLS):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads (a viewer's) may go on meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._result = function(*self._inputs)
        except RuntimeError as error:
            self._recordings = MOST_RECORDINGS
            self._result = None
            logger.warning(
                "The kernel cannot be recorded as a CUDA graph (%s); its operations are begun singly.", error
            )
        else:
            self._graph = graph
