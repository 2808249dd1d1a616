"""Whether two lists of stars are of one field: the odds of a guess, from stars that it predicts.

A guess is a triangle of one list and one of the other. It places the first list on the second with some uncertainty,
which grows with the distance from the triangle. Star by star, nearest first, the place of each is predicted and looked
up: where the second list has a star there, the probability of finding one so near is compared with that of finding one
by chance (Lang et al. 2010, AJ 139, 1782, section 2.3). Each star that is found makes the next prediction better, by
Kalman's rule, so that distortion is followed outwards; and the share of stars without a partner is learned on the way.

A prediction never uses the star it is for. So under chance the ratio of probabilities has the expectation 1 after any
number of stars, and by Ville's inequality the largest it ever gets exceeds t with a probability of at most 1 / t: the
odds mean what they say, with no tuning. They are divided by the number of guesses that were made.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.jit import kernel
from larun.errors import OptionError

__all__ = ["Guesses", "Judged", "Tolerance", "judge"]

_GIVE_UP = -2.4  # log-odds: about ten stars in a row that are not there
_WIDE = 16.0  # variance of positions that are worse than they should be, in that of good ones
_SHARE_WIDE = 0.4
_GATE = 12.0  # variances within which a star is looked for
_CELLS = 4.0  # within which a star is looked for at most
_NEAR = 12  # stars that tell the density around one
_TERMS = 6
_STATE = 10 + 2 * _TERMS


@attrs.frozen(kw_only=True)
class Tolerance:
    """What positions may be off by.

    Parameters
    ----------
    noise : (float, float)
        Error of a position along an axis in each list, in its own unit.
    shear : float
        What lengths along different directions may differ by, as a share: anything a turn and a scale do not explain.
    bend : float
        What distortion may add over half the extent of the first list, as a share of it.
    scale : (float, float)
        Least and largest unit of the first list in that of the second.
    """

    noise: tuple[float, float] = (0.3, 0.3)
    shear: float = 0.01
    bend: float = 0.003
    scale: tuple[float, float] = (0.0, math.inf)


class Guesses(NamedTuple):
    """Triangles that may be the same: corners in each list (h, 3), and 1 or -1 (mirrored) for each (h,)."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    parity: NDArray[np.int64]


class Judged(NamedTuple):
    """The best of some guesses.

    Attributes
    ----------
    log_odds : float
        Natural logarithm; the number of guesses is allowed for.
    guess : int
        Which one; -1 for none.
    hits, looked : int
        Stars found where they were predicted, and stars looked for, without those of the triangle.
    state : ndarray of float64
        For :meth:`predict`.
    """

    log_odds: float
    guess: int
    hits: int
    looked: int
    state: NDArray[np.float64]

    def predict(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where positions (n, 2) of the first list are in the second."""
        s = self.state
        x, y = xy[:, 0] - s[4], xy[:, 1] - s[5]
        u, v = x / s[7], y / s[7]
        terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)
        y = y * s[6]
        one = s[2] + s[0] * x - s[1] * y + np.sum(terms * s[10 : 10 + _TERMS], axis=1)
        two = s[3] + s[1] * x + s[0] * y + np.sum(terms * s[10 + _TERMS :], axis=1)
        return np.stack([one, two], axis=1)


def judge(
    xy1: NDArray[np.float64],
    xy2: NDArray[np.float64],
    guesses: Guesses,
    *,
    tolerance: Tolerance,
    enough: float,
    made_before: int = 0,
) -> Judged:
    """The first guess whose log-odds are enough, or else the best.

    Parameters
    ----------
    xy1, xy2 : ndarray of float64, (n, 2) and (m, 2)
        The stars that predictions are made for, and those among which they are looked for.
    guesses : Guesses
        Corners are indices into these.
    tolerance : Tolerance
        What positions may be off by.
    enough : float
        Log-odds after which no further guess is tried.
    made_before : int
        Guesses made before, for the same question.

    Raises
    ------
    OptionError
        If a corner is not in its list.
    """
    state = np.zeros(_STATE)
    count = len(guesses.parity)
    if not count or len(xy1) < 4 or len(xy2) < 4:
        return Judged(-math.inf, -1, 0, 0, state)
    if int(guesses.first.max()) >= len(xy1) or int(guesses.second.max()) >= len(xy2):
        raise OptionError("a guess names a star that is not in its list")
    start, member, geometry = _grid(xy2)
    limits = np.array(
        [
            tolerance.noise[0] ** 2,
            tolerance.noise[1] ** 2,
            max(float(np.ptp(xy1, axis=0).max()) / 2, 1e-300),
            tolerance.shear,
            tolerance.bend,
            *tolerance.scale,
            enough + math.log(count + made_before),
        ]
    )
    found, score, hits, looked = _best(
        (read_only(guesses.first, np.int64), read_only(guesses.second, np.int64), read_only(guesses.parity, np.int64)),
        (read_only(xy1, np.float64), read_only(_outwards(xy1), np.int64)),
        (read_only(xy2, np.float64), read_only(_density(xy2), np.float64)),
        (read_only(start, np.int64), read_only(member, np.int64), read_only(geometry, np.float64)),
        read_only(limits, np.float64),
        state,
    )
    return Judged(float(score) - math.log(count + made_before), int(found), int(hits), int(looked), state)


def _outwards(xy: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each star the order of all by distance from it."""
    distance = (xy[:, None, 0] - xy[None, :, 0]) ** 2 + (xy[:, None, 1] - xy[None, :, 1]) ** 2
    return np.argsort(distance, axis=1, kind="stable").astype(np.int64)


def _density(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stars in a unit of area around each star, not below the mean over the list."""
    from scipy.spatial import KDTree

    k = min(_NEAR, len(xy) - 1)
    reach = KDTree(xy).query(xy, k=[k + 1])[0][:, 0]
    extent = np.maximum(np.ptp(xy, axis=0), 1e-300)
    mean = len(xy) / float(extent[0] * extent[1])
    with np.errstate(divide="ignore"):
        around = k / (math.pi * reach**2)
    return np.maximum(np.where(np.isfinite(around), around, mean), mean)


def _grid(xy: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Cells with about one star each: where the members of each begin, the members, and the geometry."""
    low, extent = xy.min(axis=0), np.ptp(xy, axis=0)
    size = max(math.sqrt(float(extent[0] * extent[1]) / len(xy)), float(extent.max()) / 2000, 1e-300)
    steps = np.floor(extent / size).astype(np.int64) + 1
    place = np.minimum(np.floor((xy - low) / size).astype(np.int64), steps - 1)
    key = place[:, 1] * steps[0] + place[:, 0]
    member = np.argsort(key, kind="stable").astype(np.int64)
    start = np.searchsorted(key[member], np.arange(int(steps[0] * steps[1]) + 1)).astype(np.int64)
    return start, member, np.array([low[0], low[1], size, steps[0], steps[1]], np.float64)


@kernel
def _nearest(x: float, y: float, reach2: float, xy: Any, grid: Any, taken: Any, mark: int) -> Any:
    """Index and squared distance of the nearest star that is not taken, -1 for none."""
    start, member, geometry = grid
    size, nx, ny = geometry[2], int(geometry[3]), int(geometry[4])
    reach = math.sqrt(reach2)
    i0 = max(math.floor((x - reach - geometry[0]) / size), 0)
    i1 = min(math.floor((x + reach - geometry[0]) / size), nx - 1)
    j0 = max(math.floor((y - reach - geometry[1]) / size), 0)
    j1 = min(math.floor((y + reach - geometry[1]) / size), ny - 1)
    best, where = reach2, -1
    for j in range(j0, j1 + 1):
        for i in range(i0, i1 + 1):
            for k in range(start[j * nx + i], start[j * nx + i + 1]):
                star = member[k]
                if taken[star] == mark:
                    continue
                d2 = (xy[star, 0] - x) ** 2 + (xy[star, 1] - y) ** 2
                if d2 < best:
                    best, where = d2, star
    return where, best


@kernel
def _place(one: Any, two: Any, parity: int, xy1: Any, xy2: Any, limits: Any, state: Any) -> Any:
    """Turn, scale and place that bring a triangle onto the other; the squared scale and the spread of its corners."""
    x1 = (xy1[one[0], 0] + xy1[one[1], 0] + xy1[one[2], 0]) / 3
    y1 = (xy1[one[0], 1] + xy1[one[1], 1] + xy1[one[2], 1]) / 3
    x2 = (xy2[two[0], 0] + xy2[two[1], 0] + xy2[two[2], 0]) / 3
    y2 = (xy2[two[0], 1] + xy2[two[1], 1] + xy2[two[2], 1]) / 3
    across, along, spread = 0.0, 0.0, 0.0
    for k in range(3):
        dx, dy = xy1[one[k], 0] - x1, (xy1[one[k], 1] - y1) * parity
        ex, ey = xy2[two[k], 0] - x2, xy2[two[k], 1] - y2
        along += ex * dx + ey * dy
        across += ey * dx - ex * dy
        spread += dx * dx + dy * dy
    state[0], state[1] = along / spread, across / spread
    state[2], state[3], state[4], state[5] = x2, y2, x1, y1
    state[6], state[7] = parity, limits[2]
    return state[0] * state[0] + state[1] * state[1], spread


@kernel
def _odds_of(guess: Any, stars: Any, others: Any, grid: Any, limits: Any, taken: Any, work: Any) -> Any:
    """Largest log-odds of one guess, with the hits and the stars looked for until then; fills the state."""
    one, two, parity, mark = guess
    xy1, order = stars
    xy2, density = others
    state, P = work
    scale2, spread = _place(one, two, parity, xy1, xy2, limits, state)
    scale = math.sqrt(scale2)
    if not (limits[5] <= scale <= limits[6]):
        return -1e300, 0, 0
    noise = scale2 * limits[0] + limits[1]
    extent = limits[2] * scale
    P[:, :] = 0.0
    P[0, 0] = noise / 3
    P[1, 1] = noise * limits[2] ** 2 / spread + (limits[3] * extent) ** 2
    P[2, 2] = P[1, 1]
    for k in range(3, 6):
        P[k, k] = (limits[4] * extent) ** 2
    state[10:] = 0.0
    for k in range(3):
        taken[two[k]] = mark
    phi, gain = np.empty(6), np.empty(6)
    score, best, found, missed = 0.0, -1e300, 1.0, 1.0
    looked, hits, best_hits, best_looked = 0, 0, 0, 0
    farthest2 = (_CELLS * grid[2][2]) ** 2
    for n in range(len(order)):
        star = order[one[0], n]
        if star == one[0] or star == one[1] or star == one[2]:
            continue
        x, y = xy1[star, 0] - state[4], xy1[star, 1] - state[5]
        u, v = x / limits[2], y / limits[2]
        phi[0], phi[1], phi[2], phi[3], phi[4], phi[5] = 1.0, u, v, u * u, u * v, v * v
        px = state[2] + state[0] * x - state[1] * y * parity
        py = state[3] + state[1] * x + state[0] * y * parity
        variance = noise
        for i in range(6):
            px += phi[i] * state[10 + i]
            py += phi[i] * state[16 + i]
            gain[i] = 0.0
            for k in range(6):
                gain[i] += P[i, k] * phi[k]
            variance += gain[i] * phi[i]
        wide = variance + (_WIDE - 1) * noise
        if _GATE * wide > farthest2:
            continue  # nothing can be told there
        where, d2 = _nearest(px, py, _GATE * wide, xy2, grid, taken, mark)
        lost = missed / (missed + found)
        looked += 1
        ratio = lost
        if where >= 0:
            chance = (1 - _SHARE_WIDE) * math.exp(-d2 / (2 * variance)) / (2 * math.pi * variance)
            chance += _SHARE_WIDE * math.exp(-d2 / (2 * wide)) / (2 * math.pi * wide)
            ratio += (1 - lost) * chance / density[where]
        share = 1 - lost / ratio
        found += share
        missed += 1 - share
        score += math.log(ratio)
        if share > 0.5:
            hits += 1
            taken[where] = mark
            if d2 > 9 * variance:
                variance = wide
            dx, dy = (xy2[where, 0] - px) / variance, (xy2[where, 1] - py) / variance
            for i in range(6):
                state[10 + i] += gain[i] * dx
                state[16 + i] += gain[i] * dy
                for k in range(6):
                    P[i, k] -= gain[i] * gain[k] / variance
        if score > best:
            best, best_hits, best_looked = score, hits, looked
        if score < _GIVE_UP:
            break
    return best, best_hits, best_looked


@kernel
def _best(guesses: Any, stars: Any, others: Any, grid: Any, limits: Any, state: Any) -> Any:
    first, second, parity = guesses
    taken = np.full(len(others[0]), -1, np.int64)
    trial, P = np.zeros(len(state)), np.zeros((6, 6))
    where, best, hits, looked = -1, -1e300, 0, 0
    for n in range(len(parity)):
        guess = (first[n], second[n], parity[n], n)
        score, found, tried = _odds_of(guess, stars, others, grid, limits, taken, (trial, P))
        if score > best:
            where, best, hits, looked = n, score, found, tried
            for k in range(len(state)):  # an assignment of arrays takes ten times as long to compile
                state[k] = trial[k]
            if score > limits[7]:
                break
    return where, best, hits, looked
