"""What notebooks show: a picture, a table, the first rows; quick, small, deterministic, without foreign HTML."""

import base64
import io
import re
import subprocess
import sys
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

import larun
from larun import flags
from larun.algorithms.growth import CurveOfGrowth
from larun.model.display import picture_html

EVIL = "<script>alert(1)</script>"
HEADER = {"OBJECT": EVIL, "FILTER": "<img src=x onerror=alert(1)>", "EXPTIME": 30.0, "INSTRUME": '"><b>cam'}


class Elements(HTMLParser):
    """Elements with their attributes, the text, and whether everything that begins also ends."""

    def __init__(self, page):
        super().__init__()
        self.names, self.attributes, self.text, self.open = [], set(), "", []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + "\n"


def parsed(thing):
    page = thing._repr_html_()
    assert page == thing._repr_html_()
    assert len(page) < 100_000
    found = Elements(page)
    assert not found.open
    known = {"table", "thead", "tbody", "tr", "td", "th", "img", "p", "b", "div", "ul", "li", "details", "summary"}
    assert set(found.names) <= known | {"small", "code"}
    assert found.attributes <= {"style", "src", "alt", "width", "height", "open"}
    return found


def pixels(page):
    data = re.search(r'src="data:image/png;base64,([^"]+)"', page)[1]
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.fixture
def frame(rng):
    sky = rng.normal(100, 5, (120, 160))
    for x, y in ((30, 20), (80, 100), (120, 60)):
        yy, xx = np.mgrid[:120, :160]
        sky += 8000 * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 8)
    bits = np.zeros((120, 160), np.uint32)
    bits[:, 7] = flags.BAD
    return larun.Frame.from_arrays(
        sky, variance=np.full((120, 160), 25.0), flags=bits, unit="electron", header=HEADER, gain=1.0
    )


def test_an_image_shows_itself_and_says_what_it_is(frame):
    found = parsed(frame)
    for text in ("Frame", "160 × 120", "electron", EVIL, "30 s", "BAD 120", "none"):
        assert text in found.text
    assert found.names.count("img") == 1
    assert "crop" in parsed(frame.crop((0, 50), (0, 50))).text


def test_the_thumbnail_has_y_upwards_and_bright_stars_and_blue_without_data(frame):
    shown = pixels(frame._repr_html_())
    assert shown.shape == (120, 160, 3)
    assert (shown[:, 7] == (0, 114, 178)).all()
    grey = shown[:, 10:, 0]
    for x, y in ((30, 20), (80, 100), (120, 60)):
        assert shown[119 - y, x, 0] == 255
    assert shown[20, 30, 0] < 128
    assert np.median(grey) < 80


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (2, 3)])
def test_odd_images_are_shown_too(shape, rng):
    for data in (rng.normal(size=shape), np.zeros(shape), np.full(shape, np.nan)):
        assert "img" in parsed(larun.Image.from_arrays(data)).names


def test_a_large_image_is_quick_and_small(rng):
    data = np.tile(rng.normal(100, 5, (1024, 1024)).astype(np.float32), (4, 4))
    bits = np.zeros(data.shape, np.uint32)
    bits[:, ::97] = flags.BAD
    image = larun.Image.from_arrays(data, flags=bits)
    took = []
    for _ in range(3):
        start = time.process_time()
        page = image._repr_html_()
        took.append(time.process_time() - start)
    assert min(took) < 0.15  # about 0.03 s on an idle core
    assert len(page) < 100_000


def test_every_class_shows_itself(frame):
    from larun.model.masters import Master

    for cls in (larun.Image, larun.SkyImage, larun.Frame, Master):
        assert callable(cls._repr_html_)
    assert "SkyImage" in parsed(larun.SkyImage.from_arrays(frame.data, header=HEADER)).text


def test_masters_have_pictures_frames_and_criteria(rng):
    header = {"OBSTYPE": "BIAS", "EXPTIME": 0, "INSTRUME": EVIL}
    raws = [
        larun.Frame.from_arrays(rng.normal(1000, 5, (40, 50)), header=header, gain=1.5, read_noise=7.5)
        for _ in range(3)
    ]
    bias = larun.MasterBias.combine(raws)
    one = parsed(bias)
    assert "MasterBias" in one.text
    assert "master_bias" in one.text
    many = parsed(larun.Masters((bias,) * 30))
    assert many.names.count("img") == 12
    assert many.names.count("tr") == 31
    assert EVIL in many.text
    assert "img" not in parsed(larun.Masters(())).names


def test_a_catalogue_shows_its_first_rows_with_units_and_flag_names(frame):
    found = frame.detect(fwhm=4.0).photometer()
    page = parsed(found)
    for text in (f"{len(found)} sources", "x (pix)", "flux (electron)", "mag_total (mag)", "aperture radii", "detect"):
        assert text in page.text
    assert f"{found['x'].value[0]:.7g}" in page.text
    flagged = found._replace(table=_with_flags(found.table, flags.SATURATED | flags.COSMIC))
    assert "SATURATED, COSMIC" in parsed(flagged).text
    assert "0 sources" in parsed(found.select(np.zeros(len(found), bool))).text


def _with_flags(table, value):
    table["flags"] = np.full(len(table), value, np.uint32)
    table.meta["note"] = EVIL
    return table


def test_a_night_lists_its_files_whatever_their_names(tmp_path):
    name = "<b onmouseover=alert(1)>.fits"
    fits.PrimaryHDU(np.zeros((4, 4), np.int16), fits.Header(HEADER)).writeto(tmp_path / name)
    (tmp_path / "broken.fits").write_text("no FITS")
    page = parsed(larun.Night(tmp_path))
    for text in (name, EVIL, "unreadable", "2 files (1 science, 1 unreadable)"):
        assert text in page.text
    assert "no such folder" in parsed(larun.Night(tmp_path / "absent")).text
    assert EVIL in parsed(larun.Night(tmp_path / EVIL.replace("/", ""))).text.replace("<script>alert(1)<script>", EVIL)


def test_a_record_is_a_tree_that_folds(frame):
    cut = frame.crop((0, 80), (0, 80))
    page = parsed((cut + cut * 2.0).provenance)
    for text in ("add v1", "multiply v1", "crop v1", "arrays in memory", "(shown above)"):
        assert text in page.text
    assert page.names.count("details") == 3  # add, multiply and the first crop; then crop is only named


def test_foreign_words_in_a_record_are_text(frame):
    def step(image, note):
        return image * 1.0

    page = parsed(frame.pipe(step, note=EVIL).provenance)
    assert "<script>" in page.text


def test_a_very_long_record_is_cut(frame):
    image = frame.crop((0, 4), (0, 4))
    for _ in range(500):
        image = image + 1.0
    assert "print the record for the rest" in parsed(image.provenance).text


def test_a_curve_of_growth_is_a_table():
    curve = CurveOfGrowth(np.array([1.0, 2.0]), np.array([0.51234, 1.0]), np.array([0.01, 0.0]), 7)
    page = parsed(curve)
    for text in ("7 stars", "0.5123", "2.00"):
        assert text in page.text


def test_no_matplotlib_is_needed():
    code = (
        "import sys, numpy as np, larun; sys.modules['matplotlib'] = None\n"
        "print(len(larun.Frame.from_arrays(np.eye(50))._repr_html_()) > 500)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_a_small_picture_is_small(frame):
    assert pixels(picture_html(frame, 64)).shape == (40, 54, 3)
