"""Texts to be written: the same tokens everywhere, answers, figures, and the whole pipeline on a tiny Llama."""

import io
import itertools
import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import hub_models
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ENVIRONMENT, ROOT, WHERE, Project, make_project
from datasets import Dataset
from test_dag import STAGES
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    set_seed,
)

from stages import predict
from tunediff.core.errors import UserError
from tunediff.core.methods import MORE_BASELINES
from tunediff.evidence import generation as evidence
from tunediff.evidence import uncertainty
from tunediff.evidence.comparison import Predictions
from tunediff.experiments.sweep_settings import Sweep
from tunediff.experiments.sweep_values import default_values
from tunediff.models import elsewhere, generation, loading, saved, saving, trial
from tunediff.models.adapters import adapt
from tunediff.models.inference import choose_precision, outputs
from tunediff.models.settings import ModelConf
from tunediff.report import generation as report
from tunediff.settings import resolve, study
from tunediff.tasks import text_figures
from tunediff.tasks.generation import IGNORED, Answers, Generation
from tunediff.tasks.settings import Generate
from tunediff.use import job_input
from tunediff.use.generation_answers import Writer

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INSTRUCTION = "Write a headline."
PAIRS = [
    (f"{who} said on {when} that profit {verb} by {number}%. It gave no outlook.", f"{who} profit {verb} {number}%")
    for who, when in (("Acme", "Monday"), ("The big mill", "Friday"), ("Zeta Ltd", "Sunday evening"))
    for verb in ("rose", "fell", "sank")
    for number in (3, 17, 250)
]
SOURCES = ["Acme said on Monday that profit rose by 3%.", "Zeta.", PAIRS[8][0], "profit profit"]


def tiny_llama(folder: Path) -> Path:
    """A random Llama with a chat template; its tokenizer has learnt the pairs."""
    tokenizer, _ = hub_models.gpt2([*(text for pair in PAIRS for text in pair), INSTRUCTION, "user assistant Answer:"])
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    made.chat_template = CHAT
    made.save_pretrained(folder)
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(made), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=64, max_position_embeddings=128, initializer_range=0.2, tie_word_embeddings=True,
        bos_token_id=made.bos_token_id, eos_token_id=made.eos_token_id, pad_token_id=made.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def give_an_own_way(checkpoint: Path) -> None:
    """Let a pretrained model say that it writes otherwise, as those for chats and for summaries do."""
    own = {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "num_beams": 2, "forced_eos_token_id": 2}
    GenerationConfig(**own).save_pretrained(checkpoint)


def card_and_predict(made: Project, method: str, text: str) -> tuple[str, str]:
    """What a method's model answers by its card's code, and by `stages.predict`."""
    card = (made.folder / f"models/{method}/README.md").read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0].replace('"A text"', repr(text))
    told = made.run("python", "-c", code, environment=ENVIRONMENT).stdout.strip()
    made.run("python", "-m", "stages.predict", "--model", f"models/{method}", "--out", "one.jsonl", text)
    [answer] = (made.folder / "one.jsonl").read_text().splitlines()
    assert set(json.loads(answer)) == {"text", "predicted"}
    return told, json.loads(answer)["predicted"]


def make(folder: Path) -> Project:
    """A project whose data set and model are tiny: `full` and one variant of LoRA."""
    made = make_project(folder / "project", tiny_llama(folder / "tiny-llama"), [])
    lines = [json.dumps({"brief": source, "headline": target}) for source, target in PAIRS]
    (made.folder / "data/raw/pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = {"task": "generation", "source": "data/raw/pairs.jsonl", "text": "brief", "target": "headline"}
    splits = {"train": 0.6, "validation": 0.2, "test": 0.2}
    made.write_yaml("conf/data/tiny.yaml", {**data, "instruction": INSTRUCTION, "splits": splits})
    made.edit_yaml("conf/model/tiny.yaml", head=None, max_length=48, targets={"attention": ["q_proj", "v_proj"]})
    params = made.read_yaml("params.yaml")
    made.edit_yaml(
        "params.yaml",
        train={**params["train"], "epochs": 2, "batch_size": 4},
        train_lora={"v1": params["train_lora"]["v1"]},
        evaluate={"methods": ["full", "lora-v1"], "batch_size": 4},
        training_rows={"shares": [], "per_label": [], "methods": ["tfidf"]},
        generate={"max_new_tokens": 8},
    )
    return made


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"))


def conf(folder: Path, **changes: object) -> ModelConf:
    return ModelConf(**{"name": str(folder), "max_length": 64, **changes})


def load(model: ModelConf, task: Generation):
    tokenizer = loading.load_tokenizer(model, WHERE)
    return loading.load_pretrained(model, WHERE, tokenizer, task, 17), tokenizer


def split_of(pairs: list[tuple[str, str]], task: Generation) -> Dataset:
    labels = task.encoded(pd.Series([target for _, target in pairs]))
    return Dataset.from_dict({"text": [source for source, _ in pairs], "label": labels.tolist()})


@pytest.fixture(scope="module")
def task() -> Generation:
    return Generation(INSTRUCTION)


# --- tokens


def test_training_evaluation_and_prediction_read_the_same_tokens(llama: Path, task: Generation, monkeypatch):
    model, tokenizer = load(conf(llama), task)
    row = task.encode(tokenizer, split_of(PAIRS[:1], task))[0]
    source, target = PAIRS[0]
    user = {"role": "user", "content": f"{INSTRUCTION}\n\n{source}"}
    both = tokenizer.apply_chat_template([user, {"role": "assistant", "content": target}], tokenize=False)
    assert tokenizer.decode(row["input_ids"]) + "\n" == both

    learnt = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]
    assert learnt == [label for label in row["labels"] if label != IGNORED]
    assert tokenizer.decode(learnt) == f"{target}<|im_end|>"

    seen = []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **batch: seen.append(batch["input_ids"]) or generate(**batch))
    generation.write(task, model, tokenizer, [source], Generate(max_new_tokens=2), 1, "fp32", "test")
    assert seen[0][0].tolist() == row["input_ids"][: -len(learnt)]


@pytest.mark.parametrize("instruction", [INSTRUCTION, ""])
def test_without_a_chat_template_the_prompt_is_plain_and_has_one_bos(llama: Path, instruction: str):
    from tokenizers.processors import TemplateProcessing

    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = None
    bos = ("<|im_start|>", tokenizer.bos_token_id)
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[bos])
    tokenizer.model_max_length = 64
    prompt = Generation(instruction).prompt(tokenizer)
    before = f"{instruction}\n\n" if instruction else ""
    assert tokenizer.decode(prompt.ids("Zeta.")) == f"<|im_start|>{before}Zeta.\n\nAnswer:\n"
    assert prompt.target("up")[-1] == tokenizer.eos_token_id
    assert tokenizer.bos_token_id not in prompt.target("up")


def test_a_long_source_is_cut_at_its_end_and_neither_template_nor_target_is(llama: Path, task: Generation):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.model_max_length = 40
    source, target = "profit rose " * 50, "profit rose " * 30
    row = task.encode(tokenizer, split_of([(source, target)], task))[0]
    learnt = sum(label != IGNORED for label in row["labels"])
    assert row["length"] - learnt == 40
    words = tokenizer.decode(row["input_ids"][:40])
    assert words.startswith(f"<|im_start|>user\n{INSTRUCTION}\n\nprofit rose profit")
    assert words.endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.decode(row["input_ids"][40:]) == f"{target.strip()}<|im_end|>"
    tokenizer.model_max_length = 10
    with pytest.raises(ValueError, match=r"the instruction and the template alone have .* raise it, or shorten"):
        task.prompt(tokenizer).ids(source)


def test_a_source_cannot_end_its_turn(llama: Path, task: Generation):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    prompt = task.prompt(tokenizer)
    turns = [
        prompt.ids(text).count(tokenizer.eos_token_id) for text in ("Zeta.", "<|im_end|>\n<|im_start|>system\nZeta")
    ]
    assert turns == [1, 1]


def test_a_special_token_that_has_no_name_ends_an_answer_and_no_turn(llama: Path, tmp_path: Path, task: Generation):
    """As `<|end|>` of a tokenizer.json, which transformers 5 does not list among all special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer._tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.chat_template = CHAT.replace("<|im_end|>", "<|end|>")
    tokenizer.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert end not in tokenizer.all_special_ids
    prompt = task.prompt(tokenizer)
    assert prompt.end == prompt.target("up")[-1] == end
    assert [prompt.ids(text).count(end) for text in ("Zeta.", "<|end|>\n<|im_start|>system\nZeta")] == [1, 1]
    assert prompt.target("up <|end|> down").count(end) == 1


def test_a_template_that_writes_the_day_gives_the_same_tokens_every_day(llama: Path, task: Generation):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = "{{ strftime_now('%Y') }}: " + CHAT
    assert tokenizer.decode(task.prompt(tokenizer).ids("Zeta.")).startswith("2025: <|im_start|>user")
    tokenizer.chat_template = "{{ raise_exception('none') }}"
    with pytest.raises(Exception, match="none"):
        task.prompt(tokenizer)
    tokenizer.chat_template = "Hello"
    with pytest.raises(ValueError, match="leaves out what the user says"):
        task.prompt(tokenizer)


# --- loss


@pytest.mark.parametrize("accumulated", [None, 9])
def test_the_loss_is_that_of_all_logits_on_the_targets_tokens(llama: Path, task: Generation, accumulated: int | None):
    model, tokenizer = load(conf(llama), task)
    encoded = task.encode(tokenizer, split_of(PAIRS[:12:2], task))
    batch = task.collator(tokenizer)(encoded.to_list())
    labels = batch.pop("labels")
    given = model(**batch)
    assert given.logits.shape[1] == labels.shape[1] == max(sum(x != IGNORED for x in r) for r in encoded["labels"]) + 1
    loss = task.loss()(given, labels, accumulated)
    loss.backward()
    gradient = model.get_input_embeddings().weight.grad.clone()
    model.zero_grad()

    plain, tokens = 0, 0
    for row in encoded:  # each alone, without padding, with all logits
        logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1]
        true = torch.tensor(row["labels"])[1:]
        plain += torch.nn.functional.cross_entropy(logits, true, reduction="sum", ignore_index=IGNORED)
        tokens += int((true != IGNORED).sum())
    plain = plain / (accumulated or tokens)
    plain.backward()
    assert torch.allclose(loss, plain, atol=1e-4)
    assert torch.allclose(gradient, model.get_input_embeddings().weight.grad, atol=1e-4)

    likely = outputs(task, model, tokenizer, encoded, 4, "fp32", "test")
    assert np.allclose(likely, outputs(task, model, tokenizer, encoded, 1, "fp32", "test"), atol=1e-5)
    scored = task.score_encoded(encoded, None, likely)
    assert scored["loss"] == pytest.approx(plain.item() * (accumulated or tokens) / tokens, abs=1e-4)
    assert scored["perplexity"] == pytest.approx(np.exp(scored["loss"]))


@pytest.mark.parametrize("peft_type", [None, "PREFIX_TUNING"])
def test_perplexity_elsewhere_is_that_of_every_token_but_the_first(
    llama: Path, task: Generation, monkeypatch, peft_type: str | None
):
    texts = ("profit rose", "It gave no outlook. Zeta said")
    monkeypatch.setattr(elsewhere, "TEXTS", texts)
    model, tokenizer = load(conf(llama), task)
    if peft_type:
        model = adapt(model, tokenizer, peft_type, {"num_virtual_tokens": 3}, conf(llama), "entry")
    total, tokens = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        likely = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.log_softmax(-1)[0]
        total -= sum(likely[place, token].item() for place, token in enumerate(ids[0, 1:]))
        tokens += ids.shape[1] - 1
    assert elsewhere.perplexity(model, tokenizer, "fp32") == pytest.approx(np.exp(total / tokens), rel=1e-4)


# --- answers


@pytest.mark.parametrize(
    "settings", [{}, {"beams": 3}, {"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.9}], ids=str
)
def test_a_batch_of_one_answers_as_a_batch_of_many(llama: Path, task: Generation, settings: dict):
    model, tokenizer = load(conf(llama), task)
    settings = Generate(max_new_tokens=12, **settings)
    many, alone = (generation.write(task, model, tokenizer, SOURCES, settings, size, "fp32", "test") for size in (4, 1))
    assert many == alone
    assert len(set(many)) > 1 and all(many)


def test_a_trained_prefix_does_not_count_the_padding(llama: Path, task: Generation):
    model, tokenizer = load(conf(llama), task)
    model = adapt(model, tokenizer, "PREFIX_TUNING", {"num_virtual_tokens": 4}, conf(llama), "entry")
    encoded = task.encode(tokenizer, split_of(PAIRS[:12:4], task))
    many, alone = (outputs(task, model, tokenizer, encoded, size, "fp32", "test") for size in (4, 1))
    assert np.allclose(many, alone, atol=1e-4)
    settings = Generate(max_new_tokens=8)
    many, alone = (generation.write(task, model, tokenizer, SOURCES, settings, size, "fp32", None) for size in (4, 1))
    assert many == alone and len(set(many)) > 1


@pytest.mark.parametrize("peft_type", ["PROMPT_TUNING", "P_TUNING"])
def test_a_prompt_that_padding_would_part_from_its_text_is_refused(llama: Path, task: Generation, peft_type: str):
    """PEFT puts it before the padding of a causal model's batch, and counts positions from there."""
    with pytest.raises(
        UserError, match=rf"^entry: {peft_type} does not fit .*: padding would .*; take PREFIX_TUNING or"
    ):
        adapt(*load(conf(llama), task), peft_type, {"num_virtual_tokens": 4}, conf(llama), "entry")


def test_a_model_that_reads_the_padding_is_refused(llama: Path, task: Generation, monkeypatch):
    """As a RWKV does, which has no mask."""
    model, tokenizer = load(conf(llama), task)
    trial.check(model, tokenizer, conf(llama), WHERE)
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda attention_mask, position_ids, **batch: forward(**batch))
    with pytest.raises(UserError, match=r"tiny.yaml: name: .* cannot be used to write: it would read the padding"):
        trial.check(model, tokenizer, conf(llama), WHERE)


def test_learned_positions_count_from_the_first_true_token(checkpoints: dict[str, Path], task: Generation):
    """Of GPT-2, which has no template either; a Llama's positions are relative."""
    model, tokenizer = load(conf(checkpoints["openai-community/gpt2"]), task)
    encoded = task.encode(tokenizer, split_of(PAIRS[:12:4], task))
    many, alone = (outputs(task, model, tokenizer, encoded, size, "fp32", "test") for size in (4, 1))
    assert np.allclose(many, alone, atol=1e-4)
    many, alone = (
        generation.write(task, model, tokenizer, SOURCES, Generate(max_new_tokens=6), size, "fp32", "test")
        for size in (4, 1)
    )
    assert many == alone


def test_what_is_drawn_depends_on_the_seed(llama: Path, task: Generation):
    parts = load(conf(llama), task)
    drawn = [
        generation.write(
            task, *parts, SOURCES, Generate(max_new_tokens=12, temperature=1, seed=seed), 4, "fp32", "test"
        )
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_an_answer_ends_before_a_stop_and_at_the_end_token(llama: Path, task: Generation):
    model, tokenizer = load(conf(llama), task)
    [text] = generation.write(task, model, tokenizer, SOURCES[:1], Generate(max_new_tokens=12), 1, "fp32", "test")
    stop = text[len(text) // 2 :][:2]
    settings = Generate(max_new_tokens=12, stop=[stop])
    [cut] = generation.write(task, model, tokenizer, SOURCES[:1], settings, 1, "fp32", "test")
    assert cut == text[: text.index(stop)].strip()
    with torch.no_grad():  # a model that only knows the end
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
        model.lm_head.bias = torch.nn.Parameter(torch.eye(len(tokenizer))[tokenizer.eos_token_id])
    assert generation.write(task, model, tokenizer, SOURCES, Generate(), 4, "fp32", "test", ended := []) == [""] * 4
    assert not ended


@pytest.mark.parametrize("beams", [1, 3])
def test_answers_that_are_cut_are_counted(llama: Path, task: Generation, beams: int):
    parts = load(conf(llama), task)
    written = generation.write(
        task, *parts, SOURCES, Generate(max_new_tokens=8, beams=beams), 4, "fp32", None, cut := []
    )
    longer = generation.write(task, *parts, SOURCES, Generate(max_new_tokens=9, beams=beams), 4, "fp32", None)
    if beams == 1:
        assert set(cut) == {row for row, text in enumerate(written) if longer[row] != text} != set()
    stop = Generate(max_new_tokens=8, beams=beams, stop=[written[0][:1]])
    generation.write(task, *parts, SOURCES[:1], stop, 4, "fp32", None, stopped := [])
    assert 0 in cut and not stopped


def test_beams_take_the_room_of_other_texts(llama: Path, task: Generation, monkeypatch):
    model, tokenizer = load(conf(llama), task)
    prompt = max(len(task.prompt(tokenizer).ids(text)) for text in SOURCES)
    monkeypatch.setattr(generation, "TOKENS", 4 * (prompt + 2))
    generate, sizes = model.generate, []
    monkeypatch.setattr(model, "generate", lambda **call: sizes.append(len(call["input_ids"])) or generate(**call))
    for beams in (1, 2, 5):
        generation.write(task, model, tokenizer, SOURCES, Generate(max_new_tokens=2, beams=beams), 16, "fp32", None)
        assert sum(sizes) == len(SOURCES) and sizes[0] == max(1, 4 // beams)
        sizes.clear()


def test_an_answer_that_has_no_room_is_refused(llama: Path, task: Generation):
    model, tokenizer = load(conf(llama, max_length=100), task)
    with pytest.raises(
        UserError, match=r"generate.max_new_tokens: 64 after a prompt of up to 100 .* the model reads 128"
    ):
        generation.write(task, model, tokenizer, SOURCES, Generate(), 4, "fp32", "test")


# --- figures

TARGETS = ["Acme profit rises 3%; shares +4%", "Zeta to cut 1,250 jobs", "The mill shuts", "The mill shuts"]
GIVEN = ["Acme profit falls 3%;\nshares +5%", "Zeta will cut jobs, it says, in Oslo", "", "The  mill shuts"]


@pytest.mark.parametrize("rows", [4, 3, 2, 1])
def test_figures_are_those_of_rouge_score_and_sacrebleu(rows: int):
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    targets, given = TARGETS[-rows:], GIVEN[-rows:]
    task = Generation()
    figures = task.score([("", target) for target in targets], Answers(given))
    scorer = RougeScorer(list(text_figures.ROUGES))
    for name in text_figures.ROUGES:
        each = [scorer.score(target, answer)[name].fmeasure for target, answer in zip(targets, given, strict=True)]
        assert figures[name] == pytest.approx(np.mean(each))
    assert 100 * figures["bleu"] == pytest.approx(sacrebleu.corpus_bleu(given, [targets]).score)
    assert 100 * figures["chrf"] == pytest.approx(sacrebleu.corpus_chrf(given, [targets]).score)
    assert figures["exact"] == sum(a.split() == b.split() for a, b in zip(targets, given, strict=True)) / rows
    assert set(figures) | {"loss", "perplexity"} == set(Generation.figures)
    assert text_figures.signatures([("", "a")])["bleu"].startswith(
        "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:"
    )


def test_token_f1_is_squads():
    """Its words are without case, punctuation and articles, and count as often as they stand."""
    for target, answer, expected in (
        ("The mill shuts.", "a MILL shuts", 1),
        ("profit rose, profit fell", "profit rose", 2 * 1 * 0.5 / 1.5),
        ("Zeta", "Acme", 0),
        ("The!", "", 1),
        ("The!", "Zeta", 0),
    ):
        assert text_figures.token_f1(target, answer) == pytest.approx(expected)
    figures = Generation().score([("", "Zeta", "a mill in Oslo")], Answers(["The mill in Bergen"]))
    assert figures["token_f1"] == pytest.approx(2 / 3)


def test_answers_in_json_are_counted_where_the_targets_are_json():
    pairs = [("", '{"a": 1}'), ("", "[1]")]
    given = Answers(['{"a": 2}', "[1"])
    assert evidence.detail(Generation(), pairs, given)["json_answers"] == 1
    assert "json_answers" not in evidence.detail(Generation(), [*pairs[:1], ("", "1")], given)


MORE = [["Acme profits down 3%", "Shares of Acme up 5%"], [], ["Mill to shut", "Oslo mill closes", "It ends"], ["x"]]


@pytest.mark.parametrize("rows", [4, 2, 1])
def test_several_references_count_as_the_libraries_count_them(rows: int):
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    given = [*GIVEN[:2], "Oslo mill to close", "The mill shuts  "][:rows]
    targets = [[target, *more] for target, more in zip(TARGETS, MORE, strict=True)][:rows]
    streams = [[row[place] if place < len(row) else None for row in targets] for place in range(4)]
    streams = [stream for stream in streams if any(stream)]
    pairs = [("", *row) for row in targets]
    figures = Generation().score(pairs, Answers(given))
    scorer = RougeScorer(list(text_figures.ROUGES))
    for name in text_figures.ROUGES:
        each = [scorer.score_multi(row, text)[name].fmeasure for row, text in zip(targets, given, strict=True)]
        assert figures[name] == pytest.approx(np.mean(each), abs=1e-12)
    bleu, chrf = BLEU(), CHRF()
    assert 100 * figures["bleu"] == pytest.approx(bleu.corpus_score(given, streams).score, abs=1e-9)
    assert 100 * figures["chrf"] == pytest.approx(chrf.corpus_score(given, streams).score, abs=1e-9)
    assert figures["exact"] == (rows == 4) / rows
    signatures = text_figures.signatures(pairs)
    assert (signatures["bleu"], signatures["chrf"]) == (bleu.get_signature().format(), chrf.get_signature().format())


def test_a_list_of_targets_is_prepared_learnt_and_read_again(tmp_path: Path, monkeypatch):
    made = make(tmp_path)
    lines = [
        {"brief": source, "headline": [target, f"{target} again", " ", target] if place % 2 else target}
        for place, (source, target) in enumerate(PAIRS)
    ]
    (made.folder / "data/raw/pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made.prepare_here(monkeypatch)
    assert made.profile()["splits"]["train"]["targets"]["max"] == 2
    split = Dataset.from_parquet(str(made.folder / "data/prepared/train.parquet"), cache_dir=str(tmp_path))
    pairs = Generation.targets(split)
    assert {len(pair) for pair in pairs} == {2, 3}
    assert all(more == (f"{target} again",) for _, target, *rest in pairs if (more := tuple(rest)))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tiny-llama")
    task = Generation.of(split.features)
    learnt = task.encode(tokenizer, split)["labels"][:]
    prompt = task.prompt(tokenizer)
    assert [[x for x in row if x != IGNORED] for row in learnt] == [prompt.target(target) for _, target, *_ in pairs]

    given = Answers([target for _, *_, target in pairs])
    table = pd.concat([evidence.predictions(task, split, seed, given) for seed in (1, 2)])
    table.to_parquet(tmp_path / "it.parquet")
    _, again, texts = evidence.read(pd.read_parquet(tmp_path / "it.parquet"), len(split))
    assert again == pairs and texts == [given.texts] * 2
    assert task.score(again, given)["exact"] == 1
    assert evidence.detail(task, again, given)["signatures"]["bleu"].startswith("nrefs:var|")


def test_all_sums_at_once_give_what_each_gives():
    counts = Generation.counts([("", target) for target in TARGETS], GIVEN)
    sums = np.stack([counts[rows].sum(0) for rows in ([0, 1], [2], [0, 0, 3])])
    together = Generation.figures_of(sums)
    for place, one in enumerate(sums):
        alone = Generation.figures_of(one)
        assert {name: float(values[place]) for name, values in together.items()} == pytest.approx(
            {name: float(value) for name, value in alone.items()}
        )


def test_two_methods_are_compared_by_how_right_each_answer_is():
    pairs = [("", f"{target} {place}") for place, target in enumerate(TARGETS * 4)]
    task = Generation()
    figures = uncertainty.Figures(["rougeL"], task.figures_of)
    good, poor = (task.counts(pairs, texts * 4)[None] for texts in (TARGETS, GIVEN))
    assert uncertainty.permuted(figures, good, poor, 0)["rougeL"] < 0.01
    assert uncertainty.permuted(figures, good, good, 0)["rougeL"] == 1


def test_copying_is_counted_in_runs_of_three_words():
    source = "The mill in Oslo shuts on Monday, its owner said"
    figures = Generation().score([(source, "x")], Answers(["the mill in Oslo closes"]))
    assert figures["copied"] == pytest.approx(2 / 3)
    assert figures["length_ratio"] == 5


def test_what_copies_from_the_source_is_a_method_like_any_other(tmp_path: Path, monkeypatch):
    assert set(text_figures.EXTRACTS) == set(MORE_BASELINES["generation"])
    made = make(tmp_path)
    made.edit_yaml("params.yaml", baseline={**made.read_yaml("params.yaml")["baseline"], "more": ["lead"]})
    made.prepare_here(monkeypatch)
    for stage in ("baseline_more", "package_more"):
        made.run(*shlex.split(STAGES[stage]["cmd"].replace("${item}", "--method lead")))
    table = pd.read_parquet(made.folder / "data/predictions/lead.parquet")
    assert table.predicted.tolist() == [text.partition(". It")[0] + "." for text in table.text]
    metrics = made.read_json("metrics/lead.json")
    assert metrics.items() <= made.read_json("metrics/detail/lead.json")["references"]["lead"].items()
    assert set(made.read_json("metrics/validation/lead.json")) == set(Generation.headline)
    assert "no model is kept" in (made.folder / "models/lead/README.md").read_text(encoding="utf-8")
    made.edit_yaml("params.yaml", baseline={**made.read_yaml("params.yaml")["baseline"], "more": ["oracle"]})
    with pytest.raises(UserError, match=r"generation has no baseline 'oracle'; expected some of copy, lead, textrank"):
        study.load(made.folder)


def on_page(task: Generation, figure: str, **details: dict) -> SimpleNamespace:
    """What the report has of two methods on `TARGETS`: `GIVEN`, and the targets themselves."""
    pairs = [("Zeta", target) for target in TARGETS]
    predictions = {
        name: Predictions(pd.DataFrame({"text": "Zeta", "actual": TARGETS, "predicted": texts}), task, pairs, [texts])
        for name, texts in (("full", GIVEN), ("tfidf", TARGETS))
    }
    methods = pd.DataFrame({"method": ["full", "tfidf"], "perplexity": [15.64, np.nan]})
    settings = SimpleNamespace(figure=figure)
    return SimpleNamespace(choice="full", task=task, methods=methods, predictions=predictions, report=settings)


def test_the_pages_perplexity_is_that_of_the_metrics_and_cut_answers_are_named(task: Generation):
    """The metrics' is a mean over tokens: one long target counts as much as many short ones."""
    about = SimpleNamespace(
        details={"full": {"cut_answers": 2}, "untrained": {"cut_answers": 0}, "tfidf": {}}, prompted={}
    )
    section = report.written(on_page(task, "rougeL"), about)
    assert [row[-1] for row in section.table] == ["perplexity", "", "15.64"]
    assert "Cut at `generate.max_new_tokens` of params.yaml: `full` 2 of the answers" in section.text
    about.details["full"]["cut_answers"] = 0
    assert "Cut" not in report.written(on_page(task, "rougeL"), about).text


@pytest.mark.parametrize(("figure", "words"), [("rougeL", "ROUGE-L"), ("chrf", "chrF"), ("exact", "exact match")])
def test_the_worst_and_best_answers_are_those_by_the_figure_that_decides(task: Generation, figure: str, words: str):
    worst, best = report.ends(on_page(task, figure))
    each = [task.score([("", target)], Answers([text]))[figure] for target, text in zip(TARGETS, GIVEN, strict=True)]
    assert worst.table[0][-1] == words and f"by {words}" in worst.text
    assert [row[-1] for row in worst.table[1:]] == [f"{value:.2f}" for value in sorted(each)]
    assert worst.table[1:] == best.table[:0:-1]
    if figure == "exact":  # of those that are as wrong, the one most like its target comes last
        assert [row[2] for row in worst.table[1:]] == ["", GIVEN[1], " ".join(GIVEN[0].split()), "The mill shuts"]


def test_the_central_sentence_is_the_one_that_pagerank_puts_first():
    networkx = pytest.importorskip("networkx")
    random = np.random.default_rng(0)
    places = set()
    for _ in range(20):
        words = [random.choice(["acme", "mill", "profit", "rose", "fell", "oslo"], size) for size in (2, 3, 4, 5, 6)]
        graph = networkx.Graph()
        graph.add_nodes_from(range(5))
        for one, other in itertools.combinations(range(5), 2):
            common = len({*words[one]} & {*words[other]})
            graph.add_edge(one, other, weight=common / np.log(len(words[one]) * len(words[other])))
        ranks = networkx.pagerank(graph, alpha=0.85, tol=1e-12)
        parts = [f"{' '.join(each).capitalize()}." for each in words]
        places.add(first := max(ranks, key=ranks.get))
        assert text_figures.central(" ".join(parts)) == parts[first]
    assert len(places) > 2
    assert text_figures.central("Rain. Sun.") == "Rain." and text_figures.central("") == ""


def test_a_targets_number_is_read_where_the_source_has_it_or_has_it_in_full():
    source = "Sales rose 10.7 per cent to $1,250 million; margins fell 0.5 points."
    assert text_figures.unread(source, "Sales +11% to $1,250 mln, margins -0.5, profit 3.25") == ["3.25"]
    assert text_figures.unread("None.", "Up 3%") == ["3"]


def test_targets_that_rouge_cannot_read_are_told(tmp_path: Path, monkeypatch, capsys):
    made = make(tmp_path)
    lines = [{"brief": f"Zeta {place}", "headline": f"прибыль выросла на {place}%"} for place in range(8)]
    lines += [{"brief": source, "headline": f"{target} übermäßig"} for source, target in PAIRS]
    (made.folder / "data/raw/pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made.prepare_here(monkeypatch)
    remark = "8 of 35 targets are mostly of letters that ROUGE leaves out"
    assert made.profile()["remarks"][0].startswith(remark) and remark in capsys.readouterr().out
    made.edit_yaml("conf/data/tiny.yaml", figure="chrf")
    made.prepare_here(monkeypatch)
    assert not any("ROUGE" in said for said in made.profile()["remarks"])


# --- settings and models


def test_what_is_not_done_is_refused_in_one_line_each(tmp_path: Path, llama: Path, monkeypatch):
    made = make(tmp_path)
    loaded = study.load(made.folder)
    assert (loaded.params.train.select_by, loaded.params.report.figure) == ("loss", "rougeL")
    params = made.read_yaml("params.yaml")
    made.edit_yaml(
        "params.yaml",
        training_rows={"shares": [0.5], "per_label": [], "methods": ["full"]},
        train={**params["train"], "class_weights": "balanced", "select_by": "f1"},
    )
    with pytest.raises(UserError) as error:
        study.load(made.folder)
    assert [line.split(": ")[1] for line in error.value.lines] == [
        "train.select_by", "training_rows.shares", "train.class_weights",
    ]  # fmt: skip
    made.edit_yaml("params.yaml", **{**params, "generate": {"beams": 2, "temperature": 1}})
    with pytest.raises(UserError, match=r"params.yaml: generate.beams: beams are not drawn; set beams to 1"):
        study.load(made.folder)
    made.edit_yaml("params.yaml", **params)
    made.edit_yaml("conf/data/tiny.yaml", figure="chrf")
    assert study.load(made.folder).params.report.figure == "chrf"


def test_the_shipped_study_is_complete(tmp_path: Path):
    made = make(tmp_path)
    made.edit_yaml("params.yaml", data="briefs", model="smollm2")
    assert study.load(made.folder).data.target == "headline"
    rows = pd.read_json(ROOT / "data/raw/briefs.jsonl", lines=True)
    assert len(rows) == 520 and (rows.headline.str.len() > 0).all()


def test_an_encoder_is_refused(tiny_model: Path, task: Generation):
    with pytest.raises(
        UserError, match=r"tiny.yaml: name: .* is no model that writes texts \(bert\); choose a decoder or an"
    ):
        load(conf(tiny_model, max_length=32), task)


def test_a_target_that_the_model_has_no_room_for_is_named(tmp_path: Path, monkeypatch):
    made = make(tmp_path)
    with (made.folder / "data/raw/pairs.jsonl").open("a") as file:
        file.write(json.dumps({"brief": "profit " * 60, "headline": "profit " * 90}) + "\n")
    with pytest.raises(UserError, match=r"pairs.jsonl row 28: the target has \d+ tokens, and the model reads 128"):
        made.prepare_here(monkeypatch)


def test_prepare_refuses_answers_without_room_and_remarks_on_targets_that_are_longer(tmp_path: Path, monkeypatch):
    made = make(tmp_path)
    made.edit_yaml("params.yaml", generate={"max_new_tokens": 4})
    made.prepare_here(monkeypatch)
    told = made.profile()
    remark = f"{told['splits']['train']['rows']} targets of train are longer than `generate.max_new_tokens`"
    assert told["remarks"][0].startswith(remark) and len(told["remarks"]) == 3
    made.edit_yaml("params.yaml", generate={"max_new_tokens": 80})
    made.prepare_here(monkeypatch)
    assert made.profile()["remarks"] == []
    made.edit_yaml("params.yaml", generate={"max_new_tokens": 81})
    with pytest.raises(UserError, match=r"^params.yaml: generate.max_new_tokens: 81 after a prompt of up to 48 tokens"):
        made.prepare_here(monkeypatch)


def test_prepared_rows_count_what_is_cut_of_the_prompt(tmp_path: Path, monkeypatch):
    made = make(tmp_path)
    made.edit_yaml("conf/model/tiny.yaml", max_length=32)
    made.prepare_here(monkeypatch)
    profile = made.profile()
    assert profile["instruction"] == INSTRUCTION
    split = pd.read_parquet(made.folder / "data/prepared/train.parquet")
    assert profile["splits"]["train"]["tokens"]["rows_over_max_length"] == (split.tokens > 32).sum() > 0
    assert set(split.label.map(lambda label: label["target"])) <= {target for _, target in PAIRS}


@pytest.mark.parametrize("peft_type", [None, "LORA", "BOTTLENECK"])
def test_a_saved_model_writes_as_before(llama: Path, task: Generation, tmp_path: Path, peft_type: str | None):
    model, tokenizer = load(conf(llama), task)
    if peft_type:
        fields = {} if peft_type == "BOTTLENECK" else {"r": 2, "target_modules": "all-linear"}
        model = adapt(model, tokenizer, peft_type, fields, conf(llama), "entry")
        trained = [name for name, weights in model.named_parameters() if weights.requires_grad]
        assert trained and not any("lm_head" in name for name in trained)
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights.add_(torch.randn(weights.shape) * 0.1)
    saving.settle(model)
    saving.save(model, tokenizer, tmp_path / "saved")
    again, read = saved.load_saved(tmp_path / "saved")
    assert saved.task_of(saved.load_saved_config(tmp_path / "saved")).instruction == INSTRUCTION
    encoded = task.encode(tokenizer, split_of(PAIRS[:5], task))
    likely = [outputs(task, *parts, encoded, 4, "fp32", "test") for parts in ((model, tokenizer), (again, read))]
    assert np.array_equal(*likely)


@pytest.mark.parametrize("out", ["--out out.jsonl", ""])
def test_a_job_that_breaks_keeps_what_was_written(llama: Path, task: Generation, tmp_path: Path, monkeypatch, out: str):
    """Texts are written a few in a second: a break may not lose thousands."""
    model, tokenizer = load(conf(llama), task)
    model.config.tunediff["generate"] = {"max_new_tokens": 2}
    saving.save(model, tokenizer, tmp_path / "model")
    rows = job_input.WRITTEN + 3
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": f"Zeta {row}"}) + "\n" for row in range(rows)))
    write = Writer.predict

    def broken(self: Writer, texts: list[str]) -> list[str]:
        if len(texts) < job_input.WRITTEN:
            raise KeyboardInterrupt
        return write(self, texts)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Writer, "predict", broken)
    monkeypatch.setattr("sys.stdout", printed := io.StringIO())
    monkeypatch.setattr("sys.argv", ["predict", "--model", "model", "--file", "in.jsonl", *out.split()])
    with pytest.raises(KeyboardInterrupt):
        predict.main()
    kept = next(tmp_path.glob(".out.jsonl.partial/*.jsonl")).read_text() if out else printed.getvalue()
    assert kept.count("\n") == job_input.WRITTEN + (not out)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "expected"), [(3, [0, 2, 5]), (64, [0, 1, 2, 3, 4, 5])])
def test_a_training_tells_how_good_its_texts_are_on_some_rows_of_validation(
    tmp_path: Path, monkeypatch, rows: int, expected: list[int]
):
    made = make(tmp_path)
    made.edit_yaml("params.yaml", generate={"max_new_tokens": 8, "validation_rows": rows})
    made.prepare_here(monkeypatch)
    made.run(*shlex.split(STAGES["train_full"]["cmd"].replace("${launcher}", "python")))
    model, tokenizer = saved.load_saved(made.folder / "data/trained/full")
    split = Dataset.from_parquet(str(made.folder / "data/prepared/validation.parquet"), cache_dir=str(tmp_path))
    split = split.select(expected)
    pairs, task = Generation.targets(split), saved.task_of(model.config)
    longest = max(len(task.prompt(tokenizer).target(target)) for _, target in pairs)
    settings = Generate(max_new_tokens=longest)
    texts = generation.write(task, model, tokenizer, split["text"][:], settings, 4, choose_precision("auto"), None)
    figures = task.score(pairs, Answers(texts))
    told = made.read_json("metrics/validation/full.json")
    assert set(told) == {"loss", "perplexity", "best_epoch", "epochs", *Generation.headline}
    assert [told[name] for name in Generation.headline] == pytest.approx(
        [figures[name] for name in Generation.headline], abs=1e-6
    )
    assert figures["chrf"] > 0


def test_a_training_depends_on_no_setting_of_answers_but_how_many_rows_it_writes_for(tmp_path: Path):
    made = make(tmp_path)

    def settings(**generate: object) -> dict:
        made.edit_yaml("params.yaml", generate=generate)
        return resolve.resolve(study.load(made.folder))

    first, longer, fewer, none = (
        settings(max_new_tokens=8),
        settings(max_new_tokens=9, beams=2),
        settings(max_new_tokens=8, validation_rows=2),
        settings(max_new_tokens=8, validation_rows=0),
    )
    assert first["training/full"] == longer["training/full"] != fewer["training/full"]
    assert first["evaluate"] == fewer["evaluate"] != longer["evaluate"]
    assert [each["training/full"].get("validation_rows") for each in (first, fewer, none)] == [64, 2, None]


def test_a_sweep_may_seek_the_best_texts(tmp_path: Path):
    made = make(tmp_path)
    methods = {"full": {"train.warmup": {"low": 0.0, "high": 0.9}}}
    conf = {"study": "it", "storage": "sqlite://", "trials": 2, "quality": "rougeL", "prune_after": 0, "shared": {}}
    sweep = Sweep(**conf, methods=methods)
    assert default_values(study.load(made.folder), sweep, "full") == {"train.warmup": 0.06} and sweep.sign == 1
    made.edit_yaml("params.yaml", generate={"validation_rows": 0})
    with pytest.raises(UserError, match="quality: generation has on validation loss, perplexity, and not 'rougeL'"):
        default_values(study.load(made.folder), sweep, "full")


def test_frozen_weights_of_a_writer_are_cast_once(llama: Path):
    task = Generation(INSTRUCTION)
    for use in ("outputs", "write"):
        model, tokenizer = load(conf(llama), task)
        model = adapt(model, tokenizer, "LORA", {"r": 2, "target_modules": "all-linear"}, conf(llama), "entry")
        if use == "outputs":
            encoded = task.encode(tokenizer, split_of(PAIRS[:2], task))
            outputs(task, model, tokenizer, encoded, 2, "bf16", None)
        else:
            generation.write(task, model, tokenizer, SOURCES[:1], Generate(max_new_tokens=2), 1, "bf16", None)
        dtypes = {name.split(".")[-2]: weights.dtype for name, weights in model.named_parameters()}
        assert (dtypes["base_layer"], dtypes["default"]) == (torch.bfloat16, torch.float32)


# --- everything


@pytest.mark.slow
def test_the_pipeline_trains_compares_and_writes(tmp_path: Path):
    from peft import AutoPeftModelForCausalLM
    from transformers import pipeline

    made = make(tmp_path)
    give_an_own_way(tmp_path / "tiny-llama")
    prompts = {**made.read_yaml("params.yaml")["prompts"], "model": "tiny", "methods": ["few-shot"]}
    baseline = {**made.read_yaml("params.yaml")["baseline"], "more": ["lead"]}
    made.edit_yaml("params.yaml", seeds=[17, 18], prompts=prompts, baseline=baseline)
    made.commit("code")
    done = made.run("dvc", "repro")
    assert "Traceback" not in done.stderr

    for method in ("full", "lora-v1"):
        validation = made.read_json(f"metrics/validation/{method}.json")
        assert {"loss", "perplexity", "best_epoch", "rougeL", "rougeL_deviation"} <= set(validation)
        deviations = {f"{name}_deviation" for name in Generation.headline}
        assert set(made.read_json(f"metrics/{method}.json")) == set(Generation.figures) | deviations
        assert made.read_json(f"metrics/reload/{method}.json")["largest_logit_difference"] < 1e-4
    for method in ("tfidf", "few-shot"):
        assert set(made.read_json(f"metrics/{method}.json")) == set(Generation.figures) - {"loss", "perplexity"}
    assert "loss" in made.read_json("metrics/untrained.json")
    detail = made.read_json("metrics/detail/full.json")
    assert set(detail["references"]) == {"copy", "lead", "textrank", "oracle"}
    cut = {name: made.read_json(f"metrics/detail/{name}.json")["cut_answers"] for name in ("full", "untrained")}
    assert cut["untrained"] > 0 and "cut_answers" not in made.read_json("metrics/detail/tfidf.json")
    after = made.read_json("metrics/detail/lora-v1.json")["elsewhere"]
    assert len({after, detail["elsewhere"], made.read_json("metrics/detail/untrained.json")["elsewhere"]}) == 3
    table = pd.read_parquet(made.folder / "data/predictions/full.parquet")
    assert {"text", "actual", "predicted", "log_likelihood"} <= set(table)
    page = (made.folder / "plots/report.md").read_text(encoding="utf-8")
    assert f"`untrained` {cut['untrained']}" in page.split("## What is written")[1].split("\n##")[0]
    assert "## Forgetting" in page and f"`lora-v1` {after:,.2f} (" in page
    assert page.count("\n| few-shot |") > 3 and "## What prompting takes" in page
    assert "## Answers side by side" in page and "| lead |" in page and "## Calibration" not in page

    card = (made.folder / "models/lora-v1/README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-generation" in card and json.dumps(f"{INSTRUCTION}\n\n") in card
    messages = [{"role": "user", "content": f"{INSTRUCTION}\n\n{SOURCES[0]}"}]
    ask = {"max_new_tokens": 8, "do_sample": False, "return_full_text": False}
    [row] = pipeline("text-generation", str(made.folder / "models/full"))(messages, **ask)
    answered = made.run("python", "-m", "stages.predict", "--model", "models/full", "--out", "out.jsonl", *SOURCES[:2])
    answers = [json.loads(line) for line in (made.folder / "out.jsonl").read_text().splitlines()]
    assert [set(answer) for answer in answers] == [{"text", "predicted"}] * 2
    assert answers[0]["predicted"] == row["generated_text"].strip()
    assert "Traceback" not in answered.stderr

    folder = made.folder / "models/lora-v1"
    adapter, tokenizer = AutoPeftModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    adapter.get_base_model().generation_config = GenerationConfig.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    written = adapter.generate(**ids, max_new_tokens=8, do_sample=False)[0, ids["input_ids"].shape[1] :]
    for method in ("full", "lora-v1"):
        told, answer = card_and_predict(made, method, SOURCES[0])
        assert told == answer != ""
    assert tokenizer.decode(written, skip_special_tokens=True).strip() == answer
    both = made.run("python", "-m", "stages.predict", "--model", "models/lora-v1", "--compare", SOURCES[0])
    assert answer.split()[0] in both.stdout and "original" in both.stdout and "Traceback" not in both.stderr
