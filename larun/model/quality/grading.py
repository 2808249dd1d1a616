"""Frames of one field against each other: what each is worth for faint stars, and why it is worth less."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from larun.errors import NotAligned, OptionError
from larun.model.aligning.transforms import TRANSFORMS, by_star_lists
from larun.model.quality.measured import Quality

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.sky import SkyImage

__all__ = ["grade"]

_PIXEL = 2.3548 / math.sqrt(12)  # FWHM of a Gaussian as wide as a pixel
_NEAR = 1.5  # pixels between a star and where it should be
_FEWEST = 5  # stars in common
_LOW = 0.8  # of the best frame: below it a frame is told why
_TOLD = 0.93  # a factor nearer to 1 is no reason
_ELONGATED = (0.1, 5.0)  # ellipticity, and robust deviations above the middle of the frames
_SPARSE = 0.5  # of the stars that frames usually have


def grade(frames: Iterable[SkyImage | Quality | str | Path], *, groups: Sequence[Hashable] | None = None) -> QTable:
    """Compare frames of one field, and say why some are worth less.

    The worth of a frame for faint stars is (T / (noise x FWHM))^2, T the light that it has of the same stars: clouds,
    airmass and exposure all enter it. Stars are matched as for :meth:`larun.SkyImage.align_to`.

    Parameters
    ----------
    frames : iterable of SkyImage, Quality or path
        Calibrated frames in one filter.
    groups : sequence, optional
        What each frame belongs to, such as its object and filter: it is compared with the others of its group only.

    Returns
    -------
    QTable
        One row a frame, in the order given: what :meth:`larun.Quality.to_dict` says, ``light`` (T, against the frame
        with the most stars), ``transparency`` (the same for equal exposures), ``worth`` (against the best frame) and
        ``reason``, empty where there is nothing to say.

    Raises
    ------
    OptionError
        If there are no frames, or ``groups`` has another length.

    Examples
    --------
    >>> import larun
    >>> table = larun.grade(["out/frames/a.fits", "out/frames/b.fits"])  # doctest: +SKIP
    >>> print(table["name", "fwhm", "worth", "reason"])  # doctest: +SKIP
    """
    from astropy.table import QTable

    given: list[SkyImage | Quality | str | Path] = (
        [frames] if isinstance(frames, str | Path | Quality) else list(frames)
    )
    found = [_measured(one) for one in given]
    if not found:
        raise OptionError("there are no frames to grade")
    keys = [None] * len(found) if groups is None else list(groups)
    if len(keys) != len(found):
        raise OptionError(f"groups={groups!r}: {len(keys)} for {len(found)} frames")
    light, clear, worth = (np.full(len(found), np.nan) for _ in range(3))
    reasons = np.full(len(found), "", object)
    for key in dict.fromkeys(keys):
        mine = [n for n, other in enumerate(keys) if other == key]
        light[mine], clear[mine], worth[mine], reasons[mine] = _compared([found[n] for n in mine])
    rows = [one.to_dict() for one in found]
    table = QTable({name: [row[name] for row in rows] for name in rows[0]})
    table["light"], table["transparency"], table["worth"] = light, clear, worth
    for name in table.colnames:
        if table[name].dtype.kind == "f":
            table[name].info.format = ".4g"
    table["reason"] = [str(reason) for reason in reasons]
    return table


def _compared(
    found: Sequence[Quality],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Light, transparency, worth and reasons of frames of one field."""
    reference = max(found, key=lambda one: (one.stars, -one.fwhm if math.isfinite(one.fwhm) else -math.inf))
    light = np.array([_light(one, reference) for one in found])
    raw = light**2 * np.array([_weight(one) for one in found])
    worth = raw / np.nanmax(raw) if np.isfinite(raw).any() else raw
    time = np.array([one.exposure or math.nan for one in found])
    return light, light * (reference.exposure or math.nan) / time, worth, _reasons(found, light, worth)


def _measured(given: SkyImage | Quality | str | Path) -> Quality:
    from larun.model.sky import SkyImage

    if isinstance(given, Quality):
        return given
    image = given if isinstance(given, SkyImage) else SkyImage.read(given)
    return image.quality()


def _weight(one: Quality) -> float:
    """1 / (noise x FWHM as the pixel has blurred it)^2."""
    return 1 / (one.noise * math.hypot(one.fwhm, _PIXEL)) ** 2 if one.noise > 0 else math.nan


def _light(one: Quality, reference: Quality) -> float:
    """How much light a frame has of stars that the reference has too; NaN where they cannot be compared."""
    from scipy.spatial import cKDTree

    if one is reference:
        return 1.0 if one.stars else math.nan
    here, there = (np.column_stack([item._table["x"], item._table["y"]]) for item in (reference, one))
    try:
        found = by_star_lists(here, there, reference.shape, TRANSFORMS["affine"], (reference.name, one.name))
    except NotAligned:
        return math.nan
    x, y = found.mapping.at(here[:, 0], here[:, 1])
    known = np.flatnonzero(np.isfinite(x + y))
    away, index = cKDTree(there).query(np.column_stack([x[known], y[known]]), distance_upper_bound=_NEAR)
    pairs = np.isfinite(away)
    ratio = np.asarray(one._table["flux"])[index[pairs]] / np.asarray(reference._table["flux"])[known[pairs]]
    ratio = ratio[np.isfinite(ratio)]
    return float(np.median(ratio)) if ratio.size >= _FEWEST else math.nan


def _reasons(found: Sequence[Quality], light: NDArray[np.float64], worth: NDArray[np.float64]) -> list[str]:
    said: list[list[str]] = [[] for _ in found]
    best = found[int(np.nanargmax(worth))] if np.isfinite(worth).any() else None
    most = light[found.index(best)] if best is not None else math.nan
    shapes = np.array([one.ellipticity for one in found])
    middle = float(np.nanmedian(shapes)) if np.isfinite(shapes).any() else math.nan
    spread = float(np.nanmedian(np.abs(shapes - middle))) * 1.4826
    usual = float(np.median([one.stars for one in found]))
    for one, told, its, value in zip(found, said, light, worth, strict=True):
        if not one.stars:
            told.append("no stars that agree in size: clouds, out of focus, or an empty field")
            continue
        if not math.isfinite(its):
            told.append("shares no stars with the other frames: another field, or much too different")
        elif best is not None and value < _LOW:
            told.append(f"worth {value:.2f} of the best: " + ", ".join(_factors(one, best, its / most)))
        if one.ellipticity > max(_ELONGATED[0], middle + _ELONGATED[1] * spread):
            told.append(f"stars are elongated: ellipticity {one.ellipticity:.2f}, usually {middle:.2f}")
        if one.stars < _SPARSE * usual:
            told.append(f"{one.stars} stars, usually {usual:.0f}")
    return ["; ".join(told) for told in said]


def _factors(one: Quality, best: Quality, light: float) -> list[str]:
    """What lowers the worth, the strongest first."""
    parts: list[tuple[float, str]] = [
        ((best.fwhm / one.fwhm) ** 2, f"FWHM {one.fwhm:.2f} against {best.fwhm:.2f} px"),
        ((best.noise / one.noise) ** 2, f"noise {one.noise:.1f} against {best.noise:.1f} {one.unit}"),
        (light**2, f"{100 * light:.0f} % of its light"),
    ]
    return [text for factor, text in sorted(parts) if factor < _TOLD] or [min(parts)[1]]
