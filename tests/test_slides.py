"""The decks: what the notebooks put on slides, and whether a browser without a network can show it."""

import base64
import importlib.util
import io
from pathlib import Path

import nbformat
import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_utils import _execute

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TYPES = {"slide", "subslide", "fragment", "-"}
MAX_LINES, MAX_WIDTH = 20, 114  # Of code. More does not fit.

# Each page is put in front, with all its fragments. The pixels are those of the 1280 x 720 that a page is made for.
MEASURE = """
() => Reveal.getSlides().map(slide => {
    const place = Reveal.getIndices(slide);
    Reveal.slide(place.h, place.v, 99);
    const frame = slide.getBoundingClientRect(), scale = frame.height / 720;
    const seen = [...slide.querySelectorAll("*")].filter(each => !each.closest("aside"));
    const bounds = seen.map(each => each.getBoundingClientRect()).filter(box => box.width > 0);
    const text = [...slide.querySelectorAll("p, li")].map(each => each.cloneNode(true));
    text.forEach(each => each.querySelectorAll("code, mjx-container").forEach(inner => inner.remove()));
    return {
        words: slide.innerText.trim(),
        height: slide.scrollHeight,
        width: slide.scrollWidth,
        bottom: Math.max(...bounds.map(box => (box.bottom - frame.top) / scale)),
        right: Math.max(...bounds.map(box => (box.right - frame.left) / scale)),
        formulas: slide.querySelectorAll("mjx-container").length,
        dollars: text.some(each => each.textContent.includes("$")),
        wrong: slide.querySelectorAll("[data-mml-node=merror]").length,
        pictures: [...slide.querySelectorAll("img")].map(
            each => ({loaded: each.naturalWidth > 0, height: each.clientHeight, alt: each.alt})),
        notes: [...slide.querySelectorAll("aside.notes")].map(each => each.textContent.trim()),
    };
})
"""


@pytest.fixture(scope="module")
def slides():
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("slides", ROOT / "docs/slides.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def on_slides(request, slides):
    notebook = nbformat.read(request.param, as_version=4)
    return [cell for cell in notebook.cells if slides.slide_type(cell) != "skip"]


def pages(cells):
    return [cell for cell in cells if cell.metadata.slideshow.slide_type in {"slide", "subslide"}]


def test_a_deck_has_ten_to_twenty_five_pages_from_title_to_recap(on_slides):
    assert {cell.metadata.slideshow.slide_type for cell in on_slides} <= TYPES
    assert on_slides[0].source.startswith("# ")
    assert on_slides[0].metadata.slideshow.slide_type == "slide"
    assert pages(on_slides)[-1].source.startswith("## Recap")
    assert 10 <= len(pages(on_slides)) <= 25


def test_new_sections_begin_new_pages(on_slides):
    for cell in on_slides:
        if cell.source.startswith("## "):
            assert cell.metadata.slideshow.slide_type == "slide"


def test_code_fits_and_sliders_stay_in_the_notebook(on_slides):
    for cell in on_slides:
        half = cell.metadata.get("course", {}).get("slide")
        assert half in {None, "input", "output"}
        if cell.cell_type == "code" and half != "output":
            assert len(cell.source.splitlines()) <= MAX_LINES, cell.source
            assert max(map(len, cell.source.splitlines())) <= MAX_WIDTH, cell.source
        if cell.cell_type == "code":
            assert not cell.source.startswith("explore(")


def test_there_are_notes_for_the_speaker(on_slides):
    notes = [cell.metadata.course.notes for cell in on_slides if "notes" in cell.metadata.get("course", {})]
    assert 2 <= len(notes) <= 6
    assert all(isinstance(note, str) and note == note.strip() and len(note) < 300 for note in notes)


def cell(make, source, kind, **metadata):
    return make(source, metadata={"slideshow": {"slide_type": kind}, **metadata})


def figure(width, height):
    """Return a code cell with a picture as its output."""
    picture = io.BytesIO()
    Figure(figsize=(width, height)).savefig(picture, format="png")
    made = cell(new_code_cell, "draw()", "subslide", course={"slide": "output", "notes": "Look left."})
    made.outputs = [
        new_output("stream", name="stderr", text="a warning"),
        new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "0 %"}),
        new_output("display_data", {"image/png": base64.b64encode(picture.getvalue()).decode()}),
    ]
    return made


def made_up():
    """Return an executed notebook with everything that a page may hold."""
    return new_notebook(
        cells=[
            cell(new_markdown_cell, "# Title", "slide"),
            new_markdown_cell("not in the lecture"),
            cell(
                new_markdown_cell,
                "## 1 A formula\n\n$$\\sum_i x_i^2$$\n\nand $\\alpha$, see [here](01_a.ipynb)",
                "slide",
            ),
            figure(12, 3),
            new_markdown_cell("*The caption.*"),
            figure(4, 9),
            cell(new_markdown_cell, "*Another\ncaption.*", "-"),
            cell(
                new_markdown_cell,
                "**Stop and think.** Why?\n\n<details><summary>Answer</summary>\n\nThat is *why*.\n\n</details>",
                "subslide",
            ),
            cell(
                new_code_cell,
                "\n".join(["x = " + "1" * (MAX_WIDTH - 4)] * MAX_LINES),
                "fragment",
                tags=["exercise"],
            ),
        ]
    )


@pytest.fixture(scope="module")
def decks(slides, tmp_path_factory):
    """Make two decks with the command: of the first notebook, executed, and of one that has everything."""
    folder = tmp_path_factory.mktemp("slides")
    first = nbformat.read(NOTEBOOKS[0], as_version=4)
    assert _execute.execute(first, NOTEBOOKS[0].parent).failure == ""
    names = [folder / NOTEBOOKS[0].name, folder / "99_made_up.ipynb"]
    for name, notebook in zip(names, (first, made_up()), strict=True):
        nbformat.write(notebook, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        slides.main([str(name) for name in names])
    return folder / "build/slides"


@pytest.fixture(scope="module")
def shown(decks, browser):
    """Show both decks, and give for each what went wrong and its pages as measured."""
    found = {}
    for deck in sorted(decks.glob("*.html")):
        page, trouble = browser.new_page(viewport={"width": 1280, "height": 720}), []
        page.on("console", lambda m, log=trouble: m.type == "error" and log.append(m.text))
        page.on("pageerror", lambda error, log=trouble: log.append(str(error)))
        page.on("requestfailed", lambda request, log=trouble: log.append(request.url))
        page.on("request", lambda r, log=trouble: r.url.startswith("http") and log.append(r.url))
        page.goto(deck.as_uri())
        page.wait_for_function("window.Reveal && Reveal.isReady()")
        page.evaluate("MathJax.startup.promise.then(() => true)")
        found[deck.name[:2]] = trouble, page.evaluate(MEASURE)
        page.close()
    return found


@pytest.mark.parametrize("deck", [NOTEBOOKS[0].name[:2], "99"])
def test_a_browser_without_a_network_shows_all_of_every_page(shown, deck):
    trouble, measured = shown[deck]
    assert trouble == []
    for page in measured:
        assert page["words"]
        assert max(page["height"], page["bottom"]) <= 720.5, page
        assert max(page["width"], page["right"]) <= 1280.5, page
        assert not page["dollars"]
        assert not page["wrong"]
        for picture in page["pictures"]:
            assert picture["loaded"]
            assert 180 <= picture["height"] <= 504
            assert picture["alt"]


def test_what_is_on_the_pages(shown):
    title, formula, wide, tall, think = shown["99"][1]
    assert title["words"] == "Title"
    assert formula["formulas"] == 2
    assert (wide["words"], wide["pictures"][0]["alt"]) == (
        "1 A formula",
        "The caption.",
    )  # nothing of its code
    assert tall["words"].split("\n")[0] == "1 A formula"
    assert tall["pictures"][0]["alt"] == "Another caption."
    assert wide["notes"] == ["Look left."]
    assert "why" not in think["words"]
    assert think["notes"] == ["Answer. That is why."]


def test_links_between_notebooks_lead_to_decks(decks):
    text = (decks / "99_made_up.slides.html").read_text(encoding="utf-8")
    assert 'href="01_a.slides.html"' in text
    assert ".ipynb" not in text


def test_a_notebook_without_slides_is_an_error(slides):
    with pytest.raises(ValueError, match="'Title' has no slides"):
        slides.lecture(new_notebook(cells=[new_markdown_cell("# Title")]))


def test_a_figure_without_a_caption_is_an_error(slides):
    with pytest.raises(
        ValueError, match=r"No caption in italics follows the figure of the cell .* 'draw\(\)'"
    ):
        slides.lecture(new_notebook(cells=[new_markdown_cell("# Title"), figure(4, 3)]))
