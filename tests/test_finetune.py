"""Fine-tuning's building blocks on the sample's real encoder, against the libraries used one example at a time."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, TaskType

from hw2_utils import finetune, hub

CLASSES = ["negative", "neutral", "positive"]
TEXTS = ["Great.", "I waited an hour for cold soup, and then they lost my order as well #neveragain", "The shop opens at nine", "ok"]


@pytest.fixture(scope="module")
def model():
    return hub.model("sample:all-MiniLM-L6-v2")


def test_the_configuration_given_to_peft_stays_as_it_was(model):
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4)
    before = copy.deepcopy(vars(config))
    finetune.with_lora(finetune.classifier(model, classes=CLASSES, seed=0), config)
    assert vars(config) == before


def test_log_probs_are_in_the_datas_order_and_padding_changes_nothing(model):
    network, tok = finetune.classifier(model, classes=CLASSES, seed=0).eval(), finetune.tokenizer(model)
    frame = pd.DataFrame({"text": TEXTS, "label": [CLASSES[0]] * len(TEXTS)})
    found = finetune.log_probs(network, finetune.tokenise(frame, tok, classes=CLASSES, max_length=128), tok, device="cpu")
    with torch.inference_mode():
        alone = [torch.log_softmax(network(**tok(text, return_tensors="pt")).logits[0], -1).numpy() for text in TEXTS]
    np.testing.assert_allclose(found, alone, atol=1e-5)


def test_the_heads_first_weights_depend_on_the_seed_alone(model):
    one, again, other = (finetune.classifier(model, classes=CLASSES, seed=s).classifier.weight for s in (3, 3, 4))
    assert torch.equal(one, again) and not torch.equal(one, other)
