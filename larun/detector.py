"""What a detector is: gain, read noise, saturation, linearity and sections, amplifier by amplifier.

Sections are 0-based and half open, ``(y0, y1, x0, x1)``, in the array the detector rides on; FITS sections are
converted at the door (:mod:`larun.io.sections`). Trimming, cropping and binning return a detector that fits the
new array.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import attrs

from larun.errors import HeaderError, OptionError

__all__ = ["Amplifier", "Detector", "Section"]


class Section(NamedTuple):
    """A rectangle of pixels, 0-based and half open."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The section as an index of a (y, x) array."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return self.y1 - self.y0, self.x1 - self.x0

    def within(self, shape: tuple[int, int]) -> bool:
        """Whether the section is not empty and lies inside an array of this shape."""
        return 0 <= self.y0 < self.y1 <= shape[0] and 0 <= self.x0 < self.x1 <= shape[1]

    def intersect(self, other: Section) -> Section | None:
        """The pixels both sections have, in the same coordinates; None where there are none."""
        y0, y1 = max(self.y0, other.y0), min(self.y1, other.y1)
        x0, x1 = max(self.x0, other.x0), min(self.x1, other.x1)
        return Section(y0, y1, x0, x1) if y0 < y1 and x0 < x1 else None


def _section(value: Any) -> Section | None:
    return None if value is None else Section(*(int(v) for v in value))


def _data_section(value: Any) -> Section:
    return Section(*(int(v) for v in value))


def _numbers(value: Iterable[float]) -> tuple[float, ...]:
    return tuple(value)


def _level(value: Any) -> float:
    """A number; cards often hold them as text."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{value!r} as gain, noise or level of an amplifier: must be a number") from error


def _level_or_none(value: Any) -> float | None:
    return None if value is None else _level(value)


def _amplifiers(value: Iterable[Amplifier]) -> tuple[Amplifier, ...]:
    return tuple(value)


def _texts(value: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(value))


@attrs.frozen(kw_only=True)
class Amplifier:
    """One readout amplifier.

    Parameters
    ----------
    data : Section
        Its light-sensitive pixels.
    overscan : Section or None
        Its overscan pixels; None when there are none or they are gone.
    gain : float or None
        Electrons per ADU; None when the header does not say.
    read_noise : float or None
        Electrons, rms.
    saturation : float
        Level at which pixels saturate, in the unit of the image (raw ADU; electrons once calibrated).
    linear_limit : float
        Level above which pixels are flagged NONLINEAR, in the unit of the image.
    linearity : tuple of float
        ``(c1, c2, …)`` of the correction ``true = s (1 + c1 s + c2 s² + …)``, s in ADU above bias.
    pedestal : float
        ADU that were added to every pixel on purpose; removed where there is no overscan.
    name : str
        Name of the amplifier.
    """

    data: Section = attrs.field(converter=_data_section)
    overscan: Section | None = attrs.field(default=None, converter=_section)
    gain: float | None = attrs.field(default=None, converter=_level_or_none)
    read_noise: float | None = attrs.field(default=None, converter=_level_or_none)
    saturation: float = attrs.field(default=math.inf, converter=_level)
    linear_limit: float = attrs.field(default=math.inf, converter=_level)
    linearity: tuple[float, ...] = attrs.field(default=(), converter=_numbers)
    pedestal: float = attrs.field(default=0.0, converter=_level)
    name: str = "A"


@attrs.frozen(kw_only=True)
class Detector:
    """The amplifiers of one detector, and where each value was found.

    Parameters
    ----------
    amplifiers : tuple of Amplifier
        At least one.
    sources : mapping of str to str
        For each quantity the keyword and value it came from, ``"given"``, or why it is missing.
    raw : Detector or None
        After calibration: the detector as it was in ADU.
    """

    amplifiers: tuple[Amplifier, ...] = attrs.field(converter=_amplifiers)
    sources: Mapping[str, str] = attrs.field(factory=dict, converter=_texts)
    raw: Detector | None = None

    @classmethod
    def single(cls, shape: tuple[int, int], **values: Any) -> Self:
        """A detector with one amplifier that fills an array of this shape.

        Examples
        --------
        >>> Detector.single((100, 200), gain=1.5).amplifiers[0].data.shape
        (100, 200)
        """
        values.setdefault("data", Section(0, shape[0], 0, shape[1]))
        sources = values.pop("sources", {})
        return cls(amplifiers=(Amplifier(**values),), sources=sources)

    @classmethod
    def measure(
        cls,
        flats: Iterable[Any],
        biases: Iterable[Any] = (),
        *,
        overscan: Any = None,
        camera: type[Any] | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> Detector:
        """The detector of some raw frames with gain and read noise as their noise tells, whatever headers say.

        Pairs of flats of one filter are compared at one level, cell by cell: their noise grows with the light by one
        over the gain (Janesick 2001, Scientific Charge-Coupled Devices, sect. 2.2; with a ramp of levels also
        the quadratic term of Astier et al. 2019, A&A 629, A36). Pairs of biases tell the read noise, and the
        overscan of the flats where that is noisier.

        Parameters
        ----------
        flats : iterable of Frame or path
            Raw; two or more of a filter.
        biases : iterable of Frame or path
            Raw. They may be left out where there is overscan.
        overscan : OverscanOptions, optional
            How its level is found.
        camera : type, optional
            Class to read paths with; by default every header chooses its own.
        given : mapping, optional
            What headers of paths do not say.

        Returns
        -------
        Detector
            Of the raw array; ``sources`` tells values and errors of what was measured.

        Raises
        ------
        OptionError
            If the frames do not tell it; the message says why.

        Examples
        --------
        >>> import numpy as np, larun
        >>> from larun.simulate import photons, read_out
        >>> rng = np.random.default_rng(1)
        >>> true = Detector.single((128, 144), data=(0, 128, 0, 128), overscan=(0, 128, 128, 144), gain=1.8,
        ...     read_noise=6.0)
        >>> light = [photons(np.full((128, 128), 30000.0 * n), rng=rng) for n in (0, 0, 1, 1)]
        >>> raw = [read_out(true, electrons, rng=rng) for electrons in light]
        >>> says = true.with_values(gain=1.0, read_noise=3.0)
        >>> frames = [larun.Frame.from_arrays(pixels, detector=says) for pixels in raw]
        >>> found = Detector.measure(frames[2:], frames[:2])
        >>> [round(value, 1) for value in found.require("gain", "") + found.require("read_noise", "")]
        [1.8, 6.0]
        """
        # What reads raw frames lies above this module: it is found by its name.
        measure = importlib.import_module("larun.model.transfer").measure_detector
        found: Detector = measure(flats, biases, overscan=overscan, camera=camera, given=given)
        return found

    @property
    def needs_trim(self) -> bool:
        """Whether the array holds more than the data sections."""
        return any(amplifier.overscan is not None for amplifier in self.amplifiers) or any(
            amplifier.data != placed for amplifier, placed in zip(self.amplifiers, self._placed(), strict=True)
        )

    @property
    def trimmed_shape(self) -> tuple[int, int]:
        """Shape of the array that holds the data sections side by side."""
        placed = self._placed()
        return max(section.y1 for section in placed), max(section.x1 for section in placed)

    def require(self, quantity: str, where: str) -> tuple[float, ...]:
        """One value per amplifier of ``gain`` or ``read_noise``, or an error that says what the header held.

        Raises
        ------
        HeaderError
            If any amplifier lacks a positive finite value (zero read noise is allowed).
        """
        values = []
        for amplifier in self.amplifiers:
            value = getattr(amplifier, quantity)
            low = 0.0 if quantity == "read_noise" else math.ulp(0.0)
            if value is None or not low <= value < math.inf:
                found = self.sources.get(quantity, "no keyword found")
                raise HeaderError(
                    f"{where}: {quantity} of amplifier {amplifier.name} is {value} ({found}): give it with "
                    f"Frame.read(path, {quantity}=…), or --keyword {quantity}=… on the command line"
                )
            values.append(float(value))
        return tuple(values)

    def with_values(self, source: str = "given", /, **values: float | tuple[float, ...]) -> Self:
        """Other values of some quantities: one for every amplifier, or one each; ``source`` says where they are from.

        Raises
        ------
        OptionError
            If there is no such quantity, or there are not as many values as amplifiers.
        """
        unknown = set(values) - {"gain", "read_noise", "saturation", "linear_limit"}
        if unknown:
            raise OptionError(
                f"a detector has no {', '.join(sorted(unknown))}: use gain, read_noise, saturation, linear_limit"
            )
        count = len(self.amplifiers)
        for name, value in values.items():
            if isinstance(value, tuple) and len(value) != count:
                raise OptionError(
                    f"{name} = {value}: {len(value)} values for {count} amplifiers; give one, or one each"
                )
        changes: list[dict[str, Any]] = [
            {name: value[n] if isinstance(value, tuple) else value for name, value in values.items()}
            for n in range(count)
        ]
        amplifiers = tuple(attrs.evolve(a, **change) for a, change in zip(self.amplifiers, changes, strict=True))
        return attrs.evolve(self, amplifiers=amplifiers, sources={**self.sources, **dict.fromkeys(values, source)})

    def _placed(self) -> tuple[Section, ...]:
        """Where each data section lies once overscan and gaps are gone."""
        rows = _packed({(a.data.y0, a.data.y1) for a in self.amplifiers})
        columns = _packed({(a.data.x0, a.data.x1) for a in self.amplifiers})
        return tuple(Section(*rows[a.data.y0, a.data.y1], *columns[a.data.x0, a.data.x1]) for a in self.amplifiers)

    def require_grid(self, where: str) -> None:
        """Refuse data sections that do not lie side by side: trimmed, they would overlap or leave holes.

        Raises
        ------
        HeaderError
            If two of them share pixels, or their rows or columns are of different lengths.
        """
        placed = self._placed()
        ny, nx = self.trimmed_shape
        filled = sum(section.shape[0] * section.shape[1] for section in placed) == ny * nx
        pairs = itertools.combinations((amplifier.data for amplifier in self.amplifiers), 2)
        if not filled or any(one.intersect(two) for one, two in pairs):
            said = ", ".join(
                f"{a.name} [{a.data.x0 + 1}:{a.data.x1},{a.data.y0 + 1}:{a.data.y1}]" for a in self.amplifiers
            )
            raise HeaderError(
                f"{where}: the data sections of the amplifiers do not lie side by side ({said}): correct them, "
                "--keyword DATASECA=…, or in the camera's class (detector_for)"
            )

    def trimmed(self) -> Self:
        """The detector of the array that holds only the data sections, side by side."""
        amplifiers = tuple(
            attrs.evolve(amplifier, data=placed, overscan=None)
            for amplifier, placed in zip(self.amplifiers, self._placed(), strict=True)
        )
        return attrs.evolve(self, amplifiers=amplifiers)

    def cropped(self, window: Section) -> Self:
        """The detector of a window of the array; amplifiers that lie outside are dropped."""
        kept = []
        for amplifier in self.amplifiers:
            data = amplifier.data.intersect(window)
            if data is None:
                continue
            overscan = amplifier.overscan.intersect(window) if amplifier.overscan else None
            kept.append(
                attrs.evolve(amplifier, data=_shift(data, window), overscan=overscan and _shift(overscan, window))
            )
        if not kept:
            raise OptionError(f"the window {tuple(window)} holds no pixels of any amplifier")
        return attrs.evolve(self, amplifiers=tuple(kept))

    def binned(self, factor: int) -> Self:
        """The detector of an array whose pixels are sums of ``factor`` × ``factor`` pixels."""
        amplifiers = []
        for amplifier in self.amplifiers:
            data = Section(*(edge // factor for edge in amplifier.data))
            noise = None if amplifier.read_noise is None else amplifier.read_noise * factor
            amplifiers.append(attrs.evolve(amplifier, data=data, overscan=None, read_noise=noise))
        return attrs.evolve(self, amplifiers=tuple(amplifiers))

    def sampled(self, step: int, offset: tuple[int, int]) -> Self:
        """The detector of every ``step``-th pixel of every ``step``-th row, from row and column ``offset`` on."""

        def kept(section: Section | None) -> Section | None:
            if section is None:
                return None
            starts = (offset[0], offset[0], offset[1], offset[1])
            return Section(*(-((start - edge) // step) for edge, start in zip(section, starts, strict=True)))

        amplifiers = tuple(attrs.evolve(a, data=kept(a.data), overscan=kept(a.overscan)) for a in self.amplifiers)
        return attrs.evolve(self, amplifiers=amplifiers)

    def resampled(self, shape: tuple[int, int]) -> Self:
        """The detector of an image put on other pixels, which no single amplifier has read.

        Raises
        ------
        OptionError
            If amplifiers have different gains: their counts do not mix.
        """
        gains = {amplifier.gain for amplifier in self.amplifiers}
        if len(gains) > 1:
            raise OptionError("amplifiers of different gain do not mix: calibrate the frame first")
        noises = [a.read_noise for a in self.amplifiers if a.read_noise is not None]
        first = attrs.evolve(
            self.amplifiers[0],
            data=Section(0, shape[0], 0, shape[1]),
            overscan=None,
            read_noise=math.sqrt(sum(value**2 for value in noises) / len(noises)) if noises else None,
            saturation=min(amplifier.saturation for amplifier in self.amplifiers),
            linear_limit=min(amplifier.linear_limit for amplifier in self.amplifiers),
        )
        return attrs.evolve(self, amplifiers=(first,))

    def in_electrons(self) -> Self:
        """The detector of a calibrated image: gain 1, levels in electrons; the original is kept as ``raw``."""
        amplifiers = tuple(
            attrs.evolve(
                a,
                gain=1.0,
                saturation=a.saturation * (a.gain or math.nan),
                linear_limit=a.linear_limit * (a.gain or math.nan),
                linearity=(),
                pedestal=0.0,
            )
            for a in self.amplifiers
        )
        return attrs.evolve(self, amplifiers=amplifiers, raw=self.raw or self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)  # a read-only view of a mapping cannot be pickled

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON; infinities become None."""
        return {
            "amplifiers": [
                {key: _finite(value) for key, value in attrs.asdict(a, recurse=False).items()} for a in self.amplifiers
            ],
            "sources": dict(sorted(self.sources.items())),
            "raw": self.raw.to_dict() if self.raw else None,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        amplifiers = []
        for row in values["amplifiers"]:
            levels = {key: math.inf if row[key] is None else row[key] for key in ("saturation", "linear_limit")}
            amplifiers.append(Amplifier(**{**row, **levels}))
        raw = values.get("raw")
        return cls(amplifiers=tuple(amplifiers), sources=values["sources"], raw=cls.from_dict(raw) if raw else None)


def _packed(edges: set[tuple[int, int]]) -> dict[tuple[int, int], tuple[int, int]]:
    placed, start = {}, 0
    for low, high in sorted(edges):
        placed[low, high] = (start, start + high - low)
        start += high - low
    return placed


def _shift(section: Section, window: Section) -> Section:
    return Section(section.y0 - window.y0, section.y1 - window.y0, section.x0 - window.x0, section.x1 - window.x0)


def _finite(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
