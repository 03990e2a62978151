"""Pretrained models: load one under a new head. `saving.py` saves it when it is trained, `saved.py` loads that."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from huggingface_hub.utils import httpx
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import resolve_revision

from tunediff.core.errors import UserError
from tunediff.core.files import sha256
from tunediff.models.pretrained import hub_error, locate
from tunediff.models.settings import Pretrained
from tunediff.tasks.interface import Task

if TYPE_CHECKING:
    from peft import PeftModel

# A repository of pickled weights alone is refused. Left to itself, transformers asks a bot to convert it in public.
os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
transformers_logging.set_verbosity_error()  # not that the head is new: every method here starts from a new one
transformers_logging.disable_progress_bar()
# PEFT 0.21 asks transformers 5 by an old name; nobody who runs a stage can do anything about it.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def load_tokenizer(conf: Pretrained, place: Path) -> PreTrainedTokenizerBase:
    """The model's tokenizer, cutting at `max_length` and padding on the right.

    GPT-2 and its kin have no padding token: the end-of-text token serves, and the model's `pad_token_id` must say so.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            locate(conf.name, place), revision=conf.revision, trust_remote_code=False
        )
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise hub_error(conf.name, conf.revision, place, error) from None
    tokenizer.model_max_length = conf.max_length
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_pretrained(
    conf: Pretrained, place: Path, tokenizer: PreTrainedTokenizerBase, task: Task, seed: int
) -> PreTrainedModel:
    """The pretrained encoder or decoder under a new head for the task, the same one for the same seed.

    `place` is the file that names the model, for messages. Raises UserError if it cannot be loaded.
    """
    source = locate(conf.name, place)
    try:
        revision = resolve_revision(source, conf.revision)  # one commit for all that follows, even if a branch moves
        config = AutoConfig.from_pretrained(
            source,
            revision=revision,
            trust_remote_code=False,  # left out, a terminal is asked
            pad_token_id=tokenizer.pad_token_id,
            **task.config(),
        )
        check_weights(conf, place, source, revision)
        if (longest := getattr(config, "max_position_embeddings", None)) and conf.max_length > longest:
            raise UserError(f"{place}: max_length: {conf.max_length}, but {conf.name} reads at most {longest} tokens")
        config.tunediff = {
            "pretrained": conf.name,
            "revision": getattr(revision, "resolved", conf.revision),
            "sha256": conf.sha256,
            "seed": seed,
            "task": task.name,
        }
        torch.manual_seed(seed)  # of the head; transformers' set_seed would import the Trainer's modules and PEFT
        model = auto_class(task).from_pretrained(
            source, config=config, revision=revision, dtype="float32", use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, httpx.HTTPError, SafetensorError) as error:
        raise hub_error(conf.name, conf.revision, place, error) from None
    if hasattr(model, "score") and task.peft_type == "SEQ_CLS":
        model.register_forward_pre_hook(padding_first, with_kwargs=True)
    return model


def auto_class(task: Task) -> type:
    """The class of transformers that puts the task's head on a pretrained model."""
    return getattr(transformers, task.auto_model)


def padding_first(model: PreTrainedModel, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Move the padding of `inputs_embeds` from the right to the left, where a decoder's classifier does not read it.

    Decoders answer at a text's last token. They find it by the padding's token ids; where prompt tuning gives them
    embeddings instead, they take the last place, whatever is there. Positions still count from the first true token.
    """
    embeddings, mask = kwargs.get("inputs_embeds"), kwargs.get("attention_mask")
    if embeddings is None or mask is None:
        return None
    length = mask.shape[1]
    padding = length - mask.sum(1, keepdim=True).long()
    places = torch.arange(length, device=mask.device) - padding  # of what comes to stand there
    places = torch.where(places < 0, places + length, places)
    mask = mask.gather(1, places)
    return args, {
        **kwargs,
        "inputs_embeds": embeddings.gather(1, places.unsqueeze(-1).expand_as(embeddings)),
        "attention_mask": mask,
        "position_ids": (mask.long().cumsum(1) - 1).clamp(min=0),
    }


def check_weights(conf: Pretrained, place: Path, source: str, revision: str) -> None:
    """Raises UserError if model.safetensors has not the SHA-256 that the model's file pins."""
    if conf.sha256 is None:
        return
    file = cached_file(source, "model.safetensors", revision=revision)
    actual = sha256(Path(file))
    if actual != conf.sha256:
        raise UserError(
            f"{place}: sha256: the weights of {conf.name} have SHA-256 {actual}, expected {conf.sha256}; reinstall "
            "the model, or correct the value if you mean these weights"
        )


def count_parameters(model: "PreTrainedModel | PeftModel") -> dict[str, int]:
    return {
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "total_parameters": sum(p.numel() for p in model.parameters()),
    }
