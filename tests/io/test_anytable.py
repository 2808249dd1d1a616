import gzip

import numpy as np
import pytest
from astropy.table import Table, vstack

from larun.io.anytable import pieces, read_any_table


@pytest.mark.parametrize("suffix", [".fits", ".csv", ".ecsv", ".parquet", ".vot", ".csv.gz", ".fits.gz"])
def test_pieces_put_together_are_the_whole(suffix, tmp_path, rng):
    n = 120_000
    table = Table({"id": np.arange(n), "ra": rng.uniform(0, 360, n), "name": np.char.mod("s%d", np.arange(n))})
    table["ra"].unit = "deg"
    path = tmp_path / f"t{suffix}"
    kind = suffix.removesuffix(".gz")
    if kind == ".ecsv":
        table.write(path, delimiter=",")
    else:
        table.write(tmp_path / f"plain{kind}", format="votable" if kind == ".vot" else None)
        plain = (tmp_path / f"plain{kind}").read_bytes()
        path.write_bytes(gzip.compress(plain) if suffix.endswith(".gz") else plain)
    parts = list(pieces(path, 10_000))
    if kind != ".vot":
        assert len(parts) > 1
        assert max(map(len, parts)) < n
    whole = vstack(parts, metadata_conflicts="silent")
    again = read_any_table(path)
    for made in (whole, again):
        assert np.array_equal(made["id"], table["id"])
        assert np.array_equal(made["ra"], table["ra"])
        assert made["name"][-1] == table["name"][-1]
    if kind != ".csv":
        assert parts[0]["ra"].unit == "deg"
