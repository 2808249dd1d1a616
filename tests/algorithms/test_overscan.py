"""The overscan level against simulated overscans with known level, and on real frames."""

import math

import numpy as np
import pytest

from larun.algorithms.overscan import OverscanOptions, overscan_level
from larun.errors import OptionError
from tests.conftest import real_data

SHAPE = (1024, 32)
METHODS = [
    OverscanOptions(),
    OverscanOptions(method="polynomial", degree=2),
    OverscanOptions(method="spline", pieces=6),
]


def level_of(pixels, unusable=None, options=METHODS[0]):
    unusable = np.zeros(np.shape(pixels), bool) if unusable is None else unusable
    return overscan_level(pixels, unusable, options=options)


def counts(rng, level=1000.3, noise=5.0, shape=SHAPE):
    """Whole numbers, as a camera gives them."""
    return np.rint(level + rng.normal(0, noise, shape)).astype(np.float32)


def spoil(rng, pixels):
    """Every kind of outlier at once; returns how many pixels were touched."""
    before = pixels.copy()
    pixels[100:140, 8:30] += 4000  # a thick cosmic ray
    pixels[500, :] = 65535  # one along a whole row
    pixels[:, 12] += 15  # a warm column: 3 σ
    pixels[:, 20] += 500  # a hot one
    pixels[:, 25] = 0  # a dead one
    pixels[:, :4] += [-100, 8, 3, 1.5]  # trailing charge
    rows, columns = rng.integers(0, SHAPE[0], 60), rng.integers(0, SHAPE[1], 60)
    pixels[rows, columns] += rng.exponential(300, 60)
    return int((pixels != before).sum())


@pytest.mark.parametrize("options", METHODS, ids=lambda options: options.method)
def test_acceptance_15_outliers_do_not_move_the_level(rng, options):
    shift = []
    for _ in range(60):
        pixels = counts(rng)
        spoil(rng, pixels)
        found = level_of(pixels, options=options)
        shift.append(np.sqrt(np.mean((found.level - 1000.3) ** 2)) / found.level_error)
        assert found.noise == pytest.approx(math.hypot(5, 0.29), rel=0.02)
    assert max(shift) < 3
    assert np.sqrt(np.mean(np.square(shift))) == pytest.approx(1, abs=0.25)


def test_acceptance_15_one_cosmic_ray_one_hot_column(rng):
    pixels = counts(rng)
    clean = level_of(pixels)
    for where in (np.s_[300:304, 6:9], np.s_[:, 17], np.s_[77, :]):
        spoiled = pixels.copy()
        spoiled[where] += 800
        found = level_of(spoiled)
        assert abs(found.level[0] - clean.level[0]) < clean.level_error
        assert found.rejected >= np.count_nonzero((spoiled != pixels)[:, 4:])
    assert clean.rejected < 10


def test_level_is_not_quantised_to_counts(rng):
    levels = [level_of(counts(rng, 1000 + f, 3.0)).level[0] - 1000 for f in np.linspace(0, 0.9, 10)]
    np.testing.assert_allclose(levels, np.linspace(0, 0.9, 10), atol=0.06)


@pytest.mark.parametrize("noise", [0.05, 1.0, 3.0, 20.0])
def test_noise_is_the_read_noise_whatever_the_drift(rng, noise):
    drift = 5 * np.sin(np.linspace(0, 3, SHAPE[0]))[:, None] + np.linspace(0, 1, SHAPE[1])
    found = level_of(drift + rng.normal(1000, noise, SHAPE))
    assert found.noise == pytest.approx(noise, rel=0.02)
    assert np.ptp(found.level) == 0


@pytest.mark.parametrize("degree", range(5))
def test_polynomial_follows_a_polynomial(rng, degree):
    x = np.linspace(-1, 1, SHAPE[0])
    truth = np.polynomial.Polynomial(rng.normal(0, 10, degree + 1))(x)
    pixels = truth[:, None] + rng.normal(0, 4, SHAPE)
    pixels[40:60] += 3000
    found = level_of(pixels, options=OverscanOptions(method="polynomial", degree=degree))
    rms = np.sqrt(np.mean((found.level - truth) ** 2))
    assert rms < 3 * found.level_error
    used = np.r_[0:40, 60 : SHAPE[0]]
    plain = np.polynomial.Polynomial.fit(x[used], pixels[used, 4:].mean(axis=1), degree)(x)
    np.testing.assert_allclose(found.level, plain, atol=0.02)  # the same but for a few pixels over 4 σ


def test_spline_follows_a_bend_and_missing_rows(rng):
    truth = 8 * np.tanh((np.arange(SHAPE[0]) - 700) / 100)
    pixels = truth[:, None] + rng.normal(0, 4, SHAPE)
    unusable = np.zeros(SHAPE, bool)
    unusable[300:340] = True
    pixels[300:340] = np.nan
    found = level_of(pixels, unusable, OverscanOptions(method="spline", pieces=10))
    assert np.sqrt(np.mean((found.level - truth) ** 2)) < 1.5 * found.level_error
    assert np.isfinite(found.level).all()


def test_none_subtracts_nothing_and_measures_the_noise(rng):
    found = level_of(counts(rng), options=OverscanOptions(method="none"))
    assert not found.level.any()
    assert found.level_error == 0
    assert found.noise == pytest.approx(5, rel=0.03)


def test_small_and_poor_overscans():
    one = level_of(np.full((50, 5), 7.0))
    assert one.level[0] == 7
    assert math.isnan(one.noise)  # one column cannot tell noise from drift
    assert one.level_error == 0
    with pytest.raises(OptionError, match="lower skip"):
        level_of(np.ones((50, 4)))
    with pytest.raises(OptionError, match="no overscan pixel is usable"):
        level_of(np.ones((50, 9)), np.ones((50, 9), bool))
    with pytest.raises(OptionError, match="too few for the 11 coefficients"):
        level_of(np.ones((20, 9)), options=OverscanOptions(method="polynomial", degree=10))
    with pytest.raises(OptionError, match="must be equal"):
        level_of(np.ones((50, 9)), np.ones((50, 8), bool))


@pytest.mark.parametrize("bad", [{"method": "mean"}, {"degree": 11}, {"pieces": 0}, {"skip": -1}, {"skip": 1.5}])
def test_bad_options_are_named(bad):
    with pytest.raises(OptionError, match=f"overscan {next(iter(bad))} = "):
        OverscanOptions(**bad)


def test_real_overscan_of_the_nickel_camera():
    from astropy.io import fits

    with fits.open(real_data("nickel", "d1059.fits.fz")) as hdus:
        pixels = hdus[1].data[:, 1024:].astype(np.float32)
    plain = pixels.mean(axis=0)
    assert plain[0] < 900  # the first column is contaminated by over 100 ADU …
    found = level_of(pixels)
    assert found.level[0] == pytest.approx(959.75, abs=0.3)  # … and does not matter, skipped or not
    everything = level_of(pixels, options=OverscanOptions(skip=0))
    assert everything.level[0] == pytest.approx(found.level[0], abs=0.3)
    assert 5.3 < found.noise < 6.3
    assert found.level_error < 0.05
    spline = level_of(pixels, options=OverscanOptions(method="spline"))
    assert 1 < np.ptp(spline.level) < 12  # the level sinks at the last rows
