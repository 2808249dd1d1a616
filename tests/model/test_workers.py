"""Processes that reduce frames: which code they run."""

import os
import subprocess
import sys
from pathlib import Path

import larun

SCRIPT = """
import sys
from pathlib import Path

import larun
from larun.model import workers


def where(name):
    import numpy

    return larun.__file__, hasattr(numpy, "trap")


if __name__ == "__main__":
    for found in workers.run(where, ["one", "two", "three"], 2, str):
        print(*found)
"""


def run(tmp_path, **more):
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(larun.__file__).parents[1]), **more},
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def test_what_lies_in_the_working_folder_is_never_taken_for_a_library(tmp_path):
    (tmp_path / "larun").mkdir()
    (tmp_path / "larun" / "__init__.py").write_text("raise SystemExit('wrong larun')")
    (tmp_path / "numpy.py").write_text("trap = True")
    rows = run(tmp_path)
    assert rows == 3 * [[larun.__file__, "False"]]


def test_another_larun_is_forgotten():
    code = """
import os, sys
os.environ["LARUN_PRELOADED"] = "/of/the/parent"
try:
    import larun.model.preloaded
except ImportError as error:
    print(error, [name for name in sys.modules if name.startswith("larun")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "another larun than that of the parent []"
