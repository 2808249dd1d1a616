"""Files appear whole or not at all; only files of larun are replaced."""

import os

import numpy as np
import pytest
from astropy.io import fits

from larun.errors import FileError
from larun.io.atomic import atomic_path, made_by_larun


def write(path, text, **options):
    with atomic_path(path, **options) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text(text)
        assert not path.exists() or path.read_text() != text


def test_a_file_appears_at_the_end(tmp_path):
    write(tmp_path / "a.txt", "by larun")
    assert (tmp_path / "a.txt").read_text() == "by larun"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    write(tmp_path / "a.txt", "old, by larun")

    def interrupted():
        with atomic_path(tmp_path / "a.txt", overwrite=True) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert (tmp_path / "a.txt").read_text() == "old, by larun"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_overwriting_must_be_asked_for(tmp_path):
    write(tmp_path / "a.txt", "old, by larun")
    with pytest.raises(FileError, match="overwrite=True"):
        write(tmp_path / "a.txt", "new")
    write(tmp_path / "a.txt", "new, by larun", overwrite=True)
    assert (tmp_path / "a.txt").read_text() == "new, by larun"


def test_foreign_files_are_never_replaced(tmp_path):
    raw = tmp_path / "raw.fits"
    header = fits.Header([("ORIGIN", "larun simulate")])  # a raw frame that larun simulated is a raw frame
    fits.PrimaryHDU(np.ones((3, 4), np.float32), header).writeto(raw)
    notes = tmp_path / "notes.txt"
    notes.write_text("my own words")
    for path in (raw, notes):
        before = path.read_bytes()
        with pytest.raises(FileError, match="never replaced"):
            write(path, "new", overwrite=True)
        link = tmp_path / "link"
        link.symlink_to(path)
        with pytest.raises(FileError, match="never replaced"):
            write(link, "new", overwrite=True)
        link.unlink()
        assert path.read_bytes() == before
    assert not made_by_larun(raw)


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    def overtaken():
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("by larun")
            (tmp_path / "a.txt").write_text("faster")

    with pytest.raises(FileError, match="exists"):
        overtaken()
    assert (tmp_path / "a.txt").read_text() == "faster"


def test_no_folder(tmp_path):
    with pytest.raises(FileError, match="does not exist"):
        write(tmp_path / "no" / "a.txt", "x")
    with pytest.raises(FileError, match="is a folder"):
        write(tmp_path, "x")


def test_an_empty_file_holds_nothing_to_lose(tmp_path):
    (tmp_path / "a.txt").touch()
    write(tmp_path / "a.txt", "by larun", overwrite=True)
    assert (tmp_path / "a.txt").read_text() == "by larun"
