"""Commands in this process write their curves as a line of text: to draw them takes most of a short run's time.

`test_fit.py` draws them, and so do commands in processes of their own.
"""

import pytest


@pytest.fixture(autouse=True, scope="module")
def curves_as_text():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pplvm.plots.curves.save_curves", lambda records, path: path.write_text("curves"))
        yield
