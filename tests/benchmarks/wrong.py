"""A topic for the test of the harness: honest cases, one whose peer does other work, and one whose peer is not here."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Digest, Side, Size, require

__all__ = ["CASES"]


def _make(folder: Path, size: Size) -> None:
    import numpy as np

    np.save(folder / "data.npy", np.arange(size.pixels, dtype=np.float32))


def _load(folder: Path) -> Any:
    import numpy as np

    return np.load(folder / "data.npy")


def _double(data: Any) -> Any:
    return 2 * data


def _in_a_process(data: Any) -> Any:
    import subprocess
    import sys

    subprocess.run([sys.executable, "-S", "-c", "b'1' * 100_000_000"], check=True)
    return 2 * data


def _digest(result: Any) -> Digest:
    return {"data": result}


def _check(folder: Path, ours: Digest, theirs: Digest) -> str:
    off = float(abs(ours["data"] - theirs["data"]).max())
    require(off == 0, f"off by {off:g}")
    return "identical"


def _case(name: str, work: Any, program: tuple[str, ...] = ()) -> Case:
    return Case(
        topic="wrong",
        name=name,
        make=_make,
        larun=Side("larun", _load, _double, _digest),
        peer=Side("peer", _load, work, _digest, program=program),
        check=_check,
        full=Size(512),
        quick=Size(128),
        bar=1,
    )


_honest = _case("same work", _double)
CASES = (
    _honest,
    _case("other work", lambda data: 2 * data + 1),
    _case("no result", lambda data: data.no_such_thing),
    _case("absent", _double, program=("no-such-program-anywhere",)),
    dataclasses.replace(_honest, name="slow peer", slow=True),
    dataclasses.replace(
        _honest,
        name="process",
        peer=Side("peer", _load, _in_a_process, _digest, children=True),
        grows=False,
    ),
)
