"""Failures of single estimators, which are recorded while the others go on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pplvm.distributed.object_collectives import all_gather_errors, error_message
from pplvm.estimators.replicates.gradient import Drawn

__all__ = ["Failures", "left_out_sentences", "require_finite", "with_estimator_name"]


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
        """A context in which an error is recorded under the estimator's name and not raised."""
        try:
            yield
        except Exception as error:
            self._errors.setdefault(name, error)

    def over_ranks(self) -> dict[str, Exception]:
        """Merge the failures of all ranks; a collective operation."""
        return all_gather_errors(self._errors)


def left_out_sentences(reasons: Mapping[str, str], of: str = "") -> list[str]:
    """One sentence for all estimators left out for the same reason.

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


def with_estimator_name(name: str, error: Exception) -> Exception:
    """The error prefixed by the estimator's name: of its kind if it is a refusal, else a RuntimeError."""
    if isinstance(error, FloatingPointError):
        return error
    kind = ValueError if isinstance(error, ValueError) else RuntimeError
    found = kind(f"estimator {name}: {error_message(error)}")
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
