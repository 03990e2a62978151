"""Data sets for the Hub of hub.py: made-up texts.

`make_datasets` writes them in the files, splits and columns of the repositories whose names they bear.
"""

import hashlib
import json
from itertools import product
from pathlib import Path

TICKERS = ["$ABCD", "$EFG", "$HIJK", "$LMN", "$OPQ", "$RSTU"]
TWEETS = {
    "bearish": ["cut to sell as orders dry up", "slides after a weak outlook", "falls short on margins"],
    "bullish": ["raised to buy on strong orders", "jumps after a rosy outlook", "beats hopes on margins"],
    "neutral": ["will report on Tuesday", "names a new head of sales", "moves its head office"],
}
NEWS = {
    "tech": "The phone maker showed a chip that folds maps in",
    "business": "The brewer said that its yearly profit doubled in",
    "sport": "The goalkeeper saved two penalties and won the cup in",
    "entertainment": "The singer will play a lost opera by candlelight in",
    "politics": "The minister promised a vote on the bus lanes of",
}
NAMES = {"PER": "Ada Vale", "ORG": "Acme", "LOC": "New Leith", "MISC": "Dutch"}
FINDS = {"corporation": "Acme", "group": "Band of Two", "location": "New Leith", "person": "Ada Vale"}
FEELINGS = {"joy": "What a lovely day in", "anger": "They cancelled my train to", "neutral": "The bus stops in"}
TOWNS = ["Cork", "Leith", "Hull", "Truro", "Derby", "Bangor", "Ripon", "Wells"]
REVIEWS = {
    "negative": ("Broke at once", "The handle came off on the first day, the box was torn and nobody wrote back"),
    "positive": ("Worth it", "It has sat on our kitchen table since spring, does what it should and looks lovely"),
}
FILMS = {
    "neg": "Two hours of rain and shouting; I left before the ferry sank, and so did the others in row",
    "pos": "A warm, funny film about a lighthouse; the last ten minutes had all of us in tears in row",
}
DATASETS = {  # the id on the Hub, and the former one that redirects there
    "zeroshot/twitter-financial-news-sentiment": "",
    "eriktks/conll2003": "conll2003",
    "leondz/wnut_17": "wnut_17",
    "google-research-datasets/go_emotions": "go_emotions",
    "SetFit/bbc-news": "",
    "fancyzhx/amazon_polarity": "amazon_polarity",
    "stanfordnlp/imdb": "imdb",
    "knkarthick/samsum": "",
    "EdinburghNLP/xsum": "",
    "bentrevett/multi30k": "",
    "databricks/databricks-dolly-15k": "",
    "Helsinki-NLP/opus_books": "opus_books",
}
SHARD_ROWS, GROUP_ROWS = 4000, 100


def make_datasets(root: Path) -> dict[str, Path]:
    """A folder for each id of DATASETS, with the files, splits and columns that it has on the Hub."""
    folders = {id: root / id for id in DATASETS}
    for folder in folders.values():
        folder.mkdir(parents=True)
    names(folders["eriktks/conll2003"], "conll2003", NAMES, ["pos_tags", "chunk_tags"])
    names(folders["leondz/wnut_17"], "wnut_17", FINDS, [])
    emotions(folders["google-research-datasets/go_emotions"])
    twitter(folders["zeroshot/twitter-financial-news-sentiment"])
    bbc(folders["SetFit/bbc-news"])
    amazon(folders["fancyzhx/amazon_polarity"])
    imdb(folders["stanfordnlp/imdb"])
    samsum(folders["knkarthick/samsum"])
    xsum(folders["EdinburghNLP/xsum"])
    multi30k(folders["bentrevett/multi30k"])
    dolly(folders["databricks/databricks-dolly-15k"])
    opus_books(folders["Helsinki-NLP/opus_books"])
    return folders


def names(folder: Path, config: str, kinds: dict[str, str], others: list[str]) -> None:
    """Tokens and tags that are numbers, CONFIG/SPLIT/0000.parquet without a card: as the Hub converts a script."""
    from datasets import ClassLabel, Dataset, Features, List, Value

    tags = ["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]
    numbers = {"ner_tags": List(ClassLabel(names=tags)), **dict.fromkeys(others, List(ClassLabel(names=["X", "Y"])))}
    features = Features({"id": Value("string"), "tokens": List(Value("string")), **numbers})
    rows = []
    for town, kind in product(TOWNS, [*kinds, ""]):
        own = kinds.get(kind, "").split()
        tokens = ["At", town, "came", *own, "."]
        marks = [tags.index(f"{'I' if place else 'B'}-{kind}") for place in range(len(own))]
        extra = dict.fromkeys(others, [0] * len(tokens))
        rows.append({"id": str(len(rows)), "tokens": tokens, "ner_tags": [0, 0, 0, *marks, 0], **extra})
    for split, part in (("train", rows[::2]), ("validation", rows[1::4]), ("test", rows[3::4])):
        (folder / config / split).mkdir(parents=True)
        Dataset.from_list(part, features=features).to_parquet(folder / config / split / "0000.parquet")


def emotions(folder: Path) -> None:
    """Two parts, of which `simplified` is the one that is meant: lists of numbers, in Parquet with a card."""
    import yaml
    from datasets import ClassLabel, Dataset, Features, List, Value

    features = Features(
        {"text": Value("string"), "labels": List(ClassLabel(names=list(FEELINGS))), "id": Value("string")}
    )
    numbers = [[0], [1], [2], [0, 1], []]
    told = list(FEELINGS.values())
    rows = [
        {"text": " ".join(f"{told[label]} {town}." for label in labels) or f"{town}?", "labels": labels, "id": town}
        for town, labels in product(TOWNS, numbers)
    ]
    parts = {"simplified": {"train": rows[::2], "validation": rows[1::4], "test": rows[3::4]}, "raw": {"train": rows}}
    for config, splits in parts.items():
        for split, part in splits.items():
            path = folder / config / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(exist_ok=True)
            Dataset.from_list(part, features=features).to_parquet(path)
    configs = [
        {"config_name": config, "data_files": [{"split": split, "path": f"{config}/{split}-*"} for split in splits]}
        for config, splits in parts.items()
    ]
    configs[0]["default"] = True
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs}, sort_keys=False)}---\nMade up.\n")


def twitter(folder: Path) -> None:
    """Two CSV files whose names tell the split; labels are numbers without names."""
    import pandas as pd

    rows = [
        (f"{ticker} - {what}, they say in {town}: https://t.example/{town}", label)
        for ticker, town in product(TICKERS, TOWNS)
        for label, texts in enumerate(TWEETS.values())
        for what in texts
    ]
    pd.DataFrame(rows[90:], columns=["text", "label"]).to_csv(folder / "sent_train.csv", index=False)
    pd.DataFrame(rows[:90], columns=["text", "label"]).to_csv(folder / "sent_valid.csv", index=False)
    (folder / "README.md").write_text(
        "---\nlicense: mit\ntask_categories:\n- text-classification\nlanguage:\n- en\n---\nMade up, for tests.\n"
    )


def bbc(folder: Path) -> None:
    """JSON lines with a number and a name for each label; the card says nothing about the files."""
    rows = [
        {"text": f"{what} {town}, {year}.", "label": label, "label_text": name}
        for town, year in product(TOWNS, ["2003", "2004", "2005"])
        for label, (name, what) in enumerate(NEWS.items())
    ]
    for name, part in (("train", rows[30:]), ("test", rows[:30])):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in part))


def amazon(folder: Path) -> None:
    """Parquet in several shards, many row groups in each; sorted by label, the worst case for one who reads a part."""
    splits = {}
    for split, shards in (("train", 2), ("test", 1)):
        rows = shards * SHARD_ROWS
        labels = sorted(i % 2 for i in range(rows))
        titles, contents = zip(*(REVIEWS[list(REVIEWS)[label]] for label in labels), strict=True)
        numbers = [hashlib.sha256(f"{split} {i}".encode()).hexdigest() for i in range(rows)]  # hard to compress
        splits[split] = {
            "label": labels,
            "title": [f"{title} ({i})" for i, title in enumerate(titles, 1)],
            "content": [f"{text}; my order was {number}." for text, number in zip(contents, numbers, strict=True)],
        }
    write_parquet(folder, "amazon_polarity", splits, list(REVIEWS), ["label", "title", "content"], {"train": 2})


def imdb(folder: Path) -> None:
    """Sorted by label, as there, with a split that has none."""
    names = list(FILMS)

    def split(first: int, rows: int) -> dict[str, list]:
        labels = sorted(i % 2 for i in range(rows))
        return {"text": [f"{FILMS[names[label]]} {first + i}." for i, label in enumerate(labels)], "label": labels}

    splits = {"train": split(0, 80), "test": split(100, 40), "unsupervised": split(200, 40)}
    splits["unsupervised"]["label"] = [-1] * 40
    write_parquet(folder, "plain_text", splits, names, ["text", "label"], {})


# Rows of each split in the data sets of texts to be written.
WRITTEN = {"train": 40, "validation": 10, "test": 12}


def samsum(folder: Path) -> None:
    """CSV with line breaks inside of quotes."""
    import pandas as pd

    for name, rows in WRITTEN.items():
        chats = [f"Ann: Are you in {TOWNS[i % 8]}?\r\nBob: Yes, since {name} {i} :)" for i in range(rows)]
        table = {"id": range(rows), "dialogue": chats, "summary": [f"Bob is in {TOWNS[i % 8]}." for i in range(rows)]}
        pd.DataFrame(table).to_csv(folder / f"{name}.csv", index=False)


def xsum(folder: Path) -> None:
    splits = {
        name: {
            "document": [f"The bridge in {TOWNS[i % 8]} is shut.\nIt is number {i} of {name}." for i in range(rows)],
            "summary": [f"A bridge in {TOWNS[i % 8]} has been shut." for i in range(rows)],
            "id": [str(i) for i in range(rows)],
        }
        for name, rows in WRITTEN.items()
    }
    write_parquet(folder, "default", splits, [], ["document", "summary", "id"], {})


def multi30k(folder: Path) -> None:
    """JSON lines; the file of the split `validation` is named `val`."""
    for name, rows in WRITTEN.items():
        lines = [
            {"en": f"A man walks in {TOWNS[i % 8]}, {name} {i}.", "de": f"Ein Mann geht in {TOWNS[i % 8]}, {name} {i}."}
            for i in range(rows)
        ]
        path = folder / f"{'val' if name == 'validation' else name}.jsonl"
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def dolly(folder: Path) -> None:
    """One file, whose name tells no split; many rows have no context."""
    lines = [
        {
            "instruction": f"What is number {i}?",
            "context": "" if i % 3 else f"Number {i} is a town.",
            "response": f"A town like {TOWNS[i % 8]}.",
            "category": "open_qa",
        }
        for i in range(60)
    ]
    (folder / "databricks-dolly-15k.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def opus_books(folder: Path) -> None:
    """A configuration for each pair of languages, none of which is the default; both texts in one column."""
    import yaml
    from datasets import Dataset, Features, Translation, Value

    said = {"en": "The house in {} was empty.", "fr": "La maison de {} était vide.", "de": "Das Haus in {} stand leer."}
    infos, configs = [], []
    for first, second in (("de", "en"), ("en", "fr")):
        rows = [
            {"id": str(i), "translation": {name: f"{said[name].format(TOWNS[i % 8])} {i}" for name in (first, second)}}
            for i in range(60)
        ]
        features = Features({"id": Value("string"), "translation": Translation(languages=[first, second])})
        config = f"{first}-{second}"
        table = Dataset.from_list(rows, features=features)
        (folder / config).mkdir()
        table.to_parquet(folder / config / "train-00000-of-00001.parquet", batch_size=GROUP_ROWS)
        split = {"name": "train", "num_bytes": table.data.nbytes, "num_examples": len(table)}
        infos.append({"config_name": config, "features": features._to_yaml_list(), "splits": [split]})
        configs.append({"config_name": config, "data_files": [{"split": "train", "path": f"{config}/train-*"}]})
    card = {"dataset_info": infos, "configs": configs}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card, sort_keys=False)}---\nMade up, for tests.\n")


def write_parquet(
    folder: Path, config: str, splits: dict[str, dict], labels: list[str], columns: list[str], shards: dict[str, int]
) -> None:
    """FOLDER/CONFIG/SPLIT-00000-of-00001.parquet, and a card that lists features, sizes and files."""
    import yaml
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({name: ClassLabel(names=labels) if name == "label" else Value("string") for name in columns})
    sizes = []
    for split, values in splits.items():
        table = Dataset.from_dict({name: values[name] for name in columns}, features=features)
        count = shards.get(split, 1)
        for shard in range(count):
            path = folder / config / f"{split}-{shard:05}-of-{count:05}.parquet"
            path.parent.mkdir(exist_ok=True)
            table.shard(count, shard).to_parquet(path, batch_size=GROUP_ROWS)
        sizes.append({"name": split, "num_bytes": table.data.nbytes, "num_examples": len(table)})
    info = {"config_name": config, "features": features._to_yaml_list(), "splits": sizes}
    data_files = [{"split": split, "path": f"{config}/{split}-*"} for split in splits]
    card = {"dataset_info": info, "configs": [{"config_name": config, "data_files": data_files, "default": True}]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card, sort_keys=False)}---\nMade up, for tests.\n")
