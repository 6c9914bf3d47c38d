"""What streams in by chunks, dense or as factors, against the statistics of all replicates at once."""

import operator
from functools import reduce

import pytest
import torch
from torch import nn

from pplvm.estimators.parameters import Parameters
from pplvm.estimators.replicates.chunks import Dense, Factors
from pplvm.estimators.replicates.gradient import Gradient
from pplvm.estimators.statistics import projection as projection_module
from pplvm.estimators.statistics import streams
from pplvm.estimators.statistics.cross_covariance import CrossCovarianceStream
from pplvm.estimators.statistics.projection import Projection
from pplvm.estimators.statistics.streams import GradientStream

SHAPES = [(6, 5), (6,), (3, 2, 2), (), (4, 7)]
PARAMETERS = Parameters(
    tuple("abcde"), tuple(nn.Parameter(torch.zeros(shape)) for shape in SHAPES), ("model",) * 3 + ("guide",) * 2
)
N, TOLERANCE = 60, {torch.float32: 1e-5, torch.float64: 1e-12}


def drawn(dtype, noise=1.0, rows=2):
    """N replicates of each tensor: matrices by their factors, whose mean is not zero; one without a gradient."""
    found = []
    for shape in SHAPES:
        if len(shape) == 2:
            left, right = (1 + noise * torch.randn(N, rows, n, dtype=dtype) for n in shape)
            found.append(Factors(left, right))
        else:
            found.append(None if shape == () else Dense(1 + noise * torch.randn(N, *shape, dtype=dtype)))
    return found


def cut(chunk, part, factors):
    if isinstance(chunk, Factors):
        chunk = Factors(chunk.left[part], chunk.right[part])
        return chunk if factors else chunk.dense()
    return chunk and Dense(chunk.values[part])


def pieces(gradient, size, factors, numbers=range(N)):
    for start in range(numbers.start, numbers.stop, size):
        part = slice(start, min(start + size, numbers.stop))
        yield Gradient.of([cut(chunk, part, factors) for chunk in gradient], PARAMETERS)


def plain(gradient):
    """(N, P) in float64."""
    parts = [torch.zeros(N, 1) if chunk is None else chunk.dense().flat.double() for chunk in gradient]
    return torch.cat(parts, 1)


def streamed(gradients, size, factors, centre, numbers=range(N)):
    """Streams of several estimators after `numbers`, their crossing, and each replicate's figures."""
    projection = Projection(PARAMETERS, 3, 0).towards(centre)
    found = [GradientStream(centre, projection) for _ in gradients]
    crossing, figures = CrossCovarianceStream(found), [[] for _ in gradients]
    for chunks in zip(*[pieces(g, size, f, numbers) for g, f in zip(gradients, factors, strict=True)], strict=True):
        news = [stream.add(chunk) for stream, chunk in zip(found, chunks, strict=True)]
        crossing.add([new.seen for new in news])
        for mine, new in zip(figures, news, strict=True):
            mine.append(new)
    return found, crossing, figures, projection


def gap(found, right):
    return float((found - right).abs().max() / right.abs().max())


def worst(gradients, size, factors, centre):
    """The largest relative gap between what streams say and what all replicates at once do."""
    found, crossing, figures, projection = streamed(gradients, size, factors, centre)
    gaps, centred = {}, []
    for e, gradient in enumerate(gradients):
        whole, moments = plain(gradient), found[e].moments()
        sizes = [p.numel() for p in PARAMETERS.tensors]
        centred.append(whole - whole.mean(0))
        gaps["mean", e] = gap(moments.mean, (whole - centre).mean(0))
        gaps["variance", e] = gap(moments.variance, torch.stack([v.sum() for v in whole.var(0).split(sizes)]))
        gaps["distances", e] = gap(torch.cat([f.distances for f in figures[e]]), (whole - centre).square().sum(1))
        along = torch.stack([part.sum(1) for part in (whole * centre).split(sizes, 1)], 1)
        gaps["along", e] = gap(torch.cat([f.along for f in figures[e]]), along)
        projected = torch.stack([projection(row) for row in (whole - centre)[::9]])
        gaps["projections", e] = gap(torch.cat([f.projections for f in figures[e]])[::9], projected)
    traces = torch.stack([torch.stack([(a * b).sum() / (N - 1) for b in centred]) for a in centred])
    gaps["traces"] = gap(crossing.moments().traces, traces)
    return max(gaps.values())


@pytest.mark.parametrize("factors", [(False, False), (True, True), (True, False)])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_chunks_of_any_size_give_what_all_replicates_do(dtype, factors):
    gradients = [drawn(dtype), drawn(dtype, rows=3)]
    centre = 2 + torch.randn(PARAMETERS.size)
    for size in (1, 7, 50):
        assert worst(gradients, size, factors, centre) < TOLERANCE[dtype], size
    assert worst(gradients, 7, factors, torch.zeros(PARAMETERS.size)) < TOLERANCE[dtype]


def test_a_wrong_gram_formula_is_seen(monkeypatch):
    def of_rows_alone(self, other):  # as if the rows of a replicate were orthogonal
        return (self.left.square().sum(2) * self.right.square().sum(2)).sum(1)

    monkeypatch.setattr(Factors, "squares", lambda self: of_rows_alone(self, self))
    assert worst([drawn(torch.float64)], 7, (True,), torch.zeros(PARAMETERS.size)) > 0.01


def test_a_quiet_estimator_keeps_its_digits(monkeypatch):
    """Of a noise of 1e-5 in float32, the difference of two squares would leave nothing."""
    gradients, centre = [drawn(torch.float32, noise=1e-5)], torch.zeros(PARAMETERS.size)
    right = plain(gradients[0]).var(0).sum()

    def relative_error():
        return abs(float(streamed(gradients, 20, (True,), centre)[0][0].moments().variance.sum() / right) - 1)

    assert relative_error() < 2e-3  # of products rounded in float32, each once
    monkeypatch.setattr(streams, "NOISY", -1.0)
    assert relative_error() > 0.1


def test_factors_that_vary_are_never_multiplied(monkeypatch):
    def refuse(self):
        raise AssertionError("multiplied")

    monkeypatch.setattr(Factors, "dense", refuse)
    gradients = [drawn(torch.float64), drawn(torch.float64)]
    found, crossing, _, _ = streamed(gradients, 10, (True, True), torch.zeros(PARAMETERS.size))
    assert found[0].count == N and crossing.moments().traces.isfinite().all()


@pytest.mark.parametrize("size", [1, 7])
def test_what_never_varies_has_variance_zero(size):
    constant = [chunk and Dense(chunk.dense().values[:1].expand(N, *shape) / 3) for chunk, shape in zip(
        drawn(torch.float32), SHAPES, strict=True
    )]  # fmt: skip
    found, crossing, _, _ = streamed([constant, drawn(torch.float32)], size, (False, True), torch.ones(PARAMETERS.size))
    assert float(found[0].moments().variance.sum()) == 0
    traces = crossing.moments().traces
    assert float(traces[0, 0]) == float(traces[0, 1]) == 0 and float(traces[1, 1]) > 0


def test_streams_of_parts_add_up():
    """As over ranks: each part has an origin of its own."""
    gradients, centre = [drawn(torch.float64), drawn(torch.float64)], torch.randn(PARAMETERS.size)
    parts = [range(0, 1), range(1, 25), range(25, N)]
    runs = [streamed(gradients, 7, (True, False), centre, part) for part in [range(N), *parts]]
    moments, crossed = [run[0][0].moments() for run in runs], [run[1].moments() for run in runs]
    for whole, *rest in (moments, crossed):
        found = reduce(operator.add, rest)
        assert found.count == whole.count == N and gap(found.mean, whole.mean) < 1e-12
        for name in ("variance", "error") if whole is moments[0] else ("traces",):
            assert gap(getattr(found, name), getattr(whole, name)) < 1e-12


def test_a_stream_at_rest_holds_no_chunk():
    def held(stream):
        tensors = [value for each in stream.tensors for value in vars(each).values() if isinstance(value, torch.Tensor)]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    sizes = []
    for size in (1, 50):
        (stream,), *_ = streamed([drawn(torch.float64, noise=1e-4)], size, (False,), torch.ones(PARAMETERS.size))
        working, _ = held(stream), stream.free_memory()
        sizes.append((working, held(stream)))
    assert sizes[0][0] + 40 * 8 * PARAMETERS.size < sizes[1][0] and sizes[0][1] == sizes[1][1]
    stream.add(next(pieces(drawn(torch.float64), 7, False)))
    assert stream.count == N + 7


def test_single_entries_are_found_in_their_tensors():
    gradient = drawn(torch.float64)
    places = torch.tensor([0, 7, 30, 36, 47, 48, 49, 60])
    found = torch.cat([g.entries(places, PARAMETERS) for g in pieces(gradient, 30, True)])
    assert torch.allclose(found, plain(gradient)[:, places])


def test_signs_have_the_mean_square_of_a_bias():
    """Over many signs, each +-1: E s^2 = |b|^2, for any b."""
    draws = 4000
    projection = Projection(PARAMETERS, draws, 0)
    bias = torch.randn(PARAMETERS.size) * torch.arange(PARAMETERS.size)
    squares = projection(bias).reshape(len(SHAPES), draws).square()
    norms = torch.stack([part.square().sum() for part in bias.split([p.numel() for p in PARAMETERS.tensors])])
    assert ((squares.mean(1) - norms).abs() <= 5 * squares.std(1) / draws**0.5 + 1e-9 * norms).all()
    assert all(((rows.mT @ columns).abs() == 1).all() for rows, columns in projection.signs)


@pytest.mark.parametrize("blocks, low, high", [(8, 3.3, 4.2), (1, 7.0, 11.0)])
def test_signs_hardly_hide_a_bias_of_rank_one(blocks, low, high, monkeypatch):
    """Kurtosis 3 + 6 / 8 of the sums over the signs; one outer product of signs has 9, and misses far more."""
    monkeypatch.setattr(projection_module, "BLOCKS", blocks)
    one = Parameters(("a",), (nn.Parameter(torch.zeros(40, 30)),), ("model",))
    sums = Projection(one, 20_000, 0)(torch.outer(torch.randn(40), torch.randn(30)).flatten())
    assert low < float(sums.pow(4).mean() / sums.square().mean().square()) < high


@pytest.mark.parametrize("factors", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 16])
def test_triples_tell_of_the_covariance(factors, size):
    """However the chunks are cut: products of neighbours, whose means are tr C^2 and tr C^3 on each side."""
    torch.manual_seed(2)
    gradient = drawn(torch.float64)
    centre = plain(gradient).mean(0)
    (stream,), *_ = streamed([gradient], size, [factors], centre)
    chunks = (plain(gradient) - centre).split(size if size > 2 else N)  # fewer than three wait for the next
    triples = [chunk[i : i + 3] for chunk in chunks for i in range(0, len(chunk) - 2, 3)]
    expected = []
    for triple in triples:
        products = []
        for side in ("model", "guide"):
            rows = triple[:, PARAMETERS.side(side)]
            inner = rows @ rows.T
            products.append(torch.stack([inner[0, 1], inner[1, 2], inner[2, 0]]))
        found = torch.stack(products, 1)
        expected.append(torch.cat([found.square().mean(0), found.prod(0)]))
    assert stream.spectrum.count == len(expected)
    torch.testing.assert_close(stream.spectrum.mean, torch.stack(expected).mean(0))


def test_the_spectrum_is_unbiased():
    torch.manual_seed(3)
    scale = torch.linspace(0.2, 2.0, sum(p.numel() for p in PARAMETERS.tensors))
    stream = GradientStream(torch.zeros(len(scale)), Projection(PARAMETERS, 1, 0))
    for _ in range(20):
        draws = torch.randn(1500, len(scale)) * scale
        stream.add(Gradient.of([Dense(part) for part in PARAMETERS.split(draws)], PARAMETERS))
    variances = [scale[PARAMETERS.side(side)].square() for side in ("model", "guide")]
    truth = torch.stack([v.pow(power).sum() for power in (2, 3) for v in variances])
    assert ((stream.spectrum.mean - truth) / stream.spectrum.standard_error).abs().max() < 4
