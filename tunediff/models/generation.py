"""Texts that a language model writes: the one function for every method, in evaluation and in use."""

import hashlib
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, TopPLogitsWarper

from tunediff.core.errors import UserError
from tunediff.models.inference import HALVES, device
from tunediff.tasks.generation import Generation
from tunediff.tasks.settings import Generate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def write(
    task: Generation,
    model: "PreTrainedModel | PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    texts: "Sequence[str]",
    settings: Generate,
    batch_size: int,
    precision: str,
    title: str,
) -> list[str]:
    """What the model writes for each text, in their order; in batches of prompts of like length.

    A text's answer does not depend on those beside it, but for the last digits of the numbers. Raises UserError if
    prompt and answer may be more than the model reads.
    """
    prompt = task.prompt(tokenizer)
    check_room(model, task.architecture.before(tokenizer.model_max_length), settings)
    prompts = [prompt.ids(text) for text in texts]
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))  # memory runs out at once or never
    place = device()
    model.to(place).eval()
    model.generation_config = GenerationConfig(  # not the model's own, which may punish repetitions or draw
        max_new_tokens=settings.max_new_tokens,
        num_beams=settings.beams,
        do_sample=False,
        eos_token_id=prompt.end,
        pad_token_id=tokenizer.pad_token_id,
        stop_strings=settings.stop or None,
        use_cache=True,
        **prompt.generating,
    )
    numbers = torch.autocast(place.type, HALVES.get(precision), enabled=precision in HALVES)
    answers = [""] * len(prompts)
    with torch.inference_mode(), numbers, tqdm(total=len(order), desc=title, unit="text") as progress:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            some = [prompts[row] for row in rows]
            inputs = task.architecture.inputs(tokenizer, some)
            batch = {name: tensor.to(place) for name, tensor in inputs.items()}
            drawn = LogitsProcessorList([Drawn(settings, some)] if settings.temperature else [])
            ids = model.generate(
                **batch, generation_config=model.generation_config, tokenizer=tokenizer, logits_processor=drawn
            )
            written = tokenizer.batch_decode(task.architecture.written(ids, batch), skip_special_tokens=True)
            for row, text in zip(rows, written, strict=True):
                answers[row] = before(text, settings.stop).strip()
            progress.update(len(rows))
    return answers


class Drawn(LogitsProcessor):
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


def check_room(model: "PreTrainedModel | PeftModel", before: int, settings: Generate) -> None:
    """`before`: how many positions the prompt takes of those that the answer needs."""
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest and before + settings.max_new_tokens > longest:
        prompt = f" after a prompt of up to {before} tokens (max_length of the model's file)" if before else ""
        raise UserError(
            f"params.yaml: generate.max_new_tokens: {settings.max_new_tokens}{prompt}, but the model reads {longest}: "
            f"lower {'one of them' if before else 'it'}"
        )
