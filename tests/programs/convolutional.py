"""A convolutional variational autoencoder composed of parts, for images (B, C, H, W), conditioned on labels or not."""

from functools import partial

import torch
from torch import nn

from pplvm.networks.leading_dims import LeadingDims
from pplvm.programs.parts import bernoulli
from pplvm.programs.vae import VAE

LATENT, WIDTH = 3, 4


class Encoder(nn.Module):
    """(B, C, H, W) to (B, 2 Z), once a datum."""

    def __init__(self, shape):
        super().__init__()
        C, H, W = shape
        self.layers = nn.Sequential(
            nn.Conv2d(C, WIDTH, 4, stride=2, padding=1),
            nn.GroupNorm(2, WIDTH),
            nn.ReLU(),
            nn.Flatten(1),
            nn.Linear(WIDTH * (H // 2) * (W // 2), 2 * LATENT),
        )

    def forward(self, x):
        return self.layers(x)


class Decoder(nn.Module):
    """(..., Z) to (..., C, H, W); given labels (B,), each has a vector that is added to z."""

    def __init__(self, shape, classes=0):
        super().__init__()
        C, H, W = shape
        self.labels = nn.Embedding(classes, LATENT) if classes else None
        self.small = nn.Linear(LATENT, WIDTH * (H // 2) * (W // 2))
        self.unflatten = nn.Unflatten(-1, (WIDTH, H // 2, W // 2))
        self.large = LeadingDims(nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(WIDTH, C, 4, stride=2, padding=1)), 3)

    def forward(self, z, *y):
        z = z + self.labels(y[0]) if self.labels is not None else z
        return self.large(self.unflatten(self.small(z)))


def convolutional(data_shape=(1, 8, 8), num_classes=0):
    parts = {"encoder": Encoder(data_shape), "decoder": Decoder(data_shape, num_classes)}
    return VAE(**parts, likelihood=partial(bernoulli, event_dim=3), latent_size=LATENT)


def images(B=5, shape=(1, 8, 8)):
    return torch.bernoulli(torch.full((B, *shape), 0.4))
