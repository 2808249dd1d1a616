"""Options of astrometric solutions."""

from __future__ import annotations

import math

import attrs

from larun.algorithms.skymatch import FieldOptions
from larun.errors import OptionError

__all__ = ["SolveOptions"]


@attrs.frozen(kw_only=True)
class SolveOptions:
    """How stars are found, how their field is searched for, and how it is fitted.

    Parameters
    ----------
    threshold : float
        Least signal to noise of a source.
    stars : int
        So many of the brightest sources are used.
    band : str, optional
        Band of the reference that tells which of its stars are bright; by default that of the filter, where it has it,
        or else the one most stars have.
    log_odds : float
        Least natural logarithm of the odds against a chance; 18 is one in sixty million.
    noise : float
        Rough error of a position along an axis, in pixels; errors up to four times as large are no trouble.
    distortion : float
        By how much the image may depart from a projection without distortion, as a share of its half width.
    highest_order : int
        Highest order of distortion where it is chosen by cross-validation; 1 leaves none.
    clip : float
        Stars farther from the model than this many sigma are left out of the fit.
    time_limit : float
        Seconds that another program may take.

    Raises
    ------
    OptionError
        If a value makes no sense.
    """

    threshold: float = 5.0
    stars: int = 600
    band: str | None = None
    log_odds: float = 18.0
    noise: float = 0.4
    distortion: float = 0.004
    highest_order: int = 5
    clip: float = 4.0
    time_limit: float = attrs.field(default=60.0, metadata={"recorded": False})

    def __attrs_post_init__(self) -> None:
        if not 0 < self.threshold < math.inf:
            raise OptionError(f"threshold={self.threshold!r}: must be above 0")
        if isinstance(self.stars, bool) or not 10 <= self.stars <= 100_000:
            raise OptionError(f"stars={self.stars!r}: must be from 10 to 100000")
        if not 0 < self.time_limit < math.inf:
            raise OptionError(f"time_limit={self.time_limit!r}: must be seconds above 0")
        self.field()

    def field(self) -> FieldOptions:
        """Those of the search and the fit."""
        names = [field.name for field in attrs.fields(FieldOptions)]
        return FieldOptions(**{name: getattr(self, name) for name in names})
