"""The earlier place of what reads signals, for code that imports it from here; see :mod:`iga_nerfstudio.data`."""

from iga_nerfstudio.data.sines import PAPER_SIGNALS, PaperSignal, paper_signal, sum_of_sines
from iga_nerfstudio.data.sounds import write_wav
from iga_nerfstudio.data.waveforms import Waveform, read_waveform

__all__ = ["PAPER_SIGNALS", "PaperSignal", "Waveform", "paper_signal", "read_waveform", "sum_of_sines", "write_wav"]
