"""A series of frames of one field: the reference they are subtracted from, and the places where something changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError
from larun.model.quality.grading import grade
from larun.model.sky import SkyImage
from larun.model.stack import Stack
from larun.model.stacking.options import StackOptions

if TYPE_CHECKING:
    from larun.algorithms.subtraction import SubtractOptions
    from larun.model.difference import DifferenceImage
    from larun.model.frame import Frame
    from larun.model.quality.measured import Quality

__all__ = ["Place", "places_of", "sharpest", "stacked_reference", "subtracted"]

#: Frames of a reference: this part of all, the sharpest, within these numbers.
_PART, _FEWEST, _MOST = 0.25, 4, 12
#: A frame of less worth, of the best, is not in the reference however sharp it is.
_WORTH = 0.2


class Place(NamedTuple):
    """Where something changed.

    Attributes
    ----------
    x, y : float
        Of its best detection, pixels.
    seen : tuple of (int, int)
        Number of the difference and of the row of each detection, the best first.
    """

    x: float
    y: float
    seen: tuple[tuple[int, int], ...]


def sharpest(paths: Sequence[Path], *, progress: Callable[[str, int, int], None] | None = None) -> list[Path]:
    """The frames that a reference is made of: the sharpest quarter, 4 to 12, in order of time or of name.

    Parameters
    ----------
    paths : sequence of Path
        Calibrated frames of one field in one filter.
    progress : callable, optional
        Called with a name, a number and a total.

    Raises
    ------
    OptionError
        If no frame shows stars.
    """
    found: list[Quality] = []
    for number, path in enumerate(paths):
        if progress is not None:
            progress(f"looking at {path.name}", number, len(paths))
        found.append(SkyImage.read(path, verify=False).quality())
    if not any(one.stars for one in found):
        raise OptionError(f"none of {len(paths)} frames shows stars that tell how sharp it is: give --reference FILE")
    table = grade(found)
    fwhm, worth = (np.asarray(table[name], float) for name in ("fwhm", "worth"))
    good = np.flatnonzero(np.isfinite(fwhm) & ((worth > _WORTH) | (worth == np.nanmax(worth))))
    count = min(max(_FEWEST, math.ceil(_PART * len(paths))), _MOST)
    chosen = good[np.lexsort((good, fwhm[good]))[:count]]
    return [paths[n] for n in sorted(chosen)]


def stacked_reference(paths: Sequence[Path], *, progress: Callable[[str, int, int], None] | None = None) -> SkyImage:
    """A reference of the sharpest frames: their stack, without what only one of them saw, on the pixels of the first.

    Of fewer than three it is the sharpest frame itself.

    Raises
    ------
    OptionError
        If no frame shows stars.
    NotAligned
        If frames do not show the same field.
    """
    chosen = sharpest(paths, progress=progress)
    if len(chosen) < 3:
        return SkyImage.read(chosen[0])
    return Stack.combine(chosen, reference=chosen[0], options=StackOptions(footprint="reference"))


def subtracted(frame: Frame, reference: SkyImage, options: SubtractOptions) -> DifferenceImage:
    """A frame less the reference, on the pixels of the reference, so that a series has the same places.

    Raises
    ------
    NotAligned
        If both do not show the same field.
    """
    if reference._resampling is not None or frame._resampling is not None:
        return frame.subtract(reference, options=options)
    return frame.align_to(reference).subtract(reference, options=options)


def places_of(found: Iterable[Any], *, within: float) -> list[Place]:
    """The places of candidates of several differences, each once.

    Parameters
    ----------
    found : iterable of astropy.table.QTable
        The candidates that count, one table a difference, on the same pixels.
    within : float
        Pixels: what is nearer to a better candidate is at its place.

    Returns
    -------
    list of Place
        By falling S/N of the best detection.
    """
    rows = [
        (-float(row["snr"]), n, k, float(row["x"].value), float(row["y"].value))
        for n, table in enumerate(found)
        for k, row in enumerate(table)
    ]
    made: list[tuple[float, float, list[tuple[int, int]]]] = []
    centres: NDArray[np.float64] = np.zeros((0, 2))
    for _, n, k, x, y in sorted(rows):
        away = np.hypot(centres[:, 0] - x, centres[:, 1] - y)
        if away.size and away.min() < within:
            made[int(np.argmin(away))][2].append((n, k))
            continue
        made.append((x, y, [(n, k)]))
        centres = np.vstack([centres, [x, y]])
    return [Place(x, y, tuple(seen)) for x, y, seen in made]
