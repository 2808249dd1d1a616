"""DS9 region files go there and back, in pixels and on the sky, and say what they cannot be read as."""

import math

import numpy as np
import pytest
from astropy.io import fits

from larun.errors import FileError, OptionError
from larun.io.product import ProductParts, read_product, write_product
from larun.io.regions import Region, read_regions, write_regions

regions = pytest.importorskip("regions")

MANY = (
    Region(0.0, 99.123456789012345, 3.5, label="first"),
    Region(-4.5, 1e-9, math.nan, label="a point"),
    Region(10.0, 20.0, 6.0, 3.25, 33.3),
    Region(202.123456789012345, -18.0000000001, 2.5 / 3600, frame="icrs", label="α, β"),
    Region(359.99999999, 89.9, 5 / 3600, 2 / 3600, 170.0, frame="fk5"),
    Region(120.0, -30.0, 1 / 3600, frame="galactic"),
)


def test_acceptance_19_array_region_side_a_star_goes_there_and_back(tmp_path, rng):
    """Image, FITS, DS9 region and back: the same place to 1e-6 px, for stars all over and at the corners."""
    y, x = np.mgrid[0:61, 0:83].astype(np.float64)
    for x0, y0 in [(40.123456789, 30.987654321), (20.5, 10.25), *rng.uniform(15, 45, (8, 2)).tolist()]:
        star = np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 1.7**2)).astype(np.float32)
        bare = ProductParts(
            "Frame", fits.Header(), star, None, np.zeros(star.shape, np.uint32), (), None, "adu", None, {}
        )
        write_product(tmp_path / "star.fits", bare, overwrite=True)
        image = read_product(tmp_path / "star.fits").data.astype(np.float64)
        weights = image / image.sum()
        place = (weights * x).sum(), (weights * y).sum()
        write_regions(tmp_path / "star.reg", [Region(*place, 5.0)], overwrite=True)
        (back,) = read_regions(tmp_path / "star.reg")
        assert abs(back.x - x0) < 1e-6
        assert abs(back.y - y0) < 1e-6
        assert (back.radius, back.frame) == (5.0, "image")


def test_regions_are_counted_from_one(tmp_path):
    write_regions(tmp_path / "a.reg", [Region(0.0, 0.0, 3.0), Region(9.25, 99.5, 3.0)])
    lines = (tmp_path / "a.reg").read_text().splitlines()
    assert lines[2:] == ["image", "circle(1.0,1.0,3.0)", "circle(10.25,100.5,3.0)"]


def test_regions_as_ds9_saves_them(tmp_path):
    (tmp_path / "a.reg").write_text(
        "# Region file format: DS9 version 4.1\n"
        'global color=green dashlist=8 3 width=1 font="helvetica 10 normal" image=1 fk5=no\n'
        "image\ncircle(341.5,204.25,20) # text={a fk5 star}\npoint(10,20) # point=x\n"
        "-CIRCLE(3, 4, 5)\nimage;circle 7 8 9\n"
    )
    found = read_regions(tmp_path / "a.reg")
    assert [(region.x, region.y) for region in found] == [(340.5, 203.25), (9.0, 19.0), (2.0, 3.0), (6.0, 7.0)]
    np.testing.assert_array_equal([region.radius for region in found], [20, np.nan, 5, 9])
    assert found[0].label == "a fk5 star"


@pytest.mark.parametrize("region", MANY)
def test_every_kind_comes_back(tmp_path, region):
    write_regions(tmp_path / "a.reg", [region])
    (again,) = read_regions(tmp_path / "a.reg")
    for one, two in zip(again, region, strict=True):
        if isinstance(one, float) and not math.isnan(one):
            assert one == pytest.approx(two, rel=1e-15, abs=1e-15)
        else:
            assert one == two or (math.isnan(one) and math.isnan(two))


def test_many_kinds_in_one_file(tmp_path):
    write_regions(tmp_path / "a.reg", MANY)
    lines = (tmp_path / "a.reg").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line in ("image", "icrs", "fk5", "galactic")] == [
        "image",
        "icrs",
        "fk5",
        "galactic",
    ]
    assert [region.frame for region in read_regions(tmp_path / "a.reg")] == [region.frame for region in MANY]
    write_regions(tmp_path / "none.reg", [])
    assert read_regions(tmp_path / "none.reg") == ()


def test_the_regions_package_reads_them(tmp_path):
    write_regions(tmp_path / "a.reg", MANY)
    found = regions.Regions.read(tmp_path / "a.reg", format="ds9")
    assert len(found) == len(MANY)
    for one, two in zip(found, MANY, strict=True):
        if two.frame == "image":
            assert one.center.x == pytest.approx(two.x, abs=1e-9)
            assert one.center.y == pytest.approx(two.y, abs=1e-9)
        else:
            assert one.center.frame.name == two.frame
            assert one.center.spherical.lon.to_value("deg") == pytest.approx(two.x, abs=1e-12)
            assert one.center.spherical.lat.to_value("deg") == pytest.approx(two.y, abs=1e-12)
    assert found[0].radius == pytest.approx(3.5)
    assert found[0].meta["text"] == "first"
    assert found[2].width / 2 == pytest.approx(6.0)
    assert found[2].angle.to_value("deg") == pytest.approx(33.3)


def test_what_the_regions_package_writes_is_read(tmp_path):
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    place = regions.PixCoord(40.123456789, 30.987654321)
    sky = SkyCoord(202.123456789, -18.3, unit="deg")
    made = [
        regions.CirclePixelRegion(place, 5.0, meta={"text": "hello"}),
        regions.PointPixelRegion(place),
        regions.EllipsePixelRegion(place, 6.0, 4.0, 30 * u.deg),
        regions.RectanglePixelRegion(place, 6.0, 4.0),
        regions.CircleAnnulusPixelRegion(place, 3.0, 5.0),
        regions.CircleSkyRegion(sky, 3 * u.arcsec),
        regions.PointSkyRegion(sky.galactic),
        regions.PointSkyRegion(sky.fk4),
    ]
    regions.Regions(made).write(tmp_path / "a.reg", format="ds9", precision=12)
    found = read_regions(tmp_path / "a.reg")
    assert len(found) == len(made)
    for region in found[:5]:
        assert abs(region.x - 40.123456789) < 1e-9
        assert abs(region.y - 30.987654321) < 1e-9
    assert (found[0].radius, found[0].label) == (5.0, "hello")
    assert (found[2].radius, found[2].minor, found[2].angle) == (3.0, 2.0, 30.0)
    assert found[5].x == pytest.approx(202.123456789, abs=1e-11)
    assert found[5].radius * 3600 == pytest.approx(3.0)
    assert [region.frame for region in found[5:]] == ["icrs", "galactic", "fk4"]


@pytest.mark.parametrize(
    ("text", "x", "y"),
    [
        ('fk5;circle(13:29:52.7,+47:11:42.9,5")', 15 * (13 + 29 / 60 + 52.7 / 3600), 47 + 11 / 60 + 42.9 / 3600),
        ("j2000\npoint(0:00:01,-0:30:00)", 15 / 3600, -0.5),
        ("icrs\ncircle(13h29m52.7s, -47d11m42.9s, 5')", 202.46958333333333, -(47 + 11 / 60 + 42.9 / 3600)),
        ("icrs\ncircle(202.5d -47.25d 0.01d)", 202.5, -47.25),
        ('FK5\nellipse(10.5, -20.25, 3", 2", 40)', 10.5, -20.25),
        ("galactic\npoint(120:30:00,-5:15:00)", 120.5, -5.25),
        ('icrs\nbox(1r,0.5r,3",4",0)', math.degrees(1), math.degrees(0.5)),
    ],
)
def test_the_ways_ds9_writes_the_sky(tmp_path, text, x, y):
    (tmp_path / "a.reg").write_text(text)
    (found,) = read_regions(tmp_path / "a.reg")
    assert found.frame == ("galactic" if "galactic" in text else "icrs" if "icrs" in text else "fk5")
    assert found.x == pytest.approx(x, abs=1e-12)
    assert found.y == pytest.approx(y, abs=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "physical\ncircle(1,2,3)",
        "wcsa;circle(1,2,3)",
        "image\npolygon(1,2,3,4,5,6)",
        "image\nline(1,2,3,4)",
        'image\ncircle(16:41:41,36:27:37,20")',
        "image\ncircle(1)",
        "image\ncircle(nan,2,3)",
        "image\ncircle(inf,2,3)",
        "fk5\ncircle(a,b,c)",
        "nonsense without end",
        "<html>",
        "\0\1\2",
    ],
)
def test_what_is_no_place_is_told_with_its_line(tmp_path, text):
    (tmp_path / "a.reg").write_text(text + "\n")
    with pytest.raises(FileError, match=r"a\.reg, line \d"):
        read_regions(tmp_path / "a.reg")


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(FileError, match="does not exist"):
        read_regions(tmp_path / "no.reg")
    (tmp_path / "empty.reg").write_text("")
    with pytest.raises(FileError, match="empty"):
        read_regions(tmp_path / "empty.reg")
    for wrong in (Region(math.nan, 1.0, 3.0), Region(1.0, math.inf, 3.0), Region(1.0, 1.0, 3.0, math.inf)):
        with pytest.raises(OptionError, match="finite"):
            write_regions(tmp_path / "b.reg", [wrong])
    with pytest.raises(OptionError, match="frame 'hcrs'"):
        write_regions(tmp_path / "b.reg", [Region(1.0, 1.0, frame="hcrs")])
    (tmp_path / "mine.reg").write_text("image\ncircle(1,2,3)\n")
    with pytest.raises(FileError, match="never replaced"):
        write_regions(tmp_path / "mine.reg", [Region(1.0, 1.0, 3.0)], overwrite=True)
    assert not (tmp_path / "b.reg").exists()


def test_a_label_cannot_become_a_command(tmp_path):
    label = "}\nimage;circle(1,2,3) # text={x} \x07 ;"
    write_regions(tmp_path / "a.reg", [Region(5.0, 6.0, 1.0, label=label), Region(7.0, 8.0, 1.0)])
    found = read_regions(tmp_path / "a.reg")
    assert [(region.x, region.y) for region in found] == [(5.0, 6.0), (7.0, 8.0)]
    assert len((tmp_path / "a.reg").read_text().splitlines()) == 5
    assert len(regions.Regions.read(tmp_path / "a.reg", format="ds9")) == 2


def test_ten_thousand_regions_are_read_in_a_second(tmp_path):
    rng = np.random.default_rng(5)
    many = [Region(x, y, 3.0, label=f"star {x:.0f}") for x, y in rng.uniform(0, 4096, (10_000, 2)).tolist()]
    write_regions(tmp_path / "a.reg", many)
    places = np.array([region[:2] for region in read_regions(tmp_path / "a.reg")])
    assert np.abs(places - [region[:2] for region in many]).max() < 1e-12


@pytest.mark.parametrize(
    ("text", "angle"),
    [
        ("image\nellipse(10,20,3,2,6,4,45)", 45.0),
        ('fk5\nellipse(10,20,3",2",6",4",45)', 45.0),
        ("image\nellipse(10,20,3,2,6,4)", 0.0),
        ("image\nellipse(10,20,3,2,0.5r)", math.degrees(0.5)),
    ],
)
def test_the_angle_of_an_ellipse_stands_last(tmp_path, text, angle):
    """Behind the axes of one ellipse, or of all those of an elliptical annulus."""
    (tmp_path / "a.reg").write_text(text + "\n")
    (found,) = read_regions(tmp_path / "a.reg")
    assert found.angle == pytest.approx(angle, rel=1e-12)
    assert found.radius / found.minor == pytest.approx(1.5)


@pytest.mark.parametrize("angle", ["nan", "inf", '6"'])
def test_an_angle_that_is_none_names_file_and_line(tmp_path, angle):
    (tmp_path / "a.reg").write_text(f"image\nellipse(10,20,3,2,{angle})\n")
    with pytest.raises(FileError, match=r"a\.reg, line 2"):
        read_regions(tmp_path / "a.reg")
