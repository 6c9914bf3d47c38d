"""Failures of single estimators, which are recorded while the others go on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pplvm.distributed.unison import errors_of_any, words_of
from pplvm.estimators.replicates.gradient import Drawn

__all__ = ["Failures", "blamed", "left_out_sentences", "require_finite"]


class Failures:
    """The first error of each estimator that failed.

    Example:
        >>> failures = Failures()
        >>> with failures.of("a"):
        ...     raise KeyError("x")
        >>> "a" in failures, failures.over_ranks()
        (True, {'a': KeyError('x')})
    """

    def __init__(self) -> None:
        self._errors: dict[str, Exception] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._errors

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """An error inside is noted under the name and goes no further."""
        try:
            yield
        except Exception as error:
            self._errors.setdefault(name, error)

    def over_ranks(self) -> dict[str, Exception]:
        """With those of the other ranks, the same on each; called by all ranks alike."""
        return errors_of_any(self._errors)


def left_out_sentences(reasons: Mapping[str, str], of: str = "") -> list[str]:
    """One sentence for all estimators that are left out for the same reason.

    Arguments:
        reasons: by estimator.
        of: what they are left out of, where that is not the whole comparison.

    Example:
        >>> left_out_sentences({"rebar": "view size is not compatible", "arm": "K is odd", "relax": "K is odd"})
        ['rebar is left out: view size is not compatible', 'arm, relax are left out: K is odd']
    """
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return [f"{', '.join(n)} {'is' if len(n) == 1 else 'are'} left out{of}: {why}" for why, n in names.items()]


def blamed(name: str, error: Exception) -> Exception:
    """The error with the estimator's name before its words: a refusal of its kind, or a RuntimeError."""
    if isinstance(error, FloatingPointError):
        return error
    kind = ValueError if isinstance(error, ValueError) else RuntimeError
    found = kind(f"estimator {name}: {words_of(error)}")
    found.__cause__ = error
    return found


def require_finite(name: str, drawn: Drawn, *which: str) -> None:
    """Refuse replicates of an estimator that are not finite.

    Arguments:
        which: what each replicate is called.

    Raises:
        FloatingPointError: one is not.
    """
    finite = drawn.gradient.squares.isfinite().all(1)
    if not finite.all():
        place = which[int(finite.int().argmin())]
        raise FloatingPointError(f"estimator {name} gave a gradient that is not finite ({place})")
