"""The book, as its command builds it: the course's notebooks not executed, and one page with every kind of output."""

import base64
import io
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from _site import barriers, broken_links, faults_in_browser, served
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_utils import exercises

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SAMPLE = "99_every_output"
OPENING = (
    "# Every output\n\n**You need** nothing. **Time:** 1 minute.\n\nA link to [Cora](06_gcn_on_cora.ipynb)."
)
CAPTION = '*A line that rises,\nfrom "zero" to $\\alpha$ < 1.*'
LONG = "word " * 60


def build(executed, out):
    command = [sys.executable, ROOT / "docs/book/make_book.py", "--executed", executed, "--out", out]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def figure():
    from matplotlib.figure import Figure

    png = io.BytesIO()
    drawn = Figure(figsize=(12, 3))
    drawn.subplots().plot([0, 1])
    drawn.savefig(png)
    return {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": "<Figure>"}


def shown(data, **metadata):
    return new_code_cell("show()", outputs=[new_output("display_data", data, metadata=metadata)])


def html(value):
    return shown({"text/html": value._repr_html_(), "text/plain": repr(value)})


@pytest.fixture(scope="module")
def sample():
    """Return a notebook with each kind of output that the course's notebooks have."""
    chapter = exercises.load("00_start_here")
    outputs = [
        new_output("stream", name="stdout", text=f"✓ a claim {LONG}\n"),
        new_output("stream", name="stderr", text="UserWarning: made-up data\n"),
    ]
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "0"}, "text/plain": "epoch: 0%| | 0/8"}
    cells = [
        new_markdown_cell(OPENING),
        shown(figure()),
        new_markdown_cell(f"{CAPTION}\n\n## 1 Maths\n\nInline $x^2$, and $$\\sum_{{i}} {'x_i + ' * 40} 1$$"),
        shown(figure(), **{"image/png": {"alt": "Its own words."}}),
        shown(view),
        new_code_cell(
            f"very_long_line({'argument, ' * 20})  # comment\ndef f(x: int) -> str: ...", outputs=outputs
        ),
        html(pd.DataFrame([range(10**6, 10**6 + 30)])),
        html(chapter),
        html(next(iter(chapter)).check(...)),
        new_markdown_cell(
            "<details><summary>Answer</summary>\n\nBecause $1 < 2$.\n\n</details>\n\n[up](#maths)"
        ),
    ]
    metadata = {"course": {"minutes": 1}, "language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    return new_notebook(cells=cells, metadata=metadata)


@pytest.fixture(scope="module")
def site(tmp_path_factory, sample):
    """Build the book once for this module."""
    folder = tmp_path_factory.mktemp("book")
    executed = folder / "executed"
    executed.mkdir()
    for path in NOTEBOOKS:
        (executed / path.name).write_bytes(path.read_bytes())
    nbformat.write(sample, executed / f"{SAMPLE}.ipynb")
    done = build(executed, folder / "site")
    assert done.returncode == 0, done.stderr
    assert (folder / "site/index.html").as_uri() in done.stdout
    return folder / "site"


@pytest.fixture(scope="module")
def url(site):
    with served(site) as address:
        yield address


def page_names(site):
    paths = (path.relative_to(site) for path in site.rglob("*.html"))
    return sorted(path.as_posix() for path in paths if "_static" not in path.parts)


def test_every_notebook_guide_and_module_has_a_page(site):
    names = page_names(site)
    assert {f"notebooks/{path.stem}.html" for path in NOTEBOOKS} < set(names)
    assert {f"docs/{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} < set(names)
    assert {"api/walks.html", "api/gradients.html", "api/exercises.html"} < set(names)
    start = (site / "index.html").read_text(encoding="utf-8")
    assert all(f"notebooks/{path.stem}.html" in start for path in NOTEBOOKS)


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site):
    assert broken_links(site) == []


def test_a_link_into_the_void_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#no"></a><a href="c.html"></a><img src="//cdn.example/x">'
    )
    (tmp_path / "b.html").write_text('<p id="yes"></p>')
    assert broken_links(tmp_path) == [
        "a.html loads //cdn.example/x",
        "a.html leads to b.html#no",
        "a.html leads to c.html",
    ]


def test_pages_load_set_their_formulas_and_fit_a_phone(browser, site, url):
    assert [fault for name in page_names(site) for fault in faults_in_browser(browser, url, name)] == []


@pytest.mark.parametrize(
    "name", ["index", f"notebooks/{SAMPLE}", "docs/gradient-doctor", "api/gradients", "search"]
)
def test_pages_are_accessible_in_light_and_dark(browser, url, name):
    assert barriers(browser, url, f"{name}.html") == []


def test_figures_are_described_by_the_words_beside_them(browser, url):
    page = browser.new_page()
    page.goto(f"{url}/notebooks/{SAMPLE}.html")
    texts = page.locator("img").evaluate_all("images => images.map(image => image.alt)")
    assert texts == ['A line that rises, from "zero" to alpha < 1.', "Its own words."]
    page.close()


def test_outputs_are_there_and_progress_bars_are_not(browser, url):
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    page.goto(f"{url}/notebooks/{SAMPLE}.html")
    text = page.locator("main").inner_text()
    assert "✓ a claim word" in text
    assert "UserWarning: made-up data" in text
    assert "not attempted" in text
    assert "0/8" not in text
    claim = page.locator(".output.stream pre").first
    assert claim.evaluate("pre => pre.scrollWidth <= pre.clientWidth")
    page.close()


def test_search_finds_what_is_in_the_notebooks(browser, url):
    page = browser.new_page()
    page.goto(f"{url}/search.html?q=node2vec")
    page.locator("ul.search li a[href*='04_node2vec_cambridge.html']").first.wait_for()
    page.close()


@pytest.mark.parametrize("another", [False, True], ids=["no italics", "those of the next figure"])
def test_a_figure_that_nothing_describes_stops_the_build(tmp_path, sample, another):
    opening, shows, described = sample.cells[:3]
    rest = [shown(figure()), described] if another else [new_markdown_cell("No italics.")]
    bare = new_notebook(cells=[opening, shows, *rest], metadata=sample.metadata)
    nbformat.write(bare, tmp_path / "00_bare.ipynb")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert "00_bare.ipynb, cell 2: no sentence in italics describes this figure" in done.stderr


def test_without_executed_notebooks_it_says_so(tmp_path):
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert f"There is no executed notebook in {tmp_path}" in done.stderr


def test_a_link_to_no_page_fails_the_build(tmp_path, sample):
    cells = [new_markdown_cell(OPENING.replace("06_gcn_on_cora", "no_such_notebook"))]
    nb = new_notebook(cells=cells, metadata=sample.metadata)
    nbformat.write(nb, tmp_path / "00_faulty.ipynb")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert "no_such_notebook.ipynb" in done.stderr
