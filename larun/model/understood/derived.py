"""What larun understands of a file, quantity by quantity: value, where it comes from, and whether it can be true."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.robust import mad_sigma
from larun.detector import Amplifier, Detector
from larun.errors import FileError, LarunError, OptionError
from larun.io.headers import get_number, get_text, wcs_from_header
from larun.io.headertext import HeaderText, is_header_text, read_header_text
from larun.model import registry
from larun.model.frame import Frame
from larun.model.headers import DETECTOR_QUANTITIES
from larun.model.raw import opening
from larun.model.time.timing import ExposureTime
from larun.model.understood.known import LEVELS, AmplifierPixels, Finding, Known
from larun.model.understood.plausible import RULES
from larun.model.understood.quantities import Quantity, quantities

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["Explanation", "explain", "header_of"]


@attrs.frozen(kw_only=True)
class Explanation:
    """What a file is understood to be.

    Parameters
    ----------
    path : str
        The file.
    camera : str
        Name of the class that reads it.
    why : str
        Why that one.
    header_only : bool
        Whether only a header was there, so that nothing could be compared with pixels.
    quantities : tuple of Quantity
        Every quantity, in the order of the report.
    findings : tuple of Finding
        What is missing or hardly true, the worst first.
    """

    path: str
    camera: str
    why: str
    header_only: bool
    quantities: tuple[Quantity, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing that is required is missing or impossible."""
        return not any(finding.level == "error" for finding in self.findings)

    def __getitem__(self, name: str) -> Any:
        """The value of a quantity; of one that amplifiers have, a tuple with one for each."""
        found = [quantity for quantity in self.quantities if quantity.name == name]
        if not found:
            known = ", ".join(dict.fromkeys(quantity.name for quantity in self.quantities))
            raise KeyError(f"{name!r}: known are {known}")
        return tuple(item.value for item in found) if found[0].amplifier else found[0].value

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "path": self.path,
            "class": self.camera,
            "why": self.why,
            "header_only": self.header_only,
            "ok": self.ok,
            "quantities": [attrs.asdict(quantity) for quantity in self.quantities],
            "findings": [attrs.asdict(finding) for finding in self.findings],
        }


@attrs.frozen(kw_only=True)
class _Sight:
    """A file as far as it could be understood."""

    camera: type[Frame]
    header: Header
    detector: Detector | None
    shape: tuple[int, int] | None
    shape_from: str
    data: NDArray[np.float32] | None = None
    whole_numbers: bool | None = None
    time: ExposureTime | None = None
    findings: tuple[Finding, ...] = ()


def explain(
    path: str | Path, *, ext: int | str | None = None, camera: type[Frame] = Frame, **given: Any
) -> Explanation:
    """What larun understands of a raw file, or of the text of a header, and what in it can hardly be true.

    Parameters
    ----------
    path : path
        A raw FITS file, or a header as text: FITS cards, or YAML with ``KEY: value``. Of a text only what needs no
        pixels is checked.
    ext : int or str, optional
        HDU of a file with several images: its number or name.
    camera : type
        The class to read it with; by default the header chooses.
    **given
        What the header does not say or gets wrong, as for :meth:`larun.Frame.read`.

    Returns
    -------
    Explanation
        ``explanation["gain"]`` is a value, ``explanation.findings`` what to look at.

    Raises
    ------
    FileError
        If the file cannot be read at all, or is a product of larun.
    HeaderError
        If two cameras claim it.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "header.txt"
    >>> cards = ["INSTRUME= 'roof'", "NAXIS1 = 1056", "NAXIS2 = 1024", "GAIN = 1.5", "RDNOISE = 5.0", "EXPTIME = 60"]
    >>> _ = path.write_text(chr(10).join(cards))
    >>> found = explain(path)
    >>> found.ok, found["gain"], found["exposure"], found.findings[0].quantity
    (True, (1.5,), 60.0, 'kind')
    """
    path = Path(path)
    sight = _text(path, camera, given) if is_header_text(path) else _file(path, ext, camera, given)
    known = _known(sight, str(path))
    found = list(sight.findings) + _odd_rows(sight.camera)
    for name, rule in RULES.items():
        if rule.judge is not None and (sight.detector is not None or name not in _OF_DETECTOR):
            found += rule.judge(known)
    found.sort(key=lambda finding: LEVELS.index(finding.level))
    return Explanation(
        path=str(path),
        camera=registry.name_of(sight.camera),
        why=_why(sight),
        header_only=sight.data is None,
        quantities=quantities(known, given, sight.shape_from),
        findings=tuple(found),
    )


_OF_DETECTOR = (*DETECTOR_QUANTITIES, "sections")


# -- opening -----------------------------------------------------------------------------------------------------------


def _text(path: Path, base: type[Frame], given: Mapping[str, Any]) -> _Sight:
    text = read_header_text(path)
    findings = []
    if text.shape is None:
        findings.append(
            Finding(
                "size",
                "warning",
                f"the text holds {text.shape_from}: the size of the array is not known",
                "add NAXIS1 and NAXIS2 to the text; sections are not checked",
            )
        )
    elif "NAXIS1" not in text.shape_from:
        findings.append(Finding("size", "note", f"no NAXIS1, NAXIS2: the size is that of {text.shape_from}"))
    sight = _interpreted(path, base, text, given)
    return attrs.evolve(sight, findings=(*sight.findings, *findings))


#: Stands for the size of an array that the text does not tell; nothing that depends on it is shown.
_SOME_SHAPE = (4096, 4096)


def _interpreted(path: Path, base: type[Frame], text: HeaderText, given: Mapping[str, Any]) -> _Sight:
    """Camera and detector of a header alone; a hook that fails is a finding."""
    camera = registry.choose(text.header, base, str(path))
    sight = _Sight(
        camera=camera,
        header=text.header,
        detector=None,
        shape=text.shape,
        shape_from=text.shape_from,
        whole_numbers=text.whole_numbers,
    )
    try:
        found = opening.interpret(base, text.header, text.shape or _SOME_SHAPE, given, str(path))
    except OptionError:
        raise
    except LarunError as error:
        return attrs.evolve(sight, findings=(_refused(error, path),))
    return attrs.evolve(sight, header=found.header, detector=found.detector)


def _refused(error: LarunError, path: Path) -> Finding:
    text = str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")
    return Finding("file", "error", text, "until this is mended, values that depend on it are not shown")


def _file(path: Path, ext: int | str | None, base: type[Frame], given: Mapping[str, Any]) -> _Sight:
    from larun.io.product import is_product

    if path.is_file() and is_product(path):
        raise FileError(f"{path}: is a product of larun, not a raw file: see larun info {path}")
    try:
        frame = base.read(path, ext=ext, verify=False, **given)
    except OptionError:
        raise
    except LarunError as error:
        return _what_is_left(path, ext, base, given, error)
    sample = frame.data[:: max(1, frame.shape[0] // 64)]
    return _Sight(
        camera=type(frame),
        header=frame._header,
        detector=frame.detector,
        shape=frame.shape,
        shape_from="the image",
        data=frame.data,
        time=frame.time,
        whole_numbers=bool((sample[np.isfinite(sample)] % 1 == 0).all()),
    )


def _what_is_left(
    path: Path, ext: int | str | None, base: type[Frame], given: Mapping[str, Any], error: LarunError
) -> _Sight:
    """The header of a file that cannot be read as a frame, if it has one."""
    try:
        text = header_of(path, ext)
    except LarunError:
        raise error from None
    sight = _interpreted(path, base, text, given)
    findings = dict.fromkeys((_refused(error, path), *sight.findings))
    return attrs.evolve(sight, findings=tuple(findings))


def header_of(path: str | Path, ext: int | str | None = None) -> HeaderText:
    """The header of a text or of a FITS file: of the image that is meant, else the first.

    Raises
    ------
    FileError
        If there is none.
    """
    from larun.io.raw import RowReader

    if not is_header_text(path):
        with contextlib.suppress(LarunError), RowReader(path, ext) as reader:
            return HeaderText(reader.header, reader.shape, "NAXIS1, NAXIS2", None)
    return read_header_text(path)


# -- what is known -----------------------------------------------------------------------------------------------------


def _known(sight: _Sight, where: str) -> Known:
    camera, header = sight.camera, sight.header
    values: dict[str, Any] = {"unit": camera.raw_unit(header)}
    keywords: dict[str, str | None] = {}
    for name in camera.all_keywords():
        values[name] = registry.ask(camera, "quantity_of", where, header, name)
        keywords[name] = _keyword(camera, header, name, values[name])
    kind, evidence = registry.ask(camera, "classify", where, header)
    return Known(
        camera=camera,
        header=header,
        values=values,
        keywords=keywords,
        kind=kind,
        evidence=evidence,
        shape=sight.shape,
        detector=sight.detector,
        pixels=_pixels(sight),
        whole_numbers=sight.whole_numbers,
        wcs=wcs_from_header(header),
        time=sight.time or registry.ask(camera, "time_for", where, header),
    )


def _keyword(camera: type[Frame], header: Header, name: str, value: Any) -> str | None:
    """The keyword that gave a value; of a value that is missing, the one that is there but cannot be used."""
    names = camera.all_keywords()[name]
    number = get_number(header, names).keyword if isinstance(value, int | float) else None
    return number or get_text(header, names).keyword


def _pixels(sight: _Sight) -> tuple[AmplifierPixels, ...]:
    if sight.data is None or sight.detector is None:
        return ()
    shape = sight.data.shape
    amplifiers = sight.detector.amplifiers
    inside = all(
        section is None or section.within((shape[0], shape[1])) for a in amplifiers for section in (a.data, a.overscan)
    )
    return tuple(_measured(a, sight.data) for a in amplifiers) if inside else ()


def _measured(amplifier: Amplifier, data: NDArray[np.float32]) -> AmplifierPixels:
    image = data[amplifier.data.slices]
    values = image[np.isfinite(image)].astype(np.float64)
    if values.size == 0:
        values = np.zeros(1)
    low, median = np.percentile(values, [1, 50])
    overscan = None if amplifier.overscan is None else data[amplifier.overscan.slices]
    seen = overscan is not None and bool(np.isfinite(overscan).any())
    return AmplifierPixels(
        low=float(low),
        median=float(median),
        high=float(values.max()),
        at_highest=int((values == values.max()).sum()),
        above_saturation=float((values >= amplifier.saturation).mean()),
        overscan=float(np.nanmedian(overscan)) if overscan is not None and seen else None,
        overscan_noise=_scatter(overscan) if overscan is not None and seen else None,
        noise=_scatter(image) or 0.0,
    )


def _scatter(pixels: NDArray[np.float32]) -> float | None:
    """Noise of one pixel from neighbours in a row: structure and drift drop out."""
    if pixels.shape[1] < 2:
        return None
    steps = np.diff(pixels[:: max(1, len(pixels) // 512)].astype(np.float64), axis=1)
    steps = steps[np.isfinite(steps)]
    return mad_sigma(steps) / math.sqrt(2) if steps.size else None


def _why(sight: _Sight) -> str:
    instrument, keyword = get_text(sight.header, sight.camera.all_keywords()["instrument"])
    said = f"{keyword} = {instrument!r}" if keyword else "a header without the camera's name"
    if sight.camera is registry.by_name(registry.GENERIC):
        others = [c.__name__ for c in registry.cameras() if c is not sight.camera]
        return f"none of {', '.join(others) or 'the cameras'} claims {said}"
    return f"{sight.camera.__name__}.matches claims {said}"


def _odd_rows(camera: type[Frame]) -> list[Finding]:
    """Rows of a camera's ``keywords`` that nothing looks at."""
    known = Frame.all_keywords()
    found = []
    for name in camera.all_keywords():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            found.append(
                Finding(
                    "keywords",
                    "note",
                    f"{camera.__name__}.keywords[{name!r}] is no quantity larun uses",
                    f"did you mean {close[0]!r}?" if close else f"larun uses {', '.join(known)}",
                )
            )
    return found
