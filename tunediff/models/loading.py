"""Pretrained models: load one under a new head. `saving.py` saves it when it is trained, `saved.py` loads that."""

import logging
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
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import get_checkpoint_shard_files, resolve_revision

from tunediff.core.errors import UserError, nearest, reason
from tunediff.core.files import sha256
from tunediff.models import heads, weights
from tunediff.models.pretrained import GGUF, check_hash, hub_error, hub_id, locate
from tunediff.models.settings import Pretrained
from tunediff.tasks import task_of
from tunediff.tasks.interface import Task, label_names

if TYPE_CHECKING:
    from peft import PeftModel

# A repository of pickled weights alone is refused. Left to itself, transformers asks a bot to convert it in public.
os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
transformers_logging.set_verbosity_error()  # not that the head is new: every method here starts from a new one
transformers_logging.disable_progress_bar()
# PEFT 0.21 asks transformers 5 by an old name; nobody who runs a stage can do anything about it.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
# PEFT imports bitsandbytes for every adapter, where it is. On some CPUs that says which package quantized weights miss.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def load_tokenizer(conf: Pretrained, place: Path) -> PreTrainedTokenizerBase:
    """The model's tokenizer, cutting at `max_length` and padding on the right, for the languages that `conf` names.

    GPT-2 and its kin have no padding token: the end-of-text token serves, and the model's `pad_token_id` must say so.
    """
    languages = {"src_lang": conf.source_language, "tgt_lang": conf.target_language} if conf.source_language else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            locate(conf, place), revision=conf.revision, trust_remote_code=False, **languages
        )
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise hub_error(conf.name, conf.revision, place, error) from None
    except ImportError as error:  # of a package that a few tokenizers need
        raise UserError(f"{place}: name: {conf.name}: its tokenizer cannot be loaded: {reason(error)}") from None
    if languages:
        check_languages(tokenizer, conf, place)
    tokenizer.model_max_length = conf.max_length
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        known = ", ".join(tokenizer.all_special_tokens) or "<unk>"
        raise UserError(
            f"{place}: name: the tokenizer of {conf.name} has no token for padding and none for the end: copy the "
            f'model to a folder and add "pad_token" to tokenizer_config.json there, one of its tokens (such as {known})'
        )
    return tokenizer


def check_languages(tokenizer: PreTrainedTokenizerBase, conf: Pretrained, place: Path) -> None:
    """Raises UserError if the tokenizer has no codes of languages, or not those that `conf` names."""
    if not hasattr(tokenizer, "tgt_lang"):
        raise UserError(
            f"{place}: source_language: the tokenizer of {conf.name} has no codes of languages; leave both out, and "
            "say in the data's `instruction` what the model is to do"
        )
    for key in ("source_language", "target_language"):
        code = getattr(conf, key)
        if code not in tokenizer.all_special_tokens:
            raise UserError(
                f"{place}: {key}: {conf.name} knows no '{code}'; {nearest(code, tokenizer.all_special_tokens)}"
            )


def find(conf: Pretrained, place: Path) -> tuple[str, str]:
    """What `from_pretrained` takes for the model, and one commit for all that follows, even if a branch moves."""
    revision = resolve_revision(hub_id(conf.name), conf.revision)
    return locate(conf.model_copy(update={"revision": revision}), place), revision


def load_pretrained(
    conf: Pretrained, place: Path, tokenizer: PreTrainedTokenizerBase, task: Task, seed: int
) -> PreTrainedModel:
    """The pretrained encoder or decoder under a new head for the task, the same one for the same seed (see `heads`).

    Its weights are in fp32, or quantized if `conf` is for adapters and says so. `place` is the file that names the
    model, for messages. Raises UserError if it cannot be loaded.
    """
    options = {"dtype": "float32", "use_safetensors": True}
    try:
        source, revision = find(conf, place)
        kept = _labels_to_keep(conf, place, source, revision, task) if conf.keep_head else None
        config = _config(conf, place, source, revision, tokenizer, task, seed)
        task = task_of(config)  # which knows now what kind of model it is done by
        check_weights(conf, place, source, revision)
        if quantize := getattr(conf, "quantize", None):
            from tunediff.models.quantized import keep_format, quantization

            options["quantization_config"] = quantization(quantize, auto_class(task), config, conf.head, place)
            config.tunediff |= {"quantize": quantize, "head": conf.head}
        torch.manual_seed(seed)  # of the head; transformers' set_seed would import the Trainer's modules and PEFT
        model, loading = auto_class(task).from_pretrained(
            source,
            config=config,
            revision=revision,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # instead of a traceback; what differs is named below
            output_loading_info=True,
            **options,
        )
        if quantize:
            keep_format(model)
    except ImportError as error:
        raise UserError(f"{place}: name: {conf.name} needs a package that is not here: {reason(error)}") from None
    except (OSError, ValueError, httpx.HTTPError, SafetensorError) as error:
        raise hub_error(conf.name, conf.revision, place, error) from None
    _begin_head(model, loading, conf, place, task, seed, kept)
    return model


def _config(
    conf: Pretrained,
    place: Path,
    source: str,
    revision: str,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    seed: int,
) -> PreTrainedConfig:
    fields = task.config()
    own = fields.pop("tunediff", {})
    config = AutoConfig.from_pretrained(
        source,
        revision=revision,
        trust_remote_code=False,  # left out, a terminal is asked
        pad_token_id=tokenizer.pad_token_id,
        **fields,
    )
    if task.writes:
        check_writer(config, conf, place)
    longest = getattr(config, "max_position_embeddings", None) or 0  # -1 of XLNet, which has no limit
    if 0 < longest < conf.max_length:
        raise UserError(f"{place}: max_length: {conf.max_length}, but {conf.name} reads at most {longest} tokens")
    config.use_cache = False  # as the Trainer sets it: keys and values of earlier tokens, which nobody reads
    config.tunediff = {
        "pretrained": conf.name,
        "revision": getattr(revision, "resolved", conf.revision),
        "sha256": conf.sha256,
        "seed": seed,
        "task": task.name,
        **({"keep_head": True} if conf.keep_head else {}),
        **own,
    }
    return config


def _begin_head(
    model: PreTrainedModel,
    loading: dict,
    conf: Pretrained,
    place: Path,
    task: Task,
    seed: int,
    kept: list[str] | None,
) -> None:
    """Check that all but the head has been loaded, as `loading` says, and give it a new head, or the labels `kept`.

    A model that writes texts keeps the head that it has.
    """
    if model.base_model is model and not task.writes:
        raise UserError(f"{place}: name: {conf.name}: its head is not known apart from its base; choose another model")
    problem = weights.difference_of(loading) if task.writes else weights.difference_of_base(model, loading)
    check_loaded(problem, conf, place)
    if task.writes:
        return
    try:
        heads.begin(model, loading, seed, kept)
    except ValueError as error:
        raise UserError(f"{place}: keep_head: {conf.name}: {error}; leave keep_head out for a new head") from None
    place_padding(model, task)


def check_loaded(problem: str, conf: Pretrained, place: Path) -> None:
    """Raises UserError if there is a `problem` with the weights, as `weights` says it."""
    if problem:
        raise UserError(
            f"{place}: name: the weights of {conf.name} are not those that its config.json means ({problem}); get the "
            "model again, or choose another"
        )


def place_padding(model: PreTrainedModel, task: Task | type[Task]) -> None:
    """Let a loaded model find a text's last token, where its head reads that, whatever padding follows it."""
    if task.peft_type != "SEQ_CLS":
        return
    if hasattr(model, "score"):
        model.register_forward_pre_hook(padding_first, with_kwargs=True)
    elif hasattr(model, "sequence_summary") and model.config.summary_type == "last":  # XLNet
        model.register_forward_pre_hook(ids_last, with_kwargs=True)


def auto_class(task: Task) -> type:
    """The class of transformers that puts the task's head on a pretrained model."""
    return getattr(transformers, task.auto_model)


def _labels_to_keep(conf: Pretrained, place: Path, source: str, revision: str, task: Task) -> list[str]:
    """The labels of the head that the model has, in its order. Raises UserError if they are not those of the task."""
    named = PreTrainedConfig.get_config_dict(source, revision=revision)[0].get("id2label") or {}
    kept = list(map(str, label_names(named)))
    wanted = list(task.config()["id2label"].values())
    if sorted(kept) != sorted(wanted):
        other = [label for label in (*wanted, *kept) if wanted.count(label) != kept.count(label)]
        raise UserError(
            f"{place}: keep_head: {conf.name} has the labels {', '.join(kept) or 'of no classifier'}, and the data "
            f"{', '.join(wanted)}; without match: {', '.join(dict.fromkeys(other))}; rename the data's with `labels` "
            "in its file, or leave keep_head out for a new head"
        )
    return kept


def padding_first(model: PreTrainedModel, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Move the padding of `inputs_embeds` from the right to the left, where a decoder's classifier does not read it.

    Decoders answer at a text's last token. They find it by the padding's token ids; where prompt tuning gives them
    embeddings instead, they take the last place, whatever is there. Positions still count from the first true token.
    """
    embeddings, mask = kwargs.get("inputs_embeds"), kwargs.get("attention_mask")
    if embeddings is None or mask is None:
        return None
    places, mask = _last(mask)
    return args, {
        **kwargs,
        "inputs_embeds": embeddings.gather(1, places.unsqueeze(-1).expand_as(embeddings)),
        "attention_mask": mask,
        "position_ids": (mask.long().cumsum(1) - 1).clamp(min=0),
    }


def ids_last(model: PreTrainedModel, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Move the padding of `input_ids` from the right to the left of a model that counts no positions."""
    ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
    if ids is None or mask is None:
        return None
    places, mask = _last(mask)
    return args, {**kwargs, "input_ids": ids.gather(1, places), "attention_mask": mask}


def _last(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For padding on the left instead of the right: the places of what comes to stand at each, and the new mask."""
    length = mask.shape[1]
    padding = length - mask.sum(1, keepdim=True).long()
    places = torch.arange(length, device=mask.device) - padding
    places = torch.where(places < 0, places + length, places)
    return places, mask.gather(1, places)


def load_writer_config(conf: Pretrained, place: Path) -> PreTrainedConfig:
    """The config of a model that writes texts. Raises UserError if there is none."""
    try:
        config = AutoConfig.from_pretrained(locate(conf, place), revision=conf.revision, trust_remote_code=False)
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise hub_error(conf.name, conf.revision, place, error) from None
    check_writer(config, conf, place)
    return config


def check_writer(config: PreTrainedConfig, conf: Pretrained, place: Path) -> None:
    """Raises UserError if the model reads texts and writes none; transformers would put the head on it all the same."""
    kind = config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if not (kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES if config.is_encoder_decoder else causal):
        decoders = "a decoder or an encoder-decoder, such as `model: smollm2` in params.yaml"
        raise UserError(f"{place}: name: {conf.name} is no model that writes texts ({kind}); choose {decoders}")


def check_weights(conf: Pretrained, place: Path, source: str, revision: str) -> None:
    """Raises UserError if the weights have not the SHA-256 that the model's file pins.

    Of weights in several files, it is that of all of them, one after the other.
    """
    if not conf.sha256 or conf.name.endswith(GGUF):  # which `locate` has checked
        return
    if file := cached_file(source, SAFE_WEIGHTS_NAME, revision=revision, _raise_exceptions_for_missing_entries=False):
        files = [file]
    else:
        index = cached_file(source, SAFE_WEIGHTS_INDEX_NAME, revision=revision)
        files, _ = get_checkpoint_shard_files(source, index, revision=revision)
    check_hash(sha256(*map(Path, sorted(files))), conf, place)


def count_parameters(model: "PreTrainedModel | PeftModel") -> dict[str, int]:
    """`trainable_parameters` and `total_parameters`; if weights are quantized, what `quantized.sizes` gives as well."""
    counts = {
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "total_parameters": sum(p.numel() for p in model.parameters()),
    }
    if all(p.is_floating_point() for p in model.parameters()):
        return counts
    from tunediff.models.quantized import sizes

    return counts | sizes(model)
