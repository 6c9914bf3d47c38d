"""Every program under every objective, compiled by Inductor: five seconds and more each."""

import pytest

from tests.graphs.test_tiers import CATALOG, hold

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", CATALOG)
def test_inductor_is_the_eager_loss(name):
    hold(CATALOG[name], "inductor", changes=False)
