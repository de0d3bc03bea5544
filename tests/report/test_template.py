"""What templates are given: escaped, without control characters, percent signs kept to their numbers; code as it is."""

from __future__ import annotations

import jinja2
import pytest
from diffeo.demos.page import Page
from diffeo.report import template
from diffeo.report.template import rendered


@pytest.fixture
def show():
    """What a template of one line shows."""
    return lambda source, **values: template._environment().from_string(source).render(values)


def test_values_are_escaped_and_steer_no_terminal(show):
    assert show("<p>{{ x }}</p>", x="<b>&\"'\x1b[2J") == "<p>&lt;b&gt;&amp;&#34;&#39;\N{REPLACEMENT CHARACTER}[2J</p>"
    assert show("{% set y %}<i>{{ x }}</i>{% endset %}{{ y }}", x="<") == "<i>&lt;</i>"


def test_percent_signs_stay_with_their_numbers_but_not_in_code(show):
    assert show("{{ x }}", x="3 %") == "3\N{NO-BREAK SPACE}%"
    assert show("{{ x|verbatim }}", x="a %  b < 1\n") == "a %  b &lt; 1\n"
    assert show("{{ x|verbatim }}", x="\x1b") == "\N{REPLACEMENT CHARACTER}"


def test_a_name_that_was_not_given_is_an_error(show):
    with pytest.raises(jinja2.UndefinedError, match="x"):
        show("{{ x }}")
    with pytest.raises(jinja2.UndefinedError, match="page"):
        rendered("demos/page.html")


def test_pages_are_whole_documents_without_a_trace_of_the_template():
    text = rendered("demos/page.html", page=Page("a {{ b }}", "lead"))
    assert text.startswith("<!doctype html>\n")
    assert text.endswith("</body></html>\n")
    assert "<title>a {{ b }}</title>" in text
    assert "prefers-color-scheme:dark" in text
    assert "{%" not in text
    assert "{#" not in text
