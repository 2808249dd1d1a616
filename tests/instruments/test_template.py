"""The file for a new camera: it runs as it is, passes strict checkers, and no header can put code into it."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

import larun
from larun.errors import FileError, LarunWarning, OptionError
from larun.instruments.template import check_name, literal, template
from larun.io.headertext import read_header_text
from larun.model import loading, registry
from tests.conftest import real_data

ROOT = Path(larun.__file__).parents[1]
HOSTILE = [
    'a "quoted" camera',
    "O'Hara's camera",
    "both ' and \"",
    '""" + __import__("os").system("touch evil") + """',
    "\\",
    "ends with \\",
    "\\n\\x41 \\N{BULLET}",
    "line one\nraise SystemExit\r\n\tend",
    "{braces} {0} {name!r} %s",
    "é ∑ 𝄞 \u202e reversed \x00 \x85 \u2028",
    "# no comment",
    "x" * 300,
    "é" * 120,
    "",
]


@pytest.fixture(autouse=True)
def forget_new_cameras(monkeypatch):
    registry.load_plugins()
    monkeypatch.setattr(registry, "_CLASSES", dict(registry._CLASSES))
    monkeypatch.setattr(registry, "SOURCES", {})
    monkeypatch.setattr(loading, "SOURCES", registry.SOURCES)
    yield
    for name in registry.SOURCES:
        del sys.modules[name]


def compared_with(text):
    """What ``matches`` compares with, read from the syntax tree without running anything."""
    (matches,) = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef) and n.name == "matches"]
    (comparison,) = [n for n in ast.walk(matches) if isinstance(n, ast.Compare)]
    return ast.literal_eval(comparison.comparators[0])


def shape_of(text):
    """The statements of a file without their constants: equal for all headers of the same keywords."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = None
    return ast.dump(tree)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_a_literal_and_nothing_else(text):
    made = template("RoofCamera", {"INSTRUME": text, "OBJECT": text, "GAIN": text, "FILTER": text, text[:8]: text})
    assert made.isascii()
    assert shape_of(made) == shape_of(template("RoofCamera"))
    assert max(map(len, made.splitlines())) <= 120
    if text.strip():
        assert compared_with(made) == text.strip()


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_comes_back_from_its_literal(text):
    made = literal(text)
    assert ast.literal_eval(made) == text
    assert made.isascii()
    assert made.isprintable()


@pytest.mark.parametrize("value", [1, -2.5, True, 1e300, float("nan"), float("inf")])
def test_numbers_are_literals_too(value):
    assert ast.literal_eval(literal(value)) in (value, str(value))


def test_hostile_keywords_are_left_out():
    cards = {"INSTRUME": "x", "A\nB = 1\n": 1, "GAIN\n    evil": 2, "../x": 3, "GAIN'": 4, "FILTER\u2028": 5}
    made = template("RoofCamera", cards)
    assert "evil" not in made
    assert "../" not in made
    assert shape_of(made) == shape_of(template("RoofCamera"))


@pytest.mark.parametrize(
    "name", ["", "1st", "two words", "a/b", "../evil", "class", "None", "Frame", "_hidden", "a-b", "é"]
)
def test_names_that_no_class_can_have_are_refused(tmp_path, name):
    with pytest.raises(OptionError, match="cannot be the name of a class"):
        larun.instruments.new(name, out=tmp_path)
    assert not list(tmp_path.iterdir())
    assert check_name("Roof_2") == "Roof_2"


def test_candidates_and_sections_of_a_header_are_listed(tmp_path):
    header = fits.Header()
    header["INSTRUME"] = "roof"
    header["EXPTIME"] = 30.0
    header["ITIME"] = (30000.0, "[ms] exposure")
    header["WHEEL"] = ("V", "name of the filter")
    header["CCDGAIN"] = 2
    header["EGAIN"] = 1.5
    header["AMPNOISE"] = (4.5, "rms")
    header["BIASSEC"] = "[1025:1056,1:1024]"
    made = template("RoofCamera", header)
    for line in (
        "        # exposure: EXPTIME = 30.0",
        "        # filter: not found by larun",
        '        #   "filter": ("WHEEL",),  # WHEEL = "V"',
        "    #   EGAIN = 1.5",
        "    #   CCDGAIN = 2",
        "    #   AMPNOISE = 4.5",
        '        #   BIASSEC = "[1025:1056,1:1024]"  is  Section(0, 1024, 1024, 1056)',
    ):
        assert line in made.splitlines(), line
    assert 'header.get("CAMERA", "")' in template("RoofCamera", {"CAMERA": "attic"})


def test_the_file_reads_raw_files_as_it_is_and_takes_measured_values(tmp_path):
    raw = tmp_path / "raw.fits"
    cards = {"INSTRUME": 'it\'s "roof" \\ 3', "GAIN": 1.5, "RDNOISE": 5.0, "EXPTIME": 30.0, "BIASSEC": "[9:10,1:12]"}
    fits.PrimaryHDU(np.full((12, 10), 1000, np.uint16), fits.Header({**cards, "TRIMSEC": "[1:8,1:12]"})).writeto(raw)
    path = larun.instruments.new("RoofCamera", from_file=raw, out=tmp_path)
    assert path == tmp_path / "roofcamera.py"
    (camera,) = larun.instruments.load(path)
    frame = larun.Frame.read(raw)
    assert type(frame) is camera
    assert (frame.detector.amplifiers[0].gain, frame.detector.trimmed_shape) == (1.5, (12, 8))
    assert not frame.flags.any()
    assert larun.instruments.check(raw).ok
    text = path.read_text().replace("gain: ClassVar[float | None] = None", "gain: ClassVar[float | None] = 1.8")
    path.write_text(text.replace("tuple[int, ...]] = ()", "tuple[int, ...]] = (3,)"))
    larun.instruments.load(path)
    frame = larun.Frame.read(raw)
    assert frame.detector.amplifiers[0].gain == 1.8
    assert frame.flags[:, 3].all()
    assert frame.flags.any(axis=0).sum() == 1
    source = {quantity.name: quantity.source for quantity in larun.instruments.check(raw).quantities}
    assert source["gain"] == "constant RoofCamera.gain"


def test_the_file_passes_strict_checkers(tmp_path):
    plain = larun.instruments.new("PlainCamera", out=tmp_path)
    full = tmp_path / "decam.py"
    full.write_text(template("DeCam", read_header_text(real_data("headers", "fitsheader-decam.yaml")).header))
    (tmp_path / "hostile.py").write_text(template("Hostile", {"INSTRUME": HOSTILE[3], "GAIN": HOSTILE[7]}))
    files = [str(plain), str(full), str(tmp_path / "hostile.py")]
    settings = ["--config", str(ROOT / "pyproject.toml")]
    for command in (
        ["ruff", "check", "--no-cache", *settings, *files],
        ["ruff", "format", "--check", "--no-cache", *settings, *files],
        ["ruff", "check", "--no-cache", "--isolated", *files],
        ["mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), *files],
    ):
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_goes_where_it_is_told_and_replaces_nothing_by_accident(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert larun.instruments.new("Json") == Path("json_camera.py")  # json.py would hide a module of Python
    path = larun.instruments.new("Attic", out="cams.py")
    path.write_text("mine")
    with pytest.raises(FileError, match=r"cams\.py exists: choose another name with -o"):
        larun.instruments.new("Attic", out="cams.py")
    assert path.read_text() == "mine"
    with pytest.raises(FileError, match=r"must end in \.py"):
        larun.instruments.new("Attic", out="cams.txt")
    with pytest.raises(FileError, match="absent"):
        larun.instruments.new("Attic", out="absent.py", from_file=tmp_path / "absent.fits")
    with pytest.raises(FileError):
        larun.instruments.new("Attic", out="no/such/folder/a.py")
    assert {item.name for item in tmp_path.iterdir()} == {"json_camera.py", "cams.py"}


def test_a_file_that_a_camera_reads_already_is_told(tmp_path):
    raw = real_data("nickel", "d1059.fits.fz")
    with pytest.warns(LarunWarning, match="Nickel reads this file.*derive Mine from Nickel"):
        larun.instruments.new("Mine", from_file=raw, out=tmp_path)


def test_candidates_have_the_kind_and_the_size_of_the_quantity():
    made = template("Mega", read_header_text(real_data("headers", "fitsheader-megaprime.yaml")).header)
    for trap in ("EXPTYPE", "EXPNUM", "TEMPERAT", "ISUGAIN", "FSAGAIN", "FILTERID", '("DATEEND",)'):
        assert trap not in made, trap
    for line in (
        '#   "trim": ("DSEC",),  # DSECA = "[33:1056,1:4612]", DSECB',
        '#   "overscan": ("BSEC",),  # BSECA = "[1:32,1:4644]", BSECB',
        '#   "temperature": ("DETTEM",),  # DETTEM = -133.13',
        '#   "binning_x": ("CCDBIN1",),  # CCDBIN1 = 1',
        '#   "chip": ("EXTVER",),  # EXTVER = 2',
    ):
        assert line in (shown.strip() for shown in made.splitlines()), line
    assert '"chip": ("CCDNAME",)' in template("Plain", {"INSTRUME": "roof"})
    assert "larun.model" not in made  # public names alone
