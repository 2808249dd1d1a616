"""Verdicts: what a test found, how sure it is, what it means, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Self

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.errors import OptionError

__all__ = ["STATUSES", "Evidence", "Report", "Series", "Verdict", "grade", "judge", "untested"]

#: From best to worst; ``untested`` says why nothing can be said.
STATUSES = ("good", "untested", "doubtful", "bad")

_SIGMAS = 5.0  # by chance 6 in ten million
_DOUBT = 0.5  # of what is bad


def _floats(values: ArrayLike) -> NDArray[np.float64]:
    made = np.array(values, dtype=np.float64)
    made.flags.writeable = False
    return made


def _floats_or_none(values: ArrayLike | None) -> NDArray[np.float64] | None:
    return None if values is None else _floats(values)


def _all_series(values: Iterable[Series]) -> tuple[Series, ...]:
    return tuple(values)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _verdicts(values: Iterable[Verdict]) -> tuple[Verdict, ...]:
    return tuple(values)


@attrs.frozen(eq=False)
class Series:
    """Points or a line of a plot.

    Parameters
    ----------
    label : str
        For the legend.
    x, y : array_like, (n,)
        Values.
    error : array_like, (n,), optional
        1 σ of y.
    line : bool
        Joined by a line (a model) rather than marked (a measurement).
    """

    label: str
    x: NDArray[np.float64] = attrs.field(converter=_floats)
    y: NDArray[np.float64] = attrs.field(converter=_floats)
    error: NDArray[np.float64] | None = attrs.field(default=None, converter=_floats_or_none)
    line: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        made: dict[str, Any] = {"label": self.label, "x": self.x.tolist(), "y": self.y.tolist()}
        return made | ({} if self.error is None else {"error": self.error.tolist()}) | {"line": self.line}


@attrs.frozen(kw_only=True, eq=False)
class Evidence:
    """What a verdict rests on, ready to be drawn.

    Parameters
    ----------
    x_label, y_label : str
        Axes, with units.
    series : tuple of Series
        Measurements and models.
    image : ndarray of float32, (ny, nx), optional
        Drawn in place of series: where on the chip.
    log : str
        Axes that are logarithmic: ``""``, ``"x"``, ``"y"`` or ``"xy"``.
    names : tuple of str
        Of the positions along x, where they are not numbers (files).
    """

    x_label: str
    y_label: str
    series: tuple[Series, ...] = attrs.field(default=(), converter=_all_series)
    image: NDArray[np.float32] | None = None
    log: str = ""
    names: tuple[str, ...] = attrs.field(default=(), converter=_texts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the image."""
        return {
            "x_label": self.x_label,
            "y_label": self.y_label,
            "names": list(self.names),
            "series": [item.to_dict() for item in self.series],
        }


def _status(instance: object, attribute: object, value: str) -> None:
    if value not in STATUSES:
        raise OptionError(f"status = {value!r}: use one of {', '.join(STATUSES)}")


@attrs.frozen(kw_only=True)
class Verdict:
    """What one test says of one thing.

    Parameters
    ----------
    test : str
        Name of the test: ``gain``, ``read noise``, ``overscan drift`` …; the same name for the same question always.
    status : {"good", "untested", "doubtful", "bad"}
        ``bad``: errors or values of the products are wrong by more than they say. ``doubtful``: worth a look.
        ``untested``: the data cannot tell, and ``meaning`` says why.
    meaning : str
        One sentence for a person, with the numbers.
    where : str
        What it is about: an amplifier, a file, a filter; empty for the whole night.
    value, error : float or None
        What was measured, and its 1 σ.
    expected : float or None
        What the header says, or the noise model.
    unit : str
        Of the three.
    fix : str
        The option that mends it (``--set detector.gain=measured``), or what to do.
    evidence : Evidence or None
        What it rests on.
    """

    test: str
    status: str = attrs.field(validator=_status)
    meaning: str
    where: str = ""
    value: float | None = None
    error: float | None = None
    expected: float | None = None
    unit: str = ""
    fix: str = ""
    evidence: Evidence | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong; what cannot be tested is not wrong."""
        return self.status in ("good", "untested")

    @property
    def number(self) -> str:
        """Value and error as text with two digits of the error: ``1.79 ± 0.01 electron/adu``; empty without a value.

        Examples
        --------
        >>> Verdict(test="gain", status="good", meaning="", value=1.7934, error=0.0123, unit="e-/adu").number
        '1.793 ± 0.012 e-/adu'
        """
        if self.value is None or not math.isfinite(self.value):
            return ""
        if self.error is None or not 0 < self.error < math.inf:
            return f"{self.value:.4g} {self.unit}".rstrip()
        digits = max(0, 1 - math.floor(math.log10(self.error)))
        return f"{self.value:.{digits}f} ± {self.error:.{digits}f} {self.unit}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        made = attrs.asdict(self, recurse=False)
        return made | {"evidence": None if self.evidence is None else self.evidence.to_dict()}

    @property
    def note(self) -> dict[str, str]:
        """What a product keeps of it: texts without evidence."""
        made = {"test": self.test, "status": self.status, "where": self.where, "meaning": self.meaning}
        return {**made, "number": self.number, "fix": self.fix}

    def __str__(self) -> str:
        about = f" ({self.where})" if self.where else ""
        return f"{self.status}: {self.test}{about}: {self.meaning}" + (f" [{self.fix}]" if self.fix else "")


@attrs.frozen
class Report:
    """All verdicts of a check, in the order of the tests.

    Parameters
    ----------
    subject : str
        What was checked.
    verdicts : tuple of Verdict
        One or more for each test.
    seconds : float
        How long it took.

    Examples
    --------
    >>> report = Report("night", (Verdict(test="gain", status="bad", meaning="GAIN = 1, photons say 1.79"),))
    >>> [verdict.test for verdict in report.faults], report.worst, len(report)
    (['gain'], 'bad', 1)
    """

    subject: str
    verdicts: tuple[Verdict, ...] = attrs.field(default=(), converter=_verdicts)
    seconds: float = attrs.field(default=0.0, eq=False)

    @property
    def faults(self) -> tuple[Verdict, ...]:
        """The verdicts that are bad or doubtful, the bad ones first."""
        found = [verdict for verdict in self.verdicts if not verdict.passed]
        return tuple(sorted(found, key=lambda verdict: -STATUSES.index(verdict.status)))

    @property
    def worst(self) -> str:
        """The worst status; ``good`` where there is no verdict."""
        return max((verdict.status for verdict in self.verdicts), key=STATUSES.index, default="good")

    def of(self, test: str, where: str | None = None) -> tuple[Verdict, ...]:
        """The verdicts of one test, or on one thing."""
        return tuple(v for v in self.verdicts if v.test == test and where in (None, v.where))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        verdicts = [verdict.to_dict() for verdict in self.verdicts]
        return {"subject": self.subject, "worst": self.worst, "seconds": self.seconds, "verdicts": verdicts}

    def __len__(self) -> int:
        return len(self.verdicts)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.verdicts)

    def __add__(self, other: Report) -> Self:
        return attrs.evolve(self, verdicts=self.verdicts + other.verdicts, seconds=self.seconds + other.seconds)

    def __str__(self) -> str:
        bad = self.faults
        head = f"{self.subject}: {len(self)} verdicts, {len(bad)} of them bad or doubtful"
        return "\n".join([head, *(f"  {verdict}" for verdict in bad)])


def untested(test: str, why: str, where: str = "") -> Verdict:
    """The verdict of a test that the data cannot answer."""
    return Verdict(test=test, status="untested", meaning=why, where=where)


def grade(gap: float, error: float, *, doubtful: float, bad: float) -> str:
    """Status of a departure: one beyond ``doubtful`` or ``bad`` that is significant, by 5 σ of its own error.

    It must be significant, so that a test with little data gives no false alarm, and important, so that one with much
    data does not complain of what nobody would notice.
    """
    if not (math.isfinite(gap) and math.isfinite(error)):
        return "untested"
    size = abs(gap)
    if size <= _SIGMAS * error or size <= doubtful:
        return "good"
    return "bad" if size > bad else "doubtful"


def judge(value: float, error: float, expected: float, *, tolerance: float) -> str:
    """Status of a measured value: bad where it differs from ``expected`` by more than ``tolerance`` (relative).

    Doubtful from half the tolerance on; both must be significant, see :func:`grade`.
    """
    scale = tolerance * abs(expected)
    return grade(value - expected, error, doubtful=_DOUBT * scale, bad=scale)
