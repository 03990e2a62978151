"""The one training loop: what a rare label weighs, its figures on validation, and what its checkpoints depend on."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, WHERE
from datasets import ClassLabel, Dataset, Features, Value
from peft import PeftConfig, PeftModel
from sklearn.metrics import log_loss
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.bert.modeling_bert import BertPreTrainedModel

from tunediff.baselines.linear import on_tfidf
from tunediff.core.errors import UserError
from tunediff.evidence import classification, growth, scoring
from tunediff.models import loading
from tunediff.models.adapters import adapt
from tunediff.models.inference import probabilities
from tunediff.models.settings import ModelConf
from tunediff.settings import resolve
from tunediff.settings.study import Study, load
from tunediff.tasks.classification import Classification
from tunediff.training import loop
from tunediff.training.methods import make_optimizer
from tunediff.training.settings import Lora, PeftMethod, Train, Training

LABELS = ["usual", "rare"]
FEW_STEPS = {"epochs": 1, "patience": 0, "batch_size": 32}


def split(texts: list[str], labels: list[int], names: list[str] = LABELS) -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    return Dataset.from_dict({"text": texts, "label": labels}, features=features)


def test_balanced_weights_are_those_of_the_inverse_frequencies():
    task = Classification(LABELS)
    train = split(["a"] * 10, [0] * 8 + [1] * 2)
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.5], [-1.0, 1.0]])
    labels = torch.tensor([0, 1, 1])
    weights = torch.tensor([10 / (2 * 8), 10 / (2 * 2)])
    each = cross_entropy(logits, labels, reduction="none") * weights[labels]
    balanced = task.loss(train, "balanced")(SequenceClassifierOutput(logits=logits), labels)
    assert float(balanced) == pytest.approx(float(each.mean()))
    plain = task.loss(train, "none")(SequenceClassifierOutput(logits=logits), labels)
    assert float(plain) == pytest.approx(float(cross_entropy(logits, labels)))


@pytest.fixture(scope="module")
def study() -> Study:
    return load(ROOT)


@pytest.fixture(scope="module")
def fit(study: Study, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., loop.Fit]:
    """Full fine-tuning of the tiny model, with keys of `train:` changed."""

    def fit(train: Dataset, validation: Dataset, **changes: object) -> loop.Fit:
        model, tokenizer, task = pretrained(tiny_model, train)
        curves = tmp_path_factory.mktemp("curves")
        settings = training(study, "full", **changes)
        fitted = loop.fit(model, tokenizer, task, train, validation, settings, 17, curves)
        fitted.checkpoints.remove()
        return fitted

    return fit


def pretrained(tiny_model: Path, train: Dataset) -> tuple:
    conf = ModelConf(name=str(tiny_model), max_length=16)
    tokenizer = loading.load_tokenizer(conf, WHERE)
    task = Classification.of(train.features)
    return loading.load_pretrained(conf, WHERE, tokenizer, task, 17), tokenizer, task


def training(study: Study, method: str, **changes: object) -> Training:
    """What the method resolves to, with keys of `train:` changed."""
    settings = resolve.training(study, method)
    update = {"train": settings.train.model_copy(update=changes), "precision": "fp32", "learning_rate": 1e-3}
    return settings.model_copy(update=update)


@pytest.fixture(scope="module")
def rare(tiny_texts: list[tuple[str, str]]) -> Dataset:
    """The tiny texts without most of those on one side: 5% are left."""
    usual = [text for text, label in tiny_texts if label == "bearish"]
    few = [text for text, label in tiny_texts if label == "bullish"][::20]
    return split(usual + few, [0] * len(usual) + [1] * len(few))


@pytest.mark.slow
def test_a_rare_label_is_found_with_balanced_weights(rare: Dataset, fit):
    changes = {"epochs": 12, "patience": 0, "batch_size": 4, "select_by": "loss"}
    plain, balanced = (fit(rare, rare, **changes, class_weights=weights) for weights in ("none", "balanced"))
    task = Classification(LABELS)
    actual = task.targets(rare)

    def recall(fitted: loop.Fit) -> float:
        return np.mean(fitted.validation_logits.argmax(1)[actual == 1])

    assert recall(plain) < recall(balanced)
    threshold = classification.fit(task, plain.validation_logits, actual, task.rarer(rare))["threshold"]
    assert threshold["label"] == "rare" and 0 < threshold["value"] < 1


# --- memory


def test_layers_that_are_computed_again_give_the_same_model(rare: Dataset, fit, monkeypatch: pytest.MonkeyPatch):
    """To the last bit, dropout included."""
    again, computed = torch.utils.checkpoint.checkpoint, []
    monkeypatch.setattr("torch.utils.checkpoint.checkpoint", lambda *a, **k: computed.append(1) or again(*a, **k))
    plain = fit(rare, rare, **FEW_STEPS)
    assert not computed
    recomputed = fit(rare, rare, **FEW_STEPS, recompute=True)
    assert np.array_equal(recomputed.validation_logits, plain.validation_logits)
    for (name, weights), (_, expected) in zip(
        recomputed.model.named_parameters(), plain.model.named_parameters(), strict=True
    ):
        assert torch.equal(weights, expected), name


def test_a_model_that_cannot_compute_its_layers_again_is_refused(rare: Dataset, fit, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(PreTrainedModel, "supports_gradient_checkpointing", False)
    monkeypatch.setattr(BertPreTrainedModel, "supports_gradient_checkpointing", False)
    with pytest.raises(UserError, match=r"^params\.yaml: train\.recompute: .* cannot do it; set it to false"):
        fit(rare, rare, **FEW_STEPS, recompute=True)


def test_validation_keeps_nothing_but_the_logits(rare: Dataset, tiny_model: Path, study: Study, monkeypatch):
    """Not the hidden states that a model's config may ask for, of all rows."""
    model, tokenizer, task = pretrained(tiny_model, rare)
    model.config.output_hidden_states = True
    kept = []
    step = loop.ResumableTrainer.prediction_step
    monkeypatch.setattr(
        loop.ResumableTrainer, "prediction_step", lambda *a, **k: kept.append(step(*a, **k)) or kept[-1]
    )
    settings = training(study, "full", **FEW_STEPS)
    loop.fit(model, tokenizer, task, rare, rare, settings, 17, None).checkpoints.remove()
    assert kept and all(answers.shape[1:] == (2,) for _, answers, _ in kept)


# --- figures on validation


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_validation_and_the_scorer_give_the_same_figures(tiny_texts, fit, class_weights: str):
    """Over all labels, also if no row of validation has one of them."""
    names = ["bearish", "bullish", "other"]
    labels = [names.index(label) for _, label in tiny_texts]
    train = split([text for text, _ in tiny_texts] + ["wheat"], [*labels, 2], names)
    validation = train.select(range(1, 200, 3))
    fitted = fit(train, validation, **FEW_STEPS, class_weights=class_weights)
    task = Classification(names)
    actual = task.targets(validation)
    assert set(actual) == {0, 1}
    scored = scoring.score(task, actual, probabilities(fitted.validation_logits))
    assert {name: fitted.best[name] for name in task.each_epoch} == pytest.approx(
        {name: scored[name] for name in task.each_epoch}, rel=1e-5
    )


def test_the_loss_on_validation_is_not_weighted(rare: Dataset, study: Study, fit):
    """That of a trained method and that of TF-IDF, or the two could not be compared."""
    fitted = fit(rare, rare, **FEW_STEPS, class_weights="balanced")
    task = Classification(LABELS)
    actual = task.targets(rare)
    logits = fitted.validation_logits
    assert fitted.best["loss"] == pytest.approx(log_loss(actual, probabilities(logits)), rel=1e-5)
    outputs = SequenceClassifierOutput(logits=torch.from_numpy(logits))
    weighted = float(task.loss(rare, "balanced")(outputs, torch.from_numpy(actual)))
    assert weighted > 1.1 * fitted.best["loss"]

    settings = growth.Growth(
        task="classification", seed=17, methods=["tfidf"], class_weights="balanced", baseline=study.params.baseline,
        trainings={},
    )  # fmt: skip
    tfidf = growth.validate("tfidf", task, rare, rare, settings, [])
    texts = rare["text"][:]
    model = on_tfidf(study.params.baseline, "balanced", texts).fit(texts, rare["label"][:])
    assert tfidf["loss"] == pytest.approx(log_loss(actual, model.predict_proba(rare["text"][:])))


# --- what a checkpoint depends on


ENTRY = {"peft_type": "LORA", "r": 2, "use_rslora": True, "target_modules": ["query", "value"]}
LORA = Lora(rank=2, alpha=4, dropout=0.1, targets="attention")


@pytest.fixture
def key(tiny_model: Path, tiny_texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The key of the checkpoints that `loop.fit` looks for, always with the same model and data."""

    class Made(Exception):
        pass

    def made(key: str) -> None:
        raise Made(key)

    monkeypatch.setattr(loop, "Checkpoints", made)
    texts = split([text for text, _ in tiny_texts[:20]], [0, 1] * 10)
    model, tokenizer, task = pretrained(tiny_model, texts)

    def key(settings: Training, seed: int = 17, model=model, optimizer: torch.optim.Optimizer | None = None) -> str:
        with pytest.raises(Made) as raised:
            loop.fit(model, tokenizer, task, texts, texts, settings, seed, tmp_path, optimizer)
        return str(raised.value)

    return key


def another(value: object) -> object:
    """A value of the same type."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}-2"
        case list():
            return value[1:]
    return "another"


@pytest.mark.parametrize("field", Train.model_fields)
def test_a_checkpoint_is_of_one_way_to_train(study: Study, key, field: str):
    settings = training(study, "full")
    assert key(settings) == key(training(study, "full"))
    assert key(training(study, "full", **{field: another(getattr(settings.train, field))})) != key(settings)


@pytest.mark.parametrize("field", Lora.model_fields)
def test_a_checkpoint_is_of_one_variant(study: Study, key, field: str):
    settings = training(study, "lora-v1").model_copy(update={"lora": LORA})
    changed = LORA.model_copy(update={field: another(getattr(LORA, field))})
    assert key(settings.model_copy(update={"lora": changed})) != key(settings)


@pytest.mark.parametrize("field", [*PeftMethod.model_fields, *(name for name in ENTRY if name != "peft_type")])
def test_a_checkpoint_is_of_one_entry(study: Study, key, field: str):
    entry = PeftMethod(learning_rate=1e-3, **ENTRY)
    settings = training(study, "lora-v1").model_copy(update={"lora": None, "entry": entry})
    changed = entry.model_copy(update={field: another(getattr(entry, field))})
    assert changed != entry
    assert key(settings.model_copy(update={"entry": changed})) != key(settings)


def test_a_checkpoint_is_of_one_seed_whatever_others_there_are(study: Study, key):
    settings = training(study, "full")
    assert key(settings, seed=18) != key(settings)
    assert key(settings.model_copy(update={"seeds": [17, 18]})) == key(settings)
    assert key(settings.model_copy(update={"learning_rate": 2e-3})) != key(settings)


def adapted(tiny_model: Path, name: str) -> tuple[PreTrainedModel | PeftModel, PeftMethod]:
    """The tiny model with the adapter of an entry of params.yaml."""
    entry = load(ROOT).params.train_peft.entries[name]
    model, tokenizer, _ = pretrained(tiny_model, split(["a", "b"], [0, 1]))
    conf = ModelConf(name=str(tiny_model), max_length=16, targets={"all-linear": "all-linear"})
    return adapt(model, tokenizer, entry.peft_type, entry.model_extra, conf, "entry"), entry


@pytest.mark.slow
@pytest.mark.parametrize("name", load(ROOT).params.train_peft.entries)
def test_a_checkpoint_is_of_one_adapter_in_all_its_fields(study: Study, key, tiny_model: Path, name: str):
    """Also in those that follow from the model, and that no weight has in it, such as a dropout."""
    model, _ = adapted(tiny_model, name)
    settings, keys = training(study, "full"), {}
    if hasattr(model, "peft_config"):
        config = model.peft_config["default"]
        own = {field.name for field in dataclasses.fields(config)} - {
            field.name for field in dataclasses.fields(PeftConfig)
        }
        fields = {field: vars(config) for field in own}
    else:
        own = model.config.tunediff["adapter"]
        fields = {"peft_type": own, "head": own, **dict.fromkeys(own["fields"], own["fields"])}
    keys[""] = key(settings, model=model)
    for field, place in fields.items():
        value, place[field] = place[field], another(place[field])
        keys[field] = key(settings, model=model)
        place[field] = value
    assert key(settings, model=model) == keys[""]
    assert len(set(keys.values())) == 1 + len(fields) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora-plus", "lora-fa"])
def test_a_checkpoint_is_of_one_optimizer_in_all_its_groups(study: Study, key, tiny_model: Path, name: str):
    model, entry = adapted(tiny_model, name)
    settings = training(study, "full")
    optimizer = make_optimizer(model, entry, 0.01, "entry")
    keys = [key(settings, model=model), key(settings, model=model, optimizer=optimizer)]
    for group in optimizer.param_groups:
        for field in [field for field in group if group[field] != []]:
            value, group[field] = group[field], another(group[field])
            keys.append(key(settings, model=model, optimizer=optimizer))
            group[field] = value
    assert key(settings, model=model, optimizer=optimizer) == keys[1]
    assert len(set(keys)) == len(keys) > 10
