"""The head of a pretrained model: new, or with `keep_head` the one that it has, matched by the names of the labels."""

import copy
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from tunediff.models.layers import head_modules
from tunediff.models.weights import reshaped


def begin(model: PreTrainedModel, loading: dict[str, Any], seed: int, kept: list[str] | None) -> None:
    """Give a loaded model its head: the file's own if `kept` has the labels of its rows, else a new one for the seed.

    `loading` is what transformers says of the loading. A file of a classifier has a trained head, all of which is made
    new; another file may have layers that serve any head, and they stay. Raises ValueError if the head cannot be kept.
    """
    heads = tuple(f"{name}." for name in head_modules(model))
    head = {name for name, _ in model.named_parameters() if name.startswith(heads)}
    new = loading["missing_keys"] | reshaped(loading)
    trained = head - loading["missing_keys"]
    rows = _label_weights(model) if trained else {}
    if kept is not None:
        if lacking := sorted(head & new):
            raise ValueError(f"it has no head for these labels ({', '.join(lacking)})")
        _sort_rows(model, rows, kept)
    elif trained & rows.keys():
        torch.manual_seed(seed)
        for name in head_modules(model):
            for module in model.get_submodule(name).modules():
                for weights in module.parameters(recurse=False):
                    weights._is_hf_initialized = False  # else transformers leaves it as it was loaded
                model._init_weights(module)


def set_bias(model: PreTrainedModel, logits: np.ndarray | None) -> None:
    """Let the head begin with these logits, shape [labels], if there are any; one without a bias stays as it is."""
    if logits is None:
        return
    for name in _label_weights(model):
        weights = model.get_parameter(name)
        if weights.ndim == 1:
            weights.data = torch.from_numpy(logits).to(weights)


def _label_weights(model: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    """The weights whose shape depends on the number of labels, each with its shape for one label more."""
    config = copy.deepcopy(model.config)
    config.num_labels += 1
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # no memory, no random number
        wider = {name: weights.shape for name, weights in type(model)(config).named_parameters()}
    return {name: wider[name] for name, weights in model.named_parameters() if weights.shape != wider[name]}


def _sort_rows(model: PreTrainedModel, rows: dict[str, tuple[int, ...]], kept: list[str]) -> None:
    """Bring the rows of the head, whose labels are `kept`, into the order of the model's labels."""
    order = [kept.index(label) for label in model.config.id2label.values()]
    for name, wider in rows.items():
        weights = model.get_parameter(name)
        if wider != (len(kept) + 1, *weights.shape[1:]):
            raise ValueError(f"its head has no row for each label ({name})")
        weights.data = weights.data[order]
