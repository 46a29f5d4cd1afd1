"""The documentation site: `make docs` builds it into docs/_build/html, warnings are errors."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import celllm
from celllm.cli import main

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


def help_of(*arguments: str) -> str:
    """What ``celllm <arguments> --help`` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main([*arguments, "--help"])
    return printed.getvalue().rstrip()


def write_commands(*_: Any) -> None:
    """Write reference/cli.md from the command line itself."""
    overview = help_of()
    verbs = re.findall(r"^ {2,4}([a-z][a-z-]+)(?:  |$)", overview, re.MULTILINE)
    parts = ["# Command line", f"```text\n{overview}\n```"]
    parts += [f"## celllm {verb}\n\n```text\n{help_of(verb)}\n```" for verb in verbs]
    page, text = DOCS / "reference/cli.md", "\n\n".join(parts) + "\n"
    page.parent.mkdir(exist_ok=True)
    if not page.is_file() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_commands)
