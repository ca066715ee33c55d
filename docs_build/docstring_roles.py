"""Docstrings name other objects as Sphinx does, :func:`name`; this makes links of those names for mkdocstrings."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, GriffeLoader, Module, NameResolutionError, Object

_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`(~?)([\w.]+)`")


class DocstringRoles(Extension):
    """Runs once the package is read, when every name can be looked up."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **_: Any) -> None:
        """Rewrite the docstrings of all modules of the package."""
        rewrite(pkg, loader)


def rewrite(obj: Object, loader: GriffeLoader) -> None:
    """Rewrite the docstrings of an object and of all that it has."""
    if obj.docstring:
        # A block of code is introduced by two colons in Sphinx, by one in Markdown.
        obj.docstring.value = with_links(obj.docstring.value, obj, loader).replace("::\n", ":\n")
    for member in obj.members.values():
        if not member.is_alias:
            rewrite(member, loader)


def with_links(text: str, where: Object, loader: GriffeLoader) -> str:
    """The text of an object's docstring with its roles in Markdown."""
    return _ROLE.sub(lambda role: as_markdown(role, where, loader), text)


def as_markdown(role: re.Match[str], where: Object, loader: GriffeLoader) -> str:
    """The name as a link, or as code where no page has it: of another package, private, or without a docstring."""
    name = role[2]
    shown = f"`{name.rpartition('.')[2] if role[1] else name}`"
    try:
        path = name if name.startswith("iga_nerfstudio.") else where.resolve(name)
        named = loader.modules_collection[path]
    except (NameResolutionError, KeyError):
        return shown
    return f"[{shown}][{path}]" if named.has_docstring and named.is_public else shown
