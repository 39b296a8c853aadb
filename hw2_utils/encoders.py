"""Frozen encoders of pictures and texts behind one call and the embedding cache.

Each has its own preprocessing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw2_utils import hub, keys, pictures, progress
from hw2_utils.embedding_cache import EmbeddingCache, image_key, text_key
from hw2_utils.errors import InputError, explained
from hw2_utils.hub import Model

if TYPE_CHECKING:
    import torch

# What vectors depend on beside the weights: libraries, facts of a pin, and the code of this module.
LIBRARIES = ("numpy", "open_clip_torch", "pillow", "sentence-transformers", "timm", "tokenizers")
LIBRARIES += ("torch", "torchvision", "transformers")
FACTS = ("architecture", "mean", "std", "embed_dim")
Transform = Callable[[Any], Any]
SIZE = 224  # pixels of a picture's side, of all encoders here
N_TEXTS = 32  # that go through a text encoder at once


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder: `encode` maps a batch to float32 [n, dim].

    `spec` names all that its vectors depend on; `of` is "image" or "text".
    """

    spec: dict[str, Any]
    encode: Callable[[list[Any]], np.ndarray]
    of: str

    @property
    def dim(self) -> int:
        return self.spec["dim"]


def embed(
    encoder: Encoder, items: Sequence[Any], *, batch_size: int | None = None
) -> tuple[np.ndarray, EmbeddingCache]:
    """Vectors float32 [n, dim] of picture files or texts; what the cache holds isn't encoded again.

    The cache that comes back says how many were encoded and how many found. Written are 64 pictures
    or 256 texts at a time, or `batch_size`: texts of like length go through the encoder together,
    so more of them hold less padding.
    """
    cache = EmbeddingCache(encoder.spec)
    key = text_key if encoder.of == "text" else (lambda path: image_key(Path(path).read_bytes()))
    with progress.bar(len(items), f"{encoder.of}s") as bar:
        vectors = cache.encode(
            [key(item) for item in items],
            lambda rows: encoder.encode([items[i] for i in rows]),
            batch_size=batch_size or (256 if encoder.of == "text" else 64),
            progress=lambda n_done, _: bar.update(n_done - bar.n),
        )
    return vectors, cache


def embed_splits(
    frames: Mapping[str, pd.DataFrame],
    image_paths: Mapping[str, Path],
    image_encoder: Encoder,
    question_encoder: Encoder,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], pd.DataFrame]:
    """Vectors by image id and by question text, and a table of what was encoded.

    Each distinct picture or question is encoded once.
    """
    rows, vectors, table = pd.concat(frames.values()), {}, {}
    ids, questions = rows["image_id"].unique().tolist(), rows["question"].unique().tolist()
    files = [image_paths[i] for i in ids]
    for kind, encoder, names, items in (
        ("image", image_encoder, ids, files),
        ("question", question_encoder, questions, questions),
    ):
        encoded, cache = embed(encoder, items)
        vectors[kind] = dict(zip(names, encoded, strict=True))
        table[kind] = {
            "dimension": encoder.dim,
            "distinct items": len(items),
            "encoded now": cache.n_encoded,
            "found in the cache": cache.n_found,
        }
    return vectors["image"], vectors["question"], pd.DataFrame(table).T


def _spec(
    model: Model, *towers: Model, preprocessing: str, pooling: str, dim: int
) -> dict[str, Any]:
    facts = [{name: m.facts.get(name) for name in FACTS} for m in (model, *towers)]
    return {
        "model": model.id,
        "revision": model.revision,
        "weights_sha256": " ".join(m.fingerprint for m in (model, *towers)),
        "preprocessing": preprocessing,
        "pooling": pooling,
        "dtype": "float32",
        "dim": dim,
        "code": code(),
        "facts": keys.digest(facts),
    }


def code() -> str:
    """What each store's vectors depend on beside its model: this module's code, and libraries."""
    return keys.digest([keys.package_code(["encoders"]), keys.versions(LIBRARIES)])


def sentence_encoder(model: Model, *, device: str) -> Encoder:
    """Sentence embeddings as sentence-transformers computes them from the folder's own modules.

    Raises InputError for a folder that doesn't load, or whose files lack some of the weights.
    """
    from sentence_transformers import SentenceTransformer

    parts = hub.module_folders(model.path) or [(model.path, "Transformer")]
    for folder in (part for part, kind in parts if kind.endswith("Transformer")):
        hub.check_tokenizer(folder)
    what, todo = (
        "the model doesn't load as a sentence encoder",
        "give a sentence-transformers folder",
    )
    with explained(what, where=model.id, todo=todo):
        network = SentenceTransformer(
            str(model.path),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"dtype": "float32"},
        )
    pooled = any(type(module).__name__ == "Pooling" for module in network)
    for (folder, _), module in zip(parts, network, strict=False):
        if hasattr(module, "auto_model"):
            _check_transformer(module.auto_model, folder, where=model.id, pooled=pooled)
            n_embeddings = module.auto_model.get_input_embeddings().num_embeddings
            hub.check_vocabulary(module.tokenizer, n_embeddings, where=model.id)

    def encode(texts: list[str]) -> np.ndarray:
        return network.encode(
            texts, batch_size=N_TEXTS, convert_to_numpy=True, show_progress_bar=False
        )

    spec = _spec(
        model,
        preprocessing=f"max {network.max_seq_length} tokens",
        pooling=_pooling(network),
        dim=network.get_embedding_dimension(),
    )
    return Encoder(spec, encode, "text")


def _pooling(network: Any) -> str:
    """What a sentence encoder does with its tokens' vectors: "mean, L2" for the sample's."""
    words = {"Normalize": "L2", "StaticEmbedding": "mean"}
    steps = []
    for module in network:
        kind = type(module).__name__
        mode = getattr(module, "pooling_mode", None)
        steps.append("+".join(np.ravel(mode)) if mode else words.get(kind, kind))
    return ", ".join(step for step in steps if step != "Transformer")


def _check_transformer(network: Any, folder: Path, *, where: str, pooled: bool) -> None:
    """Reads the names in a folder's files again; refuses if they lack weights that are used.

    `pooled`: a layer of ours pools the tokens, so that the network's own pooler isn't used.
    """
    _, report = type(network).from_pretrained(
        folder,
        config=network.config,
        output_loading_info=True,
        device_map="meta",
        trust_remote_code=False,
        local_files_only=True,
    )
    hub.check_loaded(report, where=where, new=["pooler."] if pooled else [])


def image_encoder(model: Model, *, geometry: str, device: str) -> Encoder:
    """Vectors before the classification head of the pinned file's network.

    That is torchvision's ResNet-50 or timm's EfficientNet-Lite0.
    """
    architecture = model.facts.get("architecture")
    if architecture == "resnet50":
        network, transform = _resnet50(model, geometry)
        library = f"torchvision {model.revision}"
    elif architecture == "tf_efficientnet_lite0":
        network, transform = _efficientnet_lite0(model, geometry)
        library = f"timm {architecture}"
    else:
        raise InputError(
            "this isn't an image encoder that is known here",
            where=model.id,
            todo="use torchvision:resnet50-v1 or sample:efficientnet-lite0",
        )
    spec = _spec(
        model,
        preprocessing=f"{library}, {geometry}",
        pooling="global average",
        dim=network.num_features,
    )
    return Encoder(spec, _image_batches(_ready(network, device), transform, device), "image")


def _ready(network: torch.nn.Module, device: str) -> torch.nn.Module:
    """The network to evaluate, as fast as it can be."""
    import torch

    return _fold_batch_norms(network.eval()).to(device, memory_format=torch.channels_last)


def _resnet50(model: Model, geometry: str) -> tuple[Any, Transform]:
    """torchvision's ResNet-50 without its classifier."""
    import torch
    import torchvision

    network = torchvision.models.resnet50()
    _load(network, model)
    network.num_features, network.fc = network.fc.in_features, torch.nn.Identity()
    preset = torchvision.models.ResNet50_Weights[model.revision].transforms()
    return network, _geometry(preset, preset.mean, preset.std, geometry)


def clip_encoders(model: Model, *, geometry: str, device: str) -> tuple[Encoder, Encoder]:
    """The two towers of a CLIP model by open_clip: (image, text) into one space."""
    towers = [hub.fetch_model(name) for name in model.facts.get("tower_models", [])]
    if model.facts.get("architecture") == "ViT-B-32-quickgelu":
        network, tokenise, transform = _openai_clip(model, geometry, device)
        dim = network.visual.output_dim
    elif model.facts.get("architecture") == "sample-clip":
        network, tokenise, transform = _sample_clip(model, *towers, geometry)
        dim = model.facts["embed_dim"]
    else:
        raise InputError(
            "this isn't a CLIP model that is known here",
            where=model.id,
            todo="use openai:ViT-B-32 or sample:clip",
        )
    network = _ready(network, device)
    steps = {"image": f"open_clip, {geometry}", "text": "open_clip tokens"}
    specs = {
        of: _spec(model, *towers, preprocessing=steps[of], pooling=f"{of} projection", dim=dim)
        for of in steps
    }
    encode_images = _image_batches(network.encode_image, transform, device)
    encode_texts = _text_batches(network.encode_text, tokenise, device)
    return (
        Encoder(specs["image"], encode_images, "image"),
        Encoder(specs["text"], encode_texts, "text"),
    )


def _openai_clip(model: Model, geometry: str, device: str) -> tuple[Any, Callable, Transform]:
    """(network, tokenise, transform) of OpenAI's file.

    It is a TorchScript archive, which `create_model` doesn't read, of weights trained with
    QuickGELU, which the plain architecture name doesn't have; `load_openai_model` does both.
    """
    import open_clip

    network = open_clip.load_openai_model(str(model.path), precision="fp32", device=device)
    cfg = open_clip.transform.PreprocessCfg()  # its defaults are OpenAI's
    own = open_clip.transform.image_transform_v2(cfg, is_train=False)
    transform = _geometry(own, cfg.mean, cfg.std, geometry, interpolation="bicubic")
    return network, open_clip.get_tokenizer("ViT-B-32-quickgelu"), transform


def _geometry(
    own: Transform,
    mean: Sequence[float],
    std: Sequence[float],
    geometry: str,
    interpolation: str = "bilinear",
) -> Transform:
    """The library's own transform, or the whole picture squeezed into a square.

    The centre crop of the library's own drops the sides of a 4:3 picture.
    """
    import torch
    from torchvision.transforms import InterpolationMode, v2

    if geometry == "crop":
        return own
    if geometry != "whole":
        what, todo = f"no picture geometry {geometry!r}", 'use "whole" or "crop"'
        raise InputError(what, where="profile", todo=todo)
    return v2.Compose(
        [
            v2.Resize((SIZE, SIZE), InterpolationMode(interpolation)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(mean), list(std)),
        ]
    )


def _sample_clip(
    model: Model, image: Model, text: Model, geometry: str
) -> tuple[Any, Callable, Transform]:
    """(network, tokenise, transform): open_clip's model of two frozen towers.

    `model` holds the two projections.
    """
    import open_clip
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    network = open_clip.CustomTextCLIP(
        model.facts["embed_dim"],
        {"timm_model_name": image.facts["architecture"], "timm_pool": "", "image_size": SIZE},
        {
            "hf_model_name": str(text.path),
            "hf_proj_type": "linear",
            "hf_pooler_type": "mean_pooler",
        },
    )
    network.visual.trunk, transform = _efficientnet_lite0(image, geometry)
    # the projections; the towers have their weights
    names = network.load_state_dict(load_file(model.path), strict=False)
    missing = [name for name in names.missing_keys if name.endswith(".proj.weight")]
    report = {"missing_keys": missing, "unexpected_keys": names.unexpected_keys}
    hub.check_loaded(report | {"mismatched_keys": []}, where=model.id)
    _check_transformer(network.text.transformer, text.path, where=text.id, pooled=True)
    tokeniser = AutoTokenizer.from_pretrained(text.path, trust_remote_code=False)

    def tokenise(texts: list[str]) -> torch.Tensor:  # open_clip's own pads every text to one length
        return tokeniser(texts, padding=True, truncation=True, return_tensors="pt")["input_ids"]

    return network.float(), tokenise, transform


def _efficientnet_lite0(model: Model, geometry: str) -> tuple[Any, Transform]:
    """timm's EfficientNet-Lite0 without its classifier.

    The wheel has other names, the same tensors in the same order.
    """
    import timm

    network = timm.create_model(model.facts["architecture"])
    _load(network, model, by_order=True)
    network.reset_classifier(0)
    mean, std = model.facts["mean"], model.facts["std"]
    own = timm.data.create_transform(
        (3, SIZE, SIZE), interpolation="bicubic", crop_pct=0.875, mean=mean, std=std
    )
    return network, _geometry(own, mean, std, geometry, interpolation="bicubic")


def _fold_batch_norms(network: torch.nn.Module) -> torch.nn.Module:
    """Each batch norm's fixed scale and shift put into the convolution before it.

    The same function, a pass less over memory. Takes the modules in the order of their
    registration, which in ResNet and EfficientNet is that of their use.
    """
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    before = ""
    for name, module in list(network.named_modules()):
        if isinstance(module, torch.nn.Conv2d):
            before = name
        elif isinstance(module, torch.nn.BatchNorm2d):
            network.set_submodule(before, fuse_conv_bn_eval(network.get_submodule(before), module))
            activation = getattr(module, "act", torch.nn.Identity())  # timm's norms hold theirs
            network.set_submodule(name, activation)
    return network


def _image_batches(
    forward: Callable[[torch.Tensor], torch.Tensor], transform: Transform, device: str
) -> Callable[[list[Any]], np.ndarray]:
    """What encodes picture files: float32 [n, dim]."""
    import torch

    # on a CPU more than fits the caches is several times slower
    n_at_once = 4 if device == "cpu" else 64

    def encode(files: list[Any]) -> np.ndarray:
        vectors = []
        for i in range(0, len(files), n_at_once):
            # opened just before they are used, while they are in the caches
            opened = (pictures.open_image(Path(file)) for file in files[i : i + n_at_once])
            images = torch.stack([transform(image) for image in opened])
            images = images.to(device, memory_format=torch.channels_last)
            with torch.inference_mode():  # (n, 3, size, size) -> (n, dim)
                vectors.append(forward(images).float().cpu().numpy())
        return np.concatenate(vectors)

    return encode


def _text_batches(
    forward: Callable[[torch.Tensor], torch.Tensor], tokenise: Callable, device: str
) -> Callable[[list[str]], np.ndarray]:
    """What encodes texts, those of like length together: float32 [n, dim] in their order."""
    import torch

    def encode(texts: list[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = []
        for start in range(0, len(order), N_TEXTS):
            tokens = tokenise([texts[i] for i in order[start : start + N_TEXTS]])
            with torch.inference_mode():
                vectors.append(forward(tokens.to(device)).float().cpu().numpy())
        return np.concatenate(vectors)[np.argsort(order)]

    return encode


def _load(network: torch.nn.Module, model: Model, *, by_order: bool = False) -> None:
    import torch

    # errors of many types
    with explained("the weights don't load", where=model.id, todo="fetch the file again"):
        state = torch.load(model.path, map_location="cpu", weights_only=True)
        if by_order:
            state = dict(zip(network.state_dict(), state.values(), strict=True))
        network.load_state_dict(state)
