"""What `make docs` does with the pages before mkdocs builds the site of them, and fails on links that lead nowhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import griffe
import pytest

from docs_build import api_pages, docstring_roles, pages_outside_docs

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.parametrize(
    ("page", "link", "in_site"),
    [
        ("index.md", "docs/results/rays.md#mic", "results/rays.md#mic"),
        ("index.md", "docs/pictures/fit_image.png", "pictures/fit_image.png"),
        ("index.md", "https://docs.nerf.studio", "https://docs.nerf.studio"),
        ("index.md", "#limits", "#limits"),
        ("index.md", "tutorial.md", "../tutorial.md"),  # the repository has none there: to be told of, not mended
        ("tasks.md", "../configs", "configs.md"),
        ("library.md", "../examples/fit_image.ipynb", "fit_image.md"),
        ("tasks.md", "cost.md", "cost.md"),
        ("results/rays.md", "rays_mic_gains.png", "rays_mic_gains.png"),
        ("results/rays.md", "../cost.md", "../cost.md"),
        ("results/rays.md", "../../README.md", "../index.md"),
    ],
)
def test_links_of_the_repository_become_those_of_the_site(page, link, in_site):
    here = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    assert pages_outside_docs.on_page_markdown(f"[a]({link})", here, None, None) == f"[a]({in_site})"


def test_every_public_module_has_a_page_in_the_navigation():
    def pages(section):
        for entry in section:
            if isinstance(entry, str):
                yield entry
            else:
                (value,) = entry.values()
                yield from pages([value] if isinstance(value, str) else value)

    public = {path for path in (ROOT / "iga_nerfstudio").rglob("*.py") if path.name != "__main__.py"}
    assert sorted(pages(api_pages.section(ROOT / "iga_nerfstudio"))) == sorted(map(api_pages.page, public))


def test_names_in_docstrings_become_links_where_a_page_has_them():
    loader = griffe.GriffeLoader(search_paths=[ROOT])
    module = loader.load("iga_nerfstudio.adjustment.transform").package
    where = module["adjustment.transform"]

    def markdown(text):
        return docstring_roles.with_links(text, where, loader)

    path = "iga_nerfstudio.adjustment.transform.SpectralTransform"
    assert markdown(":class:`SpectralTransform`") == f"[`SpectralTransform`][{path}]"
    assert markdown(f":class:`~{path}`") == f"[`SpectralTransform`][{path}]"
    assert markdown(":func:`numpy.hypot`") == "`numpy.hypot`"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian: apt-get install chromium)")
def test_the_search_has_its_worker_in_a_page_opened_from_the_disk(tmp_path):
    from playwright.sync_api import sync_playwright

    (tmp_path / "worker.js").write_text("addEventListener('message', ({data}) => postMessage(data + 1));")
    shutil.copy(ROOT / "docs_build" / "iframe-worker.js", tmp_path)
    (tmp_path / "page.html").write_text("<!doctype html><script src='iframe-worker.js'></script><body></body>")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        answer = """() => new Promise((resolve) => {
            const worker = new Worker(new URL('worker.js', location));
            worker.addEventListener('message', ({data}) => resolve(data));
            worker.postMessage(41);
        })"""
        assert page.evaluate(answer) == 42
        browser.close()
