"""What a file holds of a chart that `diffeo.embed` made, and the chart made from it again."""

from __future__ import annotations

import numpy as np

from diffeo import errors
from diffeo.charts.chart import CHOICES, Chart
from diffeo.charts.diffusion import DiffusionChart
from diffeo.charts.isometric import IsometricChart
from diffeo.files import schema
from diffeo.files.charts import build_diffusion, build_isometric, chart_content
from diffeo.files.container import Content
from diffeo.files.observation import build_observation, observation_content
from diffeo.files.schema import holds, take
from diffeo.observation.observation import Observation

# Points without noise are moved by no more than this many of its standard deviations (root mean square).
MOST_MOVED = 3.0


def embedded_content(chart: Chart) -> Content:
    """Arrays and entries of a chart, by dotted names; observations that are one object are stored once."""
    content: Content = {
        "asked": chart.asked,
        "random_state": chart.random_state,
        "n_jobs": chart.n_jobs,
        "disconnected": "",
        "no_diffusion": chart.no_diffusion,
        "epsilon": None,
    }
    layout = None
    if chart.asked != "diffusion":
        layout, content["disconnected"] = chart.isometric(), chart.disconnected
    measured = chart.measured
    if layout is not None:
        content |= {f"isometric.{name}": value for name, value in _side(layout).items()}
        measured = layout.observation
    elif measured is not chart.observation:
        content |= observation_content("smoothed.", measured)
    if measured is not chart.observation or layout is None:
        content |= observation_content("observation.", chart.observation)
    if chart.kind == "diffusion":
        own = chart.diffusion(*chart.own_bandwidth)
        content |= {f"diffusion.{name}": value for name, value in _side(own).items()}
        content["epsilon"] = chart.epsilon if chart.observation.known_unit else None
    return content


def build_embedded(content: Content, assemble: bool) -> Chart:
    """The chart, from content that may be anything, with its kernel if asked."""
    taken = take(content, "", schema.EMBEDDED, {})
    asked = taken["asked"]
    if asked not in CHOICES:
        raise errors.InputError(f"asked is {asked!r:.60}; known are {', '.join(CHOICES)}")
    layout = build_isometric(content, "isometric.", {}, assemble) if holds(content, "isometric.") else None
    measured = layout.observation if layout is not None else None
    if holds(content, "smoothed."):
        measured = build_observation(content, "smoothed.", {})
    observation = build_observation(content, "observation.", {}) if holds(content, "observation.") else measured
    if observation is None or (asked == "isometric" and layout is None) or (asked == "diffusion" and measured):
        raise errors.InputError(f"it does not hold what a chart of asked = {asked!r} has")
    measured = observation if measured is None else measured
    if (layout is None) != bool(taken["disconnected"] or asked == "diffusion"):
        raise errors.InputError(
            "disconnected is said of an isometric layout that is there, or not of one that is missing"
        )
    _check_same(observation, measured, "its isometric coordinates")
    own = None
    if holds(content, "diffusion."):
        own = build_diffusion(content, "diffusion.", {}, assemble)
        _check_same(observation, own.observation, "its diffusion coordinates")
    if bool(taken["no_diffusion"]) and own is not None:
        raise errors.InputError("no_diffusion is said of diffusion coordinates that are there")
    chart = Chart(observation, asked, taken["random_state"], taken["n_jobs"])
    chart.made(measured, layout, taken["disconnected"], own, taken["no_diffusion"], taken["epsilon"])
    isometric = layout is not None and (asked == "isometric" or layout.is_chart)
    if not isometric and own is None and not taken["no_diffusion"]:
        raise errors.InputError("its diffusion coordinates are missing")
    return chart


def _side(chart: IsometricChart | DiffusionChart) -> Content:
    return chart_content(chart) | observation_content("observation.", chart.observation)


def _check_same(observation: Observation, other: Observation, what: str) -> None:
    same = observation.dim == other.dim and observation.points.shape == other.points.shape
    if same and other.noise > 0.0:  # which was taken out of the points
        same = bool(np.sqrt(((observation.points - other.points) ** 2).mean()) <= MOST_MOVED * other.noise)
    elif same:
        same = np.array_equal(observation.points, other.points)
    if not same:
        raise errors.InputError(f"the observation is not that of {what}")
