"""A decoder as it was pretrained, with the head that predicts the next token: how likely are words after a prompt?"""

from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from huggingface_hub.utils import httpx
from safetensors import SafetensorError
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from tunediff.core.errors import UserError, reason
from tunediff.models.inference import HALVES, device
from tunediff.models.loading import check_loaded, check_weights, check_writer, find
from tunediff.models.pretrained import hub_error
from tunediff.models.settings import Pretrained
from tunediff.models.weights import difference_of

LOGITS = 2**23  # that are held at once: of each row the vocabulary's size for each token of the answers
TRIED = 3  # answers that `check` computes

Tokens = list[int]


def load_language_model(conf: Pretrained, place: Path, precision: str) -> PreTrainedModel:
    """The model, on its device, in the number format `precision`.

    Raises UserError if it cannot be loaded with all its weights, or is no decoder.
    """
    try:
        source, revision = find(conf, place)
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        check_writer(config, conf, place)
        if config.is_encoder_decoder:
            raise UserError(
                f"{place}: name: {conf.name} is an encoder-decoder ({config.model_type}), and only decoders can be "
                "prompted here; take another model, or serve it and name an `endpoint`"
            )
        check_weights(conf, place, source, revision)
        model, loading = AutoModelForCausalLM.from_pretrained(
            source,
            revision=revision,
            dtype=HALVES.get(precision, torch.float32),
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # instead of a traceback; what differs is named below
            output_loading_info=True,
        )
    except ImportError as error:
        raise UserError(f"{place}: name: {conf.name} needs a package that is not here: {reason(error)}") from None
    except (OSError, ValueError, httpx.HTTPError, SafetensorError) as error:
        raise hub_error(conf.name, conf.revision, place, error) from None
    check_loaded(difference_of(loading), conf, place)
    return model.to(device()).eval()


@torch.inference_mode()
def log_likelihoods(
    model: PreTrainedModel, prompts: list[Tokens], answers: list[Tokens], batch_size: int, title: str
) -> np.ndarray:
    """The log-likelihood of each answer after each prompt, in nats, shape [prompts, answers].

    What all prompts begin with, at least one token, is computed once. A batch has prompts of like length, and each
    answer of a prompt goes through the model in the same pass: it sees the prompt and itself, and none of the others.
    """
    shared = len(common_prefix(prompts))
    prefix = _computed(model, prompts[0][:shared])
    branches = Branches(answers)
    fitting = max(1, LOGITS // ((len(branches.inputs) + 1) * model.config.get_text_config().vocab_size))
    size = min(batch_size, fitting)
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))  # memory runs out at once or never
    result = np.empty((len(prompts), len(answers)))
    with tqdm(total=len(prompts), desc=title, unit="text") as progress:
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            result[rows] = _batch(model, prefix, [prompts[row][shared:] for row in rows], branches)
            progress.update(len(rows))
    return result


def common_prefix(prompts: list[Tokens]) -> Tokens:
    """The tokens that all prompts begin with, without the last one of any."""
    first, last = min(prompts), max(prompts)
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return first[: min(sum(1 for _ in shared), min(map(len, prompts)) - 1)]


class Branches:
    """The tokens of all answers in one row, each answer a branch that begins at the prompt's end.

    The last token of an answer is only predicted, so it is no input.
    """

    def __init__(self, answers: list[Tokens]):
        self.answers = answers
        self.inputs = [token for answer in answers for token in answer[:-1]]
        self.owner = torch.tensor([i for i, answer in enumerate(answers) for _ in answer[:-1]], dtype=torch.long)
        self.depth = torch.tensor([n for answer in answers for n in range(len(answer) - 1)], dtype=torch.long)

    def sees(self) -> torch.Tensor:
        """Whether an input sees another: the earlier ones of its own answer, and itself; shape [inputs, inputs]."""
        return (self.owner[:, None] == self.owner) & (self.depth[:, None] >= self.depth)

    def sums(self, predicted: torch.Tensor) -> torch.Tensor:
        """The answers' log-likelihoods, shape [rows, answers].

        `predicted` has those of all words of the vocabulary after the prompt and after each input, shape
        [rows, 1 + inputs, vocabulary].
        """
        sums, place = [], 1
        for answer in self.answers:
            after = [0, *range(place, place + len(answer) - 1)]
            place += len(answer) - 1
            sums.append(predicted[:, after, answer].sum(-1))
        return torch.stack(sums, -1)


def _batch(model: PreTrainedModel, prefix: Cache, prompts: list[Tokens], branches: Branches) -> np.ndarray:
    """Log-likelihoods, shape [prompts, answers]. `prompts` are without their `prefix`, and are padded on the left."""
    place, shared, longest, rows = device(), prefix.get_seq_length(), max(map(len, prompts)), len(prompts)
    extra = len(branches.inputs)
    padding = torch.tensor([longest - len(prompt) for prompt in prompts])
    tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt + branches.inputs for prompt in prompts])
    steps = torch.arange(longest)
    positions = torch.cat([(steps - padding[:, None]).clamp(min=0), (longest - padding)[:, None] + branches.depth], 1)

    # Who sees what, shape [rows, inputs, prefix and inputs]: all see the prefix, and padding itself, for a softmax
    # needs something.
    own = torch.zeros(rows, longest + extra, longest + extra, dtype=torch.bool)
    true = steps >= padding[:, None]
    own[:, :longest, :longest] = true[:, None, :] & (steps[:, None] >= steps)
    own[:, longest:, :longest] = true[:, None, :]
    own[:, longest:, longest:] = branches.sees()
    own |= torch.eye(longest + extra, dtype=torch.bool)
    seen = torch.cat([torch.ones(rows, longest + extra, shared, dtype=torch.bool), own], 2).to(place)
    mask = torch.zeros(seen.shape, dtype=model.dtype, device=place)
    mask = mask.masked_fill(~seen, torch.finfo(model.dtype).min)

    logits = model(
        tokens.to(place),
        attention_mask=mask[:, None],
        position_ids=(positions + shared).to(place),
        past_key_values=prefix,
        use_cache=True,
        logits_to_keep=torch.arange(longest - 1, longest + extra, device=place),
    ).logits
    return branches.sums(logits.float().log_softmax(-1)).cpu().numpy()


class Prefix(DynamicLayer):
    """A layer's keys and values of one prefix, which every row of any batch has before its own. It keeps no other."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        if not self.is_initialized:
            return super().update(key_states, value_states)
        rows = len(key_states)
        return tuple(
            torch.cat([kept.expand(rows, -1, -1, -1), new], dim=-2)
            for kept, new in ((self.keys, key_states), (self.values, value_states))
        )


def _computed(model: PreTrainedModel, prefix: Tokens) -> Cache:
    cache = Cache(layer_class_to_replicate=Prefix)
    model(torch.tensor([prefix], device=device()), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


@torch.inference_mode()
def plain_log_likelihoods(model: PreTrainedModel, prompt: Tokens, answers: list[Tokens]) -> np.ndarray:
    """The same for one prompt, shape [answers], without padding, cache or branches: a pass for each answer."""
    sums = []
    for answer in answers:
        logits = model(torch.tensor([prompt + answer[:-1]], device=device()), use_cache=False).logits[0]
        predicted = logits[len(prompt) - 1 :].float().log_softmax(-1)
        sums.append(predicted[range(len(answer)), answer].sum())
    return torch.stack(sums).cpu().numpy()


def check(model: PreTrainedModel, prompts: list[Tokens], answers: list[Tokens], name: str) -> None:
    """Compare the shortest and the longest prompt with their plain passes, by an answer that has others before it.

    Raises UserError if they differ: some architectures take no such mask or positions, and say nothing.
    """
    ends = [min(prompts, key=len), max(prompts, key=len)]
    few = answers[:TRIED]
    tried = max(range(len(few)), key=lambda number: (number > 0, len(few[number])))
    refusal = f"{name}: this architecture ({model.config.model_type}) cannot be prompted here"
    advice = "take another model, or serve it and name an `endpoint`"
    plain = np.stack([plain_log_likelihoods(model, prompt, [few[tried]]) for prompt in ends])
    try:
        fast = log_likelihoods(model, ends, few, len(ends), f"{name}: check")[:, [tried]]
    except Exception as error:  # each architecture its own
        raise UserError(f"{refusal}: {reason(error)}; {advice}") from None
    if not np.allclose(fast, plain, atol=0.01 if model.dtype == torch.float32 else 1.0, rtol=0.01):
        raise UserError(f"{refusal}: it answers otherwise for a prompt beside a longer one; {advice}")
