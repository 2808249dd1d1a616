"""``DifferenceImage``: what is new, and what is gone, since a reference was taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.kernelfield import KernelField
from larun.algorithms.psf import PSF
from larun.errors import OptionError
from larun.model.catalog import SourceCatalog
from larun.model.measure.positions import positions_of
from larun.model.planes import freeze
from larun.model.pointspread.stored import stored_psf
from larun.model.sky import SkyImage
from larun.model.subtracting import finding
from larun.model.subtracting.forced import forced_table, subtraction_of
from larun.provenance import operation, recording

__all__ = ["DifferenceImage", "Pair"]


class Pair(NamedTuple):
    """The images that were subtracted, on the same pixels.

    Attributes
    ----------
    science, reference : SkyImage
        The images.
    difference : array (ny, nx), float32
        What came of them.
    """

    science: SkyImage
    reference: SkyImage
    difference: NDArray[np.float32]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class DifferenceImage(SkyImage):
    """A science image less a reference, on the flux scale of the science image.

    Made by :meth:`larun.Frame.subtract`. Its noise is white; what the reference adds to it is in ``shared`` under the
    id of the reference, since it is common to all differences made with it.

    Parameters
    ----------
    score : array (ny, nx), float32
        Matched filter in units of its noise: on noise alone a unit Gaussian. 0 where too few pixels are good.
    kernel : array (terms, k, k), float64
        The kernel that one of the images was convolved with, as polynomials over the image: see :meth:`kernel_at`.
    psf_nodes : array (terms, m, m), float64
        The PSF of the difference: see :attr:`point_spread`.
    domain : tuple of float
        Middle and half width of the image along x, and along y, pixels, in which both are polynomials.
    psf_facts : mapping
        Oversampling, radius, FWHM and kind of the PSF.
    pair : Pair, optional
        The images as they were subtracted; not written.
    """

    score: NDArray[np.float32] = attrs.field(converter=freeze, metadata={"plane": "SCORE"})
    kernel: NDArray[np.float64] = attrs.field(converter=freeze, metadata={"plane": "KERNEL", "beside": True})
    psf_nodes: NDArray[np.float64] = attrs.field(converter=freeze, metadata={"plane": "PSFNODES", "beside": True})
    domain: tuple[float, float, float, float] = attrs.field(converter=tuple, metadata={"domain": True})
    psf_facts: Mapping[str, Any] = attrs.field(converter=dict)
    _pair: Pair | None = attrs.field(default=None, metadata={"passing": True})

    @property
    def science(self) -> SkyImage | None:
        """The image that was subtracted from, on the pixels of the difference; absent after reading or cropping."""
        pair = self._pair_of_these_pixels()
        return None if pair is None else pair.science

    @property
    def reference(self) -> SkyImage | None:
        """The reference, on the pixels of the difference; absent after reading or cropping."""
        pair = self._pair_of_these_pixels()
        return None if pair is None else pair.reference

    def _pair_of_these_pixels(self) -> Pair | None:
        # a difference that was cropped has another plane of pixels than the pair was subtracted to
        return self._pair if self._pair is not None and self._pair.difference is self.data else None

    @property
    def convolved(self) -> str:
        """Which image was convolved: ``"reference"`` or ``"science"``."""
        return str(self._fact("convolved"))

    @property
    def scale(self) -> float:
        """Flux on the science image over that on the reference: the kernel's sum, or one over it."""
        return float(self._fact("scale"))

    @property
    def preconvolved(self) -> float:
        """Sigma, pixels, of the Gaussian that the image which was not convolved was blurred by before; 0 for none."""
        step = subtraction_of(self).step
        return 0.0 if step is None else float(step.fitted.get("blur", 0.0))

    def _fact(self, name: str) -> Any:
        step = subtraction_of(self).step
        assert step is not None
        return step.fitted[name]

    @property
    def point_spread(self) -> PSF:
        """The PSF of the difference: that of the image that was not convolved, after the noise was made white."""
        return stored_psf(self.psf_nodes, self.domain, self.psf_facts)

    def kernel_at(self, x: float, y: float) -> NDArray[np.float64]:
        """The kernel at a place, (k, k).

        Parameters
        ----------
        x, y : float
            Pixels.
        """
        field = KernelField(images=self.kernel, coefficients=np.eye(len(self.kernel)), domain=self.domain)
        return field.at(x, y)

    @operation("detect_changes", version=4, reach="global")
    def detect(
        self,
        threshold: float = 5.0,
        *,
        method: str | Callable[..., Any] = "score",
        fwhm: float | None = None,
        mesh: int = 64,
        options: Mapping[str, Any] | Any = None,
    ) -> SourceCatalog:
        """Find what is new and what is gone: maxima and minima of the score, with the reasons to doubt them.

        Parameters
        ----------
        threshold : float
            Least score, of either sign.
        method : {"score"}
            The score image decides.
        fwhm, mesh, options
            Must be left out: a difference knows its PSF, and has no sky.

        Returns
        -------
        SourceCatalog
            By falling size of the score; ``flux`` is negative for what is gone. The columns are those of
            :data:`larun.model.subtracting.finding.COLUMNS`: ``doubt`` says whether any reason holds.

        Raises
        ------
        OptionError
            If the threshold is not positive, or what must be left out is given.
        """
        if method != "score" or fwhm is not None or mesh != 64 or options is not None:
            raise OptionError("detect() of a difference takes a threshold alone: the score image decides")
        if not 0 < threshold < np.inf:
            raise OptionError(f"threshold = {threshold}: must be a positive number")
        return SourceCatalog(table=finding.found_on(self, float(threshold)), image=self, provenance=self.provenance)

    @operation("forced_differences", version=1, reach="global", leave_out=("positions",))
    def forced(self, positions: Any, *, limit: float = 3.0) -> SourceCatalog:
        """Forced photometry by the PSF of the difference, whether or not anything is seen; with upper limits.

        Apertures are measured by :meth:`photometer`, with ``sky="none"``.

        Parameters
        ----------
        positions : array, table, SourceCatalog, SkyCoord, path or regions
            As for :meth:`photometer`; kept in the record.
        limit : float
            An upper limit is so many standard deviations above the flux, or above 0 where that is negative.

        Returns
        -------
        SourceCatalog
            One row per position, in the order given: ``flux``, ``flux_error``, ``snr``, ``flux_limit``. Errors hold the
            noise of both images; where the science image is one of the frames of the reference, less of it. NaN where
            less than half of the PSF falls on usable pixels.

        Raises
        ------
        OptionError
            If the limit is not positive.
        CatalogError
            If sky coordinates are given and the image has no WCS.
        """
        if not 0 < limit < np.inf:
            raise OptionError(f"limit={limit!r}: must be a positive number of standard deviations")
        x, y = positions_of(self, positions)
        recording().resolve(positions=np.column_stack([x, y]))
        if hasattr(positions, "provenance"):
            recording().parent("positions", positions.provenance)
        return SourceCatalog(table=forced_table(self, x, y, float(limit)), image=self, provenance=self.provenance)
