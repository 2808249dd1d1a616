"""Cameras, one small file each, found through the entry-point group ``larun.instruments``; the door for new ones."""

from __future__ import annotations

from larun.instruments.door import KnownCamera, known, new
from larun.model.derived import explain as check
from larun.model.loading import load

__all__ = ["KnownCamera", "check", "known", "load", "new"]
