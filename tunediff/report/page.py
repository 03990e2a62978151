"""One page to read, the verdict first: as HTML that needs nothing else, and as Markdown."""

import base64
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from tunediff.core.files import atomic
from tunediff.report.colours import COLOURS, ON_DARK
from tunediff.report.markdown import cell, printable, prose


@dataclass(frozen=True)
class Tile:
    title: str
    value: str
    note: str


@dataclass(frozen=True)
class Verdict:
    """The head of a page; words between backticks are set as code."""

    headline: str
    reason: str = ""
    tiles: list[Tile] = field(default_factory=list)
    sure: str = ""
    next: str = ""


@dataclass(frozen=True)
class Fold:
    """What is shown when a reader asks for it."""

    title: str
    chart: Markup


@dataclass(frozen=True)
class Section:
    title: str
    text: str = ""
    """Words between backticks are set as code."""
    table: list[list[str]] = field(default_factory=list)
    """Its head and its rows."""
    pictures: list[Path] = field(default_factory=list)
    """PNG files; the HTML holds them, the Markdown leaves them out."""
    charts: list[Markup] = field(default_factory=list)
    """Of `charts`, for the HTML alone."""
    folds: list[Fold] = field(default_factory=list)
    """For the HTML alone."""
    chosen: str = ""
    """The row that begins with this stands out."""
    prose: bool = False
    """Whether the table holds words, not figures."""
    closed: bool = False
    """Whether the HTML folds the table away."""
    records: dict[str, Any] | None = None
    """A table that the HTML can filter; see `error_list.records`."""

    @property
    def anchor(self) -> str:
        return re.sub("[^a-z0-9]+", "-", self.title.lower()).strip("-")


def write(title: str, verdict: Verdict, sections: list[Section], html: Path, markdown: Path) -> None:
    """Write both files. Everything given is text, and is escaped; neither file has control characters."""
    templates = {html: Path(__file__).with_name("page.html.j2"), markdown: Path(__file__).with_name("page.md.j2")}
    colours = dict(enumerate(zip(COLOURS, ON_DARK, strict=True)))
    for path, template in templates.items():
        environment = Environment(autoescape=path == html, trim_blocks=True, lstrip_blocks=True)
        environment.filters |= {
            "code": _code,
            "cell": cell,
            "prose": prose,
            "embedded": _embedded,
            "two_lines": _two_lines,
            "for_script": _for_script,
        }
        page = environment.from_string(template.read_text(encoding="utf-8"))
        text = printable(page.render(title=title, verdict=verdict, sections=sections, colours=colours))
        with atomic(path) as partial:
            partial.write_text(text, encoding="utf-8")


def _embedded(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _code(text: str) -> Markup:
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


PAIR = r'<span class="pair"><span>\1</span> <span>\2</span></span>'


def _two_lines(text: str) -> Markup:
    """A figure and its interval in parentheses, which may stand below it where a table is wide."""
    return Markup(re.sub(r"^(.{1,20}) (\(\S+ to \S+\))$", PAIR, str(escape(text))))


def _for_script(values: Any) -> Markup:
    """JSON that no text in it can end: without what HTML would read as a tag or a comment."""
    return Markup(
        json.dumps(values, ensure_ascii=True).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    )
