"""Everything a training step may change, taken down and put back bit for bit."""

from __future__ import annotations

import inspect
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

REGISTERS = {"_parameters", "_buffers", "_modules"}


class Snapshot:
    """The state of a model, its optimizer, whatever else the loss uses, and the random generators.

    Gradients are taken away (not zeroed) while a snapshot is held, so that nothing writes to them.

    Parameters
    ----------
    modules
        All parts of the model.
    loss_fn, optimizer
        As `diagnose` takes them. Modules that `loss_fn` uses besides the model are kept too.
    """

    def __init__(
        self,
        modules: Iterable[nn.Module],
        loss_fn: Callable[..., Any],
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        self.rng = get_rng_state()
        self.tensors: dict[int, tuple[Tensor, Tensor, Tensor, Tensor | None, bool]] = {}
        self.generators: list[tuple[torch.Generator, Tensor]] = []
        self.attributes: list[tuple[Any, type, dict[str, Any], dict[str, Any]]] = []
        used = _names_used(loss_fn)
        others = [part for value in used if isinstance(value, nn.Module) for _, part in walk_modules(value)]
        for module in dict.fromkeys([*modules, *others]):
            self._keep_attributes(module)
        for value in used:
            # Data, which may be large, are not written to; parameters may be.
            if not isinstance(value, Tensor) or value.requires_grad:
                self._keep_value(value)
        if optimizer is not None:
            self._keep_attributes(optimizer)
            for memory in (*optimizer.param_groups, *optimizer.state.values()):
                self._keep_entries(memory, memory)
                self._keep_value(list(memory.values()))

    def keep(self, tensors: Iterable[Tensor]) -> None:
        """Keep tensors, with their gradients, unless they are kept already."""
        for tensor in tensors:
            if id(tensor) in self.tensors or is_lazy(tensor) or tensor.layout != torch.strided:
                continue
            alias = tensor.data  # the same numbers in the same place, even if the tensor is given others
            grad = tensor.grad if tensor.is_leaf else None
            self.tensors[id(tensor)] = (tensor, alias, alias.clone(), grad, tensor.requires_grad)
            if tensor.is_leaf:
                tensor.grad = None

    def restore(self) -> None:
        """Put everything back."""
        for owner, owner_type, attributes, contents in self.attributes:
            if owner_type is not dict:
                owner.__class__ = owner_type
            space = owner if owner_type is dict else owner.__dict__
            space.clear()
            space.update(attributes)
            for name, content in contents.items():
                if content or space[name]:
                    _refill(space[name], content)
        self.restore_values()
        for tensor, _, _, grad, requires_grad in self.tensors.values():
            if tensor.is_leaf:
                tensor.requires_grad_(requires_grad)
                tensor.grad = grad
        for generator, state in self.generators:
            generator.set_state(state)
        set_rng_state(self.rng)

    def original(self, tensor: Tensor) -> Tensor:
        """Return what a tensor held at first."""
        return self.tensors[id(tensor)][2] if id(tensor) in self.tensors else tensor.detach()

    def restore_values(self) -> None:
        """Put back the numbers alone: weights, buffers, and what the optimizer remembers in tensors."""
        for tensor, alias, values, _, _ in self.tensors.values():
            alias.copy_(values)
            tensor.data = alias

    def _keep_entries(self, owner: Any, entries: dict[str, Any]) -> None:
        contents = {
            name: value.copy()
            for name, value in entries.items()
            if isinstance(value, dict | list | set)  # OrderedDict and defaultdict among them
        }
        self.attributes.append((owner, type(owner), dict(entries), contents))

    def _keep_attributes(self, owner: Any) -> None:
        self._keep_entries(owner, vars(owner))
        if isinstance(owner, nn.Module):
            for value in vars(owner).values():
                self._keep_value(value)

    def _keep_value(self, value: Any) -> None:
        if isinstance(value, torch.Generator):
            self.generators.append((value, value.get_state()))
        elif isinstance(value, Tensor):
            self.keep([value])
        elif isinstance(value, dict | list | tuple):
            for item in value.values() if isinstance(value, dict) else value:
                self._keep_value(item)


def walk_modules(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield all modules by dotted name, those hidden in lists and other attributes last."""
    yield from root.named_modules()
    seen = set(root.modules())
    todo = [*root.named_modules()]
    while todo:
        prefix, owner = todo.pop(0)
        for name, value in vars(owner).items():
            if name in REGISTERS:
                continue
            for key, item in _items(value):
                if isinstance(item, nn.Module) and item not in seen:
                    path = ".".join(part for part in (prefix, name, key) if part)
                    for below, module in item.named_modules(prefix=path):
                        if module not in seen:
                            seen.add(module)
                            todo.append((below, module))
                            yield below, module


def walk_parameters(modules: dict[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that ask for a gradient, by dotted name, registered or not; each once."""
    seen: set[int] = set()
    for prefix, module in modules.items():
        for register, value in vars(module).items():
            for key, item in _items(value):
                if isinstance(item, Tensor) and item.requires_grad and item.is_leaf and id(item) not in seen:
                    seen.add(id(item))
                    parts = (prefix, "" if register in REGISTERS else register, key)
                    yield ".".join(part for part in parts if part), item


def get_rng_state() -> tuple[Any, ...]:
    """Return the states of the global generators of Python, NumPy and PyTorch."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    legacy = np.random.get_state()  # noqa: NPY002 (the global generator is what must be kept)
    return random.getstate(), legacy, torch.get_rng_state(), cuda


def set_rng_state(state: tuple[Any, ...]) -> None:
    """Set the states that `get_rng_state` returned."""
    python, legacy, cpu, cuda = state
    random.setstate(python)
    np.random.set_state(legacy)  # noqa: NPY002 (as above)
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)


def _items(value: Any) -> list[tuple[str, Any]]:
    """Return what nested lists and dictionaries hold, by dotted place."""
    if not isinstance(value, dict | list | tuple):
        return [("", value)]
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return [
        (f"{place}.{below}" if below else str(place), item)
        for place, inside in pairs
        for below, item in _items(inside)
    ]


def _names_used(function: Callable[..., Any]) -> list[Any]:
    """Return what a function takes from around it."""
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        return []
    used = inspect.getclosurevars(function)
    return [*used.nonlocals.values(), *used.globals.values()]


def _refill(container: Any, content: Any) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(content)
    else:
        container.update(content)
