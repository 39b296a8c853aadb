"""Fine-tuning's parts on the sample's real encoder, against the libraries one example at a time."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, TaskType
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    GPT2Tokenizer,
)
from transformers.trainer_pt_utils import get_length_grouped_indices

from hw2_utils import finetune, hub
from hw2_utils.errors import Hw2Error, InputError

CLASSES = ["negative", "neutral", "positive"]
TEXTS = [
    "Great.",
    "I waited an hour for cold soup, and then they lost my order as well #neveragain",
    "The shop opens at nine",
    "ok",
]


@pytest.fixture(scope="module")
def model():
    return hub.fetch_model("sample:all-MiniLM-L6-v2")


def test_the_configuration_given_to_peft_stays_as_it_was(model):
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4)
    before = copy.deepcopy(vars(config))
    finetune.with_lora(finetune.classifier(model, classes=CLASSES, seed=0), config)
    assert vars(config) == before


def test_log_probs_are_in_the_datas_order_and_padding_changes_nothing(model):
    network, tok = (
        finetune.classifier(model, classes=CLASSES, seed=0).eval(),
        finetune.tokenizer(model),
    )
    frame = pd.DataFrame({"text": TEXTS, "label": [CLASSES[0]] * len(TEXTS)})
    found = finetune.log_probs(
        network, finetune.tokenise(frame, tok, classes=CLASSES, max_length=128), tok, device="cpu"
    )
    with torch.inference_mode():
        alone = [
            torch.log_softmax(network(**tok(text, return_tensors="pt")).logits[0], -1).numpy()
            for text in TEXTS
        ]
    np.testing.assert_allclose(found, alone, atol=1e-5)


def test_the_heads_first_weights_depend_on_the_seed_alone(model):
    one, again, other = (
        finetune.classifier(model, classes=CLASSES, seed=s).classifier.weight for s in (3, 3, 4)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)


# ---------------------------------------------------------- what is from the files, and what is new
SHAPE = {
    "vocab_size": 30522,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


def saved(model, folder, network):
    """The network's folder as a model, with the sample's tokenizer."""
    network.save_pretrained(folder)
    (folder / "vocab.txt").write_bytes((model.path / "vocab.txt").read_bytes())
    return hub.fetch_model(str(folder))


def rewritten(folder, change):
    """The folder's tensors under other names, or without some of them."""
    file = folder / "model.safetensors"
    tensors = {change(name): tensor for name, tensor in load_file(file).items()}
    tensors.pop(None, None)
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "electra"])
@pytest.mark.parametrize("n_labels", [2, 3])
def test_a_trained_head_gives_way_to_a_new_one_for_each_seed(model, tmp_path, kind, n_labels):
    other = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2, "num_labels": n_labels}
    config = AutoConfig.for_model(kind, **SHAPE, **other)
    network = AutoModelForSequenceClassification.from_config(config)
    for name, weight in network.named_parameters():
        if not name.startswith(network.base_model_prefix):
            torch.nn.init.normal_(weight, std=3.0)
    tuned = saved(model, tmp_path / "tuned", network)
    plain = saved(model, tmp_path / "plain", network.base_model)
    for seed in (0, 1):
        found, expected = (
            dict(finetune.classifier(m, classes=CLASSES, seed=seed).named_parameters())
            for m in (tuned, plain)
        )
        assert found.keys() == expected.keys()
        for name in found:
            assert torch.equal(found[name], expected[name]), name
    one, other = (finetune.classifier(tuned, classes=CLASSES, seed=s) for s in (0, 1))
    differs = {
        n
        for (n, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert differs and not any(name.startswith(network.base_model_prefix) for name in differs)
    assert differs <= set(one.new_weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: None if ".1.attention.self.query" in n else n, "2 weights are missing, such as"),
        (lambda n: f"module.{n}", r"37 weights are missing, .*; the files hold 39 others, such as"),
        (lambda n: n.replace("layer.1", "layers.1"), "the files hold 16 others, such as"),
    ],
)
def test_weights_that_the_files_lack_or_name_otherwise_are_refused(
    model, tmp_path, change, message
):
    found = saved(model, tmp_path, BertModel(BertConfig(**SHAPE)))
    finetune.classifier(found, classes=CLASSES, seed=0)
    rewritten(tmp_path, change)
    with pytest.raises(InputError, match=message) as refused:
        finetune.classifier(found, classes=CLASSES, seed=0)
    assert "save the model again" in refused.value.todo


def test_weights_of_another_shape_are_refused(model, tmp_path):
    found = saved(model, tmp_path, BertModel(BertConfig(**SHAPE)))
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"intermediate_size": 64', '"intermediate_size": 48'))
    with pytest.raises(InputError, match="6 weights are missing"):
        finetune.classifier(found, classes=CLASSES, seed=0)


def test_a_pooler_that_the_files_lack_is_new_and_lora_must_train_it(model, tmp_path):
    found = saved(model, tmp_path, BertModel(BertConfig(**SHAPE), add_pooling_layer=False))
    network = finetune.classifier(found, classes=CLASSES, seed=0)
    assert {n for n in network.new_weights if "pooler" in n} == {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
    }
    with pytest.raises(InputError, match="lora_save: 2 new weights .* such as bert.pooler"):
        finetune.with_lora(network, LoraConfig(task_type=TaskType.SEQ_CLS, r=2))
    network = finetune.classifier(found, classes=CLASSES, seed=0)
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=2, modules_to_save=["pooler"])
    assert finetune.with_lora(network, config)


def test_tokenizers_that_do_not_fit_are_refused(model, tmp_path):
    found = saved(model, tmp_path, BertModel(BertConfig(**SHAPE | {"vocab_size": 100})))
    with pytest.raises(InputError, match="more tokens than the model: 30522 against 100"):
        finetune.tokenizer(found)
    saved(model, tmp_path, GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=1)))
    (tmp_path / "vocab.txt").unlink()
    tokens = {token: i for i, token in enumerate(sorted(ByteLevel.alphabet()))}
    GPT2Tokenizer(vocab=tokens, merges=[]).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no padding token"):
        finetune.tokenizer(hub.fetch_model(str(tmp_path)))


# ---------------------------------------------------------- what published answers get wrong
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_pefts_defaults_are_alpha_8_no_dropout_query_and_value(kind):
    import transformers

    config = transformers.AutoConfig.for_model(
        kind,
        num_hidden_layers=1,
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=50,
        num_labels=3,
    )
    network = transformers.AutoModelForSequenceClassification.from_config(config)
    wrapped = finetune.with_lora(
        network, LoraConfig(task_type=TaskType.SEQ_CLS, inference_mode=False, r=8)
    )
    found = wrapped.peft_config["default"]
    assert (found.r, found.lora_alpha, found.lora_dropout, found.bias) == (8, 8, 0.0, "none")
    assert {
        name.split(".")[-4] for name, _ in wrapped.named_parameters() if ".lora_A." in name
    } == {"query", "value"}


def test_a_tokenizer_without_a_length_of_its_own_is_cut_at_ours(tmp_path, model):
    (tmp_path / "vocab.txt").write_bytes(
        (model.path / "vocab.txt").read_bytes()
    )  # as TinyBERT is published
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    tok = finetune.tokenizer(hub.Model("tiny", tmp_path, "local", {}, "local folder"))
    assert tok.model_max_length > 1e29
    frame = pd.DataFrame({"text": ["word " * 300], "label": ["neutral"]})
    assert (
        len(finetune.tokenise(frame, tok, classes=CLASSES, max_length=128)["input_ids"][0]) == 128
    )
    assert finetune.n_truncated(frame, tok, max_length=128) == 1


def small(model, n=40):
    """Texts of 1 to 20 words, one label each, tokenised; a recipe of one epoch in batches of 8."""
    frame = pd.DataFrame(
        {
            "text": ["word " * (1 + 7 * i % 20) for i in range(n)],
            "label": [CLASSES[i % 3] for i in range(n)],
        }
    )
    tok = finetune.tokenizer(model)
    return (
        finetune.tokenise(frame, tok, classes=CLASSES, max_length=32),
        tok,
        finetune.Recipe(1, 8, 32, False, "cpu"),
    )


def test_grouped_batches_hold_each_example_once_and_change_with_the_seed(model, tmp_path):
    data, tok, recipe = small(model)
    network = finetune.classifier(model, classes=CLASSES, seed=0)
    orders = []
    for seed in (0, 0, 1):
        loader = finetune.trainer(
            network, data, tok, recipe, learning_rate=1e-4, seed=seed, folder=str(tmp_path)
        ).get_train_dataloader()
        torch.manual_seed(seed)
        orders.append([row for batch in loader for row in batch["input_ids"].sum(dim=1).tolist()])
    assert len(orders[0]) == len(data) and orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(sum(ids) for ids in data["input_ids"])


def test_batches_are_the_librarys_in_random_order(model, tmp_path):
    data, tok, recipe = small(model, n=403)
    network = finetune.classifier(model, classes=CLASSES, seed=0)
    run = finetune.trainer(
        network, data, tok, recipe, learning_rate=1e-4, seed=5, folder=str(tmp_path)
    )
    loader = run.get_train_dataloader().batch_sampler
    batches = [list(map(tuple, loader)), list(map(tuple, loader))]
    order = get_length_grouped_indices(
        [len(ids) for ids in data["input_ids"]], 8, generator=torch.Generator().manual_seed(5)
    )
    batches.append([tuple(order[i : i + 8]) for i in range(0, 403, 8)])
    assert set(batches[0]) == set(batches[2]) != set(batches[1])  # made anew for each epoch
    assert batches[0][-1] == batches[2][-1] and len(batches[0][-1]) == 3
    longest = [max(len(data[i]["input_ids"]) for i in batch) for batch in batches[0][:-1]]
    place = np.corrcoef(longest, np.arange(len(longest)) % 12)[
        0, 1
    ]  # the library sorts in quarters of 12 batches: -1 there
    assert abs(place) < 0.5


def test_lora_plus_trains_b_at_its_own_rate(model, tmp_path):
    data, tok, recipe = small(model)
    network = finetune.with_lora(
        finetune.classifier(model, classes=CLASSES, seed=0),
        LoraConfig(task_type=TaskType.SEQ_CLS, r=2),
    )
    run = finetune.trainer(
        network, data, tok, recipe, learning_rate=(1e-3, 16e-3), seed=0, folder=str(tmp_path)
    )
    assert run.create_optimizer() is run.optimizer  # the Trainer makes none of its own
    rates = {id(p): group["lr"] for group in run.optimizer.param_groups for p in group["params"]}
    names = {name: rates[id(p)] for name, p in network.named_parameters() if p.requires_grad}
    assert {rate for name, rate in names.items() if "lora_A" in name} == {1e-3}
    assert {rate for name, rate in names.items() if "lora_B" in name} == {16 * 1e-3}
    assert len(names) == len(rates)


# ---------------------------------------------------------- failures, one message each
def test_a_loss_that_is_no_number_stops_with_the_step_and_the_rate(model):
    data, tok, recipe = small(model)
    network = finetune.classifier(model, classes=CLASSES, seed=0)
    with torch.no_grad():
        network.classifier.weight.fill_(float("nan"))
    with pytest.raises(
        Hw2Error, match=r"learning_rate 0.1.*no number at step 1(.|\n)*lower learning_rate"
    ):
        finetune.train(network, data, tok, recipe, learning_rate=0.1, seed=0)


def test_out_of_memory_is_one_message(model):
    class Greedy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, input_ids, attention_mask, labels):
            raise torch.OutOfMemoryError("CUDA out of memory")

    data, tok, recipe = small(model)
    with pytest.raises(Hw2Error, match=r"batch_size 8.*ran out of memory(.|\n)*lower batch_size"):
        finetune.train(Greedy(), data, tok, recipe, learning_rate=0.1, seed=0)


def test_a_model_without_tokenizer_or_weights_is_one_message(model, tmp_path):
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes((model.path / file).read_bytes())
    with pytest.raises(InputError, match="no tokenizer(.|\n)*add its files"):
        finetune.tokenizer(hub.fetch_model(str(tmp_path)))
    (tmp_path / "vocab.txt").write_bytes((model.path / "vocab.txt").read_bytes())
    assert len(finetune.tokenizer(hub.fetch_model(str(tmp_path)))) == 30522
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights"):
        hub.fetch_model(str(tmp_path))
