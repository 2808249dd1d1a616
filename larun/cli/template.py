"""``larun reduce --template``: a template subtracted from each reduced frame of its field."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from larun.cli.align import sky_image
from larun.cli.running import say
from larun.errors import FileError, LarunError, OptionError

if TYPE_CHECKING:
    from larun.model.jobs import Row
    from larun.model.sky import SkyImage

__all__ = ["opened", "subtract_template", "told"]


def opened(template: Path) -> SkyImage:
    """The template, before anything is reduced.

    Raises
    ------
    FileError
        If it is not there.
    OptionError
        If it is no image of the sky, or not calibrated.
    """
    if not template.is_file():
        raise FileError(f"--template {template}: no such file")
    made = sky_image(template)
    if not made.provenance.parents:
        raise OptionError(f"--template {template}: is a raw file: give a calibrated frame or a stack")
    return made


def subtract_template(rows: Iterable[Row], out: Path, template: SkyImage) -> list[dict[str, Any]]:
    """Subtract it from each science frame that was reduced; what is told of each.

    A difference that is there already, of the same frame and the same template, is left alone.
    """
    (out / "differences").mkdir(exist_ok=True)
    made = []
    for row in rows:
        if row.kind != "science" or row.status == "failed":
            continue
        name = Path(row.path).stem if row.path else row.name
        path, target = out / "frames" / f"{name}.fits", out / "differences" / f"{name}.fits"
        found = {"name": name, **_subtracted(path, target, template)}
        if found["status"] == "failed":
            say("error", f"{path}: {found['message']}")
        made.append(found)
    return made


def _subtracted(path: Path, target: Path, template: SkyImage) -> dict[str, Any]:
    from larun.algorithms.subtraction import SubtractOptions
    from larun.model.frame import Frame
    from larun.model.subtracting.series import subtracted

    try:
        frame = Frame.read(path, verify=False)
        if frame.provenance.id == template.provenance.id:
            return {"status": "skipped", "message": "is the template"}
        other = _of_another_field(frame, template)
        if other:
            return {"status": "skipped", "message": other}
        if _is_there(target, frame, template):
            return {"status": "skipped", "message": "there already", "path": str(target)}
        made = subtracted(frame, template, SubtractOptions(order=1))
        found = made.detect()
        made.write(target, overwrite=True)
        found.write(target.with_suffix(".ecsv"), overwrite=True)
    except (LarunError, OSError) as error:
        return {"status": "failed", "message": " ".join(str(error).split())}
    good = int((~found["doubt"]).sum())
    return {"status": "done", "path": str(target), "message": f"{len(found)} candidates, {good} without doubt"}


def _of_another_field(frame: Any, template: SkyImage) -> str:
    """Why a frame is not one of the template's field, as far as headers tell; empty where it may be."""
    said = [
        (str(image.header.get("OBJECT", "")).strip(), getattr(image, "filter", None)) for image in (frame, template)
    ]
    for name, ours, theirs in zip(("object", "filter"), *said, strict=True):
        if ours and theirs and ours != theirs:
            return f"{name} {ours}, the template has {theirs}"
    return ""


def _is_there(target: Path, frame: Any, template: SkyImage) -> bool:
    """Whether a difference and its candidates were made of these before."""
    from larun.model.lineage import record_of

    if not (target.is_file() and target.with_suffix(".ecsv").is_file()):
        return False
    record = record_of(target)
    ids = set() if record is None else {node.id for node in record.provenance.walk()}
    return {frame.provenance.id, template.provenance.id} <= ids


def told(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each frame, and one for all."""
    lines = [f"{row['name']}: {row['message']}" for row in rows]
    done = sum("path" in row for row in rows)
    return [*lines, f"{done} of {len(rows)} frames less the template"]
