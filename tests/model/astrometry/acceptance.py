"""The solver on simulated fields by the thousand: ``python -m tests.model.astrometry.acceptance [--few]``.

Acceptance 29: fields turned and mirrored at random at declinations 0, 85 and 89.9, half of the stars missing and half
of those there are spurious; unrelated fields; log-odds of guesses where chance alone is at work; errors of solutions.
"""

import sys
import time

import numpy as np

from larun.algorithms.asterisms import asterisms, brightest
from larun.algorithms.listmatch import figures, guesses
from larun.algorithms.odds import Tolerance, judge
from larun.algorithms.skymatch import find_field, refine_field, started
from larun.algorithms.skyplane import from_tangent
from tests.algorithms.sky_fields import sky_field
from tests.conftest import DATA


def solved(field, order=1, factor=1.1):
    """The solution of a field whose scale is known within a factor, or None; with the seconds it took."""
    begun = time.perf_counter()
    scale = field.scale / factor, field.scale * factor
    found = find_field(field.xy, field.ra, field.dec, shape=field.shape, centre=field.patch, scale=scale)
    made = None
    if found.found is not None:
        start = started(field.xy, field.ra, field.dec, found, shape=field.shape)
        if start is not None:
            made = refine_field(field.xy, field.ra, field.dec, start, shape=field.shape, order=order)
    return made, time.perf_counter() - begun


def error(field, made):
    """Squared radial error in pixels, over the frame (its mean), and the largest."""
    side = np.linspace(0, field.shape[0] - 1, 15)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    off = field.pixels(*from_tangent(made.plane(grid), made.centre)) - grid
    return float(np.mean(np.sum(off**2, axis=1))), float(np.max(np.hypot(*off.T)))


def fields(count, dec, first=0, **more):
    """Share that is solved, and wrongly so; the error over what the noise of the stars allows; seconds."""
    right = wrong = 0
    squares, seconds = [], []
    for seed in range(first, first + count):
        field = sky_field([dec_seed(dec), seed], dec=dec, **more)
        made, took = solved(field)
        seconds.append(took)
        if made is None:
            continue
        mean, worst = error(field, made)
        if worst < 2:
            right += 1
            squares.append(mean / (field.noise**2 * 2 * 3 / np.count_nonzero(made.kept)))
        else:
            wrong += 1
    return right / count, wrong, float(np.sqrt(np.mean(squares))), float(np.median(seconds))


def dec_seed(dec):
    return round(dec * 10) + 900


def unrelated(count, first=0):
    """How many images are accepted in a catalogue of another piece of sky, and the best log-odds."""
    accepted, best = 0, []
    for seed in range(first, first + count):
        one, two = sky_field([1, seed]), sky_field([2, seed])
        found = find_field(one.xy, two.ra, two.dec, shape=one.shape, centre=two.patch, scale=(1 / 1.1, 1.1))
        accepted += found.found is not None
        best.append(found.best)
    return accepted, np.array(best)


def trials(count, seed=0, each=2000):
    """Log-odds of single guesses between fields that have nothing in common but a triangle."""
    rng, made = np.random.default_rng([3, seed]), []
    while len(made) < count:
        one, two = rng.uniform(0, 1024, (90, 2)), rng.uniform(0, 3000, (1500, 2))
        shapes = asterisms(one, brightest(one, 40)), figures(two, [600, 1000])
        tolerance = Tolerance(noise=(0.4, 0.04), scale=(1 / 1.1, 1.1))
        found = guesses(*shapes, tolerance)
        for k in range(min(len(found.parity), each)):
            single = type(found)(*(values[k : k + 1] for values in found))
            made.append(judge(one, two, single, tolerance=tolerance, enough=99.0).log_odds)
    return np.array(made[:count])


def real_sky(count, path):
    """Images of stars and galaxies of a real catalogue, in pieces of it that are elsewhere: accepted, best log-odds."""
    from astropy.table import Table

    table = Table.read(path)
    table = table[np.argsort(np.asarray(table["r"], float), kind="stable")]
    ra, dec = (np.asarray(table[name], float) for name in ("ra", "dec"))
    low, high = (np.array([ra.min(), dec.min()]), np.array([ra.max(), dec.max()]))
    rng, accepted, best = np.random.default_rng(17), 0, []
    while len(best) < count:
        here, there = rng.uniform(low + 0.3, high - 0.3, (2, 2))
        if np.hypot(*(here - there)) < 0.9:
            continue
        xy = (np.stack([ra, dec], axis=1) - here) * 3600 / 0.4 + 1024
        seen = xy[((xy > 0) & (xy < 2048)).all(axis=1)]
        near = np.hypot(ra - there[0], dec - there[1]) < 0.6
        found = find_field(
            seen, ra[near], dec[near], shape=(2048, 2048), centre=(float(there[0]), float(there[1])), scale=(0.36, 0.44)
        )
        accepted += found.found is not None
        best.append(found.best)
    return accepted, np.array(best)


def main(few):
    for dec in (0.0, 85.0, 89.9):
        share, wrong, ratio, seconds = fields(20 if few else 400, dec)
        print(f"dec {dec}: {100 * share:.2f} % solved, {wrong} wrong, error {ratio:.3f} of the noise, {seconds:.3f} s")
    accepted, best = unrelated(30 if few else 1000)
    print(f"unrelated: {accepted} of {len(best)} accepted, log-odds {best.max():.1f} at best")
    path = DATA / "sdss" / "reference-catalog.fits.gz"
    if path.exists():
        accepted, best = real_sky(30 if few else 1000, path)
        print(f"real sky elsewhere: {accepted} of {len(best)} accepted, log-odds {best.max():.1f} at best")
    made = trials(3000 if few else 100_000)
    for limit in range(0, 11, 2):
        most = len(made) * np.exp(-limit)
        print(f"chance: {np.count_nonzero(made > limit)} of {len(made)} above {limit}, at most {most:.1f} expected")


if __name__ == "__main__":
    main("--few" in sys.argv)
