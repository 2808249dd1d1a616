"""Parameters in one canonical form, so that equal work has an equal id.

Numbers that are equal are written alike (5 and 5.0), mappings are sorted, arrays keep their exact bytes. Paths,
threads, times and memory limits never come here: they do not decide a pixel.
"""

from __future__ import annotations

import base64
import enum
import functools
import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from types import CodeType
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError

__all__ = ["array_from_canonical", "canonical", "digest_of", "text_of"]


def canonical(value: Any) -> Any:
    """``value`` as plain JSON containers.

    Raises
    ------
    OptionError
        If the value has no canonical form.

    Examples
    --------
    >>> canonical({"sigma": 5.0, "radii": (1, 2.5)})
    {'radii': [1, 2.5], 'sigma': 5}
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, enum.Enum):
        return canonical(value.value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return _number(float(value))
    if isinstance(value, np.bool_):
        return bool(value)
    if hasattr(value, "unit") and hasattr(value, "to_value"):
        return {"value": canonical(value.value), "unit": str(value.unit)}
    if isinstance(value, np.ndarray):
        return _array(value)
    if hasattr(value, "provenance"):
        return {"provenance": value.provenance.id}
    if isinstance(value, Mapping):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str)}
    if attrs.has(type(value)):
        # Fields that decide no pixel (memory limits, processes) say so in their metadata; and those that are newer than
        # the records of others: they are left out at their default.
        fields = [field.name for field in attrs.fields(type(value)) if _recorded(field, getattr(value, field.name))]
        return {"type": type(value).__qualname__, **{name: canonical(getattr(value, name)) for name in fields}}
    if isinstance(value, AbstractSet):
        return sorted(canonical(item) for item in value)
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if callable(value):
        return _callable(value)
    raise OptionError(f"a {type(value).__name__} cannot be recorded as a parameter: {value!r}")


def _recorded(field: Any, value: Any) -> bool:
    told = field.metadata.get("recorded", True)
    return bool(value != field.default if told == "changed" else told)


def _number(value: float) -> Any:
    if not math.isfinite(value):
        return {"float": repr(value)}
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _array(value: NDArray[Any]) -> dict[str, Any]:
    little = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False)
    return {
        "dtype": little.dtype.str,
        "shape": list(value.shape),
        "base64": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def array_from_canonical(value: Mapping[str, Any]) -> NDArray[Any]:
    """The array that :func:`canonical` wrote."""
    flat = np.frombuffer(base64.b64decode(value["base64"]), dtype=value["dtype"])
    return flat.reshape(value["shape"])


def _callable(value: Callable[..., Any], *, closure: bool = True) -> dict[str, Any]:
    if isinstance(value, functools.partial):
        return {**_callable(value.func), "args": canonical(value.args), "keywords": canonical(value.keywords)}
    code = getattr(value, "__code__", None)
    try:
        source = inspect.getsource(value)
        if code is not None and code.co_name == "<lambda>":  # there may be several in these lines
            source += f"# column {max(column or 0 for _, _, column, _ in code.co_positions())}"
    except (OSError, TypeError):
        # typed at a prompt: what it was compiled to has to do; of a builtin the name is all there is
        source = "" if code is None else text_of(_compiled(code))
    module = getattr(value, "__module__", "")
    if module == "__mp_main__":  # what a process that was started calls the script of the one that started it
        module = "__main__"
    name = f"{module}:{getattr(value, '__qualname__', type(value).__qualname__)}"
    made: dict[str, Any] = {"function": name}
    made["source"] = hashlib.sha256(source.encode()).hexdigest() if source else None
    cells = getattr(value, "__closure__", None)
    if cells and closure:  # values it took from around its definition decide as much as its text
        names = value.__code__.co_freevars
        made["closure"] = {key: _enclosed(cell) for key, cell in zip(names, cells, strict=True)}
    return made


def _compiled(code: CodeType) -> list[Any]:
    constants = [_compiled(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]


def _enclosed(cell: Any) -> Any:
    try:
        value = cell.cell_contents
        return _callable(value, closure=False) if inspect.isfunction(value) else canonical(value)
    except (OptionError, ValueError):  # something that has no canonical form, or is not set yet
        return None


def text_of(value: Any) -> str:
    """Canonical JSON text of plain containers: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON text of plain containers."""
    return hashlib.sha256(text_of(value).encode("ascii")).hexdigest()
