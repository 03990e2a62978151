"""A tiny random Llama as a GGUF file, such as llama.cpp's tools write them: quantized to 8 bits, tokenizer included."""

from pathlib import Path

import hub_models
import numpy as np

HIDDEN, HEADS, FEEDFORWARD, LAYERS = 64, 2, 96, 2
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


def make_gguf(path: Path, texts: list[str], seed: int = 0, parts: int = 1, without: str = "-") -> Path:
    """Write a file whose tokenizer has learnt `texts`; the embeddings are tied, and the end's token pads.

    It says that it is one of `parts`, and has no weights whose name begins with `without`.
    """
    import json

    from gguf import GGUFWriter, TokenType

    tokenizer, _ = hub_models.gpt2(texts)
    model = json.loads(tokenizer.to_str())["model"]
    words = [word for word in sorted(model["vocab"], key=model["vocab"].get) if word not in SPECIAL]
    tokens = [*SPECIAL, *words]

    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEEDFORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT)
    writer.add_uint16("split.count", parts)
    for name, weights in _weights(len(tokens), seed):
        if not name.startswith(without):
            _add(writer, name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _weights(vocabulary: int, seed: int):
    draw = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return draw.normal(0, 0.2, (rows, columns)).astype(np.float32)

    yield "token_embd.weight", matrix(vocabulary, HIDDEN)
    for layer in range(LAYERS):
        for name, rows, columns in (
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", HIDDEN // 2, HIDDEN),
            ("attn_v", HIDDEN // 2, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", FEEDFORWARD, HIDDEN),
            ("ffn_up", FEEDFORWARD, HIDDEN),
            ("ffn_down", HIDDEN, FEEDFORWARD),
        ):
            yield f"blk.{layer}.{name}.weight", matrix(rows, columns)
        for name in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{name}.weight", np.ones(HIDDEN, np.float32)
    yield "output_norm.weight", np.ones(HIDDEN, np.float32)


def _add(writer, name: str, weights: np.ndarray) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    if weights.ndim == 1:
        writer.add_tensor(name, weights)
    else:
        kind = GGMLQuantizationType.Q8_0
        writer.add_tensor(name, quantize(weights, kind), raw_dtype=kind)
