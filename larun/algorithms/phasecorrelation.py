"""The shift between two images of something without stars: nebulae, comets, the Moon."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.cholesky import inverse_of_positive
from larun.algorithms.jit import threads
from larun.algorithms.mapping import affine
from larun.algorithms.resample import ResampleOptions, resample
from larun.errors import OptionError

__all__ = ["PhaseShift", "phase_shift"]

_LEAST = 16  # pixels
_FINE, _COARSE = 0.7, 4.0  # σ in pixels between which structure is looked at
_PEAKS = 8  # of each correlation that are looked into
_SIGNIFICANT = 8.0  # σ
_OVERLAP = 0.15  # of the area
_ROUNDS = 12
_CLOSE = 1e-4  # pixels
_MARGIN = 4  # pixels that a shifted image has no neighbours in


class PhaseShift(NamedTuple):
    """A shift.

    Attributes
    ----------
    dx, dy : float
        Pixel (x, y) of the first image shows what lies at (x + dx, y + dy) in the second.
    error : float
        1 σ of each, from the noise of the images.
    significance : float
        Correlation of what both show, in units of what chance gives.
    """

    dx: float
    dy: float
    error: float
    significance: float


def phase_shift(
    one: NDArray[np.float32],
    two: NDArray[np.float32],
    masked: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None,
) -> PhaseShift | None:
    """The shift from one image to another of the same shape, to about a hundredth of a pixel.

    Candidates are the highest peaks of the correlation and of the phase correlation (Kuglin & Hines 1975), computed by
    FFT; the one whose overlap is most alike is refined by least squares of the overlap itself, with brightness and
    level free (Lucas & Kanade 1981): whitened phases find a shift, but weigh noise as much as structure.

    Parameters
    ----------
    one, two : ndarray, (ny, nx)
        Images of one shape.
    masked : tuple of two ndarray of bool, optional
        Pixels without meaning.

    Returns
    -------
    PhaseShift or None
        None where nothing agrees beyond chance.

    Raises
    ------
    OptionError
        If shapes differ or are below 16 pixels.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> field = rng.normal(0, 1, (80, 90)).cumsum(0).cumsum(1).astype(np.float32)
    >>> found = phase_shift(field[5:69, 3:67], field[:64, :64])
    >>> round(found.dx, 1), round(found.dy, 1)
    (3.0, 5.0)
    """
    if one.shape != two.shape or one.ndim != 2 or min(one.shape) < _LEAST:
        raise OptionError(f"images of shape {one.shape} and {two.shape}: must be of one shape, from 16 pixels on")
    lost = [~np.isfinite(image) | (masked[k] if masked else False) for k, image in enumerate((one, two))]
    plain = [_without(image, gone) for image, gone in zip((one, two), lost, strict=True)]
    first, second = _structure(plain[0]), _structure(plain[1])
    tried = {(x, y): _similarity(first, second, x, y) for x, y in _candidates(first, second)}
    if not tried:
        return None
    best = max(tried, key=lambda shift: (tried[shift], shift))
    significance = tried[best]
    if significance < _SIGNIFICANT:
        return None
    found = _refined(plain, lost, best)
    return None if found is None else PhaseShift(*found, significance)


def _without(image: NDArray[np.float32], lost: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The image around its median, which takes the place of what is lost."""
    level = np.median(image[~lost]) if not lost.all() else 0.0
    return np.where(lost, 0.0, image - level).astype(np.float32)


def _structure(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Structure of the size of stars and filaments: what is smooth and strong would leak through any taper."""
    from scipy.ndimage import gaussian_filter

    wide = image.astype(np.float64)
    fine, coarse = (gaussian_filter(wide, sigma, mode="reflect") for sigma in (_FINE, _COARSE))
    return np.asarray(fine - coarse)


def _candidates(one: NDArray[np.float64], two: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Shifts at the highest peaks; the transform repeats itself, so that each peak stands for four."""
    from scipy import fft
    from scipy.ndimage import maximum_filter

    ny, nx = one.shape
    window = np.outer(_taper(ny), _taper(nx))
    with fft.set_workers(threads()):
        cross = np.conj(fft.rfft2(one * window)) * fft.rfft2(two * window)
        size = np.abs(cross)
        floor = float(np.median(size)) + np.finfo(float).tiny
        planes = [fft.irfft2(spectrum, s=one.shape) for spectrum in (cross, cross / (size + floor))]
    found: dict[tuple[int, int], None] = {}
    for plane in planes:
        peaks = np.flatnonzero((plane == maximum_filter(plane, 5, mode="wrap")) & (plane > 0))
        highest = peaks[np.argsort(-plane.ravel()[peaks], kind="stable")][:_PEAKS]
        for y, x in zip(*np.unravel_index(highest, one.shape), strict=True):
            found |= {(i, j): None for i in (int(x), int(x) - nx) for j in (int(y), int(y) - ny)}
    return list(found)


def _taper(size: int) -> NDArray[np.float64]:
    """1 over most of a line, falling to 0 at its ends: a sharp edge would match itself at shift 0."""
    width = max(2, size // 8)
    made = np.ones(size)
    rise = 0.5 - 0.5 * np.cos(math.pi * (np.arange(width) + 0.5) / width)
    made[:width], made[-width:] = rise, rise[::-1]
    return made


def _windows(shape: tuple[int, ...], dx: int, dy: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """What both show, if (x, y) of the first is (x + dx, y + dy) of the second."""
    ny, nx = shape
    first = slice(max(0, -dy), ny - max(0, dy)), slice(max(0, -dx), nx - max(0, dx))
    second = slice(max(0, dy), ny - max(0, -dy)), slice(max(0, dx), nx - max(0, -dx))
    return first, second


def _similarity(one: NDArray[np.float64], two: NDArray[np.float64], dx: int, dy: int) -> float:
    """Correlation of the overlap, in units of its chance scatter; 0 where the overlap is too small."""
    ny, nx = one.shape
    if min(nx - abs(dx), ny - abs(dy)) < _LEAST or (nx - abs(dx)) * (ny - abs(dy)) < _OVERLAP * nx * ny:
        return 0.0
    first, second = _windows(one.shape, dx, dy)
    a, b = one[first] - one[first].mean(), two[second] - two[second].mean()
    scale = math.sqrt(float(np.sum(a * a)) * float(np.sum(b * b)))
    # pixels that differ independently: structure is some pixels wide
    return float(np.sum(a * b)) / scale * math.sqrt(a.size / (2 * math.pi * _COARSE)) if scale > 0 else 0.0


def _refined(
    images: list[NDArray[np.float32]], lost: list[NDArray[np.bool_]], start: tuple[int, int]
) -> tuple[float, float, float] | None:
    """Shift and its error by least squares: first = brightness × second(x + dx, y + dy) + level."""
    first, second = _windows(images[0].shape, *start)
    one, gone = images[0][first].astype(np.float64), lost[0][first].astype(np.uint32)
    two, bits = np.ascontiguousarray(images[1][second]), lost[1][second].astype(np.uint32)
    dx = dy = 0.0
    for _ in range(_ROUNDS):
        mapping = affine(np.eye(2), [dx, dy], two.shape)
        moved = resample(two, None, bits, mapping, options=ResampleOptions(kernel="lanczos3"))
        image: NDArray[np.float64] = moved.data.astype(np.float64)
        good = (moved.flags == 0) & (gone == 0)
        good[:_MARGIN], good[-_MARGIN:], good[:, :_MARGIN], good[:, -_MARGIN:] = False, False, False, False
        slope_y, slope_x = np.gradient(image)
        good &= np.isfinite(slope_x + slope_y)
        if good.sum() < _LEAST:
            return None
        columns = [np.asarray(slope)[good] for slope in (slope_x, slope_y, image)] + [np.ones(int(good.sum()))]
        rest = np.asarray(one[good] - image[good], np.float64)
        normal = np.array([[np.sum(a * b) for b in columns] for a in columns])
        try:
            inverse = inverse_of_positive(normal)
        except OptionError:  # nothing but a flat sky
            return None
        right = np.array([np.sum(a * rest) for a in columns])
        step = np.sum(inverse * right, axis=1)
        brightness = 1 + step[2]
        if not np.isfinite(step).all() or brightness <= 0:
            return None
        away = np.clip(step[:2] / brightness, -1, 1)
        dx, dy = dx + float(away[0]), dy + float(away[1])
        if max(abs(dx), abs(dy)) > _MARGIN:  # there is nothing where the peak was
            return None
        if np.max(np.abs(away)) < _CLOSE:
            break
    scatter = rest - sum((value * column for value, column in zip(step, columns, strict=True)), np.zeros(len(rest)))
    error = math.sqrt(float(np.mean(scatter**2)) * max(inverse[0, 0], inverse[1, 1])) / brightness
    return start[0] + dx, start[1] + dy, float(error)
