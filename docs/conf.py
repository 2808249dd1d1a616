"""How the documentation is built: ``python -m sphinx -W --keep-going -b html docs docs/_build/html``; no network."""

import re
import shutil
import sys
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import make_tables  # beside this file

import larun

HERE = Path(__file__).parent

project = "larun"
copyright = "the larun developers"
version = release = larun.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
]
exclude_patterns = ["_build", "changes", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"larun {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# The tutorial is run at every build and must not fail; the kernel starts in a folder that is thrown away.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_merge_streams = True

autosummary_generate = True
autodoc_typehints = "none"  # the numpydoc sections say types in words, with shapes and units
autodoc_member_order = "groupwise"
# What Python's own classes bring along is not worth a page.
autodoc_default_options = {
    "inherited-members": "tuple,BaseException,Exception,ValueError,ImportError,object",
    "special-members": "__add__,__sub__,__mul__,__truediv__",
}
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False


def _copy_tutorials() -> None:
    """Bring the tutorials, which have a folder of their own at the top, under the documentation's root."""
    target = HERE / "tutorials"
    target.mkdir(exist_ok=True)
    for page in sorted((HERE.parent / "tutorials").glob("*.md")):
        copy = target / page.name
        if not copy.exists() or copy.read_bytes() != page.read_bytes():
            shutil.copyfile(page, copy)


def _skip_member(app, what, name, obj, skip, options):
    """Leave out fields of named tuples, which the class's docstring describes, and names for types."""
    alias = isinstance(obj, types.GenericAlias) or str(getattr(obj, "__doc__", "")).startswith("Alias for field number")
    return True if alias else skip


def _bars_are_bars(app, what, name, obj, options, lines):
    """``|x|`` in a docstring is an absolute value, not a substitution."""
    for number, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        lines[number] = "".join(part if part.startswith("``") else re.sub(r"(?<!\\)\|", r"\\|", part) for part in parts)


def setup(app):
    """Called by Sphinx."""
    _copy_tutorials()
    shutil.rmtree(HERE / "api", ignore_errors=True)  # pages of names that have moved would be orphans
    make_tables.write_all(HERE / "api")
    app.connect("autodoc-skip-member", _skip_member)
    app.connect("autodoc-process-docstring", _bars_are_bars, priority=900)  # after numpydoc
