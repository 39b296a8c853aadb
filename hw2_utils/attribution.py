"""Which tokens of a text mattered to a trained classifier, by occlusion.

Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks" (arXiv 1311.2901):
pieces of the input are hidden in turn, and the drop of the prediction's probability is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hw2_utils import finetune, plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from hw2_utils.hub import Model
    from hw2_utils.runs import Run


def occlusion(
    network: nn.Module, tok: PreTrainedTokenizerBase, text: str, *, max_length: int, device: str
) -> tuple[np.ndarray, pd.Series]:
    """Probabilities [n_classes] of a text, and the drop of each of its tokens (the index).

    The drop is that of the predicted class's probability where the mask token stands in the
    token's place, or the unknown token (padding, where a tokenizer has neither). A negative one
    means that the token speaks against the prediction. Special tokens are left out.
    """
    ids = tok(text, truncation=True, max_length=max_length)["input_ids"]
    special = tok.get_special_tokens_mask(ids, already_has_special_tokens=True)
    places = [i for i, is_special in enumerate(special) if not is_special]
    stand_ins = (tok.mask_token_id, tok.unk_token_id, tok.pad_token_id)
    hidden = next(token for token in stand_ins if token is not None)
    texts = [ids, *([*ids[:i], hidden, *ids[i + 1 :]] for i in places)]
    whole, *without = np.exp(finetune.log_probs(network, {"input_ids": texts}, tok, device=device))
    predicted = whole.argmax()
    drops = [whole[predicted] - scores[predicted] for scores in without]
    return whole, pd.Series(drops, [tok.decode([ids[i]]).strip() for i in places], dtype=float)


def show(run: Run, model: Model, tweet: str, *, classes: Sequence[str]) -> Figure | None:
    """A tweet's probabilities by each method whose model the run keeps (first seed); its tokens."""
    if not tweet.strip():
        print("there is no text: type a tweet")
        return None
    tok, ending = finetune.tokenizer(model), f"-seed{run.settings.seeds[0]}"
    options = {"max_length": run.settings.max_length, "device": run.settings.device}
    probabilities, of_tokens = {}, {}
    folders = run.kept_models.glob(f"*{ending}")
    for method, folder in sorted((folder.name.removesuffix(ending), folder) for folder in folders):
        network = finetune.load(model, folder, classes=classes)
        shares, drops = occlusion(network, tok, tweet, **options)
        probabilities[method], of_tokens[method] = shares, drops.to_numpy()
    return plots.occlusions(
        pd.DataFrame(probabilities, index=list(classes)),
        pd.DataFrame(of_tokens, index=drops.index),
        title=tweet,
    )
