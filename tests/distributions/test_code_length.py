"""The code length of codes under a prior is what an entropy coder needs, and the decoder draws as the prior does."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from pplvm.programs.code_priors import code_prior_named

SETTINGS = {
    "uniform": {},
    "pixelcnn": {"channels": 8, "kernel_sizes": (3, 3)},
    "transformer": {"width": 8, "num_heads": 2, "num_layers": 2},
}
ROWS, GRID, K = 20, (3, 3), 8


def awake(name):
    prior = code_prior_named(name, GRID, K, **SETTINGS[name])
    for parameter in prior.parameters():
        nn.init.normal_(parameter, std=0.4)
    return prior.eval()


def conditionals(fn, v):
    """Probabilities of each code given those before it, (rows, N, K)."""
    logits = fn.logits(v) if hasattr(fn, "logits") else torch.zeros_like(v)
    return logits.softmax(-1).detach()


@pytest.mark.parametrize("name", SETTINGS)
def test_an_entropy_coder_needs_the_bits_that_the_prior_tells(name):
    """Test 50: within [bits, bits + 64], all grids in one message."""
    constriction = pytest.importorskip("constriction")
    model = constriction.stream.model.Categorical(perfect=False)
    fn = awake(name)()
    v = fn.sample((ROWS,))
    bits = -float(fn.log_prob(v).sum().detach()) / math.log(2)
    probabilities = conditionals(fn, v).reshape(-1, K).numpy()
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(v.argmax(-1).flatten().int().numpy(), model, probabilities)
    assert bits - 0.5 <= encoder.num_bits() <= bits + 64
    assert name == "uniform" or abs(bits - ROWS * 9 * math.log2(K)) > 10, "another prior needs another length"


def test_the_decoder_reads_the_codes_by_steps_of_the_prior():
    """Of one grid: each code is read given those read before, with the cache alone."""
    constriction = pytest.importorskip("constriction")
    model = constriction.stream.model.Categorical(perfect=False)
    prior = awake("pixelcnn").float()
    fn = prior()
    v = fn.sample((1,))
    cache, before, probabilities = prior.network.init_cache(1), None, []
    for each in v.unbind(1):  # the encoder takes the same steps, so that its probabilities are the same bits
        logits, cache = prior.network.step(cache, before)
        probabilities.append(logits.softmax(-1).detach())
        before = each
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(v[0].argmax(-1).int().numpy(), model, torch.cat(probabilities).numpy())
    decoder = constriction.stream.queue.RangeDecoder(encoder.get_compressed())
    cache, before = prior.network.init_cache(1), None
    for n in range(9):
        logits, cache = prior.network.step(cache, before)
        (code,) = decoder.decode(model, logits.softmax(-1).detach().numpy())
        assert code == v[0, n].argmax()
        before = one_hot(torch.tensor([int(code)]), K).to(v)
