"""Charts inside the page: HTML and SVG in the page's own colours, so that they follow light and dark and any width."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 360, 230  # of a chart, in its own units; about as many pixels as a phone has
LEFT, RIGHT, TOP, BOTTOM = 42, 8, 8, 34
LETTER, LINE = 6.2, 11  # about how wide and high text is

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """A line, or points of one method."""

    name: str
    colour: int | None
    """Its place in `colours`."""
    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()
    """Around the line: x, low, high."""
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    title: str
    show: Callable[[float], str] = "{:.0%}".format
    limits: tuple[float, float] | None = None
    ticks: Sequence[float] | None = None


@dataclass(frozen=True)
class Dot:
    """A row of `dots`."""

    name: str
    colour: int | None
    value: float
    low: float
    high: float
    text: str
    """The value in words."""
    strong: bool = False


def dots(rows: Sequence[Dot], show: Callable[[float], str]) -> Markup:
    """A value with its interval for each row, on a scale that those far from the first, the best, do not stretch.

    Values are 0 or more; `show` writes the scale's.
    """
    best = rows[0].value
    near = [row for row in rows if row.high > 0.6 * best and row.low < 1.7 * best] or rows[:1]
    low, high = min(row.low for row in near), max(row.high for row in near)
    margin = 0.04 * (high - low) or 0.01
    low, high = low - margin, high + margin

    def place(value: float) -> str:
        return f"{100 * (min(max(value, low), high) - low) / (high - low):.2f}%"

    parts = []
    for row in rows:
        beyond = Markup("<i class=beyond title='off the scale'>◂</i>") if row.high < low else Markup("")
        beyond = Markup('<i class="beyond above" title="off the scale">▸</i>') if row.low > high else beyond
        bar = Markup('<i class=bar style="left:{};right:calc(100% - {})"></i><i class=dot style="left:{}"></i>').format(
            place(row.low), place(row.high), place(row.value)
        )
        parts.append(
            Markup('<div class="row{}" style="{}"><b>{}</b><span class=track>{}</span><em>{}</em></div>').format(
                " strong" if row.strong else "", style(row.colour), row.name, beyond or bar, row.text
            )
        )
    ticks = Markup("").join(
        Markup('<i style="left:{}">{}</i>').format(place(tick), show(tick)) for tick in _ticks(low, high)
    )
    parts.append(Markup('<div class="row" aria-hidden="true"><b></b><span class=scale>{}</span></div>').format(ticks))
    return Markup('<div class="dots">{}</div>').format(Markup("").join(parts))


def chart(series: Sequence[Series], x: Axis, y: Axis, title: str, named: bool = False) -> Markup:
    """Lines, or single points; `named` writes the names beside the points, else there is a legend."""
    left, right = x.limits or _limits([each[0] for one in series for each in one.points])
    bottom, top = y.limits or _limits(
        [each[1] for one in series for each in one.points]
        + [v for one in series for each in one.band for v in each[1:]]
    )

    def at(point: Point) -> tuple[str, str]:
        across = LEFT + (point[0] - left) / (right - left or 1) * (WIDTH - LEFT - RIGHT)
        up = HEIGHT - BOTTOM - (point[1] - bottom) / (top - bottom or 1) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f}", f"{up:.1f}"

    parts = [_axes(x, y, (left, right), (bottom, top), at)]
    parts += [_drawn(one, at) for one in series]
    parts += [_names(series, at)] if named else []
    legend = Markup("").join(
        Markup('<span style="{}"><i class="key{}"></i>{}</span>').format(
            style(one.colour), " dashed" if one.dashed else "", one.name
        )
        for one in series
        if not named
    )
    return Markup(
        '<figure><figcaption>{}</figcaption><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
        "<div class=legend>{}</div></figure>"
    ).format(title, WIDTH, HEIGHT, title, Markup("").join(parts), legend)


def style(colour: int | None) -> str:
    return "--c:var(--quiet)" if colour is None else f"--c:var(--m{colour})"


def _names(series: Sequence[Series], at: Callable[[Point], tuple[str, str]]) -> Markup:
    """Each name beside its point, and not over another name: those that would lie on one above move down."""
    parts, taken = [], []
    for x, y, name in sorted((*map(float, at(one.points[0])), one.name) for one in series):
        late = x > 0.62 * WIDTH
        length = LETTER * len(name)
        start, height = x - 7 - length if late else x + 7, y + 4
        end = start + length
        while any(abs(height - other) < LINE and start < right and left < end for left, right, other in taken):
            height += 2
        taken.append((start, end, height))
        place = x - 7 if late else x + 7
        parts.append(
            Markup('<text x={} y={} text-anchor="{}">{}</text>').format(place, height, "end" if late else "start", name)
        )
    return Markup("").join(parts)


def _drawn(one: Series, at: Callable[[Point], tuple[str, str]]) -> Markup:
    parts = []
    if one.band:
        edge = [at((x, high)) for x, _, high in one.band] + [at((x, low)) for x, low, _ in reversed(one.band)]
        parts.append(Markup('<polygon class=band points="{}"/>').format(" ".join(",".join(each) for each in edge)))
    places = [at(point) for point in one.points]
    if len(places) > 1:
        parts.append(
            Markup('<polyline class="line{}" points="{}"/>').format(
                " dashed" if one.dashed else "", " ".join(",".join(each) for each in places)
            )
        )
    for (x, y), point in zip(places, one.points, strict=True):
        if not one.dashed:
            parts.append(
                Markup("<circle cx={} cy={} r=3.2><title>{}: {:.4g}</title></circle>").format(x, y, one.name, point[1])
            )
    return Markup('<g style="{}">{}</g>').format(style(one.colour), Markup("").join(parts))


def _axes(x: Axis, y: Axis, across: Point, up: Point, at: Callable[[Point], tuple[str, str]]) -> Markup:
    parts = []
    for tick in y.ticks or _ticks(*up):
        (start, height), (end, _) = at((across[0], tick)), at((across[1], tick))
        parts.append(Markup('<path class=grid d="M{} {}H{}"/>').format(start, height, end))
        parts.append(
            Markup('<text class=tick x={} y={} text-anchor="end">{}</text>').format(
                LEFT - 4, float(height) + 3.5, y.show(tick)
            )
        )
    for tick in x.ticks or _ticks(*across):
        place, _ = at((tick, up[0]))
        parts.append(
            Markup('<text class=tick x={} y={} text-anchor="middle">{}</text>').format(
                place, HEIGHT - BOTTOM + 13, x.show(tick)
            )
        )
    parts.append(
        Markup('<text class=tick x={} y={} text-anchor="middle">{}</text>').format(
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, x.title
        )
    )
    return Markup("").join(parts)


def _limits(values: Sequence[float]) -> Point:
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    return [tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
