# SPDX-License-Identifier: MIT
"""Hooks of mkdocs: measured tables, plots and reports stay in bench/results, and the site has them too.

Pages name such a file as seen from docs/, so that a link works in the repository; the site has all of them in results/.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

RESULTS = "../bench/results/"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    folder = Path(config.docs_dir, RESULTS)
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".html", ".json", ".png", ".svg"}:
            name = f"results/{path.relative_to(folder).as_posix()}"
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return markdown.replace(f"]({RESULTS}", "](results/")
