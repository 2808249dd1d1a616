"""What the air does to light curves beyond zero points: by colour, and as a line in air mass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.colourterm import ColourTerm
from larun.errors import OptionError

__all__ = ["Line", "check_airmass", "colours_of", "told", "without_line"]

Floats = NDArray[np.float64]

_NAMES = ("colour", "color")
_LINE = (
    "a line in air mass was taken out of the targets' light, fitted to all their points: what a transit or a slow "
    "change has in common with it is gone too"
)


class Line(NamedTuple):
    """A line in air mass that was taken out of a star's light: relative, for each unit of air mass, about a mean."""

    slope: float
    error: float
    airmass: float


def colours_of(given: Any) -> tuple[Any, Floats | None]:
    """Positions, and the colours beside them: a column ``colour`` of a table, or the third of an array.

    Raises
    ------
    OptionError
        If a colour is not finite.
    """
    names = getattr(given, "colnames", None) or (getattr(given, "columns", None) if hasattr(given, "keys") else None)
    found = None
    if names is not None:
        name = next((name for name in _NAMES if name in names), None)
        found = None if name is None else given[name]
    elif isinstance(given, np.ndarray | list | tuple):
        try:
            table = np.asarray(given, np.float64)
        except (TypeError, ValueError):
            return given, None
        if table.ndim == 2 and table.shape[1] == 3:
            given, found = table[:, :2], table[:, 2]
    if found is None:
        return given, None
    colours = np.atleast_1d(np.asarray(getattr(found, "value", found), np.float64))
    if not np.isfinite(colours).all():
        raise OptionError(
            f"colour of star {int(np.flatnonzero(~np.isfinite(colours))[0]) + 1}: is not known; leave that star "
            "out, or the column"
        )
    return given, colours


def check_airmass(airmass: Floats, why: str) -> None:
    """Refuse frames without an air mass.

    Raises
    ------
    OptionError
        If one has none.
    """
    lacking = int(np.sum(~np.isfinite(airmass)))
    if lacking:
        raise OptionError(
            f"{why}, but air mass is not known in {lacking} of {len(airmass)} frames: give coordinates=, and site= "
            "when frames are read"
        )


def without_line(
    flux: Floats, error: Floats, good: NDArray[np.bool_], airmass: Floats, targets: int
) -> tuple[Line, ...]:
    """Take the best line in air mass out of the light of each target, in place.

    Returns
    -------
    tuple of Line
        One a target; of slope 0 where there are too few points.
    """
    made: list[Line] = []
    for n in range(targets):
        here = good[:, n] & np.isfinite(flux[:, n]) & (error[:, n] > 0)
        weight = np.where(here, 1.0 / np.where(here, error[:, n], 1.0) ** 2, 0.0)
        total = float(weight.sum())
        middle = float(np.sum(weight * airmass)) / total if total > 0 else float(np.mean(airmass))
        away = airmass - middle
        size = float(np.sum(weight * away**2))
        if here.sum() < 3 or not size > 0:
            made.append(Line(0.0, 0.0, middle))
            continue
        light = np.where(here, flux[:, n], 0.0)
        level = float(np.sum(weight * light)) / total
        slope = float(np.sum(weight * light * away)) / size / level
        made.append(Line(slope, size**-0.5 / level, middle))
        line = 1 + slope * away
        error[:, n] = np.hypot(error[:, n], flux[:, n] * away * made[-1].error) / line
        flux[:, n] /= line
    return tuple(made)


def told(term: ColourTerm | None, lines: tuple[Line, ...]) -> dict[str, Any]:
    """What the metadata of a light curve say; nothing where nothing was done."""
    made: dict[str, Any] = {}
    if term is not None:
        made["colour_term"] = {
            "value": float(term.value),
            "error": float(term.error),
            "colour": float(term.colour),
            "airmass": float(term.airmass),
            "note": "magnitudes for a magnitude of colour and a unit of air mass; its error is common to all frames",
        }
    if lines:
        made["airmass_line"] = {
            "slopes": [float(line.slope) for line in lines],
            "errors": [float(line.error) for line in lines],
            "airmass": [float(line.airmass) for line in lines],
            "note": _LINE,
        }
    return made
