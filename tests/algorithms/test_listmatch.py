"""Two lists of the same stars: the transform is found whatever turn and scale, and never where there is none."""

import numpy as np
import pytest

from larun.algorithms.asterisms import alike, asterisms, brightest
from larun.algorithms.listmatch import figures, guesses, match_lists
from larun.algorithms.odds import Guesses, Tolerance, judge
from larun.errors import OptionError

SIZE = 2048.0


def lists(seed, *, count=500, wrong=0.4, noise=0.1, bend=0.0, shuffled=False):
    """Two lists, brightest first: some stars missing in each, as many spurious; and the transform of positions."""
    rng = np.random.default_rng(seed)
    sky, brightness = rng.uniform(0, SIZE, (count, 2)), rng.exponential(1, count)
    angle, scale, mirror = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 2), rng.choice([-1, 1])
    c, s = np.cos(angle), np.sin(angle)
    turn = scale * np.array([[c, -s * mirror], [s, c * mirror]])

    def transform(xy):
        u = (xy - SIZE / 2) / (SIZE / 2)
        bent = xy + bend * np.stack([u[:, 0] ** 2 + u[:, 0] * u[:, 1], u[:, 1] ** 2 - u[:, 0] * u[:, 1]], axis=1)
        return bent @ turn.T + (300.0, -200.0)

    def one(lead, unit):
        kept = rng.uniform(size=count) > wrong
        spurious = int(kept.sum() * wrong / (1 - wrong))
        xy = np.concatenate([lead(sky[kept]), lead(rng.uniform(0, SIZE, (spurious, 2)))])
        xy[: kept.sum()] += rng.normal(0, noise * unit, (kept.sum(), 2))
        faint = np.concatenate([brightness[kept] + rng.normal(0, 0.1, kept.sum()), rng.exponential(1, spurious)])
        order = rng.permutation(len(xy)) if shuffled else np.argsort(faint)
        return xy[order], np.concatenate([np.flatnonzero(kept), np.full(spurious, -1)])[order]

    first, second = one(lambda xy: xy, 1.0), one(transform, scale)
    return first, second, transform, (scale, mirror)


@pytest.mark.parametrize("seed", range(12))
def test_lists_with_many_wrong_stars_are_matched_whatever_their_turn_scale_and_mirror(seed):
    (one, id1), (two, id2), transform, (scale, mirror) = lists(seed)
    found = match_lists(one, two)
    assert found is not None
    assert found.parity == mirror
    assert found.scale == pytest.approx(scale, rel=2e-4)
    inside = np.random.default_rng(1).uniform(0, SIZE, (100, 2))
    assert np.abs(found.transform(inside) - transform(inside)).max() < 0.1 * scale
    right = (id1[found.first] >= 0) & (id1[found.first] == id2[found.second])
    assert right.mean() > 0.97
    common = np.intersect1d(id1[id1 >= 0], id2[id2 >= 0])
    assert right.sum() > 0.95 * len(common)
    assert found.rms == pytest.approx(0.1 * np.sqrt(2) * scale, rel=0.15)


def test_all_of_fifty_hard_pairs_are_solved():
    solved = 0
    for seed in range(100, 150):
        (one, _), (two, _), transform, (scale, _) = lists(seed, count=700, wrong=0.5)
        found = match_lists(one, two)
        inside = np.random.default_rng(1).uniform(0, SIZE, (50, 2))
        solved += found is not None and np.abs(found.transform(inside) - transform(inside)).max() < 0.2 * scale
    assert solved == 50


@pytest.mark.slow
def test_no_two_unrelated_lists_are_matched():
    odds = []
    for seed in range(300):
        rng = np.random.default_rng([7, seed])
        one, two = rng.uniform(0, SIZE, (150, 2)), rng.uniform(0, SIZE, (150, 2))
        assert match_lists(one, two) is None
        shapes = figures(one, [60]), figures(two, [60])
        odds.append(judge(one, two, guesses(*shapes, Tolerance()), tolerance=Tolerance(), enough=14.0).log_odds)
    # the best of all guesses exceeds t by chance with a probability below 1 / t
    for limit in (0.0, 1.0, 2.0, 3.0):
        assert np.mean(np.array(odds) > limit) <= np.exp(-limit) + 3 * np.sqrt(np.exp(-limit) / len(odds))


def test_a_single_guess_has_odds_that_mean_what_they_say():
    rng = np.random.default_rng(3)
    sky = rng.uniform(0, SIZE, (300, 2))
    shapes = asterisms(sky, brightest(sky, 120))
    made = []
    for _ in range(3000):
        one = rng.uniform(0, SIZE, (60, 2))
        corners = rng.choice(60, 3, replace=False)
        there = shapes.corners[rng.integers(len(shapes.size))]
        centre = one[corners].mean(axis=0)
        one[corners] = (sky[there] - sky[there].mean(axis=0)) + centre
        guess = Guesses(corners[None], there[None], np.array([1]))
        made.append(judge(one, sky, guess, tolerance=Tolerance(), enough=99.0).log_odds)
    ratio = np.array(made)
    for limit in (0.5, 1.0, 2.0, 3.0):
        expected = np.exp(-limit)
        assert np.mean(ratio > limit) <= expected + 3 * np.sqrt(expected / len(ratio))
    assert np.mean(ratio > 1.0) > 0.001  # they are odds, not just small numbers


def test_polynomials_follow_a_distorted_field():
    (one, _), (two, _), transform, (scale, _) = lists(4, wrong=0.3, bend=6.0)
    inside = np.random.default_rng(1).uniform(0, SIZE, (200, 2))
    errors = {}
    for degree in (1, 2):
        found = match_lists(one, two, degree=degree)
        assert found is not None
        errors[degree] = np.abs(found.transform(inside) - transform(inside)).max() / scale
    assert errors[2] < 0.12
    assert errors[1] > 1.0


def test_a_similarity_has_equal_scales_and_no_shear():
    (one, _), (two, _), transform, (scale, mirror) = lists(5)
    found = match_lists(one, two, degree=0)
    slope = found.transform.slope(found.transform.centre)
    assert slope[1, 1] == pytest.approx(mirror * slope[0, 0], rel=1e-9, abs=1e-9)
    assert slope[0, 1] == pytest.approx(-mirror * slope[1, 0], rel=1e-9, abs=1e-9)
    inside = np.random.default_rng(1).uniform(0, SIZE, (200, 2))
    assert np.abs(found.transform(inside) - transform(inside)).max() < 0.1 * scale
    assert np.abs(found.transform.inverse(found.transform(inside)) - inside).max() < 1e-9


def test_lists_in_no_order_are_matched_too():
    (one, id1), (two, id2), *_ = lists(6, wrong=0.3, shuffled=True)
    found = match_lists(one, two)
    assert found is not None
    assert np.mean(id1[found.first] == id2[found.second]) > 0.97


def test_positions_that_are_not_finite_have_no_partner():
    (one, _), (two, _), *_ = lists(7)
    plain = match_lists(one, two)
    holes = np.insert(one, 5, np.nan, axis=0)
    found = match_lists(holes, two)
    assert 5 not in found.first
    assert np.array_equal(np.where(found.first > 5, found.first - 1, found.first), plain.first)
    assert found.log_odds == plain.log_odds


def test_a_scale_that_is_ruled_out_is_not_found():
    (one, _), (two, _), _, (scale, _) = lists(8)
    assert match_lists(one, two, scale=(0.95 * scale, 1.05 * scale)) is not None
    assert match_lists(one, two, scale=(1.1 * scale, 3 * scale)) is None


def test_few_stars_and_none():
    (one, _), (two, _), *_ = lists(9, count=12, wrong=0.0)
    assert len(match_lists(one, two).first) == 12
    assert match_lists(one[:3], two) is None
    assert match_lists([], two) is None
    assert match_lists(np.zeros((20, 2)), np.zeros((20, 2))) is None


def test_impossible_options_raise():
    good = np.random.default_rng(1).uniform(0, 100, (20, 2))
    for given in ({"degree": -1}, {"noise": 0.0}, {"scale": (2.0, 1.0)}, {"distortion": -1.0}):
        with pytest.raises(OptionError, match=next(iter(given))):
            match_lists(good, good, **given)
    with pytest.raises(OptionError, match=r"xy2 has shape \(20,\)"):
        match_lists(good, good[:, 0])
    with pytest.raises(OptionError, match="not in its list"):
        judge(
            good,
            good,
            Guesses(np.array([[0, 1, 99]]), np.array([[0, 1, 2]]), np.array([1])),
            tolerance=Tolerance(),
            enough=1.0,
        )


def test_triangles_look_the_same_turned_scaled_and_mirrored():
    rng = np.random.default_rng(2)
    one = rng.uniform(0, 100, (40, 2))
    two = 3.0 * one[:, ::-1] @ np.array([[0.8, -0.6], [0.6, 0.8]])
    first, second = (asterisms(xy, np.arange(40)) for xy in (one, two))
    assert np.array_equal(np.sort(first.corners, axis=1), np.sort(second.corners, axis=1))
    assert np.allclose(first.code, second.code)
    assert np.array_equal(first.parity, -second.parity)
    assert np.allclose(second.size, 3 * first.size)
    pairs = alike(first, second, noise=(1e-3, 3e-3), scale=(2.9, 3.1))
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) >= {
        (i, i) for i in range(len(first.size))
    }


def test_bright_stars_are_taken_from_everywhere():
    rng = np.random.default_rng(5)
    crowd, rest = rng.uniform(0, 100, (300, 2)), rng.uniform(0, 1000, (300, 2))
    chosen = brightest(np.concatenate([crowd, rest]), 60)
    assert len(chosen) == 60
    assert np.mean(chosen < 300) < 0.3
