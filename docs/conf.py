"""Settings of the documentation, which `make docs` builds without a network.

KERAS2GP_DOCS_ONLINE=1 links the names of other libraries, whose inventories are then fetched.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS2GP_CACHE"] = "off"

from keras2gp._util.version import VERSION  # noqa: E402 (the path is set first)

project = "keras2gp"
author = "keras2gp authors"
copyright = f"2026, {author}"
version = release = VERSION

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "plain_docstrings",
    "written_pages",
]
exclude_patterns = ["_build", "_extensions"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
default_role = "literal"
smartquotes = False  # quotes and the dashes of options stay as they are, as in code

if os.environ.get("KERAS2GP_DOCS_ONLINE") == "1":
    extensions.append("sphinx.ext.intersphinx")
    # Keras publishes no inventory; GPflow keeps one of TensorFlow's names.
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "gpflow": ("https://gpflow.github.io/GPflow/develop", None),
        "tensorflow": (
            "https://www.tensorflow.org/api_docs/python",
            "https://github.com/GPflow/tensorflow-intersphinx/raw/master/tf2_py_objects.inv",
        ),
    }
linkcheck_timeout = 20

html_theme = "furo"
html_title = f"keras2gp {VERSION}"
html_static_path = ["_static"]
html_css_files = ["wide_tables.css"]
html_show_sphinx = False
html_copy_source = False
pygments_style = "default"  # all its colours have a contrast of 4.5 on its background
pygments_dark_style = "monokai"
