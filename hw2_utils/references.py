"""Holds a model's outputs against what others have published for the same weights, once a file.

Pinned hashes say that the bytes are those meant; this says that what is computed from them here is
the model that is meant: architecture, layout, precision, preprocessing. The table is
`config/references.toml`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from hw2_utils import hub, keys, paths
from hw2_utils.errors import Hw2Error
from hw2_utils.hub import Model

_TEXT = (paths.CONFIG / "references.toml").read_text(encoding="utf-8")
TABLE: dict[str, dict[str, Any]] = tomllib.loads(_TEXT)["references"]
NONE = "no reference"


def of(model: Model) -> dict[str, Any] | None:
    """The reference of a pinned model: its weights' hash has it, or its pin names it."""
    if model.verified == "local folder" or model.config:
        return None
    return _find(model.facts, model.sha256.values())


def _find(pin: Mapping[str, Any], hashes: Iterable[str]) -> dict[str, Any] | None:
    known = {
        reference["weights"]: reference for reference in TABLE.values() if "weights" in reference
    }
    by_hash = (known[sha256] for sha256 in hashes if sha256 in known)
    return TABLE.get(pin.get("reference", "")) or next(by_hash, None)


def hold(model: Model) -> str:
    """The verdict: begins with "passed", "no reference", "skipped" or "differs"; with numbers.

    One that has passed is remembered beside the embedding cache, for these files and libraries.
    Raises Hw2Error, with both numbers, for a difference that no preprocessing can explain.
    """
    reference = of(model)
    if reference is None or (known := remembered(model)):
        return NONE if reference is None else known
    if "picture" in reference and not picture(reference).is_file():
        return f"skipped: needs the picture {paths.short(picture(reference))}"
    expected, found = np.array(reference["expected"]), output(model, reference)
    difference, most = np.abs(found - expected).max(), reference["tolerance"]
    if difference <= most:  # no number is no pass either
        verdict = f"passed: at most {difference:.1e} off, allowed {most:.0e}; {reference['source']}"
        _place(model).parent.mkdir(parents=True, exist_ok=True)
        _place(model).write_text(verdict, encoding="utf-8")
        return verdict
    what = f"{reference['output']} are {_shown(found)}, published are {_shown(expected)}"
    if reference["exact"]:
        raise Hw2Error(
            f"these aren't the published model's outputs: {what} ({reference['source']})",
            where=model.id,
            todo="install the locked versions (make venv) and fetch the model again; other weights "
            "have a pins file of their own (HW2_PINS), with their hash and without `reference`",
        )
    return f"differs: {what}; {reference['source']}"


def picture(reference: Mapping[str, Any]) -> Path:
    """Where a reference's picture is looked for; none is fetched."""
    return paths.DATA / "references" / reference["picture"]


def output(model: Model, reference: Mapping[str, Any]) -> np.ndarray:
    """What the model gives for a reference's input, shaped as its `expected`: CPU, float32."""
    import torch

    kinds = {
        "hidden states": _rows,
        "logits": _rows,
        "cosines": _cosines,
        "probabilities of texts": _text_probabilities,
        "probabilities of classes": _class_probabilities,
    }
    with torch.random.fork_rng(), torch.inference_mode():
        return np.asarray(kinds[reference["output"]](model, reference))


def _rows(model: Model, reference: Mapping[str, Any]) -> Any:
    import torch
    import transformers

    from hw2_utils import prompting

    if reference["output"] == "logits":
        network = prompting.load(model.path).model
    else:
        transformers.logging.set_verbosity_error()  # a pooler that the files lack isn't used
        network = transformers.AutoModel.from_pretrained(
            model.path, dtype="float32", trust_remote_code=False, local_files_only=True
        )
    n_rows, n_columns = np.shape(reference["expected"])
    return network(torch.tensor([reference["ids"]]))[0][0, :n_rows, :n_columns]


def _cosines(model: Model, reference: Mapping[str, Any]) -> Any:
    from hw2_utils import encoders

    vectors = _unit(encoders.sentence_encoder(model, device="cpu").encode(reference["texts"]))
    return (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]


def _text_probabilities(model: Model, reference: Mapping[str, Any]) -> Any:
    from hw2_utils import encoders

    image, text = encoders.clip_encoders(model, geometry="crop", device="cpu")
    cosines = _unit(image.encode([picture(reference)])) @ _unit(text.encode(reference["texts"])).T
    return softmax(reference["scale"] * cosines[0])


def _class_probabilities(model: Model, reference: Mapping[str, Any]) -> Any:
    import torch

    from hw2_utils import encoders

    image = encoders.image_encoder(model, geometry="crop", device="cpu")
    state = torch.load(model.path, map_location="cpu", weights_only=True)
    head, shift = state["fc.weight"].numpy(), state["fc.bias"].numpy()
    return softmax(head @ image.encode([picture(reference)])[0] + shift)[reference["classes"]]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _shown(values: np.ndarray) -> str:
    return " ".join(f"{value:.4f}" for value in values.ravel())


# ------------------------------------------------------------------------------------------ memory
def state(name: str, model: Model | None) -> str:
    """What is known of a pinned id, computing nothing; `model` is None where it isn't here."""
    pin = hub.pins().get("models", {}).get(name, {})
    if "config" in pin or _find(pin, pin.get("sha256", {}).values()) is None:
        return NONE
    return (model and remembered(model)) or "not held against it yet, the first run does so"


def remembered(model: Model) -> str | None:
    """The verdict of a check that these files have passed with these libraries, or None."""
    with suppress(OSError, ValueError):
        verdict = _place(model).read_text(encoding="utf-8")
        return verdict if verdict.startswith("passed: ") else None
    return None


def _place(model: Model) -> Path:
    """A file named by all that a verdict depends on."""
    key = keys.digest([model.fingerprint, of(model), keys.versions()])
    return paths.EMBEDDINGS_CACHE / "references" / f"{key[:32]}.txt"
