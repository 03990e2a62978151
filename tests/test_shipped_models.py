"""Each file in conf/model/ on a small random checkpoint of its architecture: targets and head fit, and come back."""

from pathlib import Path

import hub
import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from peft import get_peft_model

from stages.common import models
from stages.common.data import encode
from stages.common.inference import predict_logits
from stages.common.params import Lora, ModelConf
from stages.train_lora import lora_config

TEXTS = ["shares rose on monday", "wheat fell in early trade", "the index was flat"]
FILES = [path for path in sorted((ROOT / "conf/model").glob("*.yaml")) if path.stem != "minilm"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return hub.make_models(tmp_path_factory.mktemp("checkpoints"), TEXTS * 20)


@pytest.mark.parametrize("targets", ["attention", "all-linear"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_adapters_fit_the_architecture_and_come_back(
    path: Path, targets: str, checkpoints: dict[str, Path], tmp_path: Path
):
    shipped = ModelConf.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    checkpoint = next(folder.parent for folder in checkpoints[shipped.name].rglob("config.json"))
    conf = shipped.model_copy(update={"name": str(checkpoint), "revision": "main", "max_length": 16})
    tokenizer = models.load_tokenizer(conf, path)
    base = models.load_classifier(conf, path, tokenizer, ["a", "b", "c"], 17)
    tuned = get_peft_model(base, lora_config(Lora(rank=2, alpha=4, dropout=0, targets=targets), conf, "targets"))
    with torch.no_grad():  # as if it were trained
        for weights in tuned.parameters():
            if weights.requires_grad:
                weights.add_(torch.randn(weights.shape) * 0.1)
    models.save(tuned, tokenizer, tmp_path / "saved")
    reloaded, reloaded_tokenizer = models.load_saved(tmp_path / "saved")
    before, after = (
        predict_logits(model, words, encode(words, TEXTS), 4, "fp32", "test")
        for model, words in ((tuned, tokenizer), (reloaded, reloaded_tokenizer))
    )
    assert np.array_equal(before, after)
    assert any("lora_A" in name for name, _ in tuned.named_parameters())
