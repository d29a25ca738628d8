"""The README's figures: chosen by their descriptions, from the real data alone, and small."""

import base64
import importlib
import io
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
PICTURES = sorted((ROOT / "docs/gallery").glob("*.png"))


def shown_figure():
    png = io.BytesIO()
    Figure(figsize=(12, 3)).savefig(png)
    data = {"image/png": base64.b64encode(png.getvalue()).decode()}
    return new_code_cell("show()", outputs=[new_output("display_data", data)])


def gallery(executed, out):
    command = [sys.executable, ROOT / "docs/book/make_gallery.py", "--executed", executed, "--out", out]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def executed_for_gallery(folder, *outputs):
    """Write notebooks with a figure for each picture of the gallery, and `outputs` before it."""
    for name, captions in {
        "04_node2vec_cambridge": (
            "The map with nodes coloured and shaped by cluster.",
            "Two maps with ten coloured walks.",
        ),
        "06_gcn_on_cora": ("Four pictures of all papers.",),
        "07_how_many_layers": ("Test accuracy against the number of layers.",),
        "08_gradient_clinic": ("Heat maps of gradient norms.",),
        "10_stuck_curvature": ("The same tree twice.",),
    }.items():
        cells = [new_code_cell("load()", outputs=list(outputs))]
        for caption in captions:
            cells += [shown_figure(), new_markdown_cell(f"*{caption}*")]
        nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")


def test_the_gallery_is_made_of_the_figures_it_names(tmp_path):
    executed_for_gallery(tmp_path)
    done = gallery(tmp_path, tmp_path / "gallery")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "gallery").iterdir()} == {path.name for path in PICTURES}


def test_no_stand_in_gets_into_the_gallery(tmp_path):
    warning = new_output("stream", name="stderr", text="StandInWarning: Stand-in for 'cora': made-up data")
    executed_for_gallery(tmp_path, warning)
    done = gallery(tmp_path, tmp_path / "gallery")
    assert done.returncode == 1
    assert "the gallery needs the real data" in done.stderr
    assert not (tmp_path / "gallery").exists()


def test_a_notebook_that_lost_its_figure_is_named(tmp_path):
    executed_for_gallery(tmp_path)
    nbformat.write(new_notebook(), tmp_path / "10_stuck_curvature.ipynb")
    done = gallery(tmp_path, tmp_path / "gallery")
    assert "10_stuck_curvature.ipynb has no figure whose description begins" in done.stderr
    assert not (tmp_path / "gallery").exists()


@pytest.mark.parametrize("name", [path.name for path in PICTURES])
def test_the_readme_shows_each_small_picture_and_describes_it(name):
    assert (ROOT / "docs/gallery" / name).stat().st_size < 120_000
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.partition(f"](docs/gallery/{name})")[0].rpartition("![")[2]) > 40


def test_the_captions_that_the_gallery_looks_for_are_in_the_notebooks():
    sys.path.insert(0, str(ROOT / "docs/book"))
    try:
        wanted = importlib.import_module("make_gallery").PICTURES
    finally:
        sys.path.remove(str(ROOT / "docs/book"))
    for notebook, beginning in wanted.values():
        cells = nbformat.read(ROOT / f"notebooks/{notebook}.ipynb", as_version=4).cells
        assert any(" ".join(cell.source.split()).startswith(f"*{beginning}") for cell in cells)
