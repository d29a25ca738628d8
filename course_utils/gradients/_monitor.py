"""An instrument: what happens to gradients, weights and activations in each step of a training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from course_utils.gradients._numbers import norm, stored
from course_utils.gradients._trace import find_tensors

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from matplotlib.axes import Axes
    from torch.utils.hooks import RemovableHandle

Quantity = Literal["gradient_norm", "weight_norm", "update_ratio", "zero_share", "rms"]
NUM_BINS = 64  # of a histogram


class Row(NamedTuple):
    """One line of the table; see `GradientMonitor.to_frame`."""

    step: int
    kind: Literal["parameter", "activation"]
    name: str
    state: Literal["finite", "zero", "none", "nonfinite"]
    gradient_norm: float = math.nan
    weight_norm: float = math.nan
    update_ratio: float = math.nan
    zero_share: float = math.nan
    nonfinite: int = 0
    rms: float = math.nan


class GradientMonitor:
    """Record a training: gradients, weights and updates of each parameter, and the output of each module, per step.

    Inside the context train as always. A step is what an optimizer's ``step()`` does, so there is nothing to call
    and nothing to forget: gradients are recorded as the optimizer sees them, accumulated, unscaled and clipped. Of
    several optimizers, each holding part of the model, all belong to one step until one of them steps again.
    Parameters in no optimizer are recorded too. A step that `torch.amp.GradScaler` skips is no step.

    Parameters
    ----------
    model
        The model. Shared parameters are recorded once, under their first name.
    histograms
        Whether to keep a histogram of each gradient as well, for `to_tensorboard`. It takes more time.

    Examples
    --------
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with GradientMonitor(model) as monitor:
    ...     model(torch.ones(5, 3)).mean().backward()
    ...     optimizer.step()
    >>> monitor.to_frame()["name"].tolist()
    ['weight', 'bias', 'model']
    """

    def __init__(self, model: nn.Module, *, histograms: bool = False) -> None:
        self.model = model
        self._keeps_histograms = histograms
        self._rows: list[Row] = []
        self._histograms: list[dict[str, Any]] = []  # as TensorBoard takes them
        self._step = -1
        self._stepped: set[int] = set()
        self._place: dict[str, int] = {}
        self._before: dict[int, Tensor] = {}
        self._activations: dict[str, Row] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        self._handles += [register_optimizer_step_pre_hook(self._before_step)]
        self._handles += [register_optimizer_step_post_hook(self._after_step)]
        for name, module in self.model.named_modules():
            self._handles.append(module.register_forward_hook(self._forward_hook(name or "model")))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def to_frame(self) -> pd.DataFrame:
        """Return all that was recorded as a tidy table.

        Returns
        -------
        pandas.DataFrame
            One row for each step and parameter or module. `step` (from 0), `kind` ("parameter" or "activation"),
            `name`, `state` of the gradient or output ("finite", "zero", "none" where there is no gradient,
            "nonfinite"), `gradient_norm`, `weight_norm` (before the step) and `update_ratio` (norm of the change
            divided by `weight_norm`) of parameters, `rms` of outputs, `zero_share` and `nonfinite` (number of NaN and
            infinite entries) of gradients or outputs. What does not apply is NaN.

        Raises
        ------
        RuntimeError
            If nothing was recorded.
        """
        if not self._rows:
            msg = (
                "Nothing was recorded: no optimizer that holds parameters of this model made a step inside "
                "`with GradientMonitor(model):`."
            )
            raise RuntimeError(msg)
        return pd.DataFrame(self._rows, columns=list(Row._fields))

    def plot(self, quantity: Quantity = "gradient_norm", *, ax: Axes | None = None) -> Axes:
        """Draw a quantity for all layers (down) and steps (across) in colours on a logarithmic scale.

        Cells without a number stay visible: no gradient (None), exactly zero, and NaN or inf have their own marks.

        Parameters
        ----------
        quantity
            A column of `to_frame`; "rms" is that of the modules, the others are those of the parameters.

        Raises
        ------
        ValueError
            If the quantity is unknown.
        RuntimeError
            If nothing was recorded.
        """
        from course_utils.gradients._heat_map import draw

        return draw(self.to_frame(), quantity, ax=ax)

    def to_tensorboard(self, log_dir: str | Path) -> None:
        """Write all that was recorded to event files that TensorBoard shows.

        Scalars are named ``quantity/name``; histograms, if kept, ``gradient/name``.

        Parameters
        ----------
        log_dir
            Folder for the files, made if need be.

        Raises
        ------
        ModuleNotFoundError
            If the package tensorboard is not installed.
        RuntimeError
            If nothing was recorded.
        """
        table = self.to_frame()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            msg = "Event files are written by the package tensorboard. Install it: `pip install tensorboard`."
            raise ModuleNotFoundError(msg) from error
        quantities = ("gradient_norm", "weight_norm", "update_ratio", "zero_share", "nonfinite", "rms")
        with SummaryWriter(str(log_dir)) as writer:
            for row in table.itertuples(index=False):
                for quantity in quantities:
                    value = float(getattr(row, quantity))
                    if not math.isnan(value) or row.state == "nonfinite":
                        writer.add_scalar(f"{quantity}/{row.name}", value, row.step)
            for each in self._histograms:
                writer.add_histogram_raw(**each)

    def _forward_hook(self, name: str) -> Any:
        def record(_: nn.Module, __: Any, output: Any) -> None:
            # The step is known when the optimizer makes it; of several passes before it the last counts.
            tensors = [each for each in find_tensors(output) if each.is_floating_point()]
            if tensors and tensors[0].numel():
                size, zeros, nonfinite = _measure(tensors[0].detach())
                row = Row(-1, "activation", name, _state(size), zero_share=zeros, nonfinite=nonfinite)
                self._activations[name] = row._replace(rms=size / math.sqrt(tensors[0].numel()))

        return record

    def _before_step(self, optimizer: torch.optim.Optimizer, _: Any, __: Any) -> None:
        held = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
        owned = [parameter for parameter in self.model.parameters() if id(parameter) in held]
        self._before = {id(parameter): parameter.detach().clone() for parameter in owned}

    @torch.no_grad()
    def _after_step(self, _: torch.optim.Optimizer, __: Any, ___: Any) -> None:
        owned = set(self._before)
        if not owned:
            return
        begins = self._step < 0 or bool(owned & self._stepped)
        if begins:
            self._step += 1
            self._stepped, self._place = set(), {}
        for name, parameter in self.model.named_parameters():
            if begins:  # a row for what this optimizer does not move too; another one may do so in this step
                self._place[name] = len(self._rows)
                self._rows.append(self._record(name, parameter))
            elif id(parameter) in owned:
                self._rows[self._place[name]] = self._record(name, parameter)
        if begins:
            self._rows += [row._replace(step=self._step) for row in self._activations.values()]
            self._activations = {}
        self._stepped |= owned
        self._before = {}

    def _record(self, name: str, parameter: Tensor) -> Row:
        before = self._before.get(id(parameter))
        weight_norm = norm(parameter if before is None else before)
        ratio = math.nan
        if before is not None:
            ratio = norm(parameter - before) / weight_norm if weight_norm else math.nan
        row = Row(self._step, "parameter", name, "none", weight_norm=weight_norm, update_ratio=ratio)
        if parameter.grad is None:
            return row
        size, zero_share, nonfinite = _measure(parameter.grad)
        if self._keeps_histograms and before is not None and math.isfinite(size):
            self._histograms.append(_count(self._step, name, parameter.grad))
        row = row._replace(state=_state(size), zero_share=zero_share, nonfinite=nonfinite)
        return row._replace(gradient_norm=size)


def _measure(tensor: Tensor) -> tuple[float, float, int]:
    """Return norm, share of zeros among all entries, and number of NaN and infinite entries."""
    values = stored(tensor)
    size = norm(values)
    nonfinite = 0 if math.isfinite(size) else int((~values.isfinite()).sum())
    # For a layer behind a ReLU this is many times as fast as count_nonzero.
    nonzero = values if nonfinite == 0 else values.ne(0).to(values.dtype)
    share = float(nonzero.sign().abs_().mean(dtype=torch.float32)) * values.numel() / tensor.numel()
    return size, 1 - share, nonfinite


def _state(size: float) -> Literal["finite", "zero", "nonfinite"]:
    if not math.isfinite(size):
        return "nonfinite"
    return "finite" if size else "zero"


def _count(step: int, name: str, gradient: Tensor) -> dict[str, Any]:
    """Count entries in even bins between the smallest and the largest."""
    values = stored(gradient).detach().double()
    low, high = float(values.min()), float(values.max())
    if low == high:  # a histogram needs some width
        low, high = low - 1e-12, high + 1e-12
    total, squares = float(values.sum()), float(values.square().sum())
    counts = torch.histc(values, NUM_BINS, low, high).tolist()
    limits = torch.linspace(low, high, NUM_BINS + 1, dtype=torch.float64)[1:].tolist()
    numbers = {"min": low, "max": high, "num": int(sum(counts)), "sum": total, "sum_squares": squares}
    buckets = {"bucket_limits": limits, "bucket_counts": counts, "global_step": step}
    return {"tag": f"gradient/{name}", **numbers, **buckets}
