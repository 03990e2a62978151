"""Texts per second of a language model that writes answers or scores labels, beside what people write instead.

python -m benchmarks.language_model write    # where params.yaml has a data set of texts and a language model
python -m benchmarks.language_model label    # where it has one of single labels: `few-shot`, asked for so many examples

Each round asks all of them in turn about the same texts of the test split, in this one process, in one number format.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, TextGenerationPipeline

from tunediff.core.splits import load_split
from tunediff.models.generation import configure, write
from tunediff.models.inference import choose_precision
from tunediff.models.language_model import load_language_model, plain_log_likelihoods
from tunediff.models.loading import load_tokenizer
from tunediff.prompting.method import Asking
from tunediff.settings import resolve
from tunediff.settings.study import load
from tunediff.tasks import TASKS

Contestant = Callable[[], object]
PIPELINE_BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["write", "label"])
    parser.add_argument("--splits", type=Path, default=Path("data/prepared"))
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--shots", type=int, default=3, help="examples for each label")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.rows = min(args.rows, len(load_split(args.splits, "test")))
    contestants = (writing if args.what == "write" else labelling)(args)

    ratios = {name: [] for name in contestants}
    for number in range(1, args.rounds + 1):
        rates = {}
        for name, contestant in contestants.items():
            started = time.perf_counter()
            contestant()
            rates[name] = args.rows / (time.perf_counter() - started)
            ratios[name].append(rates["ours"] / rates[name])
            print(f"round {number}: {name}: {rates[name]:.2f} texts/s", flush=True)
    del ratios["ours"]
    for name, times in ratios.items():
        print(f"ours, {name} = 1: {statistics.median(times):.2f}, {min(times):.2f} to {max(times):.2f}")


def writing(args: argparse.Namespace) -> dict[str, Contestant]:
    study = load()
    training, generate = resolve.training(study, "full"), study.params.generate
    test = load_split(args.splits, "test")
    task = TASKS["generation"].of(test.features)
    texts = test["text"][: args.rows]
    tokenizer = load_tokenizer(training.model, training.model_path)
    precision = choose_precision(training.precision)
    model = load_language_model(training.model, training.model_path, precision)
    prompt = task.prompt(tokenizer)
    settings = configure(model, prompt, tokenizer, generate)
    prompts = [prompt.ids(text) for text in texts]

    def ours() -> None:
        write(task, model, tokenizer, texts, generate, training.batch_size, precision, None)

    @torch.inference_mode()
    def loop() -> None:
        for ids in prompts:
            batch = torch.tensor([ids])
            model.generate(batch, attention_mask=torch.ones_like(batch), generation_config=settings)

    whole = [tokenizer.decode(ids) for ids in prompts]
    return {"ours": ours, "a loop of generate": loop, "pipeline": pipeline(model, tokenizer, whole, settings)}


def labelling(args: argparse.Namespace) -> dict[str, Contestant]:
    settings = resolve.prompting(load(), "few-shot")
    settings = settings.model_copy(update={"entry": settings.entry.model_copy(update={"shots": args.shots})})
    splits = {name: load_split(args.splits, name) for name in ("train", "test")}
    task = TASKS[settings.task].of(splits["test"].features)
    asking = Asking(splits, task, settings)
    scorer = asking.model
    conversations = asking.conversations(splits["test"]["text"][: args.rows], "test")
    prompts = scorer.prompts(conversations)

    def loop() -> None:
        for ids in prompts:
            plain_log_likelihoods(scorer.model, ids, scorer.answers)

    config = GenerationConfig(
        max_new_tokens=scorer.longest_answer, do_sample=False, pad_token_id=scorer.tokenizer.pad_token_id
    )
    whole = [scorer.tokenizer.decode(ids) for ids in prompts]
    return {
        "ours": lambda: scorer.scores(conversations, "test"),
        "a loop over texts and labels": loop,
        "pipeline": pipeline(scorer.model, scorer.tokenizer, whole, config),
    }


def pipeline(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], settings: GenerationConfig
) -> Contestant:
    """transformers' own, in batches; the texts have their template."""
    tokenizer.padding_side = "left"
    asked = TextGenerationPipeline(model=model, tokenizer=tokenizer)
    return lambda: asked(
        texts, batch_size=PIPELINE_BATCH, generation_config=settings, return_full_text=False, add_special_tokens=False
    )


if __name__ == "__main__":
    main()
