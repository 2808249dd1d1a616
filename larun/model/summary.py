"""``Summary``: what a reduction did, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from larun.model.checks.verdict import Verdict
    from larun.model.jobs import Row

__all__ = ["Summary"]


@attrs.frozen
class Summary:
    """What a reduction did, row by row.

    Parameters
    ----------
    rows : tuple of Row
        One per master and science frame, and per file that could not be used.
    verdicts : tuple of Verdict
        Of the cheap tests, on a pair of raw frames of each group of biases and of flats; :meth:`Night.check` runs all.
    """

    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...] = ()

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows that failed, with the reason in ``message``."""
        return tuple(row for row in self.rows if row.status == "failed")

    @property
    def done(self) -> tuple[Row, ...]:
        """The rows that were computed now."""
        return tuple(row for row in self.rows if row.status == "done")

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain values for JSON."""
        return [attrs.asdict(row) for row in self.rows]
