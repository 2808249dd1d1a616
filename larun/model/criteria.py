"""What must agree between a master and the frame it serves: criteria as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import attrs

__all__ = ["Criterion", "Equal", "Exposure", "Temperature", "describe"]


class Criterion(Protocol):
    """One thing a master and a frame are compared on."""

    @property
    def name(self) -> str:
        """The quantity."""
        ...

    def difference(self, master: Mapping[str, Any], frame: Mapping[str, Any]) -> str | None:
        """Why they do not fit, in words; None when they do."""
        ...

    def doubt(self, master: Mapping[str, Any], frame: Mapping[str, Any]) -> str | None:
        """Why they fit badly, in words; None when they fit well."""
        ...


@attrs.frozen
class Equal:
    """A quantity that must be the same; unknown on either side counts as the same."""

    name: str

    def difference(self, master: Mapping[str, Any], frame: Mapping[str, Any]) -> str | None:
        """See :class:`Criterion`."""
        one, two = master.get(self.name), frame.get(self.name)
        return f"{self.name} ({_show(one)}, frame {_show(two)})" if None not in (one, two) and one != two else None

    def doubt(self, master: Mapping[str, Any], frame: Mapping[str, Any]) -> str | None:
        """Nothing is half equal."""
        return None


@attrs.frozen
class Temperature:
    """Detector temperature: dark current doubles every 5 to 8 degrees.

    Parameters
    ----------
    doubtful, impossible : float
        Degrees beyond which the match is doubted, or refused.
    """

    doubtful: float = 2.0
    impossible: float = 5.0

    @property
    def name(self) -> str:
        """The quantity."""
        return "temperature"

    def _gap(self, master: Mapping[str, Any], frame: Mapping[str, Any]) -> float:
        one, two = master.get("temperature"), frame.get("temperature")
        return 0.0 if one is None or two is None else abs(float(one) - float(two))

    def difference(self, master: Mapping[str, Any], frame: Mapping[str, Any]) -> str | None:
        """See :class:`Criterion`."""
        if self._gap(master, frame) <= self.impossible:
            return None
        return f"temperature ({master['temperature']:.1f}, frame {frame['temperature']:.1f} degrees)"

    def doubt(self, master: Mapping[str, Any], frame: Mapping[str, Any]) -> str | None:
        """See :class:`Criterion`."""
        if self._gap(master, frame) <= self.doubtful:
            return None
        return f"taken at {master['temperature']:.1f} degrees, the frame at {frame['temperature']:.1f}"


@attrs.frozen
class Exposure:
    """Exposure time of a dark: at least the frame's once the bias is removed, else the same."""

    @property
    def name(self) -> str:
        """The quantity."""
        return "exposure"

    def difference(self, master: Mapping[str, Any], frame: Mapping[str, Any]) -> str | None:
        """See :class:`Criterion`."""
        have, need = master["exposure"], frame.get("exposure")
        if need is None:
            return "exposure (the frame's is unknown)"
        if master.get("bias_removed"):
            return None if need <= 1.01 * have else f"exposure ({have:g} s, frame {need:g} s: never scaled up)"
        return None if abs(need - have) <= 0.01 * have else f"exposure ({have:g} s with bias, frame {need:g} s)"

    def doubt(self, master: Mapping[str, Any], frame: Mapping[str, Any]) -> str | None:
        """Amplifier glow does not scale with time: a dark scaled far down is doubted."""
        have, need = master["exposure"], frame.get("exposure")
        if not master.get("bias_removed") or not need or need > 0.2 * have:
            return None
        return f"the dark of {have:g} s is scaled down to {need:g} s; amplifier glow does not scale"


def describe(criteria: Mapping[str, Any]) -> str:
    """The criteria in a few words."""
    shown = ((key, criteria.get(key)) for key in ("instrument", "filter", "exposure", "binning", "temperature"))
    return ", ".join(f"{key} {_show(value)}" for key, value in shown if value is not None)


def _show(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "×".join(_show(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
