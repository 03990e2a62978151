"""A Hugging Face Hub on this machine: a server that speaks its protocol, and what it serves.

`Hub` answers what huggingface_hub, transformers and datasets ask when HF_ENDPOINT points to it, can fail on purpose and
keeps a log of the requests. `make_models` and `make_datasets` write small random checkpoints and made-up texts in the
files, architectures, tokenizers and columns of the repositories whose names they bear.
"""

import hashlib
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from socket import SHUT_RDWR
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# --- the server

LARGE = (".safetensors", ".parquet")  # the Hub keeps such files apart and redirects to another host
ID = r"(?P<id>[^/]+(?:/(?!(?:revision|tree|paths-info|resolve)/)[^/]+)?)"
API = re.compile(
    rf"/api/(?P<kind>models|datasets)/{ID}(?:/(?P<what>revision|tree|paths-info)/(?P<rev>[^/]+)(?P<path>/.*)?)?"
)
FILE = re.compile(rf"(?:/(?P<kind>datasets))?/{ID}/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
BLOB = re.compile(r"/blob/(?P<sha>[0-9a-f]{64})/.+")


@dataclass
class Repo:
    kind: str
    """`models` or `datasets`"""
    id: str
    commits: dict[str, Path] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def resolve(self, revision: str) -> str | None:
        commit = self.refs.get(revision, revision)
        return commit if commit in self.commits else None


@dataclass
class Fault:
    """What happens to the next `times` requests whose path has a match of the regular expression `path`."""

    path: str
    times: int
    status: int = 0
    """Answered instead; 0: the connection is cut after `after` bytes of a file."""
    after: int = 0


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    status: int
    sent: int
    """Bytes of the body, as far as it went."""


class Hub:
    """`with Hub() as hub:` serves on 127.0.0.1; `hub.url` is what HF_ENDPOINT wants."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.lock = threading.Lock()

    def __enter__(self) -> "Hub":
        self.server = Server(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": self}))
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def add(
        self, kind: str, id: str, folder: Path, *, alias: str = "", commit: str = "", ref: str = "main", gated=False
    ) -> str:
        """Put the files in `folder` on `ref` and return the commit; `alias` is a former name that redirects."""
        repo = self.repos.setdefault((kind, id), Repo(kind, id))
        repo.gated = gated
        names = [(name, digest(folder / name)) for name in files(folder)]
        commit = commit or hashlib.sha1(repr(names).encode()).hexdigest()
        repo.commits[commit] = folder
        repo.refs[ref] = commit
        if alias:
            self.aliases[kind, alias] = id
        return commit

    def sent(self, part: str) -> int:
        """Bytes sent from paths that contain `part`."""
        return sum(request.sent for request in self.requests if part in request.path)

    def fault(self, path: str, of_status: bool) -> Fault | None:
        """The fault due now, counted down."""
        with self.lock:
            for fault in self.faults:
                if fault.times and bool(fault.status) == of_status and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that has ended
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    timeout = 30

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        form = parse_qs(self.rfile.read(length).decode())
        path, _, query = self.path.partition("?")
        if fault := self.hub.fault(path, of_status=True):
            self.error(fault.status, "", "Service Unavailable")
        elif match := BLOB.fullmatch(path):
            self.blob(match["sha"])
        elif match := API.fullmatch(path):
            self.api(match, parse_qs(query), form)
        elif match := FILE.fullmatch(path):
            self.file(match)
        else:
            self.error(404, "", "Not Found")

    do_GET = do_HEAD = do_POST = do_CONNECT = answer

    # What the Hub answers

    def api(self, match: re.Match, query: dict[str, list[str]], form: dict[str, list[str]]) -> None:
        if not (repo := self.repo(match["kind"], match["id"])):
            return
        commit = self.commit(repo, unquote(match["rev"] or "main"))
        if not commit:
            return
        folder, path = repo.commits[commit], unquote(match["path"] or "").strip("/")
        if match["what"] == "tree":
            entries = tree(folder, path, query.get("recursive", ["false"])[0].lower() == "true")
            if not entries:
                return self.error(404, "EntryNotFound", f"{path} does not exist on '{unquote(match['rev'])}'", commit)
            self.json(entries)
        elif match["what"] == "paths-info":
            wanted = [entry for entry in tree(folder, "", True) if entry["path"] in form.get("paths", [])]
            self.json(wanted)
        else:
            self.json(
                {
                    "id": repo.id,
                    "sha": commit,
                    "private": False,
                    "gated": "auto" if repo.gated else False,
                    "tags": [],
                    "siblings": [{"rfilename": name} for name in files(folder)],
                }
            )

    def file(self, match: re.Match) -> None:
        kind = match["kind"] or "models"
        if not (repo := self.repo(kind, match["id"])):
            return
        if repo.gated:
            message = f"Access to {kind[:-1]} {repo.id} is restricted."
            if self.headers.get("Authorization"):
                return self.error(403, "GatedRepo", f"{message} Visit its page to ask for access.")
            return self.error(401, "GatedRepo", f"{message} You must have access to it and be authenticated.")
        if not (commit := self.commit(repo, unquote(match["rev"]))):
            return
        if unquote(match["path"]) not in files(repo.commits[commit]):
            return self.error(404, "EntryNotFound", "Entry not found", commit)
        path = repo.commits[commit] / unquote(match["path"])
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes", "ETag": f'"{digest(path)}"'}
        if path.suffix in LARGE:
            # By another name, so another host: the client must not send its token there.
            headers["Location"] = f"http://localhost:{self.hub.port}/blob/{digest(path)}/{path.name}"
            headers["X-Linked-Size"] = str(path.stat().st_size)
            headers["X-Linked-ETag"] = headers["ETag"]
            return self.send(302, b"Found", headers)
        self.content(path, headers)

    def blob(self, sha: str) -> None:
        for repo in self.hub.repos.values():
            for folder in repo.commits.values():
                for name in files(folder):
                    if digest(folder / name) == sha:
                        return self.content(folder / name, {"ETag": f'"{sha}"', "Accept-Ranges": "bytes"})
        self.error(404, "", "No such blob")

    def repo(self, kind: str, id: str) -> Repo | None:
        if new := self.hub.aliases.get((kind, id)):
            self.send(307, b"Temporary Redirect", {"Location": self.path.replace(id, new, 1)})
            return None
        repo = self.hub.repos.get((kind, id))
        if repo is None and self.headers.get("Authorization"):
            self.error(404, "RepoNotFound", "Repository not found")
        elif repo is None:  # it could be a private one; of an https endpoint, 401 alone means this to the client
            self.error(401, "RepoNotFound", "Invalid username or password.")
        return repo

    def commit(self, repo: Repo, revision: str) -> str | None:
        commit = repo.resolve(revision)
        if not commit:
            self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # How it goes over the wire

    def content(self, path: Path, headers: dict[str, str]) -> None:
        body, status = path.read_bytes(), 200
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            size, start = len(body), int(match[1])
            end = min(int(match[2] or size - 1), size - 1)
            if start >= size:
                return self.send(416, b"", {"Content-Range": f"bytes */{size}"})
            body, status = body[start : end + 1], 206
            headers = {**headers, "Content-Range": f"bytes {start}-{end}/{size}"}
        fault = self.hub.fault(self.path, of_status=False) if self.command == "GET" else None
        self.send(status, body, headers, fault.after if fault else None)

    def json(self, value: object) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def error(self, status: int, code: str, message: str, commit: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message, "X-Repo-Commit": commit}
        self.send(status, json.dumps({"error": message}).encode(), {k: v for k, v in headers.items() if v})

    def send(self, status: int, body: bytes, headers: dict[str, str], cut_after: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        body = b"" if self.command == "HEAD" else body[:cut_after]
        with self.hub.lock:
            self.hub.requests.append(Request(self.command, self.path, status, len(body)))
        self.wfile.write(body)
        if cut_after is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr: `hub.requests` is the log."""


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@cache
def digest(path: Path) -> str:
    """What the Hub gives as ETag: the SHA-256 of a large file, git's hash of any other. Served files never change."""
    content = path.read_bytes()
    if path.suffix in LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def tree(folder: Path, path: str, recursive: bool) -> list[dict]:
    entries = {}
    for name in files(folder):
        if path and name != path and not name.startswith(f"{path}/"):
            continue
        below = name.removeprefix(path).strip("/").split("/")
        for depth in range(1, len(below)):
            parent = "/".join(filter(None, [path, *below[:depth]]))
            entries[parent] = {"type": "directory", "path": parent, "oid": "0" * 40, "size": 0}
        size = (folder / name).stat().st_size
        entries[name] = {"type": "file", "path": name, "oid": digest(folder / name), "size": size}
        if name.endswith(LARGE):
            entries[name]["lfs"] = {"oid": digest(folder / name), "size": size, "pointerSize": 134}
    return [entry for name, entry in entries.items() if recursive or "/" not in name.removeprefix(path).strip("/")]


# --- texts

ENGLISH = [
    f"{who} {what} {when}"
    for who, what, when in product(
        ["The old bridge", "Our neighbour", "A small Dublin bakery", "The night train"],
        ["opened its doors", "was painted green", "ran out of flour", "reached Vienna"],
        ["before dawn.", "in the rain.", "without a word.", "on Friday."],
    )
]
OTHER_LANGUAGES = [
    "Der Nachtzug erreichte Wien im Regen.",
    "Unsere Bäckerei öffnet vor Sonnenaufgang.",
    "La petite boulangerie a rouvert vendredi.",
    "El puente viejo se pintó de verde.",
    "Старый мост покрасили в зелёный цвет.",
    "夜行列車は雨の中を走った。",
]

# --- checkpoints

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DISTILBERT = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}
MODERNBERT = {
    **SIZE,
    "layer_types": ["full_attention", "sliding_attention"],
    # Here the special tokens come first; in the true one, last.
    "pad_token_id": 1,
    **{f"{name}_token_id": 2 for name in ("bos", "cls")},
    **{f"{name}_token_id": 3 for name in ("eos", "sep")},
}
XLM_ROBERTA = {**SIZE, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}


@dataclass(frozen=True)
class Model:
    alias: str
    """The former id, which redirects to this one."""
    saved: str
    """Class in transformers that the Hub's weights were saved from."""
    config: dict
    tokenizer: str
    """Function below."""


MODELS = {
    "distilbert/distilbert-base-cased": Model("distilbert-base-cased", "DistilBertForMaskedLM", DISTILBERT, "cased"),
    "distilbert/distilbert-base-uncased": Model(
        "distilbert-base-uncased", "DistilBertForMaskedLM", DISTILBERT, "uncased"
    ),
    "google-bert/bert-base-uncased": Model("bert-base-uncased", "BertForPreTraining", SIZE, "uncased"),
    "openai-community/gpt2": Model("gpt2", "GPT2Model", {"n_embd": 32, "n_layer": 2, "n_head": 2}, "gpt2"),
    "answerdotai/ModernBERT-base": Model("", "ModernBertForMaskedLM", MODERNBERT, "modernbert"),
    "FacebookAI/xlm-roberta-base": Model("xlm-roberta-base", "XLMRobertaForMaskedLM", XLM_ROBERTA, "xlm_roberta"),
}


def make_models(root: Path, texts: list[str]) -> dict[str, Path]:
    """A folder for each id of MODELS: random weights, and a tokenizer of its kind that has learnt `texts`."""
    import transformers

    folders = {}
    for seed, (id, recipe) in enumerate(MODELS.items()):
        folder = folders[id] = root / id
        tokenizer, tokenizer_config = globals()[recipe.tokenizer](texts)
        vocabulary = tokenizer.get_vocab_size()
        saved = getattr(transformers, recipe.saved)
        special = {"bos_token_id": vocabulary - 1, "eos_token_id": vocabulary - 1} if "GPT2" in recipe.saved else {}
        transformers.set_seed(seed)
        # With the usual spread of 0.02, two layers hardly tell one text from another.
        saved(
            saved.config_class(vocab_size=vocabulary, initializer_range=0.2, **special, **recipe.config)
        ).save_pretrained(folder)
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
        for name, content in former_files(folder / "tokenizer.json").items():
            (folder / name).write_text(content, encoding="utf-8")
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nRandom weights, for tests.\n")
    return folders


def cased(texts: list[str]) -> "tuple[Tokenizer, dict]":
    return wordpiece(texts, lowercase=False)


def uncased(texts: list[str]) -> "tuple[Tokenizer, dict]":
    return wordpiece(texts, lowercase=True)


def wordpiece(texts: list[str], lowercase: bool) -> "tuple[Tokenizer, dict]":
    """BERT's: `##` pieces, [CLS] and [SEP]."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer, {"do_lower_case": lowercase, "model_max_length": 512}


def gpt2(texts: list[str]) -> "tuple[Tokenizer, dict]":
    """GPT-2's: nothing around a text, and no padding token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens(["<|endoftext|>"])  # the last one, as there
    return tokenizer, {"model_max_length": 1024}


def modernbert(texts: list[str]) -> "tuple[Tokenizer, dict]":
    """ModernBERT's: GPT-2's pieces with BERT's special tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    return tokenizer, {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 8192,
        "model_input_names": ["input_ids", "attention_mask"],
        **names,
    }


def xlm_roberta(texts: list[str]) -> "tuple[Tokenizer, dict]":
    """XLM-RoBERTa's: SentencePiece's unigrams, `▁` for a space."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        texts,
        trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer, {"model_max_length": 512}


def former_files(tokenizer: Path) -> dict[str, str]:
    """What held the vocabulary before tokenizer.json, and still lies beside it."""
    model = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]
    match model["type"]:
        case "WordPiece":
            return {"vocab.txt": "".join(f"{token}\n" for token in sorted(model["vocab"], key=model["vocab"].get))}
        case "BPE":
            merges = "".join(f"{' '.join(pair)}\n" for pair in model["merges"])
            return {"vocab.json": json.dumps(model["vocab"]), "merges.txt": f"#version: 0.2\n{merges}"}
    return {}


# --- data sets

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
    "SetFit/bbc-news": "",
    "fancyzhx/amazon_polarity": "amazon_polarity",
    "stanfordnlp/imdb": "imdb",
}
SHARD_ROWS, GROUP_ROWS = 4000, 100


def make_datasets(root: Path) -> dict[str, Path]:
    """A folder for each id of DATASETS, with the files, splits and columns that it has on the Hub."""
    folders = {id: root / id for id in DATASETS}
    for folder in folders.values():
        folder.mkdir(parents=True)
    twitter(folders["zeroshot/twitter-financial-news-sentiment"])
    bbc(folders["SetFit/bbc-news"])
    amazon(folders["fancyzhx/amazon_polarity"])
    imdb(folders["stanfordnlp/imdb"])
    return folders


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
