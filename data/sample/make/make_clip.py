"""Writes data/sample/clip: the two projections of the sample CLIP, trained on scenes and captions.

Both towers are frozen (EfficientNet-Lite0 and MiniLM from the pinned wheels); only two linear maps
to a common space are learnt, by the symmetric contrastive loss, on drawn scenes of the seeds SEEDS.
The sample's own scenes have the first seeds from 0 up that show enough, far below SEEDS, so the two
sets can't share a scene. pixels.txt holds a hash of each picture's decoded pixels; a test compares
them with the sample's pictures.

The files were made with the drawings as they were then: new drawings need no new projections, new
seeds would.
Run: python data/sample/make/make_clip.py [folder for the drawings]
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import tempfile
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from make_daquar import MIN_CLEAR, picture
from PIL import Image
from safetensors.torch import save_file
from scenes import Scene, counts, describe, plural, words

from hw2_utils import encoders, hub

OUT = Path(__file__).resolve().parents[1] / "clip"
SEEDS = range(1_000_000, 1_001_200)
HELD_OUT = 200  # scenes, the last ones: they measure, and train nothing
CAPTIONS = 8  # a scene
EMBED_DIM = 256
# Chosen on 200 of the training scenes; the held-out ones chose nothing.
STEPS, BATCH, RATE, DECAY, TEMPERATURE, SHRINKAGE, DROPOUT = 300, 512, 1e-3, 0.3, 0.05, 1.0, 0.5
NUMBERS = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)


# ------------------------------------------------------------------------------------- captions
def _one(name: str, colour: str = "") -> str:
    article = "" if plural(name) == words(name) else "a "
    return article + f"{colour} {words(name)}".strip()


def facts(scene: Scene) -> list[str]:
    """What a caption may say: how many of what is clearly visible, its colours, its relations."""
    clear = {o.index: o for o in scene.objects if o.clear}
    said = [f"{scene.wall_colour} walls"]
    said += [
        f"{NUMBERS[n]} {plural(name)}" if n > 1 else _one(name)
        for name, n in counts(scene.objects).items()
        if n < len(NUMBERS)
    ]
    thing = {index: _one(o.name, o.colour) for index, o in clear.items()}
    said += thing.values()
    said += [
        f"{thing[a]} {relation} {thing[b]}".replace(" left of", " to the left of").replace(
            " right of", " to the right of"
        )
        for a, relation, b in scene.relations
        if a in clear and b in clear
    ]
    return sorted(set(said))


def captions(scene: Scene) -> list[str]:
    """CAPTIONS different sentences, each with two to six facts; half of them name the room."""
    rng, said = random.Random(scene.seed), facts(scene)
    starts = (f"a {scene.room} with ", "there are ") * (CAPTIONS // 2)
    return [
        start + ", ".join(rng.sample(said, min(len(said), rng.randint(2, 6)))) for start in starts
    ]


# ------------------------------------------------------------------------------------- pictures
def pixels_hash(path: Path) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a picture's decoded pixels."""
    return hashlib.sha256(np.asarray(Image.open(path).convert("RGB")).tobytes()).hexdigest()[:16]


def save(scene: Scene, folder: Path) -> Path:
    """The scene's picture, compressed as those of data/sample/daquar."""
    path = folder / f"{scene.seed}.jpg"
    if not path.exists():
        path.write_bytes(picture(scene))
    return path


def _drawn(job: tuple[int, Path]) -> tuple[Path, list[str]] | None:
    """Picture and captions of a scene with enough in view."""
    seed, folder = job
    scene = describe(seed)
    return (
        (save(scene, folder), captions(scene))
        if sum(o.clear for o in scene.objects) >= MIN_CLEAR
        else None
    )


# ------------------------------------------------------------------------------------- training
def _whitener(x: torch.Tensor) -> torch.Tensor:
    """Symmetric [d, d] map that brings the second moments of x [n, d] nearer to the unit matrix."""
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    return vectors @ torch.diag((values + SHRINKAGE * values.mean()).rsqrt()) @ vectors.T


def train(images: torch.Tensor, texts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two projections [EMBED_DIM, d], learnt by the symmetric contrastive loss.

    The inputs are pictures [n, d] and texts [n, CAPTIONS, d].
    """
    torch.manual_seed(0)
    white = [_whitener(images), _whitener(texts.flatten(0, 1))]
    x, y = images @ white[0], texts @ white[1]
    weights = [
        torch.nn.Parameter(torch.randn(EMBED_DIM, v.shape[-1]) / v.shape[-1] ** 0.5) for v in (x, y)
    ]
    optimiser = torch.optim.AdamW(weights, lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        rows = torch.randperm(len(x))[:BATCH]
        pair = x[rows], y[rows, torch.randint(CAPTIONS, (len(rows),))]
        a, b = (
            torch.nn.functional.normalize(torch.nn.functional.dropout(v, DROPOUT) @ w.T, dim=1)
            for v, w in zip(pair, weights, strict=True)
        )
        logits, diagonal = a @ b.T / TEMPERATURE, torch.arange(len(rows))
        cross = torch.nn.functional.cross_entropy
        loss = (cross(logits, diagonal) + cross(logits.T, diagonal)) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return weights[0].detach() @ white[0], weights[1].detach() @ white[1]


def retrieval(images: torch.Tensor, texts: torch.Tensor) -> dict[str, float]:
    """Recall of picture -> caption and caption -> picture among the n pairs, and mean cosines.

    Both inputs are [n, EMBED_DIM].
    """
    cosine = (
        torch.nn.functional.normalize(images, dim=1) @ torch.nn.functional.normalize(texts, dim=1).T
    )
    n, result = len(cosine), {}
    for name, scores in (("image to caption", cosine), ("caption to image", cosine.T)):
        rank = (scores > scores.diagonal()[:, None]).sum(1)
        result |= {f"{name}, recall@{k}": float((rank < k).float().mean()) for k in (1, 5)}
    matched = cosine.diagonal()
    unmatched = (cosine.sum() - matched.sum()) / (n * n - n)
    return result | {
        "chance recall@1": 1 / n,
        "cosine matched": float(matched.mean()),
        "cosine unmatched": float(unmatched),
    }


def main() -> None:
    torch.set_num_threads(1)  # sums depend on the number of threads
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    with Pool(2) as pool:
        found = [
            f for f in pool.imap(_drawn, [(seed, folder) for seed in SEEDS], chunksize=20) if f
        ]
    image_tower = encoders.image_encoder(
        hub.fetch_model("sample:efficientnet-lite0"), geometry="whole", device="cpu"
    )
    text_tower = encoders.sentence_encoder(hub.fetch_model("sample:all-MiniLM-L6-v2"), device="cpu")
    images, texts = [], []
    for start in range(0, len(found), 64):
        batch = found[start : start + 64]
        images.append(image_tower.encode([path for path, _ in batch]))
        texts.append(text_tower.encode([caption for _, some in batch for caption in some]))
    x = torch.from_numpy(np.concatenate(images))
    y = torch.from_numpy(np.concatenate(texts)).view(len(found), CAPTIONS, -1)
    image, text = (w.half() for w in train(x[:-HELD_OUT], y[:-HELD_OUT]))
    measured = {
        name: retrieval(x[rows] @ image.float().T, y[rows, 0] @ text.float().T)
        for name, rows in (("held out", slice(-HELD_OUT, None)), ("trained on", slice(0, HELD_OUT)))
    }
    print(json.dumps({"scenes": len(found), **measured}, indent=1))
    OUT.mkdir(exist_ok=True)
    save_file(
        {"visual.head.proj.weight": image.contiguous(), "text.proj.weight": text.contiguous()},
        OUT / "projections.safetensors",
    )
    hashes = "".join(f"{path.stem} {pixels_hash(path)}\n" for path, _ in found)
    (OUT / "pixels.txt").write_text(hashes, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
