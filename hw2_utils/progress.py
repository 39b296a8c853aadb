"""Progress bars for a reader who waits. They decide no number: an edit here changes no key."""

from __future__ import annotations

from typing import Any

from hw2_utils import paths


def bar(total: int, label: str) -> Any:
    """tqdm's bar with the time left, from the third second on; none under the strict runner."""
    from tqdm.auto import tqdm

    quiet = paths.under_runner()
    return tqdm(total=total, desc=label, delay=2, leave=False, disable=quiet)
