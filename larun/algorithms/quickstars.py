"""Positions and size of the bright stars of an image, in a fraction of the time a catalogue takes: enough to align by.

Stars are found on the image binned by two, whose background costs a quarter, and placed on the image itself, in small
cuts around them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.arrays import read_only
from larun.algorithms.background import Background, BackgroundOptions, background
from larun.algorithms.detect import FINDING_MASK, DetectOptions, candidates, checked_planes
from larun.algorithms.fwhm import FwhmEstimate, fwhm_of
from larun.algorithms.jit import kernel, over_rows
from larun.algorithms.shapes import Measured, full_width, measure, position_angle

__all__ = ["QuickStars", "quick_sources", "quick_stars"]

_MESH = 32  # binned pixels
_SEARCH = 2.0  # FWHM of the filter, binned pixels
_SNR = 10.0  # of a pixel of the filtered image
_MOST, _FEWEST = 400, 60  # stars
_WIDTHS = (1.3, 5.0)  # FWHM in pixels of what this is made for
_FWHM = 3.0  # of the window that places a star, where stars are nearly so large
_NEAR = 1.25  # factor by which they may differ
_HALF = 16  # pixels of a cut to each side: three times the FWHM
_BORDER = 1


class QuickStars(NamedTuple):
    """Bright stars of an image.

    Attributes
    ----------
    xy : ndarray of float64, (n, 2)
        Positions in pixels, the brightest first.
    size : FwhmEstimate
        Of those that agree; of no stars where they do not.
    """

    xy: NDArray[np.float64]
    size: FwhmEstimate


def quick_stars(data: NDArray[np.float32], flags: NDArray[np.uint32]) -> NDArray[np.float64] | None:
    """Positions of the brightest stars (n, 2), the brightest first, as :func:`quick_sources` has them; or None."""
    found = _search(data, flags, None)
    return None if found is None else _positions(found[0])


def quick_sources(
    data: NDArray[np.float32], flags: NDArray[np.uint32], sky: Background | None = None
) -> QuickStars | None:
    """Positions and size of the brightest stars.

    Parameters
    ----------
    data : (ny, nx) float32
        Image.
    flags : (ny, nx) uint32
        Flags; saturated stars are stars too.
    sky : Background, optional
        Of the image, if it is known.

    Returns
    -------
    QuickStars or None
        None where stars are few, faint, blurred or sharper than pixels: then it takes a full search.
    """
    found = _search(data, flags, sky)
    return None if found is None else QuickStars(_positions(found[0]), fwhm_of(*found))


def _search(
    data: NDArray[np.float32], flags: NDArray[np.uint32], sky: Background | None
) -> tuple[Measured, NDArray[np.float64]] | None:
    """Bright stars as they were measured, and their S/N when they were found."""
    ny, nx = data.shape
    if min(ny, nx) < 4 * _HALF:
        return None
    image, bits = read_only(data, np.float32), read_only(flags, np.uint32)
    small, state = np.empty((ny // 2, nx // 2), np.float32), np.empty((ny // 2, nx // 2), np.uint32)
    over_rows(len(small), lambda start, stop: _halve(image, bits, np.uint32(FINDING_MASK), small, state, start, stop))
    if not np.any(state == 0):
        return None
    coarse = background(small, None, state, options=BackgroundOptions(mesh=_MESH)) if sky is None else sky.halved()
    planes = checked_planes(small, coarse.level, coarse.variance, state)
    peaks, snr = candidates(planes, DetectOptions(fwhm=_SEARCH, threshold=_SNR), 1.0)
    if len(peaks) < _FEWEST:
        return None
    peaks, snr = peaks[:_MOST], snr[:_MOST]
    rows, columns = np.divmod(peaks, nx // 2)
    cuts = _Cuts(image, bits, 2 * rows, 2 * columns, (coarse.level.ravel()[peaks], 4 * coarse.variance.ravel()[peaks]))
    found = cuts.measured(_FWHM)
    width = _width(found)
    if not _WIDTHS[0] <= width <= _WIDTHS[1]:
        return None
    if not 1 / _NEAR < width / _FWHM < _NEAR:
        found = cuts.measured(width)
    return (found, snr) if np.sum(_placed(found)) >= _FEWEST else None


def _positions(found: Measured) -> NDArray[np.float64]:
    good = np.flatnonzero(_placed(found))
    order = good[np.argsort(-found.flux[good], kind="stable")]
    return np.column_stack([found.x[order], found.y[order]])


def _placed(found: Measured) -> NDArray[np.bool_]:
    known = np.isfinite(found.x) & np.isfinite(found.y) & np.isfinite(found.flux)
    return np.asarray(known & ((found.flags & fl.NO_DATA) == 0))


def _width(found: Measured) -> float:
    """The median FWHM; NaN where too few have one."""
    with np.errstate(invalid="ignore"):
        size, _, _ = position_angle(found.xx, found.xy, found.yy)
        widths = full_width(size, found.profile)
    known = widths[_placed(found) & np.isfinite(widths)]
    return float(np.median(known)) if 2 * len(known) > len(widths) else float("nan")


class _Cuts:
    """Small cuts around stars, one below another, as planes that stars are measured on."""

    def __init__(self, data: Any, flags: Any, rows: Any, columns: Any, sky: tuple[Any, Any]) -> None:
        side, count = 2 * _HALF, len(rows)
        ny, nx = data.shape
        self.y0 = np.clip(rows - _HALF, 0, ny - side)
        self.x0 = np.clip(columns - _HALF, 0, nx - side)
        shape = (count, side, side)
        pixels, bits = np.empty(shape, np.float32), np.full(shape, fl.NO_DATA, np.uint32)
        inner = slice(_BORDER, side - _BORDER)
        for k in range(count):
            y, x = self.y0[k], self.x0[k]
            pixels[k] = data[y : y + side, x : x + side]
            bits[k, inner, inner] = flags[y + _BORDER : y + side - _BORDER, x + _BORDER : x + side - _BORDER]
        star, y, x = np.arange(count), rows - self.y0, columns - self.x0
        block = np.stack([pixels[star, y + b, x + a] for b in (0, 1) for a in (0, 1)])
        high = np.argmax(np.where(np.isfinite(block), block, -np.inf), axis=0)
        self.start = np.ravel_multi_index((star, y + high // 2, x + high % 2), shape)
        flat = (count * side, side)
        level, noise = (np.repeat(item.astype(np.float32), side * side).reshape(flat) for item in sky)
        self.planes = checked_planes(pixels.reshape(flat), level, noise, bits.reshape(flat))

    def measured(self, fwhm: float) -> Measured:
        """The stars on the image, in the order of the cuts."""
        found = measure(self.planes, self.start, mask=FINDING_MASK, fwhm=fwhm, gain=1.0)
        side = 2 * _HALF
        return found._replace(x=found.x + self.x0, y=found.y - side * (self.start // (side * side)) + self.y0)


@kernel
def _halve(data: Any, flags: Any, bits: Any, out: Any, state: Any, start: int, stop: int) -> None:
    """Means of two by two pixels, of those that are usable, and their flags; NO_DATA where none is."""
    for row in range(start, stop):
        for column in range(out.shape[1]):
            total, count, seen = np.float32(0.0), 0, np.uint32(0)
            for b in range(2):
                for a in range(2):
                    y, x = 2 * row + b, 2 * column + a
                    value, word = data[y, x], flags[y, x]
                    if word & bits == 0 and abs(value) < np.inf:
                        total += value
                        count += 1
                        seen |= word
            out[row, column] = total / np.float32(count) if count else np.float32(np.nan)
            state[row, column] = (seen & fl.SATURATED) if count else fl.NO_DATA
