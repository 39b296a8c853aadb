"""Progress bars for a reader who waits. They decide no number: an edit here computes nothing again."""

from __future__ import annotations

import os
from typing import Any


def bar(total: int, label: str) -> Any:
    """tqdm's bar with the time left, from the third second on; none under the strict runner."""
    from tqdm.auto import tqdm

    quiet = os.environ.get("HW2_RUNNER") == "1"
    return tqdm(total=total, desc=label, delay=2, leave=False, disable=quiet)
