"""The documentation site: `make docs` builds it into docs/_build/html, warnings are errors."""

from pathlib import Path

import celllm

DOCS = Path(__file__).parent

project = "CellLM benchmark"
author = "The CellLM benchmark contributors"
version = release = celllm.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]
templates_path: list[str] = []
html_theme = "furo"
html_title = f"CellLM benchmark {release}"
html_theme_options = {"source_repository": "", "navigation_with_keys": True}

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

# The tutorial is executed, once for each version of its text; a cell that fails ends the build.
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
