"""``Cutouts``: the surroundings of sources as stamps of 8-bit numbers, with all that is needed to go back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms import quantized
from larun.errors import CatalogError, CorruptProduct, FileError, OptionError
from larun.model.image import Image
from larun.model.measure import schema
from larun.model.planes import freeze, same_plane
from larun.model.tabular import Tabular
from larun.provenance import Provenance, recording

if TYPE_CHECKING:
    from larun.model.catalog import SourceCatalog
    from larun.model.sky import SkyImage

__all__ = ["Cutouts", "cutouts_of"]

_LARGEST = 1024
_LONGEST_NAME = 30
#: A saturated pixel still has a value, the highest there is.
_NO_VALUE = fl.UNUSABLE & ~fl.SATURATED
_FACTS = ("planes", "extent", "clip")


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(str, names))


def _limits(clip: Iterable[float]) -> tuple[float, float]:
    low, high = clip
    return float(low), float(high)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Cutouts(Tabular):
    """Stamps around sources, quantised for small classifiers: an immutable value.

    Made by :meth:`larun.SourceCatalog.cutouts`. The table is that of the catalogue, with ``median_…``, ``sigma_…`` and
    ``known_…`` of each stamp, by the name of its plane: what was subtracted, what it was divided by (both in the unit
    of the image), and which part of its pixels has a value.

    Parameters
    ----------
    pixels : array (n, size, size, planes), int8
        Rows from below, planes last, as LiteRT takes a batch of images; ``real = scale (q - zero_point)``.
    planes : tuple of str
        Names of the planes.
    extent : float or None
        How many pixels of the image a side covers; None where the stamps are pixels of the image as they are.
    clip : (float, float)
        Limits of the real numbers.

    Examples
    --------
    >>> import numpy as np, larun
    >>> sky = np.random.default_rng(1).normal(100, 10, (64, 64))
    >>> sky[32, 30] += 1000
    >>> frame = larun.Frame.from_arrays(sky, variance=np.full((64, 64), 100.0), unit="electron")
    >>> stamps = frame.detect(fwhm=2.0).cutouts(size=15)
    >>> stamps.pixels.shape, stamps.pixels.dtype, stamps.zero_point, round(stamps.scale, 4)
    ((1, 15, 15, 1), dtype('int8'), 0, 0.0784)
    >>> bool(abs(stamps.values()[0, 7, 7] / sky[32, 30] - 1) < 0.04)
    True
    """

    pixels: NDArray[np.int8] = attrs.field(converter=freeze)
    planes: tuple[str, ...] = attrs.field(converter=_names)
    extent: float | None = None
    clip: tuple[float, float] = attrs.field(converter=_limits)

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def _quantizer(self) -> quantized.Quantizer:
        return quantized.Quantizer(*self.clip)

    @property
    def scale(self) -> float:
        """A step of the integers, the same for all stamps."""
        return self._quantizer.scale

    @property
    def zero_point(self) -> int:
        """The integer that means 0: the median of a stamp, and pixels without a value."""
        return self._quantizer.zero_point

    @property
    def size(self) -> int:
        """Pixels along each side of a stamp."""
        return int(self.pixels.shape[1])

    def real(self, plane: str | None = None) -> NDArray[np.float32]:
        """What a classifier sees: the inverse hyperbolic sine of the values, in units of the stamp's scatter.

        Parameters
        ----------
        plane : str, optional
            By default the first.

        Returns
        -------
        ndarray of float32, (n, size, size)
        """
        return self._real(self._number(plane)).astype(np.float32)

    def values(self, plane: str | None = None) -> NDArray[np.float32]:
        """The pixels in the unit of the image again, within half a step, except where they were clipped.

        The light of a stamp is the sum of the values, times ``(extent / size)²`` where it was resampled. A pixel
        without a value has the median.

        Parameters
        ----------
        plane : str, optional
            By default the first.

        Returns
        -------
        ndarray of float32, (n, size, size)
        """
        number = self._number(plane)
        name = self.planes[number]
        median, sigma = (_plain(self._table[f"{what}_{name}"]) for what in ("median", "sigma"))
        found = quantized.Levels(median, sigma, np.ones(len(median)))
        return found.inverse(self._real(number)).astype(np.float32)

    def _real(self, number: int) -> NDArray[np.float64]:
        return self._quantizer.inverse(self.pixels[..., number])

    def _number(self, plane: str | None) -> int:
        if plane is not None and plane not in self.planes:
            raise OptionError(f"plane={plane!r}: must be one of {', '.join(self.planes)}")
        return 0 if plane is None else self.planes.index(plane)

    def identical(self, other: object) -> bool:
        """Whether pixels, what they mean, table and provenance agree, bit for bit."""
        return (
            isinstance(other, Cutouts)
            and super().identical(other)
            and all(getattr(self, name) == getattr(other, name) for name in _FACTS)
            and same_plane(self.pixels, other.pixels)
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self)} × {self.size} × {self.size} int8, {', '.join(self.planes)}>"

    def __str__(self) -> str:
        return repr(self)

    # -- disk ------------------------------------------------------------------------------------------------------

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a file; its suffix chooses what for.

        ``.fits`` is a product that :meth:`read` turns back into identical stamps, the cube in the HDU ``STAMPS``;
        ``.npz`` holds the arrays for numpy and its kin; ``.h`` is C, for a microcontroller.

        Raises
        ------
        FileError
            If the file exists and ``overwrite`` is not set.
        OptionError
            If the suffix is none of these, or there are no stamps to write to FITS or C.
        """
        from larun.io import stampfiles
        from larun.io.atomic import atomic_path, check_target
        from larun.io.fits_table import FITS

        target = Path(path)
        suffix = target.suffix.lower()
        if suffix not in (".fits", ".npz", ".h"):
            raise OptionError(f"{target}: stamps are written as .fits, .npz (numpy) or .h (C)")
        if not len(self) and suffix != ".npz":
            raise OptionError(f"{target}: there are no stamps; only .npz can hold none")
        facts = {"planes": list(self.planes), "extent": self.extent, "clip": list(self.clip)}
        record = self._record() | {"stamps": facts}
        more = {} if suffix == ".fits" else {"replaceable": stampfiles.replaceable}
        check_target(target, overwrite=overwrite, **more)
        with atomic_path(target, overwrite=overwrite, **more) as temporary:
            if suffix == ".fits":
                FITS.write(temporary, self._table, record, {"STAMPS": self.pixels})
            elif suffix == ".npz":
                stampfiles.write_npz(temporary, self.pixels, self._table, self._meaning(), record)
            else:
                stampfiles.write_c(temporary, target.stem, self.pixels, self._meaning())
        return target

    def _meaning(self) -> dict[str, Any]:
        return {"scale": self.scale, "zero_point": self.zero_point, "planes": list(self.planes)}

    @classmethod
    def read(cls, path: str | Path, *, verify: bool = True) -> Self:
        """Read stamps from the FITS file that :meth:`write` made.

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
            raise FileError(f"{path}: stamps are read from .fits; numpy.load reads .npz")
        table, record = FITS.read(path, verify=verify)
        if "stamps" not in record:
            raise FileError(f"{path}: holds no stamps but a table: read it with larun.SourceCatalog.read(path)")
        try:
            (pixels,) = FITS.arrays(path, ("STAMPS",))
            facts = {name: record["stamps"][name] for name in _FACTS}
            provenance = Provenance.from_dict(record["provenance"], str(path))
        except KeyError as error:
            raise CorruptProduct(f"{path}: its record lacks {error}") from error
        return cls(table=table, provenance=provenance, pixels=pixels, **facts)


def cutouts_of(
    catalog: SourceCatalog,
    size: int,
    planes: Sequence[str] | Mapping[str, Image] | None,
    extent: float | None,
    clip: tuple[float, float],
) -> Cutouts:
    """See :meth:`larun.SourceCatalog.cutouts`.

    Raises
    ------
    CatalogError, OptionError
        As there.
    """
    if not (isinstance(size, int | np.integer) and 1 <= size <= _LARGEST):
        raise OptionError(f"size = {size!r}: must be a whole number of pixels, 1 … {_LARGEST}")
    if extent is not None and not 1 <= extent <= _LARGEST:
        raise OptionError(f"extent = {extent!r}: must be a number of pixels, 1 … {_LARGEST}")
    quantizer = quantized.Quantizer(*clip)
    images = _images(catalog, planes)
    recording().resolve(planes=list(images))
    table = catalog.table
    x, y = (_plain(table[name]) for name in ("x", "y"))
    if not np.all(np.isfinite(x + y)):
        raise CatalogError("a source has no position: leave it out with catalog.select(...) first")
    stack = np.empty((len(x), size, size, len(images)), np.int8)
    for number, (name, image) in enumerate(images.items()):
        recording().parent(name, image.provenance)
        unusable = np.asarray((image.flags & _NO_VALUE) != 0)
        if extent is None:
            places = np.floor(x + 0.5).astype(np.int64), np.floor(y + 0.5).astype(np.int64)
            stamps = quantized.cut(image.data, unusable, *places, int(size))
        else:
            stamps = quantized.resampled(image.data, unusable, x, y, (int(size), float(extent)))
        found = quantized.levels(stamps)
        stack[..., number] = quantizer.forward(found.forward(stamps))
        _add(table, name, found, image)
    return Cutouts(
        table=table, provenance=catalog.provenance, pixels=stack, planes=tuple(images), extent=extent, clip=clip
    )


def _images(catalog: SourceCatalog, planes: Sequence[str] | Mapping[str, Image] | None) -> dict[str, Image]:
    """The image of each plane, all on the pixels of the catalogue."""
    made = dict(planes) if isinstance(planes, Mapping) else _at_hand(catalog._require_image(), planes)
    if not made:
        raise OptionError("planes: there must be one at least")
    shapes = {image.shape for image in made.values()} | ({catalog.image.shape} if catalog.image else set())
    if len(shapes) > 1:
        several = ", ".join(map(str, sorted(shapes)))
        raise OptionError(f"planes of shapes {several}: put them on the same pixels first, with align_to")
    for name in made:
        if not (name.isidentifier() and name.isascii() and len(name) <= _LONGEST_NAME):
            raise OptionError(f"planes: {name!r} must be a plain word, it becomes the name of columns")
    return made


def _at_hand(image: SkyImage, planes: Sequence[str] | None) -> dict[str, Image]:
    """Images by the names of planes that an image knows itself."""
    if isinstance(planes, str):
        raise OptionError(f"planes = {planes!r}: must be a list of names, [{planes!r}]")
    own: dict[str, Any] = {"image": image}
    if hasattr(image, "science") and hasattr(image, "reference"):
        own = {"science": image.science, "reference": image.reference, "difference": image}
    names = tuple(own) if planes is None else tuple(planes)
    for name in names:
        if name not in own:
            raise OptionError(f"planes: {name!r} is not one of {', '.join(own)}; give images, planes={{{name!r}: …}}")
        if own[name] is None:
            raise CatalogError(
                f"planes: the {name} image of {image!r} is not at hand, since it was read or cropped: give images on "
                f"its pixels, planes={{{name!r}: …, 'difference': …}}"
            )
    return {name: own[name] for name in names}


def _add(table: Any, name: str, found: quantized.Levels, image: Image) -> None:
    columns = (
        schema.Column(f"median_{name}", np.float64, "image", "median of the stamp, which was subtracted"),
        schema.Column(f"sigma_{name}", np.float64, "image", "robust scatter of the stamp, by which it was divided"),
        schema.Column(f"known_{name}", np.float64, "", "part of the stamp's pixels that have a value"),
    )
    values = dict(zip((column.name for column in columns), found, strict=True))
    made = schema.table(columns, values, image.unit)
    for column in made.colnames:
        table[column] = made[column]


def _plain(column: Any) -> NDArray[np.float64]:
    return np.asarray(getattr(column, "value", column), np.float64)
