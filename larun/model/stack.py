"""``Stack``: the mean of frames of one field, a frame itself, with what went into every pixel."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.drizzled import DrizzleOptions
from larun.algorithms.resampled_noise import mean_acf, packed
from larun.algorithms.stacking import MeanOptions, stack
from larun.errors import AlreadyApplied, LarunWarning, NotAligned, OptionError
from larun.expression import parse
from larun.model import store
from larun.model.aligning.regridding import shared_on
from larun.model.frame import Frame
from larun.model.planes import Shared, freeze, shifted_wcs
from larun.model.sky import SkyImage
from larun.model.stacking.adding import added, one_more, running_state
from larun.model.stacking.drizzling import drizzled
from larun.model.stacking.heading import heading, time_of
from larun.model.stacking.laying import Grid, Laid, aligned, best, grid_of, laid, noise_term
from larun.model.stacking.members import Member, all_measured, facts, measured
from larun.model.stacking.options import BY_PSF, StackOptions, checked
from larun.provenance import Parent, operation, recording

if TYPE_CHECKING:
    from astropy.io.fits import Header

    from larun.model.aligning.transforms import Alignment
    from larun.model.time.timing import ExposureTime

__all__ = ["Stack"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Stack(Frame):
    """The mean of frames of one field: in electrons of its reference, whose pixels, WCS and exposure it has.

    Make one with :meth:`combine`. It is detected, measured and solved as a frame is, with the correlation that its
    noise has at every place. The header says in ``TEXPTIME`` how long all frames were exposed together; ``time`` has
    the mean of their middles, by weight.

    Parameters
    ----------
    coverage : array (ny, nx), float32
        Part of the weight of all frames that a pixel has.
    contributors, rejected : array (ny, nx), uint16
        Frames that count in a pixel; frames that saw something there that the others did not.
    """

    coverage: NDArray[np.float32] = attrs.field(converter=freeze, metadata={"plane": "COVERAGE"})
    contributors: NDArray[np.uint16] = attrs.field(converter=freeze, metadata={"plane": "CONTRIB"})
    rejected: NDArray[np.uint16] = attrs.field(converter=freeze, metadata={"plane": "REJECTED"})

    @classmethod
    @operation("stack", version=3, reach="global", leave_out=("frames", "reference"))
    def combine(
        cls,
        frames: Iterable[SkyImage | str | Path],
        *,
        reference: SkyImage | str | Path | None = None,
        align: str = "stars",
        reject: str | None = None,
        weights: str = "point",
        method: str = "artefacts",
        options: StackOptions = StackOptions(),
    ) -> Self:
        """Put calibrated, cleaned frames on one another.

        Parameters
        ----------
        frames : iterable of SkyImage or path
            Of one field. Files of products are read by rows: hundreds do not fill the memory.
        reference : SkyImage or path, optional
            One of them, or another image, that gives the pixels; by default the one that shows most stars.
        align : {"stars", "phase", "wcs"}
            As ``method`` of :meth:`larun.model.sky.SkyImage.align_to`.
        reject : str, optional
            Frames to leave out, as a condition on ``name``, ``fwhm``, ``sky``, ``noise``, ``stars``, ``exposure``,
            ``airmass``: ``"fwhm > 5 or stars < 50"``.
        weights : {"point", "sky", "equal"}
            Best for stars, ``(T / (σ FWHM))²``; for what is extended, ``(T / σ)²``; or 1.
        method : {"artefacts", "mean", "median", "proper", "homogenised"}
            A weighted mean without what only one frame saw; of everything; or the median, whose stars have no one
            shape. Or by the point-spread functions of the frames: the proper coadd, deepest for stars, with white
            noise (Zackay & Ofek 2017, ApJ 836, 188); or the mean of frames made as blurred as the worst. Both leave
            out what only one frame saw, and fill it by the others.
        options : StackOptions
            Transform, scale, sky, footprint, kernel, limits.

        Returns
        -------
        Stack
            By PSFs a :class:`larun.MatchedStack`, which knows its own. A frame that does not show the field is left
            out with a warning, and the record says why.

        Raises
        ------
        NotAligned
            If no frame fits the reference.
        OptionError
            If there are no frames, one is raw or was resampled before, or an option makes no sense.
        """
        wishes = align, reject, checked(method, weights, options)
        by_psf = method in BY_PSF
        how = options.mean("artefacts" if by_psf else method)
        layers, chosen, grid, known = _gathered(frames, reference, wishes, options)
        if by_psf:
            return cls._matched(layers, chosen, grid, known, (method, weights, options))
        common = _common(layers)
        recording().fit(**known, common=list(common))
        return cls(**_fields(layers, chosen, grid, how, common))

    @classmethod
    def _matched(
        cls, layers: list[Laid], chosen: Member, grid: Grid, known: dict[str, Any], how: tuple[str, str, StackOptions]
    ) -> Self:
        """By the point-spread functions of the frames: of the one class that has a place for its own."""
        from larun.model.matchedstack import MatchedStack
        from larun.model.stacking.matching import matched

        fields, notes = matched(layers, chosen, grid, how)
        recording().fit(**known | {"frames": notes}, common=[])
        made: Any = MatchedStack(**fields)
        return made  # type: ignore[no-any-return]  # the class is what the method decides

    @classmethod
    @operation("drizzle", version=1, reach="global", leave_out=("frames", "reference"))
    def drizzle(
        cls,
        frames: Iterable[SkyImage | str | Path],
        *,
        scale: float = 0.5,
        pixfrac: float = 0.7,
        reference: SkyImage | str | Path | None = None,
        align: str = "stars",
        reject: str | None = None,
        options: StackOptions = StackOptions(),
    ) -> Self:
        """Put undersampled, dithered frames on finer pixels (Fruchter & Hook 2002, PASP 114, 144).

        Pixels of the frames shrink to drops, which fall on the pixels of the stack by exact areas: stars come out
        sharper than by interpolation, which cannot know what lies between pixels. Weights are those for point sources.
        Noise of masters counts as each frame's own. What only one frame saw is left out, from three frames on.

        Parameters
        ----------
        frames : iterable of SkyImage or path
            Calibrated, of one field; moved by parts of a pixel between exposures.
        scale : float
            Pixel of the stack in pixels of the reference, 0.1 … 1.
        pixfrac : float
            Side of a drop in pixels of its frame: 1 keeps pixels whole, less is sharper and needs more frames.
        reference, align, reject, options
            As for :meth:`combine`; the kernel of the options is not used.

        Returns
        -------
        Stack
            ``coverage`` is the weight of a pixel, 1 in the mean where all frames lie.

        Raises
        ------
        NotAligned
            If no frame fits the reference.
        OptionError
            As :meth:`combine`, or if a drop would cover too many pixels of the stack.
        """
        how = DrizzleOptions(scale=scale, pixfrac=pixfrac, sigma=options.sigma, max_memory=options.max_memory)
        layers, chosen, grid, known = _gathered(frames, reference, (align, reject, "point"), options)
        recording().fit(**known)
        return cls(**drizzled(layers, chosen, grid, how))

    @operation("stack_add", version=1, reach="global", leave_out=("frame", "reference"))
    def add(
        self,
        frame: SkyImage | str | Path,
        *,
        reference: SkyImage | str | Path | None = None,
        align: str = "stars",
        options: StackOptions = StackOptions(),
    ) -> Self:
        """This stack with one more frame: a running mean, for a field that is still being observed.

        The pixels stay those of the stack. What the frame alone has seen is left out where the stack has two frames or
        more. Frames in any order give the same but for rounding, and the same as :meth:`combine` with ``method="mean"``
        where nothing is left out and the reference is given.

        Parameters
        ----------
        frame : SkyImage or path
            Calibrated and cleaned, of the same field.
        reference : SkyImage or path, optional
            The frame that gave the stack its pixels, to be aligned and compared with; by default the stack itself,
            whose stars are better known.
        align : {"stars", "phase", "wcs"}
            As for :meth:`combine`.
        options : StackOptions
            Transform, scale, sky, kernel, limits.

        Returns
        -------
        Stack

        Raises
        ------
        NotAligned
            If the frame does not fit: go on with this stack.
        AlreadyApplied
            If it is in the stack.
        OptionError
            If the stack was changed since it was made, the frame is raw, or the reference is another.
        """
        state, member = running_state(self.provenance), measured(frame)
        if member.provenance.id in state.ids:
            raise AlreadyApplied(f"{member.name}: is in {self!r} already")
        base = measured(self, resampled=True) if reference is None else measured(reference)
        if reference is not None and base.provenance.id != state.reference:
            raise OptionError(f"{base.name}: is not the reference of {self!r}; leave reference= out")
        one, after = one_more(self, state, member, base, align, options)
        recording().parents.append(Parent("frame", member.provenance))
        if reference is not None:
            recording().parents.append(Parent("reference", base.provenance))
        recording().fit(running=after.told(), frame=one.note())
        return self._replace(**added(self, one, state, after, options))

    @classmethod
    def time_for(cls, header: Header) -> ExposureTime:
        """When the frames were exposed: the begin of the first, the end of the last, and the weighted middle."""
        return time_of(header, cls.all_keywords(), cls.site)

    def calibrate(self, *args: Any, **kwargs: Any) -> Self:
        """Refused: the frames of a stack are calibrated.

        Raises
        ------
        AlreadyApplied
            Always.
        """
        raise AlreadyApplied(f"{self!r}: its frames were calibrated before they were stacked")

    def clean(self, *args: Any, **kwargs: Any) -> Self:
        """Refused: cosmic rays are found in the frames of a stack, and by comparing them.

        Raises
        ------
        AlreadyApplied
            Always.
        """
        raise AlreadyApplied(f"{self!r}: cosmic rays were rejected when it was made; clean its frames before")

    def __repr__(self) -> str:
        ny, nx = self.shape
        most = int(self.contributors.max()) if self.contributors.size else 0
        return f"<{type(self).__name__} {nx} × {ny} {self.unit}, up to {most} frames>"


def _gathered(
    frames: Iterable[SkyImage | str | Path],
    reference: SkyImage | str | Path | None,
    wishes: tuple[str, str | None, str],
    options: StackOptions,
) -> tuple[list[Laid], Member, Grid, dict[str, Any]]:
    """The layers of a stack, its reference and grid, and what the record keeps of them."""
    align, reject, weights = wishes
    members, given = _measured(_listed(frames), reference, options.max_memory)
    members, lost = _without(members, reject)
    chosen = best(members) if given is None else _among(members, given)
    recording().resolve(reference=chosen.provenance.id)
    found, more = _aligned(members, chosen, align, options.transform)
    grid = grid_of([*found, *_of_reference(found, chosen, align)], chosen, options.footprint)
    layers: list[Laid] = []
    for member, alignment in found:
        try:
            layers.append(laid(member, alignment, chosen, grid, options, weights))
        except NotAligned as error:
            more[member] = str(error)
    lost |= more
    for member, reason in lost.items():
        warnings.warn(
            f"not in the stack: {reason if member.name in reason else f'{member.name}: {reason}'}",
            LarunWarning,
            stacklevel=4,
        )
    if not layers:
        raise NotAligned("no frame is left to stack: " + "; ".join(lost.values()))
    for one in layers:
        recording().parents.append(Parent("frame", one.member.provenance))
    if all(one.member is not chosen for one in layers):
        recording().parents.append(Parent("reference", chosen.provenance))
    return (
        layers,
        chosen,
        grid,
        {
            "reference": chosen.provenance.id,
            "shape": list(grid.shape),
            "origin": list(grid.origin),
            "sky": chosen.sky,
            **_of_all(layers),
            "frames": [one.note() for one in layers],
            "rejected": [{"name": m.name, "frame": m.provenance.id, "reason": r} for m, r in lost.items()],
        },
    )


def _listed(frames: Iterable[SkyImage | str | Path]) -> list[SkyImage | str | Path]:
    listed: list[SkyImage | str | Path] = [frames] if isinstance(frames, SkyImage | str | Path) else list(frames)
    if not listed:
        raise OptionError("there are no frames to stack")
    return listed


def _measured(
    frames: list[SkyImage | str | Path], reference: SkyImage | str | Path | None, max_memory: float
) -> tuple[list[Member], Member | None]:
    """The frames, and the reference where one is named: measured once where it is one of them."""
    count = len(frames)
    if reference is None:
        return _each_once(all_measured(frames, max_memory)), None
    same = (number for number, frame in enumerate(frames) if _is_same(frame, reference))
    index = next(same, count)
    found = all_measured(frames if index < count else [*frames, reference], max_memory)
    return _each_once(found[:count]), found[index]


def _is_same(one: SkyImage | str | Path, two: SkyImage | str | Path) -> bool:
    if isinstance(one, SkyImage) or isinstance(two, SkyImage):
        return one is two
    return Path(one).absolute() == Path(two).absolute()


def _each_once(members: list[Member]) -> list[Member]:
    """By record, so that no name and no order decides; a frame that is there twice counts once."""
    by_id: dict[str, Member] = {}
    for member in members:
        if member.provenance.id in by_id:
            warnings.warn(
                f"{member.name} is the same frame as {by_id[member.provenance.id].name}", LarunWarning, stacklevel=5
            )
        by_id.setdefault(member.provenance.id, member)
    return [by_id[key] for key in sorted(by_id)]


def _without(members: list[Member], reject: str | None) -> tuple[list[Member], dict[Member, str]]:
    """What a condition leaves, and what it takes away."""
    if reject is None:
        return members, {}
    condition = parse(reject)
    rows = [facts(member) for member in members]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    hit = condition.of(columns)
    lost = {m: _why(condition.names, row, reject) for m, row, bad in zip(members, rows, hit, strict=True) if bad}
    kept = [member for member in members if member not in lost]
    if not kept:
        raise OptionError(f"reject={reject!r}: takes all {len(members)} frames away")
    return kept, lost


def _why(names: Sequence[str], row: dict[str, Any], reject: str) -> str:
    said = ", ".join(
        f"{name} = {row[name]:.4g}" if isinstance(row[name], float) else f"{name} = {row[name]}"
        for name in names
        if name in row
    )
    return f"{said} ({reject})"


def _among(members: list[Member], given: Member) -> Member:
    """The member that is the same frame, or the frame itself."""
    return next((member for member in members if member.provenance.id == given.provenance.id), given)


def _aligned(
    members: list[Member], reference: Member, method: str, transform: str
) -> tuple[list[tuple[Member, Alignment]], dict[Member, str]]:
    found, lost = [], {}
    for member in members:
        try:
            found.append((member, aligned(member, reference, method, transform)))
        except NotAligned as error:
            lost[member] = str(error)
    return found, lost


def _of_reference(
    found: list[tuple[Member, Alignment]], reference: Member, method: str
) -> list[tuple[Member, Alignment]]:
    return (
        []
        if any(member is reference for member, _ in found)
        else [(reference, aligned(reference, reference, method, ""))]
    )


def _common(layers: list[Laid]) -> tuple[str, ...]:
    """Noise that at least two frames have at the same places; that of others counts as their own."""
    names = [[shared_on(master, one.alignment) for master in one.member.masters] for one in layers]
    counts = Counter(name for own in names for name in own)
    least = min(2, len(layers))  # of one frame all is kept apart: others may be added
    return tuple(sorted(name for name, count in counts.items() if count >= least))


def _of_all(layers: list[Laid]) -> dict[str, Any]:
    """What the alignments of all frames have in common."""
    found = (one.alignment.fitted.get("reference_wcs") for one in layers)
    cards = next((value for value in found if value is not None), None)
    return {} if cards is None else {"reference_wcs": cards}


def _fields(
    layers: list[Laid], reference: Member, grid: Grid, how: MeanOptions, common: tuple[str, ...]
) -> dict[str, Any]:
    image = reference.image()
    made = stack([_renamed(one, reference.sky) for one in layers], grid.shape, options=how, common=common)
    terms = tuple(noise_term(one.mapping, how.resample.kernel, one.note()) for one in layers)
    header = heading(store.without_sections(image._header).copy(), image, layers)
    return {
        "data": made.data,
        "variance": made.variance,
        "flags": made.flags,
        "shared": tuple(Shared(name, made.shared[name]) for name in common),
        "noise_acf": mean_acf(terms, grid.shape),
        "resampling": packed(_relative(terms)),
        "unit": image.unit,
        "header": header,
        "wcs_header": shifted_wcs(image._wcs_header, grid.origin[0], grid.origin[1]),
        "detector": image.detector.resampled(grid.shape),
        "provenance": image.provenance,  # the operation puts its own in its place
        "coverage": made.coverage,
        "contributors": made.contributors,
        "rejected": made.rejected,
    }


def _relative(terms: tuple[Any, ...]) -> tuple[Any, ...]:
    largest = max(term.weight for term in terms)
    return tuple(term._replace(weight=term.weight / largest) for term in terms) if 0 < largest < math.inf else terms


def _renamed(one: Laid, sky: float) -> Any:
    """A layer whose shared noise has the names it has on the grid."""
    layer = one.layer(sky)

    def read(start: int, stop: int) -> Any:
        rows = one.member.rows(start, stop)
        return rows._replace(shared={shared_on(name, one.alignment): plane for name, plane in rows.shared.items()})

    return layer._replace(read=read)
