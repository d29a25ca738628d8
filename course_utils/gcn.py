"""Graph convolutions stacked to any depth, with cures for depth, and fast where graph and features are sparse.

The layers are PyTorch Geometric's and give the same numbers. They are faster because what does not change is
computed once: the normalised adjacency, and the transposes that the backward pass needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch_geometric.nn import BatchNorm, GCNConv, PairNorm
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from course_utils._sparse import CsrMatrix, MatrixGCN2Conv, MatrixGCNConv, Memo

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GCN", "normalize_rows"]

Norm = Literal["batch", "pair"]
Residual = Literal["residual", "initial", "jumping"]

NORMS: dict[str | None, Callable[[int], nn.Module]] = {
    None: nn.Identity,
    "batch": BatchNorm,
    "pair": lambda _: PairNorm(),
}
# With no other arguments than these, GCNConv and GCN2Conv multiply by one constant matrix.
MATRIX_ARGUMENTS = {"improved", "add_self_loops", "normalize", "bias", "alpha", "theta"}


class GCN(nn.Module):
    """A stack of graph convolutions: dropout before each, ReLU behind each but the last.

    Kipf & Welling 2017, arXiv:1609.02907, equation 2, with dropout on the features too, as in their code.

    Parameters
    ----------
    in_channels, hidden_channels, out_channels
        Number of features, of units in a hidden layer, and of classes.
    num_layers
        Number of convolutions.
    dropout
        Probability that an entry of a layer's input becomes zero in training.
    conv
        A convolution of PyTorch Geometric, or what makes one when called as ``conv(in, out, **conv_kwargs)``,
        such as ``lambda i, o: GINConv(MLP([i, o, o]))`` or ``partial(GATConv, dropout=0.6)``. With `heads`
        in `conv_kwargs`, hidden layers put their heads side by side, each of ``hidden_channels / heads``
        units, and the last layer averages them (Velickovic et al. 2018, arXiv:1710.10903).
    norm
        What stands between a hidden convolution and its ReLU. "batch": batch normalisation. "pair": PairNorm
        (Zhao & Akoglu 2020, arXiv:1909.12223), which its authors find ill-matched with this convolution.
    residual
        "residual": from the second hidden layer on, a layer's input is added to its output (Kipf & Welling
        2017, equation 14). "initial": GCNII (Chen et al. 2020, arXiv:2007.02133, equation 5), a linear layer,
        convolutions that keep a share `alpha` (0.1) of its output and lean to the identity as `theta` (0.5,
        lambda in the paper) says, both in `conv_kwargs`, and a linear layer. "jumping": a linear layer on the
        outputs of all convolutions side by side (Xu et al. 2018, arXiv:1806.03536).
    drop_edge
        Probability that an edge is left out in training (DropEdge, Rong et al. 2020, arXiv:1907.10903). Drawn
        anew in each forward pass, for all layers together, and for each direction of a link on its own as
        in the authors' code. Degrees are those of the edges left; self-loops stay.
    conv_kwargs
        Further arguments of the convolutions.

    Raises
    ------
    ValueError
        If `num_layers` is below 1, a probability is not in [0, 1), `norm` or `residual` is unknown, `heads`
        does not divide `hidden_channels`, or "initial" meets a `conv` other than `GCNConv`.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 2,
        *,
        dropout: float = 0.5,
        conv: Callable[..., nn.Module] = GCNConv,
        norm: Norm | None = None,
        residual: Residual | None = None,
        drop_edge: float = 0.0,
        **conv_kwargs: Any,
    ) -> None:
        super().__init__()
        heads = conv_kwargs.get("heads", 1)
        _check_arguments(
            num_layers=num_layers, dropout=dropout, drop_edge=drop_edge, norm=norm, residual=residual
        )
        if hidden_channels % heads:
            msg = f"{heads} heads cannot share {hidden_channels} hidden units evenly; take a multiple."
            raise ValueError(msg)
        if residual == "initial" and conv is not GCNConv:
            msg = "residual='initial' is GCNII, which brings its own convolution; leave conv as it is."
            raise ValueError(msg)
        self.dropout, self.drop_edge, self.residual = dropout, drop_edge, residual
        self.multiplies = conv is GCNConv and conv_kwargs.keys() <= MATRIX_ARGUMENTS
        self._adjacency, self._features = Memo(), Memo()
        num_hidden = num_layers if residual in {"initial", "jumping"} else num_layers - 1
        self.first = self.head = None
        convs: list[nn.Module]
        if residual == "initial":
            self.first = nn.Linear(in_channels, hidden_channels)
            settings = {"alpha": 0.1, "theta": 0.5} | conv_kwargs
            convs = [MatrixGCN2Conv(hidden_channels, layer=i + 1, **settings) for i in range(num_layers)]
        else:
            make = MatrixGCNConv if self.multiplies else conv
            widths = [in_channels] + [hidden_channels] * num_hidden
            convs = [make(width, hidden_channels // heads, **conv_kwargs) for width in widths[:num_hidden]]
            if num_hidden < num_layers:
                last = {"concat": False} if "heads" in conv_kwargs else {}
                convs.append(make(widths[-1], out_channels, **conv_kwargs | last))
        if num_hidden == num_layers:
            num_heard = num_layers if residual == "jumping" else 1
            self.head = nn.Linear(num_heard * hidden_channels, out_channels)
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(NORMS[norm](hidden_channels) for _ in range(num_hidden))

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        *,
        return_hidden: bool = False,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Compute a logit for each node and class.

        Parameters
        ----------
        x
            Features (N, in_channels), dense or sparse CSR. The latter are much faster; dropout then draws for
            the values that are stored, which has the same effect, since zeros stay zeros.
        edge_index
            Edges from source to target, int64 (2, E).
        edge_weight
            Weights (E,), for a convolution that takes them.
        return_hidden
            Whether to return what each layer put out as well.

        Returns
        -------
        Tensor or tuple
            The logits (N, out_channels), and if asked for a list of `num_layers` tensors (N, channels). Its last
            entry is the logits, unless the network ends in a linear layer ("initial", "jumping").
        """
        graph = self._prepare_graph(edge_index, edge_weight, x.size(0))
        h = self._prepare_features(x, sparse=isinstance(graph[0], CsrMatrix))
        extra: tuple[Tensor, ...] = ()
        if self.first is not None:
            start = (h @ self.first.weight.t() + self.first.bias).relu()
            h, extra = self._drop(start), (start,)
        hidden: list[Tensor] = []
        for i, conv in enumerate(self.convs):
            if hidden:
                h = self._drop(hidden[-1])
            h = conv(h, *extra, *graph)
            if i < len(self.norms):
                h = self.norms[i](h).relu()
                if self.residual == "residual" and hidden:
                    h = h + hidden[-1]
            hidden.append(h)
        if self.head is not None:
            h = self.head(self._drop(torch.cat(hidden, dim=1) if self.residual == "jumping" else h))
        return (h, hidden) if return_hidden else h

    def _prepare_graph(
        self, edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int
    ) -> tuple[Any, ...]:
        """Give what the convolutions take behind their features: the adjacency, or edges and weights."""
        drops = self.training and self.drop_edge > 0
        if drops:
            kept = torch.rand(edge_index.size(1), device=edge_index.device) >= self.drop_edge
            edge_index = edge_index[:, kept]
            edge_weight = None if edge_weight is None else edge_weight[kept]
        if not self.multiplies or (edge_weight is not None and edge_weight.requires_grad):
            return (edge_index,) if edge_weight is None else (edge_index, edge_weight)
        arguments = (edge_index, edge_weight, num_nodes, next(self.parameters()).dtype)
        # Edges drawn for one pass would only push out those of the whole graph.
        return (self._normalize(*arguments) if drops else self._adjacency(self._normalize, *arguments),)

    def _normalize(
        self, edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int, dtype: torch.dtype
    ) -> CsrMatrix:
        conv = self.convs[0]
        if conv.normalize:
            improved = getattr(conv, "improved", False)
            edge_index, edge_weight = gcn_norm(
                edge_index, edge_weight, num_nodes, improved, conv.add_self_loops, dtype=dtype
            )
        elif edge_weight is None:
            edge_weight = torch.ones(edge_index.size(1), dtype=dtype, device=edge_index.device)
        return CsrMatrix.from_edges(edge_index, edge_weight, num_nodes)

    def _prepare_features(self, x: Tensor, *, sparse: bool) -> Any:
        """Apply dropout to the features and make them dense, unless the first layer takes them sparse."""
        if x.layout != torch.sparse_csr:
            return self._drop(x)
        if x.requires_grad:
            return self._drop(x.to_dense())
        features: CsrMatrix = self._features(CsrMatrix.from_tensor, x)
        if self.training and self.dropout:
            features = features.with_values(self._drop(features.matrix.values()))
        return features if sparse else features.matrix.to_dense()

    def _drop(self, h: Tensor) -> Tensor:
        """Apply dropout, four times as fast on a CPU as PyTorch's, which draws its numbers one by one."""
        if not self.training or not self.dropout:
            return h
        return h.mul(torch.rand_like(h).ge_(self.dropout).div_(1 - self.dropout))


def normalize_rows(x: Tensor) -> Tensor:
    """Divide each row of non-negative features by its sum; a row of zeros stays one.

    Kipf & Welling (arXiv:1609.02907, section 5.2) prepare the words of a paper so.

    Parameters
    ----------
    x
        Features (N, F), dense or sparse CSR.

    Returns
    -------
    Tensor
        The same shape and layout.
    """
    if x.layout != torch.sparse_csr:
        return x / x.sum(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    features = CsrMatrix.from_tensor(x)
    rowptr, values = x.crow_indices(), x.values()
    row = torch.repeat_interleave(rowptr.diff())
    total = features @ torch.ones(x.size(1), 1, dtype=x.dtype, device=x.device)
    return features.with_values(values / total[row, 0]).matrix


def _check_arguments(
    *, num_layers: int, dropout: float, drop_edge: float, norm: str | None, residual: str | None
) -> None:
    if num_layers < 1:
        msg = f"num_layers must be 1 or more, got {num_layers}."
        raise ValueError(msg)
    for name, probability in (("dropout", dropout), ("drop_edge", drop_edge)):
        if not 0 <= probability < 1:
            msg = f"{name} is a probability and must be in [0, 1), got {probability}."
            raise ValueError(msg)
    for name, choice, known in (("norm", norm, get_args(Norm)), ("residual", residual, get_args(Residual))):
        if choice is not None and choice not in known:
            msg = f"{name}={choice!r} is unknown; take None, {', '.join(map(repr, known))}."
            raise ValueError(msg)
