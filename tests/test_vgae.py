"""VGAE: its divergence is that of the distributions it names, and each variant fails exactly where it is said to."""

import math
import warnings

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.distributions import Independent, Normal, kl_divergence
from torch_geometric.nn import GCNConv, InnerProductDecoder
from torch_geometric.transforms import RandomLinkSplit
from torch_geometric.utils import erdos_renyi_graph

from course_utils.datasets import StandInWarning, load_cora
from course_utils.vgae import VGAE, Posterior, Spread

N, F, H, D = 30, 20, 8, 4
VARIANCES = ["log_variance", "log_std", "softplus", "relu"]


@pytest.fixture
def edge_index():
    torch.manual_seed(1)
    return erdos_renyi_graph(N, 0.15)


@pytest.fixture
def x():
    torch.manual_seed(2)
    return (torch.rand(N, F) < 0.3).float()


def make(**kwargs):
    torch.manual_seed(0)
    return VGAE(F, H, D, **kwargs)


def to_csr(x):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return x.to_sparse_csr()


def of_log_variance(value, mu=0.0, dtype=torch.float32):
    """Make the posterior of one node with one coordinate, and what its log variance is made of."""
    s = torch.tensor([[value]], dtype=dtype, requires_grad=True)
    return Posterior(torch.full_like(s, mu), *Spread("log_variance")(s)), s


@pytest.mark.parametrize("variance", VARIANCES)
def test_divergence_is_that_of_torch_distributions(variance):
    torch.manual_seed(3)
    s = torch.rand(N, D, dtype=torch.float64) * 3 + 0.1
    mu = torch.randn_like(s)
    std, logvar = Spread(variance)(s)
    nodes = Independent(Normal(mu, std), 1)
    standard = Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 1)
    torch.testing.assert_close(Posterior(mu, std, logvar).kl(), kl_divergence(nodes, standard).mean())


def test_each_variance_is_what_its_name_says():
    s = torch.tensor([[-2.0, 0.0, 0.7]], dtype=torch.float64)
    wanted = {
        "log_variance": s.exp().sqrt(),
        "log_std": s.exp(),
        "softplus": ((1 + s.exp()).log() + 1e-6).sqrt(),
        "relu": torch.tensor([[0, 0, 0.7]], dtype=torch.float64).sqrt(),
    }
    for variance, std in wanted.items():
        torch.testing.assert_close(Spread(variance)(s)[0], std)
        torch.testing.assert_close(Spread(variance)(s)[1].exp().sqrt(), std)


def test_a_variance_that_goes_to_zero_is_harmless():
    posterior, s = of_log_variance(-1000.0)
    loss = posterior.kl()
    (gradient,) = torch.autograd.grad(loss, s)
    assert loss.item() == 499.5
    assert gradient.item() == -0.5


@pytest.mark.parametrize(("variance", "last"), [("log_variance", 88.7), ("log_std", 44.3)])
def test_the_divergence_overflows_where_the_square_of_the_deviation_does(variance, last):
    def divergence(value):
        s = torch.tensor([[value]])
        return Posterior(torch.zeros_like(s), *Spread(variance)(s)).kl().item()

    assert math.isfinite(divergence(last))
    assert divergence(last + 0.1) == math.inf  # Not NaN: that comes later.


def test_only_a_variance_that_is_learned_as_such_meets_the_logarithm_of_zero():
    s = torch.full((1, 1), -200.0, requires_grad=True)
    for variance in VARIANCES:
        loss = Posterior(torch.zeros_like(s), *Spread(variance)(s)).kl()
        (gradient,) = torch.autograd.grad(loss, s)
        if variance == "relu":
            assert loss.item() == math.inf
            assert gradient.item() == 0  # The entry cannot come back.
        else:
            assert loss.isfinite()
            assert gradient.isfinite()


def test_one_convolution_of_twice_the_width_is_two_heads(x, edge_index):
    model = make(variance="log_std")
    first, heads = (conv.lin.weight.detach() for conv in model.encoder.convs)
    hidden = GCNConv(F, H, bias=False)
    hidden.lin.weight.data = first
    h = hidden(x, edge_index).relu()
    outputs = []
    for weight in heads.chunk(2):  # One head's weights, then the other's.
        head = GCNConv(H, D, bias=False)
        head.lin.weight.data = weight
        outputs.append(head(h, edge_index))
    posterior = model(x, edge_index)
    torch.testing.assert_close(posterior.mu, outputs[0])
    torch.testing.assert_close(posterior.std, outputs[1].exp())


def test_sparse_features_give_the_same_loss_and_gradients(x, edge_index):
    model = make()
    gradients = []
    for features in (x, to_csr(x)):
        torch.manual_seed(4)
        loss = model.loss(features, edge_index, edge_index[:, edge_index[0] < edge_index[1]])
        gradients.append([loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_clamp_bounds_the_spread_and_stops_its_gradient(x, edge_index):
    model = make(variance="log_variance", clamp=1e-4)
    posterior = model(x, edge_index)
    assert posterior.logvar.abs().max() <= 1e-4
    beyond = posterior.logvar.abs() == posterior.logvar.abs().max()
    (gradient,) = torch.autograd.grad(posterior.logvar[beyond].sum(), model.encoder.convs[1].lin.weight)
    assert not gradient.any()


def test_samples_have_the_mean_and_deviation_of_the_posterior():
    model = make()
    mu, std = torch.tensor([[3.0, -1.0]]), torch.tensor([[0.5, 2.0]])
    posterior = Posterior(mu, std, 2 * std.log())
    torch.manual_seed(5)
    draws = torch.stack([model.sample(posterior) for _ in range(4000)])
    error = 5 / math.sqrt(4000)  # five standard errors
    assert ((draws.mean(dim=0) - mu).abs() < error * std).all()
    assert ((draws.std(dim=0) / std - 1).abs() < error).all()
    assert model.eval().sample(posterior) is mu


def test_decoder_is_the_inner_product():
    torch.manual_seed(6)
    z, pairs = torch.randn(N, D), torch.randint(N, (2, 50))
    torch.testing.assert_close(make().decode(z, pairs).sigmoid(), InnerProductDecoder()(z, pairs))


def test_both_reconstructions_agree_on_moderate_logits():
    torch.manual_seed(7)
    logits, labels = torch.randn(100, dtype=torch.float64) * 3, (torch.rand(100) < 0.5).double()
    losses = [make(from_logits=choice).reconstruction(logits, labels) for choice in (True, False)]
    torch.testing.assert_close(*losses)


def test_a_probability_freezes_where_a_logit_does_not():
    losses, gradients = [], []
    for from_logits in (True, False):
        logit = torch.tensor([-200.0], requires_grad=True)
        loss = make(from_logits=from_logits).reconstruction(logit, torch.ones(1))
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, logit)[0].item())
    assert losses == [200.0, pytest.approx(-math.log(1e-15))]  # 34.54
    assert gradients == [-1.0, 0.0]


@pytest.mark.parametrize("kl_weight", [None, 0.0, 2.0])
def test_loss_is_reconstruction_plus_weighted_divergence(x, edge_index, kl_weight):
    links = edge_index[:, edge_index[0] < edge_index[1]]
    model = make(kl_weight=kl_weight).eval()
    torch.manual_seed(8)
    loss = model.loss(x, edge_index, links)
    torch.manual_seed(8)
    posterior = model(x, edge_index)
    others = torch.randint(N, links.shape)
    logits = torch.cat([model.decode(posterior.mu, pairs) for pairs in (links, others)])
    labels = torch.cat([torch.ones(links.size(1)), torch.zeros(links.size(1))])
    weight = 1 / N if kl_weight is None else kl_weight
    torch.testing.assert_close(loss, model.reconstruction(logits, labels) + weight * posterior.kl())


def test_a_plain_autoencoder_has_no_noise_and_no_divergence(x, edge_index):
    model = make(variance=None, kl_weight=1e6)
    posterior = model(x, edge_index)
    assert model.sample(posterior) is posterior.mu
    assert posterior.mu.shape == (N, D)
    assert model.encoder.convs[1].lin.weight.shape == (D, H)
    assert model.loss(x, edge_index, edge_index).item() < 10


def test_it_finds_hidden_links_of_cora():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StandInWarning)
        data = load_cora()
    torch.manual_seed(0)
    split = RandomLinkSplit(
        num_val=0.05, num_test=0.1, is_undirected=True, split_labels=True, add_negative_train_samples=False
    )
    train, _, test = split(data)
    model = VGAE(data.num_features)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(100):
        optimizer.zero_grad()
        model.loss(data.x, train.edge_index, train.pos_edge_label_index).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        z = model(data.x, train.edge_index).mu
        links, others = (
            model.decode(z, pairs) for pairs in (test.pos_edge_label_index, test.neg_edge_label_index)
        )
    labels = torch.cat([torch.ones_like(links), torch.zeros_like(others)])
    assert roc_auc_score(labels, torch.cat([links, others])) > 0.85


def test_an_unknown_variance_is_named_with_those_there_are():
    with pytest.raises(
        ValueError, match=r"variance='std' is unknown; take 'log_variance', 'log_std', 'softplus'"
    ):
        make(variance="std")


@pytest.mark.parametrize("clamp", [0.0, -1.0, math.nan])
def test_a_clamp_that_leaves_nothing_is_refused(clamp):
    with pytest.raises(ValueError, match="clamp must be positive"):
        make(clamp=clamp)
