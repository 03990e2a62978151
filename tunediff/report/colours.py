"""One colour for each method, the same in every picture."""

from tunediff.core.methods import WITHOUT_LEARNING

# Okabe and Ito's colours, which colour-blind readers tell apart too; and lighter ones for a dark page.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B6F00", "#7A5CC2"]
ON_DARK = ["#4BA3E3", "#F58A4B", "#35C79A", "#E29BC4", "#F2BE4A", "#9AD3F5", "#C9AD3F", "#B39DED"]
PLAIN = "#8a8f98"
FIRST = ("full", "lora-v1", "tfidf", "probe", "lora-v2")


def palette(methods: list[str]) -> dict[str, int | None]:
    """The place of each method's colour; None for those that learn nothing. Of more than eight, some have the same."""
    learning = [*FIRST, *sorted(method for method in methods if method not in (*FIRST, *WITHOUT_LEARNING))]
    places = {method: place % len(COLOURS) for place, method in enumerate(learning)}
    return {method: places.get(method) for method in methods}


def colour(place: int | None) -> str:
    """As matplotlib takes it."""
    return PLAIN if place is None else COLOURS[place]
