"""Each measure of smoothness equals its definition, written out node by node, and has the limits it promises."""

import math

import pytest
import torch
from torch.nn.functional import cosine_similarity

from course_utils.smoothness import between_node_share, dirichlet_energy, mean_cosine_distance

# A triangle with a tail: degrees 2, 2, 3, 2, 1.
LINKS = [(0, 1), (1, 2), (0, 2), (2, 3), (3, 4)]
EDGE_INDEX = torch.tensor(LINKS + [(b, a) for a, b in LINKS]).t()
DEGREE = torch.tensor([2.0, 2, 3, 2, 1])


@pytest.fixture
def signal():
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(0)) + 0.5


@pytest.mark.parametrize("normalization", ["sym", None])
def test_dirichlet_energy_is_the_sum_over_links(signal, normalization):
    scale = (1 + DEGREE).sqrt() if normalization else torch.ones(5)
    expected = sum(float((signal[a] / scale[a] - signal[b] / scale[b]).square().sum()) for a, b in LINKS)
    assert dirichlet_energy(signal, EDGE_INDEX, normalization=normalization) == pytest.approx(expected)


def test_dirichlet_energy_is_the_trace_with_the_laplacian_of_gcn(signal):
    adjacency = torch.eye(5)
    adjacency[EDGE_INDEX[0], EDGE_INDEX[1]] = 1
    scale = (1 + DEGREE).rsqrt()
    laplacian = torch.eye(5) - scale[:, None] * adjacency * scale
    expected = float(torch.trace(signal.t() @ laplacian @ signal))
    assert dirichlet_energy(signal, EDGE_INDEX) == pytest.approx(expected)


def test_energy_of_a_wide_signal_is_that_of_its_columns():
    wide = torch.randn(5, 150, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    by_column = sum(dirichlet_energy(column, EDGE_INDEX) for column in wide.split(1, dim=1))
    assert dirichlet_energy(wide, EDGE_INDEX) == pytest.approx(by_column)


def test_a_wide_signal_is_measured_as_a_whole():
    wide = torch.randn(5, 150, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = torch.combinations(torch.arange(5)).t()
    assert mean_cosine_distance(wide) == pytest.approx(
        1 - float(cosine_similarity(*wide[pairs], dim=1).mean())
    )
    share = float((wide - wide.mean(dim=0)).square().sum() / wide.square().sum())
    assert between_node_share(wide) == pytest.approx(share)


def test_self_loops_change_no_energy(signal):
    loops = torch.arange(5).expand(2, 5)
    with_loops = torch.cat([EDGE_INDEX, loops], dim=1)
    assert dirichlet_energy(signal, with_loops) == dirichlet_energy(signal, EDGE_INDEX)


def test_mean_cosine_distance_is_the_average_over_pairs(signal):
    distances = [
        1 - float(cosine_similarity(signal[i], signal[j], dim=0)) for i in range(5) for j in range(i)
    ]
    assert mean_cosine_distance(signal) == pytest.approx(sum(distances) / len(distances))


def test_between_node_share_is_variance_over_square(signal):
    values = signal.tolist()
    means = [sum(column) / 5 for column in zip(*values, strict=True)]
    differing = sum((v - m) ** 2 for row in values for v, m in zip(row, means, strict=True))
    whole = sum(v**2 for row in values for v in row)
    assert between_node_share(signal) == pytest.approx(differing / whole)


def test_equal_rows_are_perfectly_smooth():
    h = torch.tensor([3.0, -1.0, 0.1]).expand(5, 3)
    assert dirichlet_energy(h, EDGE_INDEX, normalization=None) == 0
    assert mean_cosine_distance(h) == pytest.approx(0, abs=1e-15)
    assert between_node_share(h) == pytest.approx(0, abs=1e-15)


def test_what_gcn_smooths_to_has_no_energy():
    h = (1 + DEGREE.double()).sqrt()[:, None] * torch.tensor([2.0, -1.0])
    assert dirichlet_energy(h, EDGE_INDEX) == pytest.approx(0, abs=1e-15)
    assert mean_cosine_distance(h) == pytest.approx(0, abs=1e-15)  # one direction, five lengths
    assert between_node_share(h) > 0.01


def test_opposite_rows_differ_fully():
    h = torch.tensor([[1.0, 0], [-1, 0]])
    assert mean_cosine_distance(h) == pytest.approx(2)
    assert between_node_share(h) == 1


@pytest.mark.parametrize("scale", [1e-30, 1e15])
def test_shares_and_directions_do_not_depend_on_the_size_of_the_signal(signal, scale):
    assert mean_cosine_distance(scale * signal) == pytest.approx(mean_cosine_distance(signal))
    assert between_node_share(scale * signal) == pytest.approx(between_node_share(signal))
    share = dirichlet_energy(scale * signal, EDGE_INDEX) / scale**2
    assert share == pytest.approx(dirichlet_energy(signal, EDGE_INDEX))


def test_rows_of_zeros_have_no_direction(signal):
    padded = torch.cat([signal, torch.zeros(3, 4)])
    assert mean_cosine_distance(padded) == pytest.approx(mean_cosine_distance(signal))


def test_a_dead_signal_has_no_share_and_no_direction():
    dead = torch.zeros(5, 4)
    assert dirichlet_energy(dead, EDGE_INDEX) == 0
    assert math.isnan(mean_cosine_distance(dead))
    assert math.isnan(between_node_share(dead))


def test_unknown_normalization(signal):
    with pytest.raises(ValueError, match="normalization='rw' is unknown; take 'sym' or None"):
        dirichlet_energy(signal, EDGE_INDEX, normalization="rw")
