"""1D signals: spectra of the built-in ones, files of every kind to exact values, and refusals."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose, assert_array_equal

from iga_nerfstudio.data.sines import paper_signal, sum_of_sines
from iga_nerfstudio.data.tables import write_table
from iga_nerfstudio.data.waveforms import Waveform, read_waveform, waveform_of

SETTINGS = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def put(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def npy(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def amplitudes_and_phases(signal: Waveform) -> tuple[np.ndarray, np.ndarray]:
    """Of the sine in each bin of the discrete Fourier transform."""
    spectrum = 2 * np.fft.rfft(signal.values[:, 0].astype(np.float64)) / len(signal.x)
    return np.abs(spectrum), np.angle(spectrum) + np.pi / 2


class TestWaveform:
    def test_axis_and_peak(self) -> None:
        values = np.array([[0.0, 1.0], [-3.0, 2.0], [0.5, 0.0]], np.float32)
        signal = Waveform(np.linspace(-1, 1, 3), values, sample_rate=4.0, start=10.0, unit="s")
        assert_array_equal(signal.axis, [10.0, 10.25, 10.5])
        assert signal.peak == 3.0

    @pytest.mark.parametrize(
        ("positions", "shape", "rate", "message"),
        [
            (3, (4, 1), 1.0, r"shapes \(3,\) and \(4, 1\)"),
            (3, (3,), 1.0, r"shapes \(3,\) and \(3,\)"),
            (1, (1, 1), 1.0, "N of 2 or more"),
            (3, (3, 1), 0.0, "sample rate must be positive, but it is 0.0"),
            (3, (3, 1), np.nan, "sample rate must be positive, but it is nan"),
        ],
    )
    def test_refused(self, positions: int, shape: tuple[int, ...], rate: float, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Waveform(np.linspace(-1, 1, positions), np.zeros(shape, np.float32), rate)


class TestSines:
    def test_values(self) -> None:
        signal = sum_of_sines([3.0, 0.5], [2.0, -1.0], [0.1, 0.2], 50, domain=(2.0, 6.0))
        t = 2 + 4 * np.arange(50) / 50
        expected = 2 * np.sin(2 * np.pi * 3 * t + 0.1) - np.sin(2 * np.pi * 0.5 * t + 0.2)
        assert_allclose(signal.values[:, 0], expected, atol=1e-6)
        assert signal.values.shape == (50, 1)
        assert signal.values.dtype == np.float64
        assert_allclose(signal.axis, t)
        assert_allclose(signal.x, -1 + 2 * np.arange(50) / 50)
        assert signal.sample_rate == 12.5

    def test_end_point(self) -> None:
        signal = sum_of_sines([1.0], num_samples=9, domain=(0.0, 2.0), endpoint=True)
        assert_array_equal(signal.x, np.linspace(-1, 1, 9))
        assert signal.axis[-1] == 2.0
        assert_allclose(signal.values[:, 0], np.sin(2 * np.pi * np.linspace(0, 2, 9)), atol=1e-6)

    @SETTINGS
    @given(data=st.data(), length=st.sampled_from([1.0, 2.0, 10.0]), num_samples=st.integers(20, 200))
    def test_each_frequency_is_one_bin(self, data: st.DataObject, length: float, num_samples: int) -> None:
        bins = data.draw(st.lists(st.integers(1, (num_samples - 1) // 2), min_size=1, max_size=4, unique=True))
        numbers = st.lists(st.floats(0.5, 2.0), min_size=len(bins), max_size=len(bins))
        amplitudes, phases = data.draw(numbers), data.draw(numbers)
        signal = sum_of_sines([b / length for b in bins], amplitudes, phases, num_samples, domain=(0.0, length))
        found, angles = amplitudes_and_phases(signal)
        expected = np.zeros_like(found)
        expected[bins] = amplitudes
        assert_allclose(found, expected, atol=1e-4)
        assert_allclose(angles[bins], phases, atol=1e-3)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"frequencies": []}, "frequencies is empty"),
            ({"frequencies": [1, 2], "amplitudes": [1]}, "2 frequencies, 1 amplitudes and 2 phases"),
            ({"frequencies": [1, 2], "phases": [1, 2, 3]}, "2 frequencies, 2 amplitudes and 3 phases"),
            ({"frequencies": [np.nan]}, "frequencies must be a list of finite numbers"),
            ({"frequencies": [1], "amplitudes": [np.inf]}, "amplitudes must be a list of finite numbers"),
            ({"frequencies": [-1]}, "must not be negative, but one is -1"),
            ({"frequencies": [1], "num_samples": 1}, "num_samples must be at least 2, but it is 1"),
            ({"frequencies": [1], "num_samples": 4.5}, "num_samples must be a whole number, but it is 4.5"),
            ({"frequencies": [1], "domain": (1, 1)}, r"low below high, but it is \(1, 1\)"),
            (
                {"frequencies": [0.1, 8], "num_samples": 32},
                "8 is not below the Nyquist frequency 8, .* at least 33 samples",
            ),
            (
                {"frequencies": [20], "num_samples": 32},
                "20 is not below the Nyquist frequency 8, .* at least 81 samples",
            ),
        ],
    )
    def test_refused(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            sum_of_sines(**arguments)

    @pytest.mark.parametrize("endpoint", [False, True])
    @pytest.mark.parametrize("frequency", [8.0, 7.9, 0.6])
    def test_the_number_of_samples_asked_for_is_the_smallest(self, frequency: float, endpoint: bool) -> None:
        with pytest.raises(ValueError, match="Nyquist") as refusal:
            sum_of_sines([frequency], num_samples=2, endpoint=endpoint)
        needed = int(str(refusal.value).split("at least ")[1].split()[0])
        assert len(sum_of_sines([frequency], num_samples=needed, endpoint=endpoint).x) == needed
        if needed > 3:
            with pytest.raises(ValueError, match=f"at least {needed} samples"):
                sum_of_sines([frequency], num_samples=needed - 1, endpoint=endpoint)


class TestPaperSignals:
    @pytest.mark.parametrize(
        ("name", "count", "domain", "frequencies"),
        [
            ("experiment1", 1024, (-5, 5), [0.2, 0.4, 0.8, 1.6]),
            ("experiment2", 2048, (-1, 1), [10, 20, 30, 40, 50, 60]),
            ("experiment2_relu", 2048, (-1, 1), [5, 10, 15, 20, 25, 30]),
        ],
    )
    def test_signal(self, name: Any, count: int, domain: tuple[int, int], frequencies: list[float]) -> None:
        signal = paper_signal(name)
        t = np.linspace(*domain, count, endpoint=False)
        assert_allclose(signal.axis, t, atol=1e-12)
        assert_allclose(signal.x, t / domain[1], atol=1e-12)
        assert_allclose(signal.values[:, 0], np.sin(2 * np.pi * t[:, None] * frequencies).sum(axis=1), atol=1e-5)
        found, _ = amplitudes_and_phases(signal)
        bins = np.flatnonzero(found > 1e-4)
        assert_allclose(bins / (domain[1] - domain[0]), frequencies)
        assert_allclose(found[bins], 1.0, atol=1e-4)

    def test_another_number_of_samples(self) -> None:
        assert paper_signal("experiment1", 100).values.shape == (100, 1)

    def test_too_few_samples(self) -> None:
        with pytest.raises(ValueError, match=r"60 is not below the Nyquist frequency 50, .* at least 241 samples"):
            paper_signal("experiment2", 200)

    def test_unknown(self) -> None:
        with pytest.raises(ValueError, match=r"no signal 'experiment3'. Choose one of experiment1, experiment2, "):
            paper_signal("experiment3")  # type: ignore[arg-type]


class TestText:
    @pytest.mark.parametrize(
        "text",
        [
            "0,1\n0.5,2\n1,4\n",
            "0;1\n0.5;2\n1;4",
            "0\t1\n0.5\t2\n1\t4\n",
            "0 1\n0.5   2\n  1 4 \n",
            "0, 1\r\n0.5, 2\r\n1, 4\r\n",
            "# remark, with a comma\n\n0,1\n\n0.5,2\n1,4\n\n",
            "time (s),sound level\n0,1\n0.5,2\n1,4\n",
            '\ufeff"time; s";"level"\n0;1\n0.5;2\n1;4\n',
            "0,1e0\n5e-1,+2\n1.0,4\n",
            "t,level\r0,1\r0.5,2\r1,4\r",
            "t;level;\n0;1;\n0.5;2;\n1;4;\n",
            "0,1,\n0.5,2,\n1,4,\n",
            "t,level,,\n0,1,,\n0.5,2,,\n1,4,,\n",
            "t\tlevel in µV\r\n0\t1\r\n0.5\t2\r\n1\t4\r\n".encode("utf-16"),
            "Zeit;Größe in µV\r\n0;1\r\n0.5;2\r\n1;4\r\n".encode("cp1252"),
        ],
    )
    def test_two_columns(self, tmp_path: Path, text: str | bytes) -> None:
        signal = read_waveform(put(tmp_path / "a.csv", text))
        assert_array_equal(signal.values, np.float32([[1], [2], [4]]))
        assert (signal.sample_rate, signal.start, signal.unit) == (2.0, 0.0, "")
        assert_array_equal(signal.x, [-1, 0, 1])

    def test_names_as_programs_on_windows_write_them(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a.csv", "Zeit (s);Größe (µm);b\n0;1;5\n1;2;6\n".encode("cp1252"))
        assert_array_equal(read_waveform(path, column="Größe (µm)").values[:, 0], [1, 2])

    @pytest.mark.parametrize(
        ("text", "number_of_warnings"),
        [("0,12\n1,25\n2,75\n", 1), ("t,level\n0,12\n1,25\n2,75\n", 0), ("0,1.2\n1,2.5\n", 0), ("0;12\n1;25\n", 0)],
    )
    def test_commas_that_may_be_decimal_are_told_of(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, number_of_warnings: int
    ) -> None:
        read_waveform(put(tmp_path / "a.csv", text))
        assert len(caplog.records) == number_of_warnings
        assert all("If it is a decimal one" in record.message for record in caplog.records)

    @pytest.mark.parametrize("text", ["1\n2\n-3.5\n", "sound, level\n1\n2\n-3.5", "my level\n1\n2\n-3.5"])
    @pytest.mark.parametrize("ending", ["csv", "txt", "tsv"])
    def test_one_column(self, tmp_path: Path, text: str, ending: str) -> None:
        signal = read_waveform(put(tmp_path / f"a.{ending}", text))
        assert_array_equal(signal.values[:, 0], [1, 2, -3.5])
        assert (signal.sample_rate, signal.start) == (1.0, 0.0)

    def test_more_columns(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a.csv", "t,left,right\n-2,1,10\n-1,2,20\n0,3,30\n")
        signal = read_waveform(path)
        assert_array_equal(signal.values, np.float32([[1, 10], [2, 20], [3, 30]]))
        assert signal.start == -2.0
        assert_array_equal(read_waveform(path, column="right").values[:, 0], [10, 20, 30])
        assert_array_equal(read_waveform(path, column=1).values[:, 0], [1, 2, 3])

    @pytest.mark.parametrize(
        ("column", "message"),
        [
            ("middle", r"not one column 'middle' in .*a\.csv: its columns are t, left, right"),
            (3, r"no column 3 in .*a\.csv: it has 3, counted from 0"),
            (-1, "column must be at least 0, but it is -1"),
            (1.0, "column must be a whole number, but it is 1.0"),
            ("t", r"Column 't' of .*a\.csv holds the positions"),
            (0, r"Column 0 of .*a\.csv holds the positions"),
        ],
    )
    def test_columns_that_are_not_there(self, tmp_path: Path, column: Any, message: str) -> None:
        path = put(tmp_path / "a.csv", "t,left,right\n-2,1,10\n-1,2,20\n")
        with pytest.raises(ValueError, match=message):
            read_waveform(path, column=column)

    def test_the_only_column(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a.csv", "level\n1\n2\n")
        assert_array_equal(read_waveform(path, column=0).values, read_waveform(path, column="level").values)

    def test_names_that_are_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="its columns have no names"):
            read_waveform(put(tmp_path / "a.csv", "0,1\n1,2\n"), column="left")

    def test_channel_is_for_other_files(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"a\.csv is a text file, which has columns .* Pass column"):
            read_waveform(put(tmp_path / "a.csv", "0,1\n1,2\n"), channel=0)

    def test_rounded_positions_are_even(self, tmp_path: Path) -> None:
        lines = [f"{i / 30:.3f},{i}" for i in range(100)]
        signal = read_waveform(put(tmp_path / "a.csv", "\n".join(lines)))
        assert signal.sample_rate == pytest.approx(30.0)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("0,1\n1,x\n", r"a\.csv, line 2: 'x' is not a number. Correct or remove the line"),
            ("a,b\n\n# c\n0,1\n1,\n", r"a\.csv, line 5: '' is not a number"),
            ("0,a\n1,2\n", r"a\.csv, line 1: 'a' is not a number"),
            ("a;b\n0;1\n1;2,5\n", r"a\.csv, line 3: '2,5' is not a number. Use a decimal point"),
            ("0,1\n1,2,3\n", r"a\.csv, line 2: 3 columns, but the first line has 2"),
            ("a,b\n", r"a\.csv holds no numbers, only the names of columns: a, b"),
            ("\n# nothing\n\n", r"a\.csv holds no numbers, only empty lines and comments"),
            ("0,1\n", r"a\.csv holds 1 sample, but at least 2"),
            ("5\n", r"a\.csv holds 1 sample, but at least 2"),
            (
                "0,1\n1,2\n3,4\n4,5\n",
                r"evenly spaced positions, but in line 3 3 follows 1, and the mean step is 1\.33333",
            ),
            ("1,1\n0,2\n", "ascending, evenly spaced positions, but in line 2 0 follows 1"),
            ("1,1\n1,2\n", "ascending, evenly spaced positions, but in line 2 1 follows 1"),
            ("t,v\n0,1\n1,2\n1,3\n3,4\n", "but in line 4 1 follows 1"),
            ("0,1\nnan,2\n2,3\n", r"1 positions in the first column of .*a\.csv are NaN"),
            ("1\nnan\ninf\n", r"2 of the 3 values of .*a\.csv are NaN"),
            (",".join("0" * 18) + "\n" + ",".join("1" * 18), "has 18 columns, but at most 16 beside the positions"),
            (b"\xff\xfe0\x00\n\x001", r"a\.csv is no text in UTF-8"),
            ("t,v\n0,1\n1,2\n".encode("utf-16-le"), r"a\.csv is no text in UTF-8"),
            (b"0,1\n" + bytes(512) + b"\n1,2\n", r"a\.csv is no text .*, or it is damaged: it holds bytes of 0"),
            ("0,5\n1,25\n2,05\n", "line 3: '2,05' looks like a number with a decimal comma. Use a decimal point"),
            ("Wert, V\n0,5\n0,00\n", "line 3: '0,00' looks like a number with a decimal comma"),
            ("0,5\n0,7\n0,9\n", "evenly spaced .* If the commas are decimal ones, use decimal points"),
            ("0,5 1,5\n1,5 2,5\n", "line 1: '5 1' is not a number. Use a decimal point"),
            ('t,v\n0,"1,234"\n', "'1,234' is not a number. Use a decimal point, and nothing else between digits"),
            ("t;v\n0;1.234,5\n", "'1.234,5' is not a number. Use a decimal point, and nothing else between digits"),
            ("t;v\n0;1.000.000\n", "Use a decimal point, and nothing else between digits"),
            ("t;v\n0;1\u202f000\n", "Use a decimal point, and nothing else between digits"),
            ("t,a\n08:15,1\n08:16,2\n", "Write dates and times as numbers"),
            (
                f"{17 * 10**17},1\n{17 * 10**17 + 100},2\n{17 * 10**17 + 200},3\n",
                r"go up to 1\.7e\+18, where numbers are 256 apart .* Subtract the first position",
            ),
            ("day,a\n2024-01-31,1\n2024-02-01,2\n", "line 2: '2024-01-31' is not a number. Write dates and times as"),
            ("at;a\n31.1.2024;1\n1.2.2024;2\n", "Write dates and times as numbers"),
            ("at,a\n08:15:00,1\n08:15:01,2\n", "Write dates and times as numbers"),
            (
                "t,a\ns,V\n0,1\n1,2\n",
                "line 2: 's' is not a number. Only the first line may hold names; begin other lines",
            ),
            ("Scope X\nt,a\n0,1\n1,2\n", "line 2: 't,a' is not a number. Only the first line may hold names"),
            ("0,1,\n1,2,5\n", "line 1: '' is not a number. Correct or remove the line"),
            ("0,1\n1," + "9" * 200_000 + "\n", r"a\.csv is no table of numbers: field larger"),
        ],
    )
    def test_refused(self, tmp_path: Path, text: str | bytes, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            read_waveform(put(tmp_path / "a.csv", text))

    @SETTINGS
    @given(
        values=arrays.arrays(
            np.float32, st.tuples(st.integers(2, 8), st.integers(1, 3)), elements=st.floats(-9, 9, width=32)
        ),
        delimiter=st.sampled_from([",", ";", "\t", " "]),
        names=st.booleans(),
        start=st.integers(-5, 5),
    )
    def test_round_trip(self, tmp_path: Path, values: np.ndarray, delimiter: str, names: bool, start: int) -> None:
        table = np.column_stack([start + 0.25 * np.arange(len(values)), values])
        buffer = io.StringIO()
        header = delimiter.join("abcd"[: table.shape[1]]) if names else ""
        np.savetxt(buffer, table, delimiter=delimiter, header=header, comments="")
        signal = read_waveform(put(tmp_path / "a.csv", buffer.getvalue()))
        assert_array_equal(signal.values, values)
        assert (signal.sample_rate, signal.start) == (4.0, start)


class TestNpy:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int16, np.uint8, np.bool_])
    def test_values_as_they_are(self, tmp_path: Path, dtype: type) -> None:
        array = np.array([0, 1, 100, 3]).astype(dtype)
        signal = read_waveform(npy(tmp_path / "a.npy", array))
        assert signal.values.dtype == np.float64
        assert_array_equal(signal.values, array.astype(np.float32)[:, None])
        assert (signal.sample_rate, signal.start, signal.unit) == (1.0, 0.0, "")

    def test_channels(self, tmp_path: Path) -> None:
        array = np.arange(12.0).reshape(4, 3)
        path = npy(tmp_path / "a.npy", array)
        assert_array_equal(read_waveform(path).values, array)
        assert_array_equal(read_waveform(path, channel=2).values, array[:, 2:])

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((2, 3, 4)), r"array of shape \(2, 3, 4\), but \(N,\)"),
            (np.zeros((2, 17)), r"array of shape \(2, 17\), .*1 to 16 channels.*transpose"),
            (np.zeros((5, 0)), r"array of shape \(5, 0\)"),
            (np.array(1.0), "array of shape"),
            (np.zeros(4, complex), "values of type complex128, but real numbers"),
            (np.array(["a", "b"]), "values of type <U1"),
            (np.zeros(1), "holds 1 sample, but"),
            (np.zeros((0, 2)), "holds no samples, but"),
            (np.array([0, np.nan]), "1 of the 2 values of"),
        ],
    )
    def test_refused(self, tmp_path: Path, array: np.ndarray, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            read_waveform(npy(tmp_path / "a.npy", array))

    def test_python_objects_are_never_unpickled(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npy"
        np.save(path, np.array([{}, {}]), allow_pickle=True)
        with pytest.raises(ValueError, match=r"a\.npy cannot be read as NPY: .*allow_pickle=False"):
            read_waveform(path)

    @pytest.mark.parametrize("length", [4, 60, 150])
    def test_truncated(self, tmp_path: Path, length: int) -> None:
        path = npy(tmp_path / "a.npy", np.zeros(10))
        with pytest.raises(ValueError, match=r"a\.npy cannot be read as NPY"):
            read_waveform(put(path, path.read_bytes()[:length]))


class TestStretch:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """One second at 100 samples per second, sample i being i."""
        soundfile.write(tmp_path / "a.wav", np.arange(100, dtype=np.float32), 100, "FLOAT")
        return tmp_path / "a.wav"

    def test_stretch(self, path: Path) -> None:
        signal = read_waveform(path, start=0.25, duration=0.5)
        assert_array_equal(signal.values[:, 0], np.arange(25, 75))
        assert signal.start == 0.25
        assert_array_equal(signal.x, np.linspace(-1, 1, 50))
        assert_allclose(signal.axis, np.arange(25, 75) / 100)

    def test_defaults_and_bounds(self, path: Path) -> None:
        assert len(read_waveform(path, start=0.9).x) == 10
        assert len(read_waveform(path, duration=1.0).x) == 100
        assert len(read_waveform(path, duration=0.02).x) == 2

    def test_start_counts_from_the_first_sample(self, tmp_path: Path) -> None:
        signal = read_waveform(put(tmp_path / "a.csv", "5,0\n5.5,1\n6,2\n6.5,3\n"), start=0.5, duration=1.0)
        assert_array_equal(signal.values[:, 0], [1, 2])
        assert signal.start == 5.5

    def test_what_lies_outside_does_not_matter(self, tmp_path: Path) -> None:
        path = npy(tmp_path / "a.npy", np.array([np.nan, 1.0, 2.0]))
        assert_array_equal(read_waveform(path, start=1).values[:, 0], [1, 2])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"start": -0.1}, "start must not be negative, but it is -0.1"),
            ({"start": np.nan}, "start must not be negative, but it is nan"),
            ({"duration": 0}, "duration must be positive, but it is 0"),
            ({"start": 1.0}, r"stretch from 1 on leaves .*a\.wav, which is 1 s long \(100 samples\)"),
            ({"start": 0.5, "duration": 0.6}, r"stretch from 0.5 to 1.1 leaves .*a\.wav, which is 1 s long"),
            ({"start": 1e308, "duration": 1e308}, "leaves"),
            ({"start": 0.99}, "has 1 sample, but at least 2 are needed, that is a duration of 0.02 s"),
            ({"duration": 0.001}, "has 0 samples, but at least 2 are needed"),
            ({"max_samples": 99}, "has 100 samples, but at most 99 are allowed. .* at most duration=0.99, or raise"),
            ({"duration": 0.5, "max_samples": 49}, "has 50 samples, but at most 49"),
            ({"max_samples": 1}, "max_samples must be at least 2, but it is 1"),
        ],
    )
    def test_refused(self, path: Path, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            read_waveform(path, **arguments)

    def test_max_samples_applies_to_the_stretch(self, path: Path) -> None:
        assert len(read_waveform(path, max_samples=100).x) == 100
        assert len(read_waveform(path, duration=0.5, max_samples=50).x) == 50

    def test_the_advised_duration_works(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        soundfile.write(path, np.zeros(100_000, np.int16), 44100)
        with pytest.raises(ValueError, match="at most duration=") as refusal:
            read_waveform(path, max_samples=99_991)
        advised = float(str(refusal.value).split("at most duration=")[1].split(",")[0])
        assert len(read_waveform(path, duration=advised, max_samples=99_991).x) == 99_991


class TestBadPaths:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"a\.wav does not exist"):
            read_waveform(tmp_path / "a.wav")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="is a folder"):
            read_waveform(tmp_path)

    @pytest.mark.parametrize("ending", ["wav", "csv", "npy"])
    def test_empty(self, tmp_path: Path, ending: str) -> None:
        with pytest.raises(ValueError, match=rf"a\.{ending} is empty"):
            read_waveform(put(tmp_path / f"a.{ending}", b""))

    @pytest.mark.parametrize("ending", ["wav", "csv", "npy"])
    def test_what_git_lfs_leaves(self, tmp_path: Path, ending: str) -> None:
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
        with pytest.raises(ValueError, match=rf"a\.{ending} is what Git LFS leaves .* git lfs pull"):
            read_waveform(put(tmp_path / f"a.{ending}", pointer))

    @pytest.mark.parametrize("name", ["a.docx", "a"])
    def test_ending(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ValueError, match=r"the ending .* is none of \.wav, \.flac, .*\.csv, \.tsv, \.txt, \.npy"):
            read_waveform(put(tmp_path / name, b"abc"))


class TestWriteTable:
    def test_large_positions_keep_their_digits(self, tmp_path: Path) -> None:
        axis = 1_700_000_000.01 + np.arange(5) / 128
        write_table(tmp_path / "a.csv", axis, np.arange(5.0)[:, None])
        assert_array_equal(np.loadtxt(tmp_path / "a.csv", delimiter=",")[:, 0], axis)
        assert_allclose(read_waveform(tmp_path / "a.csv").axis, axis, rtol=0, atol=1e-6)

    def test_few_digits_where_few_do(self, tmp_path: Path) -> None:
        write_table(tmp_path / "a.csv", np.array([0.1, 0.2]), np.array([[0.3], [1e-21]], np.float32))
        assert (tmp_path / "a.csv").read_text().split() == ["0.1,0.3", "0.2,1e-21"]

    @SETTINGS
    @given(values=arrays.arrays(np.float64, (3, 2), elements=st.floats(-3e38, 3e38)))
    def test_what_is_written_is_read_back(self, tmp_path: Path, values: np.ndarray) -> None:
        write_table(tmp_path / "a.csv", np.arange(3.0), values)
        assert_array_equal(read_waveform(tmp_path / "a.csv").values, values)


class TestArrays:
    def test_any_real_type(self) -> None:
        for dtype in (np.float64, np.float32, np.int16, np.bool_):
            signal = waveform_of(np.array([0, 1, 1], dtype))
            assert_array_equal(signal.values, [[0], [1], [1]])
            assert_array_equal(signal.x, [-1, 0, 1])

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (np.zeros(4, complex), "values of type complex128, but real numbers"),
            (np.zeros((2, 400)), r"shape \(2, 400\), but .* Reshape or transpose"),
            (np.zeros((4, 2, 2)), r"shape \(4, 2, 2\)"),
            (np.array(["a", "b"]), "values of type <U1"),
            (np.array([0, np.nan, 1]), "1 of the 3 values of the signal are NaN"),
            (np.array([0, 1e300]), "1 of the 2 values of the signal are NaN, infinite or too large"),
        ],
    )
    def test_others_are_refused(self, values: np.ndarray, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            waveform_of(values)
