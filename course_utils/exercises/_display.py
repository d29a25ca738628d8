"""What a student sees: cards of labelled rows, source text, and values and their differences in words."""

from __future__ import annotations

import html
import math
import reprlib
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import networkx as nx
import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

_CODE_FONT = ";font-family:var(--jp-code-font-family,monospace)"
_MOST_ENTRIES = 24  # a longer value is shown by its shape or cut short
_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((bool, int, float, np.integer, np.floating, np.bool_), "a number"),
    (str, "a string"),
    (np.ndarray, "a NumPy array"),
    (torch.Tensor, "a PyTorch tensor"),
    ((list, tuple), "a list"),  # either will do for the other
    (dict, "a dictionary"),
    ((set, frozenset), "a set"),
    (nx.Graph, "a graph"),
    (type(None), "None"),
    (type(...), "`...`"),
)
_TIPS = {
    "None": "Is a `return` missing?",
    "`...`": "This path of the code still says `...`.",
    "a function": "Call it to get its value.",
}
_DTYPES = {"b": "True/False", "i": "whole numbers", "u": "whole numbers", "f": "decimals"}


class Row(NamedTuple):
    """One labelled line of a card; `code` asks for a fixed-width font."""

    label: str
    text: str
    code: bool = False


@dataclass(frozen=True, repr=False)
class Card:
    """A heading and rows, with the same content as text and as HTML.

    The HTML inherits its colours, so that it reads alike on light and dark pages.
    """

    head: str
    rows: tuple[Row, ...] = ()

    def __repr__(self) -> str:
        width = max((len(row.label) for row in self.rows), default=0)
        lines = [self.head]
        for label, text, _ in self.rows:
            margin = " " * (width + 4)
            lines.append(f"  {label:<{width}}  {textwrap.indent(text, margin).removeprefix(margin)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        cells = "".join(
            f'<div style="font-weight:600">{html.escape(label)}</div>'
            f'<div style="white-space:pre-wrap;overflow-wrap:anywhere{_CODE_FONT if code else ""}">'
            f"{html.escape(text)}</div>"
            for label, text, code in self.rows
        )
        return (
            '<div role="note" style="border:1px solid currentColor;border-left-width:5px;padding:.4em .8em;'
            f'max-width:60em;line-height:1.4"><div style="font-weight:700">{html.escape(self.head)}</div>'
            '<div style="display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15em 1em">'
            f"{cells}</div></div>"
        )


@dataclass(frozen=True, repr=False)
class Outcome(Card):
    """What a check found; `status` is "not attempted", "not yet" or "correct"."""

    status: str = "not attempted"


class Source(str):
    """Python source text that shows itself as code."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return f"```python\n{self}\n```"


class _Short(reprlib.Repr):
    """Bounded reprs that survive a student's own broken `__repr__`."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = _MOST_ENTRIES
        self.maxstring = self.maxother = 200

    def repr_float(self, value: float, _level: int) -> str:
        return f"{value:.6g}"


_SHORT = _Short()


def describe(value: Any) -> str:
    """Show a value shortly, as a student would write it."""
    if isinstance(value, np.ndarray | torch.Tensor):
        array = _as_array(value)
        name = "tensor" if isinstance(value, torch.Tensor) else "array"
        if array.size > _MOST_ENTRIES:
            return f"{name} of shape {array.shape}, {value.dtype}"
        body = np.array2string(array, precision=4, separator=", ", prefix=f"{name}(")
        return f"{name}({body})"
    if isinstance(value, nx.Graph):
        direction, mark = ("directed graph", "→") if value.is_directed() else ("undirected graph", "-")
        if value.number_of_edges() > _MOST_ENTRIES:
            return f"{direction} of {value.number_of_nodes()} nodes and {value.number_of_edges()} links"
        return f"{direction} with links " + ", ".join(
            f"{source}{mark}{target}" for source, target in value.edges()
        )
    return _SHORT.repr(value.item() if isinstance(value, np.generic) else value)


def comparable(value: Any) -> bool:
    """Say whether `difference` knows this kind of value."""
    return any(isinstance(value, types) for types, _ in _KINDS)


def difference(expected: Any, got: Any) -> str:
    """Say in words how `got` differs from `expected`; empty where it does not.

    The words name the place and the direction and not the expected value: for some exercises that value
    is the whole answer. Numbers may differ by rounding; what is none of the kinds above is compared by ==.
    """
    if kind(expected) == "a number" and isinstance(got, np.ndarray | torch.Tensor) and got.ndim == 0:
        got = got.item()
    due, came = kind(expected), kind(got)
    if due != came:
        tip = _TIPS.get(came, "")
        if due == "a NumPy array" and came == "a list":
            tip = "np.array(...) makes an array of a list."
        due, came = (
            "a tuple" if isinstance(each[0], tuple) else each[1] for each in ((expected, due), (got, came))
        )
        return f"{due[0].upper()}{due[1:]} is due, and {came} came. {tip}".strip()
    if due in _COMPARE:
        return _COMPARE[due](expected, got)
    return "" if expected == got else f"{describe(got)} is another value than the one that is due."


def kind(value: Any) -> str:
    """Name a value's kind, with its article."""
    for types, phrase in _KINDS:
        if isinstance(value, types):
            return phrase
    if isinstance(value, torch.nn.Module):
        return "a module"
    return "a function" if callable(value) else f"an object of type {type(value).__name__}"


def _numbers(expected: float, got: float) -> str:
    if isinstance(expected, bool) and isinstance(got, bool):
        return "" if expected == got else f"{got} is not what is due."
    if math.isclose(expected, got, rel_tol=1e-5, abs_tol=1e-6) or (math.isnan(expected) and math.isnan(got)):
        return ""
    if math.isnan(got):
        return "NaN (not a number) came. It often comes of 0/0 or of the mean of nothing."
    return f"{describe(got)} is too {'small' if got < expected else 'large'}."


def _as_array(value: np.ndarray | torch.Tensor) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    dense = value.detach().to_dense().cpu()
    return (dense.double() if dense.is_floating_point() else dense).numpy()


def _arrays(expected: np.ndarray | torch.Tensor, got: np.ndarray | torch.Tensor) -> str:
    wanted, array = _as_array(expected), _as_array(got)
    if wanted.shape != array.shape:
        return f"The shape is {array.shape}, and {wanted.shape} is due."
    due, came = (_DTYPES.get(kind, "other values") for kind in (wanted.dtype.kind, array.dtype.kind))
    if due != came:
        return f"The entries are {came} ({got.dtype}), and {due} ({expected.dtype}) are due."
    wrong = np.argwhere(~np.isclose(array, wanted, rtol=1e-5, atol=1e-6, equal_nan=True))
    if not len(wrong):
        return ""
    place = tuple(int(index) for index in wrong[0])
    if not place:
        return _numbers(wanted.item(), array.item())
    return (
        f"{len(wrong)} of {wanted.size} entries differ, the first at {list(place)}: "
        f"{_numbers(wanted[place].item(), array[place].item())}"
    )


def _sequences(expected: list[Any], got: list[Any]) -> str:
    if len(expected) != len(got):
        return f"{len(got)} entries came, and {len(expected)} are due."
    faults = ((place, difference(*pair)) for place, pair in enumerate(zip(expected, got, strict=True)))
    return next((f"Entry {place}: {fault}" for place, fault in faults if fault), "")


def _dictionaries(expected: dict[Any, Any], got: dict[Any, Any]) -> str:
    missing, extra = [key for key in expected if key not in got], [key for key in got if key not in expected]
    if missing or extra:
        return _members(missing, extra)
    faults = ((key, difference(value, got[key])) for key, value in expected.items())
    return next((f"{describe(key)}: {fault}" for key, fault in faults if fault), "")


def _members(missing: Any, extra: Any) -> str:
    said = (("Missing", missing), ("Too many", extra))
    return " ".join(f"{word}: {', '.join(map(describe, items))}." for word, items in said if items)


_COMPARE: dict[str, Callable[[Any, Any], str]] = {
    "a number": _numbers,
    "a NumPy array": _arrays,
    "a PyTorch tensor": _arrays,
    "a list": _sequences,
    "a dictionary": _dictionaries,
    "a set": lambda expected, got: _members(expected - got, got - expected),
    "a graph": lambda expected, got: "" if nx.utils.graphs_equal(expected, got) else "The graphs differ.",
}
