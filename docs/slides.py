"""Make a reveal.js deck of each executed notebook that is named: decks that need no network.

    python docs/slides.py build/executed/*.ipynb

A cell is on a slide if its metadata give it a `slideshow.slide_type`: "slide" or "subslide" begin a page, "fragment"
appears on the page later, "-" goes on. A cell without one is not in the lecture. `course.slide` shows half of a
code cell, "input" or "output", and `course.notes` is what the speaker sees.
"""

from __future__ import annotations

import html
import importlib.util
import re
import shutil
import sys
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbconvert import SlidesExporter

if TYPE_CHECKING:
    from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
DECKS = Path("build/slides")
PAGE = ("slide", "subslide")
LARGE = (16, 96)  # Lines of code, and characters of a line, that a slide takes in the larger of two sizes.
DETAILS = re.compile(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", flags=re.DOTALL)
LINK = re.compile(r"\]\((\d\d_\w+)\.ipynb\)")


def slide_type(cell: NotebookNode) -> str:
    """Give a cell's part in the lecture; "skip" if it has none."""
    return str(cell.metadata.get("slideshow", {}).get("slide_type", "skip"))


def lecture(notebook: NotebookNode) -> NotebookNode:
    """Keep what belongs on slides, and give each page a heading and its speaker's notes.

    Parameters
    ----------
    notebook
        An executed notebook. It is not changed.

    Raises
    ------
    ValueError
        If the notebook has no slides, or a figure on a slide has no caption.
    """
    deck = deepcopy(notebook)
    deck.metadata.title = _heading(notebook.cells[0])
    deck.metadata.pop("widgets", None)
    deck.cells, section = [], ""
    pages: list[list[NotebookNode]] = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            section = _heading(cell)
        if slide_type(cell) in PAGE:
            pages.append([])
            if not cell.source.startswith("#"):
                pages[-1].append(_markdown(f'<p class="section">{html.escape(section)}</p>', "-"))
        if slide_type(cell) != "skip":
            pages[-1].append(_on_slide(cell, _caption(notebook, index)))
    if not pages:
        msg = f"{deck.metadata.title!r} has no slides. Give cells a slide type (property inspector of JupyterLab)."
        raise ValueError(msg)
    for page in pages:
        begin = next(cell for cell in page if slide_type(cell) in PAGE)
        kind = slide_type(begin)
        begin.metadata.slideshow.slide_type = "-"
        page[0].metadata.slideshow.slide_type = kind
        notes = [note for cell in page for note in cell.metadata.pop("speaker", [])]
        if notes:
            page.insert(1, _markdown("\n\n".join(notes), "notes"))
        deck.cells += page
    return deck


def _on_slide(cell: NotebookNode, caption: str) -> NotebookNode:
    """Give a cell as the deck shows it; what is for the speaker goes into its metadata."""
    cell = deepcopy(cell)
    course = cell.metadata.get("course", {})
    cell.metadata.speaker = [course["notes"]] if "notes" in course else []
    tags = cell.metadata.setdefault("tags", [])
    if cell.cell_type == "markdown":
        cell.metadata.speaker += [
            f"**{title}.** {text.strip()}" for title, text in DETAILS.findall(cell.source)
        ]
        cell.source = LINK.sub(r"](\1.slides.html)", DETAILS.sub("", cell.source)).rstrip()
        if _is_caption(cell.source):
            tags.append("caption")
        if cell.source.startswith("**Stop and think.**"):
            tags.append("think")
        return cell
    if course.get("slide") == "output":
        cell.metadata.transient = {"remove_source": True}
    elif len(lines := cell.source.splitlines()) > LARGE[0] or max(map(len, lines)) > LARGE[1]:
        tags.append("small")
    outputs = [] if course.get("slide") == "input" else cell.outputs
    cell.outputs = [output for output in map(_still, outputs) if output is not None]
    for output in cell.outputs:
        if "image/png" in output.get("data", {}):
            if not caption:
                msg = (
                    f"No caption in italics follows the figure of the cell that begins {cell.source[:60]!r}."
                )
                raise ValueError(msg)
            image = f"data:image/png;base64,{''.join(output.data['image/png'].split())}"
            output.data = {"text/html": f'<img class="figure" alt="{html.escape(caption)}" src="{image}">'}
            tags.append("figure")
    return cell


def _still(output: NotebookNode) -> NotebookNode | None:
    """Leave out sliders, progress bars and warnings: on a slide they say nothing."""
    moving = "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    return None if moving or output.get("name") == "stderr" else output


def _is_caption(source: str) -> bool:
    return source.startswith("*") and not source.startswith("**")


def _caption(notebook: NotebookNode, index: int) -> str:
    """Give the description of a figure: the italics that begin a text after it."""
    for cell in notebook.cells[index + 1 :]:
        if cell.cell_type == "markdown" and _is_caption(cell.source):
            return " ".join(cell.source.split("\n\n")[0].strip("*").split())
    return ""


def _heading(cell: NotebookNode) -> str:
    return str(cell.source.splitlines()[0].lstrip("# ").replace("`", ""))


def _markdown(source: str, kind: str) -> NotebookNode:
    cell: NotebookNode = nbformat.v4.new_markdown_cell(source)  # type: ignore[no-untyped-call]  # nbformat is not annotated
    cell.metadata.slideshow = nbformat.from_dict({"slide_type": kind})  # type: ignore[no-untyped-call]  # as above
    return cell


def write_deck(path: Path, folder: Path) -> Path:
    """Write the deck of an executed notebook into a folder that has the assets, and return its path."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat is not annotated
    exporter = SlidesExporter(  # type: ignore[no-untyped-call]  # nor is nbconvert
        template_name="course",
        extra_template_basedirs=[str(HERE / "slides_template")],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        mathjax_url="assets/mathjax/tex-svg.js",
        reveal_url_prefix="assets/reveal.js",
        reveal_theme="course",
        reveal_transition="none",
        reveal_number="c/t",
        reveal_width="1280",
        reveal_height="720",
    )
    text, _ = exporter.from_notebook_node(lecture(notebook), resources={"metadata": {"name": path.stem}})
    deck = folder / f"{path.stem}.slides.html"
    deck.write_text(text, encoding="utf-8")
    return deck


def copy_assets(folder: Path) -> None:
    """Put reveal.js, MathJax and the theme into `folder`/assets."""
    reveal = _package("sphinx_revealjs") / "_static/revealjs"
    target = folder / "assets/reveal.js"
    for part in ("dist", "plugin/notes"):
        shutil.copytree(reveal / part, target / part, dirs_exist_ok=True)
    shutil.copy(HERE / "slides_template/slides.css", target / "dist/theme/course.css")
    mathjax = folder / "assets/mathjax"
    mathjax.mkdir(parents=True, exist_ok=True)
    shutil.copy(_package("sphinx-mathjax-offline") / "static/mathjax/tex-svg.js", mathjax)


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        msg = f"The slides need the package {name}: pip install -e '.[book]'."
        raise ModuleNotFoundError(msg)
    return Path(found.origin).parent


def main(names: list[str]) -> None:
    """Write the decks of the notebooks named."""
    copy_assets(DECKS)
    for name in names:
        deck = write_deck(Path(name), DECKS)
        print(deck.resolve().as_uri())


if __name__ == "__main__":
    main(sys.argv[1:])
