"""What moves: detections of several epochs on a straight line, at a constant rate.

Pairs of detections tell where a third must be; what is found there makes the line better, and so on. A detection at a
place where there is one at other epochs too, though the line is elsewhere then, is of something that stays, as a
variable star, and belongs to no line. Whether a line may be chance is counted: how many lines through as many
detections, that fit as well, are expected where detections lie anywhere on the image (a number that falls with each
further detection, and with the square of the position errors).
"""

from __future__ import annotations

import heapq
import math
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError

__all__ = ["Detections", "LinkOptions", "Track", "link"]

#: Standard deviations within which a detection is looked for: a true one is missed once in a thousand times.
_GATE = 3.7
#: Least probability of chi^2 of a line.
_LEAST_FIT = 1e-4
#: A place where detections of other epochs are so unlikely by chance is one of something that stays.
_CHANCE = 0.01
#: A line moves if it does so by as many standard deviations.
_MOVES = 5.0
#: Pairs that are tried, those near in time first.
_SEEDS = 1_000_000
_ROUNDS = 6

_Key = tuple[int, float, tuple[int, ...]]


@attrs.frozen(kw_only=True)
class LinkOptions:
    """What counts as a moving object.

    Parameters
    ----------
    least : int
        Detections, 3 or more.
    max_rate : float or None
        Pixels an hour; None: what crosses the image from the first detection to the last.
    floor : float
        What is added to the errors of positions in quadrature, pixels: frames do not lie upon each other better.
    expected : float
        Lines by chance as good as this that are expected in the whole series, at most.

    Raises
    ------
    OptionError
        If a number makes no sense.
    """

    least: int = 3
    max_rate: float | None = None
    floor: float = 0.15
    expected: float = 0.01

    def __attrs_post_init__(self) -> None:
        if not (isinstance(self.least, int | np.integer) and self.least >= 3):
            raise OptionError(
                f"least = {self.least!r}: must be a whole number, 3 or more: two points are always a line"
            )
        for name in ("max_rate", "floor", "expected"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise OptionError(f"{name} = {value!r}: must be a positive number")


class Detections(NamedTuple):
    """What was seen, one element a detection.

    Attributes
    ----------
    epoch : (n,) int64
        Number of the epoch, from 0.
    time : (n,) float64
        Hours.
    x, y : (n,) float64
        Pixels, the same for all epochs.
    error : (n,) float64
        1 sigma along an axis.
    trusted : (n,) bool
        Which may belong to a line; all tell what stays where it is.
    """

    epoch: NDArray[np.int64]
    time: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    error: NDArray[np.float64]
    trusted: NDArray[np.bool_]


class Track(NamedTuple):
    """One moving object.

    Attributes
    ----------
    members : (k,) int64
        Detections, in order of time.
    time : float
        Hours: the mean by weight, at which place and rate are independent.
    x, y, position_error : float
        Place at that time, and its error along an axis, pixels.
    vx, vy, rate_error : float
        Pixels an hour, and the error along an axis.
    chi2 : float
        Of the line, with 2 k - 4 degrees of freedom.
    expected : float
        Lines by chance as good as this, in the whole series.
    """

    members: NDArray[np.int64]
    time: float
    x: float
    y: float
    position_error: float
    vx: float
    vy: float
    rate_error: float
    chi2: float
    expected: float


def link(seen: Detections, *, area: float, still: float, options: LinkOptions | None = None) -> list[Track]:
    """Find lines through detections of at least three epochs.

    Parameters
    ----------
    seen : Detections
        Of all epochs, in any order.
    area : float
        Of the image, square pixels: detections by chance lie anywhere on it.
    still : float
        Pixels: what is no farther apart is at the same place, and a line that moves by less does not move.
    options : LinkOptions, optional
        What counts.

    Returns
    -------
    list of Track
        By falling number of detections, then by what chance explains; no detection is in two.
    """
    how = LinkOptions() if options is None else options
    field = _Field(seen, area, still, how)
    known: dict[_Key, Track] = {}
    waiting: list[_Key] = []
    for members in field.seeds():
        _offer(field.track(members), known, waiting)
    found: list[Track] = []
    taken: set[int] = set()
    while waiting:
        best = known[heapq.heappop(waiting)]
        free = [int(n) for n in best.members if int(n) not in taken]
        if len(free) < len(best.members):  # a better line has some of them
            _offer(field.judged(np.array(free, np.int64)), known, waiting)
            continue
        found.append(best)
        taken.update(free)
    return found


def _offer(track: Track | None, known: dict[_Key, Track], waiting: list[_Key]) -> None:
    if track is not None:
        key = (-len(track.members), track.expected, tuple(int(n) for n in track.members))
        if key not in known:
            known[key] = track
            heapq.heappush(waiting, key)


class _Field:
    """Detections by epoch, with all that lines are judged by."""

    def __init__(self, seen: Detections, area: float, still: float, how: LinkOptions) -> None:
        from scipy.spatial import KDTree

        # the same lines whatever the order in which detections come
        order = np.lexsort((seen.y, seen.x, seen.epoch))
        self.how, self.area, self.still = how, area, still
        self.epoch = np.asarray(seen.epoch, np.int64)
        self.time, self.x, self.y = (np.asarray(part, np.float64) for part in (seen.time, seen.x, seen.y))
        self.sigma = np.hypot(np.asarray(seen.error, np.float64), how.floor)
        self.epochs = sorted({int(n) for n in self.epoch})
        trusted = np.asarray(seen.trusted, bool)
        self.own = {n: order[(self.epoch[order] == n) & trusted[order]] for n in self.epochs}
        places = np.column_stack([self.x, self.y])
        self.trees = {n: KDTree(places[own]) for n, own in self.own.items() if len(own)}
        self.when = {n: float(self.time[self.epoch == n][0]) for n in self.epochs}
        self.everywhere = {n: np.flatnonzero(self.epoch == n) for n in self.epochs}
        self.all = {n: KDTree(places[members]) for n, members in self.everywhere.items()}
        self.companions = self._companions()
        resting = np.array([len(near) for near in self.companions]) >= self._enough()
        self.density = {n: max(int(np.count_nonzero(~resting[own])), 1) / area for n, own in self.own.items()}

    def _companions(self) -> list[list[tuple[int, int]]]:
        """Detections of other epochs at the same place, of each: epoch and number."""
        places = np.column_stack([self.x, self.y])
        made: list[list[tuple[int, int]]] = [[] for _ in range(len(places))]
        for n, tree in self.all.items():
            away, index = tree.query(places, distance_upper_bound=self.still)
            for k in np.flatnonzero(np.isfinite(away) & (self.epoch != n)):
                made[k].append((n, int(self.everywhere[n][index[k]])))
        return made

    def _enough(self) -> int:
        """Companions that chance does not explain."""
        from scipy.stats import poisson

        per_epoch = len(self.x) / max(len(self.epochs), 1) / self.area
        mean = per_epoch * math.pi * self.still**2 * max(len(self.epochs) - 1, 0)
        return max(int(poisson.isf(_CHANCE, mean)) + 1, 1)

    def seeds(self) -> list[tuple[int, ...]]:
        """Sets of three detections and more that pairs lead to."""
        pairs = [(a, b) for i, a in enumerate(self.epochs) for b in self.epochs[i + 1 :]]
        pairs = [(a, b) for a, b in pairs if a in self.trees and b in self.trees and self.when[a] != self.when[b]]
        pairs.sort(key=lambda pair: (abs(self.when[pair[1]] - self.when[pair[0]]), pair))
        made: dict[tuple[int, ...], None] = {}
        tried = 0
        for a, b in pairs:
            first, second = (part.ravel() for part in np.meshgrid(self.own[a], self.own[b], indexing="ij"))
            if self.how.max_rate is not None:
                far = self.how.max_rate * abs(self.when[b] - self.when[a]) + 2 * (
                    self.sigma[first] + self.sigma[second]
                )
                near = np.hypot(self.x[second] - self.x[first], self.y[second] - self.y[first]) <= far
                first, second = first[near], second[near]
            tried += len(first)
            if tried > _SEEDS and made:
                break
            for members in self._from(a, b, first, second):
                made[members] = None
        return list(made)

    def _from(self, a: int, b: int, first: NDArray[np.int64], second: NDArray[np.int64]) -> list[tuple[int, ...]]:
        hits = []
        for n, tree in self.trees.items():
            if n in (a, b):
                continue
            part = (self.when[n] - self.when[a]) / (self.when[b] - self.when[a])
            x = self.x[first] + part * (self.x[second] - self.x[first])
            y = self.y[first] + part * (self.y[second] - self.y[first])
            spread = ((1 - part) * self.sigma[first]) ** 2 + (part * self.sigma[second]) ** 2
            away, index = tree.query(np.column_stack([x, y]))
            candidate = self.own[n][np.minimum(index, len(self.own[n]) - 1)]
            there = away <= _GATE * np.sqrt(spread + self.sigma[candidate] ** 2)
            hits.append(np.where(there, candidate, -1))
        if not hits:
            return []
        table = np.stack(hits, axis=1)
        enough = np.count_nonzero(table >= 0, axis=1) >= self.how.least - 2
        return [
            tuple(sorted([int(i), int(j), *(int(k) for k in row if k >= 0)]))
            for i, j, row in zip(first[enough], second[enough], table[enough], strict=True)
        ]

    def track(self, members: tuple[int, ...]) -> Track | None:
        """The line that a set of detections leads to, with all that lie on it; None if it is none."""
        own = np.array(members, np.int64)
        for _ in range(_ROUNDS):
            line = self._line(own)
            again = self._on(line)
            if len(again) < self.how.least or np.array_equal(again, own):
                break
            own = again
        return self.judged(own)

    def judged(self, own: NDArray[np.int64]) -> Track | None:
        """The line through these, without what is at rest or does not fit; None if it is no moving object."""
        from scipy.stats import chi2 as chi2_distribution

        while len(own) >= self.how.least:
            line = self._line(own)
            resting = self._resting(own, line)
            if resting.any():
                own = own[~resting]
                continue
            away = self._away(own, line)
            if chi2_distribution.sf(float(np.sum(away**2)), 2 * len(own) - 4) < _LEAST_FIT:
                own = np.delete(own, int(np.argmax(away)))
                continue
            return self._told(own, line)
        return None

    def _line(self, own: NDArray[np.int64]) -> tuple[float, ...]:
        """Mean time, place, rate, sum of weights, and of weights times squared time."""
        weight, t = 1 / self.sigma[own] ** 2, self.time[own]
        total = float(weight.sum())
        mean = float((weight * t).sum() / total)
        lever = float((weight * (t - mean) ** 2).sum())
        x, y = (float((weight * part[own]).sum() / total) for part in (self.x, self.y))
        vx, vy = (float((weight * (t - mean) * part[own]).sum() / lever) for part in (self.x, self.y))
        return mean, x, y, vx, vy, total, lever

    def _at(self, line: tuple[float, ...], time: Any) -> tuple[Any, Any, Any]:
        """Where a line is at a time, and the variance of that along an axis."""
        mean, x, y, vx, vy, total, lever = line
        return x + vx * (time - mean), y + vy * (time - mean), 1 / total + (time - mean) ** 2 / lever

    def _away(self, own: NDArray[np.int64], line: tuple[float, ...]) -> NDArray[np.float64]:
        x, y, _ = self._at(line, self.time[own])
        return np.asarray(np.hypot(self.x[own] - x, self.y[own] - y) / self.sigma[own])

    def _on(self, line: tuple[float, ...]) -> NDArray[np.int64]:
        """The nearest detection of each epoch that lies on a line, in order of time."""
        made = []
        for n, tree in self.trees.items():
            x, y, variance = self._at(line, self.when[n])
            away, index = tree.query([x, y])
            candidate = int(self.own[n][index])
            if away <= _GATE * math.sqrt(variance + self.sigma[candidate] ** 2):
                made.append((self.when[n], candidate))
        return np.array([candidate for _, candidate in sorted(made)], np.int64)

    def _resting(self, own: NDArray[np.int64], line: tuple[float, ...]) -> NDArray[np.bool_]:
        """Which have others at their place when the line is elsewhere."""
        made = np.zeros(len(own), bool)
        enough = self._enough()
        for k, member in enumerate(own):
            elsewhere = 0
            for epoch, other in self.companions[member]:
                x, y, variance = self._at(line, self.when[epoch])
                gate = _GATE * math.sqrt(variance + self.sigma[other] ** 2)
                elsewhere += math.hypot(self.x[other] - x, self.y[other] - y) > gate
            made[k] = elsewhere >= enough
        return made

    def _told(self, own: NDArray[np.int64], line: tuple[float, ...]) -> Track | None:
        mean, x, y, vx, vy, total, lever = line
        own = own[np.argsort(self.time[own], kind="stable")]
        span = float(self.time[own[-1]] - self.time[own[0]])
        rate = math.hypot(vx, vy)
        limit = self.how.max_rate
        if rate * span <= self.still or rate <= _MOVES / math.sqrt(lever):
            return None  # it stays where it is
        if limit is not None and rate > limit + _MOVES / math.sqrt(lever):
            return None
        chi2 = float(np.sum(self._away(own, line) ** 2))
        expected = self._expected(own, chi2, (total * lever, span))
        if expected > self.how.expected:
            return None
        return Track(own, mean, x, y, 1 / math.sqrt(total), vx, vy, 1 / math.sqrt(lever), chi2, expected)

    def _expected(self, own: NDArray[np.int64], chi2: float, line: tuple[float, float]) -> float:
        """Lines as straight as this through as many detections, or as unlikely ones through others, by chance alone."""
        determinant, span = line
        count = len(own)
        extra = count - 2
        rates = self.area / span**2  # both ends anywhere
        if self.how.max_rate is not None:
            rates = min(rates, math.pi * self.how.max_rate**2)
        logarithm = (
            math.log(math.comb(len(self.epochs), count) * (len(self.epochs) - self.how.least + 1))
            + sum(math.log(self.density[int(self.epoch[n])]) for n in own)
            + math.log(self.area * rates * determinant)
            + 2 * float(np.log(self.sigma[own]).sum())
            + extra * math.log(math.pi * max(chi2, 1e-12))
            - math.lgamma(extra + 1)
        )
        return math.exp(min(logarithm, 700.0))
