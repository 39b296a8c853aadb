"""Parameters that fit their type but not the model or data: refused with name, value and choice."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, TaskType

from hw2_utils import finetune, fusion, parameters, runs, timing
from hw2_utils.datafiles import Dataset
from hw2_utils.errors import Hw2Error, InputError
from hw2_utils.statements import Statements

SMALL = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["~no"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(max_examples=500)
@given(data=st.data(), value=JSON)
def test_any_value_of_any_parameter_is_taken_or_refused_with_its_name(data, value):
    notebook = data.draw(st.sampled_from(parameters.names()))
    name = data.draw(st.sampled_from([*parameters.declared(notebook), "no_such_parameter"]))
    try:
        parameters.check(notebook, {name: value})
        parameters.changed(notebook, {name: value})
    except InputError as error:
        assert name in str(error)


# ----------------------------------------------------------------------------------------- LoRA
def classifier(kind: str) -> Any:
    config = transformers.AutoConfig.for_model(kind, **SMALL)
    return transformers.AutoModelForSequenceClassification.from_config(config)


def with_lora(kind: str, *, rank: int = 4, **options: Any) -> Any:
    config = LoraConfig(task_type=TaskType.SEQ_CLS, inference_mode=False, r=rank, **options)
    return finetune.with_lora(classifier(kind), config)


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        ("bert", {"target_modules": ["q_proj", "v_proj"]}, ["lora_targets", "q_proj", "query"]),
        ("bert", {"target_modules": ["query", "v_proj"]}, ["lora_targets", "v_proj", "value"]),
        ("bert", {"target_modules": ["quer"]}, ["lora_targets", "quer", "query"]),
        ("bert", {"target_modules": ["que.*"]}, ["lora_targets", "que.*", "query"]),
        ("bert", {"target_modules": ["attention"]}, ["lora_targets", "attention", "query"]),
        ("bert", {"target_modules": ["word_embeddings"]}, ["lora_targets", "word_embeddings"]),
        ("bert", {"target_modules": ["query", "classifier"]}, ["lora_targets", "classifier"]),
        ("roberta", {"target_modules": ["query", "out_proj"]}, ["lora_targets", "out_proj"]),
        ("bert", {"modules_to_save": ["no_such_module"]}, ["lora_save", "no_such", "pooler"]),
        ("bert", {"modules_to_save": ["pooler", "nope"]}, ["lora_save", "nope", "pooler"]),
        ("bert", {"modules_to_save": ["er"]}, ["lora_save", "er", "pooler"]),
        ("bert", {"modules_to_save": ["dropout"]}, ["lora_save", "dropout"]),
        ("bert", {"modules_to_save": ["layer"]}, ["lora_save", "layer"]),
        ("bert", {"modules_to_save": ["pooler", "pooler.dense"]}, ["lora_save", "pooler.dense"]),
        ("bert", {"modules_to_save": ["embeddings"]}, ["lora_save", "word_embeddings"]),
        ("roberta", {"modules_to_save": ["dense"]}, ["lora_save", "classifier.dense"]),
        ("bert", {"modules_to_save": ["encoder"]}, ["lora_targets", "lora_save", "query"]),
        (
            "bert",
            {"target_modules": ["query"], "modules_to_save": ["query"]},
            ["lora_targets", "lora_save", "query"],
        ),
        (
            "bert",
            {"target_modules": ["dense"], "modules_to_save": ["pooler"]},
            ["lora_targets", "lora_save", "pooler.dense"],
        ),
        ("bert", {"rank": 33}, ["lora_rank", "33", "32"]),
        ("bert", {"rank": 33, "target_modules": ["dense"]}, ["lora_rank", "33", "32"]),
    ],
)
def test_names_that_peft_would_pass_over_are_refused(kind, options, named):
    with pytest.raises(InputError) as caught:
        with_lora(kind, **options)
    assert all(name in str(caught.value) for name in named), caught.value


@pytest.mark.parametrize(
    ("kind", "options", "adapted", "trained_whole"),
    [
        ("bert", {"rank": 32}, 4, ["classifier"]),
        ("bert", {"target_modules": ["query", "dense"]}, 9, ["classifier"]),  # pooler's too
        ("bert", {"target_modules": ["layer.0.attention.self.key"]}, 1, ["classifier"]),
        ("bert", {"modules_to_save": ["pooler"]}, 4, ["bert.pooler", "classifier"]),
        ("bert", {"modules_to_save": ["classifier"]}, 4, ["classifier"]),
        ("roberta", {"target_modules": ["dense"]}, 6, ["classifier"]),  # the head's is whole
    ],
)
def test_what_is_asked_for_is_trained(kind, options, adapted, trained_whole):
    names = [n for n, p in with_lora(kind, **options).named_parameters() if p.requires_grad]
    whole = {n.partition(".modules_to_save.")[0] for n in names if ".modules_to_save." in n}
    assert whole == {f"base_model.model.{name}" for name in trained_whole}
    assert sum(".lora_B." in name for name in names) == adapted
    assert all(".lora_" in n or ".modules_to_save." in n for n in names)


# ----------------------------------------------------------------------------------------- data
def questions(answers: list[str], *, split: str, n_pictures: int = 2) -> pd.DataFrame:
    rows = [
        (f"{split}/{i}", "what is it", a, f"{split}{i % n_pictures}") for i, a in enumerate(answers)
    ]
    return pd.DataFrame(rows, columns=["id", "question", "answer", "image_id"])


def vqa(*, n_test_pictures: int = 2, classes: tuple[str, ...] = ("cup", "lamp")) -> Dataset:
    train = questions(["lamp", "lamp", "cup", "lamp"], split="train")
    test = questions(["lamp", "cup"], split="test", n_pictures=n_test_pictures)
    splits = {"train": train, "val": questions(["lamp"], split="val"), "test": test}
    return Dataset(splits, classes, [], "0" * 64)


def run_with(**values: Any) -> Any:
    notes: list[str] = []
    return SimpleNamespace(settings=SimpleNamespace(**values), note=notes.append, notes=notes)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"max_train_examples": 2}, ["parameter max_train_examples", "2", "3 or more"]),
        ({"folds": 4}, ["parameter folds", "4", "have 3", "3 to 3"]),
        ({"folds": 9, "max_train_examples": 3}, ["parameter folds", "9", "have 3"]),
    ],
)
def test_training_questions_that_cannot_be_trained_on_are_refused(values, named):
    with pytest.raises(InputError) as caught:
        fusion.training_frames(run_with(**{"max_train_examples": 0, "folds": 0} | values), vqa())
    assert all(word in str(caught.value) for word in named), caught.value


def test_the_first_training_questions_are_noted():
    run, data = run_with(max_train_examples=3, folds=3), vqa(classes=("bed", "cup", "lamp"))
    frames = fusion.training_frames(run, data)
    assert frames["train"].equals(data.splits["train"].head(3))
    assert frames["test"] is data.splits["test"]
    assert run.notes == ["train: the first 3 of 4 questions, with 2 of 3 answers"]


def statements(topics: list[str | None]) -> Statements:
    rows = [(f"test/{i}", f"{i}", ("true", "false")[i % 2], t) for i, t in enumerate(topics)]
    columns = ["id", "statement", "label", "topic"]
    return Statements(pd.DataFrame(rows, columns=columns, dtype=object), [], "0" * 64)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (statements(["all", None]), ["all", "topic"]),
        (statements(["sea", "unparsed"]), ["unparsed", "topic"]),
        (vqa(classes=("all", "lamp")), ["all", "class"]),
        (vqa(n_test_pictures=1), ["one picture", "two"]),
    ],
)
def test_data_that_a_record_cannot_hold_are_refused(data, named):
    run = SimpleNamespace(data={}, note=print)
    with pytest.raises(InputError) as caught:
        runs.Run.record_data(run, "questions", data)
    assert all(word in str(caught.value) for word in named) and not run.data


def test_data_with_any_other_names_are_read():
    run = SimpleNamespace(data={}, note=print)
    for name, data in {"vqa": vqa(), "statements": statements(["All", None])}.items():
        runs.Run.record_data(run, name, data)
    assert len(run.data) == 2


# ----------------------------------------------------------------------------------------- messages
def fail(kind: type[Hw2Error]) -> None:
    raise kind("the loss is no number", where="learning_rate 1.0", todo="lower learning_rate")


@pytest.mark.parametrize("kind", [Hw2Error, InputError])
def test_an_error_of_a_measuring_process_arrives_as_it_was(kind):
    with pytest.raises(kind) as caught:
        timing.in_child(fail, kind)
    assert (caught.value.where, caught.value.todo) == ("learning_rate 1.0", "lower learning_rate")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (kind, str(caught.value))


@pytest.mark.parametrize("allocate", [lambda: torch.empty(10**15), lambda: bytearray(2**62)])
def test_too_little_memory_is_one_message(allocate):
    with pytest.raises(Hw2Error, match="ran out of memory") as caught, timing.memory_explained(64):
        allocate()
    assert "batch_size 64" in str(caught.value) and caught.value.exit_code == 1


def test_an_error_of_another_kind_stays_as_it_is():
    with pytest.raises(RuntimeError, match="shapes"), timing.memory_explained(64):
        raise RuntimeError("the shapes differ")
