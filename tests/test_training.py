"""The one training loop: what a rare label weighs, and where the line to it is drawn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from datasets import ClassLabel, Dataset, Features, Value
from torch.nn.functional import cross_entropy
from transformers.modeling_outputs import SequenceClassifierOutput

from tunediff.models import loading
from tunediff.models.settings import ModelConf
from tunediff.settings.study import load
from tunediff.training import loop

WHERE = Path("conf/model/tiny.yaml")
LABELS = ["usual", "rare"]


def split(texts: list[str], labels: list[int]) -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=LABELS)})
    return Dataset.from_dict({"text": texts, "label": labels}, features=features)


def test_balanced_weights_are_those_of_the_inverse_frequencies():
    train = split(["a"] * 10, [0] * 8 + [1] * 2)
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.5], [-1.0, 1.0]])
    labels = torch.tensor([0, 1, 1])
    weights = torch.tensor([10 / (2 * 8), 10 / (2 * 2)])
    each = cross_entropy(logits, labels, reduction="none") * weights[labels]
    found = loop._loss(train, "balanced")(SequenceClassifierOutput(logits=logits), labels)
    assert float(found) == pytest.approx(float(each.mean()))
    plain = loop._loss(train, "none")(SequenceClassifierOutput(logits=logits), labels)
    assert float(plain) == pytest.approx(float(cross_entropy(logits, labels)))


@pytest.fixture
def rare(tiny_texts: list[tuple[str, str]]) -> Dataset:
    """The tiny texts without most of those on one side: 5% are left."""
    usual = [text for text, label in tiny_texts if label == "bearish"]
    few = [text for text, label in tiny_texts if label == "bullish"][::20]
    return split(usual + few, [0] * len(usual) + [1] * len(few))


def test_a_rare_label_is_found_with_balanced_weights(rare: Dataset, tiny_model: Path, tmp_path: Path):
    def fit(class_weights: str) -> loop.Fit:
        conf = ModelConf(name=str(tiny_model), max_length=16)
        tokenizer = loading.load_tokenizer(conf, WHERE)
        model = loading.load_classifier(conf, WHERE, tokenizer, LABELS, 17)
        params = load(ROOT).params
        changes = {"epochs": 12, "patience": 0, "batch_size": 4, "class_weights": class_weights, "select_by": "loss"}
        params = params.model_copy(update={"train": params.train.model_copy(update=changes), "precision": "fp32"})
        return loop.fit(model, tokenizer, rare, rare, params, 1e-3, 17, tmp_path / class_weights)

    def recall(fitted: loop.Fit) -> float:
        return np.mean(fitted.validation_logits.argmax(1)[np.array(rare["label"][:]) == 1])

    plain, balanced = fit("none"), fit("balanced")
    assert recall(plain) < recall(balanced)
    assert plain.threshold["label"] == "rare" and 0 < plain.threshold["value"] < 1
