"""A raw uint16 file becomes float32 pixels with a header, against ``astropy.io.fits``."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.inputs import bias_frames

__all__ = ["CASES"]


def _path(folder: Path) -> Path:
    return folder / "bias-00.fits"


def _larun(path: Path) -> tuple[Any, Path]:
    import larun

    return larun.Frame.read(path, verify=False).data, path


def _astropy(path: Path) -> Any:
    import numpy as np
    from astropy.io import fits

    return fits.getdata(path).astype(np.float32)


def _hashed(path: Path) -> float:
    """Seconds of reading with the digest of all pixels."""
    import larun

    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        larun.Frame.read(path, verify=True)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _digest_larun(result: tuple[Any, Path]) -> Digest:
    return {"data": result[0], "hashed": _hashed(result[1])}


def _digest(result: Any) -> Digest:
    return {"data": result}


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np

    one, two = ours["data"], theirs["data"]
    require(one.dtype == two.dtype == np.float32, f"{one.dtype} and {two.dtype}")
    require(np.array_equal(one, two), "pixels differ")
    hashed = f"with the digest of the pixels (verify=True) {ours['hashed']:.3g} s"
    return f"identical float32 at all {one.size} pixels; {hashed}"


CASES = (
    Case(
        topic="read",
        name="uint16",
        make=bias_frames,
        larun=Side("larun", _path, _larun, _digest_larun),
        peer=Side("astropy", _path, _astropy, _digest),
        check=_check,
        full=Size(4096, frames=1),
        quick=Size(1024, frames=1),
        bar=2,
    ),
)
