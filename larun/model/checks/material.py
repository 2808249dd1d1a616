"""What the tests of a night look at: its raw exposures, its masters, and facts about its science frames."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.overscan import OverscanOptions
from larun.detector import Amplifier
from larun.model.checks.facts import FrameFacts
from larun.model.checks.fields import Field, fields_of
from larun.model.checks.rawfacts import RawFacts, raw_facts
from larun.model.grouping import Group, group
from larun.model.masters import Masters
from larun.model.raw.exposures import Exposure
from larun.model.raw.opening import RawPart
from larun.model.raw.reduction import Leveled, leveled_reader
from larun.model.recipe import Recipe

if TYPE_CHECKING:
    from larun.model.catalog import SourceCatalog
    from larun.model.frame import Frame

__all__ = ["AmplifierPixels", "Material", "once"]

_Value = TypeVar("_Value")


class AmplifierPixels(NamedTuple):
    """The light-sensitive pixels of one amplifier in one raw exposure, overscan subtracted."""

    amplifier: Amplifier
    #: (rows, nx) float32: ADU above overscan; NaN where there is no value.
    data: NDArray[np.float32]
    #: (rows, nx) uint32: flags that the reader and the camera's class set.
    flags: NDArray[np.uint32]
    #: (rows,) float64: overscan level that was subtracted from each row, ADU.
    level: NDArray[np.float64]


@attrs.frozen(kw_only=True, eq=False, slots=False)
class Material:
    """A night as the tests see it.

    Parameters
    ----------
    exposures : tuple of Exposure
        All raw files; none where only products are at hand.
    recipe : Recipe
        How the night is reduced; its keywords hold what was given.
    camera : type
        The base class of the readers.
    masters : Masters
        Of the night.
    facts : tuple of FrameFacts
        One for each science frame that could be reduced, in the order of their times.
    products : mapping of str to callable
        By the name of a science frame, what gives the calibrated frame and its catalogue: for a test that has to look
        at the pixels of a few of them.
    """

    exposures: tuple[Exposure, ...]
    recipe: Recipe
    camera: type[Frame]
    masters: Masters
    facts: tuple[FrameFacts, ...]
    products: Mapping[str, Callable[[], tuple[Frame, SourceCatalog]]] = attrs.field(factory=dict)

    def of(self, kind: str) -> tuple[Exposure, ...]:
        """The raw exposures of one kind."""
        return tuple(item for item in self.exposures if item.kind == kind)

    def groups(self, kind: str) -> tuple[Group, ...]:
        """Calibration exposures of one kind that belong together."""
        return group(kind, self.of(kind))

    def leveled(self, item: Exposure) -> Leveled:
        """A raw exposure whose overscan is measured; the last dozen are kept."""
        return self._read(item.part)

    @functools.cached_property
    def raw(self) -> tuple[RawFacts, ...]:
        """Facts about every raw exposure whose pixels can be read: each is read once."""
        return raw_facts(self.exposures, self.leveled)

    @functools.cached_property
    def fields(self) -> tuple[Field, ...]:
        """The science frames by the field they claim to show, their stars matched."""
        return fields_of(self.facts)

    @functools.cached_property
    def _read(self) -> Callable[[RawPart], Leveled]:
        return leveled_reader(self.camera, given=self.recipe.keywords, overscan=self.overscan)

    @functools.cached_property
    def overscan(self) -> OverscanOptions:
        """How the overscan is measured."""
        return OverscanOptions(**self.recipe.overscan)

    def amplifiers(self, item: Exposure) -> Iterator[AmplifierPixels]:
        """The pixels of each amplifier of a raw exposure, ADU above overscan."""
        leveled = self.leveled(item)
        for block in leveled.blocks(0, leveled.shape[0]):
            data = np.asarray(block.data, np.float32) - block.level[:, None].astype(np.float32)
            yield AmplifierPixels(block.amplifier, data, np.asarray(block.flags), block.level)


def once(function: Callable[[Material], _Value]) -> Callable[[Material], _Value]:
    """Keep what a function finds in a night as long as the night is looked at."""
    memory: WeakKeyDictionary[Material, _Value] = WeakKeyDictionary()

    @functools.wraps(function)
    def remembered(material: Material) -> _Value:
        if material not in memory:
            memory[material] = function(material)
        return memory[material]

    return remembered
