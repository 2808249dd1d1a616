"""``PSF``: the point-spread function of an image, with the stars it was made from and a record of how."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms import psf as functions
from larun.errors import CorruptProduct, FileError, OptionError
from larun.model.planes import freeze, same_plane
from larun.model.tabular import Tabular
from larun.provenance import Provenance

__all__ = ["PSF"]

_PLANES = ("residual", "residual_error", "chi2_map")
_OF_FUNCTION = ("oversampling", "radius", "fwhm", "kind", "aperture", "domain")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class PSF(Tabular):
    """The share of a star's light that each pixel gets, anywhere on an image: an immutable value.

    Made by :meth:`larun.SkyImage.psf`. The table holds all sources, which of them were ``used``, and for what
    ``reason`` the others were not.

    Parameters
    ----------
    function : larun.algorithms.psf.PSF
        The function itself: cubic B-splines on an oversampled grid, polynomials over the image.
    residual, residual_error : array (2 r - 1, 2 r - 1), float64
        What is left of the stars on average when it is subtracted, in shares of their light a pixel, and its error.
    chi2_map : array (3, 3), float64
        Median chi^2 of the stars in each ninth of the image, the first row below; NaN where there is none.

    Examples
    --------
    >>> import numpy as np, larun
    >>> rng = np.random.default_rng(1)
    >>> y, x = (part.ravel() + rng.uniform(-0.5, 0.5, 100) for part in np.mgrid[20:300:28, 20:300:28])
    >>> light = larun.simulate.render((300, 300), x, y, np.full(x.size, 3e4), fwhm=3.0, beta=3.0)
    >>> sky = larun.simulate.noisy(light + 100, read_noise=5.0, rng=rng)
    >>> frame = larun.Frame.from_arrays(sky, variance=light + 125, unit="electron")
    >>> psf = frame.psf()
    >>> psf.converged, bool(abs(psf.fwhm - 3.0) < 0.05), bool(abs(psf.at(40.3, 50.0).sum() - 1) < 0.05)
    (True, True, True)
    """

    function: functions.PSF
    residual: NDArray[np.float64] = attrs.field(converter=freeze)
    residual_error: NDArray[np.float64] = attrs.field(converter=freeze)
    chi2_map: NDArray[np.float64] = attrs.field(converter=freeze)

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def model(self) -> str:
        """``"empirical"``, ``"moffat"`` or ``"gaussian"``."""
        return self.function.kind

    @property
    def fwhm(self) -> float:
        """Full width at half maximum before the pixel blurred it, pixels."""
        return self.function.fwhm

    @property
    def order(self) -> int:
        """Order of the polynomials over the image: 0 is the same everywhere."""
        return self.function.order

    @property
    def oversampling(self) -> int:
        """Nodes a pixel."""
        return self.function.oversampling

    @property
    def radius(self) -> int:
        """It is known so many pixels to each side."""
        return self.function.radius

    @property
    def aperture(self) -> float | None:
        """Radius in pixels of the circle that holds a light of 1: fluxes are those of such an aperture."""
        return self.function.aperture

    @property
    def converged(self) -> bool:
        """Whether stars and function did not move any more."""
        return bool(self._table.meta["converged"])

    @property
    def chi2(self) -> float:
        """Median chi^2 of the stars, by the degrees of freedom: above 1 where it does not describe them."""
        return float(self._table.meta["chi2"])

    @property
    def says(self) -> str:
        """How it was made and where it is bad, in a sentence."""
        return str(self._table.meta["says"])

    def at(self, x: float, y: float) -> NDArray[np.float64]:
        """The pixels around a star: shares of its light.

        Parameters
        ----------
        x, y : float
            Where the star is on the image, pixels; the fraction of a pixel matters, and where the function varies
            also the rest.

        Returns
        -------
        ndarray of float64, (2 r - 1, 2 r - 1)
            The pixel that holds the position in the middle; r is :attr:`radius`.

        Raises
        ------
        OptionError
            If the position is not finite.
        """
        if not np.isfinite(x + y):
            raise OptionError(f"x = {x}, y = {y}: must be numbers of pixels")
        offsets = np.arange(1 - self.radius, self.radius)
        columns, rows = offsets + np.floor(x + 0.5) - x, offsets + np.floor(y + 0.5) - y
        return np.array(self.function.values(columns[None, :], rows[:, None], x, y)[0])

    def draw(self, shape: tuple[int, int], x: Any, y: Any, flux: Any) -> NDArray[np.float64]:
        """An image of stars, without sky and noise.

        Parameters
        ----------
        shape : (int, int)
            Rows and columns.
        x, y, flux : array_like (n,)
            Pixels, and fluxes; stars of which one is not finite are left out.

        Returns
        -------
        ndarray of float64, (ny, nx)
        """
        return self.function.draw(shape, x, y, flux)

    def identical(self, other: object) -> bool:
        """Whether function, stars, residuals and provenance agree, bit for bit."""
        return (
            isinstance(other, PSF)
            and super().identical(other)
            and all(getattr(self.function, name) == getattr(other.function, name) for name in _OF_FUNCTION)
            and same_plane(self.function.nodes, other.function.nodes)
            and all(same_plane(getattr(self, name), getattr(other, name)) for name in _PLANES)
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.model}, FWHM {self.fwhm:.2f} pixels, order {self.order}>"

    def __str__(self) -> str:
        return f"{self!r}\n{self.says}"

    # -- disk ------------------------------------------------------------------------------------------------------

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a FITS file that :meth:`read` turns back into an identical function.

        It holds the nodes in the HDU ``PSF``, residuals, and the stars as a table.

        Raises
        ------
        FileError
            If the file exists and ``overwrite`` is not set.
        OptionError
            If the name does not end in ``.fits``.
        """
        from larun.io.atomic import atomic_path, check_target
        from larun.io.fits_table import FITS

        target = Path(path)
        if target.suffix.lower() not in FITS.suffixes:
            raise OptionError(f"{target}: a PSF is a FITS file, end its name in .fits")
        known = {name: getattr(self.function, name) for name in _OF_FUNCTION}
        record = self._record() | {"psf": {**known, "domain": list(self.function.domain)}}
        arrays = {"PSF": self.function.nodes, **{name.upper(): getattr(self, name) for name in _PLANES}}
        check_target(target, overwrite=overwrite)
        with atomic_path(target, overwrite=overwrite) as temporary:
            FITS.write(temporary, self._table, record, arrays)
        return target

    @classmethod
    def read(cls, path: str | Path, *, verify: bool = True) -> Self:
        """Read a function written by :meth:`write`.

        Raises
        ------
        FileError
            If the file cannot be read, or holds something else.
        CorruptProduct
            If it does not match its digests.
        """
        from larun.io.fits_table import FITS

        path = Path(path)
        if path.suffix.lower() not in FITS.suffixes:
            raise FileError(f"{path}: a PSF is a FITS file")
        table, record = FITS.read(path, verify=verify)
        if "psf" not in record:
            raise FileError(f"{path}: holds no PSF but a catalogue: read it with larun.SourceCatalog.read(path)")
        try:
            arrays = FITS.arrays(path, ("PSF", *(name.upper() for name in _PLANES)))
            known = {name: record["psf"][name] for name in _OF_FUNCTION}
            provenance = Provenance.from_dict(record["provenance"], str(path))
        except KeyError as error:
            raise CorruptProduct(f"{path}: its record lacks {error}") from error
        known["domain"] = tuple(known["domain"])
        nodes, *planes = arrays
        return cls(
            table=table,
            provenance=provenance,
            function=functions.PSF(nodes=nodes, **known),
            **dict(zip(_PLANES, planes, strict=True)),
        )
