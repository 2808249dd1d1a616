"""Whether stars are darker in their middle than around it: rings, as of a telescope out of focus."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["hollowness"]

_FEWEST = 3  # stars
_REACH = 6.0  # of the FWHM: half of the stamp around a star
_SCALES = (2.0, 4.0)  # of the FWHM: a detection may have taken a part of a ring for a star
_SECTORS = 8
_WHOLE = 0.4  # of the mean of a ring, that each of its sectors has: two stars side by side are no ring


def hollowness(data: NDArray[np.float32], x: ArrayLike, y: ArrayLike, fwhm: float, *, most: int = 40) -> float:
    """Part of the light of the brightest ring that is missing in the middle of the stars.

    The mean profile of each star in rings about its centre; the median over the stars. 0 for stars in focus, which are
    brightest in the middle, and for crowds, which are bright on one side; near 1 for rings with the shadow of the
    secondary mirror. NaN where fewer than three stars are far enough from the edge.

    Parameters
    ----------
    data : ndarray of float32, (ny, nx)
        Image.
    x, y : array_like, (n,)
        Centres of bright stars that are not saturated, the brightest first.
    fwhm : float
        Their size, pixels.
    most : int
        Stars, at most.

    Examples
    --------
    >>> row, column = np.mgrid[:221, :221]
    >>> radius = np.hypot(row - 110.0, column - 110.0)
    >>> star, ring = np.exp(-((radius / 5) ** 2)), np.exp(-(((radius - 7) / 3) ** 2))
    >>> places = [110.0, 110.0, 110.0], [110.0, 110.0, 110.0]
    >>> hollowness(star.astype(np.float32), *places, 8.0), round(hollowness(ring.astype(np.float32), *places, 17.0), 1)
    (0.0, 0.6)
    """
    if not (np.isfinite(fwhm) and fwhm > 0):
        return float("nan")
    reach = int(np.ceil(_REACH * fwhm))
    found: list[float] = []
    for column, row in zip(np.asarray(x, float)[: 3 * most], np.asarray(y, float)[: 3 * most], strict=True):
        x0, y0 = round(column) - reach, round(row) - reach
        if len(found) >= most:
            break
        if x0 < 0 or y0 < 0 or x0 + 2 * reach >= data.shape[1] or y0 + 2 * reach >= data.shape[0]:
            continue
        stamp = data[y0 : y0 + 2 * reach + 1, x0 : x0 + 2 * reach + 1].astype(np.float64)
        if np.isfinite(stamp).all():
            found.append(max(_ring(stamp - np.median(stamp), fwhm, scale) for scale in _SCALES))
    return float(np.median(found)) if len(found) >= _FEWEST else float("nan")


def _ring(stamp: NDArray[np.float64], fwhm: float, scale: float) -> float:
    """What is missing in the middle of a ring of about this size; 0 where there is no ring that is whole."""
    from scipy.ndimage import uniform_filter

    reach = stamp.shape[0] // 2
    away = np.arange(-reach, reach + 1)
    soft = uniform_filter(stamp, max(3, round(scale * fwhm)), mode="nearest")
    near = np.hypot(away[:, None], away[None, :]) <= scale * fwhm / 2
    top = int(np.where(near, soft, -np.inf).argmax())
    cy, cx = float(top // stamp.shape[1]), float(top % stamp.shape[1])
    for _ in range(2):  # of what is bright around it
        close = np.hypot(away[:, None] + reach - cy, away[None, :] + reach - cx) <= 0.75 * scale * fwhm
        light = np.where(close, np.maximum(stamp - 0.1 * stamp[close].max(), 0), 0)
        total = light.sum()
        if not total > 0:
            return 0.0
        cy = float((light.sum(axis=1) * (away + reach)).sum() / total)
        cx = float((light.sum(axis=0) * (away + reach)).sum() / total)
    dy, dx = away[:, None] + reach - cy, away[None, :] + reach - cx
    radius, width = np.hypot(dy, dx), max(1.0, 0.3 * fwhm)
    which = (radius / width).astype(int)
    rings = np.array([stamp[which == n].mean() for n in range(max(2, int(0.75 * scale * fwhm / width)))])
    best = int(rings.argmax())
    if best == 0 or not rings[best] > 0:
        return 0.0
    sector = ((np.arctan2(dy, dx) / (2 * np.pi) + 0.5) * _SECTORS).astype(int) % _SECTORS
    parts = [stamp[(which == best) & (sector == n)] for n in range(_SECTORS)]
    whole = min((float(part.mean()) for part in parts if part.size), default=0.0) > _WHOLE * rings[best]
    return float(min(1.0, 1 - rings[0] / rings[best])) if whole else 0.0
