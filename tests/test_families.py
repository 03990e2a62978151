"""Every family that transformers has a classifier for, at tiny size: it works from loading to reloading, or one line
says before any training why not.
"""

import re
from pathlib import Path
from typing import Any

import hub_models
import numpy as np
import pytest
import torch
from conftest import TEXTS
from safetensors.torch import save_file
from test_matrix import LABELS, PARAMS, split
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedTokenizerFast, set_seed
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from tunediff.core.errors import UserError
from tunediff.models import inference, loading, saved, saving, trial
from tunediff.models.settings import Adapted
from tunediff.tasks.classification import Classification
from tunediff.tasks.features import encode
from tunediff.training import methods
from tunediff.training.settings import Training

pytestmark = pytest.mark.slow

LONGEST = 64
# What makes a config tiny, by the names that families give it; a value that a family has not is left out.
TINY: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "emb_dim", "dim", "hidden_dim", "embedding_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "num_kv_heads", "num_decoder_layers"), 2),
    **dict.fromkeys(("intermediate_size", "d_ff", "d_inner", "n_inner", "ffn_dim", "ffn_hidden_size"), 64),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "dff", "moe_intermediate_size", "feed_forward_size"), 64),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), LONGEST),
    **dict.fromkeys(("head_dim", "d_kv", "d_head"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("initializer_range", "init_std"), 0.2),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "index_n_heads"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "rotary_dim"), 8),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "index_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_blocks", "num_self_attends_per_block"), 1),
    **dict.fromkeys(("num_self_attention_heads", "num_cross_attention_heads"), 2),
    **dict.fromkeys(("num_latents", "d_latents", "image_size", "patch_size", "index_head_dim"), 16),
    **dict.fromkeys(("entity_vocab_size", "pronunciation_vocab_size", "shape_vocab_size"), 20),
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
# What else some need; None takes a value out.
MLA = {"head_dim": 8}  # that of the rotary part
MORE: dict[str, dict[str, Any]] = {
    "axk1": MLA,
    "axk2": MLA,
    "cohere_compass_text": {
        "layer_types": ["full_attention"] * 2,
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}},
    },
    "deepseek_v2": {**MLA, "num_experts_per_tok": 2},
    "deepseek_v3": MLA,
    "funnel": {"block_sizes": [1, 1]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "layoutlmv3": {"coordinate_size": 5, "shape_size": 6},
    "lilt": {"hidden_size": 48, "num_attention_heads": 2},
    "mistral4": {"head_dim": None},
    "qwen3_5": {"text_config": {"layer_types": ["linear_attention", "full_attention"]}},
    "reformer": {"axial_pos_embds_dim": (16, 16), "axial_pos_shape": (8, 8)},
    "t5": {"decoder_start_token_id": 0},
    "zamba": {"num_hidden_layers": 8},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"], "n_mamba_heads": 2, "mamba_headdim": 32},
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    made, _ = hub_models.wordpiece([*hub_models.ENGLISH, *TEXTS], lowercase=True)
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "eos": "[SEP]"}
    named = {f"{name}_token": token for name, token in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="[CLS]", **named)


def tiny(family: str, vocabulary: int) -> PreTrainedConfig:
    """The family's config, with a few thousand parameters."""
    kind = CONFIG_MAPPING[family]
    values = tiny_values(kind(), vocabulary)
    for name, value in MORE.get(family, {}).items():
        values[name] = {**values[name], **value} if isinstance(values.get(name), dict) else value
    return kind(**{name: value for name, value in values.items() if value is not None})


def tiny_values(config: PreTrainedConfig, vocabulary: int) -> dict[str, Any]:
    """Of a config, and of those in it."""
    known = {*config.to_dict(), *config.attribute_map}
    inner = {name: getattr(config, name, None) for name in ("text_config", "vision_config", "encoder", "decoder")}
    return {
        **{name: value for name, value in {**TINY, "vocab_size": vocabulary}.items() if name in known},
        **{name: tiny_values(one, vocabulary) for name, one in inner.items() if isinstance(one, PreTrainedConfig)},
    }


def conf_of(folder: Path) -> Adapted:
    return Adapted(name=str(folder), max_length=16)


def answers(model: Any, tokenizer: Any) -> np.ndarray:
    return inference.predict_logits(model, tokenizer, encode(tokenizer, TEXTS), 2, "fp32", "")


def trained(folder: Path, conf: Adapted, file: Path) -> np.ndarray:
    """Train every weight as the stage does, save to `folder`, and give the answers."""
    changes = {"epochs": 1, "batch_size": 4, "patience": 0, "select_by": "loss"}
    training = Training(
        method="full",
        task="classification",
        seeds=[17],
        precision="fp32",
        train=PARAMS.train.model_copy(update=changes),
        batch_size=PARAMS.evaluate.batch_size,
        learning_rate=1e-3,
        model=conf,
        model_path=file,
    )
    fit = methods.train(methods.full, training, split(hub_models.ENGLISH[:16]), split(TEXTS), 17, None)
    if fit.checkpoints:
        fit.checkpoints.remove()
    saving.save(fit.model, fit.tokenizer, folder)
    return answers(fit.model, fit.tokenizer)


def outcome(family: str, tokenizer: PreTrainedTokenizerFast, folder: Path) -> str:
    """Empty if it works; else the line that refuses it."""
    set_seed(0)
    config = tiny(family, len(tokenizer))
    try:
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / "pretrained")
    except ImportError:  # it needs a package
        config.save_pretrained(folder / "pretrained")
        save_file({"weights": torch.zeros(1)}, folder / "pretrained/model.safetensors")
    tokenizer.save_pretrained(folder / "pretrained")
    file = folder / "it.yaml"
    conf = conf_of(folder / "pretrained")
    task = Classification(LABELS)
    try:
        own = loading.load_tokenizer(conf, file)
        model = loading.load_pretrained(conf, file, own, task, 17)
        trial.check(model, own, conf, file, states=True)
        states = inference.embed(model, own, encode(own, TEXTS), 2, "fp32", None)
        assert states.shape[0] == len(TEXTS) and np.isfinite(states).all()
        expected = trained(folder / "trained", conf, file)
    except UserError as error:
        assert len(error.lines) == 1
        return str(error)
    reloaded = answers(*saved.load_saved(folder / "trained"))
    assert np.allclose(reloaded, expected, atol=1e-5), np.abs(reloaded - expected).max()
    return ""


READS_PADDING = "it would read the padding, and answer otherwise for a text beside a longer one"
# What does not work, and what the line says. All others are trained and reloaded.
REFUSED = {
    **dict.fromkeys(("canine", "convbert", "fnet", "nystromformer", "yoso", "t5gemma", "t5gemma2"), READS_PADDING),
    "funnel": "it has not one state for each token",
    "layoutlmv2": "needs a package that is not here: LayoutLMv2Model requires the detectron2 library",
    "perceiver": "the weights of .* are not those that its config.json means",  # transformers reads bytes, not tokens
    "reformer": "If training, make sure that config.axial_pos_shape factors",
    "xmod": "Input language unknown",
}


@pytest.mark.parametrize("family", MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
def test_a_family_works_or_is_refused_before_training(family: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path):
    refusal = outcome(family, tokenizer, tmp_path)
    assert (family in REFUSED) == bool(refusal), refusal
    assert re.search(REFUSED.get(family, ""), refusal)
