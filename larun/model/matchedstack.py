"""``MatchedStack``: frames put on one another by their point-spread functions; its own is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.psf import PSF
from larun.errors import OptionError
from larun.model.planes import freeze
from larun.model.pointspread.stored import stored_psf
from larun.model.stack import Stack

__all__ = ["MatchedStack"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class MatchedStack(Stack):
    """A stack that knows its point-spread function, since it was made by those of its frames.

    Made by :meth:`larun.Stack.combine` with ``method="proper"`` or ``"homogenised"``.

    Parameters
    ----------
    psf_nodes : array (terms, m, m), float64
        The PSF where all frames lie: see :attr:`point_spread`.
    domain : tuple of float
        Middle and half width of the stack along x, and along y, pixels, in which it is a polynomial.
    psf_facts : mapping
        Oversampling, radius, FWHM and kind of the PSF.
    """

    psf_nodes: NDArray[np.float64] = attrs.field(converter=freeze, metadata={"plane": "PSFNODES", "beside": True})
    domain: tuple[float, float, float, float] = attrs.field(converter=tuple, metadata={"domain": True})
    psf_facts: Mapping[str, Any] = attrs.field(converter=dict)

    @property
    def point_spread(self) -> PSF:
        """The PSF of the stack, all of whose light is 1: of a proper coadd where all frames lie, else the target."""
        return stored_psf(self.psf_nodes, self.domain, self.psf_facts)

    def _photon_gain(self) -> float:
        from larun.model.pointspread.making import photon_gain

        return photon_gain(self)  # filters share out the noise of photons as they do that of the sky

    def add(self, *args: Any, **kwargs: Any) -> Self:
        """Refused: filters depend on all frames.

        Raises
        ------
        OptionError
            Always.
        """
        raise OptionError(f"{self!r}: every frame decides how the others are filtered; combine all of them again")
