"""The engine that runs astrometry.net: the real program on a wide field of Tycho-2 stars, false ones for its faults."""

import os
import shutil
import stat
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun.errors import NotSolved, OptionError
from larun.io.solve_field import PROGRAM, Region, run_solve_field
from tests.algorithms.sky_fields import axes, vectors
from tests.algorithms.star_fields import draw

INDEX = Path("/usr/share/astrometry")


def tycho():
    """Right ascension, declination and magnitude of the stars in an index file; skipped, visibly, without one."""
    files = sorted(INDEX.glob("index-tycho2-10*.fits"))
    if shutil.which(PROGRAM) is None or not files:
        pytest.skip(
            f"no program {PROGRAM} with Tycho-2 index files (Debian: astrometry.net, astrometry-data-tycho2-10-19)"
        )
    with fits.open(files[0]) as hdus:
        tables = {hdu.columns.names[0]: hdu for hdu in hdus[1:]}
        raw = {
            name: np.frombuffer(tables[name].data.tobytes(), kind)
            for name, kind in (("kdtree_data_stars", "<u4"), ("kdtree_range_stars", "<f8"))
        }
        low, step = raw["kdtree_range_stars"][:3], raw["kdtree_range_stars"][6]
        v = low + raw["kdtree_data_stars"].reshape(-1, 3) / step
        magnitude = np.asarray(tables["MAG_VT"].data["MAG_VT"], float)
    return (
        np.degrees(np.arctan2(v[:, 1], v[:, 0])) % 360,
        np.degrees(np.arctan2(v[:, 2], np.hypot(*v.T[:2]))),
        magnitude,
    )


CENTRE, SCALE, SIZE = (83.0, -5.0), 14.0, 800


@pytest.fixture(scope="module")
def wide():
    """A mirrored frame of three degrees, and where its pixels are."""
    ra, dec, magnitude = tycho()
    angle = np.radians(40.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([(SIZE - 1) / 2] * 2)
    basis = axes(*CENTRE)

    def pixels(ra, dec):
        east, north, front = basis @ vectors(ra, dec)
        front = np.where(front > 0.9, front, np.nan)
        return np.degrees(np.stack([east, north], axis=1) / front[:, None]) * 3600 / SCALE @ turn.T + middle

    xy = pixels(ra, dec)
    with np.errstate(invalid="ignore"):
        inside = ((xy > 4) & (xy < SIZE - 5)).all(axis=1)
    flux = 3e6 * 10 ** (-0.4 * (magnitude[inside] - 5))
    rng = np.random.default_rng(5)
    light = draw((SIZE, SIZE), *xy[inside].T, flux, 2.8, reach=15) + 80
    frame = larun.Frame.from_arrays(
        rng.poisson(light).astype(float), variance=light + 0.0, unit="electron", saturation=1e9
    )
    return frame, pixels, int(inside.sum())


def test_a_wide_field_is_solved_by_the_program_and_again_without_it(wide, tmp_path, monkeypatch):
    frame, pixels, count = wide
    solved = frame.solve(None, pointing=(CENTRE[0] + 0.5, CENTRE[1]), scale=(10, 20), engine="astrometry.net")
    side = np.linspace(0, SIZE - 1, 9)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    assert np.abs(pixels(*solved.wcs.all_pix2world(grid, 0).T) - grid).max() < 0.5
    found = solved.solution
    assert found.engine == "astrometry.net"
    assert found.parity == -1
    assert found.scale == pytest.approx(SCALE, rel=1e-3)
    assert found.log_odds > 20
    assert 10 < found.matches <= count
    solved.write(tmp_path / "solved.fits")
    monkeypatch.setenv("PATH", str(tmp_path))
    from larun.model.replay.calls import Functions, Input, carry_out

    base = solved.provenance.parents[0].provenance
    again = carry_out(solved.provenance.step, [Input("self", base.id, frame)], Functions())
    assert again.identical(solved)
    assert larun.Frame.read(tmp_path / "solved.fits").identical(solved)


def test_the_fit_can_rest_on_another_reference(wide):
    frame, pixels, count = wide
    ra, dec, magnitude = tycho()
    from astropy.table import Table

    solved = frame.solve(
        Table({"ra": ra, "dec": dec, "mag_VT": magnitude}), pointing=CENTRE, scale=SCALE, engine="astrometry.net"
    )
    assert solved.solution.matches > 0.8 * count
    side = np.linspace(0, SIZE - 1, 9)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    assert np.abs(pixels(*solved.wcs.all_pix2world(grid, 0).T) - grid).max() < 0.15


def test_stars_at_random_are_not_solved_and_the_log_is_told():
    tycho()
    rng = np.random.default_rng(6)
    region = Region((10.0, 10.0), 2.0, (13, 15))
    with pytest.raises(NotSolved, match=r"(?s)found nothing with its index files; the end of its log:\n.+"):
        run_solve_field(rng.uniform(0, 800, (40, 2)), np.arange(40.0), (800, 800), region, time_limit=20)


# -- programs that are not what they should be -------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a script in the place of the program."""

    def make(text):
        path = tmp_path / PROGRAM
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return make


STARS = (
    np.random.default_rng(1).uniform(0, 100, (20, 2)),
    np.arange(20.0),
    (100, 120),
    Region((350.0, -89.5), 1.0, (1, 2)),
)


def test_without_the_program_it_is_said_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OptionError, match="no program solve-field on the PATH: install it"):
        run_solve_field(*STARS, time_limit=5)


def test_it_is_called_with_numbers_and_names_of_its_own_folder(program, tmp_path):
    program(f'pwd > {tmp_path}/where; for a in "$@"; do echo "$a" >> {tmp_path}/said; done; ls >> {tmp_path}/where')
    with pytest.raises(NotSolved, match="found nothing"):
        run_solve_field(*STARS, time_limit=5)
    said = (tmp_path / "said").read_text().splitlines()
    folder, *inside = (tmp_path / "where").read_text().splitlines()
    assert inside == ["stars.xyls"]
    assert not Path(folder).exists()
    assert said[-1] == f"{folder}/stars.xyls"
    assert "--ra=350.000000000" in said
    assert "--dec=-89.500000000" in said
    assert said[said.index("--width") + 1] == "120"
    assert said[said.index("--cpulimit") + 1] == "5"
    assert all(word.startswith(("--", folder)) or word.replace(".", "").isalnum() for word in said)


def test_its_failure_is_told_with_its_log(program):
    program("echo 'index files are broken'; exit 3")
    with pytest.raises(NotSolved, match=r"(?s)code 3.*index files are broken"):
        run_solve_field(*STARS, time_limit=5)


def test_what_cannot_be_read_is_no_solution(program):
    program('for a in "$@"; do case "$a" in */solved.wcs) echo junk > "$a";; esac; done; echo done')
    with pytest.raises(NotSolved, match="no solution that can be read"):
        run_solve_field(*STARS, time_limit=5)


def test_it_ends_at_the_time_limit_with_all_that_it_started(program, monkeypatch, tmp_path):
    monkeypatch.setattr("larun.io.solve_field._GRACE", 0.5)
    program(f"(sleep 30; touch {tmp_path}/late) & echo started; sleep 30")
    begun = time.monotonic()
    with pytest.raises(NotSolved, match=r"(?s)took more than 1\.5 s.*started"):
        run_solve_field(*STARS, time_limit=1.0)
    assert time.monotonic() - begun < 10
