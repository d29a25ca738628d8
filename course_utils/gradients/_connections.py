"""The leaves of the graph behind a loss, compared with the parameters of the model and of the optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch_geometric.nn import HeteroConv

from course_utils.gradients._advice import found
from course_utils.gradients._findings import FailureKind as Kind
from course_utils.gradients._snapshot import walk_modules, walk_parameters
from course_utils.gradients._trace import ROOT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from torch import Tensor

    from course_utils.gradients._findings import Finding, Severity
    from course_utils.gradients._look import Look, Patient
    from course_utils.gradients._tape import Tape

# Where the layers are that libraries make, apart from whole models; and those in which the user says what is there.
LIBRARY = (
    "torch.nn.modules.",
    *(f"torch_geometric.nn.{each}." for each in ("aggr", "conv", "dense", "norm", "pool")),
)
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict, HeteroConv)


def unregistered(patient: Patient, first: Look, last: Look, inputs: Iterable[Tensor]) -> Iterator[Finding]:
    """Find what takes part in the loss and is in no register of the model, nor an input, nor of another model."""
    known = {id(each) for each in [*patient.registered.values(), *inputs]} | patient.held
    assert first.tape is not None
    unknown = [leaf for leaf in first.tape.leaves if id(leaf) not in known]
    if not unknown:
        return
    if last is first:  # Nothing was trained.
        last = patient.look(measures=False, backward=False)
    # A layer made at the first call, and kept and registered since, is none.
    lasting = {id(leaf) for leaf in last.tape.leaves} if last.tape else set()
    made = {id(parameter) for parameter in patient.model.parameters()} & lasting
    names = {id(tensor): name for name, tensor in walk_parameters(dict(walk_modules(patient.model)))}
    names |= patient.hidden
    unknown = [leaf for leaf in unknown if id(leaf) not in made]
    hidden = [names[id(leaf)] for leaf in unknown if id(leaf) in names]
    for where in group_names(hidden, names.values()):
        what = f"`{where}` takes part in the loss and is not registered with the model."
        yield found(Kind.UNREGISTERED_PARAMETER, where, what)
    nameless: dict[tuple[str, bool], list[tuple[int, ...]]] = {}
    for leaf in unknown:
        # A plain tensor that `loss_fn` makes anew is what a derivative is taken by, such as positions for forces.
        is_point = not isinstance(leaf, nn.Parameter) and id(leaf) not in lasting
        if id(leaf) not in names and not is_point:
            place = first.tape.leaf_place(leaf), id(leaf) in lasting
            nameless.setdefault(place, []).append(tuple(leaf.shape))
    for (where, stays), shapes in nameless.items():
        what = f"Parameters of shape {shapes} are made while `{where}` runs, anew each time."
        if stays:
            what = f"`{where}` uses parameters of shape {shapes} that are not part of the model."
        yield found(Kind.UNREGISTERED_PARAMETER, where, what, shapes=shapes)


def misses_all(patient: Patient, tape: Tape) -> bool:
    """Whether a loss reaches tensors that ask for a gradient themselves, and no parameter of anything."""
    known = patient.hidden.keys() | patient.held
    reached = any(isinstance(leaf, nn.Parameter) or id(leaf) in known for leaf in tape.leaves)
    return bool(patient.trainable) and not reached


def unconnected(patient: Patient, first: Look, expected: Collection[str]) -> Iterator[Finding]:
    """Find parameters that no loss so far gave a gradient."""
    trainable = patient.trainable
    # With a gradient nowhere, something takes them all away as they come, such as a step in the backward pass.
    given = patient.given or set(patient.reached)
    missed = [n for n, p in trainable.items() if id(p) not in given and not is_expected(n, expected)]
    called = {call.name for call in first.trace.calls}
    for where in group_names(missed, trainable):
        module = (where if where in patient.modules else where.rpartition(".")[0]) or ROOT
        ran = module in called
        why = "runs, but the loss does not depend on it: it is not used there, or the graph is cut."
        what = f"`{where}` asks for a gradient and gets none. `{module}` {why if ran else 'is never called.'}"
        severity: Severity = "error" if ran else "warning"
        below = {id(p) for name, p in trainable.items() if is_expected(name, [where])}
        if patient.optimizer is not None and patient.held.isdisjoint(below):
            severity = "info"  # Nobody means to train it: the optimizer does not hold it either.
        layer = _library_layer(patient, module)
        rest = {id(p) for name, p in trainable.items() if is_expected(name, [layer])}
        if layer and not rest.isdisjoint(given) and "edge" not in where.removeprefix(layer):
            severity = "info"  # A library's layer that learns makes no use of it, and it does not wait for edge_attr.
        yield found(Kind.UNCONNECTED_PARAMETER, where, what, severity, called=ran)


def _library_layer(patient: Patient, name: str) -> str:
    """Name the outermost module of a library that a module is part of, with none of the user's own between."""
    layer = ""
    while name and _is_of_library(patient.modules.get(name)):
        layer, name = name, name.rpartition(".")[0]
    return layer


def _is_of_library(module: nn.Module | None) -> bool:
    return type(module).__module__.startswith(LIBRARY) and not isinstance(module, CONTAINERS)


def not_in_optimizer(patient: Patient, expected: Collection[str]) -> Iterator[Finding]:
    """Find parameters that get a gradient, and that the optimizer does not hold."""
    if patient.optimizer is None:
        return
    trainable, outside = patient.trainable, patient.reached.keys() - patient.held
    missed = [name for name, p in trainable.items() if id(p) in outside and not is_expected(name, expected)]
    for where in group_names(missed, trainable):
        what = f"`{where}` is in none of the optimizer's groups."
        yield found(Kind.NOT_IN_OPTIMIZER, where, what, optimizer=type(patient.optimizer).__name__)


def frozen(patient: Patient) -> Iterator[Finding]:
    """Name what does not ask for a gradient."""
    still = [name for name, p in patient.registered.items() if not p.requires_grad]
    for where in group_names(still, patient.registered):
        yield found(Kind.FROZEN_PARAMETER, where, f"`{where}` does not ask for a gradient.")


def group_names(names: Collection[str], everything: Collection[str]) -> list[str]:
    """Replace the names of all parameters of a module by its name, the outermost that they fill."""
    grouped: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            prefix = ".".join(parts[:depth])
            if all(other in names for other in everything if is_expected(other, [prefix])):
                grouped[prefix] = None
                break
    return list(grouped)


def is_expected(name: str, expected: Collection[str]) -> bool:
    """Whether a name is one of those expected, or below one."""
    return any(f"{name}.".startswith(f"{prefix}.") for prefix in expected)
