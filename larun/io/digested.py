"""A raw image read and digested in one pass, where the digest is of its bytes as they are stored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import over_rows
from larun.io import pixeldigest
from larun.io.raw import RowReader

__all__ = ["all_digested"]


def all_digested(reader: Any) -> tuple[NDArray[np.float32], str] | None:
    """Every row of a file of unsigned 16-bit integers, and its digest as of :func:`~larun.io.pixeldigest.pixel_digest`.

    Parameters
    ----------
    reader : RowReader or another
        Open.

    Returns
    -------
    data : ndarray of float32 (ny, nx)
        As :meth:`RowReader.all` gives them.
    digest : str
        In hex; of the very bytes that became ``data``. None in place of both where the image is stored otherwise.

    Raises
    ------
    FileError
        If rows are not there.
    """
    if not isinstance(reader, RowReader) or reader.zero_of_short != 32768:
        return None
    rows, columns = reader.shape
    data = np.empty((rows, columns), np.float32)
    size = pixeldigest.PixelDigest.CHUNK
    chunks = [b""] * -(-rows // size)

    def read(start: int, stop: int) -> None:
        stored = np.empty((size, columns), ">i2")
        for chunk in range(start, stop):
            y0, y1 = chunk * size, min((chunk + 1) * size, rows)
            part = stored[: y1 - y0]
            reader.read_stored(y0, part)
            chunks[chunk] = pixeldigest.stored_digest(part)
            data[y0:y1] = part
            data[y0:y1] += np.float32(32768)

    over_rows(len(chunks), read, band=1)
    return data, pixeldigest.joined_digest(chunks, (rows, columns))
