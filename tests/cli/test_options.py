"""From words to options."""

from __future__ import annotations

from pathlib import Path

import pytest

from larun.cli.options import (
    Engine,
    RadiusUnit,
    Wishes,
    check_given,
    parse_keywords,
    parse_kinds,
    parse_radii,
    parse_size,
)
from larun.errors import OptionError


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 5e8), ("2GB", 2e9), ("1e9", 1e9), ("1.5 GiB", 1.5 * 2**30), ("64k", 64e3), ("12", 12.0), ("7B", 7.0)],
)
def test_sizes_are_bytes(text: str, size: float) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "2 parsecs", "1e999", "nan", "2GBB"])
def test_sizes_that_are_none_are_errors_that_say_what_a_size_is(text: str) -> None:
    with pytest.raises(OptionError, match=r"--max-memory .*500MB"):
        parse_size(text)


def test_keyword_values_are_numbers_where_they_look_like_numbers() -> None:
    given = parse_keywords(["GAIN=1.8", "EXPTIME=60", "FILTER=V", "OBJECT=M 13 = NGC 6205", "A=-2e3", "B=", "C=1_0"])
    assert given == {
        "GAIN": 1.8,
        "EXPTIME": 60,
        "FILTER": "V",
        "OBJECT": "M 13 = NGC 6205",
        "A": -2000.0,
        "B": "",
        "C": "1_0",
    }
    assert isinstance(given["EXPTIME"], int)


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999"])
def test_keyword_values_that_are_not_finite_stay_text(text: str) -> None:
    assert parse_keywords([f"OBJECT={text}"]) == {"OBJECT": text}


@pytest.mark.parametrize("words", [["GAIN"], ["=3"], [" =3"], ["GAIN=1", "GAIN=2"]])
def test_keywords_that_make_no_sense_are_errors(words: list[str]) -> None:
    with pytest.raises(OptionError, match="--keyword"):
        parse_keywords(words)


@pytest.mark.parametrize("given", [{"nonsense": 1}, {"GAIN": -2}, {"RDNOISE": "x"}])
def test_given_values_no_camera_understands_are_errors(given: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        check_given(given)
    assert check_given({"GAIN": 1.8, "filter": "V"}) == {"GAIN": 1.8, "filter": "V"}


def test_kinds_come_with_commas_or_repeated() -> None:
    assert parse_kinds(["flat,dark", " bias "]) == ("bias", "dark", "flat")
    assert parse_kinds([]) == ()
    with pytest.raises(OptionError, match=r"science.*bias, dark, flat"):
        parse_kinds(["science"])


def test_radii_are_positive_numbers() -> None:
    assert parse_radii("1,1.5, 2.5") == (1.0, 1.5, 2.5)
    assert parse_radii(None) is None
    for text in ("", "1,,2", "0", "-1", "nan", "inf", "a"):
        with pytest.raises(OptionError, match="--radii"):
            parse_radii(text)


def test_wishes_that_contradict_each_other_are_errors() -> None:
    with pytest.raises(OptionError, match="--no-clean"):
        Wishes(clean=False, engine=Engine.median)
    with pytest.raises(OptionError, match="--no-clean"):
        Wishes(clean=False, flag_only=True)
    with pytest.raises(OptionError, match="--radius-unit"):
        Wishes(radius_unit=RadiusUnit.pixel)


def test_wishes_become_the_options_of_the_chain() -> None:
    wishes = Wishes(
        without=("dark",),
        engine=Engine.median,
        flag_only=True,
        threshold=7.0,
        radii=(3.0, 5.0),
        radius_unit=RadiusUnit.pixel,
        max_memory=2e9,
    )
    chain = wishes.chain()
    assert chain.clean == {"engine": "median", "replace": False}
    assert chain.detect == {"threshold": 7.0}
    assert chain.photometer == {"radii": (3.0, 5.0), "unit": "pixel"}
    assert chain.without == ("dark",)
    assert chain.build.max_memory == 2e9
    assert Wishes(clean=False).chain().clean is None
    plain = Wishes().chain()  # nothing said: nothing passed on, so the chain's own defaults hold
    assert (plain.clean, plain.detect, plain.photometer) == ({}, {}, {})


def test_an_impossible_threshold_is_an_error_before_any_frame_is_touched() -> None:
    with pytest.raises(OptionError, match="threshold"):
        Wishes(threshold=-3.0).chain()


def test_a_missing_bad_pixel_file_is_an_error() -> None:
    from larun.errors import FileError

    with pytest.raises(FileError, match="absent"):
        Wishes(bad_pixels=Path("absent.fits")).build()
