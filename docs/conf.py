"""Settings of the site: `python -m sphinx -W docs build/site` builds it."""

project = "featviz-callback"
author = "The featviz-callback authors"
copyright = "2026, the featviz-callback authors"  # noqa: A001
html_title = project
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"exclude-members": "__init__"}
napoleon_use_ivar = True
