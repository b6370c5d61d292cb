"""Settings of the site: `python -m sphinx -W docs build/site` builds it."""

import re

project = "featviz-callback"
author = "The featviz-callback authors"
copyright = "2026, the featviz-callback authors"
html_title = project
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# Docstrings have code in single backticks.
default_role = "code"
html_theme = "furo"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"exclude-members": "__init__"}
napoleon_use_ivar = True


def as_downloads(app, docname, source):
    """Hand out Markdown that lies outside the site, such as tables of results, as files."""
    pattern = r"\[([^\]]+)\]\(((?:\.\./)+benchmarks/[^)]+\.md)\)"
    source[0] = re.sub(pattern, r"{download}`\1 <\2>`", source[0])


def setup(app):
    """Let Sphinx call `as_downloads` for each page."""
    app.connect("source-read", as_downloads)
