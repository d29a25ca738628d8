"""Executed notebooks as HTML pages that load nothing from the network."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

NO_MATHJAX = (
    "Formulas stay in TeX, because MathJax is not installed here. "
    "The extra `book` brings it: pip install 'graph-ml-course[book]'"
)
# What a page with formulas asks for; the whole of MathJax is ten times as much.
_PARTS = ("tex-chtml.js", "output/chtml/fonts", "input/tex/extensions")
# nbconvert's page would load MathJax, RequireJS (for widgets, whose state is not kept) and Mermaid from afar.
_PAGE = r"""
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js_requirejs -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}
{%- if resources.mathjax_folder -%}
<script>
window.MathJax = {
  tex: {inlineMath: [["$", "$"], ["\\(", "\\)"]], processEscapes: true},
  options: {enableMenu: false},
};
</script>
<script defer src="{{ resources.mathjax_folder }}/tex-chtml.js"></script>
{%- endif -%}
{%- endblock -%}
"""


def to_html(notebook: NotebookNode, title: str, *, mathjax_folder: str) -> str:
    """Return a notebook as an HTML page.

    Parameters
    ----------
    mathjax_folder
        Where the page finds MathJax, from where the page lies. If it is "", formulas stay in TeX.
    """
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(raw_template=_PAGE)  # type: ignore[no-untyped-call]  # nbconvert is not annotated
    resources = {"metadata": {"name": title}, "mathjax_folder": mathjax_folder}
    html, _ = exporter.from_notebook_node(notebook, resources=resources)
    return str(html)


def copy_mathjax(folder: Path) -> bool:
    """Copy what pages use of MathJax into `folder`; return False if it is not installed."""
    spec = find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        return False
    source = Path(spec.origin).parent / "static" / "mathjax"
    for part in _PARTS:
        target = folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target, dirs_exist_ok=True)
        else:
            shutil.copy(source / part, target)
    return True
