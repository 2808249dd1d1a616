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


def test_what_comes_late_in_a_text_is_read_too(tmp_path):
    """Whole numbers and nothing in the first megabyte, fractions and large identifiers after it."""
    n = 100_000
    lines = ["source_id,ra,dec,parallax,g"]
    lines += [f"{2**62 + row},{row % 360},{row % 90},null,12" for row in range(n)]
    lines += [f"{2**62 + n},1.25,-2.5,0.5,12.75"]
    path = tmp_path / "late.csv"
    path.write_text("\n".join(lines) + "\n")
    assert path.stat().st_size > 2 << 20
    parts = list(pieces(path, 20_000))
    assert len(parts) > 1
    last = parts[-1][-1]
    assert (last["source_id"], last["ra"], last["dec"], last["parallax"], last["g"]) == (
        2**62 + n,
        1.25,
        -2.5,
        0.5,
        12.75,
    )
    assert np.isnan(parts[0]["parallax"]).all()
