"""Texts that a language model writes: the same for every method, in evaluation and in use."""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TopPLogitsWarper,
)
from transformers.cache_utils import DynamicLayer
from transformers.generation.streamers import BaseStreamer

from tunediff.core.errors import UserError
from tunediff.models.inference import cast_frozen, device, halves
from tunediff.tasks.architecture import Reader
from tunediff.tasks.generation import Generation
from tunediff.tasks.settings import Generate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peft import PeftModel
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

TOKENS = 32_768
"""Of a batch's prompts and answers at most, once for each beam, because their keys and values take memory."""


def write(
    task: Generation,
    model: "PreTrainedModel | PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    texts: "Sequence[str]",
    settings: Generate,
    batch_size: int,
    precision: str,
    title: str | None,
    cut: list[int] | None = None,
) -> list[str]:
    """What the model writes for each text, in their order; see `write_after`.

    Raises UserError if prompt and answer may be more than the model reads.
    """
    prompt = task.prompt(tokenizer)
    check_room(model.config, task.architecture.before(tokenizer.model_max_length), settings.max_new_tokens)
    prompts = [prompt.ids(text) for text in texts]
    return write_after(prompts, task, model, tokenizer, settings, batch_size, precision, title, cut=cut)


def write_after(
    prompts: list[list[int]],
    task: Generation,
    model: "PreTrainedModel | PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    settings: Generate,
    batch_size: int,
    precision: str,
    title: str | None,
    prefix: "Sequence[int]" = (),
    cut: list[int] | None = None,
) -> list[str]:
    """What the model writes after each prompt's tokens, in their order; in batches of prompts of like length.

    A prompt's answer does not depend on those beside it, but for the last digits of the numbers. `prefix` is what all
    prompts begin with, to be computed once; where the source is read by itself, or with beams, there may be none.
    `cut` gets the places of answers that `max_new_tokens` ended.
    """
    prompt = task.prompt(tokenizer)
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))  # memory runs out at once or never
    place = device()
    cast_frozen(model, precision)
    model.to(place).eval()
    config = configure(model, prompt, tokenizer, settings)
    answers = [""] * len(prompts)
    bar = tqdm(total=len(order), desc=title, unit="text", disable=title is None)
    with torch.inference_mode(), halves(precision), bar as progress:
        shared = Shared(model, prefix) if prefix else None
        while order:
            longest = len(prompts[order[0]]) + settings.max_new_tokens
            size = max(1, min(batch_size, TOKENS // (longest * settings.beams)))
            rows, order = order[:size], order[size:]
            some = [prompts[row] for row in rows]
            inputs = task.architecture.inputs(tokenizer, [ids[len(prefix) :] for ids in some])
            inputs = shared.before(inputs) if shared else inputs
            batch = {name: tensor.to(place) for name, tensor in inputs.items()}
            drawn = LogitsProcessorList([Drawn(settings, some)] if settings.temperature else [])
            known = {"past_key_values": shared.cache(len(rows))} if shared else {}
            ids = model.generate(
                **batch,
                **known,
                generation_config=config,
                tokenizer=tokenizer,
                logits_processor=drawn,
            )
            written = task.architecture.written(ids, batch)
            texts = tokenizer.batch_decode(written, skip_special_tokens=True)
            for row, tokens, text in zip(rows, written.tolist(), texts, strict=True):
                answers[row] = before(text, settings.stop).strip()
                if cut is not None and not ended(prompt, tokens, text, settings):
                    cut.append(row)
            progress.update(len(rows))
    return answers


def ended(prompt: Reader, tokens: list[int], text: str, settings: Generate) -> bool:
    """Whether the model ended an answer, or a stop did; else it is as long as it may be."""
    return len(tokens) < settings.max_new_tokens or prompt.end in tokens or any(stop in text for stop in settings.stop)


def keeps_all(model: "PreTrainedModel | PeftModel") -> bool:
    """Whether each layer reads all tokens before, so that what prompts begin with can be computed once."""
    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


class Shared:
    """The keys and values of what all prompts begin with."""

    def __init__(self, model: "PreTrainedModel | PeftModel", prefix: "Sequence[int]"):
        self.ids = torch.tensor([list(prefix)])
        self.kept = DynamicCache(config=model.config)
        model(self.ids.to(device()), past_key_values=self.kept, use_cache=True, logits_to_keep=1)

    def before(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The inputs of a batch with the beginning before them, and before their padding."""
        ids = self.ids.expand(len(inputs["input_ids"]), -1)
        begun = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return {name: torch.cat([begun[name], tensor], dim=1) for name, tensor in inputs.items()}

    def cache(self, rows: int) -> DynamicCache:
        """For a batch of so many rows, which fills it further."""
        copied = copy.deepcopy(self.kept)
        copied.batch_repeat_interleave(rows)
        return copied


@dataclass(frozen=True)
class Written:
    """One answer, and what it took."""

    text: str
    prompt_tokens: int
    tokens: int
    ended: bool
    """As `ended` says."""


def stream(
    task: Generation,
    model: "PreTrainedModel | PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    text: str,
    settings: Generate,
    tell: Callable[[str], None],
    stopped: Callable[[], bool],
) -> Written:
    """What the model writes for one text, as `write` does; `tell` is told each part of it as it comes.

    It is written no further as soon as `stopped`. Beams are known at the end alone, and told then.
    """
    prompt = task.prompt(tokenizer)
    ids = prompt.ids(text)
    place = device()
    model.to(place).eval()
    config = configure(model, prompt, tokenizer, settings)
    parts = Parts(tokenizer, settings.stop, tell)
    inputs = task.architecture.inputs(tokenizer, [ids])
    batch = {name: tensor.to(place) for name, tensor in inputs.items()}
    with torch.inference_mode():
        given = model.generate(
            **batch,
            generation_config=config,
            tokenizer=tokenizer,
            logits_processor=LogitsProcessorList([Drawn(settings, [ids])] if settings.temperature else []),
            stopping_criteria=StoppingCriteriaList([Stopped(stopped)]),
            streamer=parts if settings.beams == 1 else None,
        )
    tokens = task.architecture.written(given, batch)[0].tolist()
    whole = parts.complete(tokens)
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    return Written(whole, len(ids), len(tokens), ended(prompt, tokens, text, settings))


class Uncopied:
    """What stays the same object where PEFT, with a trained prompt, copies all that it is given for `generate`."""

    def __deepcopy__(self, memo: dict) -> "Uncopied":
        return self


class Parts(Uncopied, BaseStreamer):
    """Tells an answer part by part: together they are the text that `write` gives."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", stops: list[str], tell: Callable[[str], None]):
        self.tokenizer = tokenizer
        self.stops = stops
        self.tell = tell
        self.told = ""
        self._tokens: list[int] = []
        self._begun = False

    def put(self, value: torch.Tensor) -> None:
        if self._begun:
            self._tokens.extend(value.flatten().tolist())
            text = self._text(self._tokens)
            for stop in self.stops:  # what may become one is held back, as is half a character
                ends = (size for size in range(len(stop) - 1, 0, -1) if text.endswith(stop[:size]))
                text = text[: len(text) - next(ends, 0)]
            self._tell(text.rstrip("\ufffd").strip())
        self._begun = True  # the first that is put is what the model read

    def end(self) -> None:
        pass

    def complete(self, tokens: list[int]) -> str:
        """The text of all tokens, of which the rest is told."""
        text = self._text(tokens).strip()
        self._tell(text)
        return text

    def _text(self, tokens: list[int]) -> str:
        return before(self.tokenizer.decode(tokens, skip_special_tokens=True), self.stops)

    def _tell(self, text: str) -> None:
        if len(text) > len(self.told):
            self.tell(text[len(self.told) :])
            self.told = text


class Stopped(Uncopied, StoppingCriteria):
    """Ends the writing when nobody waits for it any more."""

    def __init__(self, stopped: Callable[[], bool]):
        self.stopped = stopped

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        return torch.full((len(input_ids),), self.stopped(), device=input_ids.device)


def configure(
    model: "PreTrainedModel | PeftModel", prompt: Reader, tokenizer: "PreTrainedTokenizerBase", settings: Generate
) -> GenerationConfig:
    """What `generate` is to be given, in the place of the model's own, which may punish repetitions or draw.

    `generate` fills what it is not given from the model's own: that of the base model too, which PEFT leaves where it
    is in an encoder-decoder.
    """
    model.generation_config = generation_config(prompt, tokenizer, settings)
    model.generation_config.stop_strings = settings.stop or None
    if hasattr(model, "peft_config"):
        model.get_base_model().generation_config = model.generation_config
    return model.generation_config


def generation_config(prompt: Reader, tokenizer: "PreTrainedTokenizerBase", settings: Generate) -> GenerationConfig:
    """How texts are written, without what transformers does otherwise: draw (`Drawn`) and stop (`before`)."""
    return GenerationConfig(
        max_new_tokens=settings.max_new_tokens,
        num_beams=settings.beams,
        do_sample=False,
        eos_token_id=prompt.end,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
        **prompt.generating,
    )


class Drawn(Uncopied, LogitsProcessor):
    """Sampling that depends on the seed and on the row's own prompt, not on its batch.

    The likeliest token after Gumbel noise is a token drawn by the probabilities. Each row draws its own noise.
    """

    def __init__(self, settings: Generate, prompts: list[list[int]]):
        self.temperature = settings.temperature
        self.nucleus = TopPLogitsWarper(settings.top_p) if settings.top_p < 1 else None
        self.random = []
        for ids in prompts:
            digest = hashlib.sha256(repr((settings.seed, ids)).encode()).digest()
            self.random.append(torch.Generator().manual_seed(int.from_bytes(digest[:7], "big")))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.float() / self.temperature
        if self.nucleus:
            scores = self.nucleus(input_ids, scores)
        noise = [-torch.empty(scores.shape[1]).exponential_(generator=random).log() for random in self.random]
        return scores + torch.stack(noise).to(scores.device)


def before(text: str, stops: list[str]) -> str:
    """The text up to the first of `stops`."""
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]


def check_room(config: "PreTrainedConfig", before: int, max_new_tokens: int) -> None:
    """`before`: how many positions the prompt takes of those that the answer needs.

    Raises UserError if a model of this config has not so many.
    """
    longest = getattr(config, "max_position_embeddings", None)
    if longest and before + max_new_tokens > longest:
        prompt = f" after a prompt of up to {before} tokens (max_length of the model's file)" if before else ""
        raise UserError(
            f"params.yaml: generate.max_new_tokens: {max_new_tokens}{prompt}, but the model reads {longest}: "
            f"lower {'one of them' if before else 'it'}"
        )
