"""Positions of one image on another."""

import numpy as np
import pytest
from astropy.wcs import WCS

from larun.algorithms.mapping import affine, mapped
from larun.detector import Section
from larun.errors import OptionError


def _wcs(ra, dec, scale, angle=0.0, crpix=(500, 500)):
    made = WCS(naxis=2)
    made.wcs.ctype = "RA---TAN", "DEC--TAN"
    made.wcs.crval, made.wcs.crpix = (ra, dec), crpix
    c, s = np.cos(angle), np.sin(angle)
    made.wcs.cd = np.array([[-c, s], [s, c]]) * scale / 3600
    return made


def test_linear_mapping_is_right_everywhere():
    matrix, offset = np.array([[0.9, -0.2], [0.3, 1.1]]), np.array([3.5, -70.25])
    made = affine(matrix, offset, (300, 500))
    x, y = np.random.default_rng(1).uniform(-1, (500, 300), (1000, 2)).T
    there = made.at(x, y)
    wanted = matrix @ np.stack([x, y]) + offset[:, None]
    np.testing.assert_allclose(np.stack(there), wanted, rtol=0, atol=2**-25)  # nodes are multiples of 2⁻²⁴
    assert made.scale() == pytest.approx(np.sqrt(np.linalg.det(matrix)))


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
@pytest.mark.parametrize("dec", [10.0, 89.9])
def test_a_wcs_is_followed_within_the_tolerance_that_was_asked_for(dec, tolerance):
    one, two = _wcs(10.0, dec, 2.0), _wcs(10.1, dec - 0.02, 1.7, 0.6)

    def function(x, y):
        return two.wcs_world2pix(*one.wcs_pix2world(x, y, 0), 0)

    made = mapped(function, (900, 1100), tolerance=tolerance)
    assert made.error <= tolerance
    x, y = np.random.default_rng(2).uniform(0, 899, (2, 20_000))
    here, true = made.at(x, y), function(x, y)
    assert np.max(np.hypot(here[0] - true[0], here[1] - true[1])) <= 1.1 * tolerance


def test_nodes_get_closer_only_where_a_mapping_is_bent():
    straight = mapped(lambda x, y: (x + 0.5, 2 * y), (200, 200))
    bent = mapped(lambda x, y: (x + 2e-4 * x**2, y), (200, 200))
    assert straight.step == 64
    assert bent.step < 16


def test_positions_without_counterpart_are_not_invented():
    def half(x, y):
        return np.where(x > 50, np.nan, x), y

    made = mapped(half, (40, 100))
    assert made.step == 1
    assert np.isnan(made.at(70, 20)[0])
    assert made.at(20, 20)[0] == 20


def test_senseless_mappings_are_refused():
    with pytest.raises(OptionError, match="cannot be inverted"):
        affine([[1, 1], [1, 1]], [0, 0], (10, 10))
    with pytest.raises(OptionError, match="finite"):
        affine([[1, 0], [0, np.nan]], [0, 0], (10, 10))
    with pytest.raises(OptionError, match="at least one pixel"):
        affine([[1, 0], [0, 1]], [0, 0], (0, 10))
    with pytest.raises(OptionError, match="tolerance"):
        mapped(lambda x, y: (x, y), (10, 10), tolerance=0)


@pytest.mark.parametrize("step", [64, 8, 1])
def test_parts_of_a_mapping_and_of_its_input_lie_at_the_same_places_to_the_last_bit(step):
    rng = np.random.default_rng(step)
    made = mapped(lambda x, y: (1.013 * x + 0.1 * y + 7.7 + 3e-6 * x * y, y - 0.07 * x + 91.3), (190, 333), tolerance=9)
    y, x = np.mgrid[: -(-191 // step) + 1, : -(-334 // step) + 1] * float(step) - 1
    at_x, at_y = made.at(x, y)
    made = made._replace(step=step, x=np.rint(at_x * 2**24) / 2**24, y=np.rint(at_y * 2**24) / 2**24)
    for _ in range(200):
        y0, x0 = int(rng.integers(190)), int(rng.integers(333))
        section = Section(y0, int(rng.integers(y0 + 1, 191)), x0, int(rng.integers(x0 + 1, 334)))
        begin = rng.integers(0, 60, 2)
        part, before = made.part(section)
        y, x = np.mgrid[section.slices] + rng.integers(0, 2, 2)[:, None, None] / 2
        whole = made.at(x, y)
        here = part.on_part(*begin).at(x - section.x0 + before, y - section.y0)
        assert np.array_equal(here[0] + begin[0], whole[0])
        assert np.array_equal(here[1] + begin[1], whole[1])
        seen = made.sees(section, (1000, 1000), 3)
        assert seen.y0 <= max(whole[1].min() - 3, 0)
        assert seen.y1 >= whole[1].max() + 3
        assert seen.x1 >= whole[0].max() + 3
        assert seen.shape[0] <= np.ptp(whole[1]) + 12  # and not much more


def test_rows_of_a_mapping_are_those_of_the_whole():
    bent = mapped(lambda x, y: (x + 1e-4 * y**2, y - 2e-5 * x**2), (150, 90))
    y, x = np.mgrid[:150, :90].astype(float)
    whole = bent.at(x, y)
    for start, stop in ((0, 150), (17, 40), (64, 128), (149, 150)):
        part = bent.rows(start, stop)
        rows = part.at(x[: stop - start], y[: stop - start])
        assert all(np.array_equal(a, b[start:stop]) for a, b in zip(rows, whole, strict=True))
        inner = part.rows(0, 1).at(x[:1], y[:1])
        assert np.array_equal(inner[0], whole[0][start : start + 1])
    with pytest.raises(OptionError, match="must lie within"):
        bent.rows(100, 151)
