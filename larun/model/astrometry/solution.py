"""``Solution``: where an image is on the sky, and the stars that say so; read back from the record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from larun.model.reference.stars import ReferenceStars
from larun.provenance import Provenance, array_from_canonical

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["Solution", "solution_of"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Solution:
    """What :meth:`larun.SkyImage.solve` found.

    Parameters
    ----------
    rms : (float, float)
        Of the residuals of the fitted stars along x and y, in pixels.
    matches : int
        Stars that were fitted.
    log_odds : float
        Natural logarithm of the odds against a chance, with all guesses allowed for; of another program its own.
    scale : float
        Arcseconds a pixel at the middle of the image.
    parity : int
        1 as the sky is seen, with east to the left of north; -1 for a mirror image.
    rotation : float
        Degrees from the y axis to north, counterclockwise.
    order : int
        1 is a projection without distortion (TAN), more is the order of its polynomial (TAN-SIP).
    center : (float, float)
        Right ascension and declination of the middle of the image, in degrees.
    tried : int
        Guesses that were made.
    engine : str
        What searched.
    reference : str
        Name of the reference.
    stars : QTable
        Stars of the image that have a partner, those left out included: ``x``, ``y``; ``dx`` and ``dy``, by which they
        are off in pixels; ``used``; and the columns of the reference. Positions are those of the image when it was
        solved.
    """

    rms: tuple[float, float]
    matches: int
    log_odds: float
    scale: float
    parity: int
    rotation: float
    order: int
    center: tuple[float, float]
    tried: int
    engine: str
    reference: str
    _stars: QTable

    @property
    def stars(self) -> QTable:
        """A copy of the table of matched stars."""
        return self._stars.copy()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.matches} stars, rms {self.rms[0]:.3f}, {self.rms[1]:.3f} pixels>"

    def __str__(self) -> str:
        left_out = len(self._stars) - self.matches
        projection = "TAN" if self.order == 1 else f"TAN-SIP of order {self.order}"
        seen = "" if self.parity == 1 else ", mirrored"
        return (
            f"centre {self.center[0]:.6f} {self.center[1]:+.6f}, {self.scale:.5g} arcsec a pixel, north at "
            f"{self.rotation:+.2f}°{seen}; {projection}, rms {self.rms[0]:.3f} and {self.rms[1]:.3f} pixels of "
            f"{self.matches} stars of {self.reference} ({left_out} left out); log-odds {self.log_odds:.0f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: all but the stars."""
        made = {field.name: getattr(self, field.name) for field in attrs.fields(type(self)) if field.name != "_stars"}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in made.items()}
        if not math.isfinite(self.log_odds):
            plain["log_odds"] = None
        return plain


def solution_of(provenance: Provenance) -> Solution | None:
    """The last solution in a record; None where there is none."""
    step = next((n.step for n in provenance.line() if n.step is not None and n.step.operation == "solve"), None)
    if step is None:
        return None
    fitted = {name: _plain(value) for name, value in step.fitted.items()}
    stars = ReferenceStars.from_record(_plain(step.parameters["reference"]["stars"]))
    return Solution(
        rms=(float(fitted["rms"][0]), float(fitted["rms"][1])),
        matches=int(np.count_nonzero(fitted["used"])),
        log_odds=float(fitted["log_odds"]),
        scale=float(fitted["scale"]),
        parity=int(fitted["parity"]),
        rotation=float(fitted["rotation"]),
        order=int(fitted["order"]),
        center=(float(fitted["center"][0]), float(fitted["center"][1])),
        tried=int(fitted["tried"]),
        engine=str(step.parameters["engine"]),
        reference=stars.name,
        stars=_table(stars, fitted),
    )


def _plain(value: Any) -> Any:
    """A canonical value with its arrays."""
    if isinstance(value, Mapping):
        if "base64" in value:
            return array_from_canonical(value)
        return float(value["float"]) if set(value) == {"float"} else {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _table(stars: ReferenceStars, fitted: Mapping[str, Any]) -> QTable:
    from astropy.table import QTable
    from astropy.units import Quantity

    made = QTable()
    for name in ("x", "y", "dx", "dy"):
        made[name] = Quantity(fitted[name], "pix")
    made["used"] = np.asarray(fitted["used"], bool)
    rows = stars.table[np.asarray(fitted["star"], np.int64)]
    for name in rows.colnames:
        made[name] = rows[name]
    made.meta = dict(rows.meta)
    return made
