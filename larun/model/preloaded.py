"""What a worker process needs, imported and loaded: the server imports this module before it forks workers.

The server must hold the code of the process that started it. Should another ``larun`` come first on its path, it
forgets it, and every worker imports its own.
"""

from __future__ import annotations

import gc
import os
import sys

import larun

if os.environ.get("LARUN_PRELOADED", larun.__path__[0]) != larun.__path__[0]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "larun"]:
        del sys.modules[name]
    raise ImportError("another larun than that of the parent")  # the server goes on without

import astropy.coordinates
import astropy.table
import astropy.wcs  # noqa: F401
import scipy.ndimage
import scipy.spatial  # noqa: F401

from larun.algorithms import jit
from larun.algorithms.warm import FRAME_PARTS, compile_all
from larun.io import ecsv, product  # noqa: F401
from larun.model import jobs  # noqa: F401
from larun.model.measure import detecting, measuring  # noqa: F401

__all__: list[str] = []

jit.set_threads(1)  # a process with threads must not be forked
compile_all(1, FRAME_PARTS)  # from the cache: the server is asked for this only when all of them are there
jit.set_threads(None)
gc.freeze()  # what is here stays: no fork needs to look at it, and the server ends at once
