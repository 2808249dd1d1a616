"""Images are found among the stars of a catalogue, wherever on the sky, and never where they are not."""

import numpy as np
import pytest

from larun.algorithms.skymatch import FieldOptions, find_field, refine_field, rough, started
from larun.algorithms.skyplane import from_tangent
from larun.errors import OptionError
from tests.algorithms.sky_fields import sky_field
from tests.model.astrometry.acceptance import error, fields, solved, trials, unrelated


@pytest.mark.parametrize("dec", [0.0, 85.0, 89.9])
def test_acceptance_29_fields_with_half_of_the_stars_missing_and_half_spurious_are_solved(dec):
    share, wrong, _, seconds = fields(25, dec, first=10_000)
    assert share == 1.0
    assert wrong == 0
    assert seconds < 1.0


@pytest.mark.slow
def test_acceptance_29_solutions_are_as_good_as_the_positions_allow():
    _, _, ratio, _ = fields(200, 89.9, first=20_000)
    assert 0.9 < ratio < 1.2


def test_acceptance_29_unrelated_fields_are_not_accepted():
    accepted, best = unrelated(25, first=10_000)
    assert accepted == 0
    assert best.max() < 10


def test_acceptance_29_log_odds_mean_what_they_say():
    made = trials(4000, seed=1)
    for limit in (0.0, 1.0, 2.0, 4.0):
        expected = len(made) * np.exp(-limit)
        assert np.count_nonzero(made > limit) <= expected + 3 * np.sqrt(expected)
    assert np.count_nonzero(made > 0) > 10


def test_a_wide_range_of_scales_is_searched():
    field = sky_field(5, dec=60.0)
    made, _ = solved(field, factor=6.0)
    assert made is not None
    assert error(field, made)[1] < 1.0
    assert made.scale == pytest.approx(1.0, rel=1e-3)


def test_parity_rotation_and_scale_are_those_of_the_truth():
    seen = set()
    for seed in range(6):
        field = sky_field([8, seed], missing=0.1, spurious=0.1)
        made, _ = solved(field)
        seen.add(made.parity)
        assert made.parity == (1 if np.linalg.det(field.turn) < 0 else -1)
        north = field.turn @ (0.0, 1.0)
        assert np.exp(1j * np.radians(made.rotation)) == pytest.approx(complex(north[1], -north[0]), abs=1e-3)
        assert made.scale == pytest.approx(1.0, rel=1e-3)
    assert seen == {1, -1}


def test_distortion_is_followed_as_far_as_the_stars_tell():
    field = sky_field(3, stars=250, missing=0.2, spurious=0.2, noise=0.1)

    def bent(xy):
        u = (xy - field.middle) / 512
        return xy + 6.0 * u * np.sum(u**2, axis=1, keepdims=True)

    curved = field._replace(xy=bent(field.xy))
    side = np.linspace(0, 1023, 15)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    errors = {}
    for order in (None, 1):
        made, _ = solved(curved, order=order)
        off = field.pixels(*from_tangent(made.plane(bent(grid)), made.centre)) - grid
        errors[order] = np.sqrt(np.mean(off**2)), np.abs(off).max(), made.plane.degree
    assert errors[None][2] == 3
    assert errors[None][0] < 2 * 0.1 * np.sqrt(10 / 200)  # of one field, edges included
    assert errors[1][1] > 2.0


def test_the_pixel_of_contact_has_its_place():
    field = sky_field(4)
    made, _ = solved(field)
    at = made.plane(np.array([made.about]))
    assert np.abs(at).max() < 1e-10
    assert made.about == (511.5, 511.5)


def test_nothing_is_found_without_stars_or_at_other_scales():
    field = sky_field(6)
    given = {"shape": field.shape, "centre": field.patch, "scale": (0.9, 1.1)}
    assert find_field(field.xy[:4], field.ra, field.dec, **given).found is None
    assert find_field(field.xy, field.ra[:4], field.dec[:4], **given).found is None
    other = find_field(field.xy, field.ra, field.dec, **(given | {"scale": (1.5, 2.0)}))
    assert other.found is None
    assert other.tried > 100
    assert started(field.xy, field.ra, field.dec, other, shape=field.shape) is None


def test_a_start_that_is_wrong_gives_no_solution():
    field = sky_field(7)
    false = rough(lambda xy: field.sky(xy + 400.0), field.shape, 1, 0.5 / 3600)
    assert refine_field(field.xy, field.ra, field.dec, false, shape=field.shape, order=1) is None
    right = rough(field.sky, field.shape, 1, 1.5 / 3600)
    made = refine_field(field.xy, field.ra, field.dec, right, shape=field.shape, order=1)
    assert np.count_nonzero(made.kept) > 0.9 * field.common


def test_impossible_options_raise():
    for given in ({"noise": 0.0}, {"distortion": 0.5}, {"clip": 0.5}, {"highest_order": 9}, {"log_odds": 1.0}):
        with pytest.raises(OptionError, match=next(iter(given))):
            FieldOptions(**given)
