"""How light curves are measured: what seldom needs another value."""

from __future__ import annotations

from typing import Any

import attrs

from larun.algorithms.ensemble import EnsembleOptions
from larun.errors import OptionError
from larun.model.aligning.transforms import TRANSFORMS

__all__ = ["METHODS", "LightCurveOptions"]

METHODS = ("aperture", "psf")
RECENTRE = ("reference", "each", "none")
CLEAN = ("flag", "none")
FIELD = ("auto", "constant", "plane")
UNITS = ("pixel", "fwhm")
DETREND = ("none", "airmass")


def _one_of(names: tuple[str, ...]) -> Any:
    def check(_: Any, attribute: Any, value: Any) -> None:
        if value not in names:
            raise OptionError(f"{attribute.name}={value!r}: must be one of {', '.join(names)}")

    return check


@attrs.frozen(kw_only=True)
class LightCurveOptions:
    """How the light of stars is measured and calibrated.

    Parameters
    ----------
    radius : float, optional
        Of the aperture; by default the one whose comparison stars scatter least from point to point.
    unit : {"pixel", "fwhm"}
        Of the radius: one for all frames, or one that grows with the FWHM of each frame.
    recentre : {"reference", "each", "none"}
        Whether places are moved onto the star that is seen there: in the reference only, in each frame by a windowed
        centroid, or nowhere.
    clean : {"flag", "none"}
        Whether cosmic rays are looked for in frames that were not cleaned; they are only flagged, never replaced.
    transform : {"affine", "similarity", "quadratic", "cubic"}
        From the reference to each frame.
    field : {"auto", "constant", "plane"}
        Whether the zero point of a frame is a level or a plane over the image; by default whichever leaves comparison
        stars less scatter, each against the others.
    reject : float
        A comparison star is left out that scatters so many times more than noise and its peers explain.
    most : int
        Comparison stars at most.
    diameter : float, optional
        Of the telescope in metres: scintillation is added to the errors.
    detrend : {"none", "airmass"}
        Whether a line in air mass is taken out of the targets' light. A transit looks in part like one: a fit with the
        trend ``airmass`` (:meth:`larun.LightCurve.fit_transit`) knows what it cannot tell apart, this does not.
    height : float
        Of the telescope in metres above sea level, where its site is not known.
    """

    radius: float | None = attrs.field(default=None, converter=attrs.converters.optional(float))
    unit: str = attrs.field(default="pixel", validator=_one_of(UNITS))
    recentre: str = attrs.field(default="reference", validator=_one_of(RECENTRE))
    clean: str = attrs.field(default="flag", validator=_one_of(CLEAN))
    transform: str = attrs.field(default="affine", validator=_one_of(tuple(TRANSFORMS)))
    field: str = attrs.field(default="auto", validator=_one_of(FIELD))
    reject: float = attrs.field(default=2.5, converter=float)
    most: int = attrs.field(default=40, converter=int)
    diameter: float | None = attrs.field(default=None, converter=attrs.converters.optional(float))
    detrend: str = attrs.field(default="none", validator=_one_of(DETREND), metadata={"recorded": "changed"})
    height: float = attrs.field(default=0.0, converter=float)

    def __attrs_post_init__(self) -> None:
        if self.radius is not None and not 0.5 <= self.radius < 1000:
            raise OptionError(f"radius={self.radius}: must be from 0.5 to 1000, in {self.unit}")
        if self.diameter is not None and not 0.01 <= self.diameter <= 100:
            raise OptionError(f"diameter={self.diameter}: must be in metres, from 0.01 to 100")
        if self.most < 1:
            raise OptionError(f"most={self.most}: must be at least 1")
        self.ensemble()

    def ensemble(self) -> EnsembleOptions:
        """How comparison stars are weighed."""
        return EnsembleOptions(reject=self.reject)
