"""``@operation``: a method that records itself, once, whatever it calls inside."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

import attrs

from larun.errors import AlreadyApplied
from larun.provenance.canonical import canonical
from larun.provenance.record import Parent, Provenance, Step

__all__ = ["OPERATIONS", "Operation", "Recording", "operation", "predict", "recording", "unrecorded"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_REACHES = ("pixel", "halo", "global")


@attrs.frozen
class Operation:
    """What the registry knows of an operation."""

    name: str
    version: int
    reach: str
    function: Callable[..., Any]
    hidden: frozenset[str]
    resolve: Callable[[dict[str, Any]], dict[str, Any]] | None = None


#: Every operation by name, filled as modules are imported.
OPERATIONS: dict[str, Operation] = {}


class Recording:
    """What a running operation may add to its own record."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}
        self.parents: list[Parent] = []
        self.fitted: dict[str, Any] = {}
        self.substeps: list[Step] = []
        self._results: list[Provenance] = []

    def parent(self, role: str, provenance: Provenance) -> None:
        """Add an input that is not among the arguments (a master that was selected, a file that was streamed)."""
        self.parents.append(Parent(role, provenance))

    def fit(self, **state: Any) -> None:
        """Add small state fitted from the data."""
        self.fitted.update(state)

    def resolve(self, **parameters: Any) -> None:
        """Replace parameters by the values they were resolved to (a FWHM that was measured, say)."""
        self.parameters.update({key: canonical(value) for key, value in parameters.items()})

    def nest(self, step: Step, inner: Recording, made: Provenance) -> None:
        """Take in an operation that ran inside this one: its step, and the inputs that came from elsewhere."""
        self.substeps.append(step)
        known = [parent.provenance for parent in self.parents] + self._results + inner._results
        for parent in inner.parents:
            if not any(parent.provenance is one for one in known):
                # what it worked on is not this object's own history
                self.parent("input" if parent.role == "self" else parent.role, parent.provenance)
                known.append(parent.provenance)
        self._results += [*inner._results, made]


_current: ContextVar[Recording | None] = ContextVar("larun_recording", default=None)


def recording() -> Recording:
    """The record of the operation that is running; a throw-away one outside any operation."""
    return _current.get() or Recording()


@contextlib.contextmanager
def unrecorded() -> Iterator[None]:
    """Within this, what operations do is no part of the record of the one that is running.

    For measurements that only lead to numbers which the operation records itself: in whatever order they are made.
    """
    token = _current.set(Recording())
    try:
        yield
    finally:
        _current.reset(token)


def operation(
    name: str,
    *,
    version: int = 1,
    reach: str = "pixel",
    once: bool = False,
    symmetric: bool = False,
    leave_out: Iterable[str] = (),
    resolve: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Make a method an operation: its result carries a new step, with the operands as parents.

    Parameters
    ----------
    name : str
        Name in the record; unique.
    version : int
        Raise it whenever results change.
    reach : str
        How far a pixel of the result sees: ``"pixel"``, ``"halo"`` or ``"global"``.
    once : bool
        Refuse an object that has been through this operation before.
    symmetric : bool
        The order of the operands decides no pixel: parents are sorted by id and share one role. It may decide the
        class and the header: which of the two came first is recorded beside the id, in ``fitted["first"]``.
    leave_out : iterable of str
        Arguments that do not decide pixels (memory limits, progress, paths that become roots).
    resolve : callable, optional
        Makes of the arguments by name those that are recorded, before anything runs: one form for what can be said in
        several ways, defaults filled in, and an argument left out that is newer than the records of others and has
        its default. It may raise on arguments that make no sense.

    Raises
    ------
    AlreadyApplied
        On the second application, with ``once=True``.
    """
    assert reach in _REACHES, reach
    hidden = frozenset(leave_out)

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        signature = inspect.signature(function)
        assert OPERATIONS.get(name) is None or OPERATIONS[name].function.__qualname__ == function.__qualname__, name

        @functools.wraps(function)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            first = next(iter(bound.arguments.values()), None)
            own = getattr(first, "provenance", None)
            if once and isinstance(own, Provenance) and own.has(name):
                raise AlreadyApplied(
                    f"{name} was already applied to {first!r}: start again from the frame before that step"
                )
            mine = Recording()
            left_out = hidden | {next(iter(bound.arguments))} if isinstance(first, type) else hidden
            _gather(mine, bound, left_out, resolve)
            token = _current.set(mine)
            try:
                result = function(*args, **kwargs)
            finally:
                _current.reset(token)
            parents = mine.parents
            if symmetric:
                parents = sorted((Parent("operand", p.provenance) for p in parents), key=lambda p: p.provenance.id)
                if len(parents) == 2:
                    mine.fit(first=int(parents[0].provenance.id != mine.parents[0].provenance.id))
            step = Step(
                operation=name,
                version=version,
                parameters=mine.parameters,
                reach=reach,
                substeps=tuple(mine.substeps),
                fitted=mine.fitted,
            )
            made = Provenance(step=step, parents=tuple(parents))
            outer = _current.get()
            if outer is not None:
                outer.nest(step, mine, made)
            return result._replace(provenance=made) if hasattr(result, "provenance") else result  # type: ignore[attr-defined]

        OPERATIONS[name] = Operation(name, version, reach, wrapper, hidden, resolve)
        return wrapper

    return decorate


def predict(name: str, *args: Any, **kwargs: Any) -> Step:
    """The step an operation would record for these arguments, without running it.

    Only for operations that call no other operation and resolve no parameter while they run.
    """
    known = OPERATIONS[name]
    bound = inspect.signature(known.function).bind(*args, **kwargs)
    bound.apply_defaults()
    mine = Recording()
    first = next(iter(bound.arguments))
    hidden = known.hidden | ({first} if isinstance(bound.arguments[first], type) else frozenset())
    _gather(mine, bound, hidden, known.resolve)
    return Step(operation=name, version=known.version, parameters=mine.parameters, reach=known.reach)


def _gather(
    mine: Recording,
    bound: inspect.BoundArguments,
    hidden: frozenset[str],
    resolve: Callable[[dict[str, Any]], dict[str, Any]] | None,
) -> None:
    """Split arguments into parents (whatever has a record of its own) and parameters."""
    arguments = dict(bound.arguments) if resolve is None else resolve(dict(bound.arguments))
    for role, value in arguments.items():
        if role in hidden:
            continue
        kind = bound.signature.parameters[role].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            for key, item in value.items():
                _take(mine, key, item)
        else:
            _take(mine, role, value)


def _take(mine: Recording, role: str, value: Any) -> None:
    if isinstance(getattr(value, "provenance", None), Provenance):
        mine.parent(role, value.provenance)
    elif isinstance(value, list | tuple) and any(isinstance(getattr(v, "provenance", None), Provenance) for v in value):
        for item in value:
            _take(mine, role, item)
    elif isinstance(value, Mapping) and any(hasattr(item, "provenance") for item in value.values()):
        for key in sorted(value):
            _take(mine, key, value[key])
    else:
        mine.parameters[role] = canonical(value)
