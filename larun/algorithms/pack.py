"""Values become integers as FITS files hold them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import kernel

__all__ = ["stored_row"]


@kernel
def stored_row(values: NDArray[np.float32], bits: NDArray[np.uint32], swap: bool, out: NDArray[np.uint16]) -> bool:
    """What FITS stores for whole numbers from 0 to 65535: less 32768.

    Parameters
    ----------
    values, bits : ndarray of float32 and of uint32, (n,)
        The same memory twice.
    swap : bool
        Whether to exchange the two bytes of each number.
    out : ndarray of uint16, (n,)
        Written.

    Returns
    -------
    bool
        Whether every value is such a number, to the bit (-0.0 is not).
    """
    off = np.uint32(0)
    zero, most, sign = np.float32(0), np.float32(65535), np.uint32(0x80000000)
    for x in range(len(values)):
        value = values[x]
        inside = value if (value >= zero) & (value <= most) else zero
        whole = np.int32(inside)
        off |= np.uint32((np.float32(whole) != value) | (bits[x] == sign))
        stored = np.uint32(whole) ^ np.uint32(0x8000)
        turned = (stored << np.uint32(8)) | (stored >> np.uint32(8))
        out[x] = np.uint16(turned if swap else stored)
    return bool(off == np.uint32(0))
