"""Save a trained model.

A saved folder holds what `from_pretrained` reads and nothing else, so that equal runs give equal bytes: weights in
safetensors (for an adapter its own and the head's), config.json with the labels' names, the tokenizer. `config.json`
also says under `tunediff` which pretrained model it came from, for the adapter's base and for comparing with the
original.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunediff.core.files import read_json, write_json

if TYPE_CHECKING:
    from peft import PeftModel

SHARD = "5GB"  # of a large model, in each file
MODULE_SETS = ("target_modules", "modules_to_save", "exclude_modules")


def settle(model: "PreTrainedModel | PeftModel") -> None:
    """Give a trained model the form in which it is saved, so that its answers are the saved one's to the last bit.

    A prompt comes in place of the network that makes it. PiSSA and OLoRA take their first B A out of the weights W, by
    a decomposition that another run need not repeat to the last bit: they become LoRA over the whole W, of twice the
    rank, which holds the difference to the first B A. Other models stay.
    """
    for name, config in getattr(model, "peft_config", {}).items():
        if config.peft_type == "P_TUNING" or getattr(config, "prefix_projection", False):
            encoder = model.prompt_encoder[name]
            encoder.embedding = torch.nn.Embedding.from_pretrained(model.get_prompt_embedding_to_save(name))
            encoder.forward = encoder.embedding.forward
        if layers := [layer for layer in model.modules() if hasattr(layer, "start")]:
            config.init_lora_weights = True
            growth = math.sqrt(2) if config.use_rslora else 2  # of alpha, so that the scale stays
            config.r, config.lora_alpha = 2 * config.r, growth * config.lora_alpha
            config.rank_pattern = {place: 2 * rank for place, rank in config.rank_pattern.items()}
            config.alpha_pattern = {place: growth * alpha for place, alpha in config.alpha_pattern.items()}
            for layer in layers:
                (weight, first_a, first_b), a, b = layer.start, layer.lora_A[name], layer.lora_B[name]
                layer.base_layer.weight.data = weight.to(a.weight.device)
                a.weight.data = torch.cat([a.weight, first_a.to(a.weight.device)])
                b.weight.data = torch.cat([b.weight, -first_b.to(b.weight.device)], dim=1)
                rank, alpha = 2 * layer.r[name], growth * layer.lora_alpha[name]
                layer.r[name], layer.lora_alpha[name] = rank, alpha
                layer.scaling[name] = alpha / math.sqrt(rank) if config.use_rslora else alpha / rank


def save(model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write weights, config and tokenizer to `folder`, which exists afterwards and holds nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    if hasattr(model, "peft_config"):
        # The name in the model's file, not the folder it was found in on this machine.
        for config in model.peft_config.values():
            config.base_model_name_or_path = model.config.tunediff["pretrained"]
            config.revision = model.config.tunediff["revision"]
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink()  # PEFT's empty model card; the folder that people use gets another
        # PEFT writes sets in the order of their hashes, which differs from run to run, and a name twice if it was
        # given.
        adapter = read_json(folder / "adapter_config.json")
        write_json(
            folder / "adapter_config.json",
            {
                key: sorted(set(value)) if key in MODULE_SETS and isinstance(value, list) else value
                for key, value in adapter.items()
            },
        )
    elif "adapter" in model.config.tunediff:
        trained = {name: weights.detach() for name, weights in model.named_parameters() if weights.requires_grad}
        save_file(trained, folder / "adapter_model.safetensors")
    else:
        model.save_pretrained(folder, max_shard_size=SHARD)
    model.config.save_pretrained(folder)
    for key in ("is_local", "local_files_only"):  # how this machine found it, which differs where HF_HUB_OFFLINE is set
        tokenizer.init_kwargs.pop(key, None)
    tokenizer.save_pretrained(folder)
