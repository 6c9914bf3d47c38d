"""The losses written by hand in torch, as who needs speed writes them: minus a bound per datum, noise an argument.

Noise is drawn in the order in which the library's programs draw, so that from one seed all see the same numbers.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
from pplvm.programs.vae import VAE
from pplvm.programs.vq_vae import VQVAE

__all__ = [
    "draw",
    "net_leave_one_out",
    "net_score_function",
    "net_vimco",
    "vae_elbo",
    "vae_iwae",
    "vae_log_weights",
    "vq_vae_elbo",
]


def draw(program: nn.Module, x: Tensor, K: int) -> list[Tensor]:
    """One tensor (K, B, Z) a latent layer: normal for a VAE, uniform for a belief net."""
    if isinstance(program, VAE):
        return [torch.randn(K, len(x), len(program.zeros), device=x.device)]
    if isinstance(program, VQVAE):
        return []
    sizes = [len(encoder.last.bias) for encoder in reversed(program.encoders)]
    return [torch.rand(K, len(x), size, device=x.device) for size in sizes]


def vq_vae_elbo(program: VQVAE, x: Tensor, noise: list[Tensor]) -> Tensor:
    """Straight through, with commitment .25 and the codebook loss; a uniform prior, and no noise."""
    z, codes = program.encoder(x), program.codebook.codes  # (B, N, D), (K, D)
    with torch.no_grad():
        index = (codes.square().sum(-1) - 2 * z @ codes.T).argmin(-1)
    e = codes[index]
    logits = program.decoder(z + (e - z).detach())
    error = binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    N = z.shape[1]
    penalty = 0.25 * (z - e.detach()).square().sum() + (z.detach() - e).square().sum()
    value = error + N * math.log(len(codes))
    penalty = penalty / (N * len(x))
    return value + (penalty - penalty.detach())


def vae_elbo(vae: VAE, x: Tensor, noise: list[Tensor]) -> Tensor:
    """With the log-densities of z drawn, as in `Pathwise(elbo)`; all sums in one."""
    loc, log_scale = vae.encoder(x).chunk(2, dim=-1)
    z = loc + log_scale.exp() * noise[0]  # (K, B, Z)
    log_ratio = (0.5 * (noise[0].square() - z.square()) + log_scale).sum()
    logits = vae.decoder(z)
    error = binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="sum")
    return (error - log_ratio) / (len(z) * len(x))


def vae_iwae(vae: VAE, x: Tensor, noise: list[Tensor]) -> Tensor:
    log_weights = vae_log_weights(vae, *vae.encoder(x).chunk(2, dim=-1), x, noise[0])
    return math.log(len(log_weights)) - log_weights.logsumexp(0).mean()


def vae_log_weights(vae: VAE, loc: Tensor, log_scale: Tensor, x: Tensor, noise: Tensor) -> Tensor:
    """log p(x, z) - log q(z | x), (K, B); q's loc and log_scale are (B, Z)."""
    z = loc + log_scale.exp() * noise  # (K, B, Z)
    log_ratio = (0.5 * (noise.square() - z.square()) + log_scale).sum(-1)
    logits = vae.decoder(z)
    return log_ratio - binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)


def net_score_function(net: SigmoidBeliefNet, x: Tensor, noise: list[Tensor]) -> Tensor:
    log_p, log_q = _net_log_probs(net, x, noise)
    signal = (log_p - log_q).detach()
    return -(log_p + signal * log_q).mean()


def net_leave_one_out(net: SigmoidBeliefNet, x: Tensor, noise: list[Tensor]) -> Tensor:
    log_p, log_q = _net_log_probs(net, x, noise)
    signal = (log_p - log_q).detach()
    credit = (signal - signal.mean(0)) / (len(signal) - 1)
    return -(log_p.mean(0) + (credit * log_q).sum(0)).mean()


def net_vimco(net: SigmoidBeliefNet, x: Tensor, noise: list[Tensor]) -> Tensor:
    """The credit of a particle: what the bound loses where its weight is the geometric mean of the others."""
    log_p, log_q = _net_log_probs(net, x, noise)
    log_weights = log_p - log_q  # (K, B)
    w, K = log_weights.detach(), len(log_weights)
    others = (w.sum(0) - w) / (K - 1)
    rest = torch.where(torch.eye(K, dtype=torch.bool, device=w.device).unsqueeze(-1), others, w.unsqueeze(1))
    credit = w.logsumexp(0) - rest.logsumexp(0)  # (K, B)
    return -(log_weights.logsumexp(0) - math.log(K) + (credit * log_q).sum(0)).mean()


def _net_log_probs(net: SigmoidBeliefNet, x: Tensor, noise: list[Tensor]) -> tuple[Tensor, Tensor]:
    """log p(x, z) and log q(z | x), both (K, B)."""
    below, values, log_q = x - net.centre, [], 0.0
    for encoder, uniform in zip(reversed(net.encoders), noise, strict=True):
        logits = encoder(below)
        z = (uniform < logits.sigmoid()).to(x.dtype)  # (K, B, Z)
        log_q = log_q + _log_bernoulli(z, logits)
        values, below = [z, *values], 2 * z - 1
    log_p = _log_bernoulli(values[0], net.prior_logits)
    for decoder, above, data in zip(net.decoders, values, [*values[1:], x], strict=True):
        log_p = log_p + _log_bernoulli(data, decoder(2 * above - 1))
    return log_p, log_q


def _log_bernoulli(value: Tensor, logits: Tensor) -> Tensor:
    return (value * logits + logsigmoid(-logits)).sum(-1)
