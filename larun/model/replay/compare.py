"""What differs between a product and the same product made again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.model import registry
from larun.model.cutouts import Cutouts
from larun.model.planes import alike, same_plane
from larun.model.psf import PSF
from larun.model.tabular import Tabular

if TYPE_CHECKING:
    from larun.model.image import Image

__all__ = ["Difference", "differences"]

_PLANES = ("data", "variance", "flags", "noise_acf", "_resampling")


class Difference(NamedTuple):
    """Something that differs.

    Attributes
    ----------
    what : str
        A plane, a column, or a field.
    detail : str
        In words.
    largest : float or None
        Largest absolute difference of numbers.
    values : int
        How many values differ.
    """

    what: str
    detail: str
    largest: float | None = None
    values: int = 1

    def __str__(self) -> str:
        return f"{self.what}: {self.detail}"


def differences(
    product: Image | Tabular, again: Any, *, renamed: Mapping[str, str] | None = None
) -> tuple[Difference, ...]:
    """Where two objects differ, in all but their records; empty when they are the same bit for bit.

    Parameters
    ----------
    product, again : Image, SourceCatalog, LightCurve, PSF or Cutouts
        The product as it is, and as it was made again.
    renamed : mapping, optional
        Ids of masters that the product used, and of those that stand for them in the other one.
    """
    one, two = (registry.name_of(type(item)) for item in (product, again))
    if one != two:
        return (Difference("class", f"{one} is {two} when made again"),)
    if isinstance(product, PSF):
        found = [*_tables(product, again), _arrays("function", product.function.nodes, again.function.nodes)]
        return tuple(item for item in found if item is not None)
    if isinstance(product, Cutouts):
        found = [*_tables(product, again), _arrays("pixels", product.pixels, again.pixels)]
        return tuple(item for item in found if item is not None)
    if isinstance(product, Tabular):
        return _tables(product, again)
    found = [_arrays(name, getattr(product, name), getattr(again, name)) for name in _PLANES]
    found += _shared(product, again, renamed or {})
    for field in attrs.fields(type(product)):
        if field.name in (*_PLANES, "shared", "provenance") or field.metadata.get("passing"):
            continue
        before, after = getattr(product, field.name), getattr(again, field.name)
        if not alike(before, after):
            found.append(Difference(field.name.strip("_").replace("_", " "), _fields(before, after)))
    return tuple(item for item in found if item is not None)


def _arrays(name: str, one: NDArray[Any] | None, two: NDArray[Any] | None) -> Difference | None:
    if same_plane(one, two):
        return None
    if one is None or two is None:
        return Difference(name, "is there only " + ("when made again" if one is None else "in the product"))
    if one.shape != two.shape or one.dtype != two.dtype:
        return Difference(name, f"is {one.dtype} {one.shape}, made again {two.dtype} {two.shape}")
    if one.dtype.kind not in "fiub":
        unequal = np.asarray(one != two)
        return Difference(name, f"{np.count_nonzero(unequal)} values differ", None, int(np.count_nonzero(unequal)))
    bits = f"u{one.dtype.itemsize}"
    unequal = np.ascontiguousarray(one).view(bits) != np.ascontiguousarray(two).view(bits)
    with np.errstate(invalid="ignore"):
        distance = np.abs(one.astype(np.float64) - two.astype(np.float64))
    distance = np.where(unequal & ~np.isfinite(distance), np.inf, np.where(unequal, distance, 0.0))
    where = np.unravel_index(int(np.argmax(distance)), distance.shape)
    count, largest = int(np.count_nonzero(unequal)), float(distance[where])
    place = f"at x = {where[1]}, y = {where[0]}" if one.ndim == 2 else f"in row {where[0]}"
    before, after = one[where], two[where]
    text = (
        f"{count} of {one.size} values differ, by at most {largest:.3g} ({before:.9g} was {after:.9g} again, {place})"
    )
    return Difference(name, text, largest, count)


def _shared(product: Image, again: Image, renamed: Mapping[str, str]) -> list[Difference | None]:
    one = {renamed.get(item.master, item.master): item.variance for item in product.shared}
    two = {item.master: item.variance for item in again.shared}
    if set(one) != set(two):
        return [Difference("shared", "is the noise of other masters when made again", None, len(set(one) ^ set(two)))]
    if list(one) != list(two):  # sums over it go in this order
        return [Difference("shared", "is the noise of the same masters in another order when made again")]
    return [_arrays(f"shared noise of {name[:8]}", one[name], two[name]) for name in one]


def _fields(before: Any, after: Any) -> str:
    if hasattr(before, "cards") and hasattr(after, "cards"):
        old, new = ({str(card) for card in header.cards} for header in (before, after))
        only = sorted(old - new)[:1] + sorted(new - old)[:1]
        return f"{len(old ^ new)} cards differ, first " + " / ".join(card[:60].rstrip() for card in only)
    return "differs when made again"


def _tables(product: Tabular, again: Tabular) -> tuple[Difference, ...]:
    from larun.io.flat import same_table

    one, two = product._table, again._table
    if len(one) != len(two):
        return (Difference("rows", f"{len(one)} sources, {len(two)} when made again", None, abs(len(one) - len(two))),)
    if one.colnames != two.colnames:
        other = sorted(set(one.colnames) ^ set(two.colnames)) or one.colnames
        return (Difference("columns", f"{', '.join(other)} are not in both, or in another order", None, len(other)),)
    if same_table(one, two):
        return ()
    found = [_arrays(name, _plain(one[name]), _plain(two[name])) for name in one.colnames]
    found += [Difference(f"meta {key}", "differs") for key in one.meta if one.meta[key] != two.meta.get(key)]
    made = tuple(item for item in found if item is not None)
    return made or (Difference("table", "units, masks or descriptions of columns differ"),)


def _plain(column: Any) -> NDArray[Any]:
    return np.asarray(getattr(column, "value", column))
