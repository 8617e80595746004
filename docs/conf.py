"""How Sphinx builds the site; ``make docs`` runs it."""

import os
import sys
from pathlib import Path

from moma_cl import __version__

HERE = Path(__file__).parent

project = "moma-cl"
author = "The moma-cl developers"
project_copyright = author
release = version = __version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "kernels"]
templates_path: list[str] = []
html_theme = "pydata_sphinx_theme"
html_title = "moma-cl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "logo": {"text": "moma-cl"},
    "show_prev_next": True,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": []}
html_context = {"default_mode": "auto"}

# Tutorials run when the site is built: those of the command line in bash, in a folder that is
# deleted afterwards. They find the program of this environment, and one thread is enough.
os.environ["SITE_PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["JUPYTER_PATH"] = str(HERE)
os.environ["TUTORIALS"] = str(HERE / "tutorials")
os.environ.update(OMP_NUM_THREADS="1", NO_COLOR="1", PYTHONWARNINGS="ignore:IProgress not found")
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = False
nb_execution_timeout = 120
nb_execution_show_tb = True
nb_merge_streams = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
numpydoc_show_class_members = False
copybutton_exclude = ".linenos, .gp, .go"
