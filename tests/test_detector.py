"""Detectors follow trim, crop and bin; their values are found, required, given and kept."""

import copy
import json
import math
import pickle

import pytest

from larun.detector import Amplifier, Detector, Section
from larun.errors import HeaderError, OptionError


def two():
    """Overscan A, data A, data B, overscan B; 10 rows."""
    return Detector(
        amplifiers=(
            Amplifier(name="A", data=Section(0, 10, 4, 24), overscan=Section(0, 10, 0, 4), gain=2.0, read_noise=5.0),
            Amplifier(
                name="B",
                data=Section(0, 10, 24, 44),
                overscan=Section(0, 10, 44, 48),
                gain=2.2,
                read_noise=6.0,
                saturation=60000.0,
                linearity=(1e-7, 2e-12),
            ),
        ),
        sources={"gain": "measured"},
    )


def test_sections():
    one = Section(2, 8, 3, 10)
    assert one.shape == (6, 7)
    assert one.slices == (slice(2, 8), slice(3, 10))
    assert one.within((8, 10))
    assert not one.within((7, 10))
    assert not Section(2, 2, 3, 10).within((20, 20))
    assert not Section(-1, 2, 3, 10).within((20, 20))
    assert one.intersect(Section(0, 4, 8, 20)) == (2, 4, 8, 10)
    assert one.intersect(Section(8, 9, 0, 20)) is None


def test_trimmed_puts_the_data_sections_side_by_side():
    detector = two()
    assert detector.needs_trim
    assert detector.trimmed_shape == (10, 40)
    trimmed = detector.trimmed()
    assert [a.data for a in trimmed.amplifiers] == [(0, 10, 0, 20), (0, 10, 20, 40)]
    assert all(a.overscan is None for a in trimmed.amplifiers)
    assert not trimmed.needs_trim
    assert trimmed.trimmed() == trimmed


def test_four_quadrants_with_a_gap_are_packed():
    quadrants = [Section(y, y + 10, x, x + 20) for y in (0, 14) for x in (0, 30)]
    detector = Detector(amplifiers=[Amplifier(data=q) for q in quadrants])
    assert detector.needs_trim
    assert detector.trimmed_shape == (20, 40)
    assert [a.data for a in detector.trimmed().amplifiers] == [
        (0, 10, 0, 20),
        (0, 10, 20, 40),
        (10, 20, 0, 20),
        (10, 20, 20, 40),
    ]


def test_cropped_shifts_cuts_and_drops():
    cut = two().cropped(Section(2, 8, 30, 48))
    (only,) = cut.amplifiers
    assert (only.name, only.data, only.overscan) == ("B", (0, 6, 0, 14), (0, 6, 14, 18))
    assert two().cropped(Section(0, 10, 4, 48)).amplifiers[0].overscan is None
    with pytest.raises(OptionError, match="no pixels of any amplifier"):
        two().cropped(Section(0, 10, 0, 3))


def test_binned_keeps_the_noise_of_a_sum():
    (amplifier,) = Detector.single((11, 21), gain=2.0, read_noise=5.0).binned(2).amplifiers
    assert amplifier.data == (0, 5, 0, 10)
    assert amplifier.read_noise == 10.0  # √(2 × 2) × 5


def test_in_electrons_keeps_the_original():
    made = two().in_electrons()
    one, other = made.amplifiers
    assert (one.gain, other.gain) == (1.0, 1.0)
    assert other.saturation == pytest.approx(132000)
    assert one.saturation == math.inf
    assert other.linearity == ()
    assert made.raw == two()
    assert made.in_electrons().raw == two()  # the first raw detector stays


@pytest.mark.parametrize("value", [None, 0.0, -1.0, math.nan, math.inf])
def test_require_raises_for_an_impossible_gain(value):
    detector = Detector.single((4, 4), gain=value, sources={"gain": "GAIN = 'x'"})
    with pytest.raises(HeaderError, match=r"a\.fits: gain of amplifier A is .*GAIN = 'x'.*--keyword gain="):
        detector.require("gain", "a.fits")
    assert Detector.single((4, 4), read_noise=0.0).require("read_noise", "a.fits") == (0.0,)


def test_given_values_are_for_every_amplifier():
    made = two().with_values(gain=1.5, saturation=5e4)
    assert [a.gain for a in made.amplifiers] == [1.5, 1.5]
    assert made.sources == {"gain": "given", "saturation": "given"}
    assert two().amplifiers[0].gain == 2.0
    with pytest.raises(OptionError, match="colour"):
        two().with_values(colour=1)


@pytest.mark.parametrize("detector", [two(), two().in_electrons(), Detector.single((3, 4))])
def test_it_survives_json_pickle_and_copies(detector):
    plain = json.loads(json.dumps(detector.to_dict(), allow_nan=False))
    for back in (
        Detector.from_dict(plain),
        pickle.loads(pickle.dumps(detector)),
        copy.deepcopy(detector),
        copy.copy(detector),
    ):
        assert back == detector
        assert back.to_dict() == detector.to_dict()
        with pytest.raises(TypeError):
            back.sources["gain"] = "changed"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Section(0, 10, 0, 20), Section(0, 9, 20, 40)),  # of different height: holes
        (Section(0, 10, 0, 20), Section(0, 10, 15, 40)),
        (Section(0, 10, 0, 20), Section(0, 10, 0, 20)),
    ],
)
def test_sections_that_overlap_or_leave_holes_are_refused(one, other):
    detector = Detector(amplifiers=(Amplifier(name="A", data=one), Amplifier(name="B", data=other)))
    with pytest.raises(HeaderError, match=r"a\.fits: the data sections .*A \[1:20,1:10\], B \["):
        detector.require_grid("a.fits")
    two().require_grid("a.fits")
    two().trimmed().require_grid("a.fits")


def test_numbers_that_cards_hold_as_text_are_numbers():
    amplifier = Amplifier(data=Section(0, 4, 0, 4), gain="1.5", read_noise=3, saturation=" 65535 ")
    assert (amplifier.gain, amplifier.read_noise, amplifier.saturation) == (1.5, 3.0, 65535.0)
    with pytest.raises(OptionError, match="'high' as gain, noise or level of an amplifier: must be a number"):
        Amplifier(data=Section(0, 4, 0, 4), gain="high")
