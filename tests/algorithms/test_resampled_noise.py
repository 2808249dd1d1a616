"""Correlated noise of resampled pixels: errors of apertures, star by star, against the scatter of many noise images."""

import math

import numpy as np
import pytest

from larun.algorithms.aperture import aperture_sums
from larun.algorithms.mapping import affine
from larun.algorithms.resample import ResampleOptions, resample
from larun.algorithms.resampled_noise import acf_at, mean_acf, moved, packed, term_of, unpacked
from larun.errors import OptionError

RADII = (1.5, 2.0, 3.0, 4.5, 6.0)
SIZE = 84
SHAPE = (SIZE, SIZE)
COUNT = 2000


def turned(angle, scale=1.0, dx=0.0, dy=0.0):
    c, s = math.cos(math.radians(angle)) * scale, math.sin(math.radians(angle)) * scale
    matrix, middle = np.array([[c, -s], [s, c]]), np.full(2, (SIZE - 1) / 2)
    return affine(matrix, middle - matrix @ middle + [dx, dy], SHAPE)


def places():
    rng = np.random.default_rng(7)
    y, x = np.mgrid[24 : SIZE - 24 : 6j, 24 : SIZE - 24 : 6j]
    return (item.ravel() + rng.uniform(-2, 2, item.size) for item in (x, y))


def ratios(mappings, kernel):
    """Reported over true sigma, (stars, radii), of the mean of an image on each of the mappings."""
    x, y = places()
    level = np.full(SHAPE, 25, np.float32)
    nothing = np.zeros(SHAPE, np.uint32)
    rng = np.random.default_rng(8)
    options = ResampleOptions(kernel=kernel)
    terms = tuple(term_of(mapping, kernel) for mapping in mappings)
    sums = []
    for _ in range(COUNT):
        made = [
            resample(rng.normal(0, 5, SHAPE).astype(np.float32), level, nothing, mapping, options=options)
            for mapping in mappings
        ]
        mean = np.mean([item.data for item in made], axis=0, dtype=np.float32)
        sums.append(aperture_sums(mean, None, nothing, x, y, RADII).sum)
    variance = np.sum([item.variance for item in made], axis=0, dtype=np.float32) / np.float32(len(mappings) ** 2)
    reported = aperture_sums(mean, variance, nothing, x, y, RADII, acf=acf_at(terms, x, y, RADII)).variance
    return np.sqrt(reported) / np.std(sums, axis=0)


@pytest.mark.parametrize(
    "mapping", [turned(0, dx=0.5, dy=0.5), turned(0, dx=0.2, dy=0.35), turned(5, dx=0.1), turned(31)], ids=str
)
def test_errors_of_apertures_hold_star_by_star_after_a_shift_and_a_turn(mapping):
    found = ratios([mapping], "lanczos3")
    own = 1 / math.sqrt(2 * COUNT)
    assert np.max(np.abs(found.mean(axis=0) - 1)) < 0.012
    assert np.max(np.abs(found - 1)) < 0.05 + 2 * own
    assert np.percentile(np.abs(found - 1), 95) < 0.05
    assert np.max(found.std(axis=0)) < 1.6 * own  # the method's own error is below that of this test


@pytest.mark.parametrize(("kernel", "mapping"), [("bilinear", turned(5)), ("area", turned(8, 0.9))], ids=str)
def test_other_kernels_too(kernel, mapping):
    found = ratios([mapping], kernel)
    assert np.max(np.abs(found.mean(axis=0) - 1)) < 0.015
    assert np.percentile(np.abs(found - 1), 95) < 0.08


def test_the_mean_of_several_mappings():
    mappings = [turned(0.3 * k, dx=0.37 * k, dy=-0.23 * k) for k in range(5)]
    found = ratios(mappings, "lanczos3")
    assert np.max(np.abs(found.mean(axis=0) - 1)) < 0.012
    assert np.percentile(np.abs(found - 1), 95) < 0.05


def test_the_mean_correlation_is_that_of_the_pixels():
    mapping = turned(0, dx=0.5, dy=0.25)
    rng = np.random.default_rng(9)
    total, own = np.zeros((7, 7)), 0.0
    for _ in range(300):
        noise = rng.normal(0, 1, SHAPE).astype(np.float32)
        data = resample(noise, None, np.zeros(SHAPE, np.uint32), mapping).data[8:-8, 8:-8].astype(float)
        middle = data[3:-3, 3:-3]
        own += np.mean(middle**2)
        for dy in range(7):
            for dx in range(7):
                total[dy, dx] += np.mean(middle * data[dy : dy + middle.shape[0], dx : dx + middle.shape[1]])
    wanted = total / own
    np.testing.assert_allclose(mean_acf((term_of(mapping, "lanczos3"),), SHAPE), wanted, atol=0.006)


def test_pixels_that_are_only_moved_stay_white():
    white = np.zeros((7, 7))
    white[3, 3] = 1
    for kernel in ("lanczos3", "bilinear", "nearest", "area"):
        np.testing.assert_allclose(mean_acf((term_of(turned(0, dx=3), kernel),), SHAPE), white, atol=1e-7)


def test_terms_go_through_numbers_and_follow_a_crop():
    bent = turned(12, dx=0.3)
    bent = bent._replace(x=bent.x + 1e-5 * bent.y**2)
    terms = (term_of(turned(5), "lanczos3", 2.0), term_of(bent, "area"))
    row = packed(terms)
    again = unpacked(row)
    assert [(t.kernel, t.weight, t.origin) for t in again] == [("lanczos3", 2.0, (0, 0)), ("area", 1.0, (0, 0))]
    assert np.array_equal(packed(again), row)
    x, y = np.array([30.2, 41.0]), np.array([25.0, 33.3])
    there = acf_at(terms, x, y, [3.0])
    cropped = unpacked(moved(row, 10, 4))
    assert np.array_equal(acf_at(cropped, x - 10, y - 4, [3.0]), there)
    assert np.array_equal(acf_at(again, x, y, [3.0]), there)


def test_where_nothing_lies_noise_is_white_and_nothing_breaks():
    mapping = turned(0)
    lost = mapping._replace(x=np.full_like(mapping.x, np.nan))
    white = np.zeros((7, 7))
    white[3, 3] = 1
    assert np.array_equal(acf_at((term_of(lost, "lanczos3"),), [5.0, np.nan], [5.0, 1.0], [2.0])[:, 0], [white, white])


@pytest.mark.parametrize("row", [[9.0], [0, 1, 0, 0, 0, 2, 2], [7, 1, 0, 0, 1, 2, 2] + [0] * 8, [0, 1, 0, 0, 1, 9, 9]])
def test_other_numbers_are_refused(row):
    with pytest.raises(OptionError, match="how an image was resampled"):
        unpacked(np.array(row, np.float64))
