"""Small models that do not learn, and healthy ones that look as if they did not: what the doctor is held to.

Each case is a function that returns a `Case`. `BROKEN` tells for each what the doctor should name first and where.
"""

from gradient_cases import (
    broken_connections,
    broken_inputs,
    broken_signals,
    broken_steps,
    healthy_graphs,
    healthy_losses,
    healthy_networks,
)
from gradient_cases.case import BROKEN, HEALTHY, Case

__all__ = [
    "BROKEN",
    "HEALTHY",
    "Case",
    "broken_connections",
    "broken_inputs",
    "broken_signals",
    "broken_steps",
    "healthy_graphs",
    "healthy_losses",
    "healthy_networks",
]
