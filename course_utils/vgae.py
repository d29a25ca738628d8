"""A variational graph autoencoder, with the ways to make a variance that make it break or keep it whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from course_utils.gcn import GCN

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["VGAE", "Posterior"]

Variance = Literal["log_variance", "log_std", "softplus", "relu"]

FLOOR = 1e-6  # of a variance by softplus, so that its logarithm stays above -14
EPS = 1e-15  # in the logarithm of a probability, as PyTorch Geometric's autoencoders have it


class Posterior(NamedTuple):
    """Where each node may lie in the latent space: a normal distribution with independent coordinates."""

    mu: Tensor  # (N, d) means
    std: Tensor  # (N, d) standard deviations
    logvar: Tensor  # (N, d) logarithms of the variances

    def kl(self) -> Tensor:
        """Give the divergence from the standard normal distribution: summed over d, averaged over N.

        Kingma & Welling 2014, arXiv:1312.6114, appendix B, term by term as it is written there. It overflows
        where a variance does: in float32 above a log variance of 88.7.
        """
        terms = 1 + self.logvar - self.mu.square() - self.std.square()
        return -0.5 * terms.sum(dim=1).mean()


class VGAE(nn.Module):
    """Variational graph autoencoder: two graph convolutions encode nodes, inner products decode links.

    Kipf & Welling 2016, arXiv:1611.07308. Their two heads, for the mean and for the variance, are the two halves
    of the second convolution here: the same numbers from one product. Sparse features are fast (`gcn.GCN`).

    Parameters
    ----------
    in_channels, hidden_channels, latent_channels
        Number of features, of hidden units, and of latent coordinates d.
    variance
        What the second head's output s stands for. "log_variance": exp(s) is the variance. "log_std": exp(s) is
        the standard deviation, as in the authors' code. "softplus": log(1 + exp(s)) + 1e-6 is the variance.
        "relu": max(s, 0) is the variance, which may be 0. None: there is no second head and no noise, and the
        model is the plain graph autoencoder, GAE.
    clamp
        Keep s in [-clamp, clamp]. PyTorch Geometric clamps the log of the standard deviation from above, at 10.
    from_logits
        Whether the loss of a link is computed from its logit, or as log(probability + 1e-15).
    kl_weight
        Weight of the divergence beside the reconstruction. None: 1/N. The bound that is maximised sums
        log-likelihoods over N^2 pairs and divergences over N nodes; with means in place of both sums, 1/N remains.

    Raises
    ------
    ValueError
        If `variance` is unknown, or `clamp` is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 32,
        latent_channels: int = 16,
        *,
        variance: Variance | None = "log_std",
        clamp: float | None = None,
        from_logits: bool = True,
        kl_weight: float | None = None,
    ) -> None:
        super().__init__()
        if variance is not None and variance not in get_args(Variance):
            known = ", ".join(map(repr, get_args(Variance)))
            msg = f"variance={variance!r} is unknown; take {known}, or None for a plain autoencoder."
            raise ValueError(msg)
        if clamp is not None and not clamp > 0:
            msg = f"clamp must be positive, got {clamp}."
            raise ValueError(msg)
        self.clamp, self.from_logits, self.kl_weight = clamp, from_logits, kl_weight
        self.variational = variance is not None
        width = 2 * latent_channels if self.variational else latent_channels
        self.encoder = GCN(in_channels, hidden_channels, width, dropout=0.0, bias=False)
        self.spread = Spread(variance) if variance else None

    def forward(self, x: Tensor, edge_index: Tensor) -> Posterior:
        """Encode the nodes.

        Parameters
        ----------
        x
            Features (N, in_channels), dense or sparse CSR.
        edge_index
            The links that may be seen, both directions of each, int64 (2, E).

        Returns
        -------
        Posterior
            Means, standard deviations and log variances (N, d); the latter are 0 and 0 for a plain autoencoder.
        """
        out = self.encoder(x, edge_index)
        if self.spread is None:
            zeros = torch.zeros_like(out)
            return Posterior(out, zeros, zeros)
        mu, s = out.chunk(2, dim=1)
        if self.clamp is not None:
            s = s.clamp(-self.clamp, self.clamp)
        return Posterior(mu, *self.spread(s))

    def sample(self, posterior: Posterior) -> Tensor:
        """Draw a latent vector for each node (N, d): mu + std * noise. Without training, give mu."""
        if not (self.training and self.variational):
            return posterior.mu
        return posterior.mu + posterior.std * torch.randn_like(posterior.std)

    def decode(self, z: Tensor, pairs: Tensor) -> Tensor:
        """Give the logit of a link for each pair (2, P) of nodes with latent vectors `z` (N, d)."""
        return (z[pairs[0]] * z[pairs[1]]).sum(dim=1)

    def reconstruction(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Give the mean negative log-likelihood of `labels` (P,), 1 for a link and 0 for none."""
        if self.from_logits:
            return binary_cross_entropy_with_logits(logits, labels)
        probability = logits.sigmoid()
        likelihood = torch.where(labels > 0, probability, 1 - probability)
        return -(likelihood + EPS).log().mean()

    def loss(self, x: Tensor, edge_index: Tensor, links: Tensor) -> Tensor:
        """Reconstruct links and as many random pairs of nodes, and add the divergence.

        Parameters
        ----------
        x, edge_index
            As in `forward`.
        links
            Links (2, L). The authors weigh all links as much as all other pairs; L random pairs from the global
            generator stand for those here.

        Returns
        -------
        Tensor
            The mean reconstruction loss plus `kl_weight` times the mean divergence, a scalar.
        """
        posterior: Posterior = self(x, edge_index)
        z = self.sample(posterior)
        pairs = torch.cat([links, torch.randint(x.size(0), links.shape, device=links.device)], dim=1)
        labels = (torch.arange(pairs.size(1), device=links.device) < links.size(1)).to(z.dtype)
        loss = self.reconstruction(self.decode(z, pairs), labels)
        if not self.variational:
            return loss
        weight = 1 / x.size(0) if self.kl_weight is None else self.kl_weight
        return loss + weight * posterior.kl()


class Spread(nn.Module):
    """Turn the second head's output (N, d) into standard deviations and log variances.

    A module, so that forward hooks see what goes in and what comes out.
    """

    def __init__(self, variance: Variance) -> None:
        super().__init__()
        self.variance = variance

    def forward(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return standard deviations and log variances."""
        return SPREADS[self.variance](s)

    def extra_repr(self) -> str:
        """Name the variance in the printed model."""
        return repr(self.variance)


def _of_variance(variance: Tensor) -> tuple[Tensor, Tensor]:
    return variance.sqrt(), variance.log()


SPREADS: dict[Variance, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    # Not the root of exp(s), whose gradient is infinite where exp(s) is 0.
    "log_variance": lambda s: ((s / 2).exp(), s),
    "log_std": lambda s: (s.exp(), 2 * s),
    "softplus": lambda s: _of_variance(softplus(s) + FLOOR),
    "relu": lambda s: _of_variance(s.relu()),
}
