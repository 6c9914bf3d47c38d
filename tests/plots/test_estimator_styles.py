"""Looks: the colour of a rule is the same everywhere, and can be told from the others by all eyes."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from pplvm.estimators.results.rule_families import OTHER
from pplvm.estimators.results.rule_families import RULES as FAMILIES
from pplvm.plots.estimator_styles import RULES, estimator_styles, legend_handles, plain_ticks

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009),
# complete deficiency of each kind, on linear RGB.
EYES = {
    "all three": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour, eyes):
    """CIELAB of a colour as those eyes see it."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(EYES[eyes]) @ linear, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", EYES)
def test_colours_of_rules_differ_for_all_eyes(eyes):
    """10 is a difference seen at a glance; biased relaxations are hatched or dashed besides."""
    colours = {rule: colour for rule, (colour, _) in RULES.items() if rule != "biased relaxation"}
    for a, b in itertools.combinations(colours, 2):
        assert np.linalg.norm(lab(colours[a], eyes) - lab(colours[b], eyes)) > 10, (a, b)


def test_red_and_green_of_one_lightness_would_be_found():
    assert np.linalg.norm(lab("#C06000", "no green") - lab("#808000", "no green")) < 10


def test_every_rule_has_a_colour_and_a_marker_of_its_own():
    assert set(RULES) == {*FAMILIES, OTHER}
    assert len({colour for colour, _ in RULES.values()}) == len({marker for _, marker in RULES.values()}) == len(RULES)


def test_an_estimator_looks_the_same_whoever_stands_beside_it(compared):
    many, few = estimator_styles(compared(28)), estimator_styles(compared(28).sel(estimator=["disarm", "pyro-renyi"]))
    assert {name: many[name] for name in few} == few
    assert few["pyro-renyi"]["linestyle"] == "--" and few["disarm"]["linestyle"] == "-"


def test_the_legend_has_no_entry_twice(compared):
    for ds in (compared(28), compared(28).drop_vars("rule"), compared(28).assign(rule=("estimator", ["mine"] * 28))):
        labels = [handle.get_label() for handle in legend_handles(ds)]
        assert len(labels) == len(set(labels)) <= len(RULES) + 1
        assert labels[-1] == "hatched: biased"
    assert len(legend_handles(compared(1))) == 1


@pytest.mark.parametrize("span", [(1.0, 1.0), (28.0, 75.0), (0.002, 0.9), (1e-6, 3e7), (float("nan"), -1.0)])
def test_ticks_are_plain_numbers_with_room_between(span):
    figure = Figure(figsize=(9, 2))
    ax = figure.subplots()
    ax.set(xscale="log", xlim=(span[0] / 1.8, span[1] * 1.8) if span[1] > 0 else (0.5, 2))
    plain_ticks(ax.xaxis, span)
    figure.draw_without_rendering()
    shown = [
        t for t in ax.get_xticklabels() if 0 <= ax.transAxes.inverted().transform(t.get_window_extent())[0, 0] <= 1
    ]
    assert shown and "$" not in "".join(t.get_text() for t in shown)
    boxes = [t.get_window_extent() for t in shown]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
