"""What is known of an exposure when its quantities are judged, and what a judgement is."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from larun.detector import Amplifier, Detector
from larun.model.time.timing import ExposureTime

if TYPE_CHECKING:
    from astropy.io.fits import Header

    from larun.model.frame import Frame

__all__ = ["LEVELS", "AmplifierPixels", "Finding", "Judge", "Known", "Rule"]

#: ``error``: a step refuses, or its result is wrong; ``warning``: hardly true; ``note``: worth knowing.
LEVELS = ("error", "warning", "note")


@attrs.frozen
class Finding:
    """Something that is missing or hardly true.

    Parameters
    ----------
    quantity : str
        What it is about.
    level : {"error", "warning", "note"}
        Whether a step will refuse it or be wrong, whether it is hardly true, or only worth knowing.
    problem : str
        What was found.
    advice : str
        What to do.
    """

    quantity: str
    level: str
    problem: str
    advice: str = ""


class AmplifierPixels(NamedTuple):
    """What the pixels of one amplifier say, in ADU."""

    low: float
    """The faintest 1 %."""
    median: float
    high: float
    at_highest: int
    """How many pixels share the highest value."""
    above_saturation: float
    """Fraction of the pixels."""
    overscan: float | None
    """Median of the overscan."""
    overscan_noise: float | None
    """Scatter between neighbouring overscan pixels, rms of one."""
    noise: float
    """The same of the data; it holds the photon noise and structure too."""


@attrs.frozen(kw_only=True)
class Known:
    """All that rules may look at."""

    camera: type[Frame]
    header: Header
    values: Mapping[str, Any]
    keywords: Mapping[str, str | None]
    kind: str
    evidence: str
    shape: tuple[int, int] | None
    detector: Detector | None
    #: One for each amplifier; empty where only the header is known.
    pixels: tuple[AmplifierPixels, ...] = ()
    whole_numbers: bool | None = None
    wcs: Any = None
    time: ExposureTime
    #: Today; a date later than this is wrong.
    now: datetime.datetime = attrs.field(factory=lambda: datetime.datetime.now(datetime.UTC).replace(tzinfo=None))

    @property
    def amplifiers(self) -> tuple[Amplifier, ...]:
        """Of the detector; none where it is not known."""
        return self.detector.amplifiers if self.detector is not None else ()

    @property
    def middle(self) -> datetime.datetime | None:
        """Middle of the exposure, UTC; None where nobody knows."""
        text = self.time.mid_text
        with contextlib.suppress(ValueError):
            return None if text is None else datetime.datetime.fromisoformat(text)
        return None

    def named(self, amplifier: Amplifier) -> str:
        """`` of amplifier B`` where there are several."""
        return f" of amplifier {amplifier.name}" if len(self.amplifiers) > 1 else ""

    def say(self, quantity: str) -> str:
        """Keyword and value as the header has them, or the value alone."""
        keyword = self.keywords.get(quantity)
        return f"{keyword} = {self.header[keyword]!r}" if keyword else f"{quantity} = {self.values.get(quantity)!r}"

    def looked_for(self, quantity: str) -> str:
        """The keywords of a quantity."""
        return ", ".join(self.camera.all_keywords().get(quantity, ())) or "no keyword"


Judge = Callable[[Known], Iterator[Finding]]


class Rule(NamedTuple):
    """One quantity."""

    unit: str = ""
    judge: Judge | None = None
    #: Words of a keyword or its comment under which the quantity often hides.
    like: str = ""
    #: Whether the value of a card may be the quantity at all: its kind and its size.
    fits: Callable[[Any], bool] | None = None
