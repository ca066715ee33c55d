"""README as the site's first page, presets and notebook as others, and links from page to page as the site has them.

In the repository README links to `docs/...` and pages in docs/ to `../...`; the site has them all side by side.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent

# Where the site has what is not in docs/, by the path in the repository.
OUTSIDE = {"README.md": "index.md", "configs": "configs.md", "examples/fit_image.ipynb": "fit_image.md"}

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and the script that the search needs."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text()))
    files.append(File.generated(config, "configs.md", content=presets()))
    files.append(File.generated(config, "fit_image.md", content=notebook()))
    files.append(
        File.generated(config, "iframe-worker.js", abs_src_path=str(Path(__file__).with_name("iframe-worker.js")))
    )
    return files


def presets() -> str:
    """A page with the text of every preset."""
    folder = ROOT / "configs"
    sections = (
        f"## {path.relative_to(folder)}\n\n```yaml\n{path.read_text()}```\n" for path in sorted(folder.rglob("*.yaml"))
    )
    return "\n".join(["# Settings of the paper", *sections])


def notebook() -> str:
    """A page with the text and code of the notebook, and with what its cells showed when it was last run."""
    cells = json.loads((ROOT / "examples" / "fit_image.ipynb").read_text())["cells"]
    return "\n\n".join(part for cell in cells for part in (source_of(cell), *map(shown, cell.get("outputs", []))))


def source_of(cell: dict[str, Any]) -> str:
    """A cell's text, or its code as a block."""
    source = "".join(cell["source"])
    return f"```python\n{source}\n```" if cell["cell_type"] == "code" else source


def shown(output: dict[str, Any]) -> str:
    """What a cell printed, or a figure of it, within the page."""
    if output["output_type"] == "stream":
        return f"```text\n{''.join(output['text']).strip()}\n```"
    return f"![figure](data:image/png;base64,{output['data']['image/png'].strip()})"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with its links as the site has them."""
    here = page.file.src_uri
    in_repository = {site: path for path, site in OUTSIDE.items()}.get(here, f"docs/{here}")

    def in_site(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(in_repository), link[1]))
        # What the site does not have stays outside it, so that mkdocs tells of it.
        target = OUTSIDE.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else f"../{path}")
        return posixpath.relpath(target, posixpath.dirname(here) or ".")

    return _LINK.sub(in_site, markdown)
