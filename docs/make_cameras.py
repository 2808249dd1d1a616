"""The page ``reference/cameras.md``: what larun makes of real files and headers, one row each.

Run ``python docs/make_cameras.py [FOLDER]`` with the folder of the real data (or ``LARUN_DATA`` set) to write it again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import larun
from larun import instruments
from larun.errors import LarunError
from larun.model import registry
from larun.model.understood.derived import Explanation

__all__ = ["page", "rows"]

PAGE = Path(__file__).parent / "reference" / "cameras.md"
FOLDER = Path(os.environ.get("LARUN_DATA", Path(__file__).parents[2] / "shared" / "data"))

#: Every file of the small sets, and of the nights one of each kind.
FILES = (
    "nickel/d1001.fits.fz",
    "nickel/d1035.fits.fz",
    "nickel/d1059.fits.fz",
    "tres1/tres1-001d.fit.fz",
    "tres1/tres1-020.fit.fz",
    "kb13475/AKB13475I0100.fits.fz",
    "ste3/*.fits.gz",
    "lco/*.fits.fz",
    "hst/*.fits.gz",
    "sdss/*.gz",
    "headers/*.yaml",
)

_HEAD = """# Cameras

The classes that come with larun, and what each makes of real files: written by `python docs/make_cameras.py`. A camera
of your own takes thirty lines: {doc}`../howto/new-instrument`. `larun instrument check FILE` tells the same of one
file, and where every value is from.

"""


def classes() -> str:
    """One line a camera."""
    made = ["| class | reads | masters it needs |", "|---|---|---|"]
    for camera in registry.cameras():
        if camera.__module__.startswith("larun."):
            about = (sys.modules[camera.__module__].__doc__ or "").strip().splitlines()[0]
            needs = ", ".join(kind for kind in ("bias", "dark", "flat") if kind in camera.required) or "none"
            made.append(f"| `{camera.__name__}` | {about} | {needs} |")
    return "\n".join(made) + "\n"


def _numbers(values: object, digits: int = 4) -> str:
    """Numbers of the amplifiers, each once where they are equal."""
    listed = values if isinstance(values, tuple) else (values,)
    shown = ["–" if value is None else f"{value:.{digits}g}" for value in listed]
    return shown[0] if len(set(shown)) == 1 else ", ".join(shown)


def _value(found: Explanation, name: str) -> str:
    try:
        value = found[name]
    except KeyError:
        return "–"
    if value is None or value == ():
        return "–"
    return _numbers(value, 6) if isinstance(value, float | tuple) else str(value)


def _verdict(path: Path, found: Explanation) -> str:
    """What a reduction would say."""
    if found.header_only:
        wrong = [finding for finding in found.findings if finding.level == "error"]
        if any(finding.quantity == "file" for finding in wrong):
            return "refused: " + wrong[0].problem
        errors = [finding.problem for finding in wrong]
        return "header only; " + ("; ".join(errors) if errors else "all that is needed is there")
    frame = larun.Frame.read(path)
    if frame.calibrated:
        return "calibrated by its observatory"
    try:
        frame.calibrate(without=("bias", "dark", "flat"))
    except LarunError as error:
        return f"refused: {error}"
    needs = [kind for kind in ("bias", "dark", "flat") if kind in type(frame).required]
    return f"needs {', '.join(needs)}" if needs and frame.kind == "science" else "ready"


def rows(folder: Path) -> list[tuple[str, ...]]:
    """What larun makes of each file."""
    made: list[tuple[str, ...]] = []
    for pattern in FILES:
        for path in sorted(folder.glob(pattern)):
            name = path.relative_to(folder).as_posix()
            try:
                found = instruments.check(path)
            except LarunError as error:
                made.append((name, *["–"] * 9, f"refused: {error}".replace(f"{path} ", "")))
                continue
            size, verdict = _value(found, "trimmed_size"), _verdict(path, found)
            if verdict.startswith("refused"):
                made.append((name, *["–"] * 9, verdict))
                continue
            made.append(
                (
                    name,
                    found.camera.rpartition(":")[2],
                    _value(found, "kind"),
                    _value(found, "filter"),
                    _value(found, "exposure"),
                    size.strip("[]").replace(", ", " × "),
                    _value(found, "gain"),
                    _value(found, "read_noise"),
                    _value(found, "saturation"),
                    _value(found, "middle"),
                    verdict.replace(f"{path}", name),
                )
            )
    return made


def page(folder: Path) -> str:
    """The whole page."""
    heads = (
        "file | class | kind | filter | exposure s | size | gain | read noise e⁻ | saturation | middle UTC | verdict"
    )
    table = [f"| {heads} |", "|" + "---|" * (heads.count("|") + 1)]
    table += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows(folder)]
    return f"{_HEAD}{classes()}\n## On real files\n\n" + "\n".join(table) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
