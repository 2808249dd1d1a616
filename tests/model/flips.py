"""Random single-bit flips in the products of a small simulated night: every one must be found, and told apart.

``python -m tests.model.flips [number [seed]]`` makes a night, flips so many bits, and prints what was found.
"""

from __future__ import annotations

import io
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from astropy.io import fits

import larun
from larun.model.audit import audit_bytes
from larun.simulate import Camera, NightOptions, simulate_night

NIGHT = NightOptions(
    camera=Camera(shape=(96, 112), overscan=16),
    biases=4,
    darks=3,
    flats=3,
    frames=2,
    dark_exposures=(60.0,),
    star_density=2500.0,
)
BLOCK = 2880


class Flip(NamedTuple):
    """A bit that was flipped, and what has to be said of it."""

    name: str
    hdu: str
    """empty in a file that is one piece"""
    expected: str
    position: int
    bit: int


def reduced(folder: Path) -> Path:
    """A reduced night, with a catalogue in every format and a region file."""
    truth = simulate_night(folder / "raw", seed=5, options=NIGHT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", larun.errors.LarunWarning)  # the flats' dark is scaled down
        summary = larun.Night(truth.folder).reduce(folder / "out")
    assert not summary.failed
    first = min((folder / "out" / "catalogs").glob("*.ecsv"))
    catalog = larun.SourceCatalog.read(first)
    for suffix in (".fits", ".parquet", ".vot"):
        catalog.write(first.with_suffix(suffix))
    catalog.write_regions(first.with_suffix(".reg"))
    return folder / "out"


def products(out: Path) -> dict[str, bytes]:
    """Every file of a night, by its name in the folder."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def parts(name: str, content: bytes) -> list[tuple[str, str, int, int]]:
    """HDU, verdict, start and stop for every byte of a file, by what the FITS standard says, not by its digests."""
    if not name.endswith(".fits"):
        return [("", "changed", 0, len(content))]
    found = []
    with fits.open(io.BytesIO(content)) as hdus:
        for hdu in hdus:
            place = hdu.fileinfo()
            title = hdu.name or "PRIMARY"
            title = f"{title},{hdu.ver}" if "EXTVER" in hdu.header else title
            start, data = place["hdrLoc"], place["datLoc"]
            end = start + next(n for n in range(0, data, 80) if content[start + n : start + n + 8] == b"END     ") + 80
            size = (
                abs(hdu.header["BITPIX"])
                // 8
                * int(np.prod([hdu.header[f"NAXIS{n + 1}"] for n in range(hdu.header["NAXIS"])]))
            )
            size = size if hdu.header["NAXIS"] else 0
            stop = data + size
            found += [(title, "changed", start, end), (title, "padding only", end, data)]
            found += [(title, "changed", data, stop), (title, "padding only", stop, data + -(-size // BLOCK) * BLOCK)]
    assert found[-1][3] == len(content)
    return [part for part in found if part[2] < part[3]]


def flips(night: dict[str, bytes], count: int, seed: int = 37) -> Counter[str]:
    """Flip so many bits, one at a time, and see that each is found where it is; how often there was which verdict.

    The files take turns, and in each file its parts: so headers and records are hit as often as pixels.
    """
    rng = np.random.default_rng(seed)
    names, layout = list(night), {name: parts(name, content) for name, content in night.items()}
    told: Counter[str] = Counter()
    for number in range(count):
        name = names[number % len(names)]
        hdu, expected, start, stop = layout[name][number // len(names) % len(layout[name])]
        position, bit = int(rng.integers(start, stop)), int(rng.integers(8))
        changed = bytearray(night[name])
        changed[position] ^= 1 << bit
        verdict = audit_bytes(name, bytes(changed))
        where = Flip(name, hdu, expected, position, bit)
        assert verdict.status == expected, (where, verdict)
        assert verdict.reasons[0].startswith(hdu), (where, verdict)
        told[f"{Path(name).suffix} {verdict.status}"] += 1
    return told


def main(count: int = 10000, seed: int = 37) -> None:
    """Print what became of so many flips."""
    with TemporaryDirectory() as folder:
        night = products(reduced(Path(folder)))
    assert all(audit_bytes(name, content).status == "intact" for name, content in night.items())
    start = time.perf_counter()
    told = flips(night, count, seed)
    seconds = time.perf_counter() - start
    size = sum(map(len, night.values()))
    print(f"{count} bits flipped in {len(night)} files of {size} bytes, all found: {seconds:.1f} s")
    for verdict, number in sorted(told.items()):
        print(f"{number:7d}  {verdict}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
