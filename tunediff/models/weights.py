"""The weights in a file against those of the model: what is missing or too many is named, never made up in silence."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from transformers import PreTrainedModel

from tunediff.core.errors import UserError

if TYPE_CHECKING:
    from peft import PeftModel

NAMED = 4  # weights in a message


def difference(missing: Iterable[str], unexpected: Iterable[str], reshaped: Iterable[str] = ()) -> str:
    """What is wrong with a file's weights, in words; empty if they are those of the model."""
    parts = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    return ", ".join(f"{words}: {_some(sorted(names))}" for words, names in parts.items() if names)


def difference_of(loading: dict[str, Any]) -> str:
    """The same of what transformers says of a loading (`output_loading_info`)."""
    return difference(loading["missing_keys"], loading["unexpected_keys"], reshaped(loading))


def _some(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def check_all(folder: Path, missing: Iterable[str], unexpected: Iterable[str], reshaped: Iterable[str] = ()) -> None:
    """Raises UserError, which names some weights, if those in a trained model's folder are not those of the model."""
    if problem := difference(missing, unexpected, reshaped):
        raise UserError(
            f"{folder}: the saved model cannot be loaded: its weights are not those that its config means ({problem}); "
            "fetch them with `dvc pull`, or train again"
        )


def reshaped(loading: dict[str, Any]) -> set[str]:
    """The weights of another shape in what transformers says of a loading (`output_loading_info`)."""
    return {name for name, *_ in loading["mismatched_keys"]}


def check_adapter(model: "PeftModel", adapter: str, folder: Path) -> None:
    """Raises UserError if adapter_model.safetensors has not the weights that are saved of this adapter."""
    from peft import get_peft_model_state_dict

    saved = get_peft_model_state_dict(model, adapter_name=adapter, save_embedding_layers=False).keys()
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        names = file.keys()
    # Where a head's name ends that of a layer in the network that made the prompt, PEFT saves that network too.
    present = {name for name in names if not name.startswith("prompt_encoder.")}
    check_all(folder, saved - present, present - saved)


def of_base(name: str, model: PreTrainedModel) -> bool:
    """Whether a weight belongs to the pretrained encoder or decoder, and not to the head or to a head before it.

    The pooler, which serves the head alone, does not. Files of an encoder alone leave its own name out.
    """
    part = name.removeprefix(f"{model.base_model_prefix}.").split(".")[0]
    return part != "pooler" and part in {child.split(".")[0] for child in model.base_model.state_dict()}


def difference_of_base(model: PreTrainedModel, loading: dict[str, Any]) -> str:
    """What is wrong with the pretrained encoder's or decoder's weights, in words; empty if nothing is."""
    kinds = (loading["missing_keys"], loading["unexpected_keys"], reshaped(loading))
    return difference(*([name for name in names if of_base(name, model)] for names in kinds))
