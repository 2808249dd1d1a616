"""Zero points of frames by their comparison stars, against what they were made of."""

import numpy as np
import pytest

from larun.algorithms.ensemble import EnsembleOptions, calibrated, fit_ensemble
from larun.errors import CatalogError, OptionError


def series(seed, frames=60, stars=12, slope=0.01):
    rng = np.random.default_rng(seed)
    places = rng.uniform(-1, 1, (stars, 2))
    bright = rng.uniform(10, 12, stars)
    noise = np.broadcast_to(0.002 * 10 ** (0.3 * (bright - 10)), (frames, stars)).copy()
    zero, plane = rng.normal(0, 0.1, frames), rng.normal(0, slope, (frames, 2))
    made = zero[:, None] + bright + np.sum(plane[:, None, :] * places, axis=2) + rng.normal(0, noise)
    return made, noise, places, zero, plane, rng


def test_zero_points_and_their_errors_are_right():
    found, here = [], np.array([0.3, -0.2])
    for seed in range(40):
        magnitude, noise, places, zero, plane, _ = series(seed)
        value, error = fit_ensemble(magnitude, noise, places).at(here)
        away = value - (zero + plane @ here)
        found.append((away - away.mean()) / error)
    assert np.std(found) == pytest.approx(1.0, abs=0.05)


def test_stars_against_the_others_scatter_as_their_errors_say():
    magnitude, noise, _, _, _, _ = series(3, frames=400, slope=0.0)
    made = fit_ensemble(magnitude, noise)
    assert np.std(made.residual / made.residual_error) == pytest.approx(1.0, abs=0.05)
    # leaving a star out by arithmetic is leaving it out
    less = fit_ensemble(magnitude[:, 1:], noise[:, 1:])
    alone = magnitude[:, 0] - less.zero
    assert made.residual[:, 0] == pytest.approx(alone - alone.mean(), abs=3e-4)


def test_a_variable_star_is_left_out_and_a_bad_point_does_not_count():
    magnitude, noise, _, zero, _, _ = series(5, slope=0.0)
    magnitude[:, 3] += 0.05 * np.sin(np.arange(60) / 5)
    magnitude[10, 4] += 1.0
    magnitude[20:24, 5] = np.nan
    made = fit_ensemble(magnitude, noise)
    assert not made.used[3]
    assert made.used.sum() == 11
    away = made.zero - zero
    assert abs(away[10] - np.median(away)) < 0.006
    assert np.isnan(made.residual[20:24, 5]).all()
    assert made.excess[4] < 0.003
    assert np.std(away) < 0.0015


def test_a_star_that_scatters_more_than_its_noise_counts_for_less():
    magnitude, noise, _, _, _, rng = series(6, slope=0.0)
    magnitude[:, 0] += rng.normal(0, 0.004, 60)
    made = fit_ensemble(magnitude, noise, options=EnsembleOptions(reject=10))
    assert made.used[0]
    assert made.excess[0] == pytest.approx(0.004, rel=0.35)


def test_frames_without_enough_stars_have_no_zero_point():
    magnitude, noise, places, _, _, _ = series(7)
    magnitude[5, 2:] = np.nan
    made = fit_ensemble(magnitude, noise, places)
    assert np.isnan(made.zero[5])
    assert np.isfinite(np.delete(made.zero, 5)).all()
    with pytest.raises(CatalogError, match="needed"):
        fit_ensemble(magnitude[:, :2], noise[:, :2], places[:2])
    with pytest.raises(OptionError, match="reject"):
        EnsembleOptions(reject=0.5)


def test_calibrated_flux_and_its_error():
    zero = np.array([0.0, 0.1, -0.1])
    flux = 1000 * 10 ** (-0.4 * zero)
    made, error, middle = calibrated(flux, np.full(3, 10.0), zero, np.full(3, 0.01))
    assert made == pytest.approx([1, 1, 1])
    assert middle == pytest.approx(1000)
    assert error[0] == pytest.approx(np.hypot(0.01, 0.01 / 1.0857), rel=1e-3)
