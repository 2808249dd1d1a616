"""Masters: bias, dark and flat, how they are combined, and how a frame finds the ones that fit it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import attrs
import numpy as np

from larun import flags as fl
from larun import units
from larun.algorithms.badpixels import bad_from_bias, bad_from_dark, bad_from_flat, normalise_flat, scatter_around
from larun.algorithms.combine import CombineOptions
from larun.errors import FileError, LarunWarning, NoMatchingMaster, OptionError
from larun.model import building, display, registry
from larun.model.building import BuildOptions
from larun.model.criteria import Criterion, Equal, Exposure, Temperature, describe
from larun.model.image import Image
from larun.model.planes import Shared
from larun.model.processing import DarkRows, FlatRows, bias_rows
from larun.provenance import operation, recording

if TYPE_CHECKING:
    from astropy.nddata import CCDData

    from larun.model.frame import Frame

__all__ = ["Master", "MasterBias", "MasterDark", "MasterFlat", "Masters", "Selection", "kinds"]

_HIDDEN = ("frames", "bias", "dark")
_SIZE, _BINNING, _GAIN = Equal("size"), Equal("binning"), Equal("gain")
_INSTRUMENT, _CHIP, _MODE = Equal("instrument"), Equal("chip"), Equal("mode")


def _numbers(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _read_only(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(value))


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Master(Image):
    """What bias, dark and flat masters share: the criteria on which they match frames.

    Parameters
    ----------
    criteria : mapping
        Instrument, binning, size, gain, temperature, exposure, filter of the frames it was made from.
    count : int
        Number of frames combined.
    """

    kind: ClassVar[str] = ""
    #: What must agree between the master and the frame it serves.
    matches_on: ClassVar[tuple[Criterion, ...]] = ()

    criteria: Mapping[str, Any] = attrs.field(converter=_read_only)
    count: int

    @classmethod
    def criteria_names(cls) -> tuple[str, ...]:
        """Names of the quantities this kind of master is matched on."""
        return tuple(criterion.name for criterion in cls.matches_on)

    def differences(self, wanted: Mapping[str, Any]) -> tuple[str, ...]:
        """What keeps this master from serving a frame of these criteria, in words; empty when it fits."""
        found = (criterion.difference(self.criteria, wanted) for criterion in self.matches_on)
        return tuple(text for text in found if text)

    def __repr__(self) -> str:
        ny, nx = self.shape
        about = f"{self.unit or 'dimensionless'}, {self.count} frames, {describe(self.criteria)}"
        return f"<{type(self).__name__} {nx} × {ny} {about}>"


@attrs.frozen(kw_only=True, eq=False, repr=False)
class MasterBias(Master):
    """The bias structure that is left after overscan subtraction, in ADU."""

    kind: ClassVar[str] = "bias"
    matches_on: ClassVar[tuple[Criterion, ...]] = (_INSTRUMENT, _CHIP, _MODE, _SIZE, _BINNING, _GAIN)

    @classmethod
    @operation("master_bias", version=2, reach="global", leave_out=_HIDDEN)
    def combine(
        cls,
        frames: Iterable[Frame | str | Path | CCDData],
        *,
        method: str = "clipped",
        clip: str = "noise",
        sigma: float = 5.0,
        options: BuildOptions = BuildOptions(),
    ) -> Self:
        """Combine raw bias frames; pixels far from their neighbours become BAD.

        Parameters
        ----------
        frames : iterable of Frame, path or CCDData
            Raw bias frames. Paths are streamed by row bands when they do not fit ``max_memory``; a ``CCDData`` is
            taken as a file with its header would be.
        method : {"clipped", "median", "mean"}
            How the frames are combined.
        clip : {"noise", "mad"}
            What the clip measures by: the noise model (checked first) or the frames' own scatter.
        sigma : float
            Clipping limit.
        options : BuildOptions
            Overscan, known bad pixels, memory limit, and what the headers do not say.

        Raises
        ------
        OptionError
            If there are no frames, or they differ in size.
        NoiseModelError
            If ``clip="noise"`` and the frames scatter much more than the noise model says.
        """
        how = CombineOptions(method=method, clip=clip, sigma=sigma)
        job = building.Job.prepare(frames, options)
        made = job.combine(bias_rows, how)
        scatter = scatter_around(made.data)
        recording().fit(scatter=scatter)  # with it, any part of the master can be judged alone
        bad = bad_from_bias(made.data, made.variance, scatter=scatter) | building.mask_from(options, job.shape)
        return cls(**building.fields(job, made, bad, units.ADU, cls.criteria_names()))


@attrs.frozen(kw_only=True, eq=False, repr=False)
class MasterDark(Master):
    """Dark signal: ADU per second once the bias is removed, else ADU for its own exposure.

    Parameters
    ----------
    exposure : float
        Seconds of the frames it was made from.
    bias_removed : bool
        Only a dark without bias can be scaled, and never up.
    bias_level : tuple of float
        ADU of a dark that holds its bias which are no charge, for each amplifier; empty once the bias is removed.
    """

    kind: ClassVar[str] = "dark"
    matches_on: ClassVar[tuple[Criterion, ...]] = (
        _INSTRUMENT,
        _CHIP,
        _MODE,
        _SIZE,
        _BINNING,
        _GAIN,
        Temperature(),
        Exposure(),
    )

    exposure: float
    bias_removed: bool
    bias_level: tuple[float, ...] = attrs.field(default=(), converter=_numbers)

    @classmethod
    @operation("master_dark", version=4, reach="global", leave_out=_HIDDEN)
    def combine(
        cls,
        frames: Iterable[Frame | str | Path | CCDData],
        *,
        bias: MasterBias | None = None,
        method: str = "clipped",
        clip: str = "noise",
        sigma: float = 5.0,
        options: BuildOptions = BuildOptions(),
    ) -> Self:
        """Combine raw dark frames of one exposure time; hot pixels become BAD.

        Parameters are those of :meth:`MasterBias.combine`, and:

        Parameters
        ----------
        bias : MasterBias, optional
            Removed from every frame; without it the dark keeps its bias and serves its own exposure only. How much of
            its level is charge, the scatter of the frames tells then.

        Raises
        ------
        OptionError
            If the frames' exposure times differ, or are zero.
        """
        how = CombineOptions(method=method, clip=clip, sigma=sigma)
        job = building.Job.prepare(frames, options)
        exposure = job.common_exposure()
        levelled = options.overscan.method != "none"
        rows = DarkRows(job.sources, Selection(bias, None, None), levelled=levelled)
        made = job.combine(rows, how)
        # A dark that holds its bias is judged above its typical level.
        typical = np.float32(0 if bias is not None else np.nanmedian(made.data))
        above = made.data - typical
        scatter = scatter_around(above)
        recording().fit(typical=float(typical), scatter=scatter)
        bad = bad_from_dark(above, made.variance, scatter=scatter) | building.mask_from(options, job.shape)
        shared: tuple[Shared, ...] = ()
        if bias is not None:
            recording().parent("bias", bias.provenance)
            scale = np.float32(1 / exposure)
            made = made._replace(data=made.data * scale, variance=made.variance * scale**2)
            assert bias.variance is not None
            shared = (Shared(bias.provenance.id, bias.variance * scale**2),)
        unit = units.ADU if bias is None else units.ADU_PER_SECOND
        plain = building.fields(job, made, bad, unit, cls.criteria_names(), bias=bias)
        about: dict[str, Any] = {"exposure": exposure, "bias_removed": bias is not None, "bias_level": rows.bias_level}
        return cls(**plain, shared=shared, **about)

    def scaled(self, exposure: float) -> float:
        """The factor that turns this dark into ADU for an exposure of so many seconds.

        Raises
        ------
        OptionError
            If the dark still holds its bias and the exposure differs, or it would have to be scaled up.
        """
        if not self.bias_removed:
            if abs(exposure - self.exposure) > 0.01 * self.exposure:
                raise OptionError(
                    f"the dark of {self.exposure:g} s still holds its bias: it cannot be scaled to {exposure:g} s; "
                    "combine it with bias=…"
                )
            return 1.0
        if exposure > 1.01 * self.exposure:
            raise OptionError(
                f"the dark of {self.exposure:g} s cannot be scaled up to {exposure:g} s: its noise would grow with it; "
                "take darks at least as long as the frame, or leave the dark out with without=('dark',)"
            )
        return exposure


@attrs.frozen(kw_only=True, eq=False, repr=False)
class MasterFlat(Master):
    """Relative sensitivity: calibrated, each exposure normalised, combined; median 1 over the whole mosaic."""

    kind: ClassVar[str] = "flat"
    matches_on: ClassVar[tuple[Criterion, ...]] = (_INSTRUMENT, _CHIP, _SIZE, _BINNING, Equal("filter"))

    @classmethod
    @operation("master_flat", version=3, reach="global", leave_out=_HIDDEN)
    def combine(
        cls,
        frames: Iterable[Frame | str | Path | CCDData],
        *,
        bias: MasterBias | None = None,
        dark: MasterDark | None = None,
        method: str = "clipped",
        clip: str = "noise",
        sigma: float = 5.0,
        options: BuildOptions = BuildOptions(),
    ) -> Self:
        """Combine raw flats of one filter: gain first, each exposure normalised before clipping.

        Parameters are those of :meth:`MasterBias.combine`, and:

        Parameters
        ----------
        bias : MasterBias, optional
            Removed from every flat.
        dark : MasterDark, optional
            Removed from every flat, scaled to its exposure (a flat-dark).

        Raises
        ------
        OptionError
            If a flat has no light, or the filters differ.
        """
        how = CombineOptions(method=method, clip=clip, sigma=sigma)
        job = building.Job.prepare(frames, options)
        bad = building.mask_from(options, job.shape)
        for role, master in (("bias", bias), ("dark", dark)):
            if master is not None:
                recording().parent(role, master.provenance)
        rows = FlatRows(job.sources, Selection(bias, dark, None), concurrent=job.concurrent)
        made = job.combine(rows, how, weights=rows.weights)
        normal = normalise_flat(made.data, made.variance, (made.flags & fl.UNUSABLE) != 0)
        made = made._replace(data=normal.data, variance=normal.variance)
        recording().fit(normalisation=normal.constant)
        invalid = bad_from_flat(made.data)
        return cls(**building.fields(job, made, bad, units.NONE, cls.criteria_names(), bias=bias, invalid=invalid))


class Selection(NamedTuple):
    """One master of each kind for a frame; None where the frame does without."""

    bias: MasterBias | None
    dark: MasterDark | None
    flat: MasterFlat | None


def kinds(without: Iterable[str]) -> tuple[str, ...]:
    """Kinds of masters to do without, each once and sorted.

    Raises
    ------
    OptionError
        If there is no such kind.

    Examples
    --------
    >>> kinds(["flat", "dark", "flat"]), kinds("dark")
    (('dark', 'flat'), ('dark',))
    """
    found = tuple(sorted({without} if isinstance(without, str) else set(without)))
    if not set(found) <= set(Selection._fields):
        raise OptionError(f"without={list(found)}: must be among {', '.join(map(repr, Selection._fields))}")
    return found


def _tuple(items: Iterable[Master]) -> tuple[Master, ...]:
    return tuple(items)


@attrs.frozen
class Masters:
    """A set of candidate masters.

    Examples
    --------
    >>> import larun
    >>> len(larun.Masters(()))
    0
    """

    items: tuple[Master, ...] = attrs.field(converter=_tuple)

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """All masters in a folder (of this night or another), in order of file name.

        Raises
        ------
        OptionError
            If the folder holds none.
        """
        from larun.io.product import is_product

        if not Path(folder).is_dir():
            raise FileError(f"{folder}: no such folder")
        paths = sorted(path for path in Path(folder).rglob("*.fits") if is_product(path))
        found = [image for image in (Image.read(path) for path in paths) if isinstance(image, Master)]
        if not found:
            raise OptionError(f"{folder}: holds no masters written by larun")
        return cls(tuple(found))

    _repr_html_ = display.masters_html

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Master]:
        return iter(self.items)

    def __add__(self, other: Masters) -> Masters:
        """Both sets together."""
        return Masters((*self.items, *other.items))

    def of(self, kind: str) -> tuple[Master, ...]:
        """The candidates of one kind: ``"bias"``, ``"dark"`` or ``"flat"``."""
        return tuple(item for item in self.items if item.kind == kind)

    def select(self, frame: Frame, *, without: Iterable[str] = ()) -> Selection:
        """One master of each kind for a frame.

        Parameters
        ----------
        frame : Frame
            The raw frame; its class says which kinds it requires.
        without : iterable of {"bias", "dark", "flat"}
            Kinds the caller does without.

        Raises
        ------
        NoMatchingMaster
            If a required kind has no match: lists the nearest candidates and what differs.
        """
        left_out = kinds(without)
        wanted, name = frame.criteria, repr(frame)
        chosen = {kind: None if kind in left_out else self.best(kind, wanted, name) for kind in Selection._fields}
        dark = chosen["dark"]
        if isinstance(dark, MasterDark) and not dark.bias_removed:
            chosen["bias"] = None  # that dark brings the bias along
        for kind in Selection._fields:
            if chosen[kind] is not None or kind in left_out or (kind == "bias" and dark is not None):
                continue
            if kind in type(frame).required:
                raise NoMatchingMaster(self._near_misses(kind, wanted, name) + registry.unclaimed(type(frame)))
            if self.of(kind):
                warnings.warn(f"{self._near_misses(kind, wanted, name)}; going on without", LarunWarning, stacklevel=4)
        return Selection(**chosen)  # type: ignore[arg-type]  # each kind holds its own class

    def best(self, kind: str, wanted: Mapping[str, Any], name: str = "frame") -> Master | None:
        """The nearest candidate of a kind that fits these criteria; None when none does. A doubtful one warns."""
        fitting = [item for item in self.of(kind) if not item.differences(wanted)]
        if not fitting:
            return None
        chosen = min(fitting, key=lambda item: (*_distance(item, wanted), item.provenance.id))
        for criterion in chosen.matches_on:
            doubt = criterion.doubt(chosen.criteria, wanted)
            if doubt:
                warnings.warn(f"{name}: {kind} master: {doubt}", LarunWarning, stacklevel=4)
        return chosen

    def _near_misses(self, kind: str, wanted: Mapping[str, Any], name: str) -> str:
        head = f"no {kind} master fits {name}"
        candidates = sorted(self.of(kind), key=lambda item: (len(item.differences(wanted)), *_distance(item, wanted)))
        if not candidates:
            return f"{head}: there is none at all; give one, or say without=('{kind}',) (--without {kind})"
        rows = "; ".join(f"{item!r} differs in {', '.join(item.differences(wanted))}" for item in candidates[:3])
        return f"{head}; nearest: {rows}; or say without=('{kind}',) (--without {kind})"


def _distance(item: Master, wanted: Mapping[str, Any]) -> tuple[float, float]:
    """How far a master is in exposure and temperature: the nearest one serves."""

    def gap(name: str) -> float:
        one, two = item.criteria.get(name), wanted.get(name)
        return abs(float(one) - float(two)) if one is not None and two is not None else 0.0

    return (gap("exposure") if isinstance(item, MasterDark) else 0.0), gap("temperature")
