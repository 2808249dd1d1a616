"""Cameras, one small file each, found through the entry-point group ``larun.instruments``; the door for new ones."""

from __future__ import annotations

from larun.instruments.door import KnownCamera, known, new
from larun.model.loading import load
from larun.model.understood.derived import explain as check

__all__ = ["KnownCamera", "check", "known", "load", "new"]
