"""The sky of an image, measured once: most steps begin with it, and pixels never change."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from larun.algorithms.background import Background, BackgroundOptions, background
from larun.model.planes import total_variance

if TYPE_CHECKING:
    from larun.model.image import Image

__all__ = ["background_of"]

#: The last background of each image, its meshes alone.
_KNOWN: WeakKeyDictionary[Image, tuple[BackgroundOptions, Background]] = WeakKeyDictionary()


def background_of(image: Image, options: BackgroundOptions) -> Background:
    """The background of an image; its maps are made when somebody looks at them, for each who asks."""
    known = _KNOWN.get(image)
    if known is None or known[0] != options:
        known = options, background(image.data, total_variance(image), image.flags, options=options).again()
        _KNOWN[image] = known
    return known[1].again()
