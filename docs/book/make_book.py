"""Build the course as a web site: the executed notebooks, the guides, and the reference of the helper package.

The pages are laid out as in the repository, so that their links to each other hold, and Sphinx makes the site of
them. Neither step uses the network, and neither does the site. A warning fails the build.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat

from course_utils._html import copy_mathjax

if TYPE_CHECKING:
    from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VIEW = "application/vnd.jupyter.widget-view+json"
TITLE = re.compile(r"# (.+)")
CAPTION = re.compile(r"\*(?!\*)(.+?)(?<!\*)\*(?!\*)", flags=re.DOTALL)  # a paragraph in italics
NO_EXTRA = "The book needs the extra `book`: pip install -e '.[book]'"


def main() -> int:
    """Lay the pages out, build the site, and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--executed", type=Path, default=ROOT / "build/executed", help="executed notebooks")
    parser.add_argument("--out", type=Path, default=ROOT / "build/book", help="where the site goes")
    options = parser.parse_args()
    if find_spec("sphinx") is None:
        sys.exit(NO_EXTRA)
    from sphinx.cmd.build import build_main

    pages = options.out.with_name(f"{options.out.name}-pages")
    lay_out(options.executed, pages)
    doctrees = str(pages / ".doctrees")
    failed = build_main(["-q", "-W", "--keep-going", "-d", doctrees, str(pages), str(options.out)])
    if failed:
        return failed
    print(f"The book: {(options.out / 'index.html').resolve().as_uri()}")
    return 0


def lay_out(executed: Path, pages: Path) -> None:
    """Write everything that Sphinx reads into the folder `pages`, which is made anew."""
    notebooks = sorted(executed.glob("[0-9]*.ipynb"))
    if not notebooks:
        sys.exit(f"There is no executed notebook in {executed}. Run `make book`, which executes them first.")
    shutil.rmtree(pages, ignore_errors=True)
    for folder in ("notebooks", "docs", "api", "data", "_static"):
        (pages / folder).mkdir(parents=True)
    for name in ("conf.py", "index.md"):
        shutil.copy(HERE / name, pages)
    for name in ("style.css", "formulas.js", "favicon.svg"):
        shutil.copy(HERE / name, pages / "_static")
    if not copy_mathjax(pages / "_static/mathjax"):
        sys.exit(NO_EXTRA)
    _write_notebooks(notebooks, pages / "notebooks")
    _write_guides(pages)
    _write_reference(pages / "api")


def _write_notebooks(paths: list[Path], folder: Path) -> None:
    """Write the notebooks ready for print, the map of the course, and the page of all openings."""
    rows = ["| no. | notebook | minutes | needs |", "|---|---|---|---|"]
    openings = ["# The notebooks", "", "In teaching order. Each page is a notebook as it was run.", ""]
    entries = []
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        head = notebook.cells[0].source
        title = TITLE.match(head)
        needs = re.search(r"\*\*You need\*\*\s+(.+?)\.?\s*\*\*Time", head, flags=re.DOTALL)
        if title is None or needs is None:
            sys.exit(f"{path}: the first cell must have a title, 'You need' and 'Time'.")
        link = f"[{title[1]}](/notebooks/{path.name})"
        rows.append(
            f"| {path.stem[:2]} | {link} | {notebook.metadata.course.minutes} | {' '.join(needs[1].split())} |"
        )
        openings += [f"## {path.stem[:2]} {link}", head[title.end() :], ""]
        entries.append(f"{path.stem[:2]} {title[1]} <{path.stem}>")
        describe_figures(notebook, path)
        drop_live_views(notebook)
        nbformat.write(notebook, folder / path.name)
    (folder / "map.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    openings += ["```{toctree}", ":hidden:", *entries, "```"]
    (folder / "index.md").write_text("\n".join(openings) + "\n", encoding="utf-8")


def describe_figures(notebook: NotebookNode, path: Path) -> None:
    """Give each figure its alternative text: its own, or the sentence in italics that follows it.

    Raises
    ------
    SystemExit
        If a figure has none.
    """
    for index, cell in enumerate(notebook.cells):
        for output in figures_of(cell):
            text = output.metadata.get("image/png", {}).get("alt") or caption_after(notebook, index)
            if not text:
                sys.exit(f"{path}, cell {index + 1}: no sentence in italics describes this figure.")
            cell.metadata.setdefault("mystnb", {})["image"] = {"alt": text}


def figures_of(cell: NotebookNode) -> list[NotebookNode]:
    """Return the outputs of a cell that are figures."""
    return [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]


def caption_after(notebook: NotebookNode, index: int) -> str:
    """Return, as plain text, the paragraph in italics that opens the next prose; "" if there is none.

    A figure in between has the first claim on it.
    """
    for cell in notebook.cells[index + 1 :]:
        if figures_of(cell):
            break
        if cell.cell_type == "markdown":
            found = CAPTION.match(cell.source.lstrip())
            return re.sub(r"[`$\\]", "", " ".join(found[1].split())) if found else ""
    return ""


def drop_live_views(notebook: NotebookNode) -> None:
    """Leave out progress bars and sliders, which are nothing without a kernel; what they led to stays."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if VIEW not in output.get("data", {})]


def _write_guides(pages: Path) -> None:
    guides = sorted((ROOT / "docs").glob("*.md"))
    for guide in guides:
        shutil.copy(guide, pages / "docs")
    shutil.copy(ROOT / "data/README.md", pages / "data")
    lines = ["# Guides", "", "```{toctree}", *(guide.stem for guide in guides), "/data/README", "```", ""]
    (pages / "docs/index.md").write_text("\n".join(lines), encoding="utf-8")


def _write_reference(folder: Path) -> None:
    """Write a page for each public module: the package's own `*.py`, and its folders."""
    package = ROOT / "course_utils"
    modules = sorted(
        path.stem
        for path in package.glob("[!_]*")
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    )
    lines = ["# Reference", "", "What the notebooks share: the public modules of `course_utils`.", ""]
    lines += ["```{toctree}", *modules, "```", ""]
    (folder / "index.md").write_text("\n".join(lines), encoding="utf-8")
    for module in modules:
        lines = [f"# {module}", "", "```{eval-rst}", f".. automodule:: course_utils.{module}", "   :members:"]
        if (package / module).is_dir():
            lines.append("   :imported-members:")
        (folder / f"{module}.md").write_text("\n".join([*lines, "```", ""]), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
