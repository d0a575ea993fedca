"""The site: ``nox -s docs`` builds it into build/docs.

Sphinx, because it is maintained by many, makes a link of a name in a docstring, and fails on a warning, and
because its theme Furo asks for nothing of the network. Of d2lrnn the core is imported, and no framework.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import generated_pages
from sphinx.application import Sphinx

from d2lrnn.version import __version__

project = "d2lrnn"
author = "the authors of d2lrnn"
version = release = __version__
html_title = f"d2lrnn {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
# What stands in `single quotes` in a docstring is a name, and a link where the reference has it.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_custom_sections = [("Attributes", "params_style")]  # else a field would be there twice
napoleon_use_rtype = False

myst_heading_anchors = 3

exclude_patterns = ["generated/cells.md"]  # a part of another page

html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def setup(app: Sphinx) -> None:
    """Makes the pages that are made, and lets links to files lead to the pages made from these."""
    generated_pages.write()
    app.connect("source-read", _with_links)
    app.connect("autodoc-process-docstring", _without_type, priority=400)


def _with_links(app: Sphinx, name: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    source[0] = generated_pages.with_links(source[0], page, page)


def _without_type(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keeps Napoleon, which comes next, from taking what a colon ends in a first line for a type."""
    if what in ("attribute", "data", "property"):
        lines.insert(0, "")
