"""How the doctor does on the cases: the table of docs/gradient-doctor.md."""

from __future__ import annotations

from functools import cache

import torch

from course_utils.gradients import Diagnosis, diagnose
from gradient_cases.case import BROKEN, HEALTHY

HEAD = """| kind to be found | cases | found | right kind first | right place | false alarms |
|---|---|---|---|---|---|"""


@cache
def examine(name: str, seed: int = 0) -> Diagnosis:
    """Show a case to the doctor."""
    torch.manual_seed(seed)
    case = BROKEN[name][0]() if name in BROKEN else HEALTHY[name]()
    return diagnose(
        case.model,
        case.loss_fn,
        data=case.data,
        optimizer=case.optimizer,
        expected_unused=case.expected_unused,
    )


def judge(name: str, seed: int = 0) -> tuple[bool, bool, bool]:
    """Say whether a broken case was found, its kind was named first, and its place was."""
    _, kinds, places = BROKEN[name]
    primary = examine(name, seed).primary
    if primary is None:
        return False, False, False
    return True, primary.kind in kinds, primary.kind in kinds and is_right_place(primary.where, places)


def is_right_place(where: str, places: tuple[str, ...]) -> bool:
    """Compare places. A module holds its parameters: "conv1" and "conv1.bias" are the same place."""
    return any(f"{where}.".startswith(f"{place}.") or f"{place}.".startswith(f"{where}.") for place in places)


def write_table(seed: int = 0) -> str:
    """Count over all cases, by the first kind that each expects."""
    by_kind: dict[str, list[tuple[bool, bool, bool]]] = {}
    for name, (_, kinds, _) in BROKEN.items():
        by_kind.setdefault(min(kinds), []).append(judge(name, seed))
    rows = [HEAD]
    for kind, results in sorted(by_kind.items()):
        rows.append(f"| {kind} | {len(results)} | {' | '.join(str(sum(each)) for each in zip(*results))} | |")  # noqa: B905 (triples)
    everything = [result for results in by_kind.values() for result in results]
    total = " | ".join(f"{sum(each)} ({sum(each) / len(everything):.0%})" for each in zip(*everything))  # noqa: B905 (as above)
    alarms = sum(not examine(name, seed).ok for name in HEALTHY)
    rows.append(f"| **all broken** | {len(everything)} | {total} | |")
    rows.append(f"| **healthy look-alikes** | {len(HEALTHY)} | | | | {alarms} |")
    return "\n".join(rows)
