"""A page for every module of the package, and their place in the navigation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the modules to the navigation, a section for each package."""
    assert config.nav is not None
    config.nav.append({"API": section(ROOT / "iga_nerfstudio")})
    return config


def section(package: Path) -> list[Any]:
    """A package's own page, which is its section's first, its packages and its modules."""
    packages = sorted(path.parent for path in package.glob("*/__init__.py"))
    modules = sorted(path for path in package.glob("*.py") if not path.name.startswith("_"))
    return [
        page(package / "__init__.py"),
        *({path.name: section(path)} for path in packages),
        *({path.stem: page(path)} for path in modules),
    ]


def page(module: Path) -> str:
    """Where the page of a module is."""
    return f"api/{module.relative_to(ROOT).with_suffix('.md')}".replace("__init__", "index")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, which mkdocstrings fills from the docstrings."""
    for path in sorted((ROOT / "iga_nerfstudio").rglob("*.py")):
        if path.name == "__init__.py" or not path.name.startswith("_"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            files.append(File.generated(config, page(path), content=f"::: {name}\n"))
    return files
