"""Every method on every architecture: trained, saved, and the same again in a fresh process; or refused with a reason.

The run ends with a table of them. Methods are those of params.yaml, architectures those of conf/model/.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import hub_models
import numpy as np
import pytest
import torch
import yaml
from conftest import ENVIRONMENT, ROOT, TEXTS
from datasets import ClassLabel, Dataset, Features, Value
from gguf_files import make_gguf

from tunediff.core.errors import UserError
from tunediff.models import adapters, loading, saving
from tunediff.models.settings import ModelConf
from tunediff.settings.params import Params
from tunediff.tasks.classification import Classification
from tunediff.training import loop
from tunediff.training.methods import make_optimizer
from tunediff.training.settings import PeftMethod, Training

PARAMS = Params.model_validate(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
FILES = {path.stem: path for path in sorted((ROOT / "conf/model").glob("*.yaml")) if path.stem != "minilm"}
LABELS = ["down", "flat", "up"]

LORA = {
    f"lora-{name}": PeftMethod(
        peft_type="LORA", learning_rate=1e-3, r=v.rank, lora_alpha=v.alpha, target_modules=v.targets
    )
    for name, v in PARAMS.train_lora.items()
}
METHODS = {**LORA, **PARAMS.train_peft.entries}

NO_CACHE = "PREFIX_TUNING does not fit .*: Model does not support past key values"
ONLY_LINEAR = r"Target module Conv1D.* is not supported"
NO_BIASES = "BITFIT does not fit .*: it has no biases"
REFUSED = {
    ("distilbert-base-cased", "prefix-tuning"): NO_CACHE,
    ("distilbert-base-uncased", "prefix-tuning"): NO_CACHE,
    ("modernbert-base", "prefix-tuning"): NO_CACHE,
    ("modernbert-base", "bitfit"): NO_BIASES,
    ("smollm2", "bitfit"): NO_BIASES,
    ("gpt2", "oft"): ONLY_LINEAR,
    ("gpt2", "miss"): ONLY_LINEAR,
}
NOT_MERGED = ("bitfit", "linear-probe", "bottleneck", "prompt-tuning", "p-tuning", "prefix-tuning")
# PEFT 0.21 takes a head of several layers for one layer when it puts merged layers back.
PEFT_CANNOT_MERGE = ("modernbert-base", "xlm-roberta-base")

# In a fresh process: the logits of each saved model, and of the merged one.
RELOAD = """
import json, sys
from pathlib import Path
from tunediff.tasks.features import encode
from tunediff.models.inference import predict_logits
from tunediff.models.saved import load_saved
answers = {}
for folder in map(Path, sys.argv[2:]):
    model, tokenizer = load_saved(folder)
    encoded = encode(tokenizer, json.loads(sys.argv[1]))
    logits = lambda model: predict_logits(model, tokenizer, encoded, 4, "fp32", "").tolist()
    answers[folder.name] = {"logits": logits(model), "id2label": list(model.config.id2label.values())}
    if hasattr(model, "merge_and_unload"):
        try:
            merged = model.merge_and_unload()
            answers[folder.name] |= {"merged": logits(merged), "merged_id2label": list(merged.config.id2label.values())}
        except AttributeError as error:
            answers[folder.name]["merge_error"] = str(error)
print(json.dumps(answers))
"""


@dataclass
class Cell:
    """What became of one method on one architecture."""

    refusal: str = ""
    fitted: loop.Fit | None = None
    idle: set[str] = field(default_factory=set)
    """Trained weights that the loss does not depend on."""


def split(texts: list[str]) -> Dataset:
    columns = {"text": texts, "label": [i % len(LABELS) for i in range(len(texts))]}
    return Dataset.from_dict(columns, features=Features({"text": Value("string"), "label": ClassLabel(names=LABELS)}))


def fit(entry: PeftMethod, conf: ModelConf, path: Path, folder: Path) -> Cell:
    """What train_peft does, on 16 texts for 2 epochs."""
    tokenizer = loading.load_tokenizer(conf, path)
    task = Classification(LABELS)
    base = loading.load_pretrained(conf, path, tokenizer, task, 17)
    try:
        model = adapters.adapt(base, tokenizer, entry.peft_type, entry.model_extra, conf, "entry")
    except UserError as error:
        return Cell(refusal=str(error))
    idle_at_first = idle(model, tokenizer)  # as LoRA's A is while its B is zero
    optimizer = make_optimizer(model, entry, 0.01, "entry")
    changes = {"epochs": 2, "batch_size": 4, "weight_decay": 0.01, "warmup": 0, "patience": 0, "select_by": "loss"}
    training = Training(
        method=folder.name,
        task=task.name,
        seeds=[17],
        precision="fp32",
        train=PARAMS.train.model_copy(update=changes),
        batch_size=PARAMS.evaluate.batch_size,
        learning_rate=entry.learning_rate,
        model=conf,
        model_path=path,
        entry=entry,
    )
    train, validation = split(hub_models.ENGLISH[:16]), split(TEXTS)
    fitted = loop.fit(model, tokenizer, task, train, validation, training, 17, folder / "curves", optimizer)
    fitted.checkpoints.remove()
    saving.save(fitted.model, tokenizer, folder)
    return Cell(fitted=fitted, idle=idle_at_first & idle(model, tokenizer))


def idle(model: torch.nn.Module, tokenizer) -> set[str]:
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False)
    model.train().zero_grad()
    model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
    idle = {n for n, w in model.named_parameters() if w.requires_grad and (w.grad is None or not w.grad.any())}
    model.zero_grad()
    return idle


@pytest.fixture(scope="session", params=FILES)
def architecture(request, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    """Name of the model's file, the cells of its row, and what a fresh process says of the saved ones."""
    path = FILES[request.param]
    shipped = ModelConf.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    folder = tmp_path_factory.mktemp(request.param)
    if shipped.name.endswith(".gguf"):
        checkpoint = make_gguf(folder / "it.gguf", [*hub_models.ENGLISH, *TEXTS])
    else:
        checkpoint = next(file.parent for file in checkpoints[shipped.name].rglob("config.json"))
    own = {"name": str(checkpoint), "revision": "main", "sha256": None}
    conf = shipped.model_copy(update={**own, "max_length": 32})
    cache = str(folder / "cache")
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("XDG_CACHE_HOME", cache)
        cells = {name: fit(entry, conf, path, folder / name) for name, entry in METHODS.items()}
    saved = [str(folder / name) for name, cell in cells.items() if cell.fitted]
    command = [sys.executable, "-c", RELOAD, json.dumps(TEXTS), *saved]
    done = subprocess.run(
        command, cwd=ROOT, env={**ENVIRONMENT, "XDG_CACHE_HOME": cache}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return request.param, cells, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_trained_and_comes_back_or_is_refused(architecture, method: str, record_property):
    name, cells, answers = architecture
    cell = cells[method]
    if reason := REFUSED.get((name, method)):
        assert cell.fitted is None
        assert re.search(reason, cell.refusal)
        record_property("matrix", (name, method, "refused"))
        return
    assert not cell.refusal
    answer = answers[method]

    # Everything that is trained bears on the answer.
    assert not cell.idle
    before = cell.fitted.validation_logits
    assert np.ptp(before, axis=0).max() > 1e-3, "one answer for every text"

    assert np.array_equal(np.float32(answer["logits"]), before)
    assert answer["id2label"] == LABELS
    merges = False
    if method not in NOT_MERGED and "merge_error" in answer:
        assert name in PEFT_CANNOT_MERGE and "has no attribute 'weight'" in answer["merge_error"]
    elif method not in NOT_MERGED:
        merges = True
        assert np.allclose(answer["merged"], before, atol=1e-4)
        assert answer["merged_id2label"] == LABELS
    trained = cell.fitted.parameters["trainable_parameters"]
    record_property("matrix", (name, method, f"{trained:,}{' +merge' * merges}"))
