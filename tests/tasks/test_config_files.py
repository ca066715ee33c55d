"""Presets and the record of a run as YAML."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import reduce
from pathlib import Path

import pytest

from iga_nerfstudio.networks import FourierReparameterisation, NetworkConfig
from iga_nerfstudio.tasks import config_files
from iga_nerfstudio.tasks.cli import parse
from iga_nerfstudio.tasks.config import OptimizerConfig, TaskConfig
from iga_nerfstudio.tasks.config_files import from_yaml, preset_names, read_preset, read_run, to_yaml
from iga_nerfstudio.tasks.image import ImageConfig
from iga_nerfstudio.tasks.sdf import SDFConfig
from iga_nerfstudio.tasks.signal import SignalConfig

ROOT = Path(__file__).parents[2]
KINDS: dict[str, type[TaskConfig]] = {"kodak": ImageConfig, "shape": SDFConfig, "experiment2": SignalConfig}


@pytest.mark.parametrize(
    "config",
    [
        ImageConfig(),
        ImageConfig(data=Path("a b.png"), crop=(0, 1, 20, 30), optimizer=OptimizerConfig("sgd", 0.5)),
        SDFConfig(network=NetworkConfig(fourier_reparameterisation=FourierReparameterisation(True, alpha=0.01))),
        SignalConfig(frequencies=(1.0, 2.5), column="no"),
    ],
)
def test_what_is_written_is_what_is_read(config: TaskConfig) -> None:
    assert from_yaml(to_yaml(config), "x", type(config)) == config


def test_a_run_from_before_a_setting_keeps_what_was_done_then(tmp_path: Path) -> None:
    written = to_yaml(SDFConfig(max_num_iterations=7))
    later = ["grouping: nearby\n", "first_output: null\n", "  first_layer: adam\n"]
    assert [written.count(line) for line in later] == [1, 1, 1]
    without = reduce(lambda text, line: text.replace(line, ""), later, written)
    (tmp_path / "config.yml").write_text(without)
    run = read_run(tmp_path, SDFConfig)
    assert (run.grouping, run.optimizer.first_layer, run.max_num_iterations) == ("rows", "muon", 7)
    assert run.first_output == "drawn"
    assert run.adjustment == SDFConfig().adjustment
    (tmp_path / "config.yml").write_text(written)
    assert read_run(tmp_path, SDFConfig) == SDFConfig(max_num_iterations=7)
    # Presets and new runs have the defaults of today.
    assert from_yaml(without, "preset", SDFConfig) == SDFConfig(max_num_iterations=7)
    assert all(read_preset(f"shape_{network}", SDFConfig).grouping == "rows" for network in ("relu", "pe", "siren"))


def test_every_preset_fits_its_task_and_trains_the_paper_s_network() -> None:
    names = preset_names()
    assert sorted(path.stem for path in (ROOT / "configs").glob("*.yaml")) == names
    for name in names:
        kind = next(kind for start, kind in KINDS.items() if name.startswith(start))
        config = read_preset(name, kind)
        assert config == read_preset(str(ROOT / "configs" / f"{name}.yaml"), kind)
        assert config.network.hidden_dim == 256
        assert config.adjustment.enabled


def test_the_paper_s_image_setting() -> None:
    config = read_preset("kodak_pe", ImageConfig)
    assert (config.network.kind, config.network.hidden_layers, config.patch_size) == ("pe", 3, 32)
    assert (config.adjustment.end, config.optimizer, config.max_num_iterations) == (
        20,
        OptimizerConfig("adam", 5e-3),
        10_000,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "network: {hiden_dim: 3, x: 1}",
            r"no option hiden_dim \(is hidden_dim meant\?\), there is no option x @ network",
        ),
        ("max_num_iteration: 3", r"no option max_num_iteration \(is max_num_iterations meant\?\)\.$"),
        ("1: 2", "there is no option 1"),
        ("network: pe", "my.yaml: expected options and their values, got 'pe' @ network"),
        ("network: {fourier_reparameterisation: [1]}", r"got \[1\] @ network\.fourier_reparameterisation"),
        ("network:", "expected options and their values, got None @ network"),
        ("max_num_iterations: many", "expected int, got 'many' @ max_num_iterations"),
        ("max_num_iterations: 1.5", "expected int"),
        ("max_num_iterations: true", "expected int, got True @ max_num_iterations"),
        ("adjustment: {enabled: 'no'}", "expected bool"),
        ("network: {kind: perceptron}", "network.kind"),
        ("crop: [1, 2]", "crop"),
        ("task: iga-sdf", "settings of iga-sdf, not of iga-image"),
        ("just a line", "should map options to values"),
        ("a: [", "is no YAML"),
    ],
)
def test_yaml_that_does_not_fit_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_yaml(text, "my.yaml", ImageConfig)


def test_numbers_as_people_write_them() -> None:
    assert from_yaml("optimizer: {lr: 5e-3}", "x", ImageConfig).optimizer.lr == 5e-3
    assert from_yaml("optimizer: {lr: 1}", "x", ImageConfig).optimizer.lr == 1.0


def test_presets_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no preset 'kodak_pee'\. .*kodak_pe,"):
        read_preset("kodak_pee", ImageConfig)
    with pytest.raises(ValueError, match="No such file"):
        read_preset(str(tmp_path / "none.yaml"), ImageConfig)
    with pytest.raises(ValueError, match=r"The package's own has no ending: --config kodak_pe\."):
        read_preset("kodak_pe.yaml", ImageConfig)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_yaml_in_encodings_of_unicode(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "my.yaml").write_bytes("experiment_name: größer\n".encode(encoding))
    assert read_preset(str(tmp_path / "my.yaml"), ImageConfig).experiment_name == "größer"


def test_yaml_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_bytes("experiment_name: größer\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"my\.yaml is no YAML: .*invalid start byte"):
        read_preset(str(tmp_path / "my.yaml"), ImageConfig)


def test_a_home_that_no_shell_has_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my.yaml").write_text("data: ~/photo.png\n")
    config = parse(ImageConfig, ["--config=~/my.yaml", "--output-dir=~/runs"])
    assert (config.data, config.output_dir) == (tmp_path / "photo.png", tmp_path / "runs")
    # Names that only begin like it, and no home of anybody's.
    assert SDFConfig(data=Path("~lock.ply"), cache_dir=Path("a/~")).data == Path("~lock.ply")


def test_options_beside_a_preset_override_it() -> None:
    config = parse(ImageConfig, ["--config", "kodak_siren", "--network.hidden-dim", "64", "--data", "p.png"])
    expected = read_preset("kodak_siren", ImageConfig)
    assert config == replace(
        expected, config="kodak_siren", data=Path("p.png"), network=replace(expected.network, hidden_dim=64)
    )
    assert parse(ImageConfig, ["--config=kodak_siren"]).network.kind == "siren"


@pytest.mark.parametrize("words", [["--max-num-iterations", "30"], ["--max_num_iterations=2000"]])
def test_steps_asked_for_beside_a_preset_of_epochs_are_the_run_s(tmp_path: Path, words: list[str]) -> None:
    """2000 is the default too."""
    shape = parse(SDFConfig, ["--config", "shape_relu", *words])
    assert (shape.num_epochs, shape.max_num_iterations) == (None, int(words[-1].split("=")[-1]))
    assert parse(SDFConfig, ["--config", "shape_relu"]).num_epochs == 200
    assert parse(SDFConfig, ["--config", "shape_relu", *words, "--num-epochs", "3"]).num_epochs == 3
    (tmp_path / "config.yml").write_text(to_yaml(SDFConfig(num_epochs=2, max_num_iterations=80)))
    run = parse(SDFConfig, ["--load-dir", str(tmp_path), *words])
    assert (run.num_epochs, run.max_num_iterations) == (None, shape.max_num_iterations)


def test_options_read_like_ns_train() -> None:
    config = parse(ImageConfig, ["--adjustment.enabled", "False", "--machine.device-type", "cpu"])
    assert not config.adjustment.enabled
    assert config.machine.device_type == "cpu"


def test_a_run_and_a_preset_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        parse(ImageConfig, ["--config", "kodak_pe", "--load-dir", str(tmp_path)])


def test_presets_are_found_where_the_link_to_their_folder_is_a_file(tmp_path, monkeypatch) -> None:
    package = tmp_path / "iga_nerfstudio"
    (package / "tasks").mkdir(parents=True)
    (package / "configs").write_text("../configs")  # as git leaves it on machines without symbolic links
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.setattr(config_files, "__file__", str(package / "tasks" / "config_files.py"))
    assert config_files.preset_names() == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
