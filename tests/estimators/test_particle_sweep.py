"""Signal-to-noise against the number of particles has the slopes that theory predicts."""

import numpy as np
import pytest
import torch

from pplvm.bounds import iwae
from pplvm.estimators.particle_sweep import ParticleSweep
from pplvm.objectives.objective import Loss
from pplvm.objectives.path_gradients import DoublyReparameterized
from pplvm.objectives.pathwise import Pathwise
from tests.problems import linear_gaussian


def test_signal_grows_with_particles_and_the_guides_falls_for_plain_iwae():
    """Rainforth et al.: model's side +1/2; the guide's falls along paths, grows when doubly reparameterized."""
    program = linear_gaussian().at_posterior()
    with torch.no_grad():
        for p in program.encoder.parameters():
            p += 0.05 * torch.randn_like(p)
        program.log_scale += 0.4
    x = torch.randn(4, 3)
    rules = {"iwae": lambda K: Pathwise(iwae, K), "dreg": lambda K: DoublyReparameterized(iwae, K)}
    losses = {name: {K: Loss(rule(K), program) for K in (1, 4, 16)} for name, rule in rules.items()}
    sweep = ParticleSweep(losses, x, replicates=100)
    for _ in sweep.rounds():
        pass
    signal = sweep.result().sweep_snr
    assert (signal.sel(estimator="iwae", side="model").diff("k") > 0).all()
    slope = np.polyfit(np.log(signal.k), np.log(signal.sel(estimator="dreg", side="guide")), 1)[0]
    assert 0.2 < slope < 0.8
    iwae_guide = signal.sel(estimator="iwae", side="guide")
    assert float(iwae_guide.sel(k=16)) < float(iwae_guide.sel(k=4)) < float(iwae_guide.sel(k=1))
    assert float(sweep.result().sweep_floor.max()) == pytest.approx(0.1)
