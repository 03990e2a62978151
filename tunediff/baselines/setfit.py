"""SetFit: the encoder learns from pairs of texts which ones share a label; a logistic regression reads its states.

As Tunstall et al. published it (2022, arXiv:2209.11055): the cosine of two texts' mean states is to be 1 if they have
the same label, else 0. For few labels: each text is in many pairs.
"""

import math
import time

import numpy as np
import torch
from datasets import Dataset
from sklearn.pipeline import Pipeline, make_pipeline
from torch.nn.functional import cosine_similarity
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_linear_schedule_with_warmup

from tunediff.baselines.classifiers import Answers, Splits, cost, described
from tunediff.baselines.linear import parameters, regression
from tunediff.baselines.saved import Linear, Tuned, predict, scaler, unit
from tunediff.baselines.settings import SetFit, WithoutFineTuning
from tunediff.core.errors import UserError
from tunediff.models import trial
from tunediff.models.inference import choose_precision, device, embed, encoder_of, halves, mean_states
from tunediff.models.loading import load_pretrained, load_tokenizer
from tunediff.tasks.classification import Classification
from tunediff.tasks.features import encode

WARMUP = 0.1  # share of the steps, as published


class Fitted:
    """A pretrained model's encoder, fine-tuned on some texts, and the regression on its states."""

    def __init__(self, task: Classification, train: Dataset, settings: WithoutFineTuning):
        self.settings = settings
        self.precision = choose_precision(settings.precision)
        self.tokenizer = load_tokenizer(settings.model, settings.model_path)
        self.model = load_pretrained(settings.model, settings.model_path, self.tokenizer, task, settings.seed)
        trial.check(self.model, self.tokenizer, settings.model, settings.model_path, states=True)
        labels = task.targets(train)
        encoded = encode(self.tokenizer, train["text"])
        learn(self.model, self.tokenizer, encoded, labels, settings.setfit, self.precision, settings.seed)
        states = self.states(encoded, "setfit: train")
        if not np.isfinite(states).all():
            raise diverged(settings.setfit, "the last step")
        head = regression(settings.setfit.C, settings.class_weights, several=False).fit(states, labels)
        hidden = states.shape[1]
        self.pipeline: Pipeline = make_pipeline(scaler(np.zeros(hidden), np.ones(hidden)), head)

    def states(self, encoded: Dataset, title: str) -> np.ndarray:
        """Mean states of length 1, shape [texts, hidden]."""
        options = {"batch_size": self.settings.batch_size, "precision": self.precision, "title": title}
        return unit(embed(self.model, self.tokenizer, encoded, **options))

    def answers(self, texts: Dataset, title: str) -> np.ndarray:
        """Probabilities, shape [texts, labels]."""
        return predict(self.pipeline, self.states(encode(self.tokenizer, texts["text"]), title))


def answers(splits: Splits, task: Classification, settings: WithoutFineTuning) -> Answers:
    started = time.perf_counter()
    fitted = Fitted(task, splits["train"], settings)
    trained = time.perf_counter()
    predicted = fitted.answers(splits["test"], "setfit: test")
    evaluated = time.perf_counter()
    weights = sum(each.numel() for each in fitted.model.base_model.parameters()) + parameters(fitted.pipeline)
    spent = cost(trained - started, evaluated - trained, weights, weights)
    chosen = settings.setfit
    kept = Linear(
        fitted.pipeline,
        Tuned(max_length=settings.model.max_length, batch_size=settings.batch_size, precision=fitted.precision),
        encoder={name: fitted.model.config.tunediff[name] for name in ("pretrained", "revision", "sha256")},
        hyperparameters={
            "reads": "the mean of the encoder's last states, over a text's tokens, with length 1",
            "pairs": f"{2 * chosen.iterations} for each text, at most {chosen.pairs:,}, {chosen.batch_size} a step",
            "learning rate": f"{chosen.learning_rate:g}",
            **described(chosen.C, settings),
            "number format": fitted.precision,
        },
        tuned=(fitted.model, fitted.tokenizer),
    )
    return Answers(predicted, spent, fitted.answers(splits["validation"], "setfit: validation"), model=kept)


def learn(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Dataset,
    labels: np.ndarray,
    settings: SetFit,
    precision: str,
    seed: int,
) -> None:
    """Fine-tune the model's encoder for one epoch on `pairs` of the texts `encoded`; `labels` are class numbers."""
    first, second, alike = pairs(labels, settings, np.random.default_rng(seed))
    torch.manual_seed(seed)
    encoder = encoder_of(model).to(device()).train()
    steps = math.ceil(len(first) / settings.batch_size)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=settings.learning_rate, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(WARMUP * steps), steps)
    inputs = encoded.select_columns(["input_ids", "attention_mask"])
    numbers = halves(precision if precision == "bf16" else "fp32")  # in fp16 gradients would vanish
    for step in tqdm(range(steps), desc="setfit", unit="step"):
        part = slice(step * settings.batch_size, (step + 1) * settings.batch_size)
        rows = np.concatenate([first[part], second[part]])
        with numbers:
            states = mean_states(encoder, tokenizer.pad(inputs[rows], return_tensors="pt").to(device()))
        cosines = cosine_similarity(*states.float().chunk(2))
        loss = (cosines - torch.from_numpy(alike[part]).to(cosines)).square().mean()
        if not torch.isfinite(loss):
            raise diverged(settings, f"{step} steps")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def diverged(settings: SetFit, when: str) -> UserError:
    return UserError(
        f"params.yaml: baseline.setfit.learning_rate: the loss is no number after {when}; take a smaller one than "
        f"{settings.learning_rate:g}"
    )


def pairs(
    labels: np.ndarray, settings: SetFit, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of the texts of each pair, and whether they have the same label; in random order, as many of both kinds.

    Each text comes `iterations` times, with another one of its label and with one of another label, until there are
    `pairs`. A label's only text is paired with itself.
    """
    order = np.argsort(labels, kind="stable")  # the texts of each label are neighbours
    place = np.argsort(order, kind="stable")
    sizes = np.bincount(labels)
    number = min(settings.iterations * len(labels), max(1, settings.pairs // 2))
    rounds = math.ceil(number / len(labels))
    anchors = np.concatenate([random.permutation(len(labels)) for _ in range(rounds)])[:number]
    size, start = sizes[labels[anchors]], (sizes.cumsum() - sizes)[labels[anchors]]
    like = order[start + (place[anchors] - start + random.integers(1, np.maximum(size, 2))) % size]
    other = random.integers(0, len(labels) - size)
    unlike = order[other + size * (other >= start)]
    mixed = random.permutation(2 * number)
    alike = np.repeat([True, False], number)
    return np.tile(anchors, 2)[mixed], np.concatenate([like, unlike])[mixed], alike[mixed]
