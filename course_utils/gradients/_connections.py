"""The leaves of the graph behind a loss, compared with the parameters of the model and of the optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from course_utils.gradients._advice import found
from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._snapshot import walk_parameters
from course_utils.gradients._trace import ROOT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from torch import Tensor

    from course_utils.gradients._findings import Finding
    from course_utils.gradients._look import Look, Patient


def connections(
    patient: Patient,
    looks: list[Look],
    reached: Collection[int],
    inputs: Iterable[Tensor],
    expected: Collection[str],
) -> Iterator[Finding]:
    """Compare the leaves of the graph with the parameters of the model and of the optimizer."""
    known = {id(parameter) for parameter in patient.registered.values()} | {id(each) for each in inputs}
    yield from _unregistered(patient, looks, known)
    trainable = {name: p for name, p in patient.registered.items() if p.requires_grad}
    unconnected = [
        name for name, p in trainable.items() if id(p) not in reached and not is_expected(name, expected)
    ]
    called = {call.name for look in looks for call in look.calls}
    for where in group_names(unconnected, trainable):
        module = where if where in patient.modules else where.rpartition(".")[0]
        ran = (module or ROOT) in called
        what = f"`{where}` asks for a gradient and gets none. " + (
            f"`{module or ROOT}` runs, but the loss does not depend on it: it is not used there, or the graph is cut."
            if ran
            else f"`{module}` is never called."
        )
        yield found(Kind.UNCONNECTED_PARAMETER, where, what, "error" if ran else "warning", called=ran)
    if patient.in_optimizer is not None:
        left_out = [
            name for name, p in trainable.items() if id(p) in reached and id(p) not in patient.in_optimizer
        ]
        for where in group_names(left_out, trainable):
            what = f"`{where}` is in none of the optimizer's groups."
            yield found(Kind.NOT_IN_OPTIMIZER, where, what, optimizer=type(patient.optimizer).__name__)
    frozen = [name for name, p in patient.registered.items() if not p.requires_grad]
    for where in group_names(frozen, patient.registered):
        yield found(Kind.FROZEN_PARAMETER, where, f"`{where}` does not ask for a gradient.")


def _unregistered(patient: Patient, looks: list[Look], known: set[int]) -> Iterator[Finding]:
    first, last = looks[0], looks[-1]
    trained = patient.in_optimizer or set()
    names = {id(tensor): name for name, tensor in walk_parameters(patient.model)} | patient.hidden
    unknown = {key: leaf for key, leaf in first.leaves.items() if key not in known and key not in trained}
    places: dict[str, list[Tensor]] = {}
    for key, leaf in unknown.items():
        lasting = key in last.leaves or len(looks) == 1
        if lasting and any(leaf is p for p in patient.model.parameters()):
            continue  # a layer made at the first call, and kept and registered since
        where = names.get(key) or (first.tape.leaf_place(leaf) if first.tape else ROOT)
        places.setdefault(where, []).append(leaf)
    flat = [name for name in places if name in names.values()]
    for where in group_names(flat, list(names.values())):
        what = f"`{where}` takes part in the loss and is not registered with the model."
        yield found(Kind.UNREGISTERED_PARAMETER, where, what)
    for where in places.keys() - set(flat):
        shapes = [tuple(leaf.shape) for leaf in places[where]]
        what = f"Parameters of shape {shapes} are made while `{where}` runs, anew each time."
        yield found(Kind.UNREGISTERED_PARAMETER, where, what, shapes=shapes)


def group_names(names: Collection[str], everything: Collection[str]) -> list[str]:
    """Replace the names of all parameters of a module by its name, the outermost that they fill."""
    grouped: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            prefix = ".".join(parts[:depth])
            below = [other for other in everything if other == prefix or other.startswith(f"{prefix}.")]
            if all(other in names for other in below):
                grouped[prefix] = None
                break
    return list(grouped)


def is_expected(name: str, expected: Collection[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in expected)
