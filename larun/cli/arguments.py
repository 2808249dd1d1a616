"""Options that several groups of commands share, as types of their parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Columns", "Epoch", "Instrument", "Json", "Keyword", "Setting", "Systems"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME=COLUMN",
        help="Where something is in the catalogue, if larun does not know its names: ra=RAJ2000, mag_g=gmag, "
        "mag_g_error=e_gmag, pmra=…, pmdec=… Repeat it for more.",
    ),
]
Systems = Annotated[
    list[str] | None,
    typer.Option("--system", metavar="BAND=AB", help="System of the magnitudes: AB, Vega, or g=AB; repeat for more."),
]
Epoch = Annotated[float | None, typer.Option("--epoch", metavar="YEAR", help="Of the positions: 2016.0 for Gaia DR3.")]
Keyword = Annotated[
    list[str] | None,
    typer.Option(
        "--keyword",
        "-k",
        metavar="KEY=VALUE",
        help="What headers do not say or get wrong, for every file: GAIN=1.8, RDNOISE=5, EXPTIME=60, filter=V … "
        "Repeat it for more.",
    ),
]
Instrument = Annotated[
    list[Path] | None,
    typer.Option(
        "--instrument", metavar="FILE.py", help="Python file with the camera's class, which is run; repeat for more."
    ),
]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.OPTION=VALUE",
        help="An option of the recipe: detect.threshold=7, photometer.radii=3,5,8 … Repeat it for more.",
    ),
]
