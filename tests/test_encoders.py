"""Encoders: each vector equals the reference's; cache, geometry, refusals; the sample CLIP."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
import torchvision
from loopback_hub import openai_clip, resnet50, save_as_openai
from PIL import Image
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from transformers import AutoTokenizer, BertConfig, BertModel

from hw2_utils import encoders, hub, paths
from hw2_utils.embedding_cache import EmbeddingCache
from hw2_utils.errors import InputError

SAMPLE = paths.ROOT / "data" / "sample"
FILES = sorted((SAMPLE / "daquar" / "images").glob("*.jpg"))[:6]
TEXTS = [
    "what is on the table",
    "how many chairs are there",
    "what is the colour of the wall",
    "how many lamps " * 20,
]
TOLERANCE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "EMBEDDINGS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def lite0() -> encoders.Encoder:
    return encoders.image_encoder(
        hub.fetch_model("sample:efficientnet-lite0"), geometry="whole", device="cpu"
    )


@pytest.fixture(scope="module")
def minilm() -> encoders.Encoder:
    return encoders.sentence_encoder(hub.fetch_model("sample:all-MiniLM-L6-v2"), device="cpu")


@pytest.fixture(scope="module")
def clip() -> tuple[encoders.Encoder, encoders.Encoder]:
    return encoders.clip_encoders(hub.fetch_model("sample:clip"), geometry="whole", device="cpu")


def pin(
    monkeypatch: pytest.MonkeyPatch, file: Path, architecture: str, revision: str = "1"
) -> hub.Model:
    """The file as a pinned model, by a pins file of its own."""
    table = f"""[models."test:model"]
project_folder = "{file.parent}"
file = "{file.name}"
revision = "{revision}"
architecture = "{architecture}"
[models."test:model".sha256]
"{file.name}" = "{hub.file_sha256(file)}"
"""
    pins = file.parent / "pins.toml"
    pins.write_text(table, encoding="utf-8")
    monkeypatch.setattr(paths, "PINS", pins)
    return hub.fetch_model("test:model")


# -------------------------------------------------------------------- references
def pixels(
    file: Path, geometry: str, mean: float = 127 / 255, std: float = 128 / 255
) -> torch.Tensor:
    """A picture [3, 224, 224] as EfficientNet-Lite takes it, by Pillow and numpy alone."""
    image = Image.open(file).convert("RGB")
    if geometry == "crop":  # 224 / 0.875 = 256 on the shorter side
        scale = 256 / min(image.size)
        size = [int(side * scale) for side in image.size]
        image = image.resize(size, Image.Resampling.BICUBIC)
        left, top = (round((side - 224) / 2) for side in size)
        image = image.crop((left, top, left + 224, top + 224))
    else:
        image = image.resize((224, 224), Image.Resampling.BICUBIC)
    return torch.from_numpy((np.asarray(image, np.float32) / 255 - mean) / std).permute(2, 0, 1)


def lite0_by_hand(x: torch.Tensor) -> torch.Tensor:
    """EfficientNet-Lite0 from the file's own names, as TensorFlow computes it.

    From [n, 3, 224, 224] to [n, 1280].
    """
    state = torch.load(hub.fetch_model("sample:efficientnet-lite0").path, weights_only=True)

    def conv(x: torch.Tensor, name: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
        weight, size = state[f"{name}.weight"], x.shape[-1]
        missing = max(
            (-(-size // stride) - 1) * stride + weight.shape[-1] - size, 0
        )  # "same" padding, more at the end
        x = F.pad(x, [missing // 2, missing - missing // 2] * 2)
        return F.conv2d(x, weight, stride=stride, groups=groups)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        values = [
            state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        ]
        return F.batch_norm(x, *values, eps=1e-3)

    x = F.relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    for block in range(16):
        name, before = f"_blocks.{block}", x
        if f"{name}._expand_conv.weight" in state:
            x = F.relu6(norm(conv(x, f"{name}._expand_conv"), f"{name}._bn0"))
        x = F.relu6(
            norm(
                conv(x, f"{name}._depthwise_conv", strides.get(block, 1), x.shape[1]),
                f"{name}._bn1",
            )
        )
        x = norm(conv(x, f"{name}._project_conv"), f"{name}._bn2")
        x = x + before if x.shape == before.shape else x
    return F.relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))


# -------------------------------------------------------------------- equal to the reference
@pytest.mark.parametrize("geometry", ["whole", "crop"])
def test_lite0_equals_a_forward_pass_by_hand(geometry: str) -> None:
    encoder = encoders.image_encoder(
        hub.fetch_model("sample:efficientnet-lite0"), geometry=geometry, device="cpu"
    )
    vectors, _ = encoders.embed(encoder, FILES)
    expected = lite0_by_hand(torch.stack([pixels(file, geometry) for file in FILES]))
    assert (
        vectors.dtype == np.float32 and vectors.shape == (len(FILES), 1280) and encoder.dim == 1280
    )
    np.testing.assert_allclose(vectors, expected, **TOLERANCE)


def test_sentences_equal_sentence_transformers(minilm: encoders.Encoder) -> None:
    vectors, _ = encoders.embed(minilm, TEXTS)
    expected = SentenceTransformer(
        str(hub.fetch_model("sample:all-MiniLM-L6-v2").path), device="cpu"
    ).encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 384) and minilm.dim == 384
    np.testing.assert_allclose(vectors, expected, **TOLERANCE)


def test_sample_clip_equals_open_clip(clip: tuple[encoders.Encoder, encoders.Encoder]) -> None:
    folder = str(hub.fetch_model("sample:all-MiniLM-L6-v2").path)
    projections = load_file(hub.fetch_model("sample:clip").path)
    network = open_clip.CustomTextCLIP(
        256,
        {"timm_model_name": "tf_efficientnet_lite0", "timm_pool": "", "image_size": 224},
        {
            "hf_model_name": folder,
            "hf_model_pretrained": False,
            "hf_proj_type": "linear",
            "hf_pooler_type": "mean_pooler",
        },
    )
    network.text.transformer.load_state_dict(load_file(f"{folder}/model.safetensors"), strict=False)
    network.text.proj.load_state_dict({"weight": projections["text.proj.weight"]})
    images, _ = encoders.embed(clip[0], FILES)
    texts, _ = encoders.embed(clip[1], TEXTS)
    features = lite0_by_hand(torch.stack([pixels(file, "whole") for file in FILES]))
    tokens = open_clip.tokenizer.HFTokenizer(folder, context_length=128)(TEXTS)
    with torch.inference_mode():
        expected = network.eval().encode_text(tokens)
    assert (
        images.shape == (len(FILES), 256)
        and texts.shape == (len(TEXTS), 256)
        and clip[0].dim == clip[1].dim == 256
    )
    np.testing.assert_allclose(
        images, features @ projections["visual.head.proj.weight"].float().T, **TOLERANCE
    )
    np.testing.assert_allclose(texts, expected, **TOLERANCE)


@pytest.mark.slow
def test_resnet50_equals_torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    resnet50(tmp_path / "resnet50.pth")
    network = torchvision.models.resnet50()
    network.load_state_dict(torch.load(tmp_path / "resnet50.pth"))
    model = pin(monkeypatch, tmp_path / "resnet50.pth", "resnet50", "IMAGENET1K_V1")
    encoder = encoders.image_encoder(model, geometry="crop", device="cpu")
    vectors, _ = encoders.embed(encoder, FILES[:3])
    preset = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    pooled = []
    network.avgpool.register_forward_hook(lambda _, __, output: pooled.append(output.flatten(1)))
    with torch.inference_mode():
        network.eval()(torch.stack([preset(Image.open(file).convert("RGB")) for file in FILES[:3]]))
    assert encoder.dim == 2048
    scale = pooled[0].abs().max()  # random weights: values up to 40, where trained ones stay near 1
    np.testing.assert_allclose(vectors / scale, pooled[0] / scale, **TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["TorchScript archive", "state dict"])
def test_openai_clip_equals_open_clip(
    layout: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OpenAI's file is a TorchScript archive in float16; the activation is QuickGELU."""
    network, preprocess = openai_clip()
    if layout == "state dict":
        torch.save(network.state_dict(), tmp_path / "ViT-B-32.pt")
    else:
        save_as_openai(network, tmp_path / "ViT-B-32.pt")
    model = pin(monkeypatch, tmp_path / "ViT-B-32.pt", "ViT-B-32-quickgelu")
    image, text = encoders.clip_encoders(model, geometry="crop", device="cpu")
    with torch.inference_mode():
        expected_images = network.encode_image(
            torch.stack([preprocess(Image.open(file)) for file in FILES[:3]])
        )
        expected_texts = network.encode_text(open_clip.tokenize(TEXTS))
    assert image.dim == text.dim == 512
    np.testing.assert_allclose(encoders.embed(image, FILES[:3])[0], expected_images, **TOLERANCE)
    np.testing.assert_allclose(encoders.embed(text, TEXTS)[0], expected_texts, **TOLERANCE)


# -------------------------------------------------------------------- order, batches, cache
@pytest.mark.parametrize("of", ["image", "text"])
def test_neither_order_nor_duplicates_nor_batches_matter(
    of: str,
    lite0: encoders.Encoder,
    minilm: encoders.Encoder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    encoder, items = (lite0, FILES) if of == "image" else (minilm, TEXTS)
    expected, cache = encoders.embed(encoder, items)
    assert (cache.n_encoded, cache.n_found) == (len(items), 0)
    order = [2, 0, 3, 1, 0, 0, 2]
    for batch_size in (1, 3):
        monkeypatch.setattr(paths, "EMBEDDINGS_CACHE", tmp_path / str(batch_size))
        vectors, cache = encoders.embed(encoder, [items[i] for i in order], batch_size=batch_size)
        assert (cache.n_encoded, cache.n_found) == (4, 0)
        np.testing.assert_allclose(vectors, expected[order], **TOLERANCE)


def test_what_was_encoded_once_is_only_found_again(
    clip: tuple[encoders.Encoder, encoders.Encoder],
) -> None:
    for encoder, items in zip(clip, (FILES, TEXTS), strict=True):
        first, _ = encoders.embed(encoder, items)
        second, cache = encoders.embed(encoder, items)
        assert (cache.n_encoded, cache.n_found) == (0, len(items))
        np.testing.assert_array_equal(first, second)


def test_geometries_have_different_vectors_and_stores(lite0: encoders.Encoder) -> None:
    crop = encoders.image_encoder(
        hub.fetch_model("sample:efficientnet-lite0"), geometry="crop", device="cpu"
    )
    vectors, stores = zip(
        *(encoders.embed(encoder, FILES) for encoder in (lite0, crop)), strict=True
    )
    assert lite0.spec != crop.spec and stores[0].path != stores[1].path
    assert np.abs(vectors[0] - vectors[1]).max() > 0.1


def test_towers_of_the_sample_clip_have_stores_of_their_own(
    clip: tuple[encoders.Encoder, encoders.Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = hub.fetch_model("sample:clip")
    towers = [hub.fetch_model(name) for name in model.facts["tower_models"]]
    for encoder in clip:  # other weights of a tower would be another store
        assert all(m.fingerprint in encoder.spec["weights_sha256"] for m in (model, *towers))
    assert EmbeddingCache(clip[0].spec).path != EmbeddingCache(clip[1].spec).path
    assert set(model.facts["towers"]) == {t for tower in towers for t in tower.facts["towers"]}


# -------------------------------------------------------------------- sentence-transformers folders
@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A folder with a small encoder of random weights, and the sample's tokenizer."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    network = BertModel(BertConfig(vocab_size=30522, intermediate_size=64, **shape))
    network.save_pretrained(tmp_path / "bert")
    vocabulary = hub.fetch_model("sample:all-MiniLM-L6-v2").path / "vocab.txt"
    (tmp_path / "bert" / "vocab.txt").write_bytes(vocabulary.read_bytes())
    return tmp_path / "bert"


def as_first_versions_did(folder: Path) -> None:
    """The transformer in a folder of its own, beside a configuration that names a version."""
    (folder / "0_Transformer").mkdir()
    entries = json.loads((folder / "modules.json").read_text())
    entries[0]["path"] = "0_Transformer"
    for file in [f for f in folder.iterdir() if f.is_file()]:
        if file.name not in ("modules.json", "config_sentence_transformers.json"):
            file.rename(folder / "0_Transformer" / file.name)
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "config.json").write_text('{"__version__": "0.3.8"}')


def with_pickled_dense(folder: Path) -> None:
    dense = folder / "2_Dense"
    torch.save(load_file(dense / "model.safetensors"), dense / "pytorch_model.bin")
    (dense / "model.safetensors").unlink()


FOLDERS = {  # what follows the transformer, what is done to the folder, pooling in words
    "mean": ([modules.Pooling(32)], None, "mean"),
    "cls": ([modules.Pooling(32, pooling_mode="cls")], as_first_versions_did, "cls"),
    "two": ([modules.Pooling(32, pooling_mode=("max", "mean"))], None, "max+mean"),
    "dense": (
        [modules.Pooling(32), modules.Dense(32, 16), modules.Normalize()],
        with_pickled_dense,
        "mean, Dense, L2",
    ),
}


@pytest.mark.parametrize("name", [*FOLDERS, "static", "bare"])
def test_folders_of_any_layout_give_the_librarys_vectors(bert: Path, name: str) -> None:
    steps, change, pooling = FOLDERS.get(name, ([], None, "mean"))
    folder = bert.parent / name
    if name == "static":
        tok = AutoTokenizer.from_pretrained(bert).backend_tokenizer
        steps = [modules.StaticEmbedding(tok, embedding_dim=24)]
    elif name == "bare":
        bert.rename(folder)
    else:
        steps = [modules.Transformer(str(bert)), *steps]
    if steps:
        SentenceTransformer(modules=steps, device="cpu").save(str(folder))
    if change:
        change(folder)
    encoder = encoders.sentence_encoder(hub.fetch_model(str(folder)), device="cpu")
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, **TOLERANCE)
    assert encoder.spec["pooling"] == pooling and encoder.dim == expected.shape[1]


def rewritten(folder: Path, change: Callable[[str], str | None]) -> Path:
    """The folder's tensors under other names, or without some of them."""
    tensors = {change(name): t for name, t in load_file(folder / "model.safetensors").items()}
    tensors.pop(None, None)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: None if "layer.1.attention.self" in n else n, "6 weights are missing, such as"),
        (lambda n: f"0.auto_model.{n}", "37 weights are missing, .* the files hold 39 others"),
    ],
)
def test_a_sentence_encoders_missing_weights_are_refused(
    bert: Path, change: Callable[[str], str | None], message: str
) -> None:
    model = hub.fetch_model(str(rewritten(bert, change)))
    with pytest.raises(InputError, match=message):
        encoders.sentence_encoder(model, device="cpu")


def test_a_pooler_that_nothing_reads_may_be_missing(bert: Path) -> None:
    before = encoders.sentence_encoder(hub.fetch_model(str(bert)), device="cpu").encode(TEXTS)
    rewritten(bert, lambda name: None if name.startswith("pooler") else name)
    encoder = encoders.sentence_encoder(hub.fetch_model(str(bert)), device="cpu")
    np.testing.assert_allclose(encoder.encode(TEXTS), before, **TOLERANCE)


def test_a_sentence_encoders_tokenizer_must_fit(bert: Path) -> None:
    words = "".join(f"extra{i}\n" for i in range(9))
    with open(bert / "vocab.txt", "a", encoding="utf-8") as file:
        file.write(words)
    with pytest.raises(InputError, match="more tokens than the model: 30531 against 30522"):
        encoders.sentence_encoder(hub.fetch_model(str(bert)), device="cpu")


def test_a_clip_without_its_projections_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = hub.fetch_model("sample:clip")
    tensors = {name.replace("text.proj", "proj"): t for name, t in load_file(real.path).items()}
    save_file(tensors, tmp_path / "projections.safetensors")
    model = dataclasses.replace(real, path=tmp_path / "projections.safetensors")
    with pytest.raises(InputError, match="1 weights are missing, such as text.proj.weight"):
        encoders.clip_encoders(model, geometry="whole", device="cpu")


# -------------------------------------------------------------------- refusals
def test_an_unknown_geometry_is_refused() -> None:
    for load, name in (
        (encoders.image_encoder, "sample:efficientnet-lite0"),
        (encoders.clip_encoders, "sample:clip"),
    ):
        with pytest.raises(InputError, match="no picture geometry 'round'"):
            load(hub.fetch_model(name), geometry="round", device="cpu")


def test_other_models_are_refused_with_a_way_out() -> None:
    texts, gguf = (
        hub.fetch_model("sample:all-MiniLM-L6-v2"),
        hub.fetch_model("sample:SmolLM2-135M-Instruct"),
    )
    with pytest.raises(InputError, match="isn't an image encoder.*\n.*torchvision:resnet50-v1"):
        encoders.image_encoder(texts, geometry="whole", device="cpu")
    with pytest.raises(InputError, match="isn't a CLIP model.*\n.*openai:ViT-B-32"):
        encoders.clip_encoders(texts, geometry="whole", device="cpu")
    with pytest.raises(InputError, match="no tokenizer"):
        encoders.sentence_encoder(gguf, device="cpu")


def test_weights_that_do_not_fit_or_hold_code_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Code:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "ran",)

    file = tmp_path / "weights.pth"
    torch.save({"a": Code()}, file)
    with pytest.raises(InputError, match="the weights don't load"):
        encoders.image_encoder(
            pin(monkeypatch, file, "resnet50", "IMAGENET1K_V1"), geometry="whole", device="cpu"
        )
    assert not (tmp_path / "ran").exists()
    torch.save({"a": torch.zeros(3)}, file)
    with pytest.raises(InputError, match="the weights don't load"):
        encoders.image_encoder(
            pin(monkeypatch, file, "resnet50", "IMAGENET1K_V1"), geometry="whole", device="cpu"
        )


# -------------------------------------------------------------------- the sample CLIP's files
@pytest.fixture
def make_clip(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SAMPLE / "make"))
    import make_clip

    return make_clip


def test_projections_are_small_and_float16() -> None:
    file = hub.fetch_model("sample:clip").path
    shapes = {name: (tuple(w.shape), w.dtype) for name, w in load_file(file).items()}
    assert shapes == {
        "visual.head.proj.weight": ((256, 1280), torch.float16),
        "text.proj.weight": ((256, 384), torch.float16),
    }
    assert sum(f.stat().st_size for f in file.parent.iterdir()) < 2**20


def test_the_sample_clip_has_not_seen_the_sample(make_clip) -> None:
    rows = [
        line.split()
        for line in (SAMPLE / "clip" / "pixels.txt").read_text(encoding="utf-8").splitlines()
    ]
    seeds, hashes = {int(seed) for seed, _ in rows}, {digest for _, digest in rows}
    assert len(rows) > 1000 and seeds <= set(make_clip.SEEDS)
    sample = sorted((SAMPLE / "daquar" / "images").glob("*.jpg"))
    assert len(sample) == 300 and not hashes & {make_clip.pixels_hash(file) for file in sample}
    questions = set()
    for split in ("train", "val", "test"):
        with open(
            SAMPLE / "daquar" / f"new_data_{split}.csv", encoding="utf-8", newline=""
        ) as file:
            questions |= {row["question"] for row in csv.DictReader(file)}
    said = {
        caption
        for seed in make_clip.SEEDS[:20]
        for caption in make_clip.captions(make_clip.describe(seed))
    }
    assert len(said) > 100 and not said & questions


@pytest.mark.slow
def test_the_hash_would_find_a_picture_that_both_have(make_clip, tmp_path: Path) -> None:
    import make_daquar

    first = next(
        s
        for s in map(make_clip.describe, count())
        if sum(o.clear for o in s.objects) >= make_daquar.MIN_CLEAR
    )
    again = make_clip.save(first, tmp_path)
    assert make_clip.pixels_hash(again) == make_clip.pixels_hash(
        SAMPLE / "daquar" / "images" / "image1.jpg"
    )


@pytest.mark.slow
def test_captions_find_their_held_out_scenes(
    make_clip, clip: tuple[encoders.Encoder, encoders.Encoder], tmp_path: Path
) -> None:
    scenes = [make_clip.describe(seed) for seed in make_clip.SEEDS[-30:]]
    images = clip[0].encode([make_clip.save(scene, tmp_path) for scene in scenes])
    texts = clip[1].encode([make_clip.captions(scene)[0] for scene in scenes])
    measured = make_clip.retrieval(torch.from_numpy(images), torch.from_numpy(texts))
    assert measured["image to caption, recall@5"] > 2 * 5 / len(scenes)
    assert measured["cosine matched"] > measured["cosine unmatched"] + 0.1
