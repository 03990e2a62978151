"""A Llama as a GGUF file with weights of 16 bits, which llama.cpp and what is built on it run.

Only for plain Llamas whose tokenizer is a byte-level BPE: llama.cpp has its own code for each other kind.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

FILE = "model.gguf"
ONE_PIECE = {"add_prefix_space": False, "use_regex": True}
SPLITS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "gpt-2": [("ByteLevel", ONE_PIECE)],
    "smollm": [("Digits", {"individual_digits": True}), ("ByteLevel", ONE_PIECE)],
}
"""How a text is split before merges, by llama.cpp's name for it: the steps of tokenizer.json, with their fields."""


def why_not(config: "PreTrainedConfig", tokenizer: "PreTrainedTokenizerBase") -> str:
    """Why there is no such file of a model; empty if there is one."""
    if config.model_type != "llama":
        return f"it is written for the architecture llama alone, and this one is {config.model_type}"
    if config.attention_bias or config.mlp_bias or config.hidden_act != "silu":
        return "the model is no plain Llama: it has biases, or another activation than silu"
    if config.rope_parameters["rope_type"] != "default":
        return f"its positions are scaled (rope_type {config.rope_parameters['rope_type']})"
    if splitting(tokenizer) is None:
        return f"its tokenizer is none of the kinds that are written: {', '.join(SPLITS)}"
    return ""


def splitting(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """The key of `SPLITS`; None for any other tokenizer."""
    made = json.loads(tokenizer.backend_tokenizer.to_str())
    first = made["pre_tokenizer"] or {}
    steps = first.get("pretokenizers", [first])
    if made["model"]["type"] != "BPE" or made["model"].get("ignore_merges") or made["normalizer"]:
        return None
    for name, wanted in SPLITS.items():
        if [step.get("type") for step in steps] == [kind for kind, _ in wanted] and all(
            fields.items() <= step.items() for step, (_, fields) in zip(steps, wanted, strict=True)
        ):
            return name
    return None


def write_gguf(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", end: int, name: str, file: Path) -> None:
    """Write a model of which `why_not` says nothing. `end` is the token that ends an answer, `name` the model's."""
    from gguf import GGUFWriter, LlamaFileType

    config = model.config
    writer = GGUFWriter(file, "llama")
    writer.add_name(name)
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    add_tokenizer(writer, tokenizer, config.vocab_size, end)
    for place, weights in tensors(model).items():
        writer.add_tensor(place, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: Any, tokenizer: "PreTrainedTokenizerBase", size: int, end: int) -> None:
    """Vocabulary, merges, special tokens and chat template; `size` is how many tokens the model knows."""
    from gguf import TokenType

    words = {place: word for word, place in tokenizer.get_vocab().items()}
    kinds = dict.fromkeys(words, TokenType.NORMAL)
    for place, token in tokenizer.added_tokens_decoder.items():
        kinds[place] = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting(tokenizer))
    writer.add_token_list([words.get(place, f"[PAD{place}]") for place in range(size)])
    writer.add_token_types([kinds.get(place, TokenType.UNUSED) for place in range(size)])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    for kind in ("bos", "eos", "unk", "pad"):
        if (token := getattr(tokenizer, f"{kind}_token_id")) is not None:
            getattr(writer, f"add_{kind}_token_id")(token)
    if end != tokenizer.eos_token_id:
        writer.add_eot_token_id(end)
    first, *_ = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(first == tokenizer.bos_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.get_chat_template())


def tensors(model: "PreTrainedModel") -> dict[str, np.ndarray]:
    """The weights by their names in a GGUF file: matrices in 16 bits, the rest in 32."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    config = model.config
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    made = {}
    for name, weights in model.state_dict().items():
        if name == "lm_head.weight" and tied:
            continue
        layer = name.removesuffix(".weight")
        array = weights.float().cpu().numpy()
        if of := heads.get(layer.rpartition(".")[2]):
            array = rotated(array, of)
        place = names.get_name(name, try_suffixes=(".weight",))
        made[place] = array.astype(np.float16) if array.ndim == 2 else array
    return made


def rotated(weights: np.ndarray, heads: int) -> np.ndarray:
    """The rows of queries or keys in llama.cpp's order, whose rotary embedding turns each row with the next.

    transformers' turns row i of a head with row i + half of the head's rows.
    """
    rows = weights.reshape(heads, 2, -1, weights.shape[1])
    return rows.swapaxes(1, 2).reshape(weights.shape)
