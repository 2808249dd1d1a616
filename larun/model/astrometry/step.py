"""The section ``[solve]`` of a recipe: whether the frames of a night are solved, and how."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from larun.errors import OptionError
from larun.model.astrometry.solving import ENGINES
from larun.model.reference.stars import ReferenceCatalog
from larun.provenance import canonical

if TYPE_CHECKING:
    from larun.model.sky import SkyImage
    from larun.provenance import Provenance

__all__ = ["SolveStep", "located", "opened", "was_located"]

_F = TypeVar("_F", bound="SkyImage")


@attrs.frozen(kw_only=True)
class SolveStep:
    """Whether frames are given the WCS of the sky, and how.

    Parameters
    ----------
    reference : path, optional
        Catalogue of stars of known position, a file or a store; without one frames keep the WCS of their headers.
    radius : float, optional
        Degrees around the pointing of the header in which a frame lies as a whole.
    scale : float, optional
        Arcseconds a pixel, where headers do not say or get it wrong.
    order : int, optional
        1 for a projection without distortion, more for the order of its polynomial; by default cross-validation tells.
    engine : {"larun", "astrometry.net"}
        What searches: larun, or the program solve-field where it is installed.
    """

    reference: Path | None = attrs.field(default=None)
    radius: float | None = None
    scale: float | None = None
    order: int | None = None
    engine: str = "larun"

    def __attrs_post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise OptionError(f"engine = {self.engine!r}: use {' or '.join(ENGINES)}")
        if self.order is not None and not 1 <= self.order <= 8:
            raise OptionError(f"order = {self.order!r}: must be a whole number from 1 to 8")
        if self.radius is not None and not 0 < self.radius <= 180:
            raise OptionError(f"radius = {self.radius!r}: must be degrees above 0")
        if self.scale is not None and not self.scale > 0:
            raise OptionError(f"scale = {self.scale!r}: must be arcseconds above 0")


def opened(path: Path) -> ReferenceCatalog:
    """A reference from disk, read once in a process as long as it does not change."""
    stamp = path.stat() if path.exists() else None
    return _opened(path, None if stamp is None else (stamp.st_mtime_ns, stamp.st_size))


@functools.lru_cache(maxsize=2)
def _opened(path: Path, stamp: tuple[int, int] | None) -> ReferenceCatalog:
    return ReferenceCatalog.open(path)


def located(frame: _F, section: Mapping[str, Any]) -> _F:
    """A frame with the WCS of the sky; as it is, where no reference is named.

    Raises
    ------
    NotSolved
        As :meth:`larun.SkyImage.solve`.
    """
    if section["reference"] is None:
        return frame
    chosen = {name: section[name] for name in ("radius", "scale", "order", "engine")}
    return frame.solve(opened(section["reference"]), **chosen)


def was_located(found: Provenance, expected: Provenance, section: Mapping[str, Any]) -> bool:
    """Whether a record is that of a frame with an expected record that was then solved as a section says."""
    step = found.step
    if section["reference"] is None or step is None or step.operation != "solve":
        return False
    said = {name: step.parameters[name] for name in ("order", "engine", "options")}
    from larun.model.astrometry.options import SolveOptions

    wanted = canonical({"order": section["order"], "engine": section["engine"], "options": SolveOptions()})
    same = step.parameters["reference"]["stars"]["meta"]["digest"] == getattr(
        opened(section["reference"]), "digest", None
    )
    return said == wanted and same and [parent.provenance.id for parent in found.parents] == [expected.id]
