"""Where the codes of a codebook start: at vectors of the data's own, or at the centres of their clusters."""

import torch
from torch import Tensor

__all__ = ["codes_from_rows", "k_means_codes"]


def codes_from_rows(z: Tensor, num_codes: int, generator: torch.Generator | None = None) -> Tensor:
    """Codes at K different rows of z, drawn without replacement: (K, D).

    Arguments:
        z: encoder outputs, (..., D).
        num_codes: K.
        generator: of the draw; torch's own random state if None.

    Raises:
        ValueError: z has fewer different vectors than codes are wanted.

    Example:
        >>> from pplvm.networks.codebook import MovingAverageCodebook
        >>> codebook = MovingAverageCodebook(num_codes=4, code_size=2)
        >>> codebook.place(codes_from_rows(torch.randn(100, 2), num_codes=4))
    """
    rows = _different_rows(z, num_codes)
    return rows[torch.randperm(len(rows), generator=generator, device="cpu")[:num_codes].to(rows.device)]


@torch.no_grad()
def k_means_codes(z: Tensor, num_codes: int, generator: torch.Generator | None = None, iterations: int = 20) -> Tensor:
    """Codes at the centres of K clusters of z, (K, D): k-means from starts that lie apart (k-means++).

    A cluster that loses all its vectors keeps its centre.

    Arguments:
        z: encoder outputs, (..., D).
        num_codes: K.
        generator: of the starts; torch's own random state if None.
        iterations: of assigning vectors and moving centres.

    Raises:
        ValueError: z has fewer different vectors than codes are wanted.

    Example:
        >>> two = torch.tensor([[0.0], [0.2], [5.0], [5.2], [5.4]])
        >>> k_means_codes(two, num_codes=2).sort(0).values
        tensor([[0.1000],
                [5.2000]])

    References:
        Arthur and Vassilvitskii, k-means++: the advantages of careful seeding, 2007
    """
    rows = z.detach().reshape(-1, z.shape[-1])
    centres = _apart(_different_rows(z, num_codes), num_codes, generator)
    for _ in range(iterations):
        index = torch.cdist(rows, centres).argmin(-1)
        counts = rows.new_zeros(num_codes).index_add_(0, index, rows.new_ones(len(rows)))[:, None]
        sums = torch.zeros_like(centres).index_add_(0, index, rows)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres


def _apart(rows: Tensor, num_codes: int, generator: torch.Generator | None) -> Tensor:
    """Rows drawn one by one with probability proportional to the squared distance from those drawn before, (K, D)."""
    kept = [rows[int(torch.randint(len(rows), (), generator=generator, device="cpu"))]]
    distance = (rows - kept[0]).square().sum(-1)
    while len(kept) < num_codes:  # of different rows there is always one at a distance
        below = distance.double().cpu().cumsum(0)
        u = torch.rand((), generator=generator, dtype=torch.double, device="cpu") * below[-1]
        place = int(torch.searchsorted(below, u, right=True).clamp(max=len(rows) - 1))
        kept.append(rows[place])
        distance = torch.minimum(distance, (rows - rows[place]).square().sum(-1))
    return torch.stack(kept)


def _different_rows(z: Tensor, num_codes: int) -> Tensor:
    rows = torch.unique(z.detach().reshape(-1, z.shape[-1]), dim=0)
    if len(rows) < num_codes:
        raise ValueError(
            f"{num_codes} codes cannot start at the data, which give {len(rows)} different vectors: take fewer codes, "
            "more examples, or codes that start as normal draws (initial_codes=normal)"
        )
    return rows
