"""Options of point-spread functions and of photometry with them."""

from __future__ import annotations

from typing import Any

import attrs

from larun.algorithms.engines import between, options_of
from larun.errors import OptionError

__all__ = [
    "ENGINES",
    "MODELS",
    "SKIES",
    "CompletenessOptions",
    "PsfFitOptions",
    "PsfOptions",
    "checked_model",
    "fit_options",
    "psf_options",
]

MODELS = ("empirical", "moffat", "gaussian")
ENGINES = ("larun", "photutils")
SKIES = ("background", "fitted", "none")


def _optional(low: float, high: float, *, whole: bool = False) -> Any:
    return attrs.validators.optional(between(low, high, whole=whole))


@attrs.frozen(kw_only=True)
class PsfOptions:
    """Which stars a point-spread function is made from, and on which grid.

    Parameters
    ----------
    snr : float
        Least signal to noise of a star.
    separation : float, optional
        No other source may be nearer, in FWHM; by default 4, and less where a crowd leaves too few stars.
    contrast : float, optional
        Sources below this share of a star's flux do not count as neighbours; by default 0.01, and more in a crowd.
    most : int
        No more stars than this.
    oversampling : int, optional
        Nodes a pixel, 2 to 8; by default as many as give six in a FWHM.
    radius : int, optional
        How far it is made, pixels; by default 4 FWHM, at least 8.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    snr: float = attrs.field(default=50.0, validator=between(5, 1e6))
    separation: float | None = attrs.field(default=None, validator=_optional(0, 20))
    contrast: float | None = attrs.field(default=None, validator=_optional(0, 1))
    most: int = attrs.field(default=200, validator=between(1, 5000, whole=True))
    oversampling: int | None = attrs.field(default=None, validator=_optional(2, 8, whole=True))
    radius: int | None = attrs.field(default=None, validator=_optional(4, 200, whole=True))


@attrs.frozen(kw_only=True)
class PsfFitOptions:
    """How stars are measured with a point-spread function.

    Parameters
    ----------
    engine : str
        ``"larun"``: all stars together, weighted by sky and model. ``"photutils"``: its PSFPhotometry with groups, or
        its IterativePSFPhotometry where ``crowded`` is set, weighted by the pixels' own variance, as a cross-check.
    crowded : bool
        Search what remains when the stars are subtracted for others beneath them, measure again with these, and add
        them to the catalogue.
    positions : str, optional
        ``"free"`` or ``"fixed"``; by default free for sources of a catalogue, fixed for positions of one's own.
    reach : int, optional
        A star is fitted on the pixels within so many rows and columns; by default two FWHM, at least 4.
    link : float
        Stars nearer than this, in FWHM, are solved for jointly.
    passes : int
        How often remains are searched.
    threshold : float
        Least signal to noise of what is found in them.
    excess : bool
        Errors of fluxes and positions hold what the residuals show beyond noise: stars that cannot be told apart, and
        what the PSF lacks. For engine ``"larun"``.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    engine: str = attrs.field(default="larun")
    crowded: bool = False
    positions: str | None = attrs.field(default=None)
    reach: int | None = attrs.field(default=None, validator=_optional(2, 100, whole=True))
    link: float = attrs.field(default=1.5, validator=between(0, 5))
    passes: int = attrs.field(default=5, validator=between(1, 20, whole=True))
    threshold: float = attrs.field(default=5.0, validator=between(3, 1000))
    excess: bool = True

    def __attrs_post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise OptionError(f"engine={self.engine!r}: must be 'larun' or 'photutils'")
        if self.positions not in (None, "free", "fixed"):
            raise OptionError(f"positions={self.positions!r}: must be 'free' or 'fixed'")


@attrs.frozen(kw_only=True)
class CompletenessOptions:
    """How stars are put into an image, and when one counts as found.

    Parameters
    ----------
    stars : int
        Put in for each bin of magnitude in each ring.
    radius : float
        A source so near, in FWHM, may be the star.
    agree : float
        And it is, if its PSF flux differs by no more magnitudes, and no such source was there before.
    threshold : float
        Least signal to noise of what is detected, and of what is found beneath other stars.
    passes : int
        How often remains are searched.
    seed : int
        Of places, magnitudes, and photons.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    stars: int = attrs.field(default=20, validator=between(1, 100_000, whole=True))
    radius: float = attrs.field(default=0.75, validator=between(0.1, 3))
    agree: float = attrs.field(default=0.75, validator=between(0.05, 3))
    threshold: float = attrs.field(default=5.0, validator=between(3, 1000))
    passes: int = attrs.field(default=5, validator=between(1, 20, whole=True))
    seed: int = attrs.field(default=0, validator=between(0, 2**31, whole=True))


def psf_options(given: Any) -> PsfOptions:
    """Options from None, a mapping or the options themselves."""
    return options_of(PsfOptions, "psf", given)


def fit_options(given: Any) -> PsfFitOptions:
    """Options from None, a mapping or the options themselves."""
    return options_of(PsfFitOptions, "psf", given)


def checked_model(model: Any, order: Any) -> None:
    """Whether a model and its variation over the image make sense.

    Raises
    ------
    OptionError
        If they do not.
    """
    if model not in MODELS:
        raise OptionError(f"model={model!r}: must be one of {', '.join(map(repr, MODELS))}")
    if order not in (None, 0, 1, 2):
        raise OptionError(f"order={order!r}: must be 0, 1 or 2")
    if model != "empirical" and order not in (None, 0):
        raise OptionError(f"order={order!r}: a {model} profile is the same everywhere; model='empirical' varies")
