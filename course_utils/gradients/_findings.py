"""What the doctor can find, and how it says it."""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, get_args

Severity = Literal["error", "warning", "info"]

# Told apart by shape and word; colour says nothing.
MARKS: dict[Severity, str] = {"error": "✖ error", "warning": "▲ warning", "info": "· info"}
CODE_FONT = "font-family:var(--jp-code-font-family,monospace)"


class FailureKind(StrEnum):
    """Reasons why a network does not learn, in the order in which the doctor looks for them."""

    CRASH = "crash"
    NON_FINITE_INPUT = "non_finite_input"
    INVALID_EDGE_INDEX = "invalid_edge_index"
    EMPTY_MASK = "empty_mask"
    TARGET_MISMATCH = "target_mismatch"
    NEGATIVE_EDGE_WEIGHT = "negative_edge_weight"
    SUSPICIOUS_EDGE_INDEX = "suspicious_edge_index"
    UNSCALED_FEATURES = "unscaled_features"
    CONSTANT_FEATURE = "constant_feature"
    NON_FINITE_ACTIVATION = "non_finite_activation"
    DEAD_UNITS = "dead_units"
    SATURATED_UNITS = "saturated_units"
    COLLAPSED_REPRESENTATION = "collapsed_representation"
    VANISHING_SIGNAL = "vanishing_signal"
    NON_FINITE_LOSS = "non_finite_loss"
    DETACHED_LOSS = "detached_loss"
    UNREGISTERED_PARAMETER = "unregistered_parameter"
    UNCONNECTED_PARAMETER = "unconnected_parameter"
    NOT_IN_OPTIMIZER = "not_in_optimizer"
    FROZEN_PARAMETER = "frozen_parameter"
    NON_FINITE_GRADIENT = "non_finite_gradient"
    BLOCKED_GRADIENT = "blocked_gradient"
    ZERO_GRADIENT = "zero_gradient"
    VANISHING_GRADIENT = "vanishing_gradient"
    EXPLODING_GRADIENT = "exploding_gradient"
    LEARNING_RATE_TOO_HIGH = "learning_rate_too_high"
    LEARNING_RATE_TOO_LOW = "learning_rate_too_low"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Parameters
    ----------
    kind
        What it is.
    severity
        "error": this cannot learn as it should. "warning": it very probably learns badly. "info": good to know.
    where
        Dotted name of a parameter or module ("model" for the whole), name of an input, "loss" or "optimizer".
    message
        What was seen, and why it stops learning.
    remedy
        The mend, with a line of code.
    evidence
        The numbers seen, by name.
    notebook
        Notebook of the course that teaches it.
    """

    kind: FailureKind
    severity: Severity
    where: str
    message: str
    remedy: str
    evidence: dict[str, Any] = field(default_factory=dict)
    notebook: str = "08 The gradient clinic"

    @property
    def rank(self) -> tuple[int, int]:
        """Sort key: errors before warnings, and each in the order of looking."""
        return get_args(Severity).index(self.severity), list(FailureKind).index(self.kind)

    def _rows(self) -> list[tuple[str, str]]:
        seen = ", ".join(f"{name} = {_show(value)}" for name, value in self.evidence.items())
        rows = [("What", self.message), ("Numbers", seen), ("Mend", self.remedy), ("Read", self.notebook)]
        return [(label, text) for label, text in rows if text]

    def __str__(self) -> str:
        lines = [f"{MARKS[self.severity]}: {self.kind} in {self.where}"]
        for label, text in self._rows():
            lines += textwrap.wrap(text, 100, initial_indent=f"  {label:<8}", subsequent_indent=" " * 10)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        cells = "".join(
            f'<div style="font-weight:600">{label}</div><div style="overflow-wrap:anywhere'
            f'{";" + CODE_FONT if label == "Numbers" else ""}">{_code(text)}</div>'
            for label, text in self._rows()
        )
        width = {"error": 8, "warning": 4, "info": 1}[self.severity]
        return (
            f'<div role="note" style="border:1px solid currentColor;border-left-width:{width}px;margin:.4em 0;'
            'padding:.4em .8em;max-width:60em;line-height:1.4"><div style="font-weight:700">'
            f"{MARKS[self.severity]}: {self.kind} in {_code(f'`{self.where}`')}</div>"
            '<div style="display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15em 1em">'
            f"{cells}</div></div>"
        )


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What the doctor found.

    Parameters
    ----------
    findings
        The primary cause first.
    """

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing worse than an "info" was found."""
        return self.primary is None

    @property
    def primary(self) -> Finding | None:
        """The cause to mend first, if there is any."""
        return next((finding for finding in self.findings if finding.severity != "info"), None)

    @property
    def head(self) -> str:
        """The result in one line."""
        if self.primary is None:
            return "Healthy: nothing stands in the way of learning."
        return f"Mend this first: {self.primary.kind} in {self.primary.where}."

    def __repr__(self) -> str:
        return "\n\n".join([self.head, *map(str, self.findings)])

    def _repr_html_(self) -> str:
        cards = "".join(finding._repr_html_() for finding in self.findings)
        return f'<div><div style="font-weight:700">{html.escape(self.head)}</div>{cards}</div>'


def _show(value: Any) -> str:
    """Write a number shortly, and anything else as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _code(text: str) -> str:
    """Escape a text for HTML and set what stands between backticks as code."""
    parts = html.escape(text).split("`")
    return "".join(
        f'<code style="{CODE_FONT}">{part}</code>' if i % 2 else part for i, part in enumerate(parts)
    )
