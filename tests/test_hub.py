"""Model files are held against their pins, local folders against what may be loaded, downloads against their hash."""
from __future__ import annotations

import hashlib
import http.server
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hw2_utils import hub, paths
from hw2_utils.errors import Hw2Error, InputError

SAMPLE = ("sample:all-MiniLM-L6-v2", "sample:efficientnet-lite0", "sample:SmolLM2-135M-Instruct")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ---------------------------------------------------------------------------------------------- pins
@pytest.mark.parametrize("name", SAMPLE)
def test_sample_models_are_those_pinned(name):
    model = hub.model(name)
    assert model.verified == "pinned" and len(model.sha256) >= 1
    root = model.path if model.path.is_dir() else model.path.parent
    assert {f: sha256((root / f).read_bytes()) for f in model.sha256} == dict(model.sha256)


def test_the_two_layer_variant_has_the_same_files_and_another_fingerprint():
    whole, short = hub.model(SAMPLE[0]), hub.model(f"{SAMPLE[0]}-2layers")
    assert whole.sha256 == short.sha256 and short.config == {"num_hidden_layers": 2}
    assert whole.fingerprint != short.fingerprint and json.dumps(short.record())


def pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "pins.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(paths, "PINS", tmp_path / "pins.toml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with a configuration and two tensors."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    save_file({"a": np.ones(3, np.float32)}, made / "model.safetensors")
    return made


def pin_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = "\n".join(f'"{p.name}" = "{sha256(p.read_bytes())}"' for p in sorted(folder.iterdir()))
    pin(folder.parent, monkeypatch, f'[models."mine"]\nproject_folder = "{folder}"\nrevision = "1"\n[models."mine".sha256]\n{hashes}')


def test_an_altered_byte_is_refused_and_names_the_file(folder, monkeypatch):
    pin_folder(folder, monkeypatch)
    assert hub.model("mine").verified == "pinned"
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(Hw2Error, match="mine, model.safetensors") as error:
        hub.model("mine")
    assert sha256(bytes(data)) in str(error.value)


def test_a_missing_file_is_named(folder, monkeypatch):
    pin_folder(folder, monkeypatch)
    (folder / "config.json").unlink()
    with pytest.raises(Hw2Error, match="config.json"):
        hub.model("mine")


@pytest.mark.parametrize(("package", "version"), [("no-such-package", "0.1.0"), ("numpy", "0.0.1")])
def test_a_model_whose_package_is_not_installed(tmp_path, monkeypatch, package, version):
    pin(tmp_path, monkeypatch, f'[models."mine"]\npackage = "{package}"\nfolder = "x"\nrevision = "{version}"\n')
    with pytest.raises(InputError, match=f"{package} {version}") as error:
        hub.model("mine")
    assert "requirements-sample-models.txt" in error.value.todo


def test_hw2_pins_names_another_file(tmp_path):
    (tmp_path / "other.toml").write_text('[models."only-this"]\nrevision = "1"\n', encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", "from hw2_utils import hub; print(list(hub.pins()['models']))"], check=True,
                          env={**os.environ, "HW2_PINS": str(tmp_path / "other.toml")}, capture_output=True, text=True)
    assert done.stdout.strip() == "['only-this']"


@pytest.mark.parametrize("text", ["[models", "\udcff"])
def test_a_pins_file_that_cannot_be_read(tmp_path, monkeypatch, text):
    pin(tmp_path, monkeypatch, "")
    paths.PINS.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match="pins file can't be read"):
        hub.model("mine")


def test_an_id_without_a_pin_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="no model 'bert-base-uncased'") as error:
        hub.model("bert-base-uncased")
    assert SAMPLE[0] in error.value.todo and "HW2_PINS" in error.value.todo
    with pytest.raises(InputError, match="no pinned data set"):
        hub.data_path("hub:someone/something")
    assert hub.data_path("/some/folder") == Path("/some/folder")


def test_offline_a_hub_model_says_the_ways_to_get_it(tmp_path):
    """In a process of its own: the hub's client reads the environment when it is imported."""
    code = "from hw2_utils import hub\ntry:\n    hub.model('FacebookAI/roberta-base')\nexcept hub.Hw2Error as error:\n    print(error)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True,
                          env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)})
    assert "FacebookAI/roberta-base at" in done.stdout and "not in the local cache" in done.stdout
    assert "local folder" in done.stdout and "--profile sample" in done.stdout


# ---------------------------------------------------------------------------------------------- local folders
def test_a_local_folder_is_taken_and_hashed(folder):
    model = hub.model(str(folder))
    assert model.verified == "local folder" and model.path == folder
    assert model.sha256 == {p.name: sha256(p.read_bytes()) for p in folder.iterdir()}
    before = model.fingerprint
    (folder / "vocab.txt").write_text("a\n", encoding="utf-8")
    assert hub.model(str(folder)).fingerprint != before


def test_a_local_file_is_taken(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    assert hub.model(str(tmp_path / "a.gguf")).sha256 == {"a.gguf": sha256(b"GGUF")}


class Bomb:
    """Unpickled without care, it leaves the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Bomb(folder.parent / "canary")}))


def torch_pickled(folder: Path) -> None:
    import torch

    (folder / "model.safetensors").unlink()
    torch.save({"a": Bomb(folder.parent / "canary")}, folder / "pytorch_model.bin")


def cut(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-4])


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda f: (f / "config.json").unlink(), "no config.json"),
    (lambda f: (f / "config.json").write_text("{"), "config.json is broken"),
    (lambda f: (f / "config.json").write_text('{"auto_map": {"AutoModel": "m.M"}}'), "remote code"),
    (lambda f: (f / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": "m.M"}}'), "remote code"),
    (lambda f: (f / "model.safetensors").unlink(), "no weights"),
    (lambda f: (f / "model.safetensors").write_bytes(b""), "weights are broken"),
    (lambda f: (f / "pytorch_model.bin").write_bytes(b""), "weights are broken"),
    (cut, "weights are broken"), (pickled, "code in it"), (torch_pickled, "code in it"),
])
def test_local_folders_that_are_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(InputError, match=message) as error:
        hub.model(str(folder))
    assert error.value.todo and not (folder.parent / "canary").exists()


# ---------------------------------------------------------------------------------------------- files by address
GOOD = bytes(range(256)) * 64


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the server's `body` at any path, and counts."""

    def do_GET(self) -> None:
        self.server.n += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(GOOD)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.body, made.n = GOOD, 0
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's folder, empty, and a pin for one file; its own address can't be reached."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    pin(tmp_path, monkeypatch, f'[models."net"]\nurl = "http://127.0.0.1:9/w.pth"\nfile = "w.pth"\nrevision = "V1"\n'
        f'[models."net".sha256]\n"w.pth" = "{sha256(GOOD)}"\n')
    return tmp_path / "torch" / "hub" / "checkpoints"


def mirror(server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HW2_WEIGHTS_URL", f"http://127.0.0.1:{server.server_port}/some/folder/")


def test_a_file_is_fetched_once_and_verified(server, checkpoints, monkeypatch):
    mirror(server, monkeypatch)
    for _ in range(2):
        model = hub.model("net")
        assert model.path.read_bytes() == GOOD and model.verified == "pinned" and model.sha256 == {"w.pth": sha256(GOOD)}
    assert server.n == 1


@pytest.mark.parametrize("body", [GOOD[:-1] + b"\0", GOOD[:100]])
def test_wrong_or_cut_bytes_leave_nothing(server, checkpoints, monkeypatch, body):
    mirror(server, monkeypatch)
    server.body = body
    with pytest.raises(Hw2Error, match="download failed") as error:
        hub.model("net")
    assert "HW2_WEIGHTS_URL" in error.value.todo and not list(checkpoints.iterdir())
    server.body = GOOD
    assert hub.model("net").path.read_bytes() == GOOD


def test_a_refused_connection_is_one_message(checkpoints, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HW2_WEIGHTS_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(Hw2Error, match="download failed"):
            hub.model("net")
    assert not list(checkpoints.iterdir())


def test_offline_asks_nobody(server, checkpoints, monkeypatch):
    mirror(server, monkeypatch)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Hw2Error, match="HF_HUB_OFFLINE is set"):
        hub.model("net")
    assert server.n == 0


def test_a_file_that_changed_in_the_cache_is_not_loaded(server, checkpoints, monkeypatch):
    mirror(server, monkeypatch)
    path = hub.model("net").path
    path.write_bytes(GOOD[::-1])
    with pytest.raises(Hw2Error, match="the file was not loaded"):
        hub.model("net")
