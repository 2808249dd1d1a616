"""Every error larun raises on purpose, and its warnings.

An error names the file, the keyword or the option, the value that was found, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AlreadyApplied",
    "CatalogError",
    "CorruptProduct",
    "FileError",
    "HeaderError",
    "LarunError",
    "LarunWarning",
    "MissingExtra",
    "NoMatchingMaster",
    "NoiseModelError",
    "NotReplayable",
    "NotSolved",
    "OptionError",
    "RawNotFound",
    "RecipeError",
    "UnitMismatch",
]


class LarunError(Exception):
    """Base of all errors larun raises on purpose."""


class FileError(LarunError):
    """A file cannot be read or written; the message names it and says why."""


class CorruptProduct(FileError):
    """A larun product whose bytes no longer agree with its recorded digests."""


class HeaderError(LarunError):
    """A header value is missing or impossible; the message names the keyword, the value and the file."""


class OptionError(LarunError, ValueError):
    """An argument has a value that makes no sense; the message lists what does."""


class RecipeError(OptionError):
    """A recipe has problems; the message lists all of them, one a line, each with its place.

    Parameters
    ----------
    problems : iterable of str
        What is wrong.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[RecipeError], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)


class UnitMismatch(LarunError):
    """Two operands have units that do not combine (ADU and electron never mix)."""


class AlreadyApplied(LarunError):
    """A step that may happen once was asked for a second time."""


class NoMatchingMaster(LarunError):
    """No master fits the frame; the message lists the nearest ones and what differs."""


class NoiseModelError(LarunError):
    """The noise model disagrees with the data too much to reject pixels by it."""


class NotReplayable(LarunError):
    """A record cannot be carried out again; the message says which step or file is missing, and what would help."""


class RawNotFound(NotReplayable):
    """A raw file that a record names is nowhere; the message names it and where it was looked for."""


class CatalogError(LarunError):
    """A catalogue lacks the image or the column that a step needs."""


class NotAligned(LarunError):
    """Two images do not show the same field, or too little of it; the message says what was tried."""


class NotSolved(LarunError):
    """Nothing on the sky agrees with the stars of an image; the message says what was tried."""


class MissingExtra(LarunError, ImportError):
    """An optional dependency is not installed; the message names the extra to install.

    Parameters
    ----------
    package : str
        The package that is missing.
    extra : str
        The extra of larun that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: run  pip install 'larun[{extra}]'")


class LarunWarning(UserWarning):
    """Something the user should know and larun could work around."""
