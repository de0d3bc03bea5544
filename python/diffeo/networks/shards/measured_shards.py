"""One layer measured at many inputs, in parts of whole batches that joblib sends to its workers: the bits of one go."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

from diffeo import errors
from diffeo._support.arrays import integer
from diffeo._support.engine import Lost, run
from diffeo.networks.batches import N_COPIES, sample_set
from diffeo.networks.measurement import Measurement, Recipe, measured_layers


def measured_in_shards(model: Any, inputs: Any, layer: str, recipe: Recipe, shards: int) -> Measurement:
    """What `measured_layers` gives of one layer.

    The first part is measured here: what is to be said of the network is said once, and the other parts take its neurons.

    Raises
    ------
    ParameterError
        Bursts, whose perturbations are drawn one after the other.
    WorkerError
        A part lost its worker each time.
    """
    count = integer(shards, "shards", 1)
    if recipe.covariances != "jacobians":
        raise errors.ParameterError("shards are for covariances='jacobians': bursts are drawn one after the other")
    inputs, recipe = sample_set(inputs), recipe.checked()
    tangents = recipe.tangents(inputs) if callable(recipe.tangents) else recipe.tangents
    batch = recipe.batch_size if recipe.smooth is None else max(1, recipe.batch_size // N_COPIES)
    # Whole batches, so that each pass has the rows that it would have in one go.
    rows = batch * -(-len(inputs) // (batch * count))
    parts = [slice(start, min(start + rows, len(inputs))) for start in range(0, len(inputs), rows)]

    def task(part: slice, how: Recipe) -> tuple[Any, ...]:
        return model, inputs[part], layer, replace(how, tangents=None if tangents is None else tangents[part])

    begin = task(parts[0], recipe)
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
    return reduce(Measurement.joined, (found[k] for k in range(len(parts))))


def measure_part(model: Any, inputs: Any, layer: str, recipe: Recipe) -> Measurement | errors.DiffeoError:
    """One part, or the error that it ended with."""
    try:
        with errors.unsaid(errors.DiffeoWarning):
            (found,) = measured_layers(model, inputs, [layer], recipe).values()
            return found
    except errors.DiffeoError as error:
        return error
