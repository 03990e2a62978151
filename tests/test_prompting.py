"""Methods of `prompts` with a model on this machine: likelihoods, calibration, examples, and what the stage writes."""

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ENVIRONMENT, Project
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BloomConfig, BloomForCausalLM, T5Config, T5ForConditionalGeneration

from tunediff.core.errors import UserError
from tunediff.core.splits import load_split
from tunediff.models import language_model
from tunediff.models.settings import Pretrained
from tunediff.prompting.calibration import PRIORS
from tunediff.prompting.decoder import Scorer
from tunediff.prompting.examples import Nearest, Seeded
from tunediff.prompting.method import Asking, some
from tunediff.prompting.prompts import Example, Wording, answer_tokens, default_instruction, prompt_tokens
from tunediff.prompting.settings import Entry, Prompting
from tunediff.tasks.classification import Classification

LABELS = ["sold", "sold out", "a", "the index fell in early trade"]  # of one piece and of many; one begins another
WORDING = Wording("Say what it is.", "Text: {text}")
TEXTS = ["shares rose", "", "copper sank against forecasts in early trade after the report on monday", "wheat fell"] * 3


def prompting(decoder: Path, **changes: object) -> Prompting:
    entry = changes.pop("entry", {"shots": 0})
    return Prompting(
        **{
            "method": "ask",
            "task": "classification",
            "seed": 3,
            "precision": "fp32",
            "batch_size": 5,
            "select_by": "f1",
            "validation_rows": 20,
            "entry": Entry(**entry),
            "model": Pretrained(name=str(decoder), max_length=64),
            "model_path": Path("conf/model/tiny-decoder.yaml"),
            **changes,
        }
    )


@pytest.fixture(params=["llama", "gpt2"])
def decoder(request, tiny_decoder: Path, checkpoints: dict[str, Path]) -> Path:
    """One that chats and turns positions, and one without a template that learnt positions."""
    return tiny_decoder if request.param == "llama" else checkpoints["openai-community/gpt2"]


# --- likelihoods


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_likelihoods_are_those_of_plain_passes(decoder: Path, batch_size: int):
    """Whatever lies beside a prompt in its batch, whatever was computed before it, and whatever answers go with it."""
    model = language_model.load_language_model(Pretrained(name=str(decoder)), Path("x"), "fp32")
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    prompts = [prompt_tokens(tokenizer, WORDING.conversation(text, [Example("up", "a")])) for text in TEXTS]
    answers = [answer_tokens(tokenizer, label) for label in LABELS]
    assert len(language_model.common_prefix(prompts)) > 10 and len(set(map(len, prompts))) > 2
    assert len(set(map(len, answers))) > 2

    plain = np.stack([language_model.plain_log_likelihoods(model, prompt, answers) for prompt in prompts])
    fast = language_model.log_likelihoods(model, prompts, answers, batch_size, "test")
    assert np.allclose(fast, plain, atol=1e-4)
    # By the library's own loss, so that both are not wrong alike.
    ids = torch.tensor([prompts[2] + answers[1]])
    labels = ids.clone()
    labels[:, : len(prompts[2])] = -100
    loss = model(ids, labels=labels).loss.item() * len(answers[1])
    assert plain[2, 1] == pytest.approx(-loss, abs=1e-4)


def test_the_shared_beginning_is_computed_once(tiny_decoder: Path):
    model = language_model.load_language_model(Pretrained(name=str(tiny_decoder)), Path("x"), "fp32")
    prompts = [[1] * 50 + [2, 3], [1] * 50 + [4], [1] * 50 + [5, 6, 7]]
    read = []
    model.model.embed_tokens.register_forward_hook(lambda module, args, output: read.append(args[0].shape[1]))
    language_model.log_likelihoods(model, prompts, [[8, 9]], batch_size=1, title="test")
    assert read == [50, 3 + 1, 2 + 1, 1 + 1]


def test_one_prompt_keeps_a_token_of_its_own():
    assert language_model.common_prefix([[1, 2, 3]]) == [1, 2]
    assert language_model.common_prefix([[1, 2], [1, 2, 3]]) == [1]
    assert language_model.common_prefix([[1, 2, 9], [1, 5, 3], [1, 2, 3]]) == [1]


def test_a_model_that_takes_no_such_positions_is_refused(tmp_path: Path):
    """BLOOM reads its positions from the mask."""
    model = BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=32, n_layer=2, n_head=2, initializer_range=0.2))
    with pytest.raises(UserError, match="this architecture \\(bloom\\) cannot be prompted here") as error:
        language_model.check(model.eval(), [[1, 2, 3], [1, *range(2, 30)]], [[4], [5, 6]], "acme/bloom")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: weights.pop("model.norm.weight"), "missing: model.norm.weight"),
        (
            lambda weights: weights.update({"model.norm.weight": torch.ones(7)}),
            "of another shape: model.norm.weight",
        ),
    ],
)
def test_a_model_without_all_its_weights_is_not_asked(tiny_decoder: Path, tmp_path: Path, change: Callable, named: str):
    shutil.copytree(tiny_decoder, tmp_path / "decoder")
    weights = load_file(tiny_decoder / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "decoder/model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=rf"coder\.yaml: name: the weights of .* \({named}\); get the model again"):
        Scorer(prompting(tmp_path / "decoder"), LABELS)


def test_what_is_no_decoder_is_not_asked(tiny_model: Path, tmp_path: Path):
    config = T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    for folder, said in ((tiny_model, "is no model that writes texts"), (tmp_path, r"is an encoder-decoder \(t5\)")):
        with pytest.raises(UserError, match=f"^x: name: {folder} {said}"):
            language_model.load_language_model(Pretrained(name=str(folder)), Path("x"), "fp32")


def test_a_prompt_that_the_model_cannot_read_is_refused(tiny_decoder: Path):
    settings = prompting(tiny_decoder, model=Pretrained(name=str(tiny_decoder), max_length=600))
    said = r"prompts\.entries\.ask\.shots: a prompt has 1,4\d\d tokens with its answer, and .* 512;"
    with pytest.raises(UserError, match=said):
        Scorer(settings, LABELS).scores([WORDING.conversation("shares " * 700)], "test")


def test_a_text_cannot_end_its_turn(tiny_decoder: Path):
    scorer = Scorer(prompting(tiny_decoder), LABELS)
    mark = scorer.tokenizer.all_special_tokens[0]
    plain, marked = (scorer.tokens(WORDING.conversation(text)) for text in ("up down", f"up {mark} down"))
    special = set(scorer.tokenizer.all_special_ids)
    assert [sum(token in special for token in tokens) for tokens in (plain, marked)] in ([n, n] for n in range(9))
    assert mark not in scorer.cut(f"up {mark} down", 50)


def test_a_long_text_is_cut_at_max_length(tiny_decoder: Path):
    model = Scorer(prompting(tiny_decoder), LABELS)
    assert model.cut("shares rose", 64) == "shares rose"
    long = "shares rose on monday " * 100
    cut = model.cut(long, 64)
    assert long.startswith(cut) and len(model.tokenizer(cut)["input_ids"]) == 64


def test_examples_are_cut_so_that_a_prompt_fits(prepared: Project, tiny_decoder: Path):
    """12 examples of 64 tokens each are more than the 512 that the model reads."""
    splits = {name: load_split(prepared.folder / "data/prepared", name) for name in ("train", "validation", "test")}
    long = splits["train"].map(lambda row: {"text": f"{row['text']} and so on" * 30})
    task = Classification.of(long.features)
    asking = Asking({**splits, "train": long}, task, prompting(tiny_decoder, entry={"shots": 6}))
    prompt = asking.scores(["shares rose on monday " * 100], "test")
    assert 1 < asking.example_tokens < 25
    assert 400 < prompt.input_tokens <= 512


# --- calibration


def test_a_preference_is_taken_out():
    random = np.random.default_rng(0)
    actual = random.integers(0, 3, 300)
    clean = np.eye(3)[actual] * 2 + random.normal(size=(300, 3))
    preference = np.array([4.0, 0.0, -2.0])
    free = preference + random.normal(size=(3, 3)) * 0.01
    right = {
        kind: np.mean((clean + preference - prior(clean + preference, free)).argmax(1) == actual)
        for kind, prior in PRIORS.items()
    }
    assert np.mean(clean.argmax(1) == actual) > 0.8
    assert right["none"] < 0.5 and right["contextual"] > 0.8 and right["batch"] > 0.65


def test_a_prior_is_a_mean_probability():
    """By hand: probabilities 0.8 and 0.2 for one text, 0.4 and 0.6 for the other; scores of any sum."""
    scores = np.log(np.array([[0.8, 0.2], [0.4, 0.6]])) + np.array([[7.0], [-3.0]])
    assert np.exp(PRIORS["batch"](scores, scores[:1])) == pytest.approx([0.6, 0.4])
    assert np.exp(PRIORS["contextual"](scores, scores[:1])) == pytest.approx([0.8, 0.2])
    assert PRIORS["none"](scores, scores).tolist() == [0, 0]


# --- what is said


def test_examples_are_turns_of_the_conversation():
    messages = Wording("Choose.", "Text: {text}!").conversation("{text} up", [Example("down", "bad")])
    assert messages == [
        {"role": "user", "content": "Choose.\n\nText: down!"},
        {"role": "assistant", "content": "bad"},
        {"role": "user", "content": "Text: {text} up!"},
    ]
    assert default_instruction(["a", "b", "c"]) == "Classify the text as a, b or c. Answer with the label alone."


def test_a_model_without_a_template_reads_lines(checkpoints: dict[str, Path]):
    tokenizer = AutoTokenizer.from_pretrained(checkpoints["openai-community/gpt2"])
    tokens = prompt_tokens(tokenizer, Wording("Choose.", "{text}").conversation("up", [Example("down", "bad")]))
    assert tokenizer.decode(tokens) == "Choose.\n\ndown\nLabel: bad\n\nup\nLabel:"
    assert tokenizer.decode(answer_tokens(tokenizer, "good")) == " good\n"


def test_a_template_is_of_the_same_day_and_ends_an_answer_its_own_way(tiny_decoder: Path):
    """As Llama 3's, whose end of a turn is not the end of a text."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_decoder)
    tokenizer.eos_token = "<|im_start|>"
    plain = prompt_tokens(tokenizer, WORDING.conversation("up", [Example("down", "bad")]))
    assert answer_tokens(tokenizer, "good")[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    tokenizer.chat_template = "Today: {{ strftime_now('%d %b %Y') }} " + tokenizer.chat_template
    dated = prompt_tokens(tokenizer, WORDING.conversation("up", [Example("down", "bad")]))
    assert tokenizer.decode(dated) == f"Today: 01 Jan 2025 {tokenizer.decode(plain)}"


@pytest.fixture
def prepared(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.prepare_here(monkeypatch)
    return project


def test_seeded_examples_are_the_same_for_every_text(prepared: Project):
    train = load_split(prepared.folder / "data/prepared", "train")
    task = Classification.of(train.features)
    drawn = Seeded(train, task, 2, 5).of(["one", "two"], "test")
    assert drawn[0] == drawn[1] and sorted(each.label for each in drawn[0]) == ["bearish"] * 2 + ["bullish"] * 2
    known = dict(zip(train["text"][:], train["label"][:], strict=True))
    assert all(task.labels[known[each.text]] == each.label for each in drawn[0])
    assert Seeded(train, task, 2, 5).examples == drawn[0] != Seeded(train, task, 2, 6).examples
    assert Seeded(train, task, 0, 5).of(["one"], "test") == [[]]
    assert len(Seeded(train, task, 1000, 5).examples) == len(train)


def test_the_nearest_examples_are_the_most_like_the_text(prepared: Project, tiny_decoder: Path, tiny_model: Path):
    train = load_split(prepared.folder / "data/prepared", "train")
    task = Classification.of(train.features)
    embedder = Pretrained(name=str(tiny_model), max_length=16)
    entry = {"shots": 2, "examples": "nearest"}
    settings = prompting(tiny_decoder, entry=entry, embedder=embedder, embedder_path=Path("x"))
    texts = train["text"][:3]
    for text, examples in zip(texts, Nearest(train, task, settings).of(texts, "test"), strict=True):
        assert examples[-1].text == text
        assert sorted(each.label for each in examples) == ["bearish"] * 2 + ["bullish"] * 2


def test_a_text_without_tokens_is_like_none(prepared: Project, tiny_decoder: Path):
    """As a decoder's tokenizer, which puts nothing before a text, makes of the empty text of `contextual`."""
    train = load_split(prepared.folder / "data/prepared", "train")
    embedder = Pretrained(name=str(tiny_decoder), max_length=16)
    entry = {"shots": 1, "examples": "nearest"}
    settings = prompting(tiny_decoder, entry=entry, embedder=embedder, embedder_path=Path("x"))
    states = Nearest(train, Classification.of(train.features), settings)._states(["", "rise"], "test")
    assert np.linalg.norm(states, axis=1) == pytest.approx([0, 1])


def test_looking_for_examples_takes_time_that_counts(prepared: Project, tiny_decoder: Path):
    splits = {name: load_split(prepared.folder / "data/prepared", name) for name in ("train", "validation", "test")}
    asking = Asking(splits, Classification.of(splits["train"].features), prompting(tiny_decoder, entry={"shots": 1}))
    texts, of = splits["test"]["text"][:2], asking.examples.of
    asking.scores(texts, "test")
    asking.examples.of = lambda *arguments: time.sleep(1) or of(*arguments)
    assert asking.scores(texts, "test").seconds > 1


def test_a_sample_of_validation_keeps_the_shares(prepared: Project):
    validation = load_split(prepared.folder / "data/prepared", "validation")
    task = Classification.of(validation.features)
    part = some(validation, task, 10, 1)
    assert len(part) == 10 and np.bincount(part["label"][:]).tolist() == [5, 5]
    assert len(some(validation, task, 1000, 1)) == len(validation)


# --- the stage


def ask(project: Project, method: str, check: bool = True, environment: dict[str, str] = ENVIRONMENT):
    """What `dvc repro prompt@METHOD` runs when the settings and the splits are there."""
    command = project.read_yaml("dvc.yaml")["stages"]["prompt"]["cmd"].replace("${item}", f"--method {method}")
    return project.run(*command.split(), check=check, environment=environment)


@pytest.fixture
def prompted(project: Project, tiny_decoder: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A prepared project with `zero-shot` and `few-shot` of the tiny decoder."""
    project.write_yaml("conf/model/tiny-decoder.yaml", {"name": str(tiny_decoder), "max_length": 64})
    prompts = project.read_yaml("params.yaml")["prompts"]
    chosen = {"model": "tiny-decoder", "methods": ["zero-shot", "few-shot"], "validation_rows": 12}
    project.edit_yaml("params.yaml", prompts={**prompts, **chosen})
    project.prepare_here(monkeypatch)
    return project


@pytest.mark.slow
def test_the_stage_writes_what_every_method_has(prompted: Project):
    ask(prompted, "few-shot")
    assert set(prompted.read_json("metrics/few-shot.json")) == {"accuracy", "f1", "precision", "recall", "loss"}
    assert set(prompted.read_json("metrics/validation/few-shot.json")) == {"accuracy", "f1", "loss"}
    detail = prompted.read_json("metrics/detail/few-shot.json")
    figures = detail["prompt"]["calibrations"]
    assert detail["prompt"]["validation_rows"] == 12
    assert set(figures) == set(PRIORS) and figures[detail["prompt"]["calibration"]] == max(figures.values())
    assert detail["with_temperature"]["temperature"] == detail["fitted"]["17"]["temperature"]
    cost = prompted.read_json("metrics/cost/few-shot.json")
    assert cost["trainable_parameters"] == cost["train_seconds"] == cost["no_valid_answer"] == 0
    assert cost["total_parameters"] > 10_000 and cost["input_tokens_per_1000"] > 50_000
    table = pd.read_parquet(prompted.folder / "data/predictions/few-shot.parquet")
    assert table[["p_bearish", "p_bullish"]].sum(axis=1).to_numpy() == pytest.approx(1)
    assert table.text.tolist() == prompted.prepared().query("side == 'test'").text.tolist()
    assert len(table) == len(pd.read_csv(prompted.folder / "plots/confusion/few-shot.csv")) > 20

    before = (prompted.folder / "metrics/few-shot.json").read_bytes()
    ask(prompted, "few-shot")
    assert (prompted.folder / "metrics/few-shot.json").read_bytes() == before


def test_each_method_has_its_settings(prompted: Project, monkeypatch: pytest.MonkeyPatch):
    def resolved(method: str) -> dict:
        return prompted.read_json(f"data/settings/prompt/{method}.json")

    zero, few = resolved("zero-shot"), resolved("few-shot")
    assert zero["model"]["name"] == few["model"]["name"] and "instruction" not in zero
    prepare = prompted.read_json("data/settings/prepare.json")
    prompts = prompted.read_yaml("params.yaml")["prompts"]
    entries = {**prompts["entries"], "few-shot": {"shots": 1, "examples": "nearest"}}
    prompted.edit_yaml("params.yaml", prompts={**prompts, "entries": entries})
    prompted.edit_yaml("conf/data/tiny.yaml", prompt="Up or down?")
    prompted.prepare_here(monkeypatch)
    assert resolved("zero-shot") == {**zero, "instruction": "Up or down?"}
    assert resolved("few-shot")["embedder"]["max_length"] == 16
    assert prompted.read_json("data/settings/prepare.json") == prepare  # an instruction changes no row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "tiny-decodr"}, "prompts.model: there is no conf/model/tiny-decodr.yaml; .* did you mean tiny-deco"),
        ({"methods": ["zero"]}, "prompts.methods: no entry for zero; there are: .*; did you mean zero-shot"),
        ({"entries": {"full": {"shots": 0}}, "methods": []}, "prompts.entries: 'full' is the name of another method"),
        ({"entries": {"dora": {"shots": 0}}, "methods": []}, "prompts.entries: 'dora' is the name of another method"),
        ({"entries": {"zero-shot": {"shots": -1}}}, "prompts.entries.zero-shot.shots: .*greater than or equal to 0"),
        ({"entries": {"zero-shot": {"shots": 0, "template": "x"}}}, r"zero-shot.template: expected \{text\} in it"),
        ({"entries": {"zero-shot": {"shots": 0, "shot": 1}}}, "zero-shot.shot: unknown key; did you mean shots"),
        ({"validation_rows": 0}, "prompts.validation_rows: .*greater than or equal to 1"),
    ],
)
def test_mistakes_in_settings_are_one_line(prompted: Project, monkeypatch, change: dict, message: str):
    prompts = prompted.read_yaml("params.yaml")["prompts"]
    prompted.edit_yaml("params.yaml", prompts={**prompts, "methods": ["zero-shot"], **change})
    with pytest.raises(UserError) as error:
        prompted.prepare_here(monkeypatch)
    assert re.fullmatch(f"params.yaml: .*{message}.*", str(error.value))


def test_a_language_model_is_not_quantized_in_silence(prompted: Project, tiny_decoder: Path, monkeypatch):
    conf = {"name": str(tiny_decoder), "max_length": 64, "quantize": "int8"}
    prompted.write_yaml("conf/model/tiny-decoder.yaml", conf)
    with pytest.raises(
        UserError, match=r"prompts\.model: conf/model/tiny-decoder\.yaml has `quantize: int8`.*; take it"
    ):
        prompted.prepare_here(monkeypatch)
