"""The field demo: its parts against exact answers, and the whole at a very small size."""

from __future__ import annotations

import html.parser
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from diffeo.demos.field import experiment, oscillator  # noqa: E402
from diffeo.demos.field.transfer import PAIRS  # noqa: E402
from diffeo.demos.page import Page  # noqa: E402

TINY = experiment.Size(steps=200, polish=120, samples=900, samples_transfer=600, draws=1)
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Balance(html.parser.HTMLParser):
    """Collects sources and tags, and fails on an end tag without its start."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.sections, self.tags = [], [], 0, set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sections += tag == "section"
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def checked(text):
    """The page, parsed: well-formed and with nothing outside of it."""
    page = Balance()
    page.feed(text)
    assert page.open == []
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not {"script", "link", "iframe"} & page.tags
    style = text[: text.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style
    return page


@pytest.fixture(scope="module")
def bent():
    return oscillator.Instrument((0.4, 0.8), (-0.2, 1.5), angle=2.3, units=(1.3, -0.8))


def test_an_instrument_is_undone_by_its_inverse(bent):
    x = torch.from_numpy(oscillator.states(200, np.random.default_rng(0)))
    assert torch.allclose(bent.inverse(bent(x)), x, atol=1e-13, rtol=0)


def test_velocity_in_own_coordinates_is_the_rate_of_change_along_the_flow(bent):
    x = oscillator.states(50, np.random.default_rng(1))
    step = 1e-4
    ahead, behind = (oscillator.integrate(oscillator.velocity, x, sign * step)[-1] for sign in (1.0, -1.0))
    rate = (bent(torch.from_numpy(ahead)) - bent(torch.from_numpy(behind))) / (2 * step)
    assert torch.allclose(bent.velocity(torch.from_numpy(x)), rate, atol=1e-6)


def test_integration_of_a_rotation():
    start = np.array([[1.0, 0.0], [0.0, 2.0]])
    end = oscillator.integrate(lambda z: z[:, ::-1] * [1.0, -1.0], start, 1.0)[-1]
    c, s = np.cos(1.0), np.sin(1.0)
    np.testing.assert_allclose(end, start @ np.array([[c, -s], [s, c]]), atol=1e-8)


def test_states_fill_the_region_and_only_it():
    x = oscillator.states(4000, np.random.default_rng(2))
    assert x.shape == (4000, 2)
    assert oscillator.inside(x).all()
    corners = oscillator.REGION
    # The shoelace formula against the share of the bounding box that is inside.
    area = 0.5 * abs(np.sum(corners[:, 0] * np.roll(corners[:, 1], -1) - corners[:, 1] * np.roll(corners[:, 0], -1)))
    box = np.random.default_rng(3).uniform(corners.min(0), corners.max(0), (20000, 2))
    assert np.isclose(oscillator.inside(box).mean() * np.ptp(corners, axis=0).prod(), area, rtol=0.02)


@pytest.mark.parametrize(
    ("mapping", "slope", "holds"),
    [
        (lambda q, p: (q, p + q**2), lambda q, p: ((1, 0), (2 * q, 1)), True),
        # A fold: the determinant changes its sign.
        (lambda q, p: (q, p**2), lambda q, p: ((1, 0), (0, 2 * p)), False),
        # A turn by more than once around: the determinant keeps its sign, but sheets lie on one another.
        (
            lambda q, p: ((q + 2) * np.cos(4 * p), (q + 2) * np.sin(4 * p)),
            lambda q, p: (
                (np.cos(4 * p), -4 * (q + 2) * np.sin(4 * p)),
                (np.sin(4 * p), 4 * (q + 2) * np.cos(4 * p)),
            ),
            False,
        ),
    ],
)
def test_one_to_one(mapping, slope, holds):
    x = oscillator.states(300, np.random.default_rng(4))
    jacobians = np.array([slope(*point) for point in x])
    found = oscillator.one_to_one(jacobians, np.column_stack(mapping(*oscillator.border(150).T)))
    assert found.holds is holds


def test_where_inverts_a_network(bent):
    exact = oscillator.Learned("exact", bent, lambda z: bent.velocity(bent.inverse(z)), 0.0)
    z = exact.coordinates(oscillator.states(40, np.random.default_rng(5)))
    known = exact.coordinates(oscillator.states(2000, np.random.default_rng(6)))
    np.testing.assert_allclose(exact.where(exact.field(z), known), z, atol=1e-9)


@pytest.mark.slow
def test_the_demo_at_a_very_small_size(tmp_path, capsys):
    found = experiment.run_sized(tmp_path, TINY)
    assert found["outputs"] < 0.03
    assert found["neurons"] < 0.03
    assert found["transfer, 3 pairs"] < 0.2
    assert found["transfer, 100 pairs"] < 0.1
    printed = capsys.readouterr().out
    assert printed.count(": one to one") == 2
    assert "NOT" not in printed
    text = (tmp_path / "field.html").read_text(encoding="utf-8")
    page = checked(text)
    assert page.sections == 5
    assert len(page.sources) == 5
    for name in ("match_outputs", "push_trajectories", "through_diffeo"):
        assert f"def {name}(" in text
    row = re.search(r"pairs((?: +\d+)+)", printed)
    assert tuple(map(int, row.group(1).split())) == PAIRS
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "fields.png",
        "one-to-one.png",
        "outputs.png",
        "trajectories.png",
        "transfer.png",
        "overview.png",
    }


def test_a_page_escapes_what_it_shows(tmp_path):
    page = Page("<title> & more", "lead <b>")
    page.add("a < b", "words & words", ["1 < 2"], [], [checked])
    page.write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert checked(text).tags >= {"details", "summary", "code"}
    assert "<b>" not in text
    assert "def checked(text):" in text
