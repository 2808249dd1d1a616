"""Which stars are chosen, and the reasons why others are not."""

import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms.psf_stars import ChooseOptions, choose_stars
from larun.errors import OptionError


def field(count=400, side=1000, seed=1):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-0.5, side - 0.5, (2, count))
    flux = 10 ** rng.uniform(2, 5, count)
    return np.zeros((side, side), np.uint32), x, y, flux, np.sqrt(flux + 4000)


def test_chosen_stars_are_bright_whole_and_alone():
    flags, x, y, flux, error = field()
    flags[200:400, 300:500] |= fl.SATURATED
    flags[600, :] |= fl.INTERPOLATED  # this does no harm
    chosen = choose_stars(flags, x, y, flux, error, fwhm=3.0)
    index = chosen.chosen
    assert index.size > 40
    assert np.all(flux[index] / error[index] >= 50)
    assert not np.any((x[index] > 300) & (x[index] < 500) & (y[index] > 200) & (y[index] < 400))
    assert x[index].min() >= 6
    assert x[index].max() <= 993
    for star in index:
        near = np.hypot(x - x[star], y - y[star]) < 12
        assert np.sum(near & (flux > 0.01 * flux[star])) == 1
    assert index.size + sum(chosen.refused.values()) == x.size
    assert all(chosen.refused[reason] > 0 for reason in ("too faint", "saturated or masked", "with a neighbour"))
    # nothing that is good was left
    good = np.flatnonzero((flux / error >= 50) & (x > 6) & (x < 993) & (y > 6) & (y < 993))
    assert set(index) <= set(good)


def test_a_saturated_pixel_counts_as_far_as_one_and_a_half_fwhm():
    flags = np.zeros((100, 100), np.uint32)
    flags[50, 54] = fl.SATURATED
    for x, whole in ((49.4, True), (49.6, False), (52.0, False)):
        assert (choose_stars(flags, [x], [50.0], [1e4], [50.0], fwhm=3.0).chosen.size == 1) == whole


def test_a_faint_neighbour_does_not_count_and_a_brighter_one_does():
    flags = np.zeros((100, 100), np.uint32)
    for ratio, chosen in ((0.005, [0]), (0.02, []), (50.0, []), (200.0, [1])):
        found = choose_stars(flags, [50.0, 55], [50.0, 50], [1e4, 1e4 * ratio], [50.0, 50], fwhm=2.0)
        assert found.chosen.tolist() == chosen


def test_too_many_are_thinned_all_over_the_image():
    rng = np.random.default_rng(2)
    step = np.arange(20, 980, 40.0)
    x, y = (part.ravel() for part in np.meshgrid(step, step))
    flux = np.where(x < 500, 1e6, 1e5) * rng.uniform(0.9, 1.1, x.size)
    options = ChooseOptions(most=64)
    found = choose_stars(np.zeros((1000, 1000), np.uint32), x, y, flux, np.sqrt(flux), fwhm=3.0, options=options)
    assert found.chosen.size == 64
    counts = np.histogram2d(x[found.chosen], y[found.chosen], 4, [[0, 1000], [0, 1000]])[0]
    assert np.all(counts == 4)
    assert found.refused["more than are needed"] == x.size - 64


def test_what_has_no_value_is_not_chosen():
    none = np.zeros((100, 100), np.uint32)
    found = choose_stars(none, [np.nan, 50, 20], [50, 50, 20.0], [1e4, np.nan, 1e4], [10, 10, np.nan], fwhm=3.0)
    assert found.chosen.size == 0
    with pytest.raises(OptionError, match="fwhm = 0"):
        choose_stars(none, [50], [50], [1], [1], fwhm=0)
    with pytest.raises(OptionError, match="shapes"):
        choose_stars(none, [50], [50, 3], [1], [1], fwhm=3.0)
