"""A network as it travels to a worker: one array of bytes, in the format of saved files, and what is made of it there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo.charts.chart import Chart
from diffeo.files.container import Content, decode, encode
from diffeo.files.embedded import build_embedded, embedded_content
from diffeo.files.observation import build_observation, observation_content
from diffeo.files.schema import holds
from diffeo.matching.paired.components import Components, components_of
from diffeo.matching.parts.halves_and_groups import has_halves
from diffeo.verdict.common.seen_inputs import Seen

# An array rather than bytes: joblib maps large ones into the memory of its processes, and sends each to a cluster once.
Packed = NDArray[np.uint8]
KIND = "network of a family"
COMMON = ("landmarks", "held_out", "jacobians")
NO_ROWS: IntArray = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Network:
    """One network of a family.

    Attributes
    ----------
    chart : Chart
        Of which only what was asked for is made.
    landmarks, held_out : ndarray of shape (L, m), (H, m)
        What it measures at the common inputs.
    jacobians : ndarray of shape (L, m, p), or None
        Derivatives at the landmarks.
    """

    chart: Chart
    landmarks: FloatArray
    held_out: FloatArray
    jacobians: FloatArray | None = field(default=None, repr=False)

    @cached_property
    def components(self) -> Components:
        """Principal components of the landmarks."""
        return components_of(self.landmarks)

    @cached_property
    def seen(self) -> Seen:
        """What its samples tell of the common inputs, landmarks first."""
        return Seen(self.chart.observation, np.vstack([self.landmarks, self.held_out]))


def pack(network: Network, *, whole: bool = True, halves: bool = True) -> Packed:
    """The network as bytes, with its coordinates (which are made if they are missing) and those of its halves, or without."""
    chart = network.chart
    content: Content = {name: getattr(network, name) for name in COMMON}
    content |= {"asked": chart.asked, "random_state": chart.random_state, "kind": "", "problems": []}
    if whole:
        content |= {"kind": chart.kind, "problems": chart.problems}
        content |= {f"whole.{name}": value for name, value in embedded_content(chart).items()}
    else:
        content |= observation_content("alone.", chart.observation)
    parts = chart.halves(NO_ROWS) if halves and has_halves(chart) else ()
    for k, half in enumerate(parts):
        _ = half.chart.kind  # makes what is stored
        content |= {f"half{k}.{name}": value for name, value in embedded_content(half.chart).items()}
        content[f"half{k}.rows"] = half.rows
    plain = {name: x.item() if isinstance(x, np.generic) else x for name, x in content.items()}
    return np.frombuffer(encode(plain, KIND), dtype=np.uint8)


def unpack(packed: Packed) -> Network:
    """The network, with all that was made of it."""
    content = _content(packed)
    del content["kind"], content["problems"]
    common: dict[str, Any] = {name: content.pop(name) for name in COMMON}
    asked, random_state = content.pop("asked"), content.pop("random_state")
    if holds(content, "alone."):
        return Network(Chart(build_observation(content, "alone.", {}), asked, random_state, 1), **common)
    chart = replace(_part(content, "whole."), n_jobs=1)
    if holds(content, "half0."):
        rows = [content.pop(f"half{k}.rows") for k in (0, 1)]
        chart.halved(NO_ROWS, [(_part(content, f"half{k}."), rows[k]) for k in (0, 1)])
    return Network(chart, **common)


def told(packed: Packed) -> tuple[str, list[str]]:
    """The kind of the coordinates of a packed network, empty where none were made, and what is suspected of them."""
    content = _content(packed)
    kind, problems = str(content["kind"]), [str(one) for one in content["problems"]]
    return kind, problems


def identity(network: Network) -> str:
    """What tells a network, as it was observed, from any other: SHA-256 of its observation and its common points."""
    return hashlib.sha256(pack(network, whole=False, halves=False).tobytes()).hexdigest()


def _content(packed: Packed) -> Content:
    content, kind, _ = decode(packed.tobytes())
    if kind != KIND:
        raise errors.InputError(f"it holds {kind!r:.60}, not a {KIND}")
    return content


def _part(content: Content, at: str) -> Chart:
    names = [name for name in content if name.startswith(at)]
    return build_embedded({name.removeprefix(at): content.pop(name) for name in names}, assemble=True)
