"""Windows of products computed again from the raw files: what no digest can show, a file that was sealed anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from larun.detector import Section
from larun.errors import LarunError, OptionError, RawNotFound
from larun.model.auditing.looking import Finding, Looked

if TYPE_CHECKING:
    from larun.model.replay.windows import Windows

__all__ = ["spots"]

_SIDE = 64  # pixels of a window, at most


def spots(
    looked: Sequence[Looked], count: int, raw: Iterable[Path], seed: int | None = None
) -> dict[Path, tuple[Finding, ...]]:
    """What windows at random places tell of the images among some files.

    Parameters
    ----------
    looked : sequence of Looked
        The files that are audited.
    count : int
        How many windows, spread over all images; every image has its turn before one is looked at twice.
    raw : iterable of Path
        Where the raw files are; none looks where they were.
    seed : int, optional
        Decides the places; by default nobody knows them beforehand.

    Returns
    -------
    dict
        The findings by file.
    """
    if count < 0:
        raise OptionError(f"spot={count}: a number of windows, at least 0")
    from larun.model.replay.windows import Windows

    images = [item for item in looked if item.kind == "image" and item.provenance is not None]
    if not images or not count:
        return {}
    rng = np.random.default_rng(seed)
    turns = [int(n) for _ in range(-(-count // len(images))) for n in rng.permutation(len(images))][:count]
    windows = Windows(tuple(raw))
    found: dict[Path, tuple[Finding, ...]] = {}
    for number in sorted(set(turns)):
        found[images[number].path] = tuple(_spotted(images[number], turns.count(number), windows, rng))
    return found


def _spotted(item: Looked, count: int, windows: Windows, rng: np.random.Generator) -> list[Finding]:
    """The findings of some windows of one image."""
    from larun.model.image import Image
    from larun.model.replay.compare import differences
    from larun.model.replay.recompute import of_other_versions

    assert item.provenance is not None
    told: list[Finding] = []
    try:
        image = Image.read(item.path, verify=False)
    except LarunError as error:  # whatever is wrong with it was told already
        return [Finding("note", f"no window was computed again: {error}")]
    same = 0
    for _ in range(count):
        ny, nx = image.shape
        y0, x0 = int(rng.integers(max(ny - _SIDE, 0) + 1)), int(rng.integers(max(nx - _SIDE, 0) + 1))
        section = Section(y0, min(y0 + _SIDE, ny), x0, min(x0 + _SIDE, nx))
        cut = image.crop((section.x0, section.x1), (section.y0, section.y1))
        try:
            again = cut._replace(**windows.pixels(item.provenance, section).fields())
        except RawNotFound:  # told as missing where it is looked for
            return [Finding("note", "no window was computed again: raw files are not found")]
        except LarunError as error:
            return [Finding("note", f"no window was computed again: {error}")]
        unlike = differences(cut, again)
        if not unlike:
            same += 1
            continue
        other = of_other_versions(item.provenance)
        place = f"window x {section.x0}:{section.x1}, y {section.y0}:{section.y1}"
        text = f"{place} is not what the raw files give: {unlike[0]}"
        # another version may rightly give another value
        told.append(Finding("note" if other else "changed", "; ".join([text, *other])))
    if same:
        many = "windows are" if same > 1 else "window is"
        told.append(Finding("note", f"{same} {many} what the raw files give, bit for bit"))
    return told
