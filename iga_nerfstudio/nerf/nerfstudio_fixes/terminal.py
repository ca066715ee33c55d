"""What nerfstudio's commands show on the terminal: our messages, and not the stacks behind or before them.

nerfstudio 1.1.5 ends in a traceback whatever the mistake, and warns of what newer torch has deprecated.
"""

from __future__ import annotations

import sys
import warnings
from types import TracebackType

from yaml import YAMLError

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
        elif (mistake := _mistake_in_a_run(error, trace)) is not None:
            print(f"\n{mistake}", file=sys.stderr)
        elif issubclass(kind, BrokenPipeError):
            leave_output()
        else:
            others(kind, error, trace)

    sys.excepthook = excepthook


def _raised_here(trace: TracebackType | None) -> bool:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("iga_nerfstudio.")


def _mistake_in_a_run(error: BaseException, trace: TracebackType | None) -> str | None:
    """What is wrong with a run that a command of nerfstudio's, whatever the method, was to read; None if nothing is."""
    names = {}
    while trace is not None:
        names[trace.tb_frame.f_code.co_name] = trace.tb_frame.f_locals
        trace = trace.tb_next
    config = names.get("eval_setup", {}).get("config_path")
    checkpoint = names.get("eval_load_checkpoint", {}).get("load_path")
    reason = " ".join(str(error).split())
    if checkpoint is not None and isinstance(error, Exception):
        return (
            f"The checkpoint {checkpoint} cannot be loaded ({type(error).__name__}: {reason[:300]}): it is damaged, or "
            f"of other settings than {config}. Another one can be named there: load_step."
        )
    if isinstance(error, OSError) and error.filename is not None and error.filename == str(config):
        reason = str(error.strerror)
    elif config is None or not isinstance(error, UnicodeDecodeError | YAMLError):
        return None
    return f"--load-config {config} cannot be read: {reason}. Give the config.yml in a run's folder."
