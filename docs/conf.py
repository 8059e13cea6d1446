"""The site: `sphinx-build -W --keep-going docs docs/_build/html`; with `-t fast`, three examples and no notebook are executed.

Everything that pages load comes from installed packages, so that neither building nor reading needs a network.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "extensions"), str(HERE.parent / "benchmarks")]

from unigrid.version import __version__  # noqa: E402

project = "unigrid"
author = "The unigrid developers"
copyright = "The unigrid developers, BSD-3-Clause"
version = release = __version__
is_fast = tags.has("fast")  # type: ignore[name-defined]  # noqa: F821

extensions = [
    "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx-mathjax-offline", "sphinx_design", "myst_nb",
    "sphinx_gallery.gen_gallery", "sphinx_copybutton", "sphinxcontrib.bibtex",
]  # fmt: skip
exclude_patterns = ["_build", "figures", "extensions", "**/.ipynb_checkpoints", "gallery/*.ipynb", "gallery/*.py"]
nitpicky = True
language = "en"

# --- pages in Markdown, and their code ------------------------------------------------------------------------------

os.environ.setdefault("UNIGRID_NUM_THREADS", "2")
myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath", "smartquotes"]
myst_heading_anchors = 3
nb_execution_mode = "off" if is_fast else "cache"
nb_execution_cache_path = str(HERE / "_build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_execution_show_tb = True
nb_merge_streams = True
copybutton_exclude = ".linenos, .gp, .go"
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "unsrt"

# --- looks ----------------------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "unigrid"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # summaries are fetched, which browsers refuse on pages opened from disk
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
