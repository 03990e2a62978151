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
    """Yield the records with names in place of the numbers of ClassLabel columns, and of those in lists and objects.

    The number -1 marks what has no label; None takes its place. Raises ValueError for any other number without a name.
    """
    named = {column: feature for column, feature in features.items() if _has_names(feature)}
    for record in records:
        own = {key: _named(feature, record[key], key) for key, feature in named.items() if key in record}
        yield {**record, **own}


def _has_names(feature: Any) -> bool:
    inner = feature.values() if isinstance(feature, dict) else [getattr(feature, "feature", None)]
    return hasattr(feature, "int2str") or any(_has_names(each) for each in inner if each is not None)


def _named(feature: Any, value: Any, column: str) -> Any:
    if hasattr(feature, "int2str"):
        if value in (None, -1):
            return None
        if not isinstance(value, int) or not 0 <= value < len(feature.names):
            last = len(feature.names) - 1
            raise ValueError(f"column '{column}': labels are numbers from 0 to {last}, found {value!r:.40}; correct it")
        return feature.names[value]
    if isinstance(feature, dict):
        return value and {key: _named(feature[key], each, column) for key, each in value.items()}
    inner = getattr(feature, "feature", None)
    return value if inner is None else [_named(inner, each, column) for each in value or ()]
