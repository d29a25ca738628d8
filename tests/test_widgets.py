"""Sliders: in JupyterLab they move and the picture follows; elsewhere the picture stands by itself."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from _slices import slice_of
from nbconvert import HTMLExporter

from course_utils import _execute
from course_utils.widgets import explore

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
TOKEN = "only-for-this-test"
PATIENCE = 240  # Seconds until a test gives up, on a machine that does other things as well.

# The labels of the sliders of each picture.
PICTURES = {
    "02_neural_networks": [["learning rate"]],
    "04_node2vec_cambridge": [["p", "q"], ["k"]],
    "07_how_many_layers": [["rounds"]],
}

SMALL = """
from course_utils.widgets import explore

def draw(figure, height=2):
    if height == 3:
        raise RuntimeError("the roof is missing")
    figure.subplots().bar(["house"], [height])
    return f"The house is {height} high."

explore(draw, height=[1, 2, 3])
"""


def notebook_of(*sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(cells=cells)


def cells_with_sliders(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and "explore(" in cell.source]


def test_a_slider_without_a_beginning_is_refused():
    def draw(_figure, k, q=3):
        return f"{k} {q}"

    for sliders in ({"k": [1, 2]}, {"q": [1, 2]}):
        with pytest.raises(ValueError, match=r"a default in draw, out of \[1, 2\]"):
            explore(draw, **sliders)


def test_every_slider_of_the_course_is_tested_here():
    found = {}
    for path in NOTEBOOKS.glob("*.ipynb"):
        if cells := cells_with_sliders(nbformat.read(path, as_version=4)):
            found[path.stem] = len(cells)
    assert found == {stem: len(pictures) for stem, pictures in PICTURES.items()}


def test_without_a_kernel_there_are_picture_and_sentence_and_no_broken_widget(tmp_path):
    done = _execute.execute(notebook_of(SMALL), tmp_path)
    assert done.failure == ""
    assert "widgets" not in done.notebook.metadata
    page, _ = HTMLExporter().from_notebook_node(done.notebook)
    assert "data:image/png" in page
    assert "<pre>The house is 2 high." in page
    assert "Sliders that move while the notebook runs: height." in page
    (picture,) = (
        output for output in done.notebook.cells[-1].outputs if "image/png" in output.get("data", {})
    )
    assert picture.metadata["image/png"]["alt"] == "The house is 2 high."
    for broken in ("SelectionSlider(", "Error displaying", "embed-amd.js"):
        assert broken not in page


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Start JupyterLab, which serves an empty folder; return the folder and a function from a name to its address."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    folder.mkdir()
    settings = home / "config/lab/user-settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}', encoding="utf-8")  # All cells are in the page.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    places = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    options = [f"--ServerApp.root_dir={folder}", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    options += [
        f"--IdentityProvider.token={TOKEN}",
        "--ServerApp.port_retries=0",
        "--no-browser",
        "--allow-root",
    ]
    log = home / "log"
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, env=os.environ | places, stdout=stream, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: server.poll() is not None or answers(port))
        assert server.poll() is None, log.read_text(encoding="utf-8")
        yield folder, f"http://127.0.0.1:{port}/lab/tree/{{}}?token={TOKEN}"
    finally:
        server.terminate()
        server.wait()


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token={TOKEN}"):
            return True
    except urllib.error.URLError:
        return False


def wait_until(condition, pause=time.sleep):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        pause(0.1)


class LabPage:
    """A notebook, open in JupyterLab, with all its cells run."""

    def __init__(self, browser, lab, notebook):
        folder, address = lab
        self.path = folder / "shown.ipynb"
        nbformat.write(notebook, self.path)
        self.page = browser.new_page(viewport={"width": 1300, "height": 1000})
        self.page.set_default_timeout(PATIENCE * 1000)
        self.errors = []
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address.format(self.path.name))
        self.page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        self.page.get_by_text("| Idle").wait_for()
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    def wait_until(self, condition):
        wait_until(condition, lambda seconds: self.page.wait_for_timeout(1000 * seconds))

    def cell(self, number):
        """Return the cell with the ``number``-th picture with sliders, once it is drawn."""
        cells = self.page.locator(".jp-CodeCell").filter(has=self.page.locator(".widget-hslider"))
        self.wait_until(lambda: cells.nth(number).locator("img").count() == 1)
        return cells.nth(number)

    def save(self):
        """Save as a user does, and return what the file holds then."""
        unsaved = self.page.locator(".jp-mod-dirty")
        assert unsaved.count() > 0
        self.page.keyboard.press("Control+s")
        self.wait_until(lambda: unsaved.count() == 0)
        return json.loads(self.path.read_text(encoding="utf-8"))


def slider(cell, label):
    row = cell.locator(".widget-hslider").filter(has=cell.page.get_by_text(label, exact=True))
    return row.get_by_role("slider")


def shown(cell):
    """Return what there is to see: the picture (its hash), and the sentence below it."""
    source = cell.locator("img").get_attribute("src")
    return hashlib.sha256(source.encode()).hexdigest(), cell.locator(
        ".jp-OutputArea-output"
    ).last.inner_text()


@pytest.mark.parametrize("stem", PICTURES)
def test_in_jupyterlab_the_picture_follows_the_arrow_keys(browser, lab, stem):
    notebook = nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.cells = slice_of(code, [code[0], *cells_with_sliders(notebook)])
    tab = LabPage(browser, lab, notebook)
    for number, labels in enumerate(PICTURES[stem]):
        cell = tab.cell(number)
        for label in labels:
            begin = shown(cell)
            slider(cell, label).press("ArrowRight")
            tab.wait_until(lambda: all(now != then for now, then in zip(shown(cell), begin, strict=True)))  # noqa: B023 (called here)
            slider(cell, label).press("ArrowLeft")
            tab.wait_until(lambda: shown(cell) == begin)  # noqa: B023 (called here)
    saved = tab.save()
    assert "widgets" not in saved["metadata"]
    assert tab.errors == []
    tab.page.close()


def test_in_jupyterlab_an_error_in_the_drawing_is_shown(browser, lab):
    tab = LabPage(browser, lab, notebook_of(SMALL))
    cell = tab.cell(0)
    slider(cell, "height").press("ArrowRight")
    tab.wait_until(lambda: shown(cell)[1] == "RuntimeError: the roof is missing")
    slider(cell, "height").press("ArrowLeft")
    tab.wait_until(lambda: shown(cell)[1] == "The house is 2 high.")
    tab.page.close()
