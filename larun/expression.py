"""Conditions on the columns of a table, written as text: ``"snr > 10 and fwhm < 4 and flags == 0"``.

The text is Python's own syntax, cut down to arithmetic, comparisons and a few functions: it is parsed, checked node by
node against a list of what is allowed, and computed with numpy. Nothing of it is ever run as code, so it may come from
a file or from somebody else.
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError

__all__ = ["Condition", "parse"]

_LONGEST = 2000
_MOST_NODES = 300
_DEEPEST = 40

_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_UNARY: dict[type[ast.AST], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_COMPARE: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "exp": np.exp,
    "hypot": np.hypot,
    "isfinite": np.isfinite,
    "isnan": np.isnan,
    "log": np.log,
    "log10": np.log10,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "sqrt": np.sqrt,
}
_ALLOWED = (
    "numbers, text in quotes, columns, + - * / // % ** & | ^ ~, < <= > >= == !=, in (…), and or not, and "
    f"{', '.join(sorted(_FUNCTIONS))}"
)


@attrs.frozen
class Condition:
    """A condition that was parsed; make one with :func:`parse`.

    Parameters
    ----------
    text : str
        As it was written.
    names : tuple of str
        The columns (and constants) it names, sorted.
    """

    text: str
    names: tuple[str, ...]
    _tree: ast.expr = attrs.field(repr=False, eq=False)

    def of(self, columns: Mapping[str, Any] | Any, constants: Mapping[str, Any] | None = None) -> NDArray[np.bool_]:
        """For which rows the condition holds.

        Parameters
        ----------
        columns : mapping or astropy table
            Arrays of one length by name; of a column with a unit its plain numbers are taken. A value that is masked
            or NaN meets no comparison but ``!=``; a masked one not even that.
        constants : mapping, optional
            More names, for numbers; a column of the same name wins.

        Returns
        -------
        (n,) bool

        Raises
        ------
        OptionError
            If a name is unknown, text meets a number, or the result is not one truth value per row.

        Examples
        --------
        >>> parse("snr > 10 and flags & 2 == 0").of({"snr": np.array([5, 20, 30]), "flags": np.array([0, 0, 3])})
        array([False,  True, False])
        """
        names = [str(key) for key in getattr(columns, "colnames", columns)]
        known = dict(constants or {}) | {name: columns[name] for name in self.names if name in names}
        for name in self.names:
            if name not in known:
                near = difflib.get_close_matches(name, [*names, *(constants or {})], n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise OptionError(f"{self.text!r}: no column {name!r}{hint}: there are {', '.join(names)}")
        values = {name: _plain(known[name]) for name in self.names}
        try:
            with np.errstate(all="ignore"):
                made = _value(self._tree, values, self.text)
        except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            raise OptionError(f"{self.text!r}: cannot be computed: {error}") from error
        result = np.ma.filled(made, False) if isinstance(made, np.ma.MaskedArray) else np.asarray(made)
        lengths = {np.shape(value) for value in values.values() if np.ndim(value)}
        if result.dtype != bool or result.ndim != 1 or {result.shape} != lengths:
            raise OptionError(f"{self.text!r}: must be true or false for each row: compare a column with something")
        return np.asarray(result, np.bool_)


def parse(text: str) -> Condition:
    """Parse a condition.

    Parameters
    ----------
    text : str
        For example ``"snr > 10 and (fwhm < 4 or isnan(fwhm))"``, ``"filter in ('V', 'R')"``, ``"3 < fwhm < 5"``.
        ``and``, ``or`` and ``not`` join conditions; ``&`` looks at bits: ``"flags & 2 == 0"``.

    Raises
    ------
    OptionError
        If it is not such a condition; the message shows the part that is not.

    Examples
    --------
    >>> parse("snr > 10 and flags == 0").names
    ('flags', 'snr')
    >>> parse("__import__('os').system('ls')")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    larun.errors.OptionError: "__import__('os').system('ls')": "__import__('os').system('ls')" is not allowed; ...
    """
    if not isinstance(text, str) or not text.strip():
        raise OptionError(f"{text!r}: must be a condition such as 'snr > 10'")
    if len(text) > _LONGEST:
        raise OptionError(f"a condition of {len(text)} characters: at most {_LONGEST}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        nodes = list(ast.walk(tree))
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise OptionError(f"{text!r}: cannot be read as a condition: {getattr(error, 'msg', error)}") from error
    if len(nodes) > _MOST_NODES:
        raise OptionError(f"a condition of {len(nodes)} parts: at most {_MOST_NODES}")
    _check(tree, text, 0)
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    names = {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in called}
    return Condition(text, tuple(sorted(names)), tree)


def _check(node: ast.expr, text: str, depth: int) -> None:
    """Raise unless the node and all below it are among what is allowed."""
    inner: list[ast.expr] = []
    good = depth < _DEEPEST
    match node:
        case ast.Constant():
            good &= isinstance(node.value, bool | int | float | str)
        case ast.Name():
            pass
        case ast.BoolOp():
            inner = node.values
        case ast.UnaryOp():
            inner = [node.operand]
        case ast.BinOp():
            good &= type(node.op) in _BINARY
            inner = [node.left, node.right]
        case ast.Compare():
            for kind, side in zip(node.ops, node.comparators, strict=True):
                if isinstance(kind, ast.In | ast.NotIn):
                    listed = side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else ()
                    good &= bool(listed) and all(isinstance(item, ast.Constant) for item in listed)
                    inner = [*inner, *listed]
                else:
                    good &= type(kind) in _COMPARE
                    inner = [*inner, side]
            inner = [node.left, *inner]
        case ast.Call():
            good &= isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and not node.keywords
            inner = node.args
        case _:
            good = False
    if not good:
        part = ast.get_source_segment(text.strip(), node) or text
        raise OptionError(f"{text!r}: {part!r} is not allowed; there are {_ALLOWED}")
    for item in inner:
        _check(item, text, depth + 1)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ma.MaskedArray):
        return np.ma.array(np.ma.getdata(value), mask=np.ma.getmaskarray(value))
    if np.ndim(value) == 0:
        return value
    if getattr(value, "unit", None) is not None:
        value = getattr(value, "value", value)
    made = np.asarray(value)
    return made.astype(str) if made.dtype.kind == "S" else made


def _value(node: ast.expr, values: Mapping[str, Any], text: str) -> Any:
    """The value of a node that was checked."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return values[node.id]
        case ast.BoolOp():
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            made = [_truth(item, values, text) for item in node.values]
            masked = np.ma.logical_and if join is np.logical_and else np.ma.logical_or
            result = made[0]
            for item in made[1:]:
                any_masked = isinstance(result, np.ma.MaskedArray) or isinstance(item, np.ma.MaskedArray)
                result = (masked if any_masked else join)(result, item)
            return result
        case ast.UnaryOp():
            if isinstance(node.op, ast.Not):
                return ~np.asanyarray(_truth(node.operand, values, text))
            if isinstance(node.op, ast.Invert):
                return ~np.asanyarray(_value(node.operand, values, text))
            return _UNARY[type(node.op)](_value(node.operand, values, text))
        case ast.BinOp():
            left, right = _value(node.left, values, text), _value(node.right, values, text)
            if isinstance(node.op, ast.Pow):  # whole numbers would grow without end
                left, right = _floating(left), _floating(right)
            for side in (left, right):
                if _is_text(side):
                    raise OptionError(f"{text!r}: text can only be compared")
            return _BINARY[type(node.op)](left, right)
        case ast.Compare():
            return _compared(node, values, text)
        case ast.Call():
            assert isinstance(node.func, ast.Name)
            return _FUNCTIONS[node.func.id](*(_value(item, values, text) for item in node.args))
    raise AssertionError(node)  # _check has seen every node


def _compared(node: ast.Compare, values: Mapping[str, Any], text: str) -> Any:
    left, result = _value(node.left, values, text), None
    for kind, side in zip(node.ops, node.comparators, strict=True):
        if isinstance(kind, ast.In | ast.NotIn):
            assert isinstance(side, ast.Tuple | ast.List | ast.Set)
            made = _equal(left, [_value(item, values, text) for item in side.elts], text)
            made = ~made if isinstance(kind, ast.NotIn) else made
            right: Any = left
        else:
            right = _value(side, values, text)
            _alike(left, right, text)
            made = _COMPARE[type(kind)](left, right)
        result = made if result is None else result & made
        left = right
    return result


def _equal(left: Any, listed: list[Any], text: str) -> Any:
    made = np.asanyarray(False)
    for item in listed:
        _alike(left, item, text)
        made = made | (left == item)
    return made


def _truth(node: ast.expr, values: Mapping[str, Any], text: str) -> Any:
    made = _value(node, values, text)
    if np.asanyarray(made).dtype != bool:
        part = ast.get_source_segment(text.strip(), node) or text
        raise OptionError(f"{text!r}: {part!r} is neither true nor false: compare it with something")
    return made


def _floating(value: Any) -> Any:
    return value if _is_text(value) else np.asanyarray(value, dtype=np.float64)


def _is_text(value: Any) -> bool:
    return np.asanyarray(value).dtype.kind in "US"


def _alike(left: Any, right: Any, text: str) -> None:
    if _is_text(left) != _is_text(right):
        raise OptionError(f"{text!r}: compares text with a number")
