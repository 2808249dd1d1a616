"""The command line on a real night of the Nickel telescope, whose headers lie."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import larun as package
from tests.cli.conftest import Larun
from tests.conftest import real_data


def test_ls_knows_what_the_nickel_files_are(larun: Larun) -> None:
    ended = larun("ls", real_data("nickel"), "--json")
    rows = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    kinds = [(row["kind"], row["filter"]) for row in rows]
    assert sum(kind == "bias" for kind, _ in kinds) == 10
    assert kinds.count(("flat", "V")) == 3
    assert sum(kind == "science" for kind, _ in kinds) == 6
    assert len(rows) == 19
    assert {row["instrument"] for row in rows} == {"Nickel Direct Camera"}
    assert "10 bias, 3 flat (V), 6 science" in larun("ls", real_data("nickel")).out


def test_reduce_of_the_nickel_night(larun: Larun, tmp_path: Path) -> None:
    ended = larun("reduce", real_data("nickel"), tmp_path / "out", "--json")
    assert (ended.code, ended.err) == (0, ""), ended
    rows = {row["name"]: row for row in json.loads(ended.out)}
    assert len(rows) == 2 + 6
    assert rows["d1059"]["sources"] >= 900
    assert all(1 < row["fwhm"] < 12 for row in rows.values() if row["kind"] == "science")
    for path in (tmp_path / "out").glob("*/*.fits"):
        image = package.Image.read(path)
        assert np.all(image.flags[:, 256] & package.flags.BAD), path
        assert not np.any(image.flags[:, 256] & package.flags.SATURATED), path
    again = larun("reduce", real_data("nickel"), tmp_path / "out")
    assert again.code == 0
    assert "GAIN = 1 in the headers is false: photons of 2 flats say 1.79" in again.err  # every reduction tests it
    assert "nothing to do: 14 products are up to date" in again.out
