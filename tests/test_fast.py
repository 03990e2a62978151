"""What makes training faster leaves its result."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch.nn.functional import dropout, scaled_dot_product_attention
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedModel,
)

from tunediff.models.inference import cast_frozen
from tunediff.training import fast

IDS = [[2, 7, 9, 11, 3], [2, 30, 7, 3], [2, 9, 9, 41, 5, 3]]
SPLIT = Dataset.from_dict({"input_ids": IDS})
SMALL = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}


@pytest.fixture(autouse=True)
def on_cpu():
    fast.on_cpu()


def bert() -> PreTrainedModel:
    torch.manual_seed(5)
    return AutoModelForSequenceClassification.from_config(BertConfig(vocab_size=60, num_labels=3, **SMALL))


def gpt2() -> PreTrainedModel:
    torch.manual_seed(5)
    config = GPT2Config(vocab_size=60, n_embd=16, n_head=2, n_layer=2, num_labels=3, pad_token_id=0)
    return AutoModelForSequenceClassification.from_config(config)


def train(model: PreTrainedModel, steps: int = 12) -> list[torch.Tensor]:
    """The losses."""
    trained = [weights for weights in model.parameters() if weights.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.1, fused=True), []
    batch = {
        "input_ids": torch.tensor([ids + [0] * (6 - len(ids)) for ids in IDS]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (6 - len(ids)) for ids in IDS]),
        "labels": torch.tensor([0, 1, 2]),
    }
    model.train()
    torch.manual_seed(1)
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return losses


@pytest.mark.parametrize("make", [bert, gpt2])
def test_tokens_that_are_not_met_end_as_if_they_had_been_trained(make):
    plain, few = make(), make()
    losses = train(plain)
    with fast.seen_tokens(few, 0, [SPLIT]):
        assert few.get_input_embeddings().weight.shape == (10, 16)  # of nine tokens, and the one that no token has
        assert train(few) == losses
    for (name, weights), (_, expected) in zip(few.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(weights, expected, rtol=1e-6, atol=1e-7, msg=name)
    rest = few.get_input_embeddings().weight[50] / make().get_input_embeddings().weight[50]
    torch.testing.assert_close(rest, torch.full((16,), (1 - 1e-2 * 0.1) ** 12))


def llama(kind: type) -> PreTrainedModel:
    """With tied embeddings, as small decoders have them."""
    torch.manual_seed(5)
    return kind.from_config(LlamaConfig(vocab_size=60, num_labels=3, pad_token_id=0, tie_word_embeddings=True, **SMALL))


def test_embeddings_that_are_tied_are_cut_only_where_no_output_reads_them():
    """A decoder's classifier has none, whatever its config says; of a language model each token is an answer."""
    classifier, generator = llama(AutoModelForSequenceClassification), llama(AutoModelForCausalLM)
    whole = classifier.get_input_embeddings().weight.clone()
    with fast.seen_tokens(classifier, 0, [SPLIT]), fast.seen_tokens(generator, 0, [SPLIT]):
        assert classifier.get_input_embeddings().weight.shape == (10, 16)
        assert generator.get_input_embeddings().weight.shape == (60, 16)
        assert generator.lm_head.weight is generator.get_input_embeddings().weight
    assert torch.equal(classifier.get_input_embeddings().weight, whole)


def test_an_embedding_that_is_not_trained_stays_whole():
    model = bert()
    model.get_input_embeddings().weight.requires_grad = False
    with fast.seen_tokens(model, 0, [SPLIT]):
        assert model.get_input_embeddings().weight.shape == (60, 16)


@pytest.mark.parametrize(("make", "dora", "cast"), [(bert, False, 12), (gpt2, False, 8), (bert, True, 0)])
def test_frozen_matrices_are_cast_once_and_the_result_is_the_same(make, dora: bool, cast: int):
    config = LoraConfig("SEQ_CLS", r=2, target_modules="all-linear", use_dora=dora, fan_in_fan_out=make is gpt2)
    torch.manual_seed(2)
    plain = get_peft_model(make(), config)
    torch.manual_seed(2)
    model = get_peft_model(make(), config)
    cast_frozen(model, "bf16")
    assert sum(weights.dtype == torch.bfloat16 for weights in model.parameters()) >= cast
    assert train(model) == train(plain)


def test_what_plain_lora_reads_is_not_cast_back():
    model = get_peft_model(bert(), LoraConfig("SEQ_CLS", r=2, lora_dropout=0.5, target_modules="all-linear"))
    read = []
    for name, layer in model.named_modules():
        if name.endswith(".output.dense.lora_dropout.default"):  # which a product gives what it reads
            layer.register_forward_hook(lambda module, inputs, output: read.append(inputs[0].dtype))
    cast_frozen(model, "bf16")
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.tensor(IDS[:1]))
    assert read == [torch.bfloat16] * 4


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_leaves_out_the_share_that_it_is_to_and_scales_the_rest(p: float, dtype: torch.dtype):
    torch.manual_seed(3)
    ones = torch.ones(1001, 999, dtype=dtype)
    once, again = dropout(ones, p), dropout(ones, p)
    assert set(once.unique().tolist()) == {0, (torch.tensor(1.0, dtype=dtype) / (1 - p)).item()}
    left_out = (once == 0).float()
    for shares in (left_out.mean(), left_out.mean(0), left_out.mean(1)):
        assert (shares - p).abs().max() < 6 * (p * (1 - p) / (left_out.numel() / shares.numel())) ** 0.5
    assert ((once == 0) & (again == 0)).float().mean() == pytest.approx(p * p, abs=2e-3)  # independent
    assert ((once[:, 1:] == 0) & (once[:, :-1] == 0)).float().mean() == pytest.approx(p * p, abs=2e-3)
    torch.manual_seed(3)
    assert torch.equal(dropout(ones, p), once)


def test_dropout_in_attention_is_drawn_so_too(monkeypatch: pytest.MonkeyPatch):
    values = torch.ones(1, 1, 64, 64)
    torch.manual_seed(4)
    draws = torch.get_rng_state()
    out = scaled_dot_product_attention(values, values, values, dropout_p=0.5)
    after = torch.get_rng_state()
    torch.set_rng_state(draws)
    mask = fast.bernoulli_(torch.empty(1, 1, 64, 64), 0.5)
    assert torch.equal(torch.get_rng_state(), after)
    torch.testing.assert_close(out[..., 0], mask.mean(-1) * 2)


def test_gradients_of_attention_in_bf16_are_computed_in_fp32():
    torch.manual_seed(0)
    values = [torch.randn(2, 3, 40, 16).bfloat16().requires_grad_() for _ in range(3)]
    gradient = torch.randn(2, 3, 40, 16).bfloat16()
    mask = torch.ones(40, 40, dtype=torch.bool).tril() & (torch.arange(40) < 35)
    scaled_dot_product_attention(*values, attn_mask=mask).backward(gradient)
    exact = [each.detach().float().requires_grad_() for each in values]
    scaled_dot_product_attention(*exact, attn_mask=mask).backward(gradient.float())
    for half, whole in zip(values, exact, strict=True):
        assert half.grad.dtype == torch.bfloat16
        assert (half.grad - whole.grad).abs().max() < 3.5e-3 * whole.grad.abs().max()  # in bf16: 5e-3
