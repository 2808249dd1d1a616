"""PNG files from arrays without a library: thumbnails need no matplotlib.

Portable Network Graphics, second edition (ISO/IEC 15948:2003): 8-bit palette images, no filter, one IDAT chunk.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError

__all__ = ["encode"]


def encode(levels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    r"""A PNG of palette indices, the first row on top.

    Parameters
    ----------
    levels : array (ny, nx), uint8
        Index of each pixel's colour.
    palette : array (n, 3), uint8
        Red, green and blue of 1 … 256 colours.

    Raises
    ------
    OptionError
        If a shape is wrong or an index has no colour.

    Examples
    --------
    >>> encode(np.zeros((2, 3), np.uint8), np.zeros((1, 3), np.uint8))[:8]
    b'\x89PNG\r\n\x1a\n'
    """
    if levels.ndim != 2 or 0 in levels.shape or palette.ndim != 2 or palette.shape[1] != 3 or len(palette) > 256:
        raise OptionError(f"levels of shape {levels.shape} and a palette of shape {palette.shape} make no picture")
    if int(levels.max()) >= len(palette):
        raise OptionError(f"level {int(levels.max())} has no colour: the palette has {len(palette)}")
    ny, nx = levels.shape
    rows = np.zeros((ny, nx + 1), np.uint8)  # every row begins with the number of its filter: none
    rows[:, 1:] = levels
    head = struct.pack(">IIBBBBB", nx, ny, 8, 3, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 6)
    chunks = ((b"IHDR", head), (b"PLTE", palette.astype(np.uint8).tobytes()), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
