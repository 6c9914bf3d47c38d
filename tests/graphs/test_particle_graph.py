"""What is asked of particles through a graph is what is asked of them without it, in chunks of any size."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pplvm.graphs import particle_graph as where
from pplvm.graphs.break_even import LOOKED, BreakEven
from pplvm.graphs.noise import Draw
from pplvm.graphs.particle_graph import particle_graph
from pplvm.graphs.tracing import NotOneGraph

X = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(3, 5)
K = 40


class Coder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(5, 4), nn.Linear(2, 64)

    def forward(self, num_particles, row):
        loc, scale = self.encoder(row).chunk(2, -1)
        z = loc + scale.exp() * torch.randn(num_particles, 1, 2)
        b = torch.bernoulli(z.sigmoid())
        return [self.decoder(z - b).exp().sum(-1) + z[..., 0], z]


@pytest.fixture(autouse=True)
def without_gradient():
    with torch.no_grad():
        yield


def cut(monkeypatch, chunk):
    """Make it run in chunks of about so many particles: the decoder's output takes 512 bytes each."""
    monkeypatch.setitem(where.BYTES, "cpu", 512 * chunk)


def at_seed(ask):
    torch.manual_seed(3)
    return ask()


@pytest.mark.parametrize("chunk, used", [(K, K), (20, 20), (17, 14), (7, 7), (1, 2)])
def test_equal_to_what_it_was_traced_from_whatever_the_chunk(monkeypatch, chunk, used):
    cut(monkeypatch, chunk)
    coder = Coder()
    graph = particle_graph(coder, K, coder, X)
    assert graph.chunk == used
    for row in X.split(1):
        expected = at_seed(lambda row=row: coder(K, row))
        found = at_seed(lambda row=row: graph(row, graph.known(row)))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    coder.decoder.bias.copy_(torch.randn(64))  # read anew
    row = X[:1]
    torch.testing.assert_close(at_seed(lambda: graph(row, graph.known(row))), at_seed(lambda: coder(K, row)))


def test_the_random_state_moves_as_without_it():
    coder, row = Coder(), X[:1]
    state = torch.get_rng_state()
    graph = particle_graph(coder, K, coder, X)
    assert torch.equal(torch.get_rng_state(), state)
    asks = (lambda: graph(row, graph.known(row)), lambda: coder(K, row))
    after = [at_seed(lambda ask=ask: (ask(), torch.rand(2))[1]) for ask in asks]
    assert torch.equal(*after)


@pytest.mark.parametrize("chunk", [K, 7])
def test_noise_taken_for_a_constant_is_seen(monkeypatch, chunk):
    cut(monkeypatch, chunk)
    coder = Coder()
    draw = Draw.__call__
    kept = {}
    monkeypatch.setattr(Draw, "__call__", lambda self: kept.setdefault(self, draw(self)))
    with pytest.raises(NotOneGraph, match="the graph differs"):
        particle_graph(coder, K, coder, X)


def test_noise_that_particles_share_is_not_cut(monkeypatch):
    cut(monkeypatch, 7)

    def shared(num_particles, row):
        return [(torch.randn(num_particles, 64) * torch.randn(7, 64).sum(0) * row[0, 0]).sum(-1)]

    graph = particle_graph(shared, K, nn.Module(), X)
    assert graph.chunk == K
    assert torch.equal(at_seed(lambda: graph(X[:1], graph.known(X[:1])))[0], at_seed(lambda: shared(K, X[:1]))[0])


class Counted(nn.Module):
    calls = 0

    def forward(self, num_particles, row):
        self.calls += 1
        return [torch.randn(num_particles) * self.calls]


def kept_from_the_first(num_particles, row, first=[]):  # noqa: B006
    first.append(row)
    return [torch.randn(num_particles) + first[0].sum()]


def test_what_is_not_one_graph_is_refused():
    def gamma(num_particles, row):
        return [torch._standard_gamma(row.exp().sum().expand(num_particles))]

    with pytest.raises(NotOneGraph, match="draws within the graph"):
        particle_graph(gamma, K, nn.Module(), X)
    with pytest.raises(NotOneGraph, match="the graph differs"):
        particle_graph(kept_from_the_first, K, nn.Module(), X)
    counted = Counted()
    with pytest.raises(NotOneGraph):
        particle_graph(counted, K, counted, X)
    with pytest.raises(NotOneGraph, match="Python decides"):
        particle_graph(lambda k, row: [torch.randn(k) * (1 if row.sum() > 0 else 2)], K, nn.Module(), X)


class Widest(TorchDispatchMode):
    """The bytes of the largest tensor that any operation gives, and how many addmm there were."""

    bytes, multiplied = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.multiplied += func is torch.ops.aten.addmm.default
        for each in found if isinstance(found, list | tuple) else [found]:
            if isinstance(each, torch.Tensor):
                self.bytes = max(self.bytes, each.untyped_storage().nbytes())
        return found


def test_no_tensor_is_larger_than_a_chunk(monkeypatch):
    cut(monkeypatch, 10)
    coder, row = Coder(), X[:1]
    widest = {}
    for num_particles in (10, K):
        graph = particle_graph(coder, num_particles, coder, X)
        with Widest() as seen:
            graph(row, graph.known(row))
        widest[num_particles] = seen
    assert widest[K].bytes == widest[10].bytes == 10 * 512
    assert (widest[10].multiplied, widest[K].multiplied) == (2, 1 + K // 10)  # the encoder once
    with Widest() as seen:
        coder(K, row)
    assert seen.bytes == K * 512


def test_it_is_compiled_once_where_that_pays(monkeypatch):
    coder, row = Coder(), X[:1]
    compiled = []

    def inductor(graph, inputs):
        compiled.append(graph)
        raise RuntimeError("no compiler")

    monkeypatch.setattr(where, "inductor", inductor)
    graph = particle_graph(coder, K, coder, X)
    expected = at_seed(lambda: graph(row, graph.known(row)))
    for seconds in (1e-6, 1.0):
        graph.pace = BreakEven(LOOKED, LOOKED * seconds)
        for _ in range(3):
            graph.compile_if_it_pays(1000, row)
        assert len(compiled) == (seconds == 1.0)
    for a, b in zip(at_seed(lambda: graph(row, graph.known(row))), expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_the_compiled_graph_gives_the_same():
    coder, row = Coder(), X[:1]
    graph = particle_graph(coder, K, coder, X)
    expected, replayed = at_seed(lambda: coder(K, row)), graph._after
    graph.pace = BreakEven(LOOKED, 20.0 * LOOKED)
    graph.compile_if_it_pays(1000, row)
    assert graph._after is not replayed
    for a, b in zip(at_seed(lambda: graph(row, graph.known(row))), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
