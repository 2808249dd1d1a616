"""The proper difference of two images whose point-spread functions are known (Zackay, Ofek & Gal-Yam 2016).

``D = (P_r N - P_n R) / sqrt(σ_n² |P_r|² + σ_r² |P_n|²)`` in the Fourier domain (ApJ 830, 27, eq. 13; R in the light of
N): its noise is white, and it holds all that both images know of what is new. Neither image is the one that is
convolved: exchanged, they give the opposite. Here the difference is in the unit and on the flux scale of the science
image, with the PSF of eq. 14; its score (eq. 17) has the noise of both images, of the light of their stars, and of the
error of their places (eq. 25 to 31).

Three things are added. The noise of a resampled image is coloured: its spectrum takes part. Where both PSFs are below
the noise of what is known of them, their ratio goes to 1 instead of nowhere. And what has no value is filled from its
neighbours, and all that a filter brings of it elsewhere is flagged.

All is done in square tiles, in each of which PSFs and noise are constant: small ones where a PSF varies.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.fluxratio import FLOOR, weighted_middle
from larun.algorithms.jit import over_rows
from larun.algorithms.matchfit import MatchOptions
from larun.algorithms.placeerror import WINDOW, error_of_places, shifts_of, slopes_of
from larun.algorithms.taken import clipped_mean
from larun.algorithms.zogy_filters import ProperPair, Spectrum, back, rim_of, there
from larun.algorithms.zogy_tiles import Given, Tile, given_for
from larun.errors import OptionError

__all__ = ["ProperDifference", "ProperOptions", "Refined", "proper_difference", "refined_ratio"]

#: Light counts as that of a star where the star has so many times its noise.
_LIGHT = 4.0
#: A pixel has a score where so much of its filter's squares lie on good pixels.
_LEAST = 0.3
#: Pixels to each side of a star that are filtered for the ratio of fluxes, and FWHM of those by which it is judged.
_STAMP, _AROUND = 40, 2.5


@attrs.frozen(kw_only=True)
class ProperOptions:
    """How one image is subtracted from another of which both point-spread functions are known.

    Parameters
    ----------
    background : int
        Of the polynomial of the differential background, 0 to 3.
    stars : int
        Stars by which the ratio of fluxes and the error of places are judged, at most.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    background: int = 2
    stars: int = 400

    def __attrs_post_init__(self) -> None:
        MatchOptions(background=self.background)
        if self.stars < 3:
            raise OptionError(f"stars = {self.stars}: must be at least 3")


class ProperDifference(NamedTuple):
    """What :func:`proper_difference` returns; planes are (ny, nx).

    Attributes
    ----------
    data : ndarray of float32
        Science less reference, on the flux scale of the science image; NaN where the flags say NO_DATA.
    science_variance, reference_variance : ndarray of float32
        What the noise of each image adds to that of a pixel.
    flags : ndarray of uint32
        Those of both images, and of what filters brought from elsewhere.
    score : ndarray of float32
        In units of its noise; 0 where there is no value.
    astrometric : float
        Error of a star's place in the difference along an axis, pixels, as the bright ones show it.
    """

    data: NDArray[np.float32]
    science_variance: NDArray[np.float32]
    reference_variance: NDArray[np.float32]
    flags: NDArray[np.uint32]
    score: NDArray[np.float32]
    astrometric: float


class _Made(NamedTuple):
    data: NDArray[np.float32]
    science: NDArray[np.float32]
    reference: NDArray[np.float32]
    signal: NDArray[np.float32]
    noise: NDArray[np.float32]
    steep: NDArray[np.float32]
    flags: NDArray[np.uint32]
    bright: NDArray[np.bool_]
    known: NDArray[np.bool_]
    gains: NDArray[np.float64]  # of the signal for a constant, by tile


def proper_difference(
    pair: ProperPair,
    stars: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    astrometric: float | None = None,
) -> ProperDifference:
    """Subtract a reference from an image.

    Parameters
    ----------
    pair : ProperPair
        The images.
    stars : tuple of ndarray of int64
        x and y of stars by which the error of places is judged.
    astrometric : float, optional
        That error, pixels along an axis; by default what they show.

    Returns
    -------
    ProperDifference
        The same bits whatever the threads.
    """
    given, shape = given_for(pair), pair.shape
    core = given.layout[0]
    down, across = (-(-side // core) for side in shape)
    one, two, three, four, five, six = (np.empty(shape, np.float32) for _ in range(6))
    bits, bright, known = np.zeros(shape, np.uint32), np.empty(shape, bool), np.empty(shape, bool)
    made = _Made(one, two, three, four, five, six, bits, bright, known, np.zeros(down * across))
    found: list[list[tuple[float, float]]] = [[] for _ in range(down * across)]
    places: list[list[tuple[int, int]]] = [[] for _ in found]
    for x, y in zip(*stars, strict=True):
        places[int(y) // core * across + int(x) // core].append((int(x), int(y)))

    def work(start: int, stop: int) -> None:
        for tile in range(start, stop):
            found[tile] = _tile(given, divmod(tile, across), made, tile, places[tile])

    over_rows(down * across, work, band=1)
    if astrometric is None:
        astrometric = error_of_places([item for part in found for item in part])
    return _finished(given, made, float(astrometric))


def _tile(
    given: Given, place: tuple[int, int], made: _Made, number: int, stars: list[tuple[int, int]]
) -> list[tuple[float, float]]:
    """Fill a tile; how far its stars seem moved."""
    tile = Tile(given, place)
    filters, out, core = tile.filters, tile.out, tile.core
    values = tile.values()
    spectra = [there(part) for part in values]
    lights = [answer * part for answer, part in zip(filters.images, spectra, strict=True)]
    difference = lights[0] - lights[1]
    flags = tile.lost()
    bad = ((flags | tile.of(given.pair.science.flags | given.pair.reference.flags, np.uint32)) & fl.UNUSABLE) != 0
    own = back(filters.psf)
    norm = float(np.sum(own**2))
    matched = np.conj(filters.psf) / norm  # the filtered difference is the flux of a star in each pixel
    made.gains[number] = own.sum() / norm
    plain = back(difference)
    made.data[out], made.flags[out] = plain[core], flags[core]
    share: NDArray[np.float64] | float = 1.0
    if bad.any():
        difference = there(np.where(bad, 0.0, plain))
        share = np.maximum(back(np.conj(there(own**2)) * there(np.where(bad, 0.0, 1.0))) / norm, 0.0)[core]
    signal = back(matched * difference)
    bright = _bright(tile, spectra)
    noise = np.zeros_like(signal)
    factors = 1.0, given.pair.ratio
    for k, (image, answer) in enumerate(zip(given.pair.images, filters.images, strict=True)):
        colour, factor = np.sqrt(filters.noise[k]), factors[k]
        through = back(np.abs(answer) * colour) ** 2
        variance = back(there(through) * there(tile.of(given.variances[k]) * factor**2))
        (made.science, made.reference)[k][out] = np.maximum(variance[core], 0.0)
        smooth = tile.of(image.sky.variance) * factor**2
        smooth += np.where(bright, np.maximum(values[k], 0.0), 0.0) * factor / image.gain
        noise += back(there(back(np.abs(matched * answer) * colour) ** 2) * there(smooth))
    light = there(np.where(bright, values[0], 0.0)) * filters.images[0]
    light += there(np.where(bright, values[1], 0.0)) * filters.images[1]
    slopes = slopes_of(np.asarray(back(0.5 * matched * light), np.float32))
    made.signal[out], made.noise[out] = signal[core], np.maximum(noise[core] * share, 0.0)
    made.steep[out] = slopes[0][core] ** 2 + slopes[1][core] ** 2
    made.bright[out] = bright[core]
    made.known[out] = ~bad[core] & (np.asarray(share) > _LEAST) & (noise[core] > 0)
    found = []
    for x, y in stars:
        row, column = y - tile.corner[0], x - tile.corner[1]
        window = slice(row - WINDOW, row + WINDOW + 1), slice(column - WINDOW, column + WINDOW + 1)
        if bright[row, column] and not bad[window].any():
            seen, sigma2 = (np.asarray(part[window], np.float32) for part in (signal, noise))
            found += shifts_of(seen, sigma2, [slope[window] for slope in slopes])
    return found


def _bright(tile: Tile, spectra: list[Spectrum]) -> NDArray[np.bool_]:
    """Where stars of either image add to the noise."""
    from scipy.ndimage import binary_dilation

    filters, made = tile.filters, np.zeros((tile.size, tile.size), bool)
    for k, image in enumerate(tile.given.pair.images):
        psf = filters.psfs[k]
        noise = math.sqrt(filters.sigma2[k] * float(np.sum(back(np.abs(psf) * np.sqrt(filters.noise[k])) ** 2)))
        seen = back(spectra[k] * np.conj(psf)) > _LIGHT * noise
        made |= binary_dilation(seen, iterations=max(1, round(image.stars.fwhm)))
    return made


class Refined(NamedTuple):
    """What :func:`refined_ratio` returns: the ratio, its error, and which stars it rests on, (n,) bool."""

    ratio: float
    error: float
    used: NDArray[np.bool_]


def refined_ratio(pair: ProperPair, x: NDArray[np.int64], y: NDArray[np.int64]) -> Refined:
    """The ratio of fluxes by which bright stars leave nothing, neighbours and all.

    Fluxes of fits hold light of neighbours, more of it the wider a PSF is. In the difference neighbours are gone as
    the star is: what is left of both, over their light filtered alike, is the error of the ratio.

    Parameters
    ----------
    pair : ProperPair
        The images, with a ratio that is nearly right.
    x, y : ndarray of int64, (n,)
        Stars.

    Raises
    ------
    NotAligned
        If fewer than three can be used.
    """
    given = Given(*given_for(pair)[:-1], (1, _STAMP))
    left, error = np.full(len(x), np.nan), np.ones(len(x))
    reach = min(max(WINDOW, math.ceil(_AROUND * max(image.stars.fwhm for image in pair.images))), _STAMP)

    def work(start: int, stop: int) -> None:
        for n in range(start, stop):
            tile = Tile(given, (int(y[n]), int(x[n])))
            filters, middle = tile.filters, tile.size // 2
            window = (slice(middle - reach, middle + reach + 1),) * 2
            both = np.uint32(fl.UNUSABLE) & (
                tile.of(pair.science.flags, np.uint32) | tile.of(pair.reference.flags, np.uint32)
            )
            if both[window].any():
                continue
            one, two = (answer * there(part) for answer, part in zip(filters.images, tile.values(), strict=True))
            matched = np.conj(filters.psf) / np.sum(back(filters.psf) ** 2)
            light, rest = back(0.5 * matched * (one + two))[window], back(matched * (one - two))[window]
            # with a constant: wings of many stars make the skies of a sharp and of a blurred image differ
            over = light - light.mean()
            left[n] = float(np.sum(over * rest) / np.sum(over**2))
            flux = float(light.max())
            noise = sum(
                sigma2 * float(np.sum(back(np.abs(matched * answer)) ** 2))
                for sigma2, answer in zip(filters.sigma2, filters.images, strict=True)
            )
            photons = flux * (1 / pair.science.gain + pair.ratio / pair.reference.gain)
            error[n] = math.sqrt(noise + photons) / flux if flux > 0 else math.inf

    over_rows(len(x), work, band=8)
    good = np.isfinite(left + error)
    found, spread, used = weighted_middle(np.where(good, left, 0.0), np.hypot(error, FLOOR), good)
    return Refined(pair.ratio * (1 + found / 2) / (1 - found / 2), pair.ratio * spread, used)


def _finished(given: Given, made: _Made, astrometric: float) -> ProperDifference:
    pair, flags = given.pair, made.flags
    flags |= pair.science.flags
    flags |= pair.reference.flags
    rim = rim_of(pair)
    edge = np.uint32(fl.EDGE | fl.NO_DATA)
    flags[:rim], flags[-rim:] = flags[:rim] | edge, flags[-rim:] | edge
    flags[:, :rim], flags[:, -rim:] = flags[:, :rim] | edge, flags[:, -rim:] | edge
    # of a difference the mean tells: no faint stars are left in it that would raise it
    every = slice(None, None, 1 + flags.size // 2_000_000)
    rest = clipped_mean(made.data[every][(flags[every] == 0) & ~made.bright[every]])
    made.data[...] -= np.float32(rest)
    core = given.layout[0]
    across = -(-pair.shape[1] // core)
    for number, gain in enumerate(made.gains):
        j, i = divmod(number, across)
        made.signal[j * core : (j + 1) * core, i * core : (i + 1) * core] -= np.float32(rest * gain)
    if astrometric > 0:
        made.steep[...] *= np.float32(astrometric**2)
        made.noise[...] += made.steep
    known = made.known & ((flags & fl.UNUSABLE) == 0)
    np.sqrt(made.noise, out=made.noise)
    np.divide(made.signal, made.noise, out=made.signal, where=known)
    made.signal[~known] = 0.0
    nothing = (flags & fl.NO_DATA) != 0
    for plane in (made.data, made.science, made.reference):
        plane[nothing] = np.nan
    return ProperDifference(made.data, made.science, made.reference, flags, made.signal, astrometric)
