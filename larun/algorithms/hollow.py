"""Whether stars are darker in their middle than around it: rings, as of a telescope out of focus."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["hollowness"]

_FEWEST = 3  # stars
_CORE = 0.2  # of the FWHM: the middle
_RINGS = np.arange(0.2, 1.01, 0.2)  # of the FWHM
_SKY = 1.4, 2.0  # of the FWHM: where the sky beside a star is


def hollowness(data: NDArray[np.float32], x: ArrayLike, y: ArrayLike, fwhm: float, *, most: int = 40) -> float:
    """Part of the light of the brightest ring that is missing in the middle of the stars.

    The mean profile of each star in rings about its centre; the median over the stars. 0 for stars in focus, which are
    brightest in the middle; near 1 for rings with the shadow of the secondary mirror. NaN where fewer than three stars
    are far enough from the edge.

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
    >>> row, column = np.mgrid[:91, :91]
    >>> radius = np.hypot(row - 45.0, column - 45.0)
    >>> star, ring = np.exp(-((radius / 5) ** 2)), np.exp(-(((radius - 7) / 3) ** 2))
    >>> places = [45.0, 45.0, 45.0], [45.0, 45.0, 45.0]
    >>> hollowness(star.astype(np.float32), *places, 8.0), round(hollowness(ring.astype(np.float32), *places, 17.0), 1)
    (0.0, 0.8)
    """
    reach = int(np.ceil(_SKY[1] * fwhm)) if np.isfinite(fwhm) and fwhm > 0 else 0
    found: list[float] = []
    for column, row in zip(np.asarray(x, float)[: 3 * most], np.asarray(y, float)[: 3 * most], strict=True):
        x0, y0 = round(column) - reach, round(row) - reach
        if len(found) >= most or reach == 0:
            break
        if x0 < 0 or y0 < 0 or x0 + 2 * reach >= data.shape[1] or y0 + 2 * reach >= data.shape[0]:
            continue
        stamp = data[y0 : y0 + 2 * reach + 1, x0 : x0 + 2 * reach + 1].astype(np.float64)
        away_y, away_x = np.arange(2 * reach + 1) + y0 - row, np.arange(2 * reach + 1) + x0 - column
        radius = np.hypot(away_y[:, None], away_x[None, :]) / fwhm
        sky = np.median(stamp[(radius > _SKY[0]) & (radius < _SKY[1])])
        core = stamp[radius <= max(_CORE, 0.75 / fwhm)].mean() - sky
        edges = np.append(_RINGS, _RINGS[-1] + 0.2)
        rings = [stamp[(radius > a) & (radius <= b)] for a, b in itertools.pairwise(edges)]
        brightest = max((float(ring.mean() - sky) for ring in rings if ring.size >= 4), default=np.nan)
        if max(core, brightest) > 0:
            found.append(max(0.0, 1 - core / max(core, brightest)))
    return float(np.median(found)) if len(found) >= _FEWEST else float("nan")
