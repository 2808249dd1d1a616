"""The guide: its code run on the real data, with what it prints, and its pictures.

``python docs/make_guide.py outputs [PAGE …]`` runs the code of the pages in ``docs/guide/`` and writes what each block
prints into the ``text`` block below it; ``python docs/make_guide.py pictures`` draws ``docs/images/guide/``. The real
data are those of ``LARUN_DATA``. ``tests/test_docs.py`` holds the pages to what the code prints.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["PAGES", "expected", "link_data", "printed", "rewritten"]

HERE = Path(__file__).parent
DATA = Path(os.environ.get("LARUN_DATA", HERE.parents[1] / "shared" / "data"))

#: In the order of ``docs/guide/index.md``.
PAGES = tuple(
    HERE / "guide" / f"{name}.md"
    for name in (
        "images",
        "overscan",
        "combining",
        "darks",
        "flats",
        "science",
        "cosmic-rays",
        "photometry",
        "night",
    )
)

#: Names of folders on the pages, and of those of the real data.
FOLDERS = {"raw": "nickel", "tres1": "tres1", "lco": "lco"}

_START = "import warnings\nimport matplotlib\nmatplotlib.use('Agg')\nwarnings.simplefilter('error')\n"
_END = "\x1e"  # after what each block prints
_BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$(?:\n\n```text\n(?P<said>.*?)^```$)?", re.S | re.M)


def link_data(folder: Path, data: Path) -> Path:
    """A folder in which the pages' paths lead to the real data; products may be written beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in FOLDERS.items():
        if not (folder / name).exists():
            (folder / name).symlink_to((data / source).resolve(), target_is_directory=True)
    return folder


def expected(page: Path) -> list[str]:
    """What the page says that each of its blocks prints; empty where it says nothing."""
    return [found["said"] or "" for found in _BLOCK.finditer(page.read_text(encoding="utf-8"))]


def printed(page: Path, folder: Path) -> list[str]:
    """What each block of a page prints, run in a folder.

    Raises
    ------
    RuntimeError
        If the code fails; with what it wrote to the error output.
    """
    codes = [found["code"] for found in _BLOCK.finditer(page.read_text(encoding="utf-8"))]
    script = _START + "".join(f"{code}\nprint({_END!r}, end='')\n" for code in codes)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise RuntimeError(f"{page.name}:\n{done.stderr}")
    return done.stdout.split(_END)[: len(codes)]


def rewritten(text: str, outputs: list[str]) -> str:
    """A page with what its blocks print now."""
    remaining = iter(outputs)

    def replace(found: re.Match[str]) -> str:
        said = next(remaining)
        return f"```python\n{found['code']}```" + (f"\n\n```text\n{said}```" if said else "")

    return _BLOCK.sub(replace, text)


def write_outputs(pages: Iterable[Path]) -> None:
    """Run pages and write what they print."""
    with TemporaryDirectory() as folder:
        link_data(Path(folder), DATA)
        for page in pages:
            text = page.read_text(encoding="utf-8")
            page.write_text(rewritten(text, printed(page, Path(folder))), encoding="utf-8")
            sys.stdout.write(f"{page}\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["pictures"]:
        from guide_pictures import draw_all

        draw_all(DATA, HERE / "images" / "guide")
    elif sys.argv[1:2] == ["outputs"]:
        write_outputs([HERE / "guide" / f"{name}.md" for name in sys.argv[2:]] or PAGES)
    else:
        sys.exit(__doc__)
