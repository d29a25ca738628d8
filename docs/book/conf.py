"""Sphinx configuration of the book. `make_book.py` lays the pages out beside a copy of this file."""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "Graph machine learning, by notebook"
author = "the course's contributors"
project_copyright = "text and figures CC BY 4.0, code MIT"
version = release = metadata.version("graph-ml-course")
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_static"]
show_warning_types = True

# The notebooks come executed.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

default_role = "code"  # In docstrings `name` is code.

# Types are written once, in the annotations.
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
napoleon_google_docstring = False
napoleon_use_ivar = True

# Nothing comes from the network: not the mathematics, and neither fonts nor scripts.
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}  # What the menu offers is not in the copy.

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_js_files = ["formulas.js"]
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}
html_copy_source = False
html_show_sphinx = False
html_sidebars = {"index": []}
html_theme_options = {
    "logo": {"text": "Graph ML"},
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "search_bar_text": "Search the course ...",
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
}


def setup(app: Sphinx) -> None:
    """Read docstrings as they are meant."""
    app.connect("autodoc-process-docstring", _keep_bars)


def _keep_bars(
    _app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Let the bars of a norm, |x|, be bars, and not a substitution of reStructuredText; leave code alone."""
    lines[:] = [re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or r"\|", line) for line in lines]
