"""What the features of a Hub data set say of its columns: names for the numbers of ClassLabel, nested columns."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets


def nested(features: "datasets.Features") -> list[str]:
    """Columns in others, as in `translation.en`."""

    def keys(feature: Any) -> Iterable[str]:
        if isinstance(feature, dict):
            return feature
        return feature.languages if type(feature).__name__ == "Translation" else ()  # one language may be no column

    return [f"{name}.{key}" for name, feature in features.items() for key in keys(feature)]


def with_label_names(records: Iterable[dict[str, Any]], features: "datasets.Features") -> Iterator[dict[str, Any]]:
    """Yield the records with names in place of the numbers of ClassLabel columns, and of lists of them.

    The number -1 marks a row without a label; None takes its place.
    """
    names = {column: feature.int2str for column, feature in features.items() if hasattr(feature, "int2str")}
    lists = {
        column: feature.feature.int2str
        for column, feature in features.items()
        if hasattr(getattr(feature, "feature", None), "int2str")
    }
    for record in records:
        named = {
            key: value if key not in names else None if value in (None, -1) else names[key](value)
            for key, value in record.items()
        }
        yield named | {key: [name(each) for each in named[key] or ()] for key, name in lists.items() if key in named}
