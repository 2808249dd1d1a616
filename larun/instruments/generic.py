"""The camera of last resort: headers are taken at their word."""

from __future__ import annotations

import attrs

from larun.model.frame import Frame

__all__ = ["Generic"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Generic(Frame):
    """A frame of a camera larun has no class for: standard keywords, one amplifier, all three masters required."""
