"""One page to read, the recommendation first: as HTML that needs nothing else, and as Markdown."""

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup, escape

from tunediff.core.files import atomic
from tunediff.report.markdown import cell, printable, prose


@dataclass(frozen=True)
class Section:
    title: str
    text: str = ""
    """Words between backticks are set as code."""
    table: list[list[str]] = field(default_factory=list)
    """Its head and its rows."""
    pictures: list[Path] = field(default_factory=list)
    """PNG files; the HTML holds them, the Markdown leaves them out."""
    chosen: str = ""
    """The row that begins with this stands out."""
    prose: bool = False
    """Whether the table holds words, not figures."""

    @property
    def anchor(self) -> str:
        return self.title.lower().replace(" ", "-")


def write(title: str, advice: str, sections: list[Section], html: Path, markdown: Path) -> None:
    """Write both files. Everything given is text, and is escaped; neither file has control characters."""
    templates = {html: Path(__file__).with_name("page.html.j2"), markdown: Path(__file__).with_name("page.md.j2")}
    for path, template in templates.items():
        environment = Environment(autoescape=path == html, trim_blocks=True, lstrip_blocks=True)
        environment.filters |= {"code": _code, "cell": cell, "prose": prose, "embedded": _embedded}
        page = environment.from_string(template.read_text(encoding="utf-8"))
        text = printable(page.render(title=title, advice=advice, sections=sections))
        with atomic(path) as partial:
            partial.write_text(text, encoding="utf-8")


def _embedded(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _code(text: str) -> Markup:
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
