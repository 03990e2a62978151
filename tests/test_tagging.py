"""Spans in a text: read in every form, scored as seqeval and nervaluate do, and from a file to the service."""

import itertools
import json
import re
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, WHERE, Project, make_project
from nervaluate.entities import Entity
from nervaluate.strategies import EntityTypeEvaluation, PartialEvaluation
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

from tunediff.baselines import words_in_text
from tunediff.core.errors import UserError
from tunediff.core.splits import load_split
from tunediff.evidence import comparison
from tunediff.evidence import tagging as evidence
from tunediff.report import tagging as page
from tunediff.settings import study
from tunediff.sources import find_source, preparing
from tunediff.sources.settings import DataConf
from tunediff.tasks import features, spans, windows, with_keys
from tunediff.tasks.tagging import Tagging

TYPES = ["org", "date"]
TASK = Tagging(TYPES)


def drawn(seed: int, texts: int = 200) -> tuple[list[list[str]], list[list[str]]]:
    """Tags of texts, of which the second kind are any at all, broken ones too."""
    random = np.random.default_rng(seed)
    actual, answered = [], []
    for length in random.integers(1, 12, texts):
        place, found = 0, []
        while place < length:
            end = min(place + int(random.integers(1, 4)), int(length))
            if random.random() < 0.4:
                found.append((place, end, str(random.choice(TYPES))))
            place = end
        tags = spans.tags_of(found, int(length))
        actual.append(tags)
        answered.append([tag if random.random() < 0.7 else str(random.choice(TASK.tags)) for tag in tags])
    return actual, answered


def figures(actual: list[list[str]], answered: list[list[str]], task: Tagging = TASK) -> dict[str, float]:
    one, other = ([task.of_tags([task.tags.index(tag) for tag in row]) for row in rows] for rows in (actual, answered))
    return {name: float(value) for name, value in task.figures_of(task.counts(one, other).sum(0)).items()}


# --- figures


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_seqevals(seed: int):
    actual, answered = drawn(seed)
    found = figures(actual, answered)
    strict = {"mode": "strict", "scheme": IOB2}
    with warnings.catch_warnings(action="ignore"):
        expected = {
            "f1": f1_score(actual, answered, **strict),
            "precision": precision_score(actual, answered, **strict),
            "recall": recall_score(actual, answered, **strict),
            "macro_f1": f1_score(actual, answered, average="macro", **strict),
            "macro_precision": precision_score(actual, answered, average="macro", **strict),
            "macro_recall": recall_score(actual, answered, average="macro", **strict),
            # Without `strict` it reads tags as conlleval does.
            "repaired_f1": f1_score(actual, answered),
        }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["repaired_f1"] != pytest.approx(found["f1"])
    pairs = [pair for both in zip(actual, answered, strict=True) for pair in zip(*both, strict=True)]
    assert found["accuracy"] == pytest.approx(np.mean([one == other for one, other in pairs]))


@pytest.mark.parametrize("seed", range(3))
def test_kinder_figures_are_nervaluates(seed: int):
    actual, answered = drawn(seed)
    sums = {PartialEvaluation: np.zeros(3), EntityTypeEvaluation: np.zeros(3)}
    for row, other in zip(actual, answered, strict=True):
        there, given = (
            [Entity(label=kind, start=first, end=end - 1) for first, end, kind in spans.of_tags(tags, strict=True)]
            for tags in (row, other)
        )
        for kind, total in sums.items():
            result, _ = kind().evaluate(there, given, TYPES)
            total += [result.correct + result.partial / 2, result.actual, result.possible]
    f1 = {kind: 2 * matches / (given + there) for kind, (matches, given, there) in sums.items()}
    found = figures(actual, answered)
    assert found["partial_f1"] == pytest.approx(f1[PartialEvaluation])
    assert found["type_f1"] == pytest.approx(f1[EntityTypeEvaluation])


def test_broken_tags_mean_nothing_or_are_repaired():
    """The README of seqeval: 1.00 by default and 0.00 in strict mode, for a span that begins with I."""
    found = figures([["B-org", "I-org", "O"]], [["I-org", "I-org", "O"]])
    assert (found["f1"], found["repaired_f1"]) == (0, 1)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O I-a I-a B-a O", [(1, 3, "a"), (3, 4, "a")]),  # IOB1
        ("B-a I-a B-a B-b", [(0, 2, "a"), (2, 3, "a"), (3, 4, "b")]),  # IOB2
        ("S-a B-a I-a E-a S-b S-b", [(0, 1, "a"), (1, 4, "a"), (4, 5, "b"), (5, 6, "b")]),  # BIOES
        ("U-a B-a L-a U-b", [(0, 1, "a"), (1, 3, "a"), (3, 4, "b")]),  # BILOU
        ("B-a I-b I-b", [(0, 1, "a"), (1, 3, "b")]),
        ("B-a-x I-a-x", [(0, 2, "a-x")]),
    ],
)
def test_every_scheme_is_read(tags: str, expected: list):
    assert spans.of_tags(tags.split()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Acme's U.S. rival_2 fell 5%!", ["Acme", "'", "s", "U", ".", "S", ".", "rival_2", "fell", "5", "%", "!"]),
        ("Cafe\u0301 Noir", ["Cafe\u0301", "Noir"]),
        ("Com\u00adpany AG", ["Com\u00adpany", "AG"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),  # a joiner
        ("東京都は3年間、ACME社と", ["東", "京", "都", "は", "3", "年", "間", "、", "ACME", "社", "と"]),
        ("ที่อยู่ใหม่", ["ที่", "อ", "ยู่", "ใ", "ห", "ม่"]),
        ("one\u200bAcme\u200e fell", ["one", "\u200b", "Acme", "\u200e", "fell"]),  # a span may begin or end there
    ],
)
def test_words_are_those_of_the_script(text: str, expected: list[str]):
    assert [text[slice(*place)] for place in spans.words(text)] == expected


def test_kinds_of_errors():
    actual = [(0, 2, "org"), (3, 4, "org"), (5, 7, "date"), (8, 9, "date")]
    answered = [(0, 2, "date"), (5, 6, "date"), (8, 10, "org"), (12, 13, "org")]
    kinds = [evidence.error(*pair) for pair in spans.pairs(actual, answered)]
    assert kinds == ["wrong type", "wrong edge", "wrong type and edge", "invented", "missed"]


def test_the_loss_is_of_words_alone_and_may_weigh_rare_tags():
    import torch
    from datasets import Dataset

    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 1, -100], [4, -100, -100]])
    outputs = type("Outputs", (), {"logits": logits})
    each = -logits.log_softmax(-1)[[0, 0, 1], [0, 1, 0], [0, 1, 4]]
    assert TASK.loss()(outputs, labels).item() == pytest.approx(each.mean().item())
    assert TASK.loss()(outputs, labels, 6).item() == pytest.approx(each.sum().item() / 6)
    train = Dataset.from_dict(
        {
            "text": ["Acme fell on Monday"],
            "label": [[{"start": 0, "end": 4, "label": 0}, {"start": 13, "end": 19, "label": 1}]],
        }
    )
    # Two words are outside, and one each begins a span of either type: each tag that is there weighs 4 / (3 * count).
    weighed = TASK.loss(train, "balanced")(outputs, labels)
    assert weighed.item() == pytest.approx(((each * torch.tensor([4 / 6, 4 / 3, 1])).sum() / 3).item())


# --- windows: no word is lost


def whole(text: str) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """A token for each three letters, between two special ones."""
    pieces = [(place, min(place + 3, end)) for start, end in spans.words(text) for place in range(start, end, 3)]
    return [1, *range(10, 10 + len(pieces)), 2], [(0, 0), *pieces, (0, 0)], [1, *[0] * len(pieces), 1]


@pytest.mark.parametrize("longest", [4, 7, 16, 400])
def test_each_word_is_answered_once(longest: int):
    text = " ".join(f"word{number:04}" for number in range(60)) + " end."
    ids, offsets, special = whole(text)
    made = windows.windows(ids, offsets, special, text, longest)
    assert sorted(word for window in made for word in window.words) == list(range(len(spans.words(text))))
    for window in made:
        assert len(window.ids) <= longest and window.ids[0] == 1 and window.ids[-1] == 2
        for word, place in zip(window.words, window.places, strict=True):
            assert offsets[ids.index(window.ids[place])][0] == spans.words(text)[word][0]
    assert (len(made) == 1) == (longest == 400)


@pytest.mark.parametrize("longest", [4, 7, 16, 40])
def test_a_word_is_answered_by_the_window_in_which_it_is_farthest_from_an_edge(longest: int):
    text = " ".join(f"word{number:04}" for number in range(60))
    ids, offsets, special = whole(text)
    made = windows.windows(ids, offsets, special, text, longest)
    first = windows.first_tokens(offsets[1:-1], spans.words(text))
    room = longest - 2
    starts = [place * max(1, room - room // windows.OVERLAP) for place in range(len(made))]
    for start, window in zip(starts, made, strict=True):
        for word in window.words:
            edges = {
                other: min(first[word] - other, other + room - 1 - first[word])
                for other in starts
                if other <= first[word] < other + room
            }
            assert edges[start] == max(edges.values())


def test_windows_of_a_very_long_text_take_no_quadratic_time():
    text = "." * 40_000
    ids, offsets = [1, *[9] * len(text), 2], [(0, 0), *((n, n + 1) for n in range(len(text))), (0, 0)]
    begun = time.process_time()
    windows.windows(ids, offsets, [1, *[0] * len(text), 1], text, 128)
    assert time.process_time() - begun < 5


def test_windows_are_joined_again():
    texts = ["one two three four five six seven eight", "nine"]
    made = [(number, window) for number, text in enumerate(texts) for window in windows.windows(*whole(text), text, 5)]
    # Each token's logits are its id.
    logits = [np.array(window.ids, np.float32)[:, None].repeat(3, 1) for _, window in made]
    table = TASK.placed(texts, made, logits)
    assert [len(rows) for rows in windows.split(table)] == [8, 1]
    first = [windows.first_tokens(whole(text)[1][1:-1], spans.words(text)) for text in texts]
    assert table[:, 1].tolist() == [10 + token for tokens in first for token in tokens.values()]


def desk() -> list[tuple[str, list[tuple[int, int, str]]]]:
    lines = (ROOT / "data/raw/desk.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        (row["text"], [(span["start"], span["end"], span["label"]) for span in row["entities"]])
        for row in map(json.loads, lines)
    ]


def tokenizer_of(texts: list[str], *added: str):
    """Pieces of bytes that are merged often, as real ones are: signs in a row are one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False)
    )
    made.add_tokens(list(added))
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=32)


def perfect(tokenizer: Any, rows: list[tuple[str, list]]) -> tuple[int, list[list[tuple]]]:
    """How many words begin in no token of their own, and the spans of a model that learnt what it was given."""
    texts = [text for text, _ in rows]
    task = Tagging(sorted({kind for _, found in rows for *_, kind in found}))
    tags = [task.tagged(text, found).tags for text, found in rows]
    encoded = features.encode_windows(tokenizer, texts, tags)
    logits = [np.eye(len(task.tags), dtype=np.float32)[np.maximum(labels, 0)] for labels in encoded["labels"][:]]
    served = task.served(texts, task.probabilities(task.gathered(encoded, logits)))
    shared = sum(role != windows.HEAD for row in encoded["roles"][:] for role in row)
    return shared, [[(span["start"], span["end"], span["label"]) for span in spans] for spans in served]


def test_a_perfect_model_gives_all_spans_of_desk_back_though_words_share_tokens():
    rows = desk()
    shared, found = perfect(tokenizer_of([text for text, _ in rows], " ($", " (-", "-$"), rows)
    assert shared > 300
    assert found == [sorted(spans) for _, spans in rows]


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("fell ($5m) on", ["$5m"]),
        ("the U.S. fell", ["U.S."]),
        ("the U.S. Bank fell", ["U.S. Bank"]),
        ("cut by 5%, again", ["5%"]),
        ('up (5%), said "Acme"', ["5%", "Acme"]),
        ("Acme's Day fell", ["Acme's Day"]),
        ("Acme\ufffd Corp fell", ["Acme\ufffd Corp"]),  # a character of which BERT's tokenizers make nothing
    ],
)
def test_words_that_share_a_token_have_tags_of_their_own(text: str, there: list[str]):
    tokenizer = tokenizer_of([text], " ($", "U.S.", "%,", "%),", ' "', "'s")
    if "\ufffd" in text:
        from tokenizers import normalizers

        tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\ufffd", "")
    rows = [(text, [(text.index(span), text.index(span) + len(span), "org") for span in there])]
    assert perfect(tokenizer, rows)[1] == [rows[0][1]]


def test_figures_while_training_are_those_of_the_words():
    """They come from the tokens' labels, of which one stands for all words that begin there."""
    rows = desk()[:100]
    tokenizer = tokenizer_of([text for text, _ in desk()])
    task = Tagging(sorted({kind for _, found in rows for *_, kind in found}))
    targets = [task.tagged(text, found) for text, found in rows]
    encoded = features.encode_windows(tokenizer, [text for text, _ in rows], [one.tags for one in targets])
    width = max(map(len, encoded["labels"][:]))
    labels = np.array([row + [windows.IGNORED] * (width - len(row)) for row in encoded["labels"][:]])
    logits = np.random.default_rng(0).normal(size=(*labels.shape, len(task.tags))).astype(np.float32)
    expected = task.score(targets, task.probabilities(task.gathered(encoded, logits)))
    assert task.score_encoded(encoded, labels, logits) == pytest.approx(expected)


def test_a_span_within_a_clause_in_chinese_can_be_answered():
    rows = [("东京电力上涨了。", [(0, 4, "org")])]
    assert perfect(tokenizer_of(["Acme fell"]), rows)[1] == [rows[0][1]]


def test_a_text_without_words_has_no_spans():
    chances = np.array([[0, 0.1, 0.9, 0, 0, 0], [0, 0.2, 0, 0.8, 0, 0], [2, 0.7, 0, 0, 0.3, 0]])
    found = TASK.served(["Acme Corp", " ", "fell"], chances)
    org = {"start": 0, "end": 9, "label": "org", "text": "Acme Corp", "score": 0.8}
    assert found == [[org], [], []]
    assert TASK.served([], TASK.placed([], [], [])) == []


# --- rows of a source


KIND = with_keys(DataConf, "tagging")


def conf(**keys: Any) -> DataConf:
    return KIND(**{"task": "tagging", "source": "it.jsonl", "text": "text", "label": "entities", **keys})


TEXT = "Acme fell on Monday"
FOUND = [[0, 4, "org"], [13, 19, "date"]]


@pytest.mark.parametrize(
    "value",
    [
        [{"start": 13, "end": 19, "label": "date"}, {"start": 0, "end": 4, "label": "org"}],
        [[0, 4, "org"], [13, 19, "date"]],  # Doccano, spaCy
        json.dumps(FOUND),
        [{"start": 0.0, "end": 4.0, "labels": ["org"]}, {"value": {"start": 13, "end": 19, "labels": ["date"]}}],
        [{"start_offset": 0, "end_offset": 4, "label": "org"}, {"start": 13, "end": 19, "type": "date"}],
    ],
)
def test_every_form_of_spans_is_read(value: object):
    assert json.loads(Tagging.target({"text": TEXT, "entities": value}, conf())) == FOUND


TOOLS = {
    "label-studio": (
        [
            {"data": {"text": TEXT}, "annotations": [{"id": 1, "result": [
                {"id": "a", "type": "labels", "value": {"start": 0, "end": 4, "text": "Acme", "labels": ["org"]}},
                {"id": "b", "type": "labels", "value": {"start": 13, "end": 19, "text": "Monday", "labels": ["date"]}},
                {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
                {"type": "choices", "value": {"choices": ["news"]}},
            ]}]},
            {"data": {"text": TEXT}, "annotations": [{"id": 2, "result": [
                {"id": "c", "type": "labels", "value": {"start": 0, "end": 4, "text": "Acme", "labels": ["org"]}},
            ]}]},
            {"data": {"text": TEXT}, "annotations": [{"id": 3, "result": []}]},
        ],
        {"text": "data.text", "label": "annotations.result"},
    ),
    "spacy": (
        [[TEXT, {"entities": FOUND}], [TEXT, {"entities": FOUND[:1]}], [TEXT, {"entities": []}]],
        {"columns": ["text", "made"], "label": "made.entities"},
    ),
    "datasets": (
        [{"text": TEXT, "entities": {"start": [s for s, _, _ in those], "end": [e for _, e, _ in those],
                                     "label": [kind for *_, kind in those]}} for those in (FOUND, FOUND[:1], [])],
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("ending", [".json", ".jsonl"])
def test_what_tools_export_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, ending: str):
    monkeypatch.chdir(tmp_path)
    rows, keys = TOOLS[tool]
    path = Path("data/raw/it" + ending)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(rows) if ending == ".json" else "".join(json.dumps(row) + "\n" for row in rows))
    table = find_source.read(conf(source=path.name, **keys), Path("c"), Tagging)["all"].table
    assert table.text.tolist() == [TEXT] * 3
    assert table.label.map(json.loads).tolist() == [FOUND, FOUND[:1], []]


@pytest.mark.parametrize(
    "value", [{"start": 0, "end": 4, "label": 0}, [0, 4, 0], {"start": 0, "end": 4, "labels": [0]}]
)
def test_a_type_may_be_the_number_0(value: object):
    assert json.loads(Tagging.target({"text": TEXT, "entities": [value]}, conf())) == [[0, 4, "0"]]


def test_a_span_may_have_its_text():
    """Spaces and line breaks are written in several ways."""
    span = {"start": 0, "end": 9, "label": "org", "text": "Acme\\nfell"}
    assert json.loads(Tagging.target({"text": TEXT, "entities": [span]}, conf())) == [[0, 9, "org"]]


def test_tokens_and_tags_are_read():
    record = {"tokens": ["Acme", "fell", "on", "Monday"], "tags": ["B-org", "O", "O", "B-date"]}
    keys = conf(text="tokens", label="tags")
    assert Tagging.as_text(record, "tokens") == TEXT
    assert json.loads(Tagging.target(record, keys)) == FOUND
    numbers = {**record, "tags": [1, 0, 0, 3]}
    named = conf(text="tokens", label="tags", labels={0: "O", 1: "B-org", 2: "I-org", 3: "B-date"})
    assert json.loads(Tagging.target(numbers, named)) == FOUND
    with pytest.raises(ValueError, match="'1' is no tag such as O, B-TYPE"):
        Tagging.target(numbers, keys)
    assert Tagging.target({"text": TEXT, "entities": None}, conf()) == "[]"
    # A text that looks like a list is a text.
    assert json.loads(Tagging.target({"text": "[5]", "entities": [[1, 2, "org"]]}, conf())) == [[1, 2, "org"]]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([[0, 99, "org"]], "org 0 to 99 is not in the text, which has 19"),
        ([[4, 4, "org"]], "org 4 to 4 is not in the text"),
        ([[0, 5, "org"]], r"\('Acme '\) begins or ends with a space"),
        ([[0, 9, "org"], [5, 9, "date"]], "date 5 to 9 lies within org 0 to 9"),
        ([[0, 9, "org"], [5, 12, "date"]], "date 5 to 12 overlaps org 0 to 9"),
        ([{"start": 0, "end": 4, "labels": ["org", "person"]}], "a span needs start, end and one label"),
        (["org"], "expected spans such as"),
        ("org", "expected a list of spans or tags, found text"),
        ([[0, 4, " "]], "a span needs start, end and one label"),
        ([[0, 10**400, "org"]], "org 0 to 10+ is not in the text"),
        ([[0, float("inf"), "org"]], "a span needs start, end and one label"),
        ([{"start": 5, "end": 9, "label": "org", "text": "Acme"}], "org 5 to 9 is 'fell' in the text, but 'Acme' in "),
        ([{"value": {"start": 0, "end": 6, "labels": ["date"], "text": "Monday"}}], "date 0 to 6 is 'Acme f' in the "),
    ],
)
def test_what_is_no_span(value: object, said: str):
    with pytest.raises(ValueError, match=f"column 'entities': .*{said}"):
        Tagging.target({"text": TEXT, "entities": value}, conf())


@pytest.mark.parametrize(
    ("tokens", "tags", "said"),
    [(["a", "b"], ["O"], "1 tags for 2 tokens"), (["a", " "], ["O", "O"], "token 2 is empty")],
)
def test_tokens_that_do_not_fit(tokens: list[str], tags: list[str], said: str):
    with pytest.raises(ValueError, match=said):
        Tagging.target({"tokens": tokens, "tags": tags}, conf(text="tokens", label="tags"))


@pytest.mark.parametrize(
    ("keys", "said"),
    [({"clean": ["lowercase"]}, "clean changes texts"), ({"text": ["a", "b"]}, "places in one column")],
)
def test_texts_stay_as_they_are(keys: dict, said: str):
    with pytest.raises(ValueError, match=said):
        conf(**keys)


def test_a_conll_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    raw = Path("data/raw")
    raw.mkdir(parents=True)
    lines = ["-DOCSTART- -X- O O", "", "Acme NNP I-NP I-ORG", "fell VBD I-VP O", "", "On O", "Monday B-DATE"]
    (raw / "it.conll").write_text("\n".join(lines), encoding="utf-8")
    read = find_source.read(conf(source="it.conll", text="tokens", label="tags", group="document"), Path("c"), Tagging)
    table = read["all"].table
    assert table.text.tolist() == ["Acme fell", "On Monday"] and table.group.nunique() == 1
    assert table.label.map(json.loads).tolist() == [[[0, 4, "ORG", "II"]], [[3, 9, "DATE"]]]
    (raw / "it.conll").write_text("Acme\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 1: expected a token and its tag"):
        find_source.read(conf(source="it.conll", text="tokens", label="tags"), Path("c"), Tagging)


def test_documents_of_different_conll_files_are_different(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    files = {side: Path("data/raw", side, "it.conll") for side in ("train", "validation", "test")}
    for side, path in files.items():
        path.parent.mkdir(parents=True)
        path.write_text(f"-DOCSTART- O\n\nAcme B-ORG\n{side} O\n\nBolt B-ORG\n{side} O\n", encoding="utf-8")
    source = {side: str(path) for side, path in files.items()}
    keys = conf(
        source=source, text="tokens", label="tags", group="document", splits={side: side for side in source},
        overlap="drop_from_train",
    )  # fmt: skip
    table, _ = preparing.read(keys, Path("c"), Tagging)
    assert table.groupby("split").group.nunique().tolist() == [1, 1, 1] and table.group.nunique() == 3
    kept, dropped = preparing.clean(table, keys)
    assert len(kept) == 6 and not dropped


def remarks_on(tags: list[str]) -> list[str]:
    """What is said of texts with these tags, the first token's `w1`."""
    records = [{"tokens": [f"w{n + 1}" for n in range(len(row.split()))], "tags": row.split()} for row in tags]
    keys = conf(text="tokens", label="tags")
    table = pd.DataFrame(
        {
            "row": range(1, len(tags) + 1),
            "text": [Tagging.as_text(record, "tokens") for record in records],
            "label": [Tagging.target(record, keys) for record in records],
        }
    )
    return Tagging.remarks(table, keys, lambda row: f"row {row.row}")


@pytest.mark.parametrize(
    "tags",
    [
        ["O I-a I-a B-a O", "I-b I-a", "I-a B-a B-a I-b"],  # IOB1: B only right behind a span of its type
        ["B-a I-a B-a B-b", "O B-a"],
        ["S-a B-a I-a E-a S-b S-b", "B-a E-a"],
        ["U-a B-a L-a U-b", "B-a I-a L-a"],
        ["O O"],
    ],
)
def test_tags_that_fit_their_scheme_are_not_remarked_on(tags: list[str]):
    assert remarks_on(tags) == []


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (
            ["B-a I-a O B-b", "B-a I-b O", "O I-a I-a"],
            "2 of 5 spans have tags that do not fit IOB2, .* b 3 to 5 .row 2",
        ),
        (["I-a I-a O I-b", "O B-a I-a"], "1 of 3 spans have tags that do not fit IOB1, .* a 3 to 8 .row 2"),
        (["S-a B-a E-a S-b", "O E-a O", "B-b I-b"], "2 of 5 spans have tags that do not fit BIOES, .* a 3 to 5 .row 2"),
        (
            ["S-a B-a E-a S-b", "O S-b I-b E-b", "B-b"],
            "2 of 6 spans have tags that do not fit BIOES, .* b 6 to 11 .row 2",
        ),
        (["U-a B-a L-a U-b", "B-a I-a O"], "1 of 4 spans have tags that do not fit BILOU, .* a 0 to 5 .row 2"),
    ],
)
def test_tags_that_do_not_fit_are_remarked_on(tags: list[str], said: str):
    [remark] = remarks_on(tags)
    assert re.match(f"{said}.*each is read as a span all the same: correct the tags where that is wrong$", remark)


def test_prepare_remarks_on_tags_and_edges(
    tmp_path: Path, tiny_model: Path, tiny_texts, monkeypatch: pytest.MonkeyPatch, capsys
):
    made = project_of(tmp_path / "project", tiny_model, tiny_texts)
    rows = made.folder / "data/raw/spans.jsonl"
    text = "AcmeSoft fell on Monday"
    row = {
        "text": text,
        "entities": [{"start": 0, "end": 4, "label": "org"}, {"start": 17, "end": 23, "label": "date"}],
    }
    rows.write_text(rows.read_text() + json.dumps(row) + "\n")
    made.prepare_here(monkeypatch)
    remark, *_ = made.profile()["remarks"]  # of spans; the others are on texts that nearly repeat
    assert re.match(r"1 of \d+ spans begin or end within a word: the first is org 0 to 4 \(", remark)
    assert "spans.jsonl row 113)" in remark and remark in capsys.readouterr().out
    names = ["Acme", "Bolt", "Zeta"]
    lines = [f"{name} B-org\n{verb} O\nw{place} O\n" for name in names for verb in "ab" for place in range(9)]
    (made.folder / "data/raw/it.conll").write_text("\n".join([*lines, "early O\nZeta I-org\n"]))
    data = {"task": "tagging", "source": "data/raw/it.conll", "text": "tokens", "label": "tags"}
    made.write_yaml("conf/data/tiny.yaml", data)
    made.prepare_here(monkeypatch)
    remark, *_ = made.profile()["remarks"]
    assert remark.startswith(
        "1 of 55 spans have tags that do not fit IOB2, in which a span begins with B: the first is "
    )
    assert "is org 6 to 10 (data/raw/it.conll row 55)" in remark and "Zeta" not in remark


def test_types_are_named_and_ordered():
    table = pd.DataFrame({"split": "all", "row": [1, 2], "label": [json.dumps(FOUND), "[]"]})
    check = lambda **keys: Tagging.check(table, conf(**keys), "conf.yaml", lambda row: f"row {row.row}")  # noqa: E731
    assert check()[0].labels == ["date", "org"]
    task, checked = check(labels={"org": "company", "date": "day"})
    assert task.labels == ["company", "day"] and checked.stratum.tolist() == [("company", "day"), ()]
    assert task.describe(checked.label) == {"labels": {"company": 1, "day": 1}, "without_span": 1}
    with pytest.raises(UserError, match="row 1 has a span of type 'date', which is not in the list \\(org\\)"):
        check(labels=["org"])


# --- what there is without fine-tuning


def test_the_dictionary_finds_the_longest_span_first():
    entries = {("acme",): "org", ("acme", "monday"): "date"}
    rows = words_in_text.look_up("Acme Monday, acme rose", entries, TASK)
    assert TASK.of_tags(rows.argmax(1)).spans == ((0, 2, "date"), (3, 4, "org"))


def test_a_shape_is_short():
    assert [words_in_text.shape(word) for word in ("Acme", "2024", "iPhone", "U.S.")] == ["Xx", "d", "xXx", "X.X."]


# --- adapters


def adapted(tiny_model: Path, peft_type: str, **fields: Any) -> None:
    from tunediff.models import loading
    from tunediff.models.adapters import adapt
    from tunediff.models.settings import ModelConf

    conf = ModelConf(name=str(tiny_model), max_length=16, head=["pooler"])
    tokenizer = loading.load_tokenizer(conf, WHERE)
    adapt(loading.load_pretrained(conf, WHERE, tokenizer, TASK, 17), tokenizer, peft_type, fields, conf, "entry")


def test_a_prompt_before_the_text_is_refused(tiny_model: Path):
    with pytest.raises(UserError, match="it would answer for its prompt as well"):
        adapted(tiny_model, "PROMPT_TUNING", num_virtual_tokens=4)
    adapted(tiny_model, "LORA", target_modules="all-linear")  # though a head for words has no pooler


# --- the whole way


NAMES, VERBS, DAYS = ["Acme", "Copper Hill", "Zeta"], ["rose", "fell", "closed"], ["Monday", "May 3", "Friday"]


def project_of(folder: Path, model: Path, texts: list[tuple[str, str]]) -> Project:
    made = make_project(folder, model, texts)
    rows = []
    for name, verb, day, end in itertools.product(NAMES, VERBS, [*DAYS, ""], ["", "after the report", "again"]):
        text = f"{name} {verb} on {day} {end}".strip() if day else f"shares of {name} {verb} {end}".strip()
        found = [{"start": text.index(part), "end": text.index(part) + len(part), "label": kind}
                 for part, kind in ((name, "org"), (day, "date")) if part]  # fmt: skip
        rows.append({"text": text, "entities": found})
    rows += [{"text": f"the index {verb}", "entities": []} for verb in VERBS]
    rows.append({"text": "Acme rose " * 20 + "on Monday", "entities": [{"start": 203, "end": 209, "label": "date"}]})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (made.folder / "data/raw/spans.jsonl").write_text(lines, encoding="utf-8")
    data = {"task": "tagging", "source": "data/raw/spans.jsonl", "text": "text", "label": "entities"}
    made.write_yaml("conf/data/tiny.yaml", data)
    return made


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_decoder: Path, tiny_texts) -> Project:
    """After `dvc repro` with `full`, `lora-v1`, a prompted method, further baselines, and an exported model."""
    made = project_of(tmp_path_factory.mktemp("tagging") / "project", tiny_model, tiny_texts)
    made.write_yaml("conf/model/tiny-decoder.yaml", {"name": str(tiny_decoder), "max_length": 64})
    params = made.read_yaml("params.yaml")
    made.edit_yaml(
        "params.yaml",
        prompts={**params["prompts"], "model": "tiny-decoder", "methods": ["few-shot"]},
        generate={"max_new_tokens": 8},
        baseline={**params["baseline"], "more": ["dictionary", "crf"]},
        train={**params["train"], "epochs": 4},
        train_lora={"v1": params["train_lora"]["v1"]},
        evaluate={**params["evaluate"], "methods": ["full", "lora-v1"]},
        training_rows={"shares": [0.5], "per_label": [], "methods": ["tfidf", "full"]},
        export={"methods": ["lora-v1"]},
    )
    made.commit("code")
    made.run("dvc", "repro", "-q")
    return made


METHODS = ("majority", "tfidf", "dictionary", "crf", "probe", "untrained", "full", "lora-v1")


@pytest.mark.slow
def test_every_stage_does_spans(finished: Project):
    for method in METHODS:
        assert set(finished.read_json(f"metrics/{method}.json")) == set(Tagging.figures)
        detail = finished.read_json(f"metrics/detail/{method}.json")
        assert set(detail["errors"]) == set(evidence.KINDS) and set(detail["labels"]) == set(TYPES)
    assert set(finished.read_json("metrics/few-shot.json")) == set(Tagging.figures) - {"loss"}  # no probabilities
    assert finished.read_json("metrics/majority.json")["f1"] == 0
    assert finished.read_json("metrics/crf.json")["f1"] > 0.9
    assert finished.read_json("metrics/dictionary.json")["f1"] > 0.9
    assert set(finished.read_json("metrics/training_rows/0.5.json")) == {"rows", "tfidf", "full"}
    # The figures of the file are those of the answers in it, and seqeval's.
    table = pd.read_parquet(finished.folder / "data/predictions/full.parquet")
    one = comparison.predictions_of(table, Tagging)
    written = finished.read_json("metrics/full.json")
    assert one.figures("f1")(one.counts.sum(1)).item() == pytest.approx(written["f1"], abs=1e-6)
    tags = [
        [[one.task.tags[number] for number in each.tags] for each in those] for those in (one.actual, one.predicted[0])
    ]
    with warnings.catch_warnings(action="ignore"):
        assert f1_score(*tags, mode="strict", scheme=IOB2) == pytest.approx(written["f1"], abs=1e-6)


@pytest.mark.slow
def test_the_page_and_the_card_say_what_there_is(finished: Project):
    report = (finished.folder / "plots/report.md").read_text(encoding="utf-8")
    assert "| method, found of those | not in train | once | 2 to 5 times | more often |" in report
    assert "Precision: of the spans that get the label" in report
    for heading in (
        "Types",
        "Label by label",
        "Errors by kind",
        "Seen or unseen in train",
        "Calibration",
        "What prompting takes",
    ):
        assert f"## {heading}\n" in report
    assert report.count("\n| few-shot |") > 3
    noise = pd.read_csv(finished.folder / "data/label_noise.csv")
    assert ("## Likely label noise\n" in report) == noise.suspected.any()
    errors = pd.read_csv(finished.folder / "plots/errors.csv", keep_default_na=False)
    assert list(errors) == ["text", "spans", "method", "answer", "kinds", "errors", "split", "row"]
    counts = finished.read_json("metrics/detail/full.json")["errors"]
    assert errors.errors[errors.method == "full"].sum() == sum(counts.values())
    card = (finished.folder / "models/full/README.md").read_text(encoding="utf-8")
    assert "Marks spans of 2 types in a text: date, org." in card
    assert 'pipeline("token-classification", "models/full")' in card and 'aggregation_strategy="first"' in card
    assert "pipeline_tag: token-classification" in card


@pytest.mark.slow
def test_predict_gives_spans_with_their_places(finished: Project):
    from transformers import AutoModelForTokenClassification, pipeline

    from tunediff.use.job_models import load

    text = "Acme rose " * 20 + "on Monday"  # longer than max_length: read in windows
    for name in ("full", "lora-v1", "lora-v1-exported"):
        rows = load([finished.folder / "models" / name], compare=False, accuracy=None).answer(
            [text, "", "the index fell"]
        )
        assert rows[1]["predicted"] == []
        for span in rows[0]["predicted"]:
            assert text[span["start"] : span["end"]] == span["text"] and 0 < span["score"] <= 1
    done = finished.run("python", "-m", "stages.predict", "--model", "models/full", "--compare", text)
    assert "original" in done.stdout
    finished.run("python", "-m", "stages.predict", "--model", "models/full", text, "fell", "--out", "spans.csv")
    cells = pd.read_csv(finished.folder / "spans.csv")
    names = [f"predicted_{name}" for name in ("start", "end", "label", "text", "score")]
    assert list(cells) == ["text", *names] and set(cells.text) == {text, "fell"}
    alone = load([folder := finished.folder / "models/full"], compare=False, accuracy=None).answer([text])
    own = cells[(cells.text == text) & cells.predicted_start.notna()]
    assert own.predicted_start.tolist() == [span["start"] for span in alone[0]["predicted"]]
    assert AutoModelForTokenClassification.from_pretrained(folder).config.id2label[0] == "O"
    pipeline("token-classification", str(folder), aggregation_strategy="first")("Acme rose on Monday")


@pytest.mark.slow
def test_answers_on_test_are_those_of_the_trained_folder(finished: Project):
    """`predict` reads texts by another way than `evaluate`, and gives the same spans."""
    from tunediff.use.job_models import load

    table = pd.read_parquet(finished.folder / "data/predictions/full.parquet")
    rows = load([finished.folder / "models/full"], compare=False, accuracy=None).answer(table.text.tolist())
    key = lambda spans: [(span["start"], span["end"], span["label"]) for span in spans]  # noqa: E731
    assert [key(row["predicted"]) for row in rows] == [key(spans) for spans in table.predicted]


@pytest.mark.slow
def test_the_service_answers_with_spans(finished: Project):
    import asyncio

    import httpx

    from tunediff.use import service_app, service_models
    from tunediff.use.service_hosts import Hosts

    async def ask() -> list[httpx.Response]:
        served = service_models.load([finished.folder / "models/full"])
        app = service_app.make_app(served, 8, Hosts("test"))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.app.router.lifespan_context(app.app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as http,
        ):
            predicted = await http.post("/predict", json={"texts": ["Acme rose on Monday", "fell"], "compare": True})
            return [predicted, await http.post("/explain", json={"text": "Acme rose"})]

    predicted, explained = asyncio.run(ask())
    assert [set(answer) for answer in predicted.json()["answers"]] == [{"spans"}, {"spans"}]
    assert explained.status_code == 422 and "full marks spans" in explained.json()["detail"]


def test_what_a_task_has_not_is_refused_in_one_line(tmp_path: Path, tiny_model: Path, tiny_texts):
    other = make_project(tmp_path / "other", tiny_model, tiny_texts)
    other.edit_yaml("params.yaml", baseline={**other.read_yaml("params.yaml")["baseline"], "more": ["crf"]})
    with pytest.raises(
        UserError, match=r"baseline\.more: classification has no baseline 'crf'; expected some of setfit"
    ):
        study.load(other.folder)
    made = project_of(tmp_path / "project", tiny_model, tiny_texts)
    rows = made.read_yaml("params.yaml")["training_rows"]
    made.edit_yaml("params.yaml", training_rows={**rows, "shares": [0.5], "methods": ["probe"]})
    with pytest.raises(UserError, match=r"training_rows\.methods: the task `tagging` has no probe to fit to some rows"):
        study.load(made.folder)


def test_prepare_makes_spans(tmp_path: Path, tiny_model: Path, tiny_texts, monkeypatch: pytest.MonkeyPatch):
    made = project_of(tmp_path / "project", tiny_model, tiny_texts)
    made.prepare_here(monkeypatch)
    train = load_split(made.folder / "data/prepared", "train")
    assert train.column_names == ["split", "row", "text", "tokens", "label"]  # without `group` in the data file
    task = Tagging.of(train.features)
    assert task.labels == ["date", "org"]
    assert made.profile()["splits"]["train"]["labels"].keys() == {"date", "org"}
    one = task.targets(train)[0]
    first, end, _ = one.spans[0]
    places = spans.words(train["text"][0])
    assert train["text"][0][places[first][0] : places[end - 1][1]] in [*NAMES, *DAYS]


def test_the_page_has_macro_figures_below_the_types():
    actual, answered = drawn(0)
    one, other = ([TASK.of_tags([TASK.tags.index(tag) for tag in row]) for row in rows] for rows in (actual, answered))
    predictions = {"crf": comparison.Predictions(pd.DataFrame(), TASK, one, [other])}
    section = page.types(SimpleNamespace(predictions=predictions, task=TASK), ["crf"])
    found, spans = figures(actual, answered), f"{sum(len(each.spans) for each in one):,}"
    assert section.table[3:] == [
        ["macro F1 of types", spans, f"{found['macro_f1']:.1%}"],
        ["macro precision of types", spans, f"{found['macro_precision']:.1%}"],
        ["macro recall of types", spans, f"{found['macro_recall']:.1%}"],
    ]


def test_marked_text_is_safe():
    made = page.marked("<b>Acme</b> fell", [{"start": 3, "end": 7, "label": "a<b"}], "there")
    assert str(made) == "<b>[Acme]a<b</b> fell"
    assert "<b>" not in made.__html__() and "a&lt;b" in made.__html__()


def test_an_excerpt_of_a_long_text_shows_its_first_error():
    text = "so " * 200 + "Acme fell"
    right = {"start": 0, "end": 2, "label": "org"}
    missed = {"start": 600, "end": 604, "label": "org"}
    begin = page.first_error([right, missed], [right])
    assert 300 < begin < 600 and page.first_error([right], []) == 0
    shown = page.marked(text, [right, missed], "there", begin)
    assert shown.startswith("…") and shown.endswith("[Acme]org fell") and len(shown) < 350
    assert "[so]" not in shown and shown.__html__().count("<span") == 1
