"""The Poincare ball against closed forms, and three ways to keep a learned curvature in its bounds."""

import math

import pytest
import torch
from torch_geometric.nn import GCNConv
from torch_geometric.utils import erdos_renyi_graph

from course_utils.hyperbolic import HyperbolicGraphConv, distance, expmap0, logmap0, mobius_add

CURVATURES = [0.1, 1.0, 7.0]
MODES = ["clamp", "softplus", "project"]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def draw(generator, *shape, scale=1.0):
    return scale * torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.fixture
def graph():
    torch.manual_seed(1)
    return torch.randn(12, 5, dtype=torch.float64), erdos_renyi_graph(12, 0.3)


def make(**kwargs):
    torch.manual_seed(2)
    conv = HyperbolicGraphConv(5, 3, **kwargs).double()
    torch.nn.init.normal_(conv.bias)
    return conv


def to_complex(points):
    return torch.view_as_complex(points.contiguous())


@pytest.mark.parametrize("c", CURVATURES)
def test_log_and_exp_undo_each_other(generator, c):
    v = draw(generator, 50, 3) / c**0.5
    points = expmap0(v, c)
    assert (points.norm(dim=-1) < c**-0.5).all()
    torch.testing.assert_close(logmap0(points, c), v)
    torch.testing.assert_close(expmap0(logmap0(points, c), c), points)


@pytest.mark.parametrize("c", CURVATURES)
def test_walking_from_the_origin_covers_twice_the_length(generator, c):
    v = draw(generator, 50, 3) / c**0.5
    torch.testing.assert_close(distance(torch.zeros_like(v), expmap0(v, c), c), 2 * v.norm(dim=-1))


@pytest.mark.parametrize("c", CURVATURES)
def test_distance_agrees_with_the_addition_of_the_ball(generator, c):
    x, y = (expmap0(draw(generator, 50, 3) / c**0.5, c) for _ in range(2))
    by_addition = 2 / c**0.5 * (c**0.5 * mobius_add(-x, y, c).norm(dim=-1)).atanh()
    torch.testing.assert_close(distance(x, y, c), by_addition)
    torch.testing.assert_close(distance(y, x, c), by_addition)


def test_distance_agrees_with_the_half_plane(generator):
    """The Cayley transform takes the disc to the half-plane, where the distance has another closed form."""
    x, y = (expmap0(draw(generator, 50, 2), 1.0) for _ in range(2))
    u, w = (1j * (1 + to_complex(points)) / (1 - to_complex(points)) for points in (x, y))
    half_plane = (1 + (u - w).abs().square() / (2 * u.imag * w.imag)).acosh()
    torch.testing.assert_close(distance(x, y, 1.0), half_plane)


def test_addition_is_the_complex_one_in_the_disc(generator):
    x, y = (expmap0(draw(generator, 50, 2), 1.0) for _ in range(2))
    a, b = to_complex(x), to_complex(y)
    torch.testing.assert_close(to_complex(mobius_add(x, y, 1.0)), (a + b) / (1 + a.conj() * b))


@pytest.mark.parametrize("c", CURVATURES)
def test_addition_has_a_zero_an_inverse_and_moves_without_stretching(generator, c):
    x, y, z = (expmap0(draw(generator, 50, 3) / c**0.5, c) for _ in range(3))
    zero = torch.zeros_like(x)
    torch.testing.assert_close(mobius_add(zero, x, c), x)
    torch.testing.assert_close(mobius_add(-x, mobius_add(x, y, c), c), y)  # left cancellation
    moved = distance(mobius_add(z, x, c), mobius_add(z, y, c), c)
    torch.testing.assert_close(moved, distance(x, y, c))
    assert not torch.allclose(mobius_add(x, y, c), mobius_add(y, x, c))


def test_without_curvature_the_ball_is_flat(generator):
    x, y = draw(generator, 50, 3), draw(generator, 50, 3)
    c = 1e-12
    torch.testing.assert_close(expmap0(x, c), x)
    torch.testing.assert_close(logmap0(x, c), x)
    torch.testing.assert_close(mobius_add(x, y, c), x + y)
    torch.testing.assert_close(distance(x, y, c), 2 * (x - y).norm(dim=-1))


def test_derivatives_also_with_respect_to_the_curvature(generator):
    v, w = (draw(generator, 6, 2).requires_grad_() for _ in range(2))
    c = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(expmap0, (v, c))
    assert torch.autograd.gradcheck(lambda v, w, c: distance(expmap0(v, c), expmap0(w, c), c), (v, w, c))
    assert torch.autograd.gradcheck(lambda v, c: logmap0(expmap0(v, c), c), (v, c))
    assert torch.autograd.gradcheck(lambda v, w, c: mobius_add(expmap0(v, c), expmap0(w, c), c), (v, w, c))


def test_at_the_origin_and_for_equal_points_gradients_are_finite():
    v = torch.zeros(3, 2, requires_grad=True)
    c = torch.tensor(2.0, requires_grad=True)
    points = expmap0(v, c)
    total = logmap0(points, c).sum() + distance(points, points, c).sum() + mobius_add(points, points, c).sum()
    grad_v, grad_c = torch.autograd.grad(total, (v, c))
    torch.testing.assert_close(grad_v, torch.full((3, 2), 3.0))  # 1 from the logarithm, 2 from the sum
    assert grad_c.item() == 0


@pytest.mark.parametrize("c", CURVATURES)
def test_single_precision_stays_finite_at_the_edge(c):
    v = torch.tensor([[8.0, 0.0], [20.0, -20.0], [1e10, 0.0], [-1e10, 0.0]], requires_grad=True)
    points = expmap0(v, c)
    assert (c**0.5 * points.norm(dim=-1) < 1).all()
    apart = distance(points[:, None], points[None], c)
    sums = mobius_add(points[:, None], points[None], c)
    assert apart.isfinite().all()
    assert (c**0.5 * sums.norm(dim=-1) < 1).all()
    total = apart.sum() + logmap0(points, c).sum() + logmap0(sums, c).sum()
    assert torch.autograd.grad(total, v)[0].isfinite().all()


def test_single_precision_holds_points_up_to_twelve_from_the_origin():
    far = distance(torch.zeros(2), expmap0(torch.tensor([1e6, 0.0]), 1.0), 1.0)
    assert far.item() == pytest.approx(12.0, abs=0.1)


def test_a_flat_layer_is_gcn_conv(graph):
    conv = make(c=1e-12, c_min=1e-13, curvature="project")
    twin = GCNConv(5, 3).double()
    twin.lin.weight.data, twin.bias.data = conv.weight.data.T, torch.zeros(3)
    shift = GCNConv(3, 3, bias=False).double()
    torch.nn.init.eye_(shift.lin.weight)
    x, edge_index = graph
    # Here the bias is added before the neighbours are summed up.
    wanted = twin(x, edge_index) + shift(conv.bias.expand(12, 3), edge_index)
    torch.testing.assert_close(conv(x, edge_index), wanted)


def test_the_layer_is_its_formula_node_by_node(graph):
    x, edge_index = graph
    conv = make(c=0.8)
    c = conv.c
    adjacency = torch.eye(12, dtype=torch.float64)
    adjacency[edge_index[1], edge_index[0]] = 1
    scale = adjacency.sum(dim=1).rsqrt()
    for node, point in enumerate(conv(x, edge_index)):
        total = torch.zeros(3, dtype=torch.float64)
        for other in adjacency[node].nonzero().flatten():
            shifted = mobius_add(expmap0(x[other] @ conv.weight, c), expmap0(conv.bias, c), c)
            total += scale[node] * scale[other] * logmap0(shifted, c)
        torch.testing.assert_close(point, expmap0(total, c))


@pytest.mark.parametrize("mode", MODES)
def test_gradients_reach_weights_bias_and_curvature(graph, mode):
    conv = make(curvature=mode, c=0.8)
    x, edge_index = graph
    assert conv.c.item() == pytest.approx(0.8)
    points = conv(x, edge_index)
    distance(points[:, None], points[None], conv.c).square().mean().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in conv.parameters())


def gradient_of_raw_c(mode, start, **bounds):
    conv = make(curvature=mode, c=1.0, **bounds)
    conv.raw_c.data.fill_(start)
    return torch.autograd.grad(conv.c, conv.raw_c)[0].item()


@pytest.mark.parametrize("raw_c", [0.49, 2.01])
def test_clamp_gives_exactly_no_gradient_outside(raw_c):
    assert gradient_of_raw_c("clamp", raw_c, c_min=0.5, c_max=2.0) == 0.0


@pytest.mark.parametrize("raw_c", [0.5, 1.3, 2.0])
def test_clamp_blocks_nothing_inside_and_on_the_bounds(raw_c):
    assert gradient_of_raw_c("clamp", raw_c, c_min=0.5, c_max=2.0) == 1.0


def test_softplus_fades_far_out_and_never_leaves_its_floor():
    assert gradient_of_raw_c("softplus", -20.0) == pytest.approx(2.06e-9, rel=0.01)
    conv = make(curvature="softplus", c_min=0.3, c_max=2.0)
    conv.raw_c.data.fill_(-1000.0)
    assert conv.c.item() == pytest.approx(0.3)


@pytest.mark.parametrize("c", [0.011, 1.0, 9.0, 500.0])
def test_softplus_starts_where_it_is_told(c):
    assert HyperbolicGraphConv(2, 2, curvature="softplus", c=c).c.item() == pytest.approx(c, rel=1e-4)


def test_project_puts_c_back_after_the_step_and_it_goes_on_learning():
    conv = make(curvature="project", c=1.0, c_min=0.5, c_max=2.0)
    optimizer = torch.optim.SGD([conv.raw_c], lr=1.0)
    optimizer.register_step_post_hook(conv.project)
    seen = []
    for slope in (-5.0, -5.0, 0.25, 0.25):  # Twice up, far beyond the bound, then down.
        optimizer.zero_grad()
        (slope * conv.c).backward()
        optimizer.step()
        seen.append(conv.c.item())
    assert seen == [2.0, 2.0, 1.75, 1.5]
    assert conv.raw_c.is_leaf


@pytest.mark.parametrize("mode", MODES)
def test_the_graph_may_change_between_calls(graph, mode):
    x, edge_index = graph
    conv = make(curvature=mode)
    first = conv(x, edge_index)
    assert not torch.allclose(conv(x, edge_index[:, :-4]), first)
    torch.testing.assert_close(conv(x, edge_index), first)


def test_the_printed_layer_tells_shapes_and_curvature():
    assert str(make(curvature="clamp", c=2.0)) == "HyperbolicGraphConv(5, 3, curvature='clamp', c=2)"


def test_an_unknown_curvature_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="curvature='abs' is unknown; take 'clamp', 'softplus', 'project'"):
        make(curvature="abs")


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (math.nan, 1.0)])
def test_impossible_bounds_are_refused(bounds):
    with pytest.raises(ValueError, match="The bounds must be 0 < c_min < c_max"):
        make(c_min=bounds[0], c_max=bounds[1])


@pytest.mark.parametrize(("mode", "c"), [("softplus", 0.01), ("softplus", 0.0), ("project", 11.0)])
def test_a_start_that_cannot_be_reached_is_refused(mode, c):
    with pytest.raises(ValueError, match="cannot be reached"):
        make(curvature=mode, c=c)


def test_clamp_may_start_outside():
    conv = make(curvature="clamp", c=50.0)
    assert (conv.c.item(), conv.raw_c.item()) == (10.0, 50.0)
