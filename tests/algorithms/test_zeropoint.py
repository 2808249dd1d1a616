import numpy as np
import pytest

from larun.algorithms.cholesky import inverse_of_positive
from larun.algorithms.zeropoint import Observations, fit_zero_points, legendre
from larun.errors import OptionError

ZERO, TERM = 24.7, 0.06


def one_frame(rng, n=500, *, noise=0.01, scatter=0.0, band_error=0.0, other_error=0.0, wrong=0.0, spread=0.4):
    """Stars of one frame whose colour is that of the fitted band and another; errors of both are in the colour too."""
    color = rng.normal(0.0, spread, n)
    first, second = rng.normal(0, 1, (2, n)) * np.array([[band_error], [other_error]])
    y = ZERO + TERM * color + rng.normal(0, np.hypot(noise, scatter), n) + first
    bad = rng.random(n) < wrong
    y[bad] += rng.normal(0, 0.4, int(bad.sum()))
    flat, none = np.ones(n), np.zeros(n, int)
    return Observations(
        difference=y,
        variance=flat * noise**2,
        star_variance=flat * band_error**2,
        star=np.arange(n),
        frame=none,
        instrument=none,
        color=color + first - second,
        color_variance=flat * (band_error**2 + other_error**2),
        color_covariance=flat * band_error**2,
    )


def pulls(rng, times, **options):
    made = []
    for _ in range(times):
        fit = fit_zero_points(one_frame(rng, **options))
        error = np.sqrt(np.diag(fit.covariance))
        found = np.array([fit.zero_point[0] - ZERO, fit.coefficients[0, 0] - TERM])
        made.append(np.concatenate([found, found / error, [fit.scatter]]))
    return np.array(made)


def test_acceptance_30_color_term_within_two_millimagnitudes():
    """500 stars of 10 mmag over 0.4 mag of colour: an error of 1.1 mmag/mag; its mean to 0.1 mmag/mag."""
    found = pulls(np.random.default_rng(30), 100)
    assert abs(found[:, 1].mean()) < 0.0004
    assert np.mean(np.abs(found[:, 1]) < 0.002) > 0.85  # 2 mmag/mag are 1.8 sigma
    assert np.all(np.abs(found[:, 3]) < 4.2)
    assert np.mean(np.abs(found[:, 3]) < 3) > 0.97


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scatter": 0.02},
        {"wrong": 0.1, "scatter": 0.01},
        {"band_error": 0.02, "other_error": 0.02, "scatter": 0.01},
        {"band_error": 0.06, "other_error": 0.05, "spread": 0.3, "n": 1500},
        {"n": 25, "scatter": 0.02},
    ],
    ids=["plain", "scatter", "wrong stars", "reference errors", "large reference errors", "few stars"],
)
def test_errors_are_those_of_the_scatter_of_many_fits(options):
    found = pulls(np.random.default_rng(4), 150, **options)
    for pull in found[:, 2:4].T:
        assert 0.83 < pull.std() < 1.18  # 1 within three of its own errors, 6 %
        assert abs(pull.mean()) < 0.2


def test_a_color_with_errors_does_not_bias_its_term():
    """Errors of 50 mmag that the magnitude shares would move it by var/var = 0.0025/0.095 = 27 mmag/mag."""
    options = {"band_error": 0.05, "other_error": 0.05, "spread": 0.3, "n": 800}
    found = pulls(np.random.default_rng(7), 100, **options)
    assert abs(found[:, 1].mean()) < 3.5 * found[:, 1].std() / np.sqrt(100) < 0.003
    plain = one_frame(np.random.default_rng(7), **options)
    naive = np.polyfit(plain.color, plain.difference, 1)[0]
    assert naive - TERM > 0.015


def test_scatter_is_found_and_is_nothing_where_there_is_none():
    found = pulls(np.random.default_rng(8), 60, scatter=0.02)
    assert found[:, 4].mean() == pytest.approx(0.02, rel=0.02)
    assert np.median(pulls(np.random.default_rng(9), 40)[:, 4]) < 0.004


def test_what_is_plainly_wrong_is_told_apart():
    rng = np.random.default_rng(11)
    given = one_frame(rng, scatter=0.01)
    given.difference[:40] += 0.5
    fit = fit_zero_points(given)
    assert np.all(fit.weight[:40] < 0.01)
    assert np.mean(fit.weight[40:] > 0.5) > 0.98
    assert fit.zero_point[0] == pytest.approx(ZERO, abs=0.003)


def many_frames(rng, frames=12, stars=60, *, reference=0.03, noise=0.008):
    """The same stars in many frames, each with one error of its catalogue magnitude in all of them."""
    star = np.tile(np.arange(stars), frames)
    frame = np.repeat(np.arange(frames), stars)
    color = rng.normal(0, 0.4, stars)
    known = rng.normal(0, reference, stars)
    zero = np.linspace(24.0, 24.5, frames)
    y = zero[frame] + TERM * color[star] + known[star] + rng.normal(0, noise, star.size)
    keep = rng.random(star.size) < 0.8
    n, none = int(keep.sum()), np.zeros(int(keep.sum()))
    given = Observations(
        difference=y[keep],
        variance=none + noise**2,
        star_variance=none + reference**2,
        star=star[keep],
        frame=frame[keep],
        instrument=np.zeros(n, int),
        color=color[star][keep],
        color_variance=none,
        color_covariance=none,
    )
    return given, zero


def test_errors_of_reference_stars_are_common_to_frames():
    """Frames against each other are known far better than their level, which no number of frames improves."""
    rng = np.random.default_rng(12)
    level, between, term = [], [], []
    for _ in range(100):
        given, zero = many_frames(rng)
        fit = fit_zero_points(given)
        off, covariance = fit.zero_point - zero, fit.covariance
        level.append(off[0] / np.sqrt(covariance[0, 0]))
        between.append((off[0] - off[5]) / np.sqrt(covariance[0, 0] + covariance[5, 5] - 2 * covariance[0, 5]))
        term.append((fit.coefficients[0, 0] - TERM) / np.sqrt(covariance[-1, -1]))
    for pull in (level, between, term):
        assert 0.82 < np.std(pull) < 1.18
    assert np.sqrt(covariance[0, 0]) > 0.0035
    assert np.sqrt(covariance[0, 0] + covariance[5, 5] - 2 * covariance[0, 5]) < 0.002


def test_a_star_that_changes_from_frame_to_frame_does_not_make_the_scatter():
    rng = np.random.default_rng(22)
    given, _ = many_frames(rng, reference=0.05)
    bad = np.flatnonzero(given.star < 5)[::3]
    given.difference[bad] += 0.15  # three times the catalogue's error, but twenty times the measurement's
    fit = fit_zero_points(given)
    assert fit.scatter < 0.004
    assert np.all(fit.weight[bad] < 0.5)
    assert np.mean(fit.weight[given.star >= 5] > 0.5) > 0.99


def test_each_instrument_has_its_own_color_term():
    rng = np.random.default_rng(13)
    one, two = one_frame(rng), one_frame(rng)
    joined = Observations(
        **{
            name: np.concatenate([getattr(one, name), getattr(two, name)])
            for name in ("difference", "variance", "star_variance", "color", "color_variance", "color_covariance")
        },
        star=np.arange(1000),
        frame=np.repeat([0, 1], 500),
        instrument=np.repeat([0, 1], 500),
    )
    joined.difference[500:] -= 0.3 + 0.1 * joined.color[500:]
    fit = fit_zero_points(joined)
    assert fit.coefficients[:, 0] == pytest.approx([TERM, TERM - 0.1], abs=0.005)
    assert fit.zero_point == pytest.approx([ZERO, ZERO - 0.3], abs=0.003)


def test_a_tilted_response_is_fitted_and_leaves_the_mean():
    rng = np.random.default_rng(14)
    x, y = rng.uniform(-1, 1, (2, 500))
    given = one_frame(rng)
    given.difference[:] += 0.05 * x - 0.04 * (1.5 * y**2 - 0.5)
    terms = legendre(x, y, 2)
    names = ("difference", "variance", "star_variance", "star", "frame", "instrument", "color")
    fit = fit_zero_points(Observations(**{name: getattr(given, name) for name in names}, terms=terms))
    assert fit.coefficients[0] == pytest.approx([TERM, 0.0, 0.05, -0.04, 0.0, 0.0], abs=0.004)
    assert fit.zero_point[0] == pytest.approx(ZERO, abs=0.003)


def test_the_order_of_stars_decides_nothing_but_rounding():
    given = one_frame(np.random.default_rng(15), wrong=0.1)
    fit = fit_zero_points(given)
    names = [n for n in Observations.__annotations__ if getattr(given, n) is not None]
    back = fit_zero_points(Observations(**{name: getattr(given, name)[::-1].copy() for name in names}))
    assert back.zero_point == pytest.approx(fit.zero_point, abs=1e-8)


def test_zero_points_without_any_other_term():
    given = one_frame(np.random.default_rng(21), spread=0.0)
    names = ("difference", "variance", "star_variance", "star", "frame", "instrument")
    fit = fit_zero_points(Observations(**{name: getattr(given, name) for name in names}))
    assert fit.coefficients.shape == (1, 0)
    assert fit.zero_point[0] == pytest.approx(given.difference.mean(), abs=2e-4)
    assert np.sqrt(fit.covariance[0, 0]) == pytest.approx(0.01 / np.sqrt(500), rel=0.05)


def test_what_cannot_be_told_is_refused():
    given = one_frame(np.random.default_rng(16), band_error=0.3, other_error=0.3, spread=0.1)
    with pytest.raises(OptionError, match="errors of the colours make"):
        fit_zero_points(given)
    with pytest.raises(OptionError, match="2 measurements for 2 unknowns"):
        fit_zero_points(one_frame(np.random.default_rng(17), n=2))


def test_inverse_of_a_positive_matrix():
    a = np.random.default_rng(18).normal(size=(40, 60))
    matrix = a @ a.T
    assert inverse_of_positive(matrix) @ matrix == pytest.approx(np.eye(40), abs=1e-10)
    with pytest.raises(OptionError, match="depends on the others"):
        inverse_of_positive(np.ones((2, 2)))
