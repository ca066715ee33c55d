"""What nerfstudio's commands show on the terminal: our messages, and not the stacks behind or before them.

nerfstudio 1.1.5 ends in a traceback whatever the mistake, and warns of what newer torch has deprecated.
"""

from __future__ import annotations

import sys
import warnings
from types import TracebackType

from iga_nerfstudio.divergence import TrainingDiverged
from iga_nerfstudio.terminal import leave_output

# Of nerfstudio 1.1.5 and its packages on newer versions of torch; they change nothing, and no user can mend them.
_KNOWN = (
    r"`torch\.jit\.\w+` is deprecated",
    r"`torch\.cuda\.amp\.",
    r"Using a non-tuple sequence for multidimensional indexing",
    r"This DataLoader will create \d+ worker processes",
    r"Converting a tensor with requires_grad=True to a scalar",
    r"torch\.cuda\.amp\.GradScaler is enabled, but CUDA is not available",
    r"torch\.meshgrid: in an upcoming release",
)


def quiet_known_warnings() -> None:
    """Leave out the known warnings of other packages, unless Python was told to show warnings (``-W``)."""
    if not sys.warnoptions:
        for message in _KNOWN:
            warnings.filterwarnings("ignore", message)


def print_mistakes_in_one_line() -> None:
    """End with the message alone where this package has found out what is wrong; other errors keep their stack.

    That nobody reads the output any longer (``| head``) is none.
    """
    others = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, (ValueError, TrainingDiverged)) and _raised_here(trace):
            print(f"\n{error}", file=sys.stderr)
        elif isinstance(error, OSError) and error.filename is not None and error.filename == _config_read(trace):
            reason = f"{error.filename} cannot be read: {error.strerror}"
            print(f"\n--load-config {reason}. Give the config.yml in a run's folder.", file=sys.stderr)
        elif issubclass(kind, BrokenPipeError):
            leave_output()
        else:
            others(kind, error, trace)

    sys.excepthook = excepthook


def _raised_here(trace: TracebackType | None) -> bool:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("iga_nerfstudio.")


def _config_read(trace: TracebackType | None) -> str | None:
    """The run's settings that a command of nerfstudio's, whatever the method, was to read."""
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "eval_setup":
            return str(trace.tb_frame.f_locals.get("config_path"))
        trace = trace.tb_next
    return None
