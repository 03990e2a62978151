"""Models for the Hub of hub.py, and for tests without it: small random checkpoints, and texts that they know.

`make_models` writes them in the files, architectures and tokenizers of the repositories whose names they bear.
"""

import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# --- texts

ENGLISH = [
    f"{who} {what} {when}"
    for who, what, when in product(
        ["The old bridge", "Our neighbour", "A small Dublin bakery", "The night train"],
        ["opened its doors", "was painted green", "ran out of flour", "reached Vienna"],
        ["before dawn.", "in the rain.", "without a word.", "on Friday."],
    )
]

# --- checkpoints

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DISTILBERT = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}
MODERNBERT = {
    **SIZE,
    "layer_types": ["full_attention", "sliding_attention"],
    # Here the special tokens come first; in the true one, last.
    "pad_token_id": 1,
    **{f"{name}_token_id": 2 for name in ("bos", "cls")},
    **{f"{name}_token_id": 3 for name in ("eos", "sep")},
}
XLM_ROBERTA = {**SIZE, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
QWEN2 = {**SIZE, "num_key_value_heads": 1, "tie_word_embeddings": True}


@dataclass(frozen=True)
class Model:
    alias: str
    """The former id, which redirects to this one."""
    saved: str
    """Class in transformers that the Hub's weights were saved from."""
    config: dict
    tokenizer: str
    """Function below."""


MODELS = {
    "distilbert/distilbert-base-cased": Model("distilbert-base-cased", "DistilBertForMaskedLM", DISTILBERT, "cased"),
    "distilbert/distilbert-base-uncased": Model(
        "distilbert-base-uncased", "DistilBertForMaskedLM", DISTILBERT, "uncased"
    ),
    "google-bert/bert-base-uncased": Model("bert-base-uncased", "BertForPreTraining", SIZE, "uncased"),
    "openai-community/gpt2": Model("gpt2", "GPT2Model", {"n_embd": 32, "n_layer": 2, "n_head": 2}, "gpt2"),
    "Qwen/Qwen2.5-1.5B": Model("", "Qwen2ForCausalLM", QWEN2, "gpt2"),
    "answerdotai/ModernBERT-base": Model("", "ModernBertForMaskedLM", MODERNBERT, "modernbert"),
    "FacebookAI/xlm-roberta-base": Model("xlm-roberta-base", "XLMRobertaForMaskedLM", XLM_ROBERTA, "xlm_roberta"),
}


def make_models(root: Path, texts: list[str]) -> dict[str, Path]:
    """A folder for each id of MODELS: random weights, and a tokenizer of its kind that has learnt `texts`."""
    import transformers

    folders = {}
    for seed, (id, recipe) in enumerate(MODELS.items()):
        folder = folders[id] = root / id
        tokenizer, tokenizer_config = globals()[recipe.tokenizer](texts)
        vocabulary = tokenizer.get_vocab_size()
        saved = getattr(transformers, recipe.saved)
        special = {"bos_token_id": vocabulary - 1, "eos_token_id": vocabulary - 1} if "GPT2" in recipe.saved else {}
        transformers.set_seed(seed)
        # With the usual spread of 0.02, two layers hardly tell one text from another.
        saved(
            saved.config_class(vocab_size=vocabulary, initializer_range=0.2, **special, **recipe.config)
        ).save_pretrained(folder)
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
        for name, content in former_files(folder / "tokenizer.json").items():
            (folder / name).write_text(content, encoding="utf-8")
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nRandom weights, for tests.\n")
    return folders


def cased(texts: list[str]) -> "tuple[Tokenizer, dict]":
    return wordpiece(texts, lowercase=False)


def uncased(texts: list[str]) -> "tuple[Tokenizer, dict]":
    return wordpiece(texts, lowercase=True)


def wordpiece(texts: list[str], lowercase: bool) -> "tuple[Tokenizer, dict]":
    """BERT's: `##` pieces, [CLS] and [SEP]."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer, {"do_lower_case": lowercase, "model_max_length": 512}


def gpt2(texts: list[str]) -> "tuple[Tokenizer, dict]":
    """GPT-2's: nothing around a text, and no padding token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens(["<|endoftext|>"])  # the last one, as there
    return tokenizer, {"model_max_length": 1024}


def modernbert(texts: list[str]) -> "tuple[Tokenizer, dict]":
    """ModernBERT's: GPT-2's pieces with BERT's special tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    return tokenizer, {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 8192,
        "model_input_names": ["input_ids", "attention_mask"],
        **names,
    }


def xlm_roberta(texts: list[str]) -> "tuple[Tokenizer, dict]":
    """XLM-RoBERTa's: SentencePiece's unigrams, `▁` for a space."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        texts,
        trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer, {"model_max_length": 512}


def former_files(tokenizer: Path) -> dict[str, str]:
    """What held the vocabulary before tokenizer.json, and still lies beside it."""
    model = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]
    match model["type"]:
        case "WordPiece":
            return {"vocab.txt": "".join(f"{token}\n" for token in sorted(model["vocab"], key=model["vocab"].get))}
        case "BPE":
            merges = "".join(f"{' '.join(pair)}\n" for pair in model["merges"])
            return {"vocab.json": json.dumps(model["vocab"]), "merges.txt": f"#version: 0.2\n{merges}"}
    return {}
