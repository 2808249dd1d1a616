"""Proper image subtraction as its paper writes it down, with plain FFTs of whole images: slow, and easy to check.

Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27. One PSF for each image, white noise of one sigma for each, no masks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.fft import irfft2, rfft2

Array = Any


class ReferenceZogy(NamedTuple):
    """Difference of unit noise and its zero point, the score, and the score in units of its noise (eq. 13 to 29)."""

    difference: Array
    zero_point: float
    psf: Array
    score: Array
    corrected: Array


def zogy(
    images: tuple[Array, Array],
    psfs: tuple[Array, Array],
    *,
    sigmas: tuple[float, float],
    scales: tuple[float, float],
    variances: tuple[Array, Array],
    shifts: tuple[float, float] = (0.0, 0.0),
) -> ReferenceZogy:
    """New image and reference: sky subtracted, their PSFs (odd sides, sum 1), noise, flux zero points, variances.

    ``shifts`` are the errors of registration in pixels along x and y.
    """
    new, reference = (rfft2(np.asarray(image, float)) for image in images)
    shape = images[0].shape
    p_new, p_reference = (_spectrum(psf, shape) for psf in psfs)
    (s_new, s_reference), (f_new, f_reference) = sigmas, scales
    square = s_new**2 * f_reference**2 * np.abs(p_reference) ** 2 + s_reference**2 * f_new**2 * np.abs(p_new) ** 2
    root = np.sqrt(square)
    difference = (f_reference * p_reference * new - f_new * p_new * reference) / root
    zero_point = f_reference * f_new / np.hypot(s_new * f_reference, s_reference * f_new)
    psf = f_reference * f_new * p_reference * p_new / root / zero_point
    score = zero_point * difference * np.conj(psf)
    k_new = f_new * f_reference**2 * np.conj(p_new) * np.abs(p_reference) ** 2 / square
    k_reference = f_reference * f_new**2 * np.conj(p_reference) * np.abs(p_new) ** 2 / square
    noise = np.zeros(shape)
    for kernel, image, variance in ((k_new, new, variances[0]), (k_reference, reference, variances[1])):
        noise += irfft2(rfft2(irfft2(kernel, shape) ** 2) * rfft2(np.asarray(variance, float)), shape)
        if any(shifts):
            filtered = irfft2(kernel * image, shape)
            noise += sum(
                shift**2 * (filtered - np.roll(filtered, 1, axis)) ** 2
                for axis, shift in zip((1, 0), shifts, strict=True)
            )
    made = irfft2(score, shape)
    return ReferenceZogy(irfft2(difference, shape), zero_point, irfft2(psf, shape), made, made / np.sqrt(noise))


def _spectrum(psf: Array, shape: tuple[int, int]) -> Array:
    half = psf.shape[0] // 2
    grid = np.zeros(shape)
    grid[: psf.shape[0], : psf.shape[1]] = psf
    return rfft2(np.roll(grid, (-half, -half), (0, 1)))
