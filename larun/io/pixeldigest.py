"""The digest of an image's pixels: by it a raw file is known, however it is stored.

Raw files are whole numbers of 16 bits more often than not, and hashing is most of what it costs to take one in: so the
digest is made of the bytes as they lie in such a file, and for every other way of storage of what they would be.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.jit import over_rows
from larun.algorithms.pack import stored_row
from larun.errors import OptionError

__all__ = ["PixelDigest", "chunk_digest", "joined_digest", "pixel_digest", "stored_digest"]


class PixelDigest:
    """SHA-256 of an image that arrives band by band: the same as of the whole, whatever the bands.

    The image is cut into chunks of 64 rows, each has a digest of its own, and the digest of the image is that of all
    of them with its shape: so several threads can work on one image. Where every pixel of a chunk is a whole number
    from 0 to 65535 its bytes are those of a FITS file of unsigned 16-bit integers (big-endian, less 32768), which such
    a file need not convert; otherwise those of little-endian float32. Only the values decide which of them, never the
    way of storage. Every NaN counts as the same NaN, so that the digest does not depend on how a missing pixel was
    stored.

    Parameters
    ----------
    shape : (int, int) or None
        Rows and columns that must have come when the digest is asked for; None takes whatever came.

    Examples
    --------
    >>> image = np.arange(12, dtype=np.float32).reshape(3, 4)
    >>> PixelDigest().update(image[:1]).update(image[1:]).hexdigest() == pixel_digest(image)
    True
    """

    #: Rows of a chunk.
    CHUNK = 64

    def __init__(self, shape: tuple[int, int] | None = None) -> None:
        self._chunks: list[bytes] = []
        self._waiting: list[tuple[NDArray[np.float32], NDArray[np.uint32] | None]] = []
        self._shape = shape
        self._rows = 0
        self._columns = 0

    def update(
        self,
        rows: NDArray[np.float32],
        no_data: NDArray[np.bool_] | None = None,
        flags: NDArray[np.uint32] | None = None,
    ) -> Self:
        """Take the next rows (n, nx); pixels of ``no_data`` count as NaN, and flags that are set count too."""
        plain = np.where(no_data, np.float32(np.nan), rows) if no_data is not None else rows
        first = 0
        while first < len(plain):
            last = min(first + self.CHUNK - self._rows % self.CHUNK, len(plain))
            part = plain[first:last], None if flags is None else flags[first:last]
            self._rows += last - first
            if self._rows % self.CHUNK == 0:
                self._chunks.append(_joined([*self._waiting, part]))
                self._waiting = []
            else:  # the caller may use the array again
                self._waiting.append((part[0].copy(), None if part[1] is None else part[1].copy()))
            first = last
        self._columns = rows.shape[1]
        return self

    def hexdigest(self) -> str:
        """The digest of all rows so far.

        Raises
        ------
        OptionError
            If they are not the whole of the shape that was announced.
        """
        if self._shape not in (None, (self._rows, self._columns)):
            raise OptionError(f"{self._rows} × {self._columns} pixels came where {self._shape} were announced")
        chunks = [*self._chunks, _joined(self._waiting)] if self._waiting else self._chunks
        return joined_digest(chunks, (self._rows, self._columns))


def joined_digest(chunks: Iterable[bytes], shape: tuple[int, int]) -> str:
    """What :class:`PixelDigest` gives for an image whose chunks have these digests."""
    total = hashlib.sha256(b"".join(chunks))
    total.update(f"float32 {shape[0]} {shape[1]}".encode("ascii"))
    return total.hexdigest()


def chunk_digest(rows: NDArray[np.float32], flags: NDArray[np.uint32] | None = None) -> bytes:
    """Digest of one chunk of an image; ``rows`` has NaN where there is no value."""
    plain = np.ascontiguousarray(rows, np.float32)
    stored = _stored(plain)
    if stored is not None:
        return stored_digest(stored, flags)
    missing = np.isnan(plain)
    if missing.any():
        plain = np.where(missing, np.float32(np.nan), plain)
    return _with_flags(b"<f4", plain.astype("<f4", copy=False), flags)


def stored_digest(stored: NDArray[Any], flags: NDArray[np.uint32] | None = None) -> bytes:
    """Digest of one chunk of whole numbers from 0 to 65535, as FITS stores them: big-endian, less 32768."""
    return _with_flags(b">i2", stored, flags)


def _with_flags(kind: bytes, pixels: NDArray[Any], flags: NDArray[np.uint32] | None) -> bytes:
    total = hashlib.sha256(kind)
    total.update(pixels.data)
    if flags is not None and flags.any():
        at = np.flatnonzero(flags)
        pairs = np.empty(at.size, np.dtype([("pixel", "<i8"), ("flags", "<u4")]))
        pairs["pixel"], pairs["flags"] = at, flags.ravel()[at]
        total.update(pairs.tobytes())
    return total.digest()


def _stored(values: NDArray[np.float32]) -> NDArray[np.uint16] | None:
    """The bytes of whole numbers from 0 to 65535 as FITS stores them; None where a value is no such number."""
    flat = values.reshape(-1)
    made = np.empty(flat.size, np.uint16)
    head = min(flat.size, 4096)  # most images that are no integers show it soon
    for part in (slice(head), slice(head, None)):
        some, bits = read_only(flat[part], np.float32), read_only(flat[part].view(np.uint32), np.uint32)
        if not stored_row(some, bits, sys.byteorder == "little", made[part]):
            return None
    return made


def _joined(parts: list[tuple[NDArray[np.float32], NDArray[np.uint32] | None]]) -> bytes:
    if len(parts) == 1:
        return chunk_digest(*parts[0])
    flags = [np.zeros(rows.shape, np.uint32) if set_ is None else set_ for rows, set_ in parts]
    return chunk_digest(np.concatenate([rows for rows, _ in parts]), np.concatenate(flags))


def pixel_digest(
    data: NDArray[np.float32], no_data: NDArray[np.bool_] | None = None, flags: NDArray[np.uint32] | None = None
) -> str:
    """The digest (hex) of an image (ny, nx) and of its set flags, by several threads; see :class:`PixelDigest`."""
    size = PixelDigest.CHUNK
    chunks = [b""] * -(-len(data) // size)

    def work(start: int, stop: int) -> None:
        for chunk in range(start, stop):
            cut = slice(chunk * size, (chunk + 1) * size)
            rows = data[cut] if no_data is None else np.where(no_data[cut], np.float32(np.nan), data[cut])
            chunks[chunk] = chunk_digest(rows, None if flags is None else flags[cut])

    over_rows(len(chunks), work, band=4)
    return joined_digest(chunks, (data.shape[0], data.shape[1]))
