# SPDX-License-Identifier: MIT
"""Sphinx configuration of the documentation site. scripts/build-docs builds it from the tree that
docs/site/stage.py writes, with the version and the folder of Doxygen's output in the environment."""

import os

project = "vgpu"
author = "the vgpu developers"
release = version = os.environ["VGPU_DOCS_VERSION"]
extensions = ["myst_parser", "breathe"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
highlight_language = "none"

# Anchors of headings are those of code-hosting sites; a link to one that does not exist is an error.
myst_heading_anchors = 4

breathe_projects = {"vgpu": os.environ["VGPU_DOCS_XML"]}
breathe_default_project = "vgpu"
breathe_domain_by_extension = {"h": "c", "hpp": "cpp"}
breathe_domain_by_file_pattern = {"*expected.h": "cpp"}
breathe_show_include = False
breathe_show_define_initializer = True
breathe_show_enumvalue_initializer = True

html_theme = "furo"
html_title = f"vgpu {release}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
# The site must work without a network.
html_theme_options = {"navigation_with_keys": True}
