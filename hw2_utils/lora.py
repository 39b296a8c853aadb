"""LoRA as a notebook's parameters ask for it: its form, its own learning rate, its time in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from hw2_utils import timing

LORA_PLUS_RATIO = 16  # of B's learning rate to A's; Hayou et al. 2024, arXiv 2402.12354


def options(settings: Any) -> dict[str, Any]:
    """Arguments of PEFT's `LoraConfig` that stay at their defaults unless a parameter asks."""
    return {
        "target_modules": settings.lora_targets or None,  # None: PEFT's choice for the architecture
        "use_rslora": settings.lora_variant == "rslora",
        "use_dora": settings.lora_variant == "dora",
        "modules_to_save": settings.lora_save or None,
    }


def own_rate(settings: Any) -> tuple[str, float | tuple[float, float]]:
    """Name of the variant with a learning rate of its own, and the rate; of LoRA+ both rates."""
    rate = float(settings.lora_learning_rate)
    name = "lora+lr" + np.format_float_scientific(rate, trim="-", exp_digits=1)
    is_lora_plus = settings.lora_variant == "lora+"
    return name, (rate, LORA_PLUS_RATIO * rate) if is_lora_plus else rate


def prediction_times(
    networks: Mapping[str, Any], predict: Callable[[Any], Any], *, device: str, n_turns: int = 5
) -> pd.DataFrame:
    """Milliseconds of a prediction by each network, in turn: columns median, min, max, disturbed.

    One turn more, the first, warms up and isn't counted. `disturbed`: in how many of the turns
    other work had the CPU, so that the times aren't comparable.
    """
    rows = []
    for turn in range(n_turns + 1):
        for name, network in networks.items():
            with timing.timed(device) as clock:
                predict(network)
            if turn > 0:
                rows.append((name, 1000 * clock.time_s, clock.note is not None))
    turns = pd.DataFrame(rows, columns=["network", "ms", "disturbed"])
    by_network = turns.groupby("network", sort=False)
    return by_network["ms"].agg(["median", "min", "max"]).join(by_network["disturbed"].sum())
