"""What makes training faster and leaves its result: docs/performance.md has what each of these gives."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import nn

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@cache
def on_cpu() -> torch.library.Library:
    """Let dropout on a CPU draw its masks by `bernoulli_` from here on in this process, attention's too.

    Attention with dropout, for which a CPU has no kernel of its own, stays in bf16 where its input is. Attention
    without dropout computes its gradients by `attention_backward`.
    """
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # not of CUDA alone
    library = torch.library.Library("aten", "IMPL")
    backward = "_scaled_dot_product_flash_attention_for_cpu_backward"
    gradients = partial(attention_backward, torch.library.get_kernel(f"aten::{backward}", "CPU"))
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # that there is one already
        library.impl("bernoulli_.float", bernoulli_, "CPU")
        library.impl(backward, gradients, "CPU", with_keyset=True)
    return library


def attention_backward(
    kernel: Any, keys: torch.DispatchKeySet, gradient: torch.Tensor, *values: Any, **options: Any
) -> tuple[torch.Tensor, ...]:
    """The gradients of query, key and value by PyTorch's `kernel`, in fp32; they have the type of `gradient`.

    In bf16 the kernel makes each of its many small products one by one, which takes two to five times as long.
    """
    values = (value.float() if torch.is_tensor(value) else value for value in values)
    if options.get("attn_mask") is not None:
        options["attn_mask"] = options["attn_mask"].float()
    gradients = kernel.call_boxed(keys, gradient.float(), *values, **options)
    return tuple(each.to(gradient.dtype) for each in gradients)


def bernoulli_(mask: torch.Tensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """Fill with 1 where 16 random bits, as a number between 0 and 1, are below `p`, else with 0.

    PyTorch's own draws a number of its own for each place, which takes five times as long.
    """
    bits = torch.empty(-(-mask.numel() // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    bits = bits.view(torch.int16)[: mask.numel()].view(mask.shape)  # from -2^15 on
    return mask.copy_(bits < round(p * 2**16) - 2**15)


class SeenTokens(nn.Module):
    """An embedding without the rows of tokens that are never met."""

    def __init__(self, embedding: nn.Embedding, seen: torch.Tensor):
        """`seen`: ids, each once."""
        super().__init__()
        place = torch.full((embedding.num_embeddings,), len(seen))
        place[seen] = torch.arange(len(seen))
        self.register_buffer("place", place, persistent=False)
        self.padding_idx = None if embedding.padding_idx is None else int(place[embedding.padding_idx])
        # No token has the last row. It comes to be what becomes of 1 if there is never a gradient.
        self.weight = nn.Parameter(torch.cat([embedding.weight.data[seen], torch.ones(1, embedding.embedding_dim)]))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding(self.place[input_ids], self.weight, self.padding_idx)


@contextmanager
def seen_tokens(model: "PreTrainedModel | PeftModel", pad: int, splits: Iterable[Dataset]) -> Iterator[None]:
    """Train an embedding without the tokens that no text of the encoded `splits` has; it is complete again afterwards.

    Most of a vocabulary's rows are of words that a few thousand texts do not have. They get no gradient, and AdamW only
    scales them, by weight decay: all alike, so that it can be done at the end. Until then there is less to clear, to
    clip, to step and to keep.
    """
    embedding = model.get_input_embeddings()
    names = [name for name, weights in model.named_parameters(remove_duplicate=False) if weights is embedding.weight]
    if type(embedding) is not nn.Embedding or not embedding.weight.requires_grad or len(names) > 1:
        yield
        return
    columns = (split.data.column("input_ids") for split in splits)
    ids = {pad}.union(*(pc.unique(pc.list_flatten(column)).to_pylist() for column in columns))
    seen = torch.tensor(sorted(ids))
    few = SeenTokens(embedding, seen)
    model.set_input_embeddings(few)
    yield
    trained = few.weight.data.cpu()
    embedding.weight.data *= trained[-1]
    embedding.weight.data[seen] = trained[:-1]
    model.set_input_embeddings(embedding)
