"""Light that comes from a corner of a detector: the glow of an amplifier, a leak in the housing."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.robust import SIGMA_PER_MAD

__all__ = ["CORNERS", "CornerLight", "cell_means", "corner_light"]

CORNERS = ("lower left", "lower right", "upper left", "upper right")

_SCALES = np.geomspace(0.02, 0.8, 18)  # of the diagonal
_CLIP = 5.0  # σ


class CornerLight(NamedTuple):
    """The light that falls off from one corner.

    Attributes
    ----------
    corner : str
        One of ``CORNERS``.
    amplitude, error : float
        Above the rest of the chip, in the corner itself, and its 1 σ, in the unit of the map.
    scale : float
        Distance over which it falls to 1/e, as a part of the diagonal.
    model : ndarray of float64
        As it would be without noise, of the shape of the map.
    """

    corner: str
    amplitude: float
    error: float
    scale: float
    model: NDArray[np.float64]


def cell_means(plane: NDArray[np.floating], cell: int) -> NDArray[np.float64]:
    """Means of square cells, (ny // cell, nx // cell), without what stands out; NaN where half the pixels are missing.

    Examples
    --------
    >>> cell_means(np.arange(16.0).reshape(4, 4), 2).tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    ny, nx = plane.shape[0] // cell, plane.shape[1] // cell
    cells = plane[: ny * cell, : nx * cell].reshape(ny, cell, nx, cell).transpose(0, 2, 1, 3)
    values = cells.reshape(ny, nx, cell * cell).astype(np.float64)
    known = np.isfinite(values)
    enough = known.sum(axis=2) >= max(1, cell * cell // 2)
    values = np.where(enough[..., None], values, 0.0)
    known |= ~enough[..., None]
    middle = np.nanmedian(values, axis=2, keepdims=True)
    away = np.abs(values - middle)
    scatter = SIGMA_PER_MAD * float(np.median(np.nanmedian(away, axis=2)[enough])) if enough.any() else 0.0
    if scatter > 0:
        known &= away <= _CLIP * scatter
    total = np.where(known, values, 0.0).sum(axis=2)
    return np.where(enough, total / np.maximum(known.sum(axis=2), 1), np.nan)


def corner_light(image: NDArray[np.floating], sigma: float) -> CornerLight:
    """The exponential fall-off from a corner that fits a map best: least squares, of all corners and scales.

    Parameters
    ----------
    image : ndarray, (ny, nx)
        Map of cells; NaN where nothing is known.
    sigma : float
        1 σ of a cell.

    Returns
    -------
    CornerLight
        Of the best fit, significant or not; its amplitude may be negative.

    Examples
    --------
    >>> distance = np.hypot(*np.mgrid[:32, :32])
    >>> image = 5 + 3 * np.exp(-distance / 9) + np.random.default_rng(1).normal(0, 0.1, (32, 32))
    >>> found = corner_light(image, 0.1)
    >>> found.corner, round(found.amplitude), round(found.scale, 1)
    ('lower left', 3, 0.2)
    """
    ny, nx = image.shape
    y, x = np.mgrid[:ny, :nx] + 0.5
    diagonal = math.hypot(ny, nx)
    good = np.isfinite(image)
    values = image[good].astype(np.float64)
    best: tuple[float, str, float, float, float, NDArray[np.float64]] | None = None
    for corner in CORNERS:
        dy = ny - y if corner.startswith("upper") else y
        dx = nx - x if corner.endswith("right") else x
        distance = np.hypot(dy, dx) / diagonal
        for scale in _SCALES:
            shape = np.exp(-distance / scale)
            part = shape[good] - shape[good].mean()
            norm = float(np.sum(part**2))
            if not norm > 0:
                continue
            amplitude = float(np.sum(part * values)) / norm
            gain = amplitude * abs(amplitude) * norm  # light is never negative
            if best is None or gain > best[0]:
                best = gain, corner, amplitude, sigma / math.sqrt(norm), float(scale), amplitude * shape
    assert best is not None
    return CornerLight(*best[1:])
