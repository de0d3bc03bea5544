"""What a file holds of how an observation was measured, and the options made from it again."""

from __future__ import annotations

import json
from typing import Any

from diffeo import errors
from diffeo._support.arrays import IntArray
from diffeo.files import schema
from diffeo.files.container import Content
from diffeo.files.schema import take
from diffeo.networks.recipes.recipe import KINDS
from diffeo.networks.reduction import RULES, RandomProjection
from diffeo.observation.how_measured import LostCallable, MeasureOptions, Reduction

# Names of callables, and whole numbers of projections, are no longer than this.
LONGEST_RULE = 300


def options_content(at: str, options: MeasureOptions) -> Content:
    """Entries of the options, whose names begin like this."""
    content = {at + name: getattr(options, name) for name in schema.MEASURE_OPTIONS}
    if isinstance(options.shrinkage, float):
        content[f"{at}shrinkage"] = json.dumps(options.shrinkage)
    return content | {f"{at}reduce": _rule_text(options.reduce)}


def build_options(content: Content, at: str, sizes: dict[str, int]) -> MeasureOptions:
    """The options, from content that may be anything."""
    taken = take(content, at, schema.MEASURE_OPTIONS, sizes)
    taken["reduce"] = _rule(taken["reduce"], f"{at}reduce")
    shrinkage, covariances = taken["shrinkage"], taken["covariances"]
    if shrinkage not in (None, "optimal"):
        taken["shrinkage"] = schema.checked(">=0", _number(shrinkage), f"{at}shrinkage", sizes)
    if covariances not in (None, *KINDS):
        raise errors.InputError(f"{at}covariances are {covariances!r:.60}; known are {', '.join(KINDS)}")
    if taken["complete"] and (covariances is None or taken["neurons"] is None or taken["width"] is None):
        raise errors.InputError(
            f"{at}complete is true, although the neurons, their layer or their covariances are missing"
        )
    if taken["complete"] and taken["neurons"].max() >= taken["width"]:
        raise errors.InputError(f"{at}neurons are not all among the {taken['width']} of the layer")
    return MeasureOptions(**taken)


def options_text(options: MeasureOptions) -> str:
    """The options as JSON, for a file of arrays, which holds the neurons beside it."""
    return json.dumps({name: value for name, value in options_content("", options).items() if name != "neurons"})


def options_of_text(text: str, neurons: IntArray | None) -> MeasureOptions:
    """The options from such a text, which may be anything."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise errors.InputError(f"options are no JSON ({error})") from error
    if not isinstance(content, dict):
        raise errors.InputError(f"options are a {type(content).__name__}, not entries by name")
    content = {str(name): value for name, value in content.items()} | {"neurons": neurons}
    sizes: dict[str, int] = {}
    options = build_options(content, "", sizes)
    if content:
        raise errors.InputError(f"options hold unexpected entries: {', '.join(sorted(content))!r:.300}")
    return options


def _rule_text(reduce: Reduction) -> str | None:
    """A rule as JSON; of a callable only its name."""
    if reduce is None or isinstance(reduce, str):
        return reduce
    if isinstance(reduce, RandomProjection):
        return json.dumps({"projection": [reduce.n_components, reduce.rng]})
    name = reduce.name if isinstance(reduce, LostCallable) else getattr(reduce, "__qualname__", type(reduce).__name__)
    return json.dumps({"callable": str(name)[: LONGEST_RULE // 2]})


def _rule(text: str | None, name: str) -> Reduction:
    if text is None or text in RULES:
        return text
    found: Any = None
    if len(text) <= LONGEST_RULE * 4:  # escapes take up to six characters
        try:
            found = json.loads(text)
        except ValueError:
            found = None
    if isinstance(found, dict) and len(found) == 1:
        if isinstance(said := found.get("callable"), str):
            return LostCallable(said)
        if isinstance(numbers := found.get("projection"), list) and len(numbers) == 2:
            return RandomProjection(*numbers)
    raise errors.InputError(f"{name} is {text!r:.60}, which is no rule")


def _number(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
