"""Raw images: whatever the file holds, out comes a native float32 plane and a header that describes the exposure.

Scaled and unsigned integers, big-endian floats, tile-compressed (``.fz``) and gzipped files, and cubes of one plane
all give the same bits: the scaling is applied here, in double precision, whatever the way of storage.
"""

from __future__ import annotations

import contextlib
import math
import re
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from larun.algorithms.jit import over_rows
from larun.errors import FileError, LarunWarning
from larun.io.cards import quiet
from larun.io.headers import exposure_header, get_number
from larun.io.streams import open_plain, opener_of, read_at

__all__ = ["ImageInfo", "NoImage", "RawImage", "RowReader", "SeveralImages", "list_images", "read_header", "read_raw"]

Extension = int | str | tuple[str, int] | None

_BAND = 128
_EXACT = 2**24  # whole numbers beyond this do not all fit a float32
_AUXILIARY = re.compile(
    r"ERR|ERROR|UNCERT|SIGMA|STDDEV|VAR|VARIANCE|IVAR|DQ|MASK|BPM|FLAGS|WHT|WEIGHT|CTX|CON|SAMP|TIME|COVERAGE"
    r"|D2IMARR|WCSDVARR|BKG|BACKGROUND"
)


class RawImage(NamedTuple):
    """One image as read from a file."""

    data: NDArray[np.float32]
    """(ny, nx), native, C-contiguous; NaN where nothing was recorded."""
    no_data: NDArray[np.bool_] | None
    """(ny, nx), True where the file holds BLANK or no finite number; None when every pixel has a value."""
    header: fits.Header
    """Primary header and image header in one, without the cards that describe the storage."""
    hdu: int
    """Index of the HDU the image was read from."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.data.shape[0], self.data.shape[1]


class ImageInfo(NamedTuple):
    """An image in a file."""

    hdu: int
    name: str
    version: int
    shape: tuple[int, ...]

    @property
    def plane(self) -> tuple[int, int] | None:
        """Rows and columns once axes of length 1 are dropped; None if that leaves no plane."""
        if len(self.shape) < 2 or 0 in self.shape:
            return None
        if all(length == 1 for length in self.shape[:-2]):
            return self.shape[-2], self.shape[-1]
        longer = tuple(length for length in self.shape if length > 1)
        return (longer[0], longer[1]) if len(longer) == 2 else None

    @property
    def ext(self) -> tuple[str, int] | int:
        """What names this image in its file: its name and version, or its index."""
        return (self.name, self.version) if self.name else self.hdu

    def __str__(self) -> str:
        name = f" {self.name},{self.version}" if self.name else ""
        return f"HDU {self.hdu}{name} {self.shape}"


class NoImage(FileError):
    """A FITS file holds no image: tables only."""


class SeveralImages(FileError):
    """A file holds several science images, or a cube of planes, and nobody said which is meant.

    Attributes
    ----------
    images : tuple of ImageInfo
        The science images.
    header : astropy.io.fits.Header
        The primary header (joined with the image's own, if there is one image).
    headers : tuple of astropy.io.fits.Header
        For each of the images, primary and image header in one.
    """

    def __init__(
        self, message: str, images: tuple[ImageInfo, ...], header: fits.Header, headers: tuple[fits.Header, ...]
    ) -> None:
        super().__init__(message)
        self.images = images
        self.header = header
        self.headers = headers


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], fits.HDUList]]:
    """The file and its HDUs; every complaint of astropy becomes a :class:`FileError` that names the file."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_plain(path))
            with quiet():
                hdus = stack.enter_context(fits.open(file, memmap=False, do_not_scale_image_data=True))
            yield file, hdus
        except FileError:
            raise
        except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError, fits.VerifyError) as error:
            raise FileError(f"{path} is not a FITS file that can be read ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def list_images(path: str | Path) -> tuple[ImageInfo, ...]:
    """All images of a file, tile-compressed ones included.

    Raises
    ------
    FileError
        If the file is missing, not FITS, or damaged.
    """
    with _opened(Path(path)) as (_, hdus), quiet():
        return _images(hdus)


def _images(hdus: fits.HDUList) -> tuple[ImageInfo, ...]:
    found = []
    for index, hdu in enumerate(hdus):
        if hdu.is_image and hdu.shape:
            name = "" if hdu.name in ("PRIMARY", "COMPRESSED_IMAGE") else hdu.name
            found.append(ImageInfo(index, name, int(hdu.ver), tuple(int(n) for n in hdu.shape)))
    return tuple(found)


def _choose(path: Path, hdus: fits.HDUList, ext: Extension, plane: int | None = None) -> ImageInfo:
    """The one image that is meant."""
    images = _images(hdus)
    listing = "; ".join(str(image) for image in images)
    if not images:
        raise NoImage(f"{path} holds no image: is it a table, or an index of other files?")
    if ext is not None:
        wanted = [image for image in images if _is(image, ext)]
        if len(wanted) != 1:
            raise FileError(f"{path}: ext={ext!r} names {len(wanted)} images; it holds {listing}")
    else:
        planes = [image for image in images if image.plane]
        science = [image for image in planes if image.name == "SCI"]
        science = science or [image for image in planes if not _AUXILIARY.fullmatch(image.name)]
        wanted = science or planes or list(images)
        if len(wanted) > 1 and (science or planes):
            raise _several(
                f"{path} holds {len(wanted)} images: choose one with ext=…; it holds {listing}", hdus, wanted
            )
    chosen = wanted[0]
    if chosen.plane is None and plane is None:
        message = (
            f"{path}: {chosen} is not one plane (rows, columns): write each plane to a file of its own, "
            "or choose another image with ext=…"
        )
        raise _several(message, hdus, [chosen]) if len(chosen.shape) == 3 else FileError(message)
    return chosen


def _several(message: str, hdus: fits.HDUList, images: list[ImageInfo]) -> SeveralImages:
    headers = tuple(_header(hdus, image) for image in images)
    return SeveralImages(message, tuple(images), exposure_header(hdus[0].header, None), headers)


def _is(image: ImageInfo, ext: int | str | tuple[str, int]) -> bool:
    if isinstance(ext, int):
        return image.hdu == ext
    name, version = (ext, None) if isinstance(ext, str) else ext
    return image.name == name.strip().upper() and version in (None, image.version)


def read_header(path: str | Path, ext: Extension = None) -> fits.Header:
    """The header :func:`read_raw` would give, without reading pixels.

    Raises
    ------
    FileError
        As :func:`read_raw`, except that missing pixels are not noticed.
    """
    path = Path(path)
    opener = opener_of(path)
    if opener is not None and ext in (None, 0):  # do not unpack a whole file whose first header says all
        with contextlib.suppress(Exception), quiet(), opener(path, "rb") as stream:
            header = fits.Header.fromfile(stream)
            if header["SIMPLE"] is True and header["NAXIS"] >= 2 and not header.get("EXTEND", False):
                shape = tuple(header[f"NAXIS{axis}"] for axis in range(header["NAXIS"], 0, -1))
                if ImageInfo(0, "", 1, shape).plane:
                    return exposure_header(header, None)
    with _opened(path) as (_, hdus), quiet():
        return _header(hdus, _choose(path, hdus, ext))


def _header(hdus: fits.HDUList, image: ImageInfo) -> fits.Header:
    return exposure_header(hdus[0].header, hdus[image.hdu].header if image.hdu else None)


class RowReader:
    """Rows of a raw image, band by band, so that any number of files fits in memory.

    Of an uncompressed image the rows asked for are read (or the file is mapped, if all are), tile-compressed ones are
    unpacked tile by tile, and a gzipped file is unpacked once into a temporary file. Any band has the bits of the same
    rows of :func:`read_raw`.

    Parameters
    ----------
    path : path
        The file.
    ext : int, str, (str, int) or None
        Index, name, or name and version of the HDU; None takes the only science image.
    plane : int or None
        Which plane of a cube (n, ny, nx); None where the image is one plane.

    Raises
    ------
    SeveralImages
        If the file holds several images and no ``ext`` was given, or a cube of several planes.
    FileError
        If the file is missing, not FITS, cut short, or holds no plane.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "raw.fits"
    >>> fits.PrimaryHDU(np.arange(12, dtype=np.uint16).reshape(3, 4)).writeto(path)
    >>> with RowReader(path) as reader:
    ...     reader.shape, reader.rows(1, 2)[0].tolist()
    ((3, 4), [[4.0, 5.0, 6.0, 7.0]])
    """

    def __init__(self, path: str | Path, ext: Extension = None, *, plane: int | None = None) -> None:
        self.path = Path(path)
        self._warned = False
        self._plane = plane
        with contextlib.ExitStack() as stack, quiet():
            file, hdus = stack.enter_context(_opened(self.path))
            self.image = _choose(self.path, hdus, ext, plane)
            self.shape = self._plane_shape()
            self.header = _header(hdus, self.image)
            self._file, self._offset = file, 0
            self._source = self._pixels(file, hdus[self.image.hdu])
            self._scaling(hdus[self.image.hdu])
            self._close = weakref.finalize(self, stack.pop_all().close)  # also when it is forgotten

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back; reading further rows is an error."""
        self._source = None
        self._close()

    def _plane_shape(self) -> tuple[int, int]:
        if self._plane is None:
            assert self.image.plane is not None  # _choose saw to it
            return self.image.plane
        shape = self.image.shape
        if len(shape) != 3 or not 0 <= self._plane < shape[0]:
            raise FileError(f"{self.path}: {self.image} has no plane number {self._plane}")
        return shape[1], shape[2]

    @property
    def hdu(self) -> int:
        """Index of the HDU."""
        return self.image.hdu

    @property
    def place(self) -> str:
        """The HDU, and the plane of a cube, for the record."""
        return f"{self.hdu}" if self._plane is None else f"{self.hdu}.{self._plane}"

    @property
    def compressed(self) -> bool:
        """Whether the image is stored as compressed tiles."""
        return isinstance(self._source, fits.CompImageHDU)

    def _pixels(self, file: IO[bytes], hdu: Any) -> Any:
        """The type of the stored numbers, or the HDU that unpacks their tiles."""
        place = hdu.fileinfo()
        file.seek(0, 2)
        present, needed = file.tell() - place["datLoc"], hdu.size
        if isinstance(hdu, fits.CompImageHDU):
            needed = hdu._bintable.size  # the compressed bytes; public only through the table's own header
        if present < needed:
            raise FileError(
                f"{self.path} ends early: {self.image} needs {needed} bytes, {max(present, 0)} are there; copy it again"
            )
        if isinstance(hdu, fits.CompImageHDU):
            return hdu
        stored = np.dtype({8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}[hdu.header["BITPIX"]])
        self._offset = place["datLoc"] + (self._plane or 0) * self.shape[0] * self.shape[1] * stored.itemsize
        return stored

    def _scaling(self, hdu: Any) -> None:
        header = hdu.header
        scale, zero = get_number(header, ("BSCALE",)).value, get_number(header, ("BZERO",)).value
        self._scale, self._zero = 1.0 if scale is None else scale, 0.0 if zero is None else zero
        if self._scale == 0.0:
            raise FileError(f"{self.path}: BSCALE = 0 in {self.image} makes every pixel equal: correct the header")
        blank = get_number(header, ("BLANK", "ZBLANK")).value
        self._blank = None if blank is None or header["BITPIX"] < 0 else int(blank)

    def rows(self, y0: int, y1: int) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Rows ``y0`` to ``y1`` (half open).

        Returns
        -------
        data : float32 array (y1 - y0, nx)
            NaN where nothing was recorded.
        no_data : bool array (y1 - y0, nx) or None
            None when every pixel of the band has a value.

        Raises
        ------
        FileError
            If the band lies outside the image, or its pixels cannot be unpacked.
        """
        self._check_rows(y0, y1)
        data = np.empty((y1 - y0, self.shape[1]), np.float32)
        missing = self._convert(self._stored(y0, y1), data)
        return data, missing

    def all(self) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Every row, read by several threads; as :meth:`rows`."""
        rows, columns = self.shape
        self._check_rows(0, rows)
        data = np.empty((rows, columns), np.float32)
        if self.compressed:
            return data, self._convert(self._stored(0, rows), data)  # one call unpacks all tiles
        bands: dict[int, NDArray[np.bool_]] = {}
        stored = np.memmap(self._file, dtype=self._source, mode="r", offset=self._offset, shape=self.shape)

        def read(y0: int, y1: int) -> None:
            missing = self._convert(stored[y0:y1], data[y0:y1])
            if missing is not None:
                bands[y0] = missing

        over_rows(rows, read, _BAND)
        if not bands:
            return data, None
        no_data = np.zeros((rows, columns), np.bool_)
        for y0, missing in bands.items():
            no_data[y0 : y0 + len(missing)] = missing
        return data, no_data

    @property
    def zero_of_short(self) -> float | None:
        """What is added to each of the 16-bit integers that are stored; None if they are others, or may be BLANK."""
        short = not self.compressed and self._source == np.dtype(">i2")
        plain = short and self._scale == 1.0 and self._blank is None and self._zero in (0.0, 32768.0)
        return self._zero if plain else None

    def read_stored(self, y0: int, out: NDArray[Any]) -> None:
        """Fill ``out`` (n, nx) with the rows from ``y0`` on, as they are stored; several threads may read at once.

        Raises
        ------
        FileError
            If the rows are not there, or the image is compressed.
        """
        self._check_rows(y0, y0 + len(out))
        if self.compressed or out.dtype != self._source or out.shape[1] != self.shape[1] or not out.flags.c_contiguous:
            raise FileError(f"{self.path}: {self.image} is not stored as rows of {self.shape[1]} {out.dtype}")
        left, place = out.view(np.uint8).reshape(-1).data, self._offset + y0 * out[0].nbytes
        while len(left):
            count = read_at(self._file, left, place)
            if count == 0:
                raise FileError(f"{self.path} ends early: it became shorter while it was read; copy it again")
            left, place = left[count:], place + count

    def _check_rows(self, y0: int, y1: int) -> None:
        if self._source is None:
            raise FileError(f"{self.path} was closed: open it again to read rows")
        if not 0 <= y0 < y1 <= self.shape[0]:
            raise FileError(f"{self.path} has rows 0 to {self.shape[0]}: {y0} to {y1} cannot be read")

    def _stored(self, y0: int, y1: int) -> NDArray[Any]:
        band: NDArray[Any]
        if not self.compressed:
            band = np.empty((y1 - y0, self.shape[1]), self._source)
            self.read_stored(y0, band)
            return band
        shape = self.image.shape
        place: list[int | slice]
        if self._plane is not None:
            place = [self._plane, slice(y0, y1), slice(None)]
        else:
            leading = all(length == 1 for length in shape[:-2])
            place = [0 if length == 1 else slice(None) for length in shape]
            place[len(shape) - 2 if leading else shape.index(self.shape[0])] = slice(y0, y1)
        try:
            with quiet():
                band = np.asarray(self._source.section[tuple(place)])
        except Exception as error:  # the codecs raise many kinds
            raise FileError(
                f"{self.path}: the compressed tiles of {self.image} are damaged ({_first_line(error)}): copy it again"
            ) from error
        return band.reshape(y1 - y0, self.shape[1])

    def _convert(self, stored: NDArray[Any], out: NDArray[np.float32]) -> NDArray[np.bool_] | None:
        """Scale into ``out``; where nothing was recorded NaN is written and True returned."""
        missing = None
        with np.errstate(over="ignore", invalid="ignore"):
            small = stored.dtype.itemsize <= 2 and abs(self._zero) < _EXACT // 2  # exact in float32
            if self._scale == 1.0 and (small or self._zero == 0.0):
                out[...] = stored
                if self._zero:
                    out += np.float32(self._zero)
            else:
                out[...] = stored.astype(np.float64) * self._scale + self._zero
        if stored.dtype.kind in "iu":
            if self._blank is not None:
                missing = np.asarray(stored == self._blank)
            if stored.dtype.itemsize > 2:
                self._check_precision(stored if missing is None else stored[~missing])
        if stored.dtype.kind == "f" or not math.isfinite(self._scale * self._zero):
            finite = np.isfinite(out)
            missing = None if finite.all() else ~finite
        if missing is None or not missing.any():
            return None
        out[missing] = np.nan
        return missing

    def _check_precision(self, stored: NDArray[Any]) -> None:
        if self._warned or self._scale != 1.0 or stored.size == 0:
            return
        largest = max(abs(int(stored.min()) + self._zero), abs(int(stored.max()) + self._zero))
        if largest > _EXACT:
            self._warned = True
            warnings.warn(
                f"{self.path}: whole numbers up to {largest:.0f} lose their last digits in float32 (exact to {_EXACT})",
                LarunWarning,
                stacklevel=4,
            )


def read_raw(path: str | Path, *, ext: Extension = None) -> RawImage:
    """Read one image of a FITS file as a native float32 plane.

    Parameters
    ----------
    path : path
        FITS, plain, tile-compressed (``.fz``), or compressed as a whole (gzip, bzip2, xz).
    ext : int, str, (str, int) or None
        Index, name, or name and version of the HDU. None takes ``SCI`` where there is one, else the only image that is
        not an error, weight or mask plane.

    Returns
    -------
    RawImage

    Raises
    ------
    FileError
        If the file is missing, empty, not FITS, cut short or damaged, if it holds no image, a cube of several planes,
        or several images and no ``ext``. The message names the file and says what to do.

    Warns
    -----
    LarunWarning
        If whole numbers lose digits because they exceed 2²⁴.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "raw.fits"
    >>> fits.PrimaryHDU(np.array([[1000, 1010]], np.uint16)).writeto(path)
    >>> raw = read_raw(path)
    >>> raw.data.dtype.name, float(raw.data[0, 0] - raw.data[0, 1])
    ('float32', -10.0)
    """
    with RowReader(path, ext) as reader:
        return RawImage(*reader.all(), reader.header, reader.hdu)
