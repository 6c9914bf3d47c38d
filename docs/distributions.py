"""Writes docs/distributions.md from the docstrings: python -m docs.distributions > docs/distributions.md"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

from torch.distributions import Distribution, Transform

import pplvm.distributions

__all__ = ["classes", "entry", "page"]

INTRODUCTION = """\
# Distributions and transforms

What `pplvm.distributions` adds to Pyro, each with its equation and its source; made from the docstrings by `python -m
docs.distributions > docs/distributions.md`. All are Pyro distributions, or torch transforms for Pyro's
TransformedDistribution, with any batch shape.
"""

ENTRY = re.compile(r"(arXiv:[\d.]+(?:, (?:appendix|section)[ \w.]*?)?|, \d{4}) (?=[A-Z])")
"""The end of a reference that another one follows."""


def page() -> str:
    """The page, in the order of the modules."""
    return "\n".join([INTRODUCTION, *(entry(each) for each in classes())])


def classes() -> Iterator[type]:
    """The public distributions and transforms, abstract ones left out."""
    for found in pkgutil.walk_packages(pplvm.distributions.__path__, "pplvm.distributions."):
        module = importlib.import_module(found.name)
        for name in getattr(module, "__all__", ()):
            each = getattr(module, name)
            if inspect.isclass(each) and issubclass(each, Distribution | Transform) and not inspect.isabstract(each):
                yield each


def entry(each: type) -> str:
    """A class: where it is, what it is, its equation, or its module's, and its source."""
    doc, module = inspect.getdoc(each) or "", importlib.import_module(each.__module__)
    equation = _equation(doc) or _equation_of_module(inspect.getdoc(module) or "")
    source = _references(doc) or _references(inspect.getdoc(module) or "")
    lines = [f"## {each.__name__}\n", f"`{each.__module__}`: {_sentence(doc)}\n"]
    lines += [f"```\n{equation}\n```\n"] if equation else []
    lines += [f"Source: {source}\n"] if source else []
    return "\n".join(lines)


def _sentence(doc: str) -> str:
    return " ".join(doc.split("\n\n")[0].split())


def _equation(doc: str) -> str:
    """The indented lines before the arguments."""
    paragraphs = re.split(r"\n(?:Arguments|Example|Raises|References):", doc)[0].split("\n\n")
    indented = [each for each in paragraphs if each.startswith("    ")]
    return "\n".join(inspect.cleandoc(each) for each in indented)


def _equation_of_module(doc: str) -> str:
    """The first paragraph behind a module's sentence that has an equals sign."""
    return next((each for each in doc.split("\n\n")[1:] if "=" in each), "")


def _references(doc: str) -> str:
    _, found, rest = doc.partition("References:\n")
    return ENTRY.sub(r"\1; ", " ".join(rest.split())) if found else ""


if __name__ == "__main__":
    print(page(), end="")
