"""Deep latent variable models as Pyro programs, under any estimator that is legal for them.

The public names are those of `__init__.pyi`, in the order of the data's path; each is imported when it is first used.
"""

from lazy_loader import attach_stub

_imported, __dir__, __all__ = attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'pplvm' has no attribute {name!r}")
    return _imported(name)
