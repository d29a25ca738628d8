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
    """The state of modules, of an optimizer, of whatever else a loss uses, and of the random generators.

    Gradients are taken away (not zeroed) while a snapshot is held, so that nothing writes to them.
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
        self.spaces: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = []
        used = _names_used(loss_fn)
        others = [part for value in used if isinstance(value, nn.Module) for _, part in walk_modules(value)]
        for module in dict.fromkeys([*modules, *others]):
            self._keep_space(vars(module))
        # Data, which may be large, are not written to; parameters may be.
        self._keep_value([value for value in used if not isinstance(value, Tensor) or value.requires_grad])
        if optimizer is not None:
            for space in (vars(optimizer), *optimizer.param_groups, *optimizer.state.values()):
                self._keep_space(space)

    def keep(self, tensors: Iterable[Tensor]) -> None:
        """Keep tensors, with their gradients, unless they are kept already."""
        for tensor in tensors:
            if id(tensor) not in self.tensors and not is_lazy(tensor) and tensor.layout == torch.strided:
                alias = tensor.data  # the same numbers in the same place, even if the tensor is given others
                if 0 in alias.stride():  # numbers that stand in several places cannot be written to
                    continue
                grad = tensor.grad if tensor.is_leaf else None
                self.tensors[id(tensor)] = tensor, alias, alias.clone(), grad, tensor.requires_grad
                if tensor.is_leaf:
                    tensor.grad = None

    def restore(self) -> None:
        """Put everything back."""
        for space, entries, contents in self.spaces:
            space.clear()
            space.update(entries)
            for name, content in contents.items():
                if content or space[name]:
                    space[name].clear()
                    (space[name].extend if isinstance(content, list) else space[name].update)(content)
        self.restore_values()
        for tensor, _, _, grad, requires_grad in self.tensors.values():
            if tensor.is_leaf:
                tensor.requires_grad_(requires_grad)
                tensor.grad = grad
        for generator, state in self.generators:
            generator.set_state(state)
        set_rng_state(self.rng)

    def restore_values(self) -> None:
        """Put back the numbers alone: weights, buffers, and what the optimizer remembers in tensors."""
        for tensor, alias, values, _, _ in self.tensors.values():
            alias.copy_(values)
            tensor.data = alias

    def original(self, tensor: Tensor) -> Tensor:
        """Return what a tensor held at first."""
        return self.tensors[id(tensor)][2] if id(tensor) in self.tensors else tensor.detach()

    def _keep_space(self, space: dict[str, Any]) -> None:
        """Keep named values, and what containers among them hold."""
        contents: dict[str, Any] = {}
        for name, value in space.items():
            for kind in (dict, list, set):
                if isinstance(value, kind):  # Subclasses may copy themselves in their own way.
                    contents[name] = kind(value)
        self.spaces.append((space, dict(space), contents))
        self._keep_value(list(space.values()))

    def _keep_value(self, value: Any) -> None:
        for _, item in _items(value):
            if isinstance(item, Tensor):
                self.keep([item])
            elif isinstance(item, torch.Generator):
                self.generators.append((item, item.get_state()))


def walk_modules(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield all modules by dotted name, those hidden in lists and other attributes last."""
    todo = [*root.named_modules()]
    seen = {module for _, module in todo}
    yield from todo
    while todo:
        prefix, owner = todo.pop(0)
        others = {name: value for name, value in vars(owner).items() if name not in REGISTERS}
        for place, item in _items(others):
            if isinstance(item, nn.Module) and item not in seen:
                inside = item.named_modules(prefix=_join(prefix, place))
                below = [(name, module) for name, module in inside if module not in seen]
                seen.update(module for _, module in below)
                todo += below
                yield from below


def walk_parameters(modules: dict[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that ask for a gradient, by dotted name, registered or not; each once."""
    seen: set[int] = set()
    for prefix, module in modules.items():
        for name, value in vars(module).items():
            for place, item in _items(value):
                if isinstance(item, Tensor) and item.requires_grad and item.is_leaf and id(item) not in seen:
                    seen.add(id(item))
                    yield _join(prefix, "" if name in REGISTERS else name, place), item


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


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _items(value: Any, around: tuple[int, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield what nested lists and dictionaries hold, by dotted place."""
    if not isinstance(value, (dict, list, tuple)):
        yield "", value
    elif id(value) not in around:  # or it holds itself
        for place, inside in value.items() if isinstance(value, dict) else enumerate(value):
            for below, item in _items(inside, (*around, id(value))):
                # To write out a tensor, which is a key of an optimizer's state, takes long.
                yield _join(str(place) if isinstance(place, (str, int)) else "", below), item


def _names_used(function: Callable[..., Any]) -> list[Any]:
    """Return what a function takes from around it."""
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        return []
    used = inspect.getclosurevars(function)
    return [*used.nonlocals.values(), *used.globals.values()]
