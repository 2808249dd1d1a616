"""Moving objects among constant noise and variable stars, with known truth."""

import numpy as np
import pytest

from larun.algorithms.tracks import Detections, LinkOptions, link
from larun.errors import OptionError

SIDE, STILL = 512.0, 2.0


def night(seed, *, movers=5, noise=8, stars=6, epochs=6, rates=(20.0, 200.0), spacing=0.15, shown=0.8):
    """Detections in random order, and what each is: the number of a mover, -1 noise, -2 a star that varies."""
    rng = np.random.default_rng(seed)
    hours = np.arange(epochs) * spacing + rng.uniform(0, 0.02, epochs)
    rows, truth = [], []
    while len(truth) < movers:
        rate, angle = np.exp(rng.uniform(*np.log(rates))), rng.uniform(0, 2 * np.pi)
        start = rng.uniform(0, SIDE, 2)
        velocity = rate * np.array([np.cos(angle), np.sin(angle)])
        places = start + velocity * hours[:, None]
        if places.min() > 0 and places.max() < SIDE:
            rows += [(n, *place, len(truth)) for n, place in enumerate(places)]
            truth.append(velocity)
    where = rng.uniform(20, SIDE - 20, (stars, 2))
    for n in range(epochs):
        rows += [(n, *place, -2) for place in where if rng.random() < shown]
        rows += [(n, *rng.uniform(0, SIDE, 2), -1) for _ in range(rng.poisson(noise))]
    table = rng.permutation(np.array(rows))
    error = rng.uniform(0.1, 0.3, len(table))
    epoch = table[:, 0].astype(np.int64)
    moved = table[:, 1:3] + rng.normal(0, 1, (len(table), 2)) * error[:, None]
    seen = Detections(epoch, hours[epoch], moved[:, 0], moved[:, 1], error, np.ones(len(table), bool))
    return seen, table[:, 3].astype(int), np.array(truth)


def found(seen, **how):
    return link(seen, area=SIDE**2, still=STILL, options=LinkOptions(**how))


@pytest.mark.parametrize(
    "kind", [{}, {"epochs": 4, "noise": 15}, {"epochs": 8, "rates": (15.0, 40.0), "spacing": 0.03}]
)
def test_all_movers_are_found_and_nothing_else(kind):
    """The last kind moves by less than a place is wide from one exposure to the next."""
    pulls = []
    for seed in range(8):
        seen, what, truth = night(seed, **kind)
        tracks = found(seen)
        owners = [set(what[track.members]) for track in tracks]
        assert sorted(owner for [owner] in owners) == list(range(len(truth)))
        for track, [owner] in zip(tracks, owners, strict=True):
            assert len(track.members) >= np.count_nonzero(what == owner) - 1
            assert np.all(np.diff(seen.time[track.members]) > 0)
            pulls += list((np.array([track.vx, track.vy]) - truth[owner]) / track.rate_error)
    # the floor is added to errors, though frames lie upon each other exactly here
    assert 0.5 < np.std(pulls) < 1.0


def test_three_exposures_need_a_largest_rate():
    for seed in range(8):
        seen, what, truth = night(seed, epochs=3)
        tracks = found(seen, max_rate=210.0)
        assert sorted(owner for track in tracks for owner in set(what[track.members])) == list(range(len(truth)))


def test_false_lines_are_as_rare_as_they_are_said_to_be():
    """Of noise alone: the number that is expected by chance is told, and what is more likely chance is left out."""
    nights = [night(seed, movers=0, noise=30, epochs=4)[0] for seed in range(100, 160)]
    assert sum(len(found(seen)) for seen in nights) <= 2  # 0.01 a night
    at_most_one = sum(len(found(seen, expected=1.0)) for seen in nights)
    assert 0.2 * len(nights) < at_most_one < 1.2 * len(nights)


def test_variable_stars_are_never_linked():
    for seed in range(10):
        seen, _, _ = night(seed, movers=0, noise=0, stars=40, epochs=6, shown=0.6)
        assert found(seen, expected=1.0) == []


def test_what_is_doubted_tells_what_stays_but_is_not_linked():
    seen, what, truth = night(3)
    assert found(seen._replace(trusted=what < 0)) == []
    alone = night(3, stars=0)[0]
    assert len(found(alone)) == len(truth)


def test_the_order_of_detections_changes_nothing():
    seen, what, _ = night(5)
    turned = Detections(*(part[::-1] for part in seen))
    one, two = found(seen), found(turned)
    assert [sorted(len(what) - 1 - track.members) for track in two] == [sorted(track.members) for track in one]
    assert [track.chi2 for track in two] == [track.chi2 for track in one]


def test_few_detections_and_wrong_options():
    seen, _, _ = night(1)
    none = Detections(*(part[:0] for part in seen))
    assert found(none) == []
    assert found(Detections(*(part[seen.epoch < 2] for part in seen))) == []
    for wrong in ({"least": 2}, {"least": 3.5}, {"max_rate": -1.0}, {"floor": 0.0}, {"expected": float("nan")}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            LinkOptions(**wrong)
