"""How likely a pixel of a difference is new: its matched filter in units of its noise.

The filter is the PSF that the difference has after its noise was made white. The noise is that of both images as it
went through all kernels, from the smooth sky and from the light of the stars: beside a bright star there is more of it.
Where stars are not quite where they were, the slopes of their images are noise too (Zackay, Ofek & Gal-Yam 2016, ApJ
830, 27, eq. 31).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.detect import DetectOptions, detect_matched
from larun.algorithms.kernelfield import KernelField, convolve, convolve_variance, tile_size
from larun.algorithms.placeerror import WINDOW, error_of_places, shifts_of, slopes_of
from larun.algorithms.psf import PSF, moffat_psf, psf_from_nodes
from larun.algorithms.psf_build import BuildPsfOptions, build_psf
from larun.algorithms.psf_stars import ChooseOptions, choose_stars
from larun.algorithms.subtraction import Difference
from larun.algorithms.taken import Taken
from larun.algorithms.whitening import cut, field_through, grid_of, spectrum_of
from larun.errors import CatalogError, OptionError

__all__ = ["Score", "difference_psf", "score", "star_psf"]

#: Light counts as that of a star where it is so many times its noise.
_LIGHT = 4.0
#: A pixel has a score where so much of its filter's weight lies on good pixels.
_LEAST = 0.3
#: Exponent of the profile that stands in where stars cannot tell the PSF.
_BETA = 3.5
#: Stars that the PSF is made of, at most: the filter is right to a per cent with far fewer.
_PSF_STARS = 50
#: Part of the squares of a filter that is cut off: the score changes by a thirtieth of its noise at most.
_CUT = 3e-5
#: Rows that are computed at once.
_BAND = 512


class Score(NamedTuple):
    """What :func:`score` returns.

    Attributes
    ----------
    data : ndarray of float32, (ny, nx)
        On noise alone a unit Gaussian; 0 where too few pixels are good.
    astrometric : float
        Error of a star's place in the difference along an axis, pixels, as the bright ones show it.
    """

    data: NDArray[np.float32]
    astrometric: float


def star_psf(image: Taken) -> PSF:
    """The PSF of an image, from its stars; a Moffat profile as wide as they are where they are too few."""
    sky = image.sky.anew()  # whose maps are not kept
    planes = image.data, sky.level, sky.variance, image.flags
    fwhm = image.stars.fwhm
    try:
        found = detect_matched(*planes, options=DetectOptions(fwhm=fwhm, threshold=8.0, gain=image.gain))
        chosen = choose_stars(
            image.flags,
            found.x,
            found.y,
            found.flux,
            found.flux_error,
            fwhm=fwhm,
            options=ChooseOptions(most=_PSF_STARS),
        ).chosen
        return build_psf(
            planes, found.x[chosen], found.y[chosen], fwhm=fwhm, options=BuildPsfOptions(gain=image.gain)
        ).psf
    except (CatalogError, OptionError):
        return moffat_psf(fwhm, _BETA)


def difference_psf(psf: PSF, made: Difference, x: float, y: float) -> PSF:
    """The PSF that a difference has at a place: that of the image that was not convolved, after whitening."""
    if made.white is None:
        return psf
    kernel = made.white.own.at(x, y)
    half, step = kernel.shape[0] // 2, psf.oversampling
    own = _nodes_at(psf, x, y)
    wide = half * step
    grid = np.zeros((own.shape[0] + 2 * wide,) * 2)
    for j in range(-half, half + 1):
        for i in range(-half, half + 1):
            rows = slice(wide + j * step, wide + j * step + own.shape[0])
            columns = slice(wide + i * step, wide + i * step + own.shape[1])
            grid[rows, columns] += kernel[j + half, i + half] * own
    return psf_from_nodes(grid[None], step, fwhm=psf.fwhm, kind=psf.kind)


def _nodes_at(psf: PSF, x: float, y: float) -> NDArray[np.float64]:
    middle_x, wide_x, middle_y, wide_y = psf.domain
    u, v = (float(np.clip(value, -1, 1)) for value in ((x - middle_x) / wide_x, (y - middle_y) / wide_y))
    terms = (1.0, u, v, u * u, u * v, v * v)[: len(psf.nodes)]
    return np.asarray(sum(term * nodes for term, nodes in zip(terms, psf.nodes, strict=True)))


class _Filters(NamedTuple):
    """Kernels that polynomials over the image go through."""

    matched: KernelField
    kept: KernelField
    convolved: KernelField
    corrections: tuple[float, float]


def score(made: Difference, kept: Taken, convolved: Taken, psf: PSF, *, astrometric: float | None = None) -> Score:
    """The score image of a difference.

    Parameters
    ----------
    made : Difference
        Of the images.
    kept, convolved : Taken
        The image that was convolved, and the one that was not.
    psf : PSF
        Of the one that was not (:func:`star_psf`).
    astrometric : float, optional
        Error of the place of stars, pixels along an axis; by default what the bright stars show.

    Returns
    -------
    Score
    """
    shape = made.data.shape[0], made.data.shape[1]
    filters = _filters(made, kept, convolved, psf, shape)
    factor = made.fit.scale if made.convolved == "science" else 1.0
    signal, noise, steep = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.float32)
    known, shifts = np.empty(shape, bool), []
    for inner, outer in _bands(shape, filters, kept.stars.fwhm):
        part = _part(made, (kept, convolved), filters, factor, outer)
        if astrometric is None:
            shifts += _shifts(made, part, inner, outer)
        own = slice(inner.start - outer.start, inner.stop - outer.start)
        signal[inner], noise[inner], known[inner] = part.signal[own], part.noise[own], part.known[own]
        steep[inner] = part.along[own] ** 2 + part.aside[own] ** 2
    if astrometric is None:
        astrometric = error_of_places(shifts)
    if astrometric > 0:
        steep *= np.float32(astrometric**2)
        noise += steep
    np.sqrt(noise, where=known, out=noise)
    np.divide(signal, noise, out=signal, where=known)
    signal[~known] = 0.0
    return Score(signal, float(astrometric))


class _Part(NamedTuple):
    """Rows of an image: the filtered difference, its noise, where it is known, and the slopes of the filtered stars."""

    signal: NDArray[np.float32]
    noise: NDArray[np.float32]
    known: NDArray[np.bool_]
    along: NDArray[np.float32]
    aside: NDArray[np.float32]
    bright: NDArray[np.bool_]


def _bands(shape: tuple[int, int], filters: _Filters, fwhm: float) -> list[tuple[slice, slice]]:
    """Rows that are computed together, and with them those around that they see: memory stays small on large images."""
    ny, size = shape[0], tile_size(shape)
    step = _BAND if size == tile_size((1, shape[1])) else ny  # a part of a narrow image would have other tiles
    half = max(field.half for field in filters[:3])
    halo = size * math.ceil((half + max(1, round(fwhm)) + 1 + WINDOW) / size)
    starts = range(0, ny, step)
    return [
        (slice(start, min(start + step, ny)), slice(max(start - halo, 0), min(start + step + halo, ny)))
        for start in starts
    ]


def _part(made: Difference, images: tuple[Taken, Taken], filters: _Filters, factor: float, rows: slice) -> _Part:
    kept, convolved = images
    shape = made.data.shape[0], made.data.shape[1]
    matched, *fields = (attrs.evolve(field, domain=_moved(field.domain, rows.start)) for field in filters[:3])
    good = ((made.flags[rows] & fl.UNUSABLE) == 0) & np.isfinite(made.data[rows])
    values = np.where(good, made.data[rows], np.float32(0))
    none = np.zeros(values.shape, np.uint32)
    signal = convolve(matched, values, None, none).data
    light = made.light[rows].copy()
    bright = _is_light(made, light, convolved.sky.variance_of(rows), kept.stars.fwhm)
    noise, full = np.zeros_like(values), np.zeros_like(values)
    for image, own, field, whole, correction in (
        (kept, light, fields[0], filters.kept, filters.corrections[0]),
        (convolved, None, fields[1], filters.convolved, filters.corrections[1]),
    ):
        seen = image.data[rows] - np.float32(image.level) if own is None else own
        smooth = np.where(bright, np.fmax(seen, np.float32(0)), np.float32(0))  # 0 of what is not a number
        smooth /= np.float32(image.gain)
        smooth += image.sky.variance_of(rows)
        weight = np.float32(correction / factor**2)
        full += weight * np.float32(_sum_of_squares(whole, shape)) * smooth
        smooth[(image.flags[rows] & fl.UNUSABLE) != 0] = 0.0
        noise += weight * convolve_variance(field, smooth)
    light[~bright] = 0.0
    light /= np.float32(factor)
    filtered = convolve(fields[0], light, None, none).data
    return _Part(signal, noise, good & (noise > _LEAST * full), *slopes_of(filtered), bright)


def _moved(domain: tuple[float, float, float, float], rows: int) -> tuple[float, float, float, float]:
    return domain[0], domain[1], domain[2] - rows, domain[3]


def _filters(made: Difference, kept: Taken, convolved: Taken, psf: PSF, shape: tuple[int, int]) -> _Filters:
    x, y = grid_of(shape)
    size = 128
    parts = np.zeros((3, len(x), size, size))
    sums = np.zeros((2, 2))
    for n, place in enumerate(zip(x, y, strict=True)):
        own = difference_psf(psf, made, *place)
        reach = min(own.radius, size // 2 - 2)
        at = np.arange(-reach, reach + 1.0)
        turned = own.values(-at[None, :], -at[:, None])[0]
        turned /= np.sum(turned**2)  # the filtered image is the flux of a star in each pixel
        white = np.ones((1, 1)) if made.white is None else made.white.own.at(*place)
        through = made.fit.field.at(*place) if made.white is None else made.white.through.at(*place)
        matched = spectrum_of(turned, size)
        for k, kernel in enumerate((np.ones((1, 1)), white, through)):
            answer = matched * spectrum_of(kernel, size)
            parts[k, n] = np.roll(np.fft.ifft2(answer).real, (size // 2, size // 2), axis=(0, 1))
            if k:
                acf = (kept, convolved)[k - 1].acf
                power = 1.0 if acf is None else np.maximum(spectrum_of(np.asarray(acf, np.float64), size).real, 0)
                sums[k - 1] += np.mean(np.abs(answer) ** 2 * power), np.mean(np.abs(answer) ** 2)
    fields = [field_through(cut(part, keep_sums=False, lost=_CUT), x, y, 2, made.fit.field.domain) for part in parts]
    ratios = float(sums[0, 0] / sums[0, 1]), float(sums[1, 0] / sums[1, 1])
    return _Filters(fields[0], fields[1], fields[2], ratios)


def _sum_of_squares(field: KernelField, shape: tuple[int, int]) -> float:
    return float(np.sum(field.at((shape[1] - 1) / 2, (shape[0] - 1) / 2) ** 2))


def _is_light(
    made: Difference, light: NDArray[np.float32], variance: NDArray[np.float32], fwhm: float
) -> NDArray[np.bool_]:
    """Where stars add to the noise: their light, smoothed, is well above its own noise."""
    ny, nx = made.data.shape
    own = made.fit.field.at((nx - 1) / 2, (ny - 1) / 2)
    from scipy.ndimage import binary_dilation

    noise = np.sqrt(np.float32(np.sum(own**2)) * variance)
    return np.asarray(binary_dilation(light > np.float32(_LIGHT) * noise, iterations=max(1, round(fwhm))))


def _shifts(made: Difference, part: _Part, inner: slice, outer: slice) -> list[tuple[float, float]]:
    """By how much stars of some rows seem moved along each axis, and how well that is known."""
    found = []
    for x, y in zip(made.fit.x[made.fit.used], made.fit.y[made.fit.used], strict=True):
        if not inner.start <= y < inner.stop:
            continue
        columns = slice(max(x - WINDOW, 0), x + WINDOW + 1)
        whole = slice(max(y - WINDOW, 0), y + WINDOW + 1), columns
        window = slice(whole[0].start - outer.start, whole[0].stop - outer.start), columns
        if np.any(made.flags[whole] & fl.UNUSABLE) or not part.bright[y - outer.start, x]:
            continue
        found += shifts_of(part.signal[window], part.noise[window], (part.along[window], part.aside[window]))
    return found
