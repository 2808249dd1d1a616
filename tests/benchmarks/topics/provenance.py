"""What records cost: a night reduced by larun, beside the same reduction with everything that records switched off.

Both are whole processes with one worker. "Everything" is what the script's docstring lists, the digests of raw pixels
and of products included. Larun may take at most 1/0.95 of the time of the other: 5 %.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.benchmarks import inputs
from tests.benchmarks.cases import Case, Digest, Side, Size, require
from tests.benchmarks.topics.night import _run, _setup

__all__ = ["CASES"]

_NEAR = 0.01  # pixels
_WITH = (sys.executable, "-c", "from larun.cli import main; main()", "reduce", "--jobs", "1")
_WITHOUT = (sys.executable, "-m", "tests.benchmarks.scripts.night_without_records", "--jobs", "1")


def _night(folder: Path, size: Size) -> None:
    inputs.night(folder, size)


def _digest(out: Path) -> Digest:
    """Pixels of all masters and frames, numbers of all catalogues."""
    import numpy as np
    from astropy.io import fits
    from astropy.table import QTable

    found = {}
    for path in sorted(out.rglob("*.fits")):
        with fits.open(path) as hdus:
            found[f"{path.parent.name}/{path.name}"] = np.asarray(hdus["SCI"].data)
    for path in sorted((out / "catalogs").glob("*.ecsv")):
        table = QTable.read(path)
        found[f"catalogs/{path.name}"] = np.column_stack([np.asarray(table[name].value) for name in ("x", "y")])
    return found


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    import numpy as np
    from scipy.spatial import KDTree

    require(ours.keys() == theirs.keys() and len(ours) > 4, f"products differ: {sorted(ours)}, {sorted(theirs)}")
    for name, values in ours.items():
        other = theirs[name]
        require(values.shape == other.shape, f"{name}: {values.shape} and {other.shape}")
        # frames of a master and the noise of masters are summed in the order of ids, so that last digits may differ,
        # and with them a pixel at the limit of the search for cosmic rays, or the order of two sources
        if name.startswith("catalogs/"):
            near = KDTree(values).query(other)[0] < _NEAR
        else:
            near = np.isclose(values, other, rtol=1e-4, atol=1e-3, equal_nan=True)
        require(near.mean() > 0.998, f"{name}: {np.count_nonzero(~near)} of {near.size} values differ")
    return f"{len(ours)} masters, frames and catalogues of the same values up to rounding; one worker"


def _side(name: str, command: tuple[str, ...]) -> Side:
    return Side(
        name,
        lambda folder: _setup(name.split()[0] + "-records", folder),
        lambda folders: _run(command, folders),
        _digest,
        children=True,
    )


CASES = (
    Case(
        topic="provenance",
        name="overhead on a night",
        make=_night,
        larun=_side("larun", _WITH),
        peer=_side("without records", _WITHOUT),
        check=_check,
        full=Size(2048, frames=10, stars=5000),
        quick=Size(512, frames=3, stars=310),
        bar=0.95,
        grows=False,
    ),
)
