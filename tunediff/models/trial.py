"""A loaded model is tried on a few texts, before a work that would be in vain or end in a traceback."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunediff.core.errors import UserError, reason
from tunediff.models.inference import encoder_of
from tunediff.models.settings import Pretrained
from tunediff.tasks import task_of

if TYPE_CHECKING:
    from peft import PeftModel

    from tunediff.tasks.generation import Generation

PADDED = {"padding": True, "truncation": True}
SHORT, LONG = "shares", "shares rose on monday after the report"


def check(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    conf: Pretrained,
    place: Path,
    states: bool = False,
) -> None:
    """Raises UserError, which names the model's file `place`, if the model cannot label texts of up to `max_length`.

    With `states`, also if it has not one state for each token. A model that writes is tried on short texts alone.
    """
    writes = task_of(model.config).writes
    misfit = f"{place}: name: {conf.name} cannot be used {'to write' if writes else 'as a classifier'}"
    check_answers(model, tokenizer, misfit)
    if writes:
        return
    if states:
        check_states(model, tokenizer, misfit)
    check_length(model, tokenizer, conf, place)


@torch.no_grad()
def check_answers(model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase, misfit: str) -> None:
    """Classify two texts, or foretell a target of them.

    Raises UserError, which begins with `misfit`, if the model cannot answer, or answers otherwise for a text beside a
    longer one.
    """
    task = task_of(model.config)
    encoded = partial(_to_be_written, task, tokenizer) if task.writes else partial(_encoded, tokenizer, **PADDED)
    both, alone = (_on_its_device(model, encoded(texts)) for texts in ([SHORT, LONG], [SHORT]))
    try:
        model.train()
        with torch.random.fork_rng(devices=[]):  # a training begins with the same random numbers as without this
            model(**both)
        model.eval()
        one = model(**alone).logits[0]
        other = model(**both).logits[0]
    except Exception as error:  # of models, as of adapters, whatever comes
        raise UserError(f"{misfit}: {reason(error)}") from None
    if other.ndim > 1:  # there are some for each token, and those of the padding do not matter
        if task.peft_type == "TOKEN_CLS" and len(one) != alone["input_ids"].shape[1]:
            raise UserError(f"{misfit}: it would answer for its prompt as well, and here each token has one answer")
        other = other[: len(one)]
    if torch.allclose(one, other, atol=1e-3, rtol=1e-3):
        return
    if task.writes and getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise UserError(
            f"{misfit}: padding would come between its prompt and a text, and it would write otherwise beside a longer "
            "one; take PREFIX_TUNING or LORA"
        )
    raise UserError(f"{misfit}: it would read the padding, and answer otherwise for a text beside a longer one")


def _to_be_written(task: "Generation", tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> dict[str, Any]:
    """A batch as a training has it, padded as the model's kind wants it; each text has the same target."""
    target = tokenizer(SHORT)["input_ids"]
    rows = [task.architecture.row([tokenizer(text)["input_ids"]], target) for text in texts]
    batch = task.architecture.batch(tokenizer, rows)
    del batch["labels"]
    return batch


@torch.no_grad()
def check_states(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, misfit: str) -> None:
    """Raises UserError, which begins with `misfit`, if the model has not one state for each token of a text."""
    inputs = _on_its_device(model, _encoded(tokenizer, [LONG], truncation=True))
    try:
        shape = encoder_of(model)(**inputs).last_hidden_state.shape
    except Exception as error:
        raise UserError(f"{misfit}: {reason(error)}") from None
    if shape[:-1] != inputs["input_ids"].shape:
        raise UserError(f"{misfit}: it has not one state for each token, of which the probe reads the mean")


@torch.no_grad()
def check_length(
    model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase, conf: Pretrained, place: Path
) -> None:
    """Classify a text of `max_length` tokens. Raises UserError with the true limit if that is too long.

    The config need not say it: RoBERTa counts positions from the one after the padding's, and prompts take some.
    """
    model.eval()
    prompt = getattr(getattr(model, "active_peft_config", None), "num_virtual_tokens", 0)
    longest = getattr(model.config, "max_position_embeddings", None) or 0  # -1 of XLNet, which has no limit
    most = min(conf.max_length, longest - prompt) if longest > 0 else conf.max_length
    why = reads(model, tokenizer, most)
    if not why and most == conf.max_length:
        return
    least = 0 if why else most  # which is read, and `most` is not
    while why and most - least > 1:
        middle = (least + most) // 2
        if reads(model, tokenizer, middle):
            most = middle
        else:
            least = middle
    if not least:
        raise UserError(f"{place}: name: {conf.name} cannot read a text: {why}")
    beside = f" beside a prompt of {prompt}" if prompt else ""
    raise UserError(f"{place}: max_length: {conf.max_length}, but {conf.name} reads at most {least} tokens{beside}")


def reads(model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase, length: int) -> str:
    """Give the model a text of that many tokens; what it says if it cannot read it, else empty."""
    try:
        encoded = _encoded(tokenizer, [" ".join([SHORT] * length)], truncation=True, max_length=length)
        model(**_on_its_device(model, encoded))
    except Exception as error:
        return reason(error) or type(error).__name__
    return ""


def _encoded(tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: Any) -> dict[str, torch.Tensor]:
    return tokenizer(texts, return_token_type_ids=False, return_tensors="pt", **options)


def _on_its_device(model: "PreTrainedModel | PeftModel", batch: dict[str, Any]) -> dict[str, Any]:
    """The batch on the model's device: quantized weights are on a GPU as soon as they are loaded."""
    to = model.device
    return {name: value.to(to) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
