"""Repeated fluxes: the scale of the errors and the multiplicative term, with right errors of their own."""

import numpy as np
import pytest

from larun.algorithms.repeats import repeated_fluxes
from larun.errors import OptionError


def night(seed, *, stars=200, frames=8, term=0.0, wrong=1.0, missing=0.1, floor=2500.0):
    """Fluxes and reported errors: Poisson and background noise, thin clouds, stars that are missing."""
    rng = np.random.default_rng(seed)
    flux = 10 ** rng.uniform(3.0, 5.5, stars)
    true = np.outer(flux, np.exp(rng.normal(0, 0.1, frames)))
    seen = true * (1 + term * rng.standard_normal(true.shape))
    seen = seen + np.sqrt(true + floor) * rng.standard_normal(true.shape)
    error = wrong * np.sqrt(np.maximum(seen, 0) + floor)
    seen[rng.random(seen.shape) < missing] = np.nan
    return seen, error, true


@pytest.mark.parametrize("term", [0.0, 0.01])
@pytest.mark.parametrize(("frames", "known"), [(2, None), (8, None), (8, (1.0, 0.001))])
def test_both_numbers_are_right_and_scatter_by_their_errors(term, frames, known):
    nights = (night(seed, term=term, frames=frames)[:2] for seed in range(60))
    found = np.array([repeated_fluxes(*fluxes, known_scale=known)[:4] for fluxes in nights])
    scale, scale_error, square, square_error = found.T
    assert abs(scale.mean() - 1) < 0.02 + 0.3 * scale_error.mean()
    assert abs(square.mean() - term**2) < 0.35 * square_error.mean() + 0.02 * term**2
    assert 0.8 < scale.std(ddof=1) / scale_error.mean() < 1.2
    assert 0.8 < square.std(ddof=1) / square_error.mean() < 1.2


def test_a_scale_that_is_known_sharpens_the_term_unless_the_stars_deny_it():
    flux, error, _ = night(2, term=0.01)
    free = repeated_fluxes(flux, error)
    known = repeated_fluxes(flux, error, known_scale=(1.0, 0.01))
    assert known.term_error < 0.95 * free.term_error
    assert known.scale == free.scale
    assert repeated_fluxes(flux, error, known_scale=(1.5, 0.01)).term == free.term


def test_errors_that_are_too_small_and_too_large():
    for wrong in (0.75, 1.3):
        found = repeated_fluxes(*night(3, wrong=wrong)[:2], poisson=False)
        assert found.scale == pytest.approx(1 / wrong, abs=5 * found.scale_error)


def test_clouds_are_found_and_pulls_are_unit_normal():
    flux, error, true = night(5)
    found = repeated_fluxes(flux, error)
    clouds = np.exp(np.mean(np.log(true / true[:, :1]), axis=0))
    clouds /= np.exp(np.mean(np.log(clouds)))
    np.testing.assert_allclose(found.throughput, clouds, rtol=0.005)
    pulls = found.pulls[found.used]
    assert np.std(pulls) == pytest.approx(1, abs=0.06)


def test_variable_stars_and_outliers_do_not_count():
    flux, error, _ = night(7)
    rng = np.random.default_rng(7)
    flux[:10] *= np.exp(0.3 * rng.standard_normal((10, flux.shape[1])))
    flux[50, 2] *= 3
    flux[70, 5] *= 0.2
    found = repeated_fluxes(flux, error)
    assert found.scale == pytest.approx(1, abs=4 * found.scale_error)
    assert found.term < 4 * found.term_error
    assert not found.used[50, 2]
    assert not found.used[70, 5]
    assert found.used[:10].mean() < 0.2


def test_stars_of_one_brightness_cannot_tell_the_terms_apart():
    rng = np.random.default_rng(1)
    flux = 1e4 + 100 * rng.standard_normal((50, 6))
    found = repeated_fluxes(flux, np.full(flux.shape, 100.0), poisson=False)
    assert found.scale == pytest.approx(1, abs=0.2)
    assert not found.term > 5 * found.term_error


def test_too_little_is_refused():
    with pytest.raises(OptionError, match="at least 3"):
        repeated_fluxes(np.ones((2, 5)), np.ones((2, 5)))
    with pytest.raises(OptionError, match="shapes"):
        repeated_fluxes(np.ones((2, 5)), np.ones((2, 4)))
