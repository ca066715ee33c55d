"""Files of sound: read as libsndfile's users expect, or refused."""

from __future__ import annotations

import contextlib
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.io import wavfile

from iga_nerfstudio.data.sounds import write_wav
from iga_nerfstudio.data.waveforms import read_waveform

SETTINGS = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PCM, FLOAT, MULAW = 1, 3, 7


def wav(
    data: bytes, tag: int = PCM, channels: int = 1, bits: int = 16, rate: int = 8000, announced: int | None = None
) -> bytes:
    """A WAV file byte by byte, with a chunk of remarks before the samples."""
    width = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * width, width, bits)
    size = len(data) if announced is None else announced
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"LIST" + struct.pack("<I", 3) + b"abc\0"
    body += b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


class TestWav:
    @pytest.mark.parametrize(
        ("data", "tag", "bits", "expected"),
        [
            (struct.pack("4B", 0, 64, 128, 255), PCM, 8, [-1, -0.5, 0, 127 / 128]),
            (struct.pack("<4h", -32768, -1, 0, 32767), PCM, 16, [-1, -1 / 32768, 0, 32767 / 32768]),
            (bytes([0, 0, 0x80, 0, 0, 0, 1, 0, 0, 0xFF, 0xFF, 0x7F]), PCM, 24, [-1, 0, 2**-23, 1 - 2**-23]),
            (struct.pack("<4i", -(2**31), 0, 2**30, 2**8), PCM, 32, [-1, 0, 0.5, 2**-23]),
            # G.711: the largest step, the smallest, both signs.
            (bytes([0x00, 0x80, 0x7F, 0xFF]), MULAW, 8, [-32124 / 32768, 32124 / 32768, 0, 0]),
            (struct.pack("<4f", -1.5, 0, 0.1, 3), FLOAT, 32, [-1.5, 0, 0.1, 3]),
            (struct.pack("<4d", -1.5, 0, 0.1, 3), FLOAT, 64, [-1.5, 0, 0.1, 3]),
        ],
    )
    def test_depths(self, tmp_path: Path, data: bytes, tag: int, bits: int, expected: list[float]) -> None:
        signal = read_waveform(put(tmp_path / "a.wav", wav(data, tag, bits=bits)))
        assert signal.values.dtype == np.float64
        assert_array_equal(signal.values, np.float32(expected)[:, None])
        assert (signal.sample_rate, signal.start, signal.unit) == (8000.0, 0.0, "s")
        assert_array_equal(signal.x, np.linspace(-1, 1, 4))
        assert_allclose(signal.axis, np.arange(4) / 8000)

    def test_channels(self, tmp_path: Path) -> None:
        levels = np.arange(10, dtype="<i2").reshape(5, 2) * 1000
        path = put(tmp_path / "a.WAV", wav(levels.tobytes(), channels=2))
        assert_array_equal(read_waveform(path).values, np.float32(levels / 32768))
        assert_array_equal(read_waveform(path, channel=1).values, np.float32(levels[:, 1:] / 32768))
        with pytest.raises(ValueError, match=r"no channel 2 in .*a\.WAV: it has 2, counted from 0"):
            read_waveform(path, channel=2)
        with pytest.raises(ValueError, match="channel must be at least 0, but it is -1"):
            read_waveform(path, channel=-1)
        with pytest.raises(ValueError, match=r"a\.WAV has channels instead of columns. Pass channel"):
            read_waveform(path, column=1)

    @pytest.mark.parametrize("announced", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000])
    def test_an_announced_size_that_was_never_known(self, tmp_path: Path, announced: int) -> None:
        path = put(tmp_path / "a.wav", wav(struct.pack("<3h", 1, 2, 3), announced=announced))
        assert_array_equal(read_waveform(path).values[:, 0] * 32768, [1, 2, 3])

    @pytest.mark.parametrize("size", [0, 12, 100, 0xFFFFFFFF])
    def test_a_wrong_size_of_the_whole(self, tmp_path: Path, size: int) -> None:
        content = bytearray(wav(struct.pack("<300h", *range(300))))
        content[4:8] = struct.pack("<I", size)
        assert_array_equal(read_waveform(put(tmp_path / "a.wav", bytes(content))).values[:, 0] * 32768, np.arange(300))

    @pytest.mark.parametrize(("ending", "step"), [("flac", 2**-15), ("aiff", 2**-15), ("ogg", 0.05), ("mp3", 0.05)])
    def test_other_formats(self, tmp_path: Path, ending: str, step: float) -> None:
        t = np.arange(8000) / 8000
        levels = np.stack([np.sin(2 * np.pi * 220 * t), 0.5 * np.sin(2 * np.pi * 330 * t)], axis=1) * 0.8
        path = tmp_path / f"a.{ending}"
        soundfile.write(path, levels, 8000)
        signal = read_waveform(path)
        assert (signal.sample_rate, signal.unit) == (8000.0, "s")
        # Lossy ones pad; their values are compared where both have some.
        count = min(len(levels), len(signal.values))
        assert count > 0.9 * len(levels)
        if step < 1e-3:
            assert_allclose(signal.values, levels, atol=step)
        else:
            spectra = [np.abs(np.fft.rfft(values[:count], axis=0)) for values in (levels, signal.values)]
            assert_array_equal(*(spectrum.argmax(axis=0) for spectrum in spectra))

    @pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
    def test_an_mp3_that_does_not_say_how_long_it_is(self, tmp_path: Path, mode: str) -> None:
        loud, quiet = np.random.default_rng(0).uniform(-0.8, 0.8, 8000), np.zeros(40_000)
        soundfile.write(tmp_path / "a.mp3", np.concatenate([loud, quiet]), 8000, bitrate_mode=mode)
        content = (tmp_path / "a.mp3").read_bytes()
        assert b"Xing" in content[:64] or b"Info" in content[:64]
        without_count = content[content.index(content[:2], 4) :]
        tags = b"ID3\3\0\0" + bytes([0, 8, 0, 0]) + bytes(8 << 14)
        for start in (b"", tags):
            assert 48_000 <= len(read_waveform(put(tmp_path / "b.mp3", start + without_count)).x) < 50_000
        assert len(read_waveform(tmp_path / "a.mp3").x) == 48_000

    @pytest.mark.parametrize("ending", ["ogg", "mp3", "flac"])
    def test_nothing_of_a_damaged_file_is_left_out(self, tmp_path: Path, ending: str) -> None:
        soundfile.write(tmp_path / f"a.{ending}", np.random.default_rng(0).uniform(-0.8, 0.8, 20_000), 8000)
        content = (tmp_path / f"a.{ending}").read_bytes()
        middle = len(content) // 2
        cut, zeros_behind = content[:middle], content[:middle] + bytes(middle)
        zeros_within = content[:middle] + bytes(2000) + content[middle + 2000 :]
        hole = content[:middle] + content[middle + 2000 :]
        for part in (cut, zeros_behind, zeros_within, hole):
            with pytest.raises(ValueError, match=rf"a\.{ending} (is truncated|is damaged|cannot be read)"):
                read_waveform(put(tmp_path / f"a.{ending}", part))

    def test_ogg_with_something_behind(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        soundfile.write(tmp_path / "a.ogg", np.zeros(9000), 8000)
        content = (tmp_path / "a.ogg").read_bytes()
        assert len(read_waveform(put(tmp_path / "a.ogg", content + b"TAG" + bytes(125))).x) == 9000
        assert not caplog.records
        assert len(read_waveform(put(tmp_path / "a.ogg", content + content)).x) == 9000
        assert "holds 2 sounds one after the other; only the first is read" in caplog.text

    @pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU"])
    def test_cut_short(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "a.wav"
        soundfile.write(path, np.zeros(1000), 8000, "PCM_16", format=kind)
        assert len(read_waveform(path).x) == 1000
        with pytest.raises(ValueError, match=r"a\.wav is truncated: \d+ of (the|its) \d+ .* are missing"):
            read_waveform(put(path, path.read_bytes()[:-500]))

    def test_flac_of_unknown_length(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.flac", np.zeros(1000), 8000)
        content = bytearray((tmp_path / "a.flac").read_bytes())
        content[21] &= 0xF0  # the upper bits of the number of samples
        content[22:26] = bytes(4)
        with pytest.raises(ValueError, match=r"a\.flac cannot be read as sound: it does not say how many samples"):
            read_waveform(put(tmp_path / "a.flac", bytes(content)))

    def test_what_libsndfile_cannot_seek_in(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.wav", np.zeros(3200), 8000, "GSM610")
        assert len(read_waveform(tmp_path / "a.wav").x) >= 3200

    def test_silence(self, tmp_path: Path) -> None:
        assert read_waveform(put(tmp_path / "a.wav", wav(bytes(20)))).peak == 0.0

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"ID3 this is music", "cannot be read as sound: Format not recognised"),
            (wav(bytes(20))[:30], "cannot be read as sound: Error in WAV file. No 'data' chunk"),
            (wav(bytes(20))[:9], "cannot be read as sound: Format not recognised"),
            (wav(bytes(20))[:-3], "is truncated: 3 of the 20 bytes of its samples are missing"),
            (wav(bytes(20))[:-4], "is truncated: 4 of the 20 bytes of its samples are missing"),
            (wav(b""), "holds no samples, but at least 2 are needed"),
            (wav(bytes(2)), "holds 1 sample, but at least 2 are needed"),
            (wav(bytes(20), channels=0), "cannot be read as sound: Channel count is zero"),
            (wav(bytes(20), rate=0), "cannot be read as sound"),
            (wav(struct.pack("<3f", 0, np.nan, np.inf), FLOAT, bits=32), "2 of the 3 values of .* are NaN, infinite"),
            (wav(struct.pack("<2d", 0, 1e300), FLOAT, bits=64), "1 of the 2 values of .* too large"),
        ],
    )
    def test_refused(self, tmp_path: Path, content: bytes, message: str) -> None:
        with pytest.raises(ValueError, match=message) as refusal:
            read_waveform(put(tmp_path / "a.wav", content))
        assert "a.wav" in str(refusal.value)

    @SETTINGS
    @given(damage=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4), length=st.integers(1, 80))
    def test_damaged_files_raise_nothing_else(self, tmp_path: Path, damage: list[tuple[int, int]], length: int) -> None:
        content = bytearray(wav(bytes(range(24)), channels=2)[:length])
        for place, byte in damage:
            content[place % len(content)] = byte
        with contextlib.suppress(ValueError):
            signal = read_waveform(put(tmp_path / "a.wav", bytes(content)))
            assert np.isfinite(signal.values).all()


class TestWriteWav:
    @SETTINGS
    @given(levels=arrays(np.int16, st.tuples(st.integers(2, 8), st.integers(1, 3))))
    def test_round_trip(self, tmp_path: Path, levels: np.ndarray) -> None:
        write_wav(tmp_path / "a.wav", np.float32(levels / 32768), 22050.0)
        signal = read_waveform(tmp_path / "a.wav")
        assert_array_equal(signal.values * 32768, levels)
        assert signal.sample_rate == 22050.0

    def test_sixteen_bits_of_pcm(self, tmp_path: Path) -> None:
        write_wav(tmp_path / "a.wav", np.array([[0.5, -1.0], [0.0, 1.0]]), 8000)
        rate, levels = wavfile.read(tmp_path / "a.wav")
        assert rate == 8000
        assert levels.dtype == np.int16
        assert_array_equal(levels, [[16384, -32768], [0, 32767]])

    def test_values_between_two_levels_are_rounded(self, tmp_path: Path) -> None:
        write_wav(tmp_path / "a.wav", np.array([[3.4], [3.6], [-3.4], [-3.6]]) / 32768, 8000)
        assert_array_equal(wavfile.read(tmp_path / "a.wav")[1], [3, 4, -3, -4])

    def test_clipping_is_counted(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        values = np.array([[0.0], [1.5], [-7.0], [1.0], [-1.0]], np.float32)
        with caplog.at_level(logging.WARNING, logger="iga_nerfstudio"):
            write_wav(tmp_path / "a.wav", values, 8000)
        assert "2 of the 5 values are beyond [-1, 1] and clipped" in caplog.text
        assert_array_equal(wavfile.read(tmp_path / "a.wav")[1], [0, 32767, -32768, 32767, -32768])

    def test_nothing_is_logged_without_clipping(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        write_wav(tmp_path / "a.wav", np.array([[-1.0], [1.0]]), 8000)
        assert not caplog.records

    @pytest.mark.parametrize(
        ("name", "values", "rate", "message"),
        [
            ("a.mp3", np.zeros((4, 1)), 8000, r"written as WAV, but .*a\.mp3 ends in '.mp3'"),
            ("a.wav", np.zeros(4), 8000, r"float64 of shape \(4,\)"),
            ("a.wav", np.zeros((4, 1), complex), 8000, "complex128 of shape"),
            ("a.wav", np.zeros((0, 1)), 8000, r"of shape \(0, 1\)"),
            ("a.wav", np.array([[np.nan], [0]]), 8000, "1 of the 2 values are NaN or infinite"),
            ("a.wav", np.zeros((4, 1)), 102.4, "whole number of samples per second, but sample_rate is 102.4"),
            ("a.wav", np.zeros((4, 1)), 0, "but sample_rate is 0"),
            ("a.wav", np.zeros((4, 1)), 2**31, "but sample_rate is 2147483648"),
            ("/dev/null/a.wav", np.zeros((4, 1)), 8000, r"Cannot write .*null/a\.wav: "),
        ],
    )
    def test_refused(self, tmp_path: Path, name: str, values: np.ndarray, rate: float, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            write_wav(tmp_path / name, values, rate)
        assert not list(tmp_path.iterdir())
