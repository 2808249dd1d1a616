"""Files of pictures: whole, by suffix, the same bytes, and nothing replaced by accident."""

import numpy as np
import pytest
from astropy.io import fits
from matplotlib.figure import Figure

from larun import errors, plots


def picture(title="title"):
    figure = Figure(figsize=(2, 2))
    figure.add_subplot().set_title(title)
    return figure


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.PDF", b"%PDF"), ("a.svg", b"<?xml")])
def test_the_suffix_decides_and_the_bytes_are_the_same_every_time(tmp_path, name, start):
    written = plots.save(picture(), tmp_path / name)
    first = written.read_bytes()
    assert first.startswith(start)
    assert plots.save(picture(), tmp_path / name).read_bytes() == first  # one of ours is replaced
    assert plots.save(picture("other").axes[0], tmp_path / name).read_bytes() != first
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_unknown_suffix_and_missing_folder(tmp_path):
    with pytest.raises(errors.OptionError, match=r"\.png, \.pdf, \.svg"):
        plots.save(picture(), tmp_path / "a.jpg")
    with pytest.raises(errors.FileError, match="does not exist"):
        plots.save(picture(), tmp_path / "absent" / "a.png")


def test_what_larun_did_not_draw_is_replaced_only_when_told(tmp_path):
    notes, photograph, raw = (tmp_path / name for name in ("notes.svg", "photo.png", "raw.png"))
    notes.write_text("my notes about larun ")
    Figure().savefig(photograph)
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(raw)
    for path in (notes, photograph, raw):
        before = path.read_bytes()
        with pytest.raises(errors.FileError, match=rf"{path.name} exists"):
            plots.save(picture(), path)
        assert path.read_bytes() == before
    plots.save(picture(), notes, overwrite=True)
    plots.save(picture(), photograph, overwrite=True)
    assert notes.read_bytes().startswith(b"<?xml")
    with pytest.raises(errors.FileError, match="never replaced"):
        plots.save(picture(), raw, overwrite=True)
    assert fits.getdata(raw).shape == (2, 2)


def test_a_picture_that_cannot_be_drawn_leaves_the_old_file(tmp_path):
    path = plots.save(picture(), tmp_path / "a.png")
    before = path.read_bytes()
    broken = picture()
    broken.axes[0].set_title(r"$\frac{$")  # mathematics that does not parse
    with pytest.raises(ValueError, match="frac"):
        plots.save(broken, path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.png"]
