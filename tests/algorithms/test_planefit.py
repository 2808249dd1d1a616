"""Polynomials between planes: exact on exact pairs, efficient on noisy ones, blind to wrong ones."""

import numpy as np
import pytest

from larun.algorithms.planefit import best_degree, fit_plane, fit_similarity, stars_for
from larun.errors import OptionError


def cubic(xy):
    u = (xy - 500) / 500
    return np.stack(
        [
            3 + 2 * xy[:, 0] + 4 * u[:, 0] ** 3 - 2 * u[:, 0] * u[:, 1],
            -1 - 2 * xy[:, 1] + 3 * u[:, 0] * u[:, 1] ** 2,
        ],
        axis=1,
    )


def test_exact_pairs_give_the_exact_polynomial():
    one = np.random.default_rng(1).uniform(0, 1000, (60, 2))
    fit = fit_plane(one, cubic(one), 3)
    inside = np.random.default_rng(2).uniform(0, 1000, (100, 2))
    assert np.abs(fit.transform(inside) - cubic(inside)).max() < 1e-9
    assert fit.kept.all()
    assert np.abs(fit.transform.inverse(cubic(inside)) - inside).max() < 1e-8


def test_monomials_are_the_same_polynomial():
    one = np.random.default_rng(1).uniform(0, 1000, (60, 2))
    fit = fit_plane(one, cubic(one), 3)
    about = np.array([512.0, 300.0])
    table = fit.transform.monomials(about)
    inside = np.random.default_rng(2).uniform(0, 1000, (100, 2))
    x, y = (inside - about).T
    for axis in (0, 1):
        made = sum(table[axis, i, j] * x**i * y**j for i in range(4) for j in range(4))
        assert np.abs(made - cubic(inside)[:, axis]).max() < 1e-9


def test_least_squares_are_those_of_numpy():
    rng = np.random.default_rng(3)
    one = rng.uniform(0, 1000, (50, 2))
    two = cubic(one) + rng.normal(0, 0.1, one.shape)
    weight = rng.uniform(0.5, 2, 50)
    fit = fit_plane(one, two, 2, weight=weight, clip=np.inf)
    x, y = (one - 500).T / 500
    terms = np.stack([x**0, x, y, x * x, x * y, y * y], axis=1) * np.sqrt(weight)[:, None]
    expected = np.linalg.lstsq(terms, two * np.sqrt(weight)[:, None], rcond=None)[0]
    model = terms @ expected / np.sqrt(weight)[:, None]
    assert np.allclose(fit.transform(one), model, atol=1e-9)
    hat = np.diag(terms @ np.linalg.pinv(terms))
    assert np.allclose(fit.leverage, hat)


def test_wrong_pairs_are_rejected_and_the_rest_is_used_well():
    errors = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        one = rng.uniform(0, 1000, (60, 2))
        two = 2 * one + rng.normal(0, 0.1, one.shape)
        two[:12] += rng.uniform(-20, 20, (12, 2))
        fit = fit_plane(one, two, 1)
        errors.append(fit.transform(one[12:]) - 2 * one[12:])
        assert fit.kept[12:].mean() > 0.9
    radial = np.sqrt(np.mean(np.sum(np.square(errors), axis=-1)))
    assert radial < 1.15 * 0.1 * np.sqrt(2 * 3 / 48)


def test_the_degree_is_the_one_there_is():
    chosen = {1: [], 3: []}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        one = rng.uniform(0, 1000, (150, 2))
        noise = rng.normal(0, 0.1, one.shape)
        chosen[1].append(best_degree(one, 2 * one + noise, 5))
        chosen[3].append(best_degree(one, cubic(one) + noise, 5))
    assert np.mean(np.array(chosen[1]) == 1) >= 0.9
    assert np.mean(np.array(chosen[3]) == 3) >= 0.9
    assert min(chosen[3]) >= 3


def test_few_pairs_limit_the_degree():
    one = np.random.default_rng(1).uniform(0, 1000, (60, 2))
    assert stars_for(3) == 30
    assert best_degree(one[:29], cubic(one[:29]), 5) < 3
    assert best_degree(one[:30], cubic(one[:30]), 5) == 3


def test_a_similarity_with_a_mirror_and_wrong_pairs():
    rng = np.random.default_rng(4)
    one = rng.uniform(0, 1000, (40, 2))
    turn = 1.7 * np.array([[0.8, 0.6], [0.6, -0.8]])
    two = one @ turn.T + 5 + rng.normal(0, 0.01, one.shape)
    two[:8] += 30
    fit = fit_similarity(one, two)
    assert not fit.kept[:8].any()
    assert np.allclose(fit.transform.slope(fit.transform.centre), turn, atol=1e-4)
    exact = fit_similarity(one[:2], one[:2] @ turn.T)
    assert np.allclose(exact.residual, 0, atol=1e-9)


def test_too_few_pairs_and_pairs_on_a_line_raise():
    one = np.random.default_rng(1).uniform(0, 1000, (20, 2))
    with pytest.raises(OptionError, match="at least 10"):
        fit_plane(one[:9], one[:9], 3)
    with pytest.raises(OptionError):
        fit_plane(one * [1, 0], one, 1)
    with pytest.raises(OptionError, match="at least 2"):
        fit_similarity(one[:1], one[:1])
