"""Rows of charts of networks trained on the spot: cliffs, recurrent ones, encoders, rectifiers, random neurons."""

from __future__ import annotations

import functools
import itertools
import sys
import time

import diffeo
import numpy as np
import torch
from diffeo.demos.training import train
from tqdm import tqdm

from bench import cliffs, digits, encoders
from bench.charts_rows import Size, row
from bench.figures import Row, listed, percent
from bench.networks import FUNCTIONS, Pair, draw, spread_landmarks, train_pair
from bench.truth_networks import recurrent

HELD_OUT = 200


@row("cliffs, d = 2")
def refined_cliffs(name: str, size: Size) -> Row:
    """Last hidden layers of two perceptrons that learned a front: three landmarks, samples added where they are thin."""
    pair = cliffs.trained(size.steps)
    # As few that uniform ones miss the front.
    given, n = size.n // 4, 5 * size.n // 8
    refined = cliffs.matched(pair, given, n - given, seed=0)
    uniform = cliffs.matched(pair, n, None, seed=0)
    return Row(
        name,
        f"front of 1/40, {n} samples a side of which {n - given} are added by refine, 3 landmarks",
        percent(refined.error),
        "1 %",
        refined.error <= 0.01,
        f"{refined.seconds:.1f} s to match, {refined.told}\nuniform {n}: {percent(uniform.error)}, "
        f"{uniform.seconds:.1f} s, {uniform.told}\nnetworks miss the front by {percent(max(pair.misfits))}",
    )


@row("cliffs, d = 3")
def refined_cliffs_of_three(name: str, size: Size) -> Row:
    """The same over three inputs, from three times as many samples, by four landmarks."""
    n = 3 * size.n
    one = cliffs.matched(cliffs.trained(size.steps, 3), n // 2, n - n // 2, seed=0)
    return Row(
        name,
        f"front of 1/40 over three inputs, {n} samples a side of which {n - n // 2} are added by refine, 4 landmarks",
        percent(one.error),
        "3 %",
        one.error <= 0.03,
        f"{one.seconds:.1f} s to match, {one.told}",
    )


@row("cliffs, hidden draws", "cliffs, output draws")
def drawn_cliffs(name: str, size: Size) -> Row:
    """Draws of samples and landmarks, at last hidden layers and at outputs: how many are refused, and what each misses."""
    pair = cliffs.trained(size.steps) if "hidden" in name else cliffs.trained_outputs(size.steps)
    given, n = size.n // 4, size.n
    found = [
        cliffs.matched(pair, given, n - given, seed=seed)
        for seed in tqdm(range(size.cliffs), desc=name, leave=False, disable=None)
    ]
    refused = sum(bool(one.refusal) for one in found)
    errors = np.array([one.error for one in found])
    good = refused == 0 and bool((errors <= 0.01).all())
    return Row(
        name,
        f"front of 1/40, {n} samples a side of which {n - given} are added by refine, 3 landmarks, {len(found)} draws",
        f"median {percent(float(np.median(errors)))}, worst {percent(float(errors.max()))}",
        "1 %, none refused",
        good,
        f"refused {refused}, with a problem {sum(bool(one.problems) for one in found)}, above 1 % without one "
        f"{sum(one.error > 0.01 and not one.problems and not one.refusal for one in found)}; "
        f"networks miss the front by {percent(max(pair.misfits))}",
    )


@row("recurrent, derivatives", "recurrent, bursts")
def recurrent_pairs(name: str, size: Size) -> Row:
    """Hidden states of a gated network and of a long short-term memory that continue one family of waves."""
    derivatives, count = name.endswith("derivatives"), 300
    n, how = (size.n // 4, {}) if derivatives else (size.n // 2, {"covariances": "bursts", "n_bursts": 128})
    target = 0.01 if derivatives else 0.02
    errors, told = list[float](), list[str]()
    for number in range(4 if size.draws > 4 else 1):
        pair, rng = recurrent(number, size.steps // 5), np.random.default_rng([number, 9])
        try:
            t = diffeo.match(*pair.observe(n, rng, **how), landmarks=pair.pairs(rng, 3))
        except diffeo.errors.DiffeoError as error:
            errors.append(np.inf)
            told.append(f"refused, {type(error).__name__}")
            continue
        at_a, at_b = pair.pairs(rng, count)
        ways = diffeo.relative_error(t.transform(at_a), at_b), diffeo.relative_error(t.inverse_transform(at_b), at_a)
        errors.append(max(ways))
        verdict = diffeo.assess(t, (at_a, at_b), baselines=False).verdict
        told.append(
            f"{percent(ways[0])} and back {percent(ways[1])}, {len(t.diagnostics.problems)} problems, {verdict}"
        )
    return Row(
        name,
        f"{len(errors)} pairs, n = {n}, 3 landmarks, {'derivatives' if derivatives else 'bursts of 128'}: larger error of "
        "both ways",
        f"median {percent(float(np.median(errors)))}, worst {percent(max(errors))}",
        percent(target) + ("" if derivatives else ", or named"),
        all(
            one <= target or (not derivatives and " 0 problems" not in text)
            for one, text in zip(errors, told, strict=True)
        ),
        "; ".join(told),
    )


@row("transformer layers")
def transformer_layers(name: str, size: Size) -> Row:
    """First layer of a small encoder at mixtures of three sequences, matched with its deeper ones."""
    model = encoders.mixed_encoder(0, size.steps // 4)
    given, added = 3 * size.n // 4, 5 * size.n // 4
    found = encoders.to_deeper_layers(model, given, added, 0)
    uniform = encoders.to_deeper_layers(model, given, 0, 0)
    worst = max(max(one.errors) for one in found)
    return Row(
        name,
        f"{encoders.DEPTH} layers of width {encoders.WIDTH}, {given} samples, {added} more by refine, 3 landmarks: worst error",
        percent(worst),
        "1 %",
        worst <= 0.01,
        "\n".join(one.told for one in found) + f"\n{given} alone: " + "; ".join(one.told for one in uniform),
    )


@row("rectifiers, digits")
def rectified_digits(name: str, size: Size) -> Row:
    """Last hidden layers of convolutional networks with rectifiers and pooling, by all defaults."""
    n, pairs = size.n // 2, ((1, 2), (3, 4))
    with diffeo.errors.unsaid(diffeo.errors.PiecewiseLinearWarning):
        found = [one for pair in pairs for one in digits.matched(pair, n, size.steps // 10, 3, {})]
    errors = np.array([(one.forward, one.backward) for one in found])
    right = sum(one.verdict == "equivalent" for one in found)
    return Row(
        name,
        f"{len(pairs)} pairs of networks, n = {n}, {digits.LANDMARKS} landmarks (3 draws, no check): median error, both ways",
        percent(float(np.median(errors))),
        "3 % each, verdict right",
        bool((errors <= 0.03).all()) and right == len(found),
        f"forward {', '.join(percent(e) for e in errors[:, 0])}; backward {', '.join(percent(e) for e in errors[:, 1])}; "
        f"verdicts {', '.join(one.verdict for one in found)}",
    )


@row("auto on rectifiers")
def rectified_by_bursts(name: str, size: Size) -> Row:
    """The first pair of these networks from half as many samples, by slopes that covariances="auto" takes, and by Jacobians."""
    n, pair = size.n // 4, (1, 2)
    found = {}
    for how in ({"covariances": "auto"}, {"covariances": "jacobians"}):
        with diffeo.errors.unsaid(diffeo.errors.PiecewiseLinearWarning):
            (found[how["covariances"]],) = digits.matched(pair, n, size.steps // 10, 1, how)
    auto, plain = found["auto"], found["jacobians"]
    return Row(
        name,
        f"one pair, n = {n}, {digits.LANDMARKS} landmarks (one draw, no check), covariances by auto: larger error of both ways",
        percent(max(auto.forward, auto.backward)),
        "3 %, verdict right",
        max(auto.forward, auto.backward) <= 0.03 and auto.verdict == "equivalent",
        f"forward {percent(auto.forward)}, backward {percent(auto.backward)}, {auto.verdict}; by Jacobians "
        + (f"{percent(max(plain.forward, plain.backward))}, " if np.isfinite(plain.forward) else "refused: ")
        + plain.verdict,
    )


@row("many neurons")
def many_neurons(name: str, size: Size) -> Row:
    """The choice of neurons among 198 outputs of random perceptrons over two and three inputs: the time that it takes."""
    n, seconds, sets = 3 * size.n // 4, {}, []
    for d in (2, 3):
        torch.manual_seed(d)
        widths = [(d, 64), (64, 64), (64, 198)]
        layers = [part for m, k in widths for part in (torch.nn.Linear(m, k), torch.nn.Tanh())]
        net = torch.nn.Sequential(*layers[:-1]).double()
        observation = diffeo.observe(net, np.random.default_rng(d).random((n, d)))
        start = time.process_time()
        sets.append(diffeo.suggest_neurons(observation))
        seconds[d] = time.process_time() - start
    return Row(
        name,
        f"suggest_neurons of 198 outputs, n = {n}, d = 2 and 3: CPU seconds",
        " and ".join(f"{value:.2f} s" for value in seconds.values()),
        "1 s",
        max(seconds.values()) <= 1.0,
        "; ".join(f"{len(one.neurons)} neurons, {len(one.problems)} problems" for one in sets),
    )


@row("more data")
def more_data(name: str, size: Size) -> Row:
    """Uniform samples of rising size on the same pair: no error is above 1.2 times the one before, unless it is named."""
    pair = cliffs.trained(size.steps)
    found = {n: cliffs.matched(pair, n, None, seed=0) for n in size.uniform}
    sizes = list(size.uniform)
    worse = [
        n
        for before, n in itertools.pairwise(sizes)
        if found[n].error > 1.2 * found[before].error and not found[n].problems
    ]
    return Row(
        name,
        f"uniform samples of a front of 1/40, {', '.join(map(str, sizes))} a side",
        f"{len(worse)} worse, unnamed",
        "none",
        not worse,
        listed({f"n = {n}": one.error for n, one in found.items()})
        + "\n"
        + "; ".join(f"n = {n}: {one.told}, {one.seconds:.1f} s" for n, one in found.items()),
    )


# Widths, activations and depths of perceptrons whose neurons are drawn, beside those of `bench.networks`.
OTHERS = (
    ((96,), "Tanh"), ((20, 20), "SiLU"), ((40, 40, 40, 40), "GELU"), ((64, 16), "Tanh"), ((32, 32, 32), "SiLU"),
    ((128, 64), "GELU"), ((24, 24, 24, 24), "Tanh"), ((48, 48, 48), "GELU"),
)  # fmt: skip


@functools.cache
def _other_pair(number: int, steps: int) -> Pair:
    """Two perceptrons of different make, trained on one function."""
    function, networks, layers, misfits = list(FUNCTIONS)[number % len(FUNCTIONS)], [], [], []
    for side in (0, 1):
        widths, activation = OTHERS[(number + 3 * side) % len(OTHERS)]
        network, misfit = train(
            FUNCTIONS[function], n_inputs=2, widths=widths, activation=activation, seed=9000 + 2 * number + side,
            steps=steps, name=f"{function} {number} {'AB'[side]}",
        )  # fmt: skip
        networks.append(network)
        layers.append(tuple(str(2 * k + 1) for k in range(len(widths))))
        misfits.append(misfit)
    return Pair(f"other-{number}", 2, (networks[0], networks[1]), (layers[0], layers[1]), (misfits[0], misfits[1]))


@row("random neurons", "random neurons of others")
def random_neurons(name: str, size: Size) -> Row:
    """Draws of five random hidden neurons: how many are flagged, and whether any wrong map is silent; checked and not."""
    functions = list(FUNCTIONS)
    flagged, right_flagged, silent, wrong, refused = ([0, 0] for _ in range(5))
    for seed in range(size.draws):
        if name == "random neurons":
            pair = _trained_pair(functions[seed % len(functions)], seed // len(functions) % 2, size.steps)
        else:
            pair = _other_pair(seed % len(OTHERS), size.steps)
        one = draw(pair, seed, size.n // 2)
        marks, new = spread_landmarks(pair, seed, 3), pair.inputs(HELD_OUT, np.random.default_rng([seed, 2]))
        at_a, at_b = one.pairs(0.02 + 0.96 * new)
        charts = diffeo.Chart(one.a), diffeo.Chart(one.b)
        for check in (False, True):
            try:
                t = diffeo.match(*charts, landmarks=one.pairs(marks), check=check)
            except diffeo.errors.DiffeoError as error:
                flagged[check] += 1
                refused[check] += 1
                tqdm.write(f"  {one.name}: {type(error).__name__}", file=sys.stderr)
                continue
            error, said = diffeo.relative_error(t.transform(at_a), at_b), bool(t.diagnostics.problems)
            flagged[check] += said
            right_flagged[check] += said and error <= 0.01
            wrong[check] += error > 0.01
            silent[check] += error > 0.01 and not said
            if said or error > 0.01:
                text = (
                    f"{one.name}, {'' if check else 'no '}check: {percent(error)}; {'; '.join(t.diagnostics.problems)}"
                )
                tqdm.write(f"  {text:.300}", file=sys.stderr)
    return Row(
        name,
        f"{size.draws} draws of 5 random neurons a side, n = {size.n // 2}, 3 landmarks: flagged without the check, with it",
        f"{flagged[0]}, {flagged[1]}",
        "at most 5 %, none silent",
        max(flagged) <= 0.05 * size.draws and not any(silent),
        f"right to 1 % and flagged {right_flagged[0]}, {right_flagged[1]}; off by more {wrong[0]}, {wrong[1]}, of which silent "
        f"{silent[0]}, {silent[1]}; refused {refused[0]}, {refused[1]}",
    )


@functools.cache
def _trained_pair(function: str, variant: int, steps: int) -> Pair:
    return train_pair(function, variant, steps)
