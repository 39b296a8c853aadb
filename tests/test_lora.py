"""LoRA's options and rate from the parameters; times of prediction in turn."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from peft import LoraConfig

from hw2_utils import lora


def settings(**given: object) -> SimpleNamespace:
    usual = {"lora_targets": [], "lora_variant": "", "lora_save": [], "lora_learning_rate": 5e-3}
    return SimpleNamespace(**{**usual, **given})


def test_without_a_request_the_configuration_is_pefts_own():
    assert LoraConfig(**lora.options(settings())).to_dict() == LoraConfig().to_dict()


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"lora_targets": ["query"]}, "target_modules", {"query"}),
        ({"lora_variant": "rslora"}, "use_rslora", True),
        ({"lora_variant": "dora"}, "use_dora", True),
        ({"lora_save": ["pooler"]}, "modules_to_save", ["pooler"]),
    ],
)
def test_a_parameter_changes_its_own_field_alone(given, field, value):
    asked = LoraConfig(**lora.options(settings(**given))).to_dict()
    assert asked.pop(field) == value
    usual = LoraConfig().to_dict()
    usual.pop(field)
    assert asked == usual


@pytest.mark.parametrize(
    ("rate", "name"),
    [(5e-3, "lora+lr5e-3"), (2e-3, "lora+lr2e-3"), (1.5e-4, "lora+lr1.5e-4"), (1.0, "lora+lr1e+0")],
)
def test_the_variant_is_named_by_its_rate(rate, name):
    assert lora.own_rate(settings(lora_learning_rate=rate)) == (name, rate)


def test_lora_plus_has_a_second_rate():
    name, rates = lora.own_rate(settings(lora_variant="lora+", lora_learning_rate=1e-3))
    assert name == "lora+lr1e-3" and rates == pytest.approx((1e-3, 16e-3))


def test_the_networks_take_turns_and_the_first_turn_is_not_counted():
    calls = []

    def predict(seconds: float) -> None:
        calls.append(seconds)
        time.sleep(seconds if len(calls) > 2 else 0.5)  # a slow first turn

    times = lora.prediction_times({"a": 0.01, "b": 0.03}, predict, device="cpu", n_turns=3)
    assert calls == [0.01, 0.03] * 4
    assert list(times.index) == ["a", "b"] and list(times.columns) == [
        "median",
        "min",
        "max",
        "disturbed",
    ]
    assert 10 <= times.loc["a", "median"] < 300 and 30 <= times.loc["b", "min"] < 300
    assert times.loc["a", "max"] < 450 and times["disturbed"].between(0, 3).all()
