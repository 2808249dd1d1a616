"""The probability of candidates, against the table of real frames from which it was learnt."""

import numpy as np
import pytest
from astropy.table import Table

from larun.algorithms.likelihood import COEFFICIENTS, features, probability, with_prior
from larun.errors import OptionError
from tests.model.subtracting.training import TABLE, fit, weights


@pytest.fixture(scope="module")
def table():
    return Table.read(TABLE)


def test_the_coefficients_are_those_of_the_table(table):
    again = fit(table)
    assert list(again) == list(COEFFICIENTS)
    assert list(again.values()) == pytest.approx(list(COEFFICIENTS.values()), abs=6e-5)


def held_out(table):
    """Probabilities of each third of the differences, by the other two."""
    made = np.empty(len(table))
    for part in range(3):
        test = np.asarray(table["pair"]) % 3 == part
        found = fit(table[~test])
        total = sum(found[name] * values for name, values in features(table[test]).items())
        made[test] = 1 / (1 + np.exp(-(total + found["constant"])))
    return made


def test_the_probability_is_calibrated_on_differences_it_has_not_seen(table):
    """Of candidates of a probability p so many are real; each kind weighs half, as it says."""
    real, chance = np.asarray(table["real"]), held_out(table)
    weight = weights(real)
    for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)):
        here = (chance >= low) & (chance < high)
        assert here.sum() > 30
        said, true = (np.average(values[here], weights=weight[here]) for values in (chance, real))
        assert true == pytest.approx(said, abs=0.12)


def test_it_tells_more_than_the_reasons_do(table):
    real, chance, doubt = np.asarray(table["real"]), held_out(table), np.asarray(table["doubt"])
    order = np.argsort(np.argsort(chance))
    above = order[real].sum() - real.sum() * (real.sum() - 1) / 2
    assert above / (real.sum() * (~real).sum()) > 0.94  # a real one is the likelier of a pair
    assert np.mean(chance[real] > 0.5) > np.mean(~doubt[real])
    assert np.mean(chance[~real] > 0.5) < 0.2


def test_what_could_not_be_measured_speaks_against_a_source():
    good = {"snr": 20, "chi2": 1, "dipole_ratio": 0, "sharpness": 1, "light": 1, "scatter": 1, "line": 0}
    good |= {"masked": 0, "near_saturated": False, "near_edge": False}
    columns = {name: np.array([value, value], float) for name, value in good.items()}
    for name in ("chi2", "sharpness"):
        lacking = columns | {name: np.array([columns[name][0], np.nan])}
        chance = probability(lacking)
        assert chance[0] > 0.8
        assert chance[1] < chance[0] - 0.3
    assert np.all(np.isfinite(probability({name: np.full(3, np.nan) for name in good})))


def test_another_share_of_real_ones():
    chance = np.array([0.0, 0.3, 0.5, 1.0])
    assert np.allclose(with_prior(chance, 0.5), chance)
    assert with_prior(chance, 0.01).tolist() == pytest.approx([0.0, 0.3 / (0.3 + 0.7 * 99), 0.01, 1.0])
    for share in (0.0, 1.0, np.nan):
        with pytest.raises(OptionError, match="share"):
            with_prior(chance, share)
