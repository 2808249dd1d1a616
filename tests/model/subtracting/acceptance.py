"""What differences promise of their noise and depth, at length: ``python -m tests.model.subtracting.acceptance``.

Acceptance 31: pixels of the score and its maxima of both signs, against white noise under the same filter; 32: the
limit that forced photometry tells, and the flux at which half of new stars are found. The same functions make the
smaller tests of ``test_acceptance.py``.
"""

import math
import sys
import time

import numpy as np
from scipy import ndimage
from scipy.fft import irfft2, rfft2
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.special import ndtr

import larun
from tests.algorithms.pair_fields import pair

METHODS = ("alard-lupton", "zogy")


def frames(field, new=0.0):
    """Both images of a field, with what is new."""
    return tuple(
        larun.Frame.from_arrays(
            (data + more).astype(np.float32),
            variance=variance + np.float32(more),
            unit="electron",
            gain=1.0,
            read_noise=6.0,
            saturation=1e7,
        )
        for data, variance, more in (
            (field.science, field.science_variance, new),
            (field.reference, field.reference_variance, 0.0),
        )
    )


def difference(field, method, new=0.0):
    """Science less reference."""
    science, reference = frames(field, new)
    options = larun.SubtractOptions(order=1) if method == "alard-lupton" else larun.ProperOptions()
    return science.subtract(reference, method=method, align="none", options=options)


def white_maxima(rng, made, threshold):
    """Maxima of both signs of white noise on as many pixels, filtered by the PSF of a difference."""
    good = made.score != 0
    psf, reach = made.point_spread, 14
    at = np.arange(-reach, reach + 1.0)
    ny, nx = made.shape
    kernel = np.zeros(made.shape)
    kernel[: 2 * reach + 1, : 2 * reach + 1] = psf.values(at[None], at[:, None], nx / 2, ny / 2)[0]
    noise = irfft2(rfft2(rng.standard_normal(made.shape)) * np.conj(rfft2(kernel)), made.shape)
    return maxima(noise / noise.std(), good, threshold)


def maxima(score, good, threshold):
    """Of both signs, 3 × 3."""
    return sum(
        int(((image > threshold) & good & (image == ndimage.maximum_filter(image, 3))).sum())
        for image in (score, -score)
    )


def noise_of(method, size, images, *, threshold=5.0, seed=31, **field):
    """The score where nothing is new: moments, tails over ±u with those expected, maxima and those of white noise."""
    count, total, square = 0, 0.0, 0.0
    found, brute = 0, 0
    tails = {u: [0, 0] for u in (2.0, 3.0, 4.0, 5.0)}
    for n in range(images):
        made = difference(
            pair((size, size), **({"seed": seed + n, "stars": size**2 // 500, "change": 0.0} | field)), method
        )
        good = made.score != 0
        score = made.score[good].astype(np.float64)
        count, total, square = count + score.size, total + score.sum(), square + np.sum(score**2)
        for u, both in tails.items():
            both[0] += int((score > u).sum())
            both[1] += int((score < -u).sum())
        found += maxima(made.score, good, threshold)
        brute += white_maxima(np.random.default_rng([seed, n]), made, threshold)
    told = {u: (*both, float(ndtr(-u)) * count) for u, both in tails.items()}
    mean = total / count
    return {
        "pixels": count,
        "mean": mean,
        "scatter": math.sqrt(square / count - mean**2),
        "tails": told,
        "maxima": found,
        "white": brute,
    }


def depth(method, rounds=3, *, size=420, spacing=30, seed=32):
    """Flux at which half of new stars have a score of 5 or more, and five errors of forced photometry of nothing."""
    rng = np.random.default_rng(seed)
    y, x = (axis.ravel() for axis in np.mgrid[35 : size - 35 : spacing, 35 : size - 35 : spacing].astype(float))
    flux, seen, limits = [], [], []
    for n in range(rounds):
        field = pair((size, size), seed=seed + n, stars=200, change=0.0, brightest=5e4)
        places = np.column_stack([x, y]) + rng.uniform(-0.5, 0.5, (x.size, 2))
        clear = cKDTree(np.column_stack([field.x, field.y])).query(places)[0] > 12
        places, own = places[clear], rng.uniform(500, 1500, int(clear.sum()))
        made = difference(field, method, rng.poisson(field.psf.draw((size, size), *places.T, own)))
        table = made.detect(5.0).table
        here = table["flux"].value > 0
        away, _ = cKDTree(np.column_stack([table["x"].value, table["y"].value])[here]).query(places)
        flux.append(own)
        seen.append(away < 2.5)
        empty = places + np.array([spacing / 2, 0.0])
        far = cKDTree(np.column_stack([field.x, field.y])).query(empty)[0] > 12
        limits.append(5 * np.median(made.forced(empty[far][:20], limit=5.0)["flux_error"].value))
    light, found = np.concatenate(flux), np.concatenate(seen)

    def unlikely(parameters):
        share = np.clip(ndtr((light - parameters[0]) / parameters[1]), 1e-9, 1 - 1e-9)
        return -np.sum(np.where(found, np.log(share), np.log1p(-share)))

    return float(minimize(unlikely, [900.0, 150.0], method="Nelder-Mead").x[0]), float(np.mean(limits))


def main(images=4, size=2048):
    """All of it; ``images`` of ``size``² for each method."""
    begun = time.process_time()
    for method in METHODS:
        half, limit = depth(method, 8)
        away = 2.5 * math.log10(half / limit)
        _say(begun, f"32: {method}: half at {half:.0f} e-, told {limit:.0f}: {away:+.3f} mag")
        made = noise_of(method, size, images)
        _say(
            begun,
            f"31: {method}, {made['pixels'] / 1e6:.1f} Mpix: mean {made['mean']:+.4f}, scatter {made['scatter']:.4f}; "
            f"maxima over 5: {made['maxima']}, of white noise {made['white']}",
        )
        for u, (above, below, wanted) in made["tails"].items():
            _say(begun, f"    beyond ±{u}: {above} and {below}, {wanted:.1f} expected")


def _say(begun, words):
    print(f"{time.process_time() - begun:6.0f} s ", words, flush=True)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
