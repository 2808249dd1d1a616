"""One more frame in a stack that is there: a running mean, which remembers what each pixel weighs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.ephemeris import add_seconds, iso_text, seconds_between
from larun.algorithms.resampled_noise import mean_acf, packed, unpacked
from larun.algorithms.stacking import stack, taken_from
from larun.errors import OptionError
from larun.model.aligning.regridding import shared_on
from larun.model.planes import Shared
from larun.model.stacking.laying import Grid, Laid, aligned, laid, noise_term
from larun.model.stacking.options import StackOptions
from larun.provenance import Provenance

if TYPE_CHECKING:
    from larun.model.stack import Stack
    from larun.model.stacking.members import Member

__all__ = ["Running", "added", "one_more", "running_state"]


class Running(NamedTuple):
    """What a record tells of a stack, so that a frame can be added.

    Attributes
    ----------
    reference : str
        Record of the image that gave the pixels.
    origin : tuple of int
        Its pixel that is the first of the stack.
    sky : float
        Its level.
    weights : str
        What they stand for.
    total, largest : float
        Sum of the weights; the largest weight of a frame's noise.
    fwhm : float
        Of the stars.
    ids : tuple of str
        Records of the frames.
    """

    reference: str
    origin: tuple[int, int]
    sky: float
    weights: str
    total: float
    largest: float
    fwhm: float
    ids: tuple[str, ...]

    def told(self) -> dict[str, Any]:
        """As the next record keeps it."""
        return self._asdict() | {"origin": list(self.origin), "ids": list(self.ids)}


def running_state(record: Provenance) -> Running:
    """The state of a stack by its record.

    Raises
    ------
    OptionError
        If something else was done to it since.
    """
    step = record.step
    if step is not None and step.operation == "stack_add":
        state = step.fitted["running"]
        return Running(**{**state, "origin": tuple(state["origin"]), "ids": tuple(state["ids"])})
    if step is None or step.operation != "stack" or "sky" not in step.fitted:
        what = "a file" if step is None else step.operation
        raise OptionError(f"frames are added to a stack as it was made: this one went through {what} since")
    notes, known = step.fitted["frames"], step.fitted
    total = float(sum(note["weight"] for note in notes))
    return Running(
        known["reference"],
        (int(known["origin"][0]), int(known["origin"][1])),
        float(known["sky"]),
        str(step.parameters["weights"]),
        total,
        max((note["weight"] * note["flux_scale"] * note["noise"]) ** 2 for note in notes),
        float(sum(note["weight"] * note["fwhm"] for note in notes) / total),
        tuple(note["frame"] for note in notes),
    )


def one_more(
    there: Stack, state: Running, member: Member, reference: Member, align: str, options: StackOptions
) -> tuple[Laid, Running]:
    """A frame on the grid of a stack, and the state with it."""
    own = reference.provenance.id == there.provenance.id  # the stack itself stands for its reference
    grid = Grid(there.shape, (0, 0) if own else state.origin)
    one = laid(member, aligned(member, reference, align, options.transform), reference, grid, options, state.weights)
    total = state.total + one.weight
    fwhm = (state.fwhm * state.total + one.fwhm * one.weight) / total
    largest = max(state.largest, (one.weight * one.scale * member.noise) ** 2)
    return one, state._replace(total=total, fwhm=fwhm, largest=largest, ids=(*state.ids, member.provenance.id))


def added(there: Stack, one: Laid, before: Running, after: Running, options: StackOptions) -> dict[str, Any]:
    """The fields of a stack with one more frame."""
    how = options.mean("mean")
    names = {master: shared_on(master, one.alignment) for master in one.member.masters}
    layer = one.layer(before.sky)
    own_rows = layer.read

    def read(start: int, stop: int) -> Any:
        rows = own_rows(start, stop)
        return rows._replace(shared={names[name]: plane for name, plane in rows.shared.items()})

    layer = layer._replace(read=read)
    alone = stack([layer], there.shape, options=how, common=tuple(sorted(names.values())))
    taken = taken_from(layer, alone, (there.data, there.contributors), before.fwhm, how)
    good = np.isfinite(alone.data) & ~taken
    old = np.where(there.contributors > 0, there.coverage.astype(np.float64) * before.total, 0.0)
    new = np.where(good, one.weight, 0.0)
    assert there.variance is not None

    def mean(first: NDArray[np.float32], second: NDArray[np.float32], power: int = 1) -> NDArray[np.float32]:
        some = np.where(old > 0, first, 0.0) * old**power + np.where(good, second, 0.0) * new**power
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(some / (old + new) ** power, np.float32)

    flags = np.where(
        good,
        np.where(old > 0, there.flags | alone.flags, alone.flags),
        np.where(old > 0, there.flags, there.flags | alone.flags | fl.NO_DATA),
    )
    zero = np.zeros(there.shape, np.float32)
    known = {item.master: item.variance for item in there.shared}
    planes = {
        name: mean(_amplitude(known.get(name, zero)), _amplitude(alone.shared.get(name, zero)))
        for name in sorted({*known, *alone.shared})
    }
    terms = [term._replace(weight=term.weight * before.largest) for term in unpacked(_row(there))]
    terms.append(noise_term(one.mapping, how.resample.kernel, one.note()))
    relative = tuple(term._replace(weight=term.weight / after.largest) for term in terms)
    return {
        "data": mean(there.data, alone.data),
        "variance": mean(there.variance, alone.variance, 2),
        "flags": flags.astype(np.uint32),
        "shared": tuple(Shared(name, np.nan_to_num(plane * np.abs(plane), nan=0.0)) for name, plane in planes.items()),
        "noise_acf": mean_acf(relative, there.shape),
        "resampling": packed(relative),
        "coverage": ((old + new) / after.total).astype(np.float32),
        "contributors": (there.contributors + good).astype(np.uint16),
        "rejected": (there.rejected + taken).astype(np.uint16),
        "header": _heading(there, one, before.total),
    }


def _row(there: Stack) -> NDArray[np.float64]:
    assert there._resampling is not None
    return there._resampling


def _amplitude(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    return (np.sqrt(np.abs(plane)) * np.sign(plane)).astype(np.float32)


def _heading(there: Stack, one: Laid, total: float) -> Any:
    """The header with what one more frame changes."""
    made, weight, whole = there.header, one.weight, total + one.weight
    made["NCOMBINE"] = int(made.get("NCOMBINE", 1)) + 1
    counted = float(made.get("GAIN", 1.0))
    made["GAIN"] = whole**2 / (total**2 / counted + weight**2 * one.scale)
    time, own = one.member.time, there.time
    known = {
        "TEXPTIME": one.member.exposure,
        "AIRMASS": None if time is None else time.airmass,
        "DATE-AVG": None if time is None else time._mid,
    }
    for name, value in known.items():
        if name in made and value is None:
            del made[name]
    if "TEXPTIME" in made and one.member.exposure is not None:
        made["TEXPTIME"] = float(made["TEXPTIME"]) + one.member.exposure
    if "AIRMASS" in made and time is not None and time.airmass is not None:
        made["AIRMASS"] = round((float(made["AIRMASS"]) * total + time.airmass * weight) / whole, 6)
    if "DATE-AVG" not in made or time is None or time._mid is None or own._mid is None:
        for name in ("DATE-OBS", "DATE-BEG", "DATE-AVG", "DATE-END"):
            made.remove(name, ignore_missing=True)
        return made
    made["DATE-AVG"] = iso_text(add_seconds(own._mid, seconds_between(own._mid, time._mid) * weight / whole))
    if time._start is not None and own._start is not None and seconds_between(own._start, time._start) < 0:
        made["DATE-OBS"] = made["DATE-BEG"] = iso_text(time._start)
    if time._end is not None and own._end is not None and seconds_between(own._end, time._end) > 0:
        made["DATE-END"] = iso_text(time._end)
    return made
