"""One layer measured at many inputs, in parts of whole batches that joblib sends to its workers: the bits of one go."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import reduce
from typing import Any

from diffeo import errors
from diffeo._support.arrays import integer, seeded
from diffeo._support.engine import Lost, run
from diffeo.networks.batches import N_COPIES, sample_set
from diffeo.networks.measurement import Measurement, Recipe, measured_layers, settled
from diffeo.networks.responses import Samples, burst_directions


def measured_in_shards(model: Any, inputs: Any, layer: str, recipe: Recipe, shards: int) -> Measurement:
    """What `measured_layers` gives of one layer.

    The first part is measured here: what is to be said of the network is said once, and the other parts take its neurons.

    Raises
    ------
    ParameterError
        Bursts.
    WorkerError
        A part lost its worker each time.
    """
    count = integer(shards, "shards", 1)
    if recipe.covariances == "bursts":
        raise errors.ParameterError(
            "shards are for Jacobians and slopes: covariances='bursts' are large, and no faster to fetch than to make"
        )
    inputs, asked = sample_set(inputs), recipe.covariances
    # By all of the inputs; the parts are then measured alike.
    recipe = settled(model, inputs, layer, recipe)
    tangents = recipe.tangents
    batch = recipe.batch_size if recipe.smooth is None else max(1, recipe.batch_size // N_COPIES)
    # Whole batches, so that each pass has the rows that it would have in one go.
    rows = batch * -(-len(inputs) // (batch * count))
    parts = [slice(start, min(start + rows, len(inputs))) for start in range(0, len(inputs), rows)]

    generator = seeded(recipe.rng)

    def task(part: slice, how: Recipe) -> tuple[Any, ...]:
        drawn = copy.deepcopy(generator)
        if how.covariances == "slopes":  # the next part draws what comes after
            d = Samples.of(inputs, tangents).n_directions
            burst_directions(part.stop - part.start, int(how.n_bursts) // 2, d, generator)
        return (
            model,
            inputs[part],
            layer,
            replace(how, tangents=None if tangents is None else tangents[part], rng=drawn),
        )

    begin = task(parts[0], recipe)
    with errors.unsaid(*([errors.PiecewiseLinearWarning] if asked == "auto" else [])):  # said already
        (first,) = measured_layers(begin[0], begin[1], [layer], begin[3]).values()
    recipe = replace(recipe, neurons=first.neurons, verbose=False)
    found: dict[int, Measurement] = {0: first}

    def finished(number: int, result: Measurement | errors.DiffeoError | Lost) -> None:
        where = f"inputs {parts[number + 1].start} to {parts[number + 1].stop - 1}"
        if isinstance(result, Lost):
            raise errors.WorkerError(f"{where}: the worker was lost: {result.reason}")
        if isinstance(result, errors.DiffeoError):
            raise type(result)(f"{where}, counted from the first of these: {result}") from result
        found[number + 1] = result

    run(measure_part, [task(part, recipe) for part in parts[1:]], finished, name="shards", before=1)
    joined = reduce(Measurement.joined, (found[k] for k in range(len(parts))))
    return joined.as_auto() if asked == "auto" else joined


def measure_part(model: Any, inputs: Any, layer: str, recipe: Recipe) -> Measurement | errors.DiffeoError:
    """One part, or the error that it ended with."""
    try:
        with errors.unsaid(errors.DiffeoWarning):
            (found,) = measured_layers(model, inputs, [layer], recipe).values()
            return found
    except errors.DiffeoError as error:
        return error
