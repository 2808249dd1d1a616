"""Rows of a product's planes, read as they are needed: whole files need not fit into memory."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.errors import FileError
from larun.io import container
from larun.io.product import open_entries
from larun.io.streams import open_plain, opener_of

__all__ = ["ProductRows", "product_rows"]


class _Plane(NamedTuple):
    path: Path
    start: int
    shape: tuple[int, int]
    zero: int

    def rows(self, start: int, stop: int) -> NDArray[np.uint32]:
        """Words of some rows, in native order."""
        _ny, nx = self.shape
        words = np.fromfile(self.path, ">u4", (stop - start) * nx, offset=self.start + 4 * start * nx)
        if words.size != (stop - start) * nx:
            raise FileError(f"{self.path}: has become shorter while it was read")
        made = words.astype(np.uint32).reshape(stop - start, nx)
        return made ^ np.uint32(self.zero) if self.zero else made


class ProductRows(NamedTuple):
    """The planes of a product by rows.

    Attributes
    ----------
    data, variance, flags : plane
        Of the image; ``variance`` may be None.
    shared : tuple
        Masters and the planes of what they add.
    """

    data: _Plane
    variance: _Plane | None
    flags: _Plane
    shared: tuple[tuple[str, _Plane], ...]

    def read(
        self, start: int, stop: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.uint32], dict[str, NDArray[np.float32]]]:
        """Data, variance, flags and shared variances of rows ``start`` to ``stop``, bit for bit as in the file."""
        variance = None if self.variance is None else self.variance.rows(start, stop).view(np.float32)
        shared = {name: plane.rows(start, stop).view(np.float32) for name, plane in self.shared}
        return self.data.rows(start, stop).view(np.float32), variance, self.flags.rows(start, stop), shared


def product_rows(path: str | Path) -> ProductRows | None:
    """Where the planes of a product lie; None for a compressed file, which must be read whole.

    Raises
    ------
    FileError
        If it is no product with an image.
    """
    place = Path(path)
    if opener_of(place) is not None:
        return None
    with open_plain(place) as file:
        entries = open_entries(place, file, verify=False)
        if "SCI" not in entries:
            raise FileError(f"{place}: holds no image")
        planes = {}
        shared = []
        for name, entry in entries.items():
            if name in ("SCI", "VAR", "DQ") or name.startswith("SHARED,"):
                header = container.read_header(file, entry)
                shape = int(header["NAXIS2"]), int(header["NAXIS1"])
                plane = _Plane(place, entry.data_start, shape, int(header.get("BZERO", 0)))
                if name.startswith("SHARED,"):
                    shared.append((str(header["MASTERID"]), plane))
                else:
                    planes[name] = plane
    return ProductRows(planes["SCI"], planes.get("VAR"), planes["DQ"], tuple(shared))
