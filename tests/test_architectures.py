"""Architectures that transformers builds small, against a plain forward pass text by text."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, TaskType
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from hw2_utils import finetune, hub, prompting
from hw2_utils.errors import InputError

pytestmark = pytest.mark.slow  # some 140 models

WORDS = pre_tokenizers.ByteLevel.alphabet()
ANSWERS = (" True", " No")
PROMPTS = [
    "A b",
    "A bat is blind:",
    "A bat is not blind, and never was:",
    "A bat is a bird that has no feathers, lays no eggs and hangs its head all day:",
]
TOLERANCE = {"rtol": 0, "atol": 2e-4}
SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def tokenizer(template: str = "$A", **options: Any) -> PreTrainedTokenizerFast:
    """A token a byte, with the special tokens of a template around them."""
    special = ["<pad>", "<s>", "</s>", "[SEP]"]
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(WORDS)])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, vocabulary[token]) for token in special]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", **options
    )


def spread(network: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough that a wrong mask or position shows."""
    torch.manual_seed(0)
    for weight in network.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.15)
    return network.eval()


def saved(
    folder: Path, network: torch.nn.Module, tok: PreTrainedTokenizerFast | None = None
) -> Path:
    network.save_pretrained(folder)
    (tok or tokenizer()).save_pretrained(folder)
    return folder


# ---------------------------------------------------------------------------------- language models
FULL = """apertus arcee biogpt bitnet bloom cohere ctrl diffllama ernie4_5 exaone falcon gemma glm
glm4 gpt-sw3 gpt2 gpt_bigcode gpt_neox granite granitemoe helium hunyuan_v1_dense jetmoe llama
nanochat nemotron olmo olmo2 olmoe opt
persimmon phi qwen2 qwen3 seed_oss stablelm xglm"""
WINDOWED = """cohere2 doge exaone4 gemma2 gemma3_text gpt_oss ministral mistral mixtral olmo3 phi3
phimoe smollm3
starcoder2 vaultgemma"""
ONE_BY_ONE = "falcon_mamba mamba minimax mpt olmo_hybrid openai-gpt rwkv trocr"
READ_AHEAD = """bert big_bird camembert data2vec-text electra ernie megatron-bert roberta roformer
xlm xlm-roberta"""
HYBRID = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "num_experts": 2,
        "use_mamba_kernels": False,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "llama4_text": {"attention_chunk_size": 24},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 2, "state_size": 8},
    "modernbert-decoder": {"local_attention": 48},
    "qwen2": {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 0},
    "recurrent_gemma": {"num_hidden_layers": 3, "attention_window_size": 8, "lru_width": 32},
}
CAUSAL = [
    *((kind, {}) for kind in f"{FULL} {ONE_BY_ONE}".split()),
    *((kind, {"sliding_window": 24}) for kind in WINDOWED.split()),
    *((kind, {"sliding_window": 8}) for kind in ("gemma2", "gemma3_text", "mistral")),
    *HYBRID.items(),
    *((kind, {"rotary_dim": 4}) for kind in ("codegen", "gptj")),
    ("falcon", {"alibi": True}),
]


def causal(kind: str, changes: Mapping[str, Any]) -> torch.nn.Module:
    """A language model of two layers or three; what its configuration doesn't take is left out."""
    wanted = SMALL | {"head_dim": 8} | changes
    own = AutoConfig.for_model(kind)
    if kind in ("falcon", "jamba") or not hasattr(own, "head_dim"):
        wanted.pop("head_dim")
    return spread(AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **wanted)))


def plain_scores(network: Any, before: tuple[int, ...] = ()) -> list[list[float]]:
    """Log-likelihood of each answer after each prompt: a forward a pair, special tokens by hand."""
    tok, scores = tokenizer(), []
    for prompt in PROMPTS:
        scores.append([])
        for answer in ANSWERS:
            ids = [*before, *tok(prompt + answer)["input_ids"]]
            with torch.no_grad():
                log_probs = network(torch.tensor([ids])).logits[0].float().log_softmax(-1)
            places = range(len(ids) - len(answer), len(ids))
            scores[-1].append(sum(log_probs[k - 1, ids[k]].item() for k in places))
    return scores


def plain_texts(network: Any) -> list[list[int]]:
    """New tokens of the library's own greedy search, prompt by prompt."""
    texts = []
    for prompt in PROMPTS:
        ids = torch.tensor([tokenizer()(prompt)["input_ids"]])
        mask = torch.ones_like(ids)
        made = network.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False)
        texts.append(made[0, ids.shape[1] :].tolist())
    return texts


@pytest.mark.parametrize(("kind", "changes"), CAUSAL, ids=str)
def test_scores_and_texts_are_those_of_one_plain_pass_a_prompt(kind, changes, tmp_path):
    lm = prompting.load(saved(tmp_path, causal(kind, changes)))
    expected = plain_scores(lm.model)
    with warnings.catch_warnings(action="ignore"):
        for batch_size, share_prefix in ((2, True), (4, True), (3, False)):
            options = {"batch_size": batch_size, "share_prefix": share_prefix}
            found = prompting.score(lm, PROMPTS, ANSWERS, **options)
            np.testing.assert_allclose(found, expected, **TOLERANCE)
        texts = prompting.generate_tokens(lm, PROMPTS, max_new_tokens=5)
    assert texts == plain_texts(lm.model)
    if kind in FULL.split() and not changes.get("use_sliding_window"):
        assert lm.padded_tokens == np.inf and lm.cached, "as fast as it can be"


@pytest.mark.parametrize("kind", READ_AHEAD.split())
def test_a_model_that_reads_ahead_is_refused(kind, tmp_path):
    folder = saved(tmp_path, causal(kind, {}))
    (folder / "config.json").write_text(  # by its class's name alone it isn't known
        (folder / "config.json").read_text().replace('"architectures"', '"were"')
    )
    with pytest.raises(InputError, match="a token's scores change with what follows it"):
        prompting.load(folder)


def test_prompts_beyond_a_window_are_computed_one_at_a_time_and_this_is_said(tmp_path):
    lm = prompting.load(saved(tmp_path, causal("mistral", {"sliding_window": 24})))
    assert lm.padded_tokens == 24
    with pytest.warns(UserWarning, match="4 of 8 inputs are computed one at a time"):
        prompting.score(lm, PROMPTS, ANSWERS)
    with warnings.catch_warnings(action="error"):
        prompting.score(lm, PROMPTS[:2], ANSWERS)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("gpt2", "n_positions"), ("mpt", "max_seq_len"), ("llama", "max_position_embeddings")],
)
def test_a_context_window_has_many_names_and_some_models_have_none(kind, name, tmp_path):
    shape = {k: v for k, v in SMALL.items() if k != "max_position_embeddings"}
    own = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape, **{name: 99}))
    assert prompting.load(saved(tmp_path / "own", own)).max_tokens == 99
    none = AutoModelForCausalLM.from_config(AutoConfig.for_model("bloom", **shape))
    assert prompting.load(saved(tmp_path / "none", none)).max_tokens > 1e9


TEMPLATES = {
    "$A": (),
    "<s> $A": (1,),
    "$A </s>": (),
    "<s> $A </s>": (1,),
    "[SEP] <s> $A [SEP] </s>": (3, 1),
}


@pytest.mark.parametrize(("template", "before"), TEMPLATES.items())
def test_what_a_tokenizer_prepends_stays_and_what_it_appends_is_left_out(
    template, before, tmp_path
):
    lm = prompting.load(saved(tmp_path, causal("llama", {}), tokenizer(template)))
    expected = plain_scores(lm.model, before)
    np.testing.assert_allclose(prompting.score(lm, PROMPTS, ANSWERS), expected, **TOLERANCE)
    found = prompting.token_probabilities(lm, PROMPTS[0], ANSWERS[0])
    assert sum(np.log(p) for _, p in found) == pytest.approx(expected[0][0], abs=2e-4)
    assert [token for token, _ in found] == list(ANSWERS[0])
    text = prompting.generate_tokens(lm, PROMPTS[:1], max_new_tokens=5)
    ids = torch.tensor([[*before, *tokenizer()(PROMPTS[0])["input_ids"]]])
    made = lm.model.generate(ids, max_new_tokens=5, do_sample=False)
    assert text == [made[0, ids.shape[1] :].tolist()]


def test_an_empty_prompt_is_the_start_token(tmp_path):
    lm = prompting.load(saved(tmp_path, causal("llama", {}), tokenizer("$A </s>")))
    ids = torch.tensor([[1, *tokenizer()(" True")["input_ids"]]])
    with torch.no_grad():
        log_probs = lm.model(ids).logits[0].log_softmax(-1)
    expected = sum(log_probs[k - 1, ids[0, k]].item() for k in range(1, ids.shape[1]))
    assert prompting.score(lm, [""], [" True"])[0, 0] == pytest.approx(expected, abs=2e-4)
    found = prompting.token_probabilities(lm, "", " True")
    assert sum(np.log(p) for _, p in found) == pytest.approx(expected, abs=2e-4)


def test_truncation_and_padding_saved_with_a_tokenizer_change_nothing(tmp_path):
    tok = tokenizer()
    tok.backend_tokenizer.enable_truncation(4)
    tok.backend_tokenizer.enable_padding(length=60)
    lm = prompting.load(saved(tmp_path, causal("llama", {}), tok))
    found = prompting.score(lm, PROMPTS, ANSWERS)
    np.testing.assert_allclose(found, plain_scores(lm.model), **TOLERANCE)


# --------------------------------------------------------------------------------- text classifiers
CLASSES = ("bad", "good", "so-so")
TEXTS = ["fine", "not at all what I had hoped for", "a b c d e f", "x"]
OWN_TARGETS = "bert electra gpt2 roberta xlm-roberta".split()
NAMED_TARGETS = {  # kind: lora_targets, lora_save
    **dict.fromkeys(
        ("albert", "camembert", "ernie", "megatron-bert", "roformer"), (["query", "value"], None)
    ),
    "distilbert": (["q_lin", "v_lin"], None),
    "modernbert": (["Wqkv"], ["head"]),
    "mpnet": (["q", "v"], None),
    "xlnet": (["layer_1"], ["sequence_summary", "logits_proj"]),
}
NAMED_SAVE = {"deberta": ["pooler"], "deberta-v2": ["pooler"]}
OTHER_SHAPES = {
    "distilbert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4},
    "albert": {"embedding_size": 16},
    "electra": {"embedding_size": 32},
    "xlnet": {"d_head": 8, "d_inner": 48},
    "modernbert": {"cls_token_id": 1, "sep_token_id": 2},
}


def encoder(kind: str) -> torch.nn.Module:
    shape = SMALL | OTHER_SHAPES.get(kind, {})
    if kind == "xlnet":
        shape.pop("max_position_embeddings")
    return spread(AutoModel.from_config(AutoConfig.for_model(kind, **shape)))


def lora(targets: list[str] | None = None, save: list[str] | None = None) -> LoraConfig:
    return LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=targets, modules_to_save=save)


@pytest.mark.parametrize("kind", [*OWN_TARGETS, *NAMED_TARGETS, *NAMED_SAVE])
def test_classes_of_a_batch_are_those_of_one_plain_pass_a_text(kind, tmp_path):
    model = hub.fetch_model(str(saved(tmp_path, encoder(kind), tokenizer("<s> $A </s>"))))
    network = finetune.classifier(model, classes=CLASSES, seed=0).eval()
    tok = finetune.tokenizer(model)
    data = {"input_ids": [tok(text)["input_ids"] for text in TEXTS]}
    found = finetune.log_probs(network, data, tok, device="cpu")
    with torch.no_grad():
        alone = [network(torch.tensor([ids])).logits[0] for ids in data["input_ids"]]
    np.testing.assert_allclose(found, torch.stack(alone).log_softmax(-1), **TOLERANCE)
    loaded = AutoModel.from_pretrained(tmp_path).state_dict()
    for name, weight in network.base_model.state_dict().items():
        assert torch.equal(weight, loaded[name]), name


@pytest.mark.parametrize("kind", OWN_TARGETS)
def test_pefts_own_targets_train_all_that_is_new(kind, tmp_path):
    model = hub.fetch_model(str(saved(tmp_path, encoder(kind))))
    wrapped = finetune.with_lora(finetune.classifier(model, classes=CLASSES, seed=0), lora())
    assert any("lora_A" in name for name, _ in wrapped.named_parameters())


@pytest.mark.parametrize("kind", NAMED_TARGETS)
def test_without_pefts_own_targets_those_there_are_are_named(kind, tmp_path):
    model = hub.fetch_model(str(saved(tmp_path, encoder(kind))))
    targets, save = NAMED_TARGETS[kind]
    with pytest.raises(InputError, match="lora_targets") as refused:
        finetune.with_lora(finetune.classifier(model, classes=CLASSES, seed=0), lora())
    assert set(targets) <= set(refused.value.todo.replace(",", " ").split())
    network = finetune.classifier(model, classes=CLASSES, seed=0)
    assert finetune.count_parameters(finetune.with_lora(network, lora(targets, save)))


@pytest.mark.parametrize("kind", NAMED_SAVE)
def test_new_weights_that_lora_would_leave_at_random_are_named(kind, tmp_path):
    model = hub.fetch_model(str(saved(tmp_path, encoder(kind))))
    with pytest.raises(InputError, match="lora_save: .* would stay at random") as refused:
        finetune.with_lora(finetune.classifier(model, classes=CLASSES, seed=0), lora())
    assert refused.value.todo.endswith(f": {', '.join(NAMED_SAVE[kind])}")
    network = finetune.classifier(model, classes=CLASSES, seed=0)
    assert finetune.with_lora(network, lora(save=NAMED_SAVE[kind]))


@pytest.mark.parametrize("adapted", [True, False], ids=["adapter", "whole"])
@pytest.mark.parametrize("kind", [*OWN_TARGETS, *NAMED_TARGETS, *NAMED_SAVE])
def test_what_is_kept_of_a_training_loads_as_it_was(kind, adapted, tmp_path):
    model = hub.fetch_model(str(saved(tmp_path / "base", encoder(kind), tokenizer("<s> $A </s>"))))
    network, tok = finetune.classifier(model, classes=CLASSES, seed=0), finetune.tokenizer(model)
    if adapted:
        targets, save = NAMED_TARGETS.get(kind, (None, NAMED_SAVE.get(kind)))
        network = finetune.with_lora(network, lora(targets, save))
    with torch.no_grad():  # as a training changes them
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight) * weight.requires_grad)
    (tmp_path / "kept").mkdir()
    for name, content in finetune.save(network, model, keep=True).items():
        if isinstance(content, bytes):
            (tmp_path / "kept" / name).write_bytes(content)
    loaded = finetune.load(model, tmp_path / "kept", classes=CLASSES)
    data = {"input_ids": [tok(text)["input_ids"] for text in TEXTS]}
    found, expected = (finetune.log_probs(n, data, tok, device="cpu") for n in (loaded, network))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
