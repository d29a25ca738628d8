"""What gradients do in a network: an instrument that records them, a doctor for them, and checks of the input.

`GradientMonitor` records a training, `diagnose` looks for the reason why a model does not learn, and `check_graph`
looks at the data alone.
"""

from __future__ import annotations

from course_utils.gradients._doctor import diagnose
from course_utils.gradients._findings import Diagnosis, FailureKind, Finding
from course_utils.gradients._graph_checks import check_graph
from course_utils.gradients._monitor import GradientMonitor

__all__ = ["Diagnosis", "FailureKind", "Finding", "GradientMonitor", "check_graph", "diagnose"]
