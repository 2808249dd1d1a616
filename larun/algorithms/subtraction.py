"""One image subtracted from another of the same field, the sharper of them made as blurred as the other.

Alard & Lupton (1998, ApJ 503, 325). Which of the two is convolved is decided by their stars. The difference is in the
unit and on the flux scale of the science image, its noise is made white again (:mod:`larun.algorithms.whitening`), and
what the noise of each image adds to it is kept apart: that of the reference is common to all differences made with it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.arrays import middle, read_only
from larun.algorithms.background import Background, background
from larun.algorithms.cholesky import solve_positive
from larun.algorithms.detect import DetectOptions, candidates, checked_planes
from larun.algorithms.fwhm import FwhmEstimate, estimate_fwhm
from larun.algorithms.jit import kernel, over_rows
from larun.algorithms.kernelfield import (
    Convolved,
    KernelField,
    convolve,
    convolve_variance,
    polynomial_terms,
    terms_at,
)
from larun.algorithms.matchbasis import Basis, delta_basis, gauss_basis
from larun.algorithms.matchfit import MatchFit, MatchOptions, Side, choose_stamps, fit_kernel
from larun.algorithms.peaks import FWHM_OF_SIGMA
from larun.algorithms.whitening import Spectra, Whitening, whitening
from larun.errors import NotAligned, OptionError

__all__ = ["BASES", "DIRECTIONS", "Difference", "SubtractOptions", "Taken", "look_at", "subtract"]

BASES = ("gauss", "delta")
DIRECTIONS = ("auto", "reference", "science")

#: Widths of the Gaussians in units of the one that is missing, and the degrees of their polynomials.
_WIDTHS, _DEGREES = (0.7, 1.5, 3.0), (4, 2, 2)
_NARROWEST = 1.0  # pixels
_REACH = 5.0  # of the kernel, in units of the width that is missing
_HALVES = (7, 20)
_STARS = 5000
_SNR = 20.0


def _one_of(names: tuple[str, ...]) -> Any:
    def check(_: Any, attribute: Any, value: Any) -> None:
        if value not in names:
            raise OptionError(f"{attribute.name}={value!r}: must be one of {', '.join(names)}")

    return check


@attrs.frozen(kw_only=True)
class SubtractOptions:
    """How one image is subtracted from another.

    Parameters
    ----------
    direction : {"auto", "reference", "science"}
        Which image is convolved; by default the sharper one.
    basis : {"gauss", "delta"}
        What the kernel is a sum of: Gaussians times polynomials, or single pixels held smooth.
    order : int
        Of the polynomial by which the kernel changes over the image, 0 to 3.
    background : int
        Of the polynomial of the differential background, 0 to 3.
    constant_sum : bool
        Whether the ratio of fluxes is the same all over the image.
    half : int, optional
        Pixels of the kernel to each side of its middle; by default as the stars need, 7 to 20.
    stamps : int
        Stars that the kernel is fitted to, at most.
    decorrelate : bool
        Whether the noise of the difference is made white.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    direction: str = attrs.field(default="auto", validator=_one_of(DIRECTIONS))
    basis: str = attrs.field(default="gauss", validator=_one_of(BASES))
    order: int = 2
    background: int = 2
    constant_sum: bool = True
    half: int | None = None
    stamps: int = 400
    decorrelate: bool = True

    def __attrs_post_init__(self) -> None:
        MatchOptions(order=self.order, background=self.background)
        if self.half is not None and not 1 <= self.half <= 40:
            raise OptionError(f"half = {self.half}: must be 1 to 40 pixels")
        if self.stamps < 3:
            raise OptionError(f"stamps = {self.stamps}: must be at least 3")


#: A difference has no stars: of its weight so much may fall on what neighbours stand in for, which is noise as it is.
_SPARED = 0.2


class Taken(NamedTuple):
    """An image as it is taken into a difference.

    Attributes
    ----------
    data, variance, flags : ndarray, (ny, nx)
        Planes; ``variance`` holds all its noise.
    sky : Background
        Its sky.
    stars : FwhmEstimate
        The size of its stars.
    gain : float
        Electrons per unit.
    acf : ndarray or None
        Autocorrelation of its noise; None where it is white.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    flags: NDArray[np.uint32]
    sky: Background
    stars: FwhmEstimate
    gain: float
    acf: NDArray[np.floating[Any]] | None

    @property
    def level(self) -> float:
        """The median of the sky."""
        return float(np.median(self.sky.mesh_level))

    @property
    def side(self) -> Side:
        """What the fit takes."""
        return Side(self.data, self.sky.variance, self.flags, self.level, self.acf)


def look_at(
    data: NDArray[np.float32],
    variance: NDArray[np.float32] | None,
    flags: NDArray[np.uint32],
    *,
    gain: float = 1.0,
    acf: NDArray[np.floating[Any]] | None = None,
) -> Taken:
    """Measure what a subtraction has to know of an image: its sky and the size of its stars.

    Parameters
    ----------
    data, variance, flags : ndarray, (ny, nx)
        Planes. Without a variance the scatter of the sky takes its place, and the photons of the stars.
    gain : float
        Electrons per unit.
    acf : ndarray, optional
        Autocorrelation of the noise.

    Raises
    ------
    OptionError
        If shapes differ, or no pixel is usable.
    """
    image, bits = read_only(data, np.float32), read_only(flags, np.uint32)
    sky = background(image, variance, bits)
    noise = variance
    if noise is None:
        noise = (sky.variance + np.maximum(np.nan_to_num(image - sky.level), 0) / np.float32(gain)).astype(np.float32)
    stars = estimate_fwhm(image, sky.level, sky.variance, bits)
    return Taken(image, read_only(noise, np.float32), bits, sky.anew(), stars, float(gain), acf)


class Difference(NamedTuple):
    """What :func:`subtract` returns.

    Attributes
    ----------
    data : ndarray of float32, (ny, nx)
        Science less reference, on the flux scale of the science image; NaN where the flags say NO_DATA.
    science_variance, reference_variance : ndarray of float32, (ny, nx)
        What the noise of each image adds to that of a pixel.
    flags : ndarray of uint32, (ny, nx)
        Those of the science image, and of pixels of the reference that a pixel saw.
    convolved : str
        ``"reference"`` or ``"science"``.
    fit : MatchFit
        The kernel, the background and the stamps.
    white : Whitening or None
        By what the noise was made white.
    acf : ndarray of float32 or None
        Autocorrelation of its noise in the middle of the image; None where it was made white.
    light : ndarray of float32, (ny, nx)
        The stars, as blurred as in the image that was not convolved, and on its scale.
    """

    data: NDArray[np.float32]
    science_variance: NDArray[np.float32]
    reference_variance: NDArray[np.float32]
    flags: NDArray[np.uint32]
    convolved: str
    fit: MatchFit
    white: Whitening | None
    acf: NDArray[np.float32] | None
    light: NDArray[np.float32]

    @property
    def scale(self) -> float:
        """Flux on the science image over that on the reference."""
        return 1 / self.fit.scale if self.convolved == "science" else self.fit.scale


def subtract(
    science: Taken, reference: Taken, *, options: SubtractOptions = SubtractOptions(), part: float = 0.0
) -> Difference:
    """Subtract a reference from an image on the same pixels.

    Parameters
    ----------
    science, reference : Taken
        The images (:func:`look_at`).
    options : SubtractOptions
        How.
    part : float
        Which part of the noise variance of the reference is that of the image itself: above 0 where the reference is a
        stack that it went into.

    Returns
    -------
    Difference

    Raises
    ------
    NotAligned
        If there are too few stars to fit the kernel to.
    OptionError
        If shapes differ.
    """
    if science.data.shape != reference.data.shape:
        raise OptionError(f"science has shape {science.data.shape}, reference {reference.data.shape}: must be one")
    turned = _convolves_science(science, reference, options.direction)
    kept, sharp = (reference, science) if turned else (science, reference)
    fit = _fitted(kept, sharp, options, part)
    scale = fit.field if turned else None
    plain_noise = not options.decorrelate  # else it goes through both kernels at once
    made = convolve(fit.field, sharp.data, sharp.variance, sharp.flags, level=sharp.level, squares=plain_noise)
    fit = fit._replace(
        background=fit.background + _left_behind(_less(kept, made, fit, None), made.flags | kept.flags, fit)
    )
    plain = _less(kept, made, fit, scale)
    # of a difference the mean tells: no faint stars are left in it that would raise it
    rest = _typical(plain, made.data, kept, flags=made.flags | kept.flags)
    plain -= np.float32(rest)
    more = fit.background.copy()
    more[0] += -rest * fit.scale if turned else rest
    fit = fit._replace(background=more)
    white, acf, light, flags = None, None, made.data, made.flags
    if options.decorrelate:
        white = whitening(fit.field, _shape(kept), lambda x, y: _spectra(kept, sharp, x, y))
        del made
        plain, planes, flags = _whitened(plain, kept, sharp, flags, white)
    else:
        acf = _acf(fit.field, kept, sharp)
        assert made.variance is not None
        planes = [kept.variance.copy(), made.variance]
    flags |= kept.flags
    if turned:
        flags |= science.flags & fl.NO_DATA
    factor = _scales(scale, _shape(kept))
    nothing = (flags & fl.NO_DATA) != 0
    for plane in planes:
        if factor is not None:
            np.divide(plane, factor**2, out=plane)
        plane[nothing] = np.nan
    plain[nothing] = np.nan
    one, two = planes[::-1] if turned else planes
    return Difference(plain, one, two, flags, "science" if turned else "reference", fit, white, acf, light)


def _shape(image: Taken) -> tuple[int, int]:
    return image.data.shape[0], image.data.shape[1]


def _convolves_science(science: Taken, reference: Taken, direction: str) -> bool:
    if direction != "auto":
        return direction == "science"
    for name, image in (("science image", science), ("reference", reference)):
        if image.stars.stars == 0:
            raise NotAligned(
                f"the {name} has too few stars to tell how sharp it is: say which is convolved, direction='reference' "
                "or 'science'"
            )
    return science.stars.fwhm < reference.stars.fwhm


def _fitted(kept: Taken, sharp: Taken, options: SubtractOptions, part: float) -> MatchFit:
    wide, narrow = (max(image.stars.fwhm, 1.0) / FWHM_OF_SIGMA for image in (kept, sharp))
    missing = max(_NARROWEST, math.sqrt(max(wide**2 - narrow**2, 0.0)))
    half = options.half or min(max(_HALVES[0], math.ceil(_REACH * missing)), _HALVES[1])
    basis: Basis
    if options.basis == "delta":
        basis = delta_basis(min(half, 7))
    else:
        basis = gauss_basis([missing * width for width in _WIDTHS], _DEGREES, half)
    stamp = min(max(9, math.ceil(3.5 * wide + 4)), 24)
    x, y = _stars(sharp, basis.half + stamp + 1, stamp, options.stamps)
    how = MatchOptions(
        order=options.order,
        background=options.background,
        constant_sum=options.constant_sum,
        half_stamp=stamp,
        gain_science=kept.gain,
        gain_reference=sharp.gain,
        common=math.sqrt(part * middle(kept.sky.variance.ravel()) / middle(sharp.sky.variance.ravel()))
        if part > 0
        else 0.0,
    )
    return fit_kernel(kept.side, sharp.side, basis, x, y, options=how)


def _stars(image: Taken, margin: int, apart: int, most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    planes = checked_planes(image.data, image.sky.anew().level, image.sky.variance, image.flags)
    peaks, _ = candidates(planes, DetectOptions(fwhm=image.stars.fwhm, threshold=_SNR), 1.0)
    y, x = np.divmod(peaks[:_STARS], image.data.shape[1])
    chosen = choose_stamps(
        x.astype(np.float64), y.astype(np.float64), _shape(image), margin=margin, apart=apart, most=most
    )
    return x[chosen].astype(np.float64), y[chosen].astype(np.float64)


def _less(kept: Taken, made: Convolved, fit: MatchFit, scale: KernelField | None) -> NDArray[np.float32]:
    """What is left of an image without the other, convolved, and the background between them; turned round if asked."""
    out = np.empty(kept.data.shape, np.float32)
    own = (fit.background, fit.field.domain, kept.level)
    sums = np.zeros(1) if scale is None else _sum_terms(scale)

    def work(start: int, stop: int) -> None:
        _less_rows(kept.data, read_only(made.data, np.float32), own, sums, out, start, stop)

    over_rows(len(out), work)
    return out


def _left_behind(data: NDArray[np.float32], flags: NDArray[np.uint32], fit: MatchFit) -> NDArray[np.float64]:
    """What is left of the sky, as a polynomial: stamps see the wings of their stars as well."""
    sky = background(data, None, flags).mesh_level.astype(np.float64)
    rows, columns = sky.shape
    y, x = np.mgrid[:rows, :columns] + 0.5
    order = next(n for n in range(4) if polynomial_terms(n) == len(fit.background))
    while polynomial_terms(order) * 2 > sky.size and order:
        order -= 1
    ny, nx = data.shape
    terms = terms_at(x.ravel() * nx / columns - 0.5, y.ravel() * ny / rows - 0.5, order, fit.field.domain)
    good, made = np.ones(sky.size, bool), np.zeros((terms.shape[1], 1))
    for _ in range(3):
        matrix, right = np.zeros((terms.shape[1],) * 2), np.zeros((terms.shape[1], 1))
        for row, value in zip(terms[good], sky.ravel()[good], strict=True):
            matrix += row[:, None] * row[None, :]
            right[:, 0] += row * value
        solved = solve_positive(matrix, right)
        if solved is None:
            break
        made = solved
        away = np.abs(sky.ravel() - np.sum(terms * made[:, 0], axis=1))
        good = away <= 4 * 1.4826 * np.median(away[good]) + 1e-12
    found = np.zeros(len(fit.background))
    found[: len(made)] = made[:, 0]
    return found


def _typical(
    plain: NDArray[np.float32], light: NDArray[np.float32], kept: Taken, *, flags: NDArray[np.uint32]
) -> float:
    """The clipped mean where there is no star."""
    every = 1 + plain.size // 2_000_000  # rows: a part of a large image is enough
    part = slice(None, None, every)
    # of both signs alike: the light is noise too, and it is in the difference
    dim = (flags[part] == 0) & (np.abs(light[part]) < np.sqrt(kept.sky.variance[part]))
    values = plain[part][dim]
    if not values.size:
        return 0.0
    # a mean: the median of Poisson noise lies below it, by a part of the noise that a matched filter sees
    centre = middle(values)
    scatter = 1.4826 * middle(np.abs(values - centre))
    return float(np.mean(values[np.abs(values - centre) <= 4 * scatter], dtype=np.float64))


def _sum_terms(field: KernelField) -> NDArray[np.float64]:
    """The polynomial of a kernel's sum."""
    return np.asarray(np.sum(field.images.sum(axis=(1, 2))[:, None] * field.coefficients, axis=0))


def _scales(field: KernelField | None, shape: tuple[int, int]) -> NDArray[np.float32] | float | None:
    if field is None:
        return None
    terms = _sum_terms(field)
    if not np.any(terms[1:]):
        return float(terms[0])
    x = np.arange(shape[1], dtype=np.float64)
    return np.stack([field.sums(x, np.full(shape[1], float(y))) for y in range(shape[0])]).astype(np.float32)


def _spectra(kept: Taken, sharp: Taken, x: float, y: float) -> Spectra:
    row, column = round(y), round(x)
    return Spectra(float(kept.sky.variance[row, column]), float(sharp.sky.variance[row, column]), kept.acf, sharp.acf)


def _whitened(
    plain: NDArray[np.float32], kept: Taken, sharp: Taken, flags: NDArray[np.uint32], white: Whitening
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]], NDArray[np.uint32]]:
    """The difference with white noise, and what the noise of both images has become."""
    data = convolve(white.field, plain, kept.variance, kept.flags | flags, spared=_SPARED)
    assert data.variance is not None
    planes = [data.variance, convolve_variance(white.through, sharp.variance, sharp.flags)]
    for plane, factor in zip(planes, white.corrections, strict=True):
        plane *= np.float32(factor)
    return data.data, planes, flags | data.flags


def _acf(field: KernelField, kept: Taken, sharp: Taken) -> NDArray[np.float32]:
    """Autocorrelation of the noise in the middle of the image."""
    from scipy.signal import convolve as full

    ny, nx = _shape(kept)
    spectra = _spectra(kept, sharp, (nx - 1) / 2, (ny - 1) / 2)
    own = field.at((nx - 1) / 2, (ny - 1) / 2)
    made = spectra.convolved * full(own, own[::-1, ::-1], method="direct")
    if sharp.acf is not None:
        made = full(made, np.asarray(sharp.acf, np.float64), method="direct")
    middle = made.shape[0] // 2
    more = np.ones((1, 1)) if kept.acf is None else np.asarray(kept.acf, np.float64)
    reach = more.shape[0] // 2
    made[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1] += spectra.kept * more
    keep = min(middle, 2 * field.half)
    made = made[middle - keep : middle + keep + 1, middle - keep : middle + keep + 1]
    return np.asarray(made / made[keep, keep], np.float32)


@kernel
def _less_rows(kept: Any, made: Any, own: Any, sums: Any, out: Any, start: int, stop: int) -> None:
    background, domain, level = own
    turned = sums[0] != 0.0
    for y in range(start, stop):
        v = (y - domain[2]) / domain[3]
        for x in range(out.shape[1]):
            u = (x - domain[0]) / domain[1]
            behind, scale = level, 0.0
            n, d = 0, 0
            while n < background.size:
                for j in range(d + 1):
                    behind += background[n] * u ** (d - j) * v**j
                    n += 1
                d += 1
            value = kept[y, x] - behind - made[y, x]
            if turned:
                n, d = 0, 0
                while n < sums.size:
                    for j in range(d + 1):
                        scale += sums[n] * u ** (d - j) * v**j
                        n += 1
                    d += 1
                value = -value / scale
            out[y, x] = value
