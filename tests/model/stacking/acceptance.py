"""What resampled frames and stacks promise of their noise, at length: ``python -m tests.model.stacking.acceptance``.

Acceptance 22: pixels of the filtered S/N image, and its maxima, against a brute-force Monte Carlo of the same filter;
32: the limiting magnitude; 23: errors of apertures; 11: noise of masters that frames have in common. The same functions
make the smaller tests of ``test_noise.py``.
"""

import math
import sys
import time
import warnings

import numpy as np
from scipy import ndimage
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.special import ndtr

import larun
from larun.algorithms.detect import FINDING_MASK, DetectOptions, detect_matched
from larun.algorithms.peaks import gaussian_profile, noise_factor, signal_to_noise
from larun.errors import LarunWarning
from larun.model.planes import Shared
from larun.simulate import render
from tests.algorithms.test_detect import reference_profile

FWHM = 3.0
SIGMA = 5.0
#: Turn in degrees and shift in pixels of the frames of a dithered series.
DITHER = ((0.0, 0.0, 0.0), (0.7, 4.37, -2.81), (-1.3, -3.62, 5.24), (0.2, 1.55, 7.91))
HERE = larun.StackOptions(footprint="reference", scale="none", background="none")


def place(k, shape):
    """The matrix and the offset from pixels of the first frame to those of frame ``k``."""
    degrees, dx, dy = DITHER[k % len(DITHER)]
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix, middle = np.array([[c, -s], [s, c]]), (np.array(shape[::-1]) - 1) / 2
    return matrix, middle + np.array([dx, dy]) - matrix @ middle


def cards(k, shape):
    """A WCS by which frame ``k`` shows the field at its :func:`place`."""
    matrix, offset = place(k, shape)
    middle = matrix @ ((np.array(shape[::-1]) - 1) / 2) + offset
    scale = np.diag([-2e-4, 2e-4]) @ np.linalg.inv(matrix)
    made = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0}
    made |= {f"CRPIX{n + 1}": float(middle[n] + 1) for n in (0, 1)}
    return made | {f"CD{i + 1}_{j + 1}": float(scale[i, j]) for i in (0, 1) for j in (0, 1)}


def shot(data, variance, k=0):
    """A calibrated frame."""
    return larun.Frame.from_arrays(
        data.astype(np.float32),
        variance=np.broadcast_to(np.float32(variance), data.shape).astype(np.float32),
        unit="electron",
        gain=1.0,
        read_noise=SIGMA,
        saturation=1e7,
        header=cards(k, data.shape) | {"EXPTIME": 60.0},
    )


def quietly(function, *args, **how):
    """Without being told that noise has no stars."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        return function(*args, **how)


# -- 22: the filtered noise --------------------------------------------------------------------------------------------


def lanczos(image, matrix, offset):
    """An image on other pixels by Lanczos-3 in double precision, written down plainly."""
    ny, nx = image.shape
    y, x = np.mgrid[:ny, :nx]
    at_x, at_y = (matrix[n, 0] * x + matrix[n, 1] * y + offset[n] for n in (0, 1))
    left, low = np.floor(at_x).astype(np.intp), np.floor(at_y).astype(np.intp)
    weights = []
    for away in (at_x - left, at_y - low):
        t = away[None] - np.arange(-2, 4)[:, None, None]
        w = np.sinc(t) * np.sinc(t / 3) * (np.abs(t) < 3)
        weights.append((w / w.sum(axis=0)).astype(np.float32))
    made = np.zeros(image.shape, np.float32)
    for b in range(6):
        rows = np.clip(low + b - 2, 0, ny - 1)
        line = sum(weights[0][a] * image[rows, np.clip(left + a - 2, 0, nx - 1)] for a in range(6))
        made += weights[1][b] * line
    return made


def maxima_by_brute_force(rng, size, frames, margin, threshold):
    """Noise on other pixels, its mean over frames, scipy's convolution, the scatter that it has, and 3 × 3 maxima."""
    image = np.zeros((size, size), np.float32)
    for k in frames:
        noise = rng.standard_normal((size, size), np.float32)
        image += noise if k == 0 else lanczos(noise, *place(k, (size, size)))
    for axis in (0, 1):
        image = ndimage.convolve1d(image, reference_profile(FWHM), axis=axis)
    inner = image[margin:-margin, margin:-margin]
    inner = inner / inner.std()
    return int(((inner > threshold) & (inner == ndimage.maximum_filter(inner, 3))).sum())


def filtered(image, margin, threshold):
    """The S/N image that detection looks at, of the true level, and its maxima above a threshold; without edges."""
    planes = (image.data, np.zeros_like(image.data), image.background().variance, image.flags)
    acf = None if image.noise_acf is None else image.noise_acf.astype(np.float64)
    star = gaussian_profile(FWHM)
    planes = tuple(np.ascontiguousarray(plane) for plane in planes)
    snr = signal_to_noise(planes, FINDING_MASK, star, noise_factor(star, star, acf))
    found = detect_matched(
        *planes, options=DetectOptions(fwhm=FWHM, threshold=threshold, prominence=0, contrast=0), acf=acf
    )
    ny, nx = image.shape
    inside = (found.x > margin) & (found.x < nx - margin) & (found.y > margin) & (found.y < ny - margin)
    return snr[margin:-margin, margin:-margin], int(inside.sum())


def noise_of(frames, size, images, threshold=4.0, seed=22, margin=64):
    """Tails and maxima of resampled noise: of one frame that is aligned, or of a stack of several.

    Returns
    -------
    dict
        Pixels, their scatter, tails over ±u as counts with those expected; maxima, and those of brute force.
    """
    rng, other = np.random.default_rng([seed, len(frames)]), np.random.default_rng([seed, len(frames), 1])
    count, square, maxima, expected = 0, 0.0, 0, 0
    tails = {u: [0, 0] for u in (1.0, 2.0, 3.0, 4.0, 4.5)}
    for _ in range(images):
        shots = [shot(rng.normal(0, SIGMA, (size, size)), SIGMA**2, k) for k in frames]
        if len(shots) == 1:
            target = shot(np.zeros((size, size)), 1.0)
            made = quietly(shots[0].align_to, target, method="wcs")
        else:
            made = quietly(larun.Stack.combine, shots, reference=shots[0], align="wcs", weights="equal", options=HERE)
        snr, found = quietly(filtered, made, margin, threshold)
        count, square, maxima = count + snr.size, square + float(np.sum(snr.astype(np.float64) ** 2)), maxima + found
        for u, both in tails.items():
            both[0] += int((snr > u).sum())
            both[1] += int((snr < -u).sum())
        expected += maxima_by_brute_force(other, size, frames, margin, threshold)
    told = {u: (*both, float(ndtr(-u)) * count) for u, both in tails.items()}
    return {"pixels": count, "scatter": math.sqrt(square / count), "tails": told, "maxima": maxima, "brute": expected}


def departures(made):
    """Standard errors by which tails and maxima depart; pixels within a star move together."""
    together = 4 * math.pi * (FWHM / 2.355) ** 2
    tails = {
        u: max(abs(n - wanted) / math.sqrt(wanted * together) for n in (above, below))
        for u, (above, below, wanted) in made["tails"].items()
    }
    return tails, abs(made["maxima"] - made["brute"]) / math.sqrt(made["maxima"] + made["brute"])


# -- 32: depth ---------------------------------------------------------------------------------------------------------


def starry(rng, shape, x, y, flux, k, sky=200.0, seeing=FWHM):
    """A frame ``k`` of stars at places of the first one."""
    matrix, offset = place(k, shape)
    at = matrix @ np.stack([x, y]) + offset[:, None]
    light = render(shape, *at, flux, fwhm=seeing, beta=None) + sky
    data = rng.poisson(light) + rng.normal(0, SIGMA, shape)
    return shot(data, light + SIGMA**2, k)


def depth(rounds=3, seed=32, frames=(0, 1, 2, 3), size=560, spacing=28):
    """The limit that stacks tell, and the magnitude at which half of the stars that were in the sky are found.

    Stars are in the frames before they are stacked. Returns the limits of the checks and of ``quality``, that
    magnitude, and the limit of one frame: magnitudes of electrons.
    """
    rng = np.random.default_rng(seed)
    y, x = (axis.ravel() for axis in np.mgrid[30 : size - 30 : spacing, 30 : size - 30 : spacing].astype(float))
    bright = np.where(rng.random(x.size) < 0.12, 10 ** rng.uniform(3.6, 4.5, x.size), 0.0)  # by which they are aligned
    seeing = [FWHM + 0.1 * k for k in range(len(frames))]

    def stacked(flux):
        at = x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, x.size)
        shots = [starry(rng, (size, size), *at, flux, k, seeing=s) for k, s in zip(frames, seeing, strict=True)]
        options = larun.StackOptions(footprint="reference")
        return np.column_stack(at), quietly(larun.Stack.combine, shots, reference=shots[0], options=options), shots[0]

    limits, singles, flux, seen = [], [], [], []
    for _ in range(rounds):
        _, made, first = stacked(bright)
        (limit,) = quietly(made.check).of("limiting magnitude")
        limits.append([limit.expected, made.quality().limiting_magnitude])
        singles.append(quietly(first.check).of("limiting magnitude")[0].expected)
        faint = 200 * 10 ** (0.4 * rng.uniform(-0.9, 0.9, x.size))
        places, made, _ = stacked(faint + bright)
        table = quietly(made.detect).table
        distance, _ = cKDTree(np.column_stack([table["x"].value, table["y"].value])).query(places)
        flux.append(faint[bright == 0])
        seen.append((distance < 0.8 * FWHM)[bright == 0])
    flux, seen = np.concatenate(flux), np.concatenate(seen)

    def unlikely(parameters):
        share = np.clip(ndtr((flux - parameters[0]) / parameters[1]), 1e-9, 1 - 1e-9)
        return -np.sum(np.where(seen, np.log(share), np.log1p(-share)))

    half = minimize(unlikely, [200.0, 40.0], method="Nelder-Mead").x[0]
    return np.mean(limits, axis=0), -2.5 * math.log10(half), float(np.mean(singles))


# -- 23: apertures -----------------------------------------------------------------------------------------------------

RADII = (1.5, 2.5, 4.0, 6.0)


def pulls(flux, rounds=3, seed=23, frames=(0, 1, 2, 3), size=700):
    """Errors of apertures on stacks over those that are told, (radii, places × rounds)."""
    rng = np.random.default_rng([seed, int(flux)])
    y, x = (axis.ravel() for axis in np.mgrid[30 : size - 30 : 32j, 30 : size - 30 : 32j])
    found = []
    for _ in range(rounds):
        places = np.column_stack([x, y]) + rng.uniform(-0.5, 0.5, (len(x), 2))
        shots = [starry(rng, (size, size), *places.T, np.full(len(x), flux), k, sky=120.0) for k in frames]
        made = quietly(larun.Stack.combine, shots, reference=shots[0], align="wcs", options=HERE, weights="equal")
        options = {"radii": RADII, "unit": "pixel", "annulus": (7.0, 10.0)}
        got = quietly(made.photometer, places, **options)
        clean = [
            shot(render((size, size), *at, np.full(len(x), flux), fwhm=FWHM, beta=None) + 120.0, 1.0, k)
            for k in frames
            for at in ((place(k, (size, size))[0] @ places.T + place(k, (size, size))[1][:, None]),)
        ]
        alone = quietly(
            larun.Stack.combine, clean, reference=clean[0], align="wcs", options=HERE, weights="equal", method="mean"
        )
        truth = quietly(made.with_planes(data=alone.data).photometer, places, **options)
        columns = [f"aperture_flux{{}}_{n}" for n in range(1, 5)]
        away = [got[c.format("")].value - truth[c.format("")].value for c in columns]
        found.append([a / got[c.format("_error")].value for a, c in zip(away, columns, strict=True)])
    return np.concatenate(found, axis=1)


# -- 11: noise in common -----------------------------------------------------------------------------------------------


def common_noise(dithered, count=25, rounds=60, seed=11, size=96, master=3.0):
    """Scatter of the pixels of stacks over the error they tell, where a master's noise is in all of the frames."""
    rng = np.random.default_rng([seed, int(dithered)])
    values, told = [], []
    inner = slice(16, size - 16)
    for _ in range(rounds):
        pattern = rng.normal(0, master, (size, size))
        shots = []
        for _ in range(count):
            frame = shot(rng.normal(0, SIGMA, (size, size)) + pattern, SIGMA**2)
            if dithered:
                dx, dy = rng.integers(-8, 9, 2)
                header = frame.header
                header["CRPIX1"], header["CRPIX2"] = header["CRPIX1"] + dx, header["CRPIX2"] + dy
                frame = larun.Frame.from_arrays(
                    frame.data, variance=frame.variance, unit="electron", gain=1.0, read_noise=SIGMA, header=header
                )
            plane = np.full((size, size), master**2, np.float32)
            shots.append(frame._replace(shared=(Shared("m", plane),)))
        made = quietly(
            larun.Stack.combine, shots, reference=shots[0], align="wcs", options=HERE, weights="equal", method="mean"
        )
        values.append(made.data[inner, inner])
        told.append(np.mean(made.uncertainty[inner, inner].astype(np.float64) ** 2))
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)) / np.mean(told))), float(np.sqrt(np.mean(told)))


def _say(begun, *words):
    print(f"{time.process_time() - begun:6.0f} s ", *words, flush=True)


def main(images=28):
    """All of it; ``images`` of 2048² for each kind of noise."""
    begun = time.process_time()
    for name in (False, True):
        ratio, sigma = common_noise(name)
        _say(
            begun, f"11: {'dithered' if name else 'undithered'} stack of 25: scatter / told {ratio:.3f}, σ {sigma:.3f}"
        )
    for flux in (0.0, 8000.0):
        found = pulls(flux)
        _say(begun, f"23: stack, star of {flux:g}: scatter / error at r = {RADII}: {found.std(axis=1).round(3)}")
    limit, half, single = depth()
    _say(begun, f"32: stack: limits {limit.round(3)}, half are found at {half:.3f}; one frame {single:.3f}")
    for frames in ((1,), (0, 1, 2, 3)):
        made = noise_of(frames, 2048, images)
        tails, maxima = departures(made)
        what = "aligned frame" if len(frames) == 1 else f"stack of {len(frames)}"
        _say(begun, f"22: {what}, {made['pixels'] / 1e6:.1f} Mpix: scatter {made['scatter']:.4f}")
        for u, (above, below, wanted) in made["tails"].items():
            _say(begun, f"    beyond ±{u}: {above} and {below}, {wanted:.0f} expected: {tails[u]:.2f} standard errors")
        _say(begun, f"    maxima over 4: {made['maxima']}, brute force {made['brute']}: {maxima:.2f} Poisson σ")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
