"""The pages that `make run` writes: complete, with formulas, and without a request to the network."""

from importlib import util

import pytest
from _site import served
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_utils import _cli_run, _html
from course_utils.__main__ import main


@pytest.fixture
def notebook():
    cells = [
        new_markdown_cell(
            "# Cost\n\nIt is $c = \\sum_i x_i^2$, and\n\n$$\\frac{\\partial c}{\\partial x_i} = 2 x_i$$"
        ),
        new_code_cell('print("5 $ and 6 $")', outputs=[new_output("stream", text="5 $ and 6 $\n")]),
    ]
    return new_notebook(cells=cells)


def test_formulas_are_set_with_the_mathjax_beside_the_page(browser, notebook, tmp_path):
    assert _html.copy_mathjax(tmp_path / "mathjax")
    (tmp_path / "page.html").write_text(_html.to_html(notebook, "Page", mathjax_folder="mathjax"))
    with served(tmp_path) as url:
        page = browser.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{url}/page.html")
        page.locator("mjx-container").nth(1).wait_for()
        assert page.locator("mjx-container").count() == 2
        assert page.locator("mjx-merror").count() == 0
        assert "5 $ and 6 $" in page.locator("body").inner_text()
        assert all(address.startswith(url) for address in asked)
        page.close()


def test_without_mathjax_the_page_has_tex_and_the_command_says_so(notebook, tmp_path, monkeypatch, capsys):
    import nbformat

    (tmp_path / "notebooks").mkdir()
    nbformat.write(new_notebook(cells=notebook.cells[:1]), tmp_path / "notebooks/00_cost.ipynb")
    monkeypatch.chdir(tmp_path)
    found = util.find_spec
    monkeypatch.setattr(_html, "find_spec", lambda name: None if "mathjax" in name else found(name))
    assert main(["run"]) == 0
    assert _html.NO_MATHJAX in capsys.readouterr().out
    page = (tmp_path / _cli_run.BUILD / "00_cost.html").read_text(encoding="utf-8")
    assert "c = \\sum_i" in page
    assert "<script" not in page or "src=" not in page.partition("</head>")[0].replace('src="data:', "")
