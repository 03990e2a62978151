"""A model is tried before it is trained: how long a text may be, and what its tokenizer must have."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import WHERE

from tunediff.core.errors import UserError
from tunediff.models import loading, trial
from tunediff.models.adapters import adapt
from tunediff.models.settings import Adapted
from tunediff.tasks.classification import Classification

PROMPT = {"num_virtual_tokens": 8}


def check(folder: Path, max_length: int, prompt: str | None = None) -> None:
    conf = Adapted(name=str(folder), max_length=max_length)
    tokenizer = loading.load_tokenizer(conf, WHERE)
    model = loading.load_pretrained(conf, WHERE, tokenizer, Classification(["down", "up"]), 17)
    if prompt:
        model = adapt(model, tokenizer, prompt, dict(PROMPT), conf, "entry")
    before = torch.get_rng_state()
    trial.check(model, tokenizer, conf, WHERE)
    assert torch.equal(torch.get_rng_state(), before), "the training would begin with other random numbers"


def test_roberta_reads_fewer_tokens_than_its_config_says(checkpoints: dict[str, Path]):
    """It counts positions from the one after the padding's."""
    folder = checkpoints["FacebookAI/xlm-roberta-base"]
    config = json.loads((folder / "config.json").read_text())
    longest = config["max_position_embeddings"] - config["pad_token_id"] - 1
    check(folder, longest)
    with pytest.raises(
        UserError, match=rf"tiny.yaml: max_length: {longest + 1}, but .* reads at most {longest} tokens"
    ):
        check(folder, longest + 1)


@pytest.mark.parametrize("prompt", ["PROMPT_TUNING", "PREFIX_TUNING"])
@pytest.mark.parametrize(("model", "longest"), [("tiny_model", 64), ("tiny_decoder", 512)])
def test_a_prompt_takes_some_of_the_tokens(request: pytest.FixtureRequest, model: str, longest: int, prompt: str):
    folder = request.getfixturevalue(model)
    check(folder, longest)
    check(folder, longest - 8, prompt)
    with pytest.raises(UserError, match=rf"reads at most {longest - 8} tokens beside a prompt of 8"):
        check(folder, longest - 7, prompt)


def test_a_tokenizer_without_padding_and_end_says_what_to_add(tiny_decoder: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_decoder, tmp_path / "llama")
    file = folder / "tokenizer_config.json"
    values = {
        key: value for key, value in json.loads(file.read_text()).items() if key not in ("pad_token", "eos_token")
    }
    file.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r'tiny.yaml: name: .* has no token for padding.* add "pad_token"') as refused:
        loading.load_tokenizer(Adapted(name=str(folder)), WHERE)
    assert len(refused.value.lines) == 1
