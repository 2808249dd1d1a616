"""Options that several groups of commands share, as types of their parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Instrument", "Json", "Keyword", "Setting"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]
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
