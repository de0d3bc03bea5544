"""What ``diffeo pairs`` and ``diffeo compare --pairs`` do: common inputs of two saved networks, measured and judged."""

from __future__ import annotations

import os
from typing import Any

from diffeo import errors
from diffeo.cli.reading import check_folder, digest, read_inputs, write_json
from diffeo.files.arrays import Arrays, read_measured_pairs, write_arrays
from diffeo.verdict.report import Report


def pairs(options: Any) -> str:
    """Measure two saved networks at common inputs, and write the pairs; what to print."""
    from diffeo.matching.by_pairs.measured import measure_pairs
    from diffeo.networks.saved import load_network

    output = str(options.output)
    if not output.endswith((".npz", ".safetensors")):
        raise errors.ParameterError(f"{output}: pairs are written as .npz or .safetensors")
    check_folder(output)
    check_folder(options.json)
    inputs = read_inputs(options.inputs, "inputs")
    tangents = None if options.tangents is None else read_inputs(options.tangents, "tangents")
    found = measure_pairs(
        load_network(options.a, options.weights_a, options.dtype),
        load_network(options.b, options.weights_b, options.dtype),
        inputs,
        layers=(options.layer_a, options.layer_b),
        reduce=options.reduce,
        neurons=options.neurons,
        tangents=tangents,
        jacobians=not options.no_jacobians,
        rng=options.seed,
        verbose=options.verbose,
    )
    if output.endswith(".npz"):
        arrays: Arrays = {"points_a": found.points_a, "points_b": found.points_b}
        for name in ("jacobians_a", "jacobians_b"):
            if getattr(found, name) is not None:
                arrays[name] = getattr(found, name)
        write_arrays(output, arrays)
    else:
        found.save(output)
    m_a, m_b = found.points_a.shape[1], found.points_b.shape[1]
    slopes = "with derivatives" if found.with_derivatives else "without derivatives"
    lines = [f"{len(found)} pairs of {m_a} measurements of A and {m_b} of B, {slopes}", f"wrote {output}"]
    if options.json is not None:
        sizes = {"pairs": len(found), "measurements_a": m_a, "measurements_b": m_b}
        write_json(sizes | {"derivatives": found.with_derivatives, "file": output}, options.json)
        lines.append(f"wrote {options.json}")
    return "\n".join(lines)


def by_pairs(options: Any) -> tuple[Report, dict[str, Any]]:
    """The report on maps learned from a file of pairs, and the facts that belong to it."""
    from diffeo.matching.by_pairs.matched import match_pairs
    from diffeo.verdict.assess_transformation import assess

    if options.a is not None or options.landmarks is not None:
        raise errors.ParameterError("--pairs takes the place of A.npz, B.npz and --landmarks: leave these out")
    given = read_measured_pairs(options.pairs)
    held_out = None if options.held_out is None else read_measured_pairs(options.held_out)
    t = match_pairs(given, held_out, options.seed, options.jobs, verbose=options.verbose)
    report = assess(
        t, margin=options.margin, significance=options.significance, n_jobs=options.jobs, verbose=options.verbose
    )
    files = [path for path in (options.pairs, options.held_out) if path is not None]
    facts: dict[str, Any] = {"sha256": {os.path.basename(path): digest(path) for path in files}}
    if held_out is None and t.held_out is not None:
        facts["held_out"] = (
            f"{len(t.held_out)} of the {len(given)} pairs were held out, drawn by seed {options.seed}; the maps were learned "
            "from the others"
        )
    return report, facts
