"""Methods of `prompts` whose answers are written: texts and spans, by a model on this machine and by a server."""

import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ENVIRONMENT, Project
from test_endpoint import completion, serve  # noqa: F401, a fixture
from test_generation import INSTRUCTION, PAIRS, SOURCES, split_of, tiny_llama
from test_generation import make as make_texts
from test_prompting import prompting
from test_tagging import project_of as make_spans
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

from tunediff.core.errors import UserError
from tunediff.evidence import tagging as evidence
from tunediff.models import generation, language_model
from tunediff.models.loading import load_tokenizer
from tunediff.models.settings import Pretrained
from tunediff.prompting import quotes
from tunediff.prompting.decoder import Writer
from tunediff.prompting.endpoint import Server
from tunediff.prompting.forms import FORMS
from tunediff.prompting.method import Asking, ask
from tunediff.prompting.prompts import Example, Wording, paragraphs
from tunediff.prompting.settings import Endpoint, Prompting
from tunediff.settings import resolve, study
from tunediff.tasks.generation import Generation
from tunediff.tasks.settings import Generate
from tunediff.tasks.tagging import Tagging
from tunediff.tasks.turns import text_of

TYPES = ["org", "date", "sub org"]
TEXT = "Acme Corp. said Acme rose; acme-like Zeta  Ltd fell on May 3."

# --- quotes


@pytest.mark.parametrize(
    ("answer", "spans", "invalid"),
    [
        ("org: Acme", ["Acme"], {}),
        ("org: Acme\norg: Acme", ["Acme", "Acme"], {}),  # the first, then the next
        ("org: Acme\n" * 4, ["Acme", "Acme"], {"repeated": 2}),
        ("org: ACME", ["Acme"], {}),  # in any case, if it stands nowhere as it is
        ("org: Acme Corp.\norg: Acme", ["Acme Corp.", "Acme"], {}),  # that one lies in the first
        ("org: Acme\norg: Acme Corp.", ["Acme"], {"repeated": 1}),
        ("org: Acm\norg: cme", [], {"not_in_text": 2}),  # parts of words
        ("org: Beta", [], {"not_in_text": 1}),
        ("place: Acme", [], {"unknown_type": 1}),
        ("Acme is an organisation", [], {"unreadable": 1}),
        ('- **Org**: "Zeta Ltd"\n2. DATE : May 3', ["Zeta  Ltd", "May 3"], {}),
        ("date: May 3.", ["May 3."], {}),
        ("date: (May 3)", ["May 3"], {}),
        ("sub org: Zeta", ["Zeta"], {}),
        ("org: none\ndate: May 3", ["May 3"], {}),
        ("org:", [], {}),
        ("None.", [], {}),
        ("org: Acme\nnone", ["Acme"], {}),
        ("org: -", [], {}),
        ("org: A.me", [], {"not_in_text": 1}),
    ],
)
def test_quotes_are_found_again(answer: str, spans: list[str], invalid: dict[str, int]):
    quoted = quotes.read(answer, TEXT, TYPES)
    assert [TEXT[start:end] for start, end, _ in quoted.spans] == spans
    assert quoted.invalid == invalid
    assert quoted.valid == (bool(spans) or not invalid)
    places = [place for start, end, _ in quoted.spans for place in (start, end)]
    assert places == sorted(places)  # in order, and none lies on another


def test_an_empty_answer_is_no_valid_one():
    assert not quotes.read("", TEXT, TYPES).valid
    assert not quotes.read("org: Beta\nnone", TEXT, TYPES).valid


@pytest.mark.parametrize("seed", range(20))
def test_what_is_listed_is_read_as_it_was(seed: int):
    """Also where the same words stand in several places, if those of the first place are a span."""
    drawn = random.Random(seed)
    words = [f"w{number}{drawn.choice(['', '.', '-x', f' (y{number})'])}" for number in range(12)]
    text = drawn.choice([" ", "\n", "  "]).join(words)
    places = [match.span() for match in re.finditer(r"\S+", text)]
    firsts = sorted(drawn.sample(range(len(places)), 4))
    spans = [(*places[number], drawn.choice(TYPES)) for number in firsts]
    answer = quotes.listed(text, drawn.sample(spans, len(spans)))
    assert quotes.read(answer, text, TYPES).spans == spans
    cut = text[: places[firsts[1]][1]]
    assert quotes.read(quotes.left(answer, cut), cut, TYPES).spans == spans[:2]
    assert quotes.left(answer, "") == quotes.listed(text, []) == "none"


def test_answers_without_probabilities_have_no_loss_and_no_score():
    task = Tagging(["org", "date"])
    texts = ["Acme fell on Monday", "it rose"]
    target = [task.tagged(texts[0], [(0, 4, "org"), (13, 19, "date")]), task.tagged(texts[1], [])]
    understood = FORMS["tagging"].understood(task, texts, ["org: Acme\ndate: fell\nplace: Monday", "It rose."])
    assert understood.unanswered.tolist() == [False, True]
    assert understood.invalid == {"unreadable": 1, "unknown_type": 1, "not_in_text": 0, "repeated": 0}
    figures = task.score(target, understood.given)
    assert set(figures) == set(Tagging.figures) - {"loss"}
    assert figures["precision"] == figures["recall"] == 0.5
    spans = task.served(texts, understood.given)
    assert spans == [[{"start": 0, "end": 4, "label": "org", "text": "Acme"},
                      {"start": 5, "end": 9, "label": "date", "text": "fell"}], []]  # fmt: skip
    probabilities, right = evidence.confidence(pd.DataFrame({"actual": [[], []], "predicted": spans}), task, target)
    assert len(probabilities) == len(right) == 0


# --- a model on this machine


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"))


def written(decoder: Path, task: str = "generation", **changes: object) -> Prompting:
    longest = changes.pop("max_length", 48)
    generate = Generate(**{"max_new_tokens": 8, **changes.pop("generate", {})})
    return prompting(
        decoder, task=task, generate=generate, model=Pretrained(name=str(decoder), max_length=longest), **changes
    )


@pytest.fixture
def splits() -> dict:
    task = Generation(INSTRUCTION)
    return {"train": split_of(PAIRS[:15], task), "validation": split_of(PAIRS[15:20], task),
            "test": split_of([(source, "x") for source in SOURCES], task)}  # fmt: skip


@pytest.mark.parametrize("template", [True, False])
def test_zero_shot_writes_what_the_model_writes_without_training(llama: Path, splits: dict, tmp_path, template: bool):
    """With a chat template and without one; in batches."""
    settings = written(llama)
    if not template:
        settings = written(without_template(llama, tmp_path / "plain"))
    task = Generation(INSTRUCTION)
    given = ask(splits, task, settings)
    tokenizer = load_tokenizer(settings.model, Path("x"))
    model = language_model.load_language_model(settings.model, Path("x"), "fp32")
    cut = []
    expected = generation.write(task, model, tokenizer, SOURCES, settings.generate, 2, "fp32", "test", cut=cut)
    assert given.test.texts == expected and any(expected)
    assert "loss" not in given.validation and given.validation["rougeL"] >= 0
    assert given.fitted == {} and "temperature" not in json.dumps(given.detail, default=float)
    assert given.detail["prompt"] == {
        "instruction": INSTRUCTION, "validation_rows": 5,
        "no_valid_answer": {"validation": 0, "test": np.mean([not text for text in expected])},
        "cut": {"validation": 5, "test": len(cut)},
    }  # fmt: skip
    assert given.detail["cut_answers"] == len(cut) > 0
    assert given.cost["output_tokens_per_1000"] > 0 and given.cost["total_parameters"] > 10_000


def without_template(llama: Path, folder: Path) -> Path:
    language_model.load_language_model(Pretrained(name=str(llama)), Path("x"), "fp32").save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    return folder


def test_examples_come_before_the_text_as_turns_or_paragraphs(llama: Path, splits: dict, tmp_path: Path):
    asking = Asking(splits, Generation(INSTRUCTION), written(llama, entry={"shots": 1}))
    assert len(asking.examples.examples) == 1  # of all rows together: there are no labels
    source, target = asking.examples.examples[0].text, asking.examples.examples[0].label
    assert (source, target) in PAIRS[:15]
    [messages] = asking.conversations(["Zeta."], "test")
    read = asking.model.tokenizer.decode(asking.model.tokens(messages))
    assert read == (
        f"<|im_start|>user\n{INSTRUCTION}\n\n{source}<|im_end|>\n<|im_start|>assistant\n{target}<|im_end|>\n"
        "<|im_start|>user\nZeta.<|im_end|>\n<|im_start|>assistant\n"
    )
    plain = Writer(written(without_template(llama, tmp_path / "plain"), entry={"shots": 1}), [])
    assert plain.generate.stop == ["\n\n###\n\n"] and asking.model.generate.stop == []
    assert paragraphs(messages) == (f"{INSTRUCTION}\n\n{source}\n\nAnswer:\n{target}\n\n###\n\nZeta.\n\nAnswer:\n")


@pytest.mark.parametrize("drawn", [{}, {"temperature": 1.0, "top_p": 0.9}])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_shared_beginning_is_computed_once_and_changes_nothing(
    llama: Path, checkpoints: dict[str, Path], splits: dict, family: str, drawn: dict
):
    """With positions that are turned, and with learnt ones; in batches that are padded behind it."""
    decoder = llama if family == "llama" else checkpoints["openai-community/gpt2"]
    settings = written(decoder, entry={"shots": 1}, batch_size=3, generate={"max_new_tokens": 12, **drawn})
    asking = Asking(splits, Generation(INSTRUCTION), settings)
    conversations = asking.conversations([*SOURCES, "profit", "Acme"], "test")
    model = asking.model
    prompts = model.prompts(conversations)
    shared = language_model.common_prefix(prompts)
    assert len(shared) > 15 and len(set(map(len, prompts))) > 3
    read = []
    model.model.get_input_embeddings().register_forward_hook(lambda module, given, out: read.append(given[0].shape))
    texts = model.texts(conversations, "test").texts
    assert read[0] == (1, len(shared)) and max(length for _, length in read[1:]) == max(map(len, prompts)) - len(shared)
    options = (Generation(), model.model, model.tokenizer, model.generate)
    assert texts == [generation.write_after([each], *options, 1, "fp32", "test")[0] for each in prompts]
    assert len(set(texts)) > 2


def test_a_chat_is_asked_turn_by_turn_and_cut_to_its_last_turns(llama: Path, splits: dict):
    chat = text_of([("system", "Be brief."), ("user", "one"), ("assistant", "two"), ("user", "three")])
    assert len(Wording("Do.", "{text}!").conversation(chat)) == 1  # a text that looks like a chat is one text
    asked = Wording("Do.", "{text}!", chat=True).conversation(chat, [Example("four", "five")])
    assert [turn["role"] for turn in asked] == ["user", "assistant"] * 2 + ["user"]
    assert [turn["content"] for turn in asked] == ["Do.\n\nfour!", "five", "Be brief.\n\none", "two", "three!"]
    asking = Asking(splits, Generation("Do.", chat=True), written(llama))
    length = len(asking.model.tokenizer(chat, add_special_tokens=False)["input_ids"])
    assert asking.shortened(chat, length) == chat
    marked = chat.replace("two", asking.model.tokenizer.eos_token)  # what changes in the prompt is no reason to cut
    assert asking.shortened(marked, 10 * length) == marked
    assert asking.shortened(chat, length - 1) == text_of([("system", "Be brief."), ("user", "three")])
    assert asking.shortened(chat, 1) == text_of([("system", "Be brief."), ("user", asking.model.cut("three", 1))])


def test_a_beginning_is_computed_once_where_every_layer_reads_all_of_it(llama: Path):
    assert generation.keeps_all(Writer(written(llama), []).model)
    options = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "vocab_size": 32}
    config = MistralConfig(num_attention_heads=2, num_key_value_heads=2, sliding_window=8, **options)
    assert not generation.keeps_all(MistralForCausalLM(config))


def test_an_answer_of_very_many_lines_is_read_in_time():
    started = time.monotonic()
    read = quotes.read("org: a\n" * 100_000, "a " * 1000, TYPES)
    assert len(read.spans) == quotes.LINES and time.monotonic() - started < 20


def test_a_text_cannot_end_its_turn(llama: Path):
    model = Writer(written(llama), [])
    marks = model.tokens(Wording("", "{text}").conversation("up <|im_end|>\n<|im_start|>assistant\nno"))
    assert Counter(marks)[model.tokenizer.eos_token_id] == 1


def test_examples_are_cut_so_that_a_prompt_fits(llama: Path, splits: dict):
    """The model reads 128 tokens: 32 are the text's, 8 the answer's. Targets are not cut."""
    long = splits["train"].map(lambda row: {"text": row["text"] * 5})
    asking = Asking(
        {**splits, "train": long}, Generation(INSTRUCTION), written(llama, max_length=32, entry={"shots": 2})
    )
    [messages] = asking.conversations(["profit " * 100], "test")
    assert 1 < asking.example_tokens < 32
    tokens = len(asking.model.tokens(messages))
    assert 100 < tokens <= 120
    assert {turn["content"] for turn in messages[1::2]} == {each.label for each in asking.examples.examples}
    asking.model.texts([messages], "test")
    with pytest.raises(
        UserError, match=r"entries\.ask\.shots: a prompt has \d+ tokens with its answer, .* at most 128"
    ):
        Asking(splits, Generation(INSTRUCTION), written(llama, entry={"shots": 9})).texts(SOURCES, "test")


# --- a server


def client(url: str, task: str, **generate: object) -> Server:
    made = Generate(max_new_tokens=9, **generate)
    endpoint = Endpoint(url=url, model="m", retries=2, timeout=5, options=resolve.options(made))
    settings = prompting(Path("x"), task=task, model=None, generate=made, entry={"shots": 0, "endpoint": endpoint})
    return Server(settings, [])


@pytest.mark.parametrize("task", ["generation", "tagging"])
def test_a_server_is_asked_once_for_each_text_and_without_a_schema(serve: Callable, task: str):  # noqa: F811
    server = serve(lambda text, times: completion(f"org: {text}"))
    conversations = [Wording("Do.", "{text}").conversation(text) for text in ("one", "two", "one")]
    drawn = {"temperature": 0.5, "seed": 3, "stop": ["."]}
    asked = client(server.url, task, **drawn).texts(conversations, "test")
    assert asked.texts == ["org: one", "org: two", "org: one"]
    assert (asked.input_tokens, asked.output_tokens) == (90, 6)
    assert client(server.url, task, **drawn).texts(conversations, "test").texts == asked.texts
    assert server.asked == Counter(["one", "two"])
    told = {"temperature": 0.5, "max_tokens": 9, "top_p": 1, "seed": 3, "stop": ["."]}
    for body in server.bodies:
        assert {name: body[name] for name in told} == told and "response_format" not in body
    assert resolve.options(Generate()) == {"temperature": 0, "max_tokens": 64}


def test_what_a_server_thinks_before_and_says_after_a_stop_is_left_out(serve: Callable, splits: dict):  # noqa: F811
    """And what its limit of tokens cut is counted."""

    def behave(text: str, times: int):
        cut = {"finish_reason": "length"} if text == "Zeta." else {}
        return completion("<think>a. b</think>\n" if text == "Zeta." else f"<think></think>{text}", **cut)

    server = serve(behave)
    settings = prompting(
        Path("x"), task="generation", model=None, generate=Generate(stop=[" by"]), validation_rows=3,
        entry={"shots": 0, "endpoint": Endpoint(url=server.url, model="m")},
    )  # fmt: skip
    given = ask(splits, Generation(INSTRUCTION), settings)
    assert given.test.texts == [SOURCES[0].partition(" by")[0], "", SOURCES[2].partition(" by")[0], SOURCES[3]]
    assert given.cost["no_valid_answer"] == given.detail["prompt"]["no_valid_answer"]["test"] == 0.25
    assert given.detail["cut_answers"] == given.detail["prompt"]["cut"]["test"] == 1
    assert "total_parameters" not in given.cost
    assert len(server.asked) == 3 + len(SOURCES)


def test_settings_say_how_answers_are_written(tmp_path: Path):
    made = make_texts(tmp_path)
    prompts = made.read_yaml("params.yaml")["prompts"]
    entries = {"a": {"shots": 0, "endpoint": {"url": "http://localhost/v1", "model": "m"}}}
    entries["b"] = {"shots": 0, "endpoint": {**entries["a"]["endpoint"], "options": {"reasoning_effort": "low"}}}
    made.edit_yaml("params.yaml", prompts={**prompts, "methods": ["a", "b"], "entries": entries})
    loaded = study.load(made.folder)
    one, other = (resolve.prompting(loaded, method) for method in ("a", "b"))
    assert one.generate == other.generate == Generate(max_new_tokens=8)
    assert one.entry.endpoint.options == {"temperature": 0, "max_tokens": 8}
    assert other.entry.endpoint.options == {"reasoning_effort": "low"}


# --- the stages


def asking_of(made: Project, server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared, with the method `asked`: one example, the most like each text, and a server."""
    entry = {"shots": 1, "examples": "nearest", "endpoint": {"url": server.url, "model": "m"}}
    prompts = made.read_yaml("params.yaml")["prompts"]
    chosen = {"validation_rows": 6, "methods": ["asked"], "entries": {"asked": entry}}
    made.edit_yaml("params.yaml", prompts={**prompts, **chosen}, generate={"max_new_tokens": 8})
    monkeypatch.setitem(ENVIRONMENT, "XDG_CACHE_HOME", os.environ["XDG_CACHE_HOME"])  # which `serve` has set
    made.prepare_here(monkeypatch)


def files_of(made: Project) -> dict[str, bytes]:
    return {name: (made.folder / f"{name}/asked.json").read_bytes() for name in ("metrics", "metrics/validation")}


@pytest.mark.slow
def test_the_stage_writes_texts_and_asks_once(serve: Callable, tmp_path: Path, monkeypatch):  # noqa: F811
    server = serve(lambda text, times: completion("" if text.startswith("Zeta") else " ".join(text.split()[:1])))
    made = make_texts(tmp_path)
    asking_of(made, server, monkeypatch)
    run_stage(made, "asked")
    assert set(made.read_json("metrics/asked.json")) == set(Generation.figures) - {"loss", "perplexity"}
    assert set(made.read_json("metrics/validation/asked.json")) == set(Generation.headline)
    assert made.read_json("metrics/detail/asked.json")["fitted"] == {"17": {}}
    table = pd.read_parquet(made.folder / "data/predictions/asked.parquet")
    empty = table.text.str.startswith("Zeta")
    assert (table.predicted == "").tolist() == empty.tolist() and "log_likelihood" not in table
    assert 0 < made.read_json("metrics/cost/asked.json")["no_valid_answer"] == pytest.approx(empty.mean(), abs=1e-6)
    asked, files = Counter(server.asked), files_of(made)
    assert set(asked.values()) == {1}
    run_stage(made, "asked")
    assert server.asked == asked and files_of(made) == files


@pytest.mark.slow
def test_the_stage_writes_spans_and_asks_once_also_with_folds(
    serve: Callable,  # noqa: F811
    tiny_model: Path,
    tiny_texts: list,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    server = serve(lambda text, times: completion(f"org: {text.split()[0]}\nplace: Oslo\ndate: tomorrow"))
    made = make_spans(tmp_path / "project", tiny_model, tiny_texts)
    made.edit_yaml("params.yaml", folds=[2])
    asking_of(made, server, monkeypatch)
    run_stage(made, "asked")
    assert set(made.read_json("metrics/asked.json")) == set(Tagging.figures) - {"loss"}
    assert set(made.read_json("metrics/validation/asked.json")) == {"f1", "accuracy"}
    detail = made.read_json("metrics/detail/asked.json")
    assert set(detail["errors"]) == set(evidence.KINDS) and "with_temperature" not in detail
    table = pd.read_parquet(made.folder / "data/predictions/asked.parquet")
    assert [[span["text"] for span in row] for row in table.predicted] == [[text.split()[0]] for text in table.text]
    assert detail["prompt"]["invalid"]["test"] == {
        "unreadable": 0, "unknown_type": len(table), "not_in_text": len(table), "repeated": 0,
    }  # fmt: skip
    asked, files = Counter(server.asked), files_of(made)
    assert set(asked.values()) == {1}
    run_stage(made, "asked")
    assert server.asked == asked and files_of(made) == files

    for stage, item in (("folds", "--number 2"), ("fold_prompt", "--number 2 --method asked")):
        run_stage(made, item, stage)
    assert set(made.read_json("metrics/folds/asked.json")) == set(Tagging.figures) - {"loss"}
    every = sum(split["rows"] for split in made.profile()["splits"].values())
    assert len(pd.read_parquet(made.folder / "data/predictions/folds/asked.parquet")) == every


def run_stage(made: Project, item: str, stage: str = "prompt") -> None:
    item = item if item.startswith("--") else f"--method {item}"
    command = made.read_yaml("dvc.yaml")["stages"][stage]["cmd"].replace("${item}", item)
    made.run(*command.split())
