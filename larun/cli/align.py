"""``larun align``: frames laid upon a reference, one line each; those that do not fit with the reason."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from larun.cli.arguments import Instrument, Json
from larun.cli.running import FAILED, OK, command
from larun.errors import FileError, LarunError, OptionError

if TYPE_CHECKING:
    from larun.model.sky import SkyImage

__all__ = ["app", "ended", "one_by_one", "sky_image", "targets"]

app = typer.Typer()


class Method(enum.StrEnum):
    """What tells how frames lie upon one another."""

    stars = "stars"
    phase = "phase"
    wcs = "wcs"


class Transform(enum.StrEnum):
    """What is fitted to stars."""

    similarity = "similarity"
    affine = "affine"
    quadratic = "quadratic"
    cubic = "cubic"


class Kernel(enum.StrEnum):
    """How pixels become others."""

    auto = "auto"
    lanczos3 = "lanczos3"
    bilinear = "bilinear"
    nearest = "nearest"
    area = "area"


class Conserve(enum.StrEnum):
    """What stays where the scale changes."""

    flux = "flux"
    brightness = "brightness"


@attrs.frozen(kw_only=True)
class _Wishes:
    """How frames are aligned, and where they go."""

    out: Path
    overwrite: bool
    how: dict[str, str]


@app.command("align")
@command
def align(
    frames: Annotated[
        list[Path], typer.Argument(metavar="FRAME…", help="Calibrated frames, or folders of them.", show_default=False)
    ],
    to: Annotated[Path, typer.Option("--to", "-t", metavar="REFERENCE", help="Frame that gives pixels and WCS.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUTDIR", help="Folder of the aligned frames.")],
    method: Annotated[Method, typer.Option(help="By stars, by structure (a shift), or by the WCS of both.")] = (
        Method.stars
    ),
    transform: Annotated[Transform, typer.Option(help="What is fitted to the stars.")] = Transform.affine,
    kernel: Annotated[Kernel, typer.Option(help="auto: Lanczos-3, or areas where the scale changes.")] = Kernel.auto,
    conserve: Annotated[Conserve, typer.Option(help="The light of stars, or the brightness of the sky.")] = (
        Conserve.flux
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace products of larun.")] = False,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """Lay frames upon another of the same field, pixel on pixel, with their errors and flags."""
    from larun.cli import options

    options.load_instruments(instrument)
    how = {"method": method.value, "transform": transform.value, "kernel": kernel.value, "conserve": conserve.value}
    pairs = targets(frames, to, out)
    reference = sky_image(to)
    wishes = _Wishes(out=out, overwrite=overwrite, how=how)
    rows = one_by_one(
        pairs, lambda path, target: _aligned(path, target, reference, wishes), _told, done="aligned", quiet=as_json
    )
    about = {"reference": str(to), "out": str(out), **how}
    return ended(rows, about, f"aligned to {to}, in {out}", done="aligned", as_json=as_json)


def targets(frames: Sequence[Path], to: Path, out: Path) -> list[tuple[Path, Path]]:
    """Each frame and the file it becomes.

    Raises
    ------
    OptionError
        If two become one, or a frame or the reference would be replaced.
    """
    found: list[Path] = []
    for path in frames:
        inside = sorted(path.glob("*.fits")) if path.is_dir() else [path]
        if not inside:
            raise FileError(f"{path}: holds no .fits files")
        found += inside
    made: dict[Path, Path] = {}
    for path in dict.fromkeys(found):
        target = out / f"{path.name.partition('.fit')[0]}.fits"
        if target in made:
            raise OptionError(f"{path} and {made[target]} would both become {target}: align them into two folders")
        for taken in (path, to):
            if target.exists() and taken.exists() and target.samefile(taken):
                raise OptionError(f"--out {out}: {taken} would be replaced: give another folder")
        made[target] = path
    return [(path, target) for target, path in made.items()]


def sky_image(path: Path) -> SkyImage:
    """The image of the sky in a file.

    Raises
    ------
    OptionError
        If it is something else.
    """
    from larun.model.sky import SkyImage
    from larun.report.inspect import open_file

    image = open_file(path)
    if not isinstance(image, SkyImage):
        raise OptionError(f"{path} is a {type(image).__name__}: give a frame of the sky")
    return image


def one_by_one(
    pairs: Sequence[tuple[Path, Path]],
    work: Callable[[Path, Path], dict[str, Any]],
    told: Callable[[dict[str, Any]], str],
    *,
    done: str,
    quiet: bool,
) -> list[dict[str, Any]]:
    """A row for each frame, told as soon as there is one; ``row[done]`` says whether it could be done."""
    from rich.text import Text

    from larun.markup import printable
    from larun.report.terminal import console

    screen, rows = console(), []
    for path, target in pairs:
        row = {"path": str(path)} | work(path, target)
        rows.append(row)
        if not quiet:
            style = "bold" if row[done] else "bold yellow"
            screen.print(Text(f"{printable(path.name)}  ", style=style).append(printable(told(row)), style="not bold"))
    return rows


def ended(rows: list[dict[str, Any]], about: dict[str, Any], said: str, *, done: str, as_json: bool) -> int:
    """The last line, or all of it as JSON; the exit code."""
    from larun.report.terminal import console, heading, write_json

    good = sum(row[done] for row in rows)
    code = OK if good == len(rows) else FAILED
    if as_json:
        write_json({**about, "frames": rows, "code": code})
    else:
        console().print(heading(f"{good} of {len(rows)} frames {said}"))
    return code


def _aligned(path: Path, target: Path, reference: SkyImage, wishes: _Wishes) -> dict[str, Any]:
    """Align and write one frame; what is told of it, or why it could not be."""
    try:
        if target.exists() and not wishes.overwrite:
            raise FileError(f"{target} exists: --overwrite replaces it")
        made = sky_image(path).align_to(reference, **wishes.how)
        target.parent.mkdir(parents=True, exist_ok=True)
        made.write(target, overwrite=wishes.overwrite)
    except (LarunError, OSError) as error:
        return {"aligned": False, "reason": " ".join(str(error).split())}
    assert made.provenance.step is not None
    fitted = made.provenance.step.fitted
    known = {"stars": fitted.get("matches"), "rms_bright": fitted.get("rms_bright")}
    return {"aligned": True, "file": str(target), **_geometry(made), **known}


def _geometry(made: SkyImage) -> dict[str, Any]:
    """Shift of the frame at the middle of the reference in pixels, its turn in degrees, scale and parity."""
    from larun.algorithms.resampled_noise import unpacked

    assert made._resampling is not None
    mapping, step = unpacked(made._resampling)[0].mapping, 50.0
    ny, nx = made.shape
    middle = (nx - 1) / 2, (ny - 1) / 2
    x, y = mapping.at(
        [middle[0], middle[0] - step, middle[0] + step, middle[0], middle[0]],
        [middle[1], middle[1], middle[1], middle[1] - step, middle[1] + step],
    )
    a, b, c, d = ((at[k + 1] - at[k]) / (2 * step) for k in (1, 3) for at in (x, y))
    area = a * d - b * c
    return {
        "shift": [float(x[0] - middle[0]), float(y[0] - middle[1])],
        "turn": math.degrees(math.atan2(b, a)),
        "scale": math.sqrt(abs(area)),
        "parity": 1 if area > 0 else -1,
    }


def _told(row: dict[str, Any]) -> str:
    if not row["aligned"]:
        return f"not aligned: {row['reason']}"
    dx, dy = row["shift"]
    text = f"shift {dx:+.2f} {dy:+.2f} px  turn {row['turn']:+.3f}°  scale {row['scale']:.5f}"
    text += "  mirrored" if row["parity"] < 0 else ""
    return text if row["stars"] is None else f"{text}  {row['stars']} stars  rms {row['rms_bright']:.3f} px"
