"""Encoder-decoders that write texts: their tokens, loss, answers, adapters, and the whole pipeline, at tiny size."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_generation
import torch
import transformers
from conftest import WHERE
from test_generation import INSTRUCTION, PAIRS, SOURCES, conf, load, split_of
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import DataCollatorForSeq2Seq, set_seed
from transformers.models.m2m_100 import modeling_m2m_100

from tunediff.core.errors import UserError
from tunediff.models import generation, loading, saved, saving
from tunediff.models.adapters import adapt
from tunediff.models.inference import outputs
from tunediff.tasks import task_of
from tunediff.tasks.generation import IGNORED, Generation
from tunediff.tasks.settings import Generate

TEXTS = [*(text for pair in PAIRS for text in pair), INSTRUCTION]
BART = {
    **dict.fromkeys(("encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads"), 2),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 64),
    **{"d_model": 32, "max_position_embeddings": 96, "init_std": 0.4, "scale_embedding": False},
}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "initializer_factor": 3.0}
KINDS = ("t5", "bart", "mbart", "nllb", "marian")
LANGUAGES = {
    "mbart": {"source_language": "en_XX", "target_language": "de_DE"},
    "nllb": {"source_language": "eng_Latn", "target_language": "deu_Latn"},
}


def pieces() -> list[tuple[str, float]]:
    """SentencePiece's unigrams of the texts, without the special tokens."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        TEXTS, trainers.UnigramTrainer(vocab_size=150, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    )
    return [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"] if piece != "<unk>"]


def t5(folder: Path) -> transformers.PreTrainedModel:
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces()]
    tokenizer = transformers.T5Tokenizer(vocab=vocabulary, extra_ids=4)
    tokenizer.save_pretrained(folder)
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, **T5)
    )


def bart(folder: Path) -> transformers.PreTrainedModel:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    made = transformers.BartTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    made.save_pretrained(folder)
    return transformers.BartForConditionalGeneration(transformers.BartConfig(vocab_size=len(made), **BART))


def mbart(folder: Path) -> transformers.PreTrainedModel:
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = transformers.MBartTokenizer(vocab=[*special, *pieces()])
    tokenizer.save_pretrained(folder)
    return transformers.MBartForConditionalGeneration(
        transformers.MBartConfig(vocab_size=len(tokenizer), decoder_start_token_id=None, **BART)
    )


def nllb(folder: Path) -> transformers.PreTrainedModel:
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted({sign for text in TEXTS for sign in f"▁{text}"} - {" "})]
    tokenizer = transformers.NllbTokenizer(vocab={token: place for place, token in enumerate(tokens)}, merges=[])
    tokenizer.save_pretrained(folder)
    return transformers.M2M100ForConditionalGeneration(
        transformers.M2M100Config(vocab_size=len(tokenizer), decoder_start_token_id=2, **BART)
    )


def marian(folder: Path) -> transformers.PreTrainedModel:
    import sentencepiece

    (folder / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts.txt"),
        model_prefix=str(folder / "source"),
        vocab_size=90,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.model"))
    words = ["</s>", "<unk>", *(piece for i in range(len(model)) if (piece := model.id_to_piece(i))[0] != "<"), "<pad>"]
    (folder / "source.model").rename(folder / "source.spm")
    (folder / "target.spm").write_bytes((folder / "source.spm").read_bytes())
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MarianTokenizer"}))
    pad = len(words) - 1
    return transformers.MarianMTModel(
        transformers.MarianConfig(
            vocab_size=len(words), decoder_start_token_id=pad, pad_token_id=pad, eos_token_id=0, **BART
        )
    )


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name in KINDS:
        made[name] = tmp_path_factory.mktemp(name)
        set_seed(0)
        globals()[name](made[name]).save_pretrained(made[name])
    return made


def loaded(folders: dict[str, Path], kind: str, **changes: object):
    """Model, tokenizer, and the task as that model does it."""
    settings = {"max_length": 64, **LANGUAGES.get(kind, {}), **changes}
    model, tokenizer = load(conf(folders[kind], **settings), Generation(INSTRUCTION))
    return model, tokenizer, task_of(model.config)


# --- tokens and loss


def test_tokens_are_those_of_the_librarys_own_collator(folders: dict[str, Path], kind: str):
    model, tokenizer, task = loaded(folders, kind, max_length=96)
    assert type(model).__name__.endswith(("ForConditionalGeneration", "MTModel"))
    encoded = task.encode(tokenizer, split_of(PAIRS[:3], task))
    sources = [f"{INSTRUCTION} {source}" for source, _ in PAIRS[:3]]
    plain = tokenizer(sources, text_target=[target for _, target in PAIRS[:3]], truncation=True)
    assert encoded["input_ids"][:] == plain["input_ids"]
    assert encoded["labels"][:] == plain["labels"]
    assert all(row.count(tokenizer.eos_token_id) == 1 for row in encoded["labels"])

    batch = task.collator(tokenizer)(encoded.to_list())
    rows = [{key: plain[key][row] for key in ("input_ids", "attention_mask", "labels")} for row in range(3)]
    expected = DataCollatorForSeq2Seq(tokenizer, model)(rows)
    if kind == "nllb":  # the model itself shifts them
        shifted = modeling_m2m_100.shift_tokens_right(
            expected["labels"], tokenizer.pad_token_id, tokenizer.eos_token_id
        )
        expected["decoder_input_ids"] = shifted
    assert set(batch) == set(expected)
    for name, tensor in batch.items():
        given = expected[name]
        if name == "decoder_input_ids":  # beyond a target's end, the library begins anew, and nobody reads it
            tensor, given = (each.masked_fill(batch["labels"] == IGNORED, 0) for each in (tensor, given))
        assert torch.equal(tensor, given), name


def test_the_loss_is_the_models_own(folders: dict[str, Path], kind: str):
    model, tokenizer, task = loaded(folders, kind)
    model.double()  # T5, whose loss is 19, is off by up to 1e-4 in fp32
    encoded = task.encode(tokenizer, split_of(PAIRS[:12:2], task))
    batch = task.collator(tokenizer)(encoded.to_list())
    own = model(**batch).loss
    labels = batch.pop("labels")
    assert torch.allclose(task.loss()(model(**batch), labels).double(), own, atol=1e-4)
    likely = outputs(task, model, tokenizer, encoded, 4, "fp32", "test")
    assert np.allclose(likely, outputs(task, model, tokenizer, encoded, 1, "fp32", "test"), atol=1e-4)
    assert task.score_encoded(encoded, None, likely)["loss"] == pytest.approx(own.item(), abs=1e-4)


def test_languages_stand_in_source_target_and_answer(folders: dict[str, Path], monkeypatch):
    for kind, place in (("nllb", 0), ("mbart", -1)):
        model, tokenizer, task = loaded(folders, kind)
        source, target = LANGUAGES[kind].values()
        row = task.encode(tokenizer, split_of(PAIRS[:1], task))[0]
        ends = [tokenizer.convert_ids_to_tokens(row[name])[place] for name in ("input_ids", "labels")]
        assert ends == [source, target]
        seen = []
        generate = model.generate
        monkeypatch.setattr(model, "generate", lambda **call: seen.append(generate(**call)) or seen[-1])  # noqa: B023
        [text] = generation.write(task, model, tokenizer, SOURCES[:1], Generate(max_new_tokens=6), 1, "fp32", "test")
        begun = tokenizer.convert_ids_to_tokens(seen[0][0].tolist())
        assert begun[1 if kind == "nllb" else 0] == target
        assert target not in text


def test_a_long_source_is_cut_at_its_end(folders: dict[str, Path], kind: str):
    _, tokenizer, task = loaded(folders, kind, max_length=40)
    prompt = task.prompt(tokenizer)
    ids = prompt.ids("profit rose " * 50)
    assert len(ids) == 40 < len(prompt.ids("profit rose " * 50, cut=False))
    assert tokenizer.eos_token_id in ids[-2:]
    assert f"{INSTRUCTION[1:]} profit rose" in tokenizer.decode(ids, skip_special_tokens=True)
    assert prompt.ids("</s> Zeta").count(tokenizer.eos_token_id) == 1
    tokenizer.model_max_length = 4
    with pytest.raises(ValueError, match=r"the instruction and the template alone have .* raise it, or shorten"):
        prompt.ids("profit rose " * 50)


# --- answers


@pytest.mark.parametrize("settings", [{}, {"beams": 3}, {"temperature": 0.7, "top_p": 0.9}], ids=str)
def test_a_batch_of_one_answers_as_a_batch_of_many(folders: dict[str, Path], kind: str, settings: dict):
    model, tokenizer, task = loaded(folders, kind)
    settings = Generate(max_new_tokens=8, **settings)
    many, alone = (generation.write(task, model, tokenizer, SOURCES, settings, size, "fp32", "test") for size in (4, 1))
    assert many == alone
    assert not any(token in text for text in many for token in tokenizer.all_special_tokens)
    parts: list[str] = []
    done = generation.stream(task, model, tokenizer, SOURCES[0], settings, parts.append, lambda: False)
    assert "".join(parts) == done.text == many[0]


def test_an_answer_that_has_no_room_is_refused(folders: dict[str, Path]):
    model, tokenizer, task = loaded(folders, "bart")
    generation.check_room(model.config, task.architecture.before(90), 90)  # each has its own
    with pytest.raises(UserError, match=r"generate.max_new_tokens: 97, but the model reads 96: lower it"):
        generation.write(task, model, tokenizer, SOURCES, Generate(max_new_tokens=97), 4, "fp32", "test")


@pytest.mark.parametrize("peft_type", [None, "LORA", "PROMPT_TUNING"])
def test_the_pretrained_models_own_way_to_write_is_not_taken(folders: dict[str, Path], peft_type: str | None):
    """BART's checkpoints for summaries have a least length, and punish repetitions."""
    texts = []
    for own in ({}, {"min_length": 20, "repetition_penalty": 9.0, "no_repeat_ngram_size": 1}):
        model, tokenizer, task = loaded(folders, "bart")
        model.generation_config.update(**own)
        if peft_type:
            fields = {"num_virtual_tokens": 4} if peft_type == "PROMPT_TUNING" else {"target_modules": "all-linear"}
            set_seed(1)
            model = adapt(model, tokenizer, peft_type, fields, conf(folders["bart"]), "entry")
        settings = Generate(max_new_tokens=8)
        texts += generation.write(task, model, tokenizer, SOURCES[:2], settings, 2, "fp32", "test")
        texts.append(generation.stream(task, model, tokenizer, SOURCES[0], settings, str, lambda: False).text)
    assert texts[:3] == texts[3:]
    assert texts[0] == texts[2]


# --- settings and models


def test_wrong_languages_are_refused_in_one_line(folders: dict[str, Path]):
    for kind, changes, expected in (
        ("t5", LANGUAGES["mbart"], "source_language: the tokenizer of .* has no codes of languages; leave both out"),
        ("nllb", {"source_language": "eng_Latn", "target_language": "deu"}, "target_language: .* knows no 'deu'"),
    ):
        with pytest.raises(UserError, match=rf"^{WHERE}: {expected}"):
            loading.load_tokenizer(conf(folders[kind], **changes), WHERE)
    _, tokenizer, task = loaded(folders, "mbart", source_language=None, target_language=None)
    with pytest.raises(ValueError, match="set source_language and target_language in this file"):
        task.prompt(tokenizer)
    with pytest.raises(ValueError, match="a translation has two languages"):
        conf(folders["mbart"], source_language="en_XX")


@pytest.mark.parametrize(
    ("kind", "peft_type"),
    [
        *((kind, peft_type) for kind in ("t5", "bart") for peft_type in (None, "LORA", "BOTTLENECK")),
        *(("bart", peft_type) for peft_type in ("PREFIX_TUNING", "PROMPT_TUNING")),
        *((kind, "IA3") for kind in ("t5", "bart")),
        ("nllb", "LORA"),
        ("mbart", None),
    ],
)
def test_a_saved_model_writes_as_before(folders: dict[str, Path], tmp_path: Path, kind: str, peft_type: str | None):
    model, tokenizer, task = loaded(folders, kind)
    fields = {
        "LORA": {"r": 2, "target_modules": "all-linear"},
        "BOTTLENECK": {},
        "IA3": {"target_modules": "keys-values-feedforward", "feedforward_modules": "feedforward"},
    }
    if peft_type:
        own = fields.get(peft_type, {"num_virtual_tokens": 4})
        model = adapt(model, tokenizer, peft_type, own, conf(folders[kind]), "entry")
        assert task_of(model.config).peft_type == "SEQ_2_SEQ_LM"
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights.add_(torch.randn(weights.shape) * 0.1)
    saving.settle(model)
    saving.save(model, tokenizer, tmp_path / "saved")
    again, read = saved.load_saved(tmp_path / "saved")
    assert task_of(again.config).auto_model == "AutoModelForSeq2SeqLM"
    encoded = task.encode(tokenizer, split_of(PAIRS[:5], task))
    parts = ((model, tokenizer), (again, read))
    likely = [outputs(task, *each, encoded, 4, "fp32", "test") for each in parts]
    assert np.array_equal(*likely)
    settings = Generate(max_new_tokens=6)
    texts = [generation.write(task, *each, SOURCES, settings, 4, "fp32", "test") for each in parts]
    assert texts[0] == texts[1]
    again, read = saved.load_original(tmp_path / "saved")
    original, _, _ = loaded(folders, kind)
    first, other = (outputs(task, each, read, encoded, 4, "fp32", "test") for each in (again, original))
    assert np.array_equal(first, other)


@pytest.mark.parametrize(
    ("kind", "wanted", "ends"),
    [
        ("t5", "attention", {"q", "v"}),
        ("t5", "keys-values-feedforward", {"k", "v", "wo"}),
        ("t5", "outputs", {"o", "wo"}),
        ("bart", "attention", {"q_proj", "v_proj"}),
        ("bart", "keys-values-feedforward", {"k_proj", "v_proj", "fc2"}),
    ],
)
def test_sets_of_layers_are_known_by_name(folders: dict[str, Path], kind: str, wanted: str, ends: set[str]):
    model, tokenizer, _ = loaded(folders, kind)
    model = adapt(model, tokenizer, "LORA", {"r": 2, "target_modules": wanted}, conf(folders[kind]), "entry")
    changed = {name.split(".lora_A")[0].rsplit(".", 1)[1] for name, _ in model.named_parameters() if ".lora_A." in name}
    assert changed == ends


# --- everything


@pytest.mark.slow
def test_the_pipeline_trains_an_encoder_decoder(folders: dict[str, Path], tmp_path: Path):
    made = test_generation.make(tmp_path)
    checkpoint = shutil.copytree(folders["nllb"], tmp_path / "nllb")
    test_generation.give_an_own_way(checkpoint)
    made.edit_yaml("conf/model/tiny.yaml", name=str(checkpoint), **LANGUAGES["nllb"])
    made.commit("code")
    assert "Traceback" not in made.run("dvc", "repro").stderr
    for method in ("full", "lora-v1"):
        assert made.read_json(f"metrics/reload/{method}.json")["largest_logit_difference"] < 1e-4
        assert made.read_json(f"metrics/{method}.json")["loss"] < made.read_json("metrics/untrained.json")["loss"]
    table = pd.read_parquet(made.folder / "data/predictions/full.parquet")

    card = (made.folder / "models/lora-v1/README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text2text-generation" in card
    for method in ("full", "lora-v1"):  # what the card says loads the folder, and answers in its language
        told, answer = test_generation.card_and_predict(made, method, SOURCES[0])
        assert told == answer != ""
    made.run("python", "-m", "stages.predict", "--model", "models/full", "--out", "out.jsonl", *table.text[:2])
    answers = [json.loads(line) for line in (made.folder / "out.jsonl").read_text().splitlines()]
    assert [answer["predicted"] for answer in answers] == table.predicted[:2].tolist()
    both = made.run("python", "-m", "stages.predict", "--model", "models/lora-v1", "--compare", SOURCES[0])
    assert "original" in both.stdout and "Traceback" not in both.stderr
