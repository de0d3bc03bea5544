"""What ``diffeo family`` does, and ``diffeo observe`` with many weights: from checkpoints to a page in two commands."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import IntArray
from diffeo._support.progress import showing, stage
from diffeo.cli.reading import check_folder, facts_of, observation_arrays, read_inputs, write_json
from diffeo.family.found import Family
from diffeo.files.arrays import read_arrays, read_observation, write_arrays

# Inputs that are kept for all networks, where no others are given: this share, and at most so many.
COMMON_SHARE, MOST_COMMON = 0.2, 400
# Of the common inputs this share judges, drawn by the seed; the others are landmarks.
HELD_OUT_SHARE = 0.5
COMMON_FILE = "common.npz"


def names_of(paths: Sequence[str]) -> list[str]:
    """What files are called in a family: without folder and suffix, or with the folder where these are not all different."""
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    longer = [re.sub(r"[\\/]+", "-", os.path.splitext(os.path.normpath(path))[0]).lstrip("-.") for path in paths]
    again = [name for name, count in Counter(longer).items() if count > 1]
    if again:
        raise errors.ParameterError(
            f"{len(again)} files are named more than once, {again[0]} for one: each counts once"
        )
    return longer


def in_order(paths: Sequence[str]) -> list[str]:
    """Paths in the order of their names, numbers within them by value: step-200 before step-1000."""

    def key(path: str) -> list[tuple[int, int, str]]:
        return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path) if part]

    return sorted(paths, key=key)


def observe_many(options: Any, recipe: Any) -> str:
    """Measure many saved networks of one factory, at inputs and at common ones, and write a file for each; what to print."""
    from diffeo.networks.measurement import measured_layers, one_layer
    from diffeo.networks.observe_networks import observed
    from diffeo.networks.saved import load_network

    folder = str(options.output)
    if folder.endswith((".npz", ".safetensors")):
        raise errors.ParameterError(f"{folder}: many networks are written to a folder, -o FOLDER")
    weights = in_order(options.weights)
    names = names_of(weights)
    if "common" in names:
        raise errors.ParameterError(f"weights named common would be written over {COMMON_FILE}: rename them")
    inputs, at, recipe, at_common = _common_inputs(options, recipe)
    os.makedirs(folder, exist_ok=True)
    common, lines = dict[str, Any](), list[str]()
    facts, left_out = dict[str, Any](), dict[str, str]()
    with showing(options.verbose), stage("networks") as report:
        for k, (name, path) in enumerate(zip(names, weights, strict=True)):
            report(k, len(names))
            network = load_network(options.network, path, options.dtype)
            layer = one_layer(network, options.layer)
            try:
                (measured,) = measured_layers(network, inputs, [layer], recipe).values()
                built = observed(measured, options.dim)
                arrays = observation_arrays(measured, built)
                (there,) = measured_layers(network, at, [layer], replace(at_common, neurons=measured.neurons)).values()
            except errors.DiffeoError as error:
                # The others are of use without it.
                lines.append(f"{name} was left out: {error}")
                left_out[name] = str(error)
                continue
            write_arrays(os.path.join(folder, f"{name}.npz"), arrays)
            facts[name] = facts_of(built, os.path.join(folder, f"{name}.npz"))
            common[f"{name}.points"] = there.points
            if there.jacobians is not None:
                common[f"{name}.jacobians"] = there.jacobians
            lines.append(f"{name}: {built!r}")
    if not common:
        raise errors.InputError(f"none of the {len(names)} networks could be observed; {lines[0]}")
    path = os.path.join(folder, COMMON_FILE)
    write_arrays(path, common)
    shown = lines if len(lines) <= 6 else [*lines[:3], "...", *lines[-2:]]
    if options.json is not None:
        write_json({"networks": facts, "left_out": left_out, "common": path, "common_inputs": len(at)}, options.json)
        shown.append(f"wrote {options.json}")
    return "\n".join([*shown, f"wrote {len(facts)} files and {path}, {len(at)} common inputs"])


def _common_inputs(options: Any, recipe: Any) -> tuple[Any, Any, Any, Any]:
    """Inputs of all networks, those that are common, and how they are measured at both."""
    inputs = read_inputs(options.inputs, "inputs")
    # Values alone will do at common inputs, where bursts would be wasted.
    plain = replace(recipe, covariances="jacobians", scale=None)
    if options.common is not None:
        at = read_inputs(options.common, "common inputs")
        if at.shape[1:] != inputs.shape[1:]:
            raise errors.ShapeError(f"common inputs have shape {at.shape[1:]} each, and the others {inputs.shape[1:]}")
        if recipe.tangents is not None:
            raise errors.ParameterError(
                "--tangents belong to --inputs: leave out --common, and some of these are taken as common inputs"
            )
        return inputs, at, recipe, plain
    count = min(int(COMMON_SHARE * len(inputs)), MOST_COMMON)
    drawn = np.random.default_rng(options.seed).permutation(len(inputs))
    taken, rest = np.sort(drawn[:count]), np.sort(drawn[count:])
    if recipe.tangents is None:
        return inputs[rest], inputs[taken], recipe, plain
    tangents = recipe.tangents
    return (
        inputs[rest],
        inputs[taken],
        replace(recipe, tangents=tangents[rest]),
        replace(plain, tangents=tangents[taken]),
    )


def family(options: Any, arguments: Sequence[str], warned: list[str]) -> str:
    """Compare every pair of observations, and write what was asked for; what to print."""
    from diffeo.pairwise.compare_all import compare_family

    for path in (options.html, options.json, options.save):
        check_folder(path)
    files = in_order([path for path in options.files if not _same(path, options.common)])
    names = names_of(files)
    wanted = tuple(f"{name}.{what}" for name in names for what in ("points", "jacobians"))
    common = read_arrays(options.common, wanted)
    missing = [name for name in names if f"{name}.points" not in common]
    if missing:
        raise errors.InputError(
            f"{options.common} lacks {len(missing)} of {len(names)} networks ({', '.join(missing[:5])}): it holds NAME.points "
            "for each NAME.npz, as diffeo observe writes it"
        )
    marks, judges = _split(len(common[f"{names[0]}.points"]), options.seed)
    landmarks, held_out = dict[str, Any](), dict[str, Any]()
    for name in names:
        points, jacobians = common[f"{name}.points"], common.get(f"{name}.jacobians")
        if len(points) != len(marks) + len(judges):
            raise errors.ShapeError(
                f"{options.common}: {name} has {len(points)} common points, and {names[0]} {len(marks) + len(judges)}"
            )
        landmarks[name] = points[marks] if jacobians is None else (points[marks], jacobians[marks])
        held_out[name] = points[judges]
    found = compare_family(
        {name: read_observation(path) for name, path in zip(names, files, strict=True)},
        landmarks=landmarks,
        held_out=held_out,
        margin=options.margin,
        significance=options.significance,
        pairs=options.pairs,
        coordinates=options.coordinates,
        check=options.check,
        checkpoint=options.checkpoint,
        random_state=options.seed,
        n_jobs=options.jobs,
        verbose=options.verbose,
    )
    stated = f"{len(marks)} landmarks, {len(judges)} held-out inputs, drawn by seed {options.seed}"
    facts: dict[str, Any] = {"command": shlex.join(["diffeo", *arguments]), "common inputs": stated}
    if warned:
        facts["warnings"] = "; ".join(warned)
    found = replace(found, settings=facts | found.settings)
    lines = [found.summary()]
    writing = (
        (options.html, found.to_html),
        (options.json, lambda to: write_json(plain(found), to)),
        (options.save, found.save),
    )
    for path, write in writing:
        if path is not None:
            write(path)
            lines.append(f"wrote {path}")
    return "\n".join(lines)


def plain(found: Family) -> dict[str, Any]:
    """A family in plain numbers and texts, by names."""
    pairs = [{"a": found.names[i], "b": found.names[j]} | cell.to_dict() for (i, j), cell in found.cells.items()]
    edges = [
        {"source": one.source, "target": one.target, "pairs": one.count, "of": one.total} for one in found.determines
    ]
    return {
        "schema": "diffeo.family/1",
        "classes": found.classes,
        "determines": edges,
        "conflicts": [asdict(one) for one in found.conflicts],
        "pairs": pairs,
        "notes": found.notes,
        "margin": found.margin,
        "significance": found.significance,
        "settings": found.settings,
    }


def _split(count: int, seed: int) -> tuple[IntArray, IntArray]:
    """Landmarks and held-out ones of so many common inputs."""
    order = np.random.default_rng(seed).permutation(count)
    held = int(HELD_OUT_SHARE * count)
    return np.sort(order[held:]).astype(np.int64), np.sort(order[:held]).astype(np.int64)


def _same(path: str, other: str) -> bool:
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)
