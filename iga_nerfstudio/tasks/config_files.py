"""Settings as YAML: presets by name or path, and the record of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from reprlib import repr as short
from typing import Any, TypeVar, get_type_hints

import yaml
from cattrs import Converter, transform_error
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError
from cattrs.v import format_exception

from iga_nerfstudio.settings import earlier_values
from iga_nerfstudio.tasks.config import TaskConfig

AnyTask = TypeVar("AnyTask", bound=TaskConfig)

CONFIG_FILE = "config.yml"
"""Where a run's folder keeps its settings."""


def recipe_folder() -> Path:
    """The folder ``configs/``, in an installed package as in a checkout, where the link to it may be a mere file."""
    package = Path(__file__).parents[1]
    linked = package / "configs"
    return linked if linked.is_dir() else package.parent / "configs"


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in recipe_folder().glob("*.yaml"))


def read_preset(name_or_path: str, kind: type[AnyTask]) -> AnyTask:
    """Settings of a preset.

    Args:
        name_or_path: A name of :func:`preset_names`, or a YAML file.
        kind: The task's settings.

    Returns:
        The settings; what the file does not name has its default.

    Raises:
        ValueError: If there is no such preset, or it does not fit the task.
    """
    path = Path(os.path.expanduser(name_or_path))
    if path.suffix not in (".yaml", ".yml"):
        packaged = recipe_folder() / f"{name_or_path}.yaml"
        if not packaged.is_file():
            raise ValueError(
                f"There is no preset {name_or_path!r}. Give a YAML file, or one of {', '.join(preset_names())}."
            )
        return from_yaml(packaged.read_text(encoding="utf-8"), name_or_path, kind)
    try:
        return from_yaml(path.read_bytes(), name_or_path, kind)
    except OSError as error:
        hint = f" The package's own has no ending: --config {path.stem}." if path.stem in preset_names() else ""
        raise ValueError(f"The preset {path} cannot be read: {error.strerror}.{hint}") from error


def read_run(folder: Path, kind: type[AnyTask]) -> AnyTask:
    """Settings of an earlier run; one that its file does not name came later, and is what it was then.

    Args:
        folder: The run's.
        kind: The task's settings.

    Raises:
        ValueError: If it is no run's folder, or its settings do not fit the task.
    """
    path = folder / CONFIG_FILE
    try:
        return from_yaml(path.read_bytes(), str(path), kind, as_run=True)
    except OSError as error:
        raise ValueError(
            f"{folder} holds no run to continue: its {CONFIG_FILE} cannot be read ({error.strerror}). Give --load-dir "
            f"the folder of a run, <output-dir>/<experiment-name>/{kind.task}/<timestamp>."
        ) from error


def from_yaml(text: str | bytes, name: str, kind: type[AnyTask], as_run: bool = False) -> AnyTask:
    """Settings from YAML.

    Args:
        text: A mapping of options, nested as on the command line, with underscores; bytes in UTF-8 or UTF-16.
        name: What to call it in messages.
        kind: The task's settings.
        as_run: Whether what is not named is as it was before there was a choice, not what is the default today.

    Raises:
        ValueError: If it is no YAML mapping, or names or values do not fit.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{name} should map options to values, but it holds {type(content).__name__}.")
    task = content.pop("task", None)
    if task is not None and task != kind.task:
        raise ValueError(f"{name} holds settings of {task}, not of {kind.task}. Use it with {task}.")
    try:
        return _CONVERTER.structure(_as_then(content, kind) if as_run else content, kind)
    except ClassValidationError as error:
        reasons = [reason.removesuffix(" @ $") for reason in transform_error(error, format_exception=_reason)]
        raise ValueError(f"{name}: {'; '.join(reasons).replace('$.', '')}.") from error


def _as_then(content: Mapping[Any, Any], kind: type) -> dict[Any, Any]:
    """Options of a run and of its sections, with those that came later as they were then."""
    hints = get_type_hints(kind)
    sections = {
        name: _as_then(part, hints[name])
        for name, part in content.items()
        if isinstance(part, dict) and is_dataclass(hints.get(name))
    }
    return {**earlier_values(kind), **content, **sections}


def to_yaml(config: TaskConfig) -> str:
    """Settings as YAML that :func:`from_yaml` reads back."""
    return yaml.safe_dump({"task": config.task} | _CONVERTER.unstructure(config), sort_keys=False)


class _UnfitError(TypeError):
    """A value of the wrong kind; says which."""


def _reason(error: BaseException, kind: type | None) -> str:
    """What is wrong with a value."""
    if isinstance(error, ForbiddenExtraKeysError):
        return ", ".join(_unknown(str(key), error.cl) for key in sorted(error.extra_fields, key=str))
    return str(error) if isinstance(error, _UnfitError) else format_exception(error, kind)


def _unknown(option: str, kind: type) -> str:
    near = get_close_matches(option, [field.name for field in fields(kind)], n=1)
    return f"there is no option {option}{f' (is {near[0]} meant?)' if near else ''}"


def _section(structure: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Reads options within an option."""

    def read(value: Any, kind: Any) -> Any:
        if not isinstance(value, dict):
            raise _UnfitError(f"expected options and their values, got {short(value)}")
        return structure(value, kind)

    return read


def _strict(value: Any, kind: type) -> Any:
    """Take a value as it is: YAML has types of its own, and bool("no") is True."""
    if kind is float and isinstance(value, str):
        # YAML 1.1 reads 5e-3 as text; people mean the number.
        return float(value)
    if isinstance(value, bool) is not (kind is bool) or not isinstance(value, (int, float) if kind is float else kind):
        raise _UnfitError(f"expected {kind.__name__}, got {short(value)}")
    return kind(value)


def _make_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    converter.register_structure_hook_factory(
        is_dataclass, lambda kind: _section(converter.gen_structure_attrs_fromdict(kind))
    )
    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, _strict)
    converter.register_structure_hook(Path, lambda value, _: Path(_strict(value, str)))
    converter.register_unstructure_hook(Path, str)
    converter.register_unstructure_hook(tuple, list)
    return converter


_CONVERTER = _make_converter()
