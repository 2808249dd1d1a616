"""How a catalogue is shown."""

import numpy as np
from astropy import units as u
from astropy.table import QTable

import larun


def test_a_printed_catalogue_has_the_digits_that_mean_something():
    table = QTable(
        {
            "x": [12.123456789012345, np.nan] * u.pix,
            "y": [1.0, 2.0] * u.pix,
            "ra": [202.123456789012345, 1.0] * u.deg,
            "dec": [-0.5, 0.5] * u.deg,
            "snr": [123.4567890123, 1e-9],
            "name": ["a", "b"],
            "flux": [1234567.890123, 0.1] * u.electron,
        }
    )
    catalog = larun.SourceCatalog.from_table(table)
    text = str(catalog)
    assert text.startswith("<SourceCatalog 2 sources")
    for shown in ("12.123 ", "202.123457", "123.457", "1e-09", "1.23457e+06", " nan"):
        assert shown in text
    assert "12.1234" not in text
    for name in catalog.columns:
        assert catalog.table[name].info.format is None  # only what is shown changes
    assert catalog["snr"][0] == 123.4567890123
    assert str(larun.SourceCatalog.from_table(table[:0])).startswith("<SourceCatalog 0 sources")
