"""The site: `sphinx-build -W --keep-going -j auto docs docs/_build/html`; with `-t fast` a sample of the code is run.

Everything that pages load comes from installed packages, so that neither building nor reading needs a network.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "extensions"), str(HERE.parent / "benchmarks")]

from pictures import Arguments, Scraper  # noqa: E402

from unigrid.version import __version__  # noqa: E402

project = "unigrid"
author = "The unigrid developers"
copyright = "The unigrid developers, BSD-3-Clause"
version = release = __version__
SAMPLE = ("first-poisson-problem", "electrodes", "groundwater", "features_of_a_photograph")  # what the fast form runs
is_fast = tags.has("fast")  # type: ignore[name-defined]  # noqa: F821

extensions = [
    "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx_design", "myst_nb",
    "sphinx_gallery.gen_gallery", "sphinx_copybutton", "sphinxcontrib.bibtex",
    "reference", "docstrings", "pictures", "command_line", "measured",
]  # fmt: skip
exclude_patterns = ["_build", "figures", "extensions", "**/.ipynb_checkpoints", "gallery/*.ipynb", "gallery/*.py"]
suppress_warnings = ["config.cache", *["myst-nb.lexer"] * is_fast]  # the gallery's holds objects; code that is not run
default_role = "code"
highlight_language = "none"  # of indented equations
smartquotes = False  # options begin with two dashes
nitpicky = True
language = "en"

# --- pages in Markdown, and their code ------------------------------------------------------------------------------

os.environ.setdefault("UNIGRID_NUM_THREADS", "2")
myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"  # of pages that are read again; a cache is no place for several processes
nb_execution_excludepatterns = [] if not is_fast else [
    str(path.relative_to(HERE)) for path in HERE.rglob("*.md") if path.stem not in SAMPLE
]  # fmt: skip
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_execution_show_tb = True
nb_merge_streams = True
copybutton_exclude = ".linenos, .gp, .go"
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "unsrt"

# --- the gallery ----------------------------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": rf"/({'|'.join(SAMPLE)})\.py" if is_fast else r"\.py",
    "image_scrapers": (Scraper(),),
    "reset_argv": Arguments(),
    "reset_modules": (),
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "reference/generated/used_by",
    "doc_module": ("unigrid",),
    "inspect_global_variables": False,
    "remove_config_comments": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 5,
    "write_computation_times": False,
    "plot_gallery": True,
    "abort_on_example_error": True,
    "thumbnail_size": (400, 280),
}

# --- docstrings -----------------------------------------------------------------------------------------------------

autodoc_default_options = {"exclude-members": "__init__, __new__"}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
add_module_names = False

# --- looks ----------------------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "unigrid"
html_static_path = ["_static", str(Path(find_spec("sphinx-mathjax-offline").origin).parent / "static")]
mathjax_path = "mathjax/tex-chtml.js"
html_css_files = ["site.css"]
html_js_files = ["sorting.js"]
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # summaries are fetched, which browsers refuse on pages opened from disk
html_context = {"default_mode": "auto"}  # light or dark, as the system is; without it the theme reports an error
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
