"""How the site is built: ``sphinx-build -W docs docs/build``, in an environment with ``pip install ".[docs]"``."""

from __future__ import annotations

import re
from pathlib import Path

import diffeo
from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

HERE = Path(__file__).parent
project = "diffeo"
author = "The diffeo developers"
project_copyright = author
version = release = diffeo.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["templates"]
exclude_patterns = ["build", "tutorials", "concepts"]
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Docstrings name arguments and modules in backticks: what is no link is code.
default_role = "code"
autosummary_generate = True
autodoc_typehints = "none"
# Methods have their place on the page of their class.
numpydoc_show_class_members = False
copybutton_prompt_text = ">>> "
copybutton_exclude = ".linenos, .gp, .go"

sphinx_gallery_conf = {
    "examples_dirs": ["tutorials", "concepts"],
    "gallery_dirs": ["auto/tutorials", "auto/concepts"],
    "filename_pattern": r"/[tc]\d_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "doc_module": ("diffeo",),
    "backreferences_dir": "auto/uses",
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
    "reset_modules": ("matplotlib",),
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    # Times of a busy machine tell nothing.
    "min_reported_time": 1e9,
    "show_signature": False,
    "write_computation_times": False,
    "capture_repr": ("_repr_html_", "__repr__"),
    "ignore_repr_types": r"matplotlib|numpy",
}

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "diffeo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 6,
    "navbar_persistent": ["search-button"],
    "logo": {"text": "diffeo"},
}
# Pages without pages below them.
ALONE = ("index", "install", "which_call", "gallery", "benchmarks", "limits", "glossary", "cite", "changes")
html_sidebars = {page: [] for page in ALONE}
toc_object_entries_show_parents = "hide"


def _formula(translator, node, block):
    """A formula as MathML, which browsers draw themselves: the pages load nothing."""
    mathml = tex2mathml(node.astext().strip(), as_block=block)
    translator.body.append(f'<div class="formula">{mathml}</div>' if block else mathml)
    raise SkipNode


def _inline_formula(translator, node):
    _formula(translator, node, block=False)


def _block_formula(translator, node):
    _formula(translator, node, block=True)


def _uses(app, what, name, obj, options, lines):
    """A page that no tutorial uses has no empty list of them."""
    del app, what, obj, options
    path = HERE / "auto" / "uses" / f"{name}.examples"
    if re.fullmatch(r"diffeo\.\w+", name) and path.exists() and path.stat().st_size:
        lines += ["", ".. rubric:: Used in", "", f".. minigallery:: {name}", ""]


def setup(app):
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_inline_formula, None), (_block_formula, None))
    app.connect("autodoc-process-docstring", _uses, priority=900)
