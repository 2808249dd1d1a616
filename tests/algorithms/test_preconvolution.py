"""Stars that are long along one axis in one image, and along another in the other."""

import numpy as np
import pytest

from larun.algorithms.fwhm import FwhmEstimate
from larun.algorithms.preconvolution import blur_of, blurred, missing_blur
from larun.algorithms.psf import moffat_psf
from larun.algorithms.score import score, star_psf
from larun.algorithms.subtraction import SubtractOptions, subtract
from larun.algorithms.taken import look_at

SHAPE = (360, 380)


def crossed(seed, theta=(0.0, 90.0), ratio=0.65, sky=(300.0, 300.0)):
    """Science and reference, the PSF of the first, and its variance."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-5, SHAPE[1] + 4, 300), rng.uniform(-5, SHAPE[0] + 4, 300)
    flux = 300 * (1e5 / 300) ** (rng.uniform(0, 1, 300) ** 2.5)
    psfs = [moffat_psf(3.3, 3.5, ratio=ratio, theta=turn, radius=18, oversampling=3) for turn in theta]
    light = [psf.draw(SHAPE, x, y, flux) + level for psf, level in zip(psfs, sky, strict=True)]
    planes = [(rng.poisson(part) + rng.normal(0, 6.0, SHAPE)).astype(np.float32) for part in light]
    none = np.zeros(SHAPE, np.uint32)
    taken = [look_at(data, (part + 36).astype(np.float32), none) for data, part in zip(planes, light, strict=True)]
    return taken, psfs[0], light[0] + 36


def scored(science, reference, **how):
    made = subtract(science, reference, options=SubtractOptions(**how))
    kept, other = (reference, science) if made.convolved == "science" else (science, reference)
    return made, score(made, kept, other, star_psf(kept)).data


@pytest.mark.parametrize("case", [{}, {"sky": (300.0, 60.0)}])
def test_crossed_stars_leave_no_rings(case):
    (science, reference), psf, variance = crossed(3, **case)
    plain, before = scored(science, reference, preconvolve=False)
    made, after = scored(science, reference)
    assert plain.blur == 0 < 1.2 < made.blur < 2
    rings = [int((np.abs(plane) > 5).sum()) for plane in (before, after)]
    print(rings)
    assert rings[0] > 10
    assert rings[1] <= 3
    good = made.flags == 0
    star, sky = good & (variance > 2 * np.median(variance)), good & (variance < 1.1 * np.median(variance))
    assert after[sky].std() == pytest.approx(1, abs=0.05)
    assert after[star].std() == pytest.approx(1, abs=0.15)
    assert after[star].std() < 0.8 * before[star].std()
    # noise that stays correlated is told
    pull = made.data / np.sqrt(made.science_variance + made.reference_variance)
    middle = len(made.acf) // 2
    both = sky[:, 1:] & sky[:, :-1]
    assert pull[sky].std() == pytest.approx(1, abs=0.07)
    assert np.mean((pull[:, 1:] * pull[:, :-1])[both]) == pytest.approx(made.acf[middle, middle + 1], abs=0.1)
    # what is new keeps its flux, and nearly its signal to noise
    light = psf.draw(SHAPE, [150.3], [180.2], [3000.0]).astype(np.float32)
    new, found = scored(science._replace(data=science.data + light), reference)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    near = np.hypot(rows - 180.2, columns - 150.3) < 14
    assert (new.data - made.data)[near].sum() / 3000 == pytest.approx(1, abs=0.012)
    _, seen = scored(science._replace(data=science.data + light), reference, preconvolve=False)
    close = np.hypot(rows - 180.2, columns - 150.3) < 3
    assert (found - after)[close].max() > 0.94 * (seen - before)[close].max()


def test_round_and_little_elongated_stars_need_none():
    wide, narrow = FwhmEstimate(4.0, 50, 4.0), FwhmEstimate(3.0, 50, 3.0)
    assert missing_blur(wide, narrow) == 0
    assert missing_blur(narrow, FwhmEstimate(5.0, 50, 5.0)) > 1.5  # and where the wider one is to be convolved
    assert missing_blur(FwhmEstimate(3.0, 50, 2.8, 0.1, 0.0), FwhmEstimate(3.0, 50, 2.8, -0.1, 0.05)) == 0
    (science, reference), _, _ = crossed(4, ratio=0.9)
    one, other = (subtract(science, reference, options=SubtractOptions(preconvolve=on)) for on in (True, False))
    assert one.blur == 0
    assert np.array_equal(one.data, other.data, equal_nan=True)
    assert subtract(science, reference, options=SubtractOptions(decorrelate=False)).blur == 0


def test_a_blurred_image_knows_its_noise(rng):
    data = rng.normal(100, 5, (300, 300)).astype(np.float32)
    image = look_at(data, np.full(data.shape, 25, np.float32), np.zeros(data.shape, np.uint32), gain=2.0)
    twice = blurred(blurred(image, blur_of(1.0)), blur_of(1.0))
    inner = twice.data[40:-40, 40:-40]
    assert np.median(twice.variance[40:-40, 40:-40]) == pytest.approx(inner.var(), rel=0.03)
    middle, centred = len(twice.acf) // 2, inner - inner.mean()
    lag = np.mean(centred[:, 1:] * centred[:, :-1]) / inner.var()
    assert twice.acf[middle, middle + 1] == pytest.approx(lag, abs=0.01)
    assert image.gain < twice.gain
