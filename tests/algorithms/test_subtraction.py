import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms import jit
from larun.algorithms.subtraction import SubtractOptions, subtract
from larun.algorithms.taken import look_at
from larun.errors import NotAligned, OptionError
from tests.algorithms.pair_fields import pair

SHAPE = (420, 440)


def nothing(shape=SHAPE):
    return np.zeros(shape, np.uint32)


def both(field, flags=None):
    one, two = flags or (nothing(field.science.shape), nothing(field.science.shape))
    return (
        look_at(field.science, field.science_variance, one),
        look_at(field.reference, field.reference_variance, two),
    )


def pulls(made):
    good = made.flags == 0
    with np.errstate(invalid="ignore"):
        return np.where(good, made.data / np.sqrt(made.science_variance + made.reference_variance), 0.0), good


CASES = {
    "sharper reference": {"seed": 4},
    "sharper science": {"seed": 5, "fwhm": (2.7, 3.6)},
    "deep reference": {"seed": 6, "sky": (300.0, 60.0), "read_noise": 3.0},
    "noisy reference": {"seed": 7, "sky": (300.0, 1500.0)},
    "much sharper": {"seed": 8, "fwhm": (5.5, 3.0)},
    "fainter": {"seed": 9, "scale": 0.5},
}


@pytest.mark.parametrize("case", CASES)
def test_noise_is_what_it_says_and_white(case):
    field = pair(SHAPE, **CASES[case])
    made = subtract(*both(field))
    assert made.convolved == ("science" if case == "sharper science" else "reference")
    pull, good = pulls(made)
    typical = np.median(field.science_variance)
    sky, star = good & (field.science_variance < 1.1 * typical), good & (field.science_variance > 2 * typical)
    assert sky.sum() > 60_000
    assert abs(pull[sky].mean()) < 0.03
    assert pull[sky].std() == pytest.approx(1, abs=0.01)
    assert pull[star].std() == pytest.approx(1, abs=0.08)
    for lag in (1, 2, 3):
        for one, two, know in (
            (pull[:, :-lag], pull[:, lag:], sky[:, :-lag] & sky[:, lag:]),
            (pull[:-lag], pull[lag:], sky[:-lag] & sky[lag:]),
        ):
            assert abs(np.mean((one * two)[know])) < 0.016
    blocks = pull.reshape(84, 5, 88, 5).sum((1, 3)) / 5  # sums feel every lag at once
    whole = sky.reshape(84, 5, 88, 5).all((1, 3))
    assert blocks[whole].std() == pytest.approx(1, abs=0.05)


def test_without_whitening_the_noise_is_as_correlated_as_it_says():
    field = pair(SHAPE, seed=7, sky=(300.0, 1500.0))
    made = subtract(*both(field), options=SubtractOptions(decorrelate=False))
    assert made.white is None
    pull, good = pulls(made)
    middle = made.acf.shape[0] // 2
    sky = good & (field.science_variance < 1.1 * np.median(field.science_variance))
    for lag in (1, 2, 3):
        seen = np.mean((pull[:, :-lag] * pull[:, lag:])[sky[:, :-lag] & sky[:, lag:]])
        assert seen == pytest.approx(made.acf[middle, middle + lag], abs=0.02)


@pytest.mark.parametrize("fwhm", [(3.6, 2.7), (2.7, 3.6)])
def test_what_is_new_keeps_its_flux(fwhm):
    """Injected into the science image, noise and stars as they are: the difference of two differences is the star.

    A few at a time: where a third of the cells of the sky hold a bright new star, their wings are part of the sky.
    """
    field = pair(SHAPE, fwhm=fwhm, seed=11)
    science, reference = both(field)
    made = subtract(science, reference)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    sums = np.zeros(2)
    for first in ((60, 60), (60, 160), (160, 60), (160, 160)):
        y, x = (part.ravel() + 0.3 for part in np.meshgrid(*(begin + np.array([0, 200]) for begin in first)))
        flux = np.random.default_rng(sum(first)).uniform(5000, 20000, x.size)
        star = field.psf.draw(SHAPE, x, y, flux).astype(np.float32)
        new = subtract(science._replace(data=science.data + star), reference)
        light = np.nan_to_num(new.data - made.data)
        near = [np.hypot(rows - b, columns - a) < 12 for a, b in zip(x, y, strict=True)]
        sums += [sum(float(plane[circle].sum()) for circle in near) for plane in (light, star)]
    assert sums[0] / sums[1] == pytest.approx(1, abs=0.005)


def test_swapped_images_give_the_opposite():
    field = pair(SHAPE, seed=12, scale=0.8)
    science, reference = both(field)
    made, swapped = subtract(science, reference), subtract(reference, science)
    assert (made.convolved, swapped.convolved) == ("reference", "science")
    assert swapped.fit.scale == made.fit.scale
    good = (made.flags == 0) & (swapped.flags == 0)
    assert np.allclose(swapped.data[good], -made.data[good] / made.fit.scale, rtol=1e-4, atol=1e-3)
    assert np.allclose(swapped.science_variance[good] * made.fit.scale**2, made.reference_variance[good], rtol=1e-4)


def test_bad_pixels_stay_flagged_and_spoil_nothing_else():
    field = pair(SHAPE, seed=13)
    clean = subtract(*both(field))
    flags = nothing(), nothing()
    data = [field.science.copy(), field.reference.copy()]
    rng = np.random.default_rng(3)
    for plane, bits in zip(data, flags, strict=True):
        j, i = rng.integers(0, SHAPE[0], 40), rng.integers(0, SHAPE[1], 40)
        plane[j, i], bits[j, i] = 60_000, fl.COSMIC
    made = subtract(*both(field._replace(science=data[0], reference=data[1]), flags))
    assert np.all(made.flags[flags[0] != 0] & fl.COSMIC)
    assert np.all(made.flags[flags[1] != 0] & fl.COSMIC)
    grown = (made.flags & fl.COSMIC) != 0
    assert 80 * 4 < grown.sum() < 80 * 225
    pull, good = pulls(made)
    assert np.abs(pull[good]).max() < 7
    same = good & (clean.flags == 0)
    noise = np.sqrt(clean.science_variance + clean.reference_variance)
    assert np.abs((made.data - clean.data) / noise)[same].max() < 1  # another kernel, but hardly
    assert np.isnan(made.data[(made.flags & fl.NO_DATA) != 0]).all()


def test_single_pixels_as_a_basis():
    field = pair(SHAPE, seed=4)
    made = subtract(*both(field), options=SubtractOptions(basis="delta", order=1, half=5))
    pull, _ = pulls(made)
    assert pull[(made.flags == 0) & (field.science_variance < 400)].std() == pytest.approx(1, abs=0.02)
    assert made.fit.median_chi2 == pytest.approx(1, abs=0.15)


def test_threads_change_no_bit():
    field = pair((300, 310), seed=4, stars=250)
    made = []
    for count in (1, 3):
        jit.set_threads(count)
        try:
            made.append(subtract(*both(field), options=SubtractOptions(order=1)))
        finally:
            jit.set_threads(None)
    for name in ("data", "science_variance", "reference_variance", "flags"):
        assert getattr(made[0], name).tobytes() == getattr(made[1], name).tobytes()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(OptionError, match="direction='both'"):
        SubtractOptions(direction="both")
    with pytest.raises(OptionError, match="half = 0"):
        SubtractOptions(half=0)
    empty = look_at(
        np.random.default_rng(1).normal(0, 1, (64, 64)).astype(np.float32), None, np.zeros((64, 64), np.uint32)
    )
    with pytest.raises(NotAligned, match="too few stars to tell how sharp it is"):
        subtract(empty, empty)
    with pytest.raises(NotAligned, match="0 stamps"):
        subtract(empty, empty, options=SubtractOptions(direction="reference"))
    small = look_at(np.ones((32, 40), np.float32), None, np.zeros((32, 40), np.uint32))
    with pytest.raises(OptionError, match="must be one"):
        subtract(empty, small)
