"""Pictures of a rotating horse: two cameras, two autoencoders, and what one would have seen of what the other sees."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.charts.chart import CoordinateChoice
from diffeo.charts.isometric import IsometricChart
from diffeo.demos.horse import drawings
from diffeo.demos.horse.autoencoder import Architecture, train_autoencoder
from diffeo.demos.horse.few_neurons import neurons_section
from diffeo.demos.horse.solid import Camera, Solid, horse, inflated
from diffeo.demos.horse.turn import HeldOut, Turn
from diffeo.demos.horse.turntable import Eye, angles_of_codes, angles_on_circle, closest_approach, difference, observed
from diffeo.demos.page import Page
from diffeo.demos.training import import_torch
from diffeo.matching.match_observations import match
from diffeo.matching.transformation import Transformation
from diffeo.observation.observation import Observation
from diffeo.report.plots import pyplot
from diffeo.verdict.baselines import affine_fit

# The angles at which both cameras saw the horse at once, in degrees: all that joins the two sides.
LANDMARKS = np.radians([25.0, 145.0, 265.0])
# Members of the independently drawn bursts: with as few as the standardised ones have, noise would hide everything.
INDEPENDENT_BURSTS = 32
# Angles of the curve of codes on which a predicted code is looked up.
CURVE = 360
# Angles of the strips of pictures.
SHOWN = 12
CAMERA_A = Camera(azimuth=0.0, elevation=20.0, lamp=(-0.5, 0.7, 0.5))
CAMERA_B = Camera(azimuth=50.0, elevation=32.0, lamp=(0.6, 0.6, 0.4))
# A level camera far away, which sees an outline without perspective.
CAMERA_LEVEL = Camera(azimuth=0.0, elevation=0.0, distance=1e3, focal=0.85e3)
NETWORK_A = Architecture(((8, 4, 2), (16, 4, 2), (24, 4, 2)), "SiLU", hidden=64, latent=4)
NETWORK_B = Architecture(((8, 6, 2), (16, 4, 2), (24, 4, 2)), "GELU", hidden=48, latent=6)


@dataclass(frozen=True)
class Size:
    """How much work a run does.

    Angles of each network, members of a burst, training steps, held-out angles, random sets of neurons of each number,
    and whether independently drawn bursts are tried beside the standardised ones.
    """

    angles: int
    bursts: int
    steps: int
    held_out: int
    draws: int
    independent: bool = True


FULL = Size(angles=480, bursts=4, steps=1200, held_out=180, draws=4)
QUICK = Size(angles=300, bursts=4, steps=250, held_out=60, draws=2, independent=False)


def run(out: Path, *, quick: bool = False) -> None:
    """Run the experiment and write pictures and ``horse.html`` to `out`.

    Parameters
    ----------
    out : Path
        Folder, made if needed.
    quick : bool
        Few angles, few training steps: pictures are blurred.
    """
    run_size(out, QUICK if quick else FULL)


def run_size(out: Path, size: Size) -> None:
    """`run` with a given amount of work."""
    started = time.perf_counter()
    import_torch()
    pyplot()
    out.mkdir(parents=True, exist_ok=True)
    page = Page(
        "One horse, two cameras, two networks",
        "A horse turns on a table. Camera A trained one autoencoder, camera B another, at angles of their own. From the "
        "codes of nearby angles alone diffeo finds that each network knows a circle, joins the two circles by three angles "
        "that both cameras saw, and so draws what camera B would have seen from what camera A sees.",
    )
    solid = horse()
    rng = np.random.default_rng(1)
    _cameras_section(solid, size, out, page)
    a = _trained(solid, CAMERA_A, NETWORK_A, size, rng, 11, "A")
    b = _trained(solid, CAMERA_B, NETWORK_B, size, rng, 12, "B")
    burst_pictures = a.bursts(size.bursts, rng), b.bursts(size.bursts, rng)
    _matching_section(a, b, burst_pictures, size, rng, out, page)
    neurons_section(a, burst_pictures[0], held_out_angles(size), size.draws, out, page)
    page.write(out / "horse.html")
    print(f"\nwrote {out / 'horse.html'} and its pictures in {time.perf_counter() - started:.0f} s")


def held_out_angles(size: Size) -> FloatArray:
    """Evenly spaced angles; no network was trained on any of them."""
    angles: FloatArray = 2.0 * np.pi * (np.arange(size.held_out) + 0.5) / size.held_out
    return angles


def _trained(
    solid: Solid, camera: Camera, architecture: Architecture, size: Size, rng: np.random.Generator, seed: int, name: str
) -> Eye:
    """A network trained on its camera's pictures, at angles of its own: one at random in each of equal parts of the turn."""
    angles = 2.0 * np.pi * (np.arange(size.angles) + rng.random(size.angles)) / size.angles
    pictures = camera.photograph(solid, angles)
    network = train_autoencoder(pictures, architecture, seed=seed, steps=size.steps, name=name)
    return Eye(solid, camera, network, angles, pictures)


def _cameras_section(solid: Solid, size: Size, out: Path, page: Page) -> None:
    """How near pictures of distinct angles come to each other."""
    print("(a) the horse: a silhouette inflated to a solid, on a turntable between two cameras")
    angles = 2.0 * np.pi * np.arange(size.held_out) / size.held_out
    black = replace(solid, coat=np.zeros_like(solid.coat))
    approaches = {
        "a level camera far away, outline only": closest_approach(angles, CAMERA_LEVEL.photograph(black, angles)),
        "camera A, 20 degrees up": closest_approach(angles, CAMERA_A.photograph(solid, angles)),
        "camera B, 32 degrees up": closest_approach(angles, CAMERA_B.photograph(solid, angles)),
    }
    lines = ["  closest approach of pictures more than 20 degrees apart, over the spread of all pictures"]
    lines += [f"    {name:<40}{value:.2f}" for name, value in approaches.items()]
    print("\n".join(lines))
    picture = out / "cameras.png"
    shown = 2.0 * np.pi * np.arange(SHOWN) / SHOWN
    rows = [camera.photograph(solid, shown) for camera in (CAMERA_LEVEL, CAMERA_A, CAMERA_B)]
    rows[0] = CAMERA_LEVEL.photograph(black, shown)
    drawings.draw_cameras(shown, rows, list(approaches.values()), picture)
    page.add(
        "The horse and the cameras",
        "The silhouette of a horse (scikit-image, public domain) is inflated to a solid by a Poisson equation. A level "
        "camera far away sees nearly the same outline from the front and from behind, so that the circle of "
        "pictures nearly crosses itself; cameras from above, in perspective, with a lamp, keep the angles apart.",
        lines,
        [(picture, "pictures around the turn, of a level camera and of cameras A and B")],
        [inflated, Camera.photograph],
    )


def held_out(a: Eye, b: Eye, angles: FloatArray) -> HeldOut:
    """What both cameras and networks make of some angles."""
    seen_a, seen_b = a.see(angles), b.see(angles)
    grid = 2.0 * np.pi * np.arange(CURVE) / CURVE
    own = b.network.decode(b.network.encode(seen_b))
    return HeldOut(angles, seen_a, seen_b, a.network.encode(seen_a), own, (grid, b.codes(grid)))


def turned(t: Transformation, b: Eye, test: HeldOut) -> Turn:
    """Send A's codes through the map, and let B's decoder draw what comes out."""
    predicted = t.transform(test.codes_a)
    read = angles_of_codes(predicted, *test.curve)
    return Turn(np.degrees(difference(read, test.angles)), b.network.decode(predicted))


def _matching_section(
    a: Eye,
    b: Eye,
    burst_pictures: tuple[FloatArray, FloatArray],
    size: Size,
    rng: np.random.Generator,
    out: Path,
    page: Page,
) -> None:
    print("\n(b) from camera A's picture to camera B's, through three angles that both saw")
    sides = [
        observed(eye.network.encode(eye.pictures), eye.network.encode(pictures))
        for eye, pictures in zip((a, b), burst_pictures, strict=True)
    ]
    landmarks = (a.codes(LANDMARKS), b.codes(LANDMARKS))
    t = match(sides[0], sides[1], landmarks=landmarks, coordinates="isometric")
    test = held_out(a, b, held_out_angles(size))
    turn = turned(t, b, test)
    paper = _attempted(sides, landmarks, b, test, "diffusion")
    turns = {"isometric coordinates": turn, "the paper's coordinates": paper}
    if size.independent:
        drawn = [_independent(eye, size, rng) for eye in (a, b)]
        turns[f"isometric, {INDEPENDENT_BURSTS} drawn at random"] = _attempted(drawn, landmarks, b, test, "isometric")
        turns[f"the paper's, {INDEPENDENT_BURSTS} drawn at random"] = _attempted(drawn, landmarks, b, test, "diffusion")
    lines = _circle_lines(t, landmarks[0], test) + _turn_lines(turns, test)
    plain = test.picture_error(b.network.decode(affine_fit(*landmarks)(test.codes_a)))
    lines.append(f"    {'affine fit to the same three pairs':<42}{'':>18}{plain:>10.3f}")
    lines += [f"  problem: {problem}" for problem in t.diagnostics.problems]
    print("\n".join(lines))
    hero, around = out / "horse.png", out / "angle.png"
    drawings.draw_match(t, (a, b), test, turn, landmarks, hero)
    drawings.draw_errors(test, turn, paper, around)
    page.add(
        "What camera B would have seen",
        "Inside of each ring: the code of one network, in its first two principal directions. The ring: the circle that "
        "diffeo recovers from it, without being told that there is one; colours show the true angle, which it never sees. "
        "Three angles join the rings. Below: a picture of camera A goes in, B's decoder draws camera B's.",
        lines,
        [
            (hero, "codes and recovered circles of both networks, and strips of pictures around the turn"),
            (around, "error of the angle, and of the pictures, around the turn"),
        ],
        [observed, _matching_section, turned],
    )


def _independent(eye: Eye, size: Size, rng: np.random.Generator) -> Observation:
    """The code observed with bursts whose angles are drawn independently."""
    pictures = eye.bursts(INDEPENDENT_BURSTS, rng, standardised=False)
    return observed(eye.network.encode(eye.pictures), eye.network.encode(pictures), standardised=False)


def _attempted(
    sides: list[Observation],
    landmarks: tuple[FloatArray, FloatArray],
    b: Eye,
    test: HeldOut,
    coordinates: CoordinateChoice,
) -> Turn | None:
    """A map by other means, or None if they refuse."""
    try:
        t = match(sides[0], sides[1], landmarks=landmarks, coordinates=coordinates, check=False)
        return turned(t, b, test)
    except errors.DiffeoError as error:
        print(f"  refused: {error}")
        return None


def _circle_lines(t: Transformation, landmarks: FloatArray, test: HeldOut) -> list[str]:
    """Whether both sides were found to be circles, and how well the angle is read off A's."""
    if not isinstance(t.a, IsometricChart) or not isinstance(t.b, IsometricChart):
        return ["  no circle was found: the coordinates are those of a line"]
    lines = []
    for name, side in (("A", t.a), ("B", t.b)):
        period = np.linalg.norm(side.embedding.periods_, axis=1)
        found = f"a circle of {np.degrees(period[0]):.2f} degrees" if len(period) == 1 else "no circle"
        lines.append(f"  {name}: {found}, relative stress {side.embedding.stress_:.1e}")
    places, at = (t.a.place(codes, 1).values[:, 0] for codes in (test.codes_a, landmarks))
    missed = np.abs(np.degrees(difference(angles_on_circle(places, at, LANDMARKS), test.angles)))
    lines.append(
        f"  angle read off A's circle: off by {np.median(missed):.3f}\u00b0 (median), {missed.max():.3f}\u00b0 at worst"
    )
    return lines


def _turn_lines(turns: dict[str, Turn | None], test: HeldOut) -> list[str]:
    """A table of errors at held-out angles."""
    own = test.picture_error(test.own)
    lines = [f"  {'A -> B, held-out angles':<44}{'median':>8}{'worst':>10}{'picture':>10}"]
    for name, turn in turns.items():
        if turn is None:
            lines.append(f"    {name:<42}  refused")
            continue
        missed, picture = np.abs(turn.angle_errors), test.picture_error(turn.drawn)
        row = f"    {name:<42}{np.median(missed):>7.3f}\u00b0{missed.max():>9.3f}\u00b0{picture:>10.3f}"
        lines.append(f"{row}   ({picture / own:.3f} times B's own)")
    lines.append(f"    {'B from its own codes':<42}{'':>18}{own:>10.3f}")
    return lines
