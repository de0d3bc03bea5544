"""What the commands ``diffeo observe``, ``compare`` and ``screen`` do: from files to files, and a text to print."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.wording import percent
from diffeo.cli.family_commands import observe_many
from diffeo.cli.pair_commands import by_pairs
from diffeo.cli.reading import check_folder, digest, facts_of, observation_arrays, read_inputs, write_json
from diffeo.files.arrays import read_observation, read_pairs, write_array, write_arrays
from diffeo.matching.pairs import Pairs, as_pairs
from diffeo.observation.observation import Observation
from diffeo.verdict.error_bounds import EQUIVALENT, LEAST_PAIRS
from diffeo.verdict.report import Report

# Without a file of held-out pairs this share of the pairs is held out, drawn by the seed ...
HELD_OUT_SHARE = 0.5
# ... and this many pairs a dimension, and one more, must remain as landmarks.
LANDMARKS_A_DIMENSION = 2


def observe(options: Any) -> str:
    """Measure a saved network on inputs, and write its observation; what to print."""
    from diffeo.networks.measurement import Recipe, measured_layers, one_layer
    from diffeo.networks.neuron_choice import suggest_neurons
    from diffeo.networks.observe_networks import observed, refined
    from diffeo.networks.saved import load_network

    output = str(options.output)
    many = len(options.weights) > 1 or options.common is not None
    if not many and not output.endswith((".npz", ".safetensors")):
        raise errors.ParameterError(f"{output}: an observation is written as .npz or .safetensors")
    check_folder(output)
    check_folder(options.added)
    check_folder(options.json)
    if options.added is not None and not options.refine:
        raise errors.ParameterError("--added is for --refine N: nothing is added without it")
    tangents = None if options.tangents is None else read_inputs(options.tangents, "tangents")
    if options.covariances == "jacobians" and options.scale is not None:
        raise errors.ParameterError("--scale is for --covariances auto, slopes or bursts; Jacobians have none")
    recipe = Recipe(
        reduce=options.reduce,
        smooth=options.smooth,
        neurons=options.neurons,
        covariances=options.covariances,
        n_bursts=options.bursts,
        scale=options.scale,
        tangents=tangents,
        rng=options.seed,
        verbose=options.verbose,
    )
    if many:
        if options.refine:
            raise errors.ParameterError("--refine is for one network: the inputs that it adds belong to that one")
        return observe_many(options, recipe)
    inputs = read_inputs(options.inputs, "inputs")
    network = load_network(options.network, options.weights[0], options.dtype)
    # Before anything is written, so that what is written can be used.
    if not options.refine:
        (measured,) = measured_layers(network, inputs, [one_layer(network, options.layer)], recipe).values()
        built = observed(measured, options.dim)
    else:
        measured, built = refined(network, inputs, options.layer, recipe, options.dim, None, None, options.refine, None)
    said = list[str]()
    if options.suggest_neurons is not None:
        chosen = suggest_neurons(built, n_neurons=options.suggest_neurons or None)
        place = {int(number): column for column, number in enumerate(measured.neurons)}
        measured = measured.select(np.array([place[int(number)] for number in chosen.neurons]))
        built = built.select(chosen)
        said = [f"kept {len(chosen.neurons)} neurons", *(f"problem: {problem}" for problem in chosen.problems)]
    arrays = observation_arrays(measured, built)
    if output.endswith(".npz"):
        write_arrays(output, arrays)
    else:
        built.save(output)
    lines = [repr(built), *said]
    if built.options.added_inputs is not None:
        added = built.options.added_inputs
        lines.append(f"{len(added)} inputs added; {percent(built.options.resolved or 0.0)} of the steps are resolved")
        if options.added is not None:
            write_array(options.added, added)
            lines.append(f"wrote {options.added}")
    if options.json is not None:
        added_inputs = 0 if built.options.added_inputs is None else len(built.options.added_inputs)
        write_json(facts_of(built, output) | {"added_inputs": added_inputs}, options.json)
        lines.append(f"wrote {options.json}")
    return "\n".join([*lines, f"wrote {output}"])


def compare(options: Any, arguments: Sequence[str], warned: list[str]) -> tuple[str, int]:
    """Match two observations, judge the match by held-out pairs, and write what was asked for.

    Parameters
    ----------
    options : argparse.Namespace
    arguments : sequence of str
        Of the command line, which the report repeats.
    warned : list of str
        Warnings that were given since, which it lists.

    Returns
    -------
    text : str
        What to print.
    code : int
        0 if equivalent, 1 if not.
    """
    from diffeo.verdict.assess_transformation import compare as compared

    for path in (options.html, options.json, options.save):
        check_folder(path)
    if options.pairs is not None:
        return _written(*by_pairs(options), options, arguments, warned)
    if options.a is None or options.b is None or options.landmarks is None:
        raise errors.ParameterError("give A.npz, B.npz and --landmarks, or --pairs FILE (diffeo pairs writes it)")
    a, b = read_observation(options.a), read_observation(options.b)
    landmarks, split = as_pairs(read_pairs(options.landmarks), a, b), ""
    held_out = None if options.held_out is None else as_pairs(read_pairs(options.held_out), a, b, "held_out")
    if landmarks is not None and options.held_out is None:
        landmarks, held_out, split = hold_out(landmarks, max(a.dim, b.dim), options.seed)
    report = compared(
        a,
        b,
        landmarks=landmarks,
        held_out=held_out,
        margin=options.margin,
        significance=options.significance,
        coordinates=options.coordinates,
        check=options.check,
        random_state=options.seed,
        n_jobs=options.jobs,
        verbose=options.verbose,
    )
    files = [path for path in (options.a, options.b, options.landmarks, options.held_out) if path is not None]
    facts: dict[str, Any] = {"held_out": split} if split else {}
    facts["sha256"] = {os.path.basename(path): digest(path) for path in files}
    facts["observation_a"], facts["observation_b"] = described(a), described(b)
    return _written(report, facts, options, arguments, warned)


def _written(
    report: Report, facts: dict[str, Any], options: Any, arguments: Sequence[str], warned: list[str]
) -> tuple[str, int]:
    """Write the report in the forms that were asked for; what to print, and the exit code."""
    facts = {"command": shlex.join(["diffeo", *arguments]), **facts}
    if warned:
        facts["warnings"] = list(warned)
    report = replace(report, settings=report.settings | facts)
    lines = [report.summary(), *([f"  {facts['held_out']}"] if "held_out" in facts else [])]
    for path, write in ((options.html, report.to_html), (options.json, report.to_json), (options.save, report.save)):
        if path is not None:
            write(path)
            lines.append(f"  wrote {path}")
    return "\n".join(lines), 0 if report.verdict == EQUIVALENT else 1


def screen(options: Any) -> tuple[str, int]:
    """Look for what speaks against two observations being one; what to print, and 0 if nothing does."""
    from diffeo.screening.screen_observations import screen as screened

    check_folder(options.json)
    found = screened(
        read_observation(options.a),
        read_observation(options.b),
        significance=options.significance,
        random_state=options.seed,
        n_jobs=options.jobs,
        verbose=options.verbose,
    )
    lines = [found.summary()]
    if options.json is not None:
        write_json(found.to_dict(), options.json)
        lines.append(f"wrote {options.json}")
    return "\n".join(lines), 1 if found.differences or found.fingerprints is None else 0


def hold_out(pairs: Pairs, dim: int, seed: int) -> tuple[Pairs, Pairs, str]:
    """Split pairs into landmarks and held-out ones, and say how.

    Raises
    ------
    SampleSizeError
        There are not enough for both.
    """
    count = len(pairs)
    least = LANDMARKS_A_DIMENSION * dim + 1
    held = max(LEAST_PAIRS, int(HELD_OUT_SHARE * count))
    if count - held < least:
        raise errors.SampleSizeError(
            f"there is no file of held-out pairs, and {count} pairs are too few to hold some out: a verdict needs "
            f"{LEAST_PAIRS} of them beside {least} landmarks; bring {LEAST_PAIRS + least} pairs, or a file for --held-out"
        )
    order = np.random.default_rng(seed).permutation(count)
    out, kept = np.sort(order[:held]), np.sort(order[held:])
    stated = f"{held} of the {count} pairs were held out, drawn by seed {seed}; {count - held} were landmarks"
    return pairs[kept], pairs[out], stated


def described(observation: Observation) -> str:
    """What was observed, in a line."""
    layer = f" of layer {observation.layer}" if observation.layer else ""
    n, m = observation.points.shape
    return f"{n} samples, {m} measurements{layer}, dim {observation.dim}, from {observation.source}"
