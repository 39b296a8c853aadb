"""Model files are held against their pins, downloads against their hash.

Local folders are held against what may be loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from loopback_hub import Hub, blob_name, environment, serve, write_pins
from safetensors.numpy import save_file

from hw2_utils import hub, paths
from hw2_utils.errors import Hw2Error, InputError

SAMPLE = ("sample:all-MiniLM-L6-v2", "sample:efficientnet-lite0", "sample:SmolLM2-135M-Instruct")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ------------------------------------------------------------------------------- pins
@pytest.mark.parametrize("name", SAMPLE)
def test_sample_models_are_those_pinned(name):
    model = hub.fetch_model(name)
    assert model.verified == "pinned" and len(model.sha256) >= 1
    root = model.path if model.path.is_dir() else model.path.parent
    assert {f: sha256((root / f).read_bytes()) for f in model.sha256} == dict(model.sha256)


def test_the_two_layer_variant_has_the_same_files_and_another_fingerprint():
    whole, short = hub.fetch_model(SAMPLE[0]), hub.fetch_model(f"{SAMPLE[0]}-2layers")
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
    pin(
        folder.parent,
        monkeypatch,
        f'[models."mine"]\nproject_folder = "{folder}"\nrevision = "1"\n'
        f'[models."mine".sha256]\n{hashes}',
    )


def test_an_altered_byte_is_refused_and_names_the_file(folder, monkeypatch):
    pin_folder(folder, monkeypatch)
    assert hub.fetch_model("mine").verified == "pinned"
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(Hw2Error, match="mine, model.safetensors") as error:
        hub.fetch_model("mine")
    assert sha256(bytes(data)) in str(error.value)


def test_a_missing_file_is_named(folder, monkeypatch):
    pin_folder(folder, monkeypatch)
    (folder / "config.json").unlink()
    with pytest.raises(Hw2Error, match="config.json"):
        hub.fetch_model("mine")


@pytest.mark.parametrize(("package", "version"), [("no-such-package", "0.1.0"), ("numpy", "0.0.1")])
def test_a_model_whose_package_is_not_installed(tmp_path, monkeypatch, package, version):
    pin(
        tmp_path,
        monkeypatch,
        f'[models."mine"]\npackage = "{package}"\nfolder = "x"\nrevision = "{version}"\n',
    )
    with pytest.raises(InputError, match=f"{package} {version}") as error:
        hub.fetch_model("mine")
    assert "requirements-sample-models.txt" in error.value.todo


def test_hw2_pins_names_another_file(tmp_path):
    (tmp_path / "other.toml").write_text('[models."only-this"]\nrevision = "1"\n', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", "from hw2_utils import hub; print(list(hub.pins()['models']))"],
        check=True,
        env={**os.environ, "HW2_PINS": str(tmp_path / "other.toml")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "['only-this']"


@pytest.mark.parametrize("text", ["[models", "\udcff"])
def test_a_pins_file_that_cannot_be_read(tmp_path, monkeypatch, text):
    pin(tmp_path, monkeypatch, "")
    paths.PINS.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match="pins file can't be read"):
        hub.fetch_model("mine")


def test_an_id_without_a_pin_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="no model 'bert-base-uncased'") as error:
        hub.fetch_model("bert-base-uncased")
    assert SAMPLE[0] in error.value.todo and "HW2_PINS" in error.value.todo
    with pytest.raises(InputError, match="no pinned data set"):
        hub.data_path("hub:someone/something")
    assert hub.data_path("/some/folder") == Path("/some/folder")


# ------------------------------------------------------------------------------- local folders
def test_a_local_folder_is_taken_and_hashed(folder):
    model = hub.fetch_model(str(folder))
    assert model.verified == "local folder" and model.path == folder
    assert model.sha256 == {p.name: sha256(p.read_bytes()) for p in folder.iterdir()}
    before = model.fingerprint
    (folder / "vocab.txt").write_text("a\n", encoding="utf-8")
    assert hub.fetch_model(str(folder)).fingerprint != before


def test_a_local_file_is_taken(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    assert hub.fetch_model(str(tmp_path / "a.gguf")).sha256 == {"a.gguf": sha256(b"GGUF")}


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_in_both_of_pytorchs_formats_are_taken(folder, zipped):
    import torch

    (folder / "model.safetensors").unlink()
    torch.save(
        {"a": torch.ones(3)}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped
    )
    assert hub.fetch_model(str(folder)).verified == "local folder"


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


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is broken"),
        (
            lambda f: (f / "config.json").write_text('{"auto_map": {"AutoModel": "m.M"}}'),
            "remote code",
        ),
        (
            lambda f: (f / "tokenizer_config.json").write_text(
                '{"auto_map": {"AutoTokenizer": "m.M"}}'
            ),
            "remote code",
        ),
        (lambda f: (f / "model.safetensors").unlink(), "no weights"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "weights are broken"),
        (lambda f: (f / "pytorch_model.bin").write_bytes(b""), "weights are broken"),
        (cut, "weights are broken"),
        (pickled, "code in it"),
        (torch_pickled, "code in it"),
    ],
)
def test_local_folders_that_are_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(InputError, match=message) as error:
        hub.fetch_model(str(folder))
    assert error.value.todo and not (folder.parent / "canary").exists()


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/base"}')


def index(folder: Path, shard: str) -> None:
    """The weights as one shard, by an index."""
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    shards = json.dumps({"weight_map": {"a": "part.safetensors", "b": shard}})
    (folder / "model.safetensors.index.json").write_text(shards)


def linked(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder / "1_Pooling").symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (adapter, "adapter of 'someone/base' lies here"),
        (lambda f: (adapter(f), (f / "config.json").unlink()), "adapter of 'someone/base'"),
        (lambda f: (adapter(f), (f / "model.safetensors").unlink()), "adapter of 'someone/base'"),
        (lambda f: index(f, "../outside.safetensors"), "'../outside.safetensors'"),
        (lambda f: index(f, "/outside.safetensors"), "'/outside.safetensors'"),
        (lambda f: index(f, "sub/b.safetensors"), "'sub/b.safetensors'"),
        (lambda f: index(f, "gone.safetensors"), "'gone.safetensors'"),
        (
            lambda f: (f / "pytorch_model.bin.index.json").write_text('{"weight_map": [1]}'),
            "index.json is broken",
        ),
        (
            lambda f: (f / "config.json").write_text('{"quantization_config": {"bits": 4}}'),
            "weights are quantised",
        ),
        (linked, "a folder behind a link isn't hashed"),
    ],
)
def test_what_the_libraries_would_load_beside_the_weights_is_refused(folder, spoil, message):
    save_file({"b": np.ones(3, np.float32)}, folder.parent / "outside.safetensors")
    (folder / "sub").mkdir()
    save_file({"b": np.ones(3, np.float32)}, folder / "sub" / "b.safetensors")
    spoil(folder)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        hub.fetch_model(str(folder))
    assert error.value.todo


def test_shards_beside_their_index_are_taken_and_hashed_through_links(folder):
    index(folder, "other.safetensors")
    blob = folder.parent / "blob"
    save_file({"b": np.ones(3, np.float32)}, blob)
    (folder / "other.safetensors").symlink_to(blob)  # as in the hub's own cache
    found = hub.fetch_model(str(folder)).sha256
    assert found["other.safetensors"] == sha256(blob.read_bytes()) and len(found) == 4


def modules(folder: Path, *paths_and_types: tuple[str, str]) -> None:
    made = [{"path": path, "type": kind} for path, kind in paths_and_types]
    (folder / "modules.json").write_text(json.dumps(made))
    for path, _ in paths_and_types:
        (folder / path).mkdir(exist_ok=True, parents=True)


DENSE = ("2_Dense", "sentence_transformers.models.Dense")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: adapter(f / "2_Dense"), "adapter of 'someone/base'"),
        (lambda f: (f / "2_Dense" / "config.json").write_text("{"), "config.json is broken"),
        (
            lambda f: (f / "2_Dense" / "config.json").write_text('{"auto_map": {}}'),
            "remote code",
        ),
        (lambda f: (f / "2_Dense" / "model.safetensors").write_bytes(b"x"), "weights are broken"),
        (
            lambda f: (f / "2_Dense" / "pytorch_model.bin").write_bytes(
                pickle.dumps({"a": Bomb(f.parent / "canary")})
            ),
            "code in it",
        ),
        (lambda f: modules(f, ("../other", DENSE[1])), "lies outside the model's folder"),
        (lambda f: modules(f, (str(f.parent / "other"), DENSE[1])), "lies outside"),
        (lambda f: modules(f, ("x", "mine.Dense")), "module mine.Dense isn't one that is loaded"),
        (lambda f: modules(f, ("x", "sentence_transformers.models.Router")), "isn't one that"),
        (lambda f: (f / "modules.json").write_text("[1]"), "modules.json isn't a list of modules"),
        (lambda f: (f / "modules.json").write_text("["), "modules.json is broken"),
    ],
)
def test_a_sentence_encoders_modules_are_checked_as_its_folder_is(folder, spoil, message):
    modules(folder, ("", "sentence_transformers.models.Transformer"), DENSE)
    assert hub.fetch_model(str(folder)).verified == "local folder"
    spoil(folder)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        hub.fetch_model(str(folder))
    assert error.value.todo and not (folder.parent / "canary").exists()


def test_weights_beside_the_pinned_ones_that_would_be_loaded_are_refused(folder, monkeypatch):
    import torch

    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    torch.save({"a": torch.ones(3)}, folder / "pytorch_model.bin")
    pin_folder(folder, monkeypatch)
    assert hub.fetch_model("mine").verified == "pinned"
    (folder.parent / "model.safetensors").rename(folder / "model.safetensors")
    with pytest.raises(InputError, match=r"model.safetensors: these weights would be loaded"):
        hub.fetch_model("mine")
    (folder / "model.safetensors").unlink()
    adapter(folder)
    with pytest.raises(InputError, match="adapter of 'someone/base'"):
        hub.fetch_model("mine")


# ------------------------------------------------------------------------------- files by address
GOOD = bytes(range(256)) * 64


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Hub]:
    """A server that has one file, and knows one repository of each kind."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.pth").write_bytes(GOOD)
    for kind, files in FILES.items():
        for file in files:
            (tmp_path / kind / "someone" / "small" / file).parent.mkdir(parents=True, exist_ok=True)
    repository = tmp_path / "models" / "someone" / "small"
    (repository / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    save_file({"a": np.ones(300, np.float32)}, repository / "model.safetensors")
    for file in FILES["datasets"]:
        (tmp_path / "datasets" / "someone" / "small" / file).write_bytes(GOOD + file.encode())
    write_pins(
        tmp_path,
        {kind: {"someone/small": {"revision": REVISION, "files": f}} for kind, f in FILES.items()},
    )
    with serve(tmp_path) as made:
        yield made


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's folder, empty, and a pin for one file; its own address can't be reached."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    pin(
        tmp_path,
        monkeypatch,
        f'[models."net"]\nurl = "http://127.0.0.1:9/w.pth"\nfile = "w.pth"\nrevision = "V1"\n'
        f'[models."net".sha256]\n"w.pth" = "{sha256(GOOD)}"\n',
    )
    return tmp_path / "torch" / "hub" / "checkpoints"


def mirror(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HW2_WEIGHTS_URL", f"{server.url}/weights/")


def test_a_file_is_fetched_once_and_verified(server, checkpoints, monkeypatch):
    mirror(server, monkeypatch)
    for _ in range(2):
        model = hub.fetch_model("net")
        assert (
            model.path.read_bytes() == GOOD
            and model.verified == "pinned"
            and model.sha256 == {"w.pth": sha256(GOOD)}
        )
    assert server.requests == ["GET /weights/w.pth 200"]


@pytest.mark.parametrize("fault", ["wrong bytes", "cut", "stall"])
def test_wrong_cut_or_stalled_bytes_leave_nothing(server, checkpoints, monkeypatch, fault):
    mirror(server, monkeypatch)
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    server.fault = fault
    begin = time.monotonic()
    with pytest.raises(Hw2Error, match="download failed") as error:
        hub.fetch_model("net")
    assert "HW2_WEIGHTS_URL" in error.value.todo and not list(checkpoints.iterdir())
    assert time.monotonic() - begin < 10 and socket.getdefaulttimeout() is None
    server.fault = ""
    assert hub.fetch_model("net").path.read_bytes() == GOOD


def test_a_file_that_the_mirror_lacks(server, checkpoints, monkeypatch):
    monkeypatch.setenv("HW2_WEIGHTS_URL", server.url)
    with pytest.raises(Hw2Error, match="download failed: HTTP Error 404"):
        hub.fetch_model("net")
    assert not list(checkpoints.iterdir())


def test_a_refused_connection_is_one_message(checkpoints, monkeypatch):
    monkeypatch.setenv("HW2_WEIGHTS_URL", unused_address())
    with pytest.raises(Hw2Error, match="download failed"):
        hub.fetch_model("net")
    assert not list(checkpoints.iterdir())


def unused_address() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def test_offline_asks_nobody(server, checkpoints, monkeypatch):
    mirror(server, monkeypatch)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Hw2Error, match="HF_HUB_OFFLINE is set"):
        hub.fetch_model("net")
    assert not server.requests


def test_a_file_that_changed_in_the_cache_is_not_loaded(server, checkpoints, monkeypatch):
    mirror(server, monkeypatch)
    path = hub.fetch_model("net").path
    path.write_bytes(GOOD[::-1])
    with pytest.raises(Hw2Error, match="the file was not loaded"):
        hub.fetch_model("net")


# ------------------------------------------------------------------------------- files from the hub
REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "models": ["config.json", "model.safetensors"],
    "datasets": [f"train/{i}.parquet" for i in range(2)],
}
MAIN = """
import sys
from hw2_utils import hub
from hw2_utils.errors import Hw2Error
try:
    model = hub.fetch_model("someone/small")
    data_is_there = hub.data_path("hub:someone/small").is_dir()
    print(model.verified, model.revision, data_is_there, sorted(model.sha256))
except Hw2Error as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


def fetch(server: Hub, **variables: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, like the command line.

    The hub's client reads the environment when it is imported.
    """
    env = {
        **environment(server.folder, server.url, server.folder / "caches"),
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", MAIN],
        env={**env, **variables},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def cached(server: Hub) -> set[str]:
    """Names in the hub's cache that stand for content, whole or not."""
    cache = server.folder / "caches" / "hf" / "hub"
    files = [p for p in cache.rglob("*") if not p.is_dir()]
    return {p.name for p in files if {"blobs", "snapshots"} & set(p.relative_to(cache).parts)}


def repin(server: Hub, old: str, new: str) -> None:
    """Changes what the user's pins say; the server goes on with what it has."""
    pins = server.folder / "pins.toml"
    pins.write_text(re.sub(old, new, pins.read_text(encoding="utf-8")), encoding="utf-8")


def test_model_and_data_come_once_and_then_without_the_hub(server):
    found = f"pinned {REVISION} True {FILES['models']}\n"
    done = fetch(server)
    assert done.stdout == found and not done.stderr
    asked = [line for line in server.requests if "resolve" in line]
    assert len(asked) == 8 + 3 and all(
        REVISION in line for line in asked
    )  # HEAD and GET of four, three led elsewhere
    assert {line.split()[-1] for line in asked} == {"200", "302"}
    assert (
        fetch(server, HF_ENDPOINT=unused_address()).stdout
        == fetch(server, HF_HUB_OFFLINE="1").stdout
        == found
    )
    assert [line for line in server.requests if "resolve" in line] == asked


def test_a_file_without_a_pin_is_held_against_the_hubs_own_name_of_it_and_recorded_so(server):
    repin(server, r"(?m)^.*safetensors\" = .*\n|^\"config.*\n", "")
    assert fetch(server).stdout.startswith(f"from hub, not pinned {REVISION} True")


@pytest.mark.parametrize("file", FILES["models"])
def test_a_file_without_a_pin_that_isnt_what_the_hub_names(server, file):
    """The large file is named by its sha256, the small one by git's sha1."""
    repin(server, r"(?m)^.*safetensors\" = .*\n|^\"config.*\n", "")
    assert fetch(server).returncode == 0
    found = (
        server.folder
        / "caches"
        / "hf"
        / "hub"
        / "models--someone--small"
        / "snapshots"
        / REVISION
        / file
    )
    found.write_bytes(found.read_bytes()[::-1])  # through the link, into the blob
    done = fetch(server, HF_HUB_OFFLINE="1")
    assert (
        done.returncode == 1
        and "the file was removed from the cache" in done.stderr
        and not os.path.lexists(found)
    )
    assert fetch(server).returncode == 0


@pytest.mark.parametrize(
    ("spoil", "message", "todo"),
    [
        (
            lambda s: repin(s, REVISION, "f" * 40),
            "the hub has no such revision",
            "check the revision",
        ),
        (
            lambda s: (s.folder / "models/someone/small/model.safetensors").unlink(),
            "no such file at this revision",
            "pins",
        ),
        (lambda s: s.pins.clear(), "no such repository, or it is private", "check the id"),
        (
            lambda s: repin(s, r'tensors" = "\w+', 'tensors" = "' + "0" * 64),
            "removed from the cache",
            "fetch it again",
        ),
        (lambda s: s.spoil("wrong bytes"), "removed from the cache", "fetch it again"),
        pytest.param(
            lambda s: s.spoil("cut"),
            "failed: RemoteProtocolError",
            "try again",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda s: s.spoil("stall"), "failed: ReadTimeout", "try again", marks=pytest.mark.slow
        ),
        pytest.param(
            lambda s: s.spoil("silent"),
            "answer from 127.0.0.1, 3 tries",
            "local folder",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["revision", "file", "repository", "pin", "bytes", "cut", "stall", "silent"],
)
def test_each_failure_is_one_message_and_leaves_no_half_file(server, spoil, message, todo):
    spoil(server)
    begin = time.monotonic()
    done = fetch(server)
    assert time.monotonic() - begin < 60, "a server that is silent must not hold anyone for minutes"
    assert done.returncode == 1 and "Traceback" not in done.stderr and message in done.stderr
    first, second = done.stderr[done.stderr.index("error: ") :].splitlines()
    assert (
        first.startswith("error: someone/small at ") and "What to do: " in second and todo in second
    )
    whole = {"config.json", blob_name(server.folder / "models/someone/small/config.json")}
    assert cached(server) <= whole, "nothing of the refused file stays"


@pytest.mark.parametrize(
    "variables", [{"HF_ENDPOINT": ""}, {"HF_HUB_OFFLINE": "1"}], ids=["refused", "offline"]
)
def test_without_a_hub_and_a_cache_the_ways_to_get_the_file_are_named(server, variables):
    done = fetch(server, **{name: value or unused_address() for name, value in variables.items()})
    assert done.returncode == 1 and "Traceback" not in done.stderr and not cached(server)
    assert "someone/small at 0123456789ab, config.json" in done.stderr
    assert "give a local folder" in done.stderr and "--profile sample" in done.stderr


@pytest.mark.slow
def test_a_cut_download_goes_on_where_it_ended_and_an_endless_one_ends(server):
    """The client takes 10 MiB at a time: less than that is fetched from the start again."""
    large = server.folder / "models" / "someone" / "small" / "model.safetensors"
    save_file({"a": np.arange(6 << 20, dtype=np.float32)}, large)
    write_pins(
        server.folder,
        {"models": {"someone/small": {"revision": REVISION, "files": FILES["models"]}}},
    )
    server.fault = "cut once"
    assert "no pinned data set" in fetch(server).stderr  # the model is there
    assert [line for line in server.requests if line.endswith(" 206")]
    assert len([name for name in cached(server) if name.endswith("safetensors")]) == 1
    server.fault = "endless"
    done = fetch(server, HF_HOME=str(server.folder / "other"))
    assert done.returncode == 1 and "no whole answer" in done.stderr
    assert not list((server.folder / "other").rglob("*.incomplete"))


def test_the_command_line_says_it_the_same_way(server):
    """`data check` of the full profile begins with the tweets."""
    repin(server, "someone/small", "cardiffnlp/tweet_eval")  # the server has no such repository
    env = environment(server.folder, server.url, server.folder / "caches")
    command = [sys.executable, "-m", "hw2_utils", "data", "check", "--profile", "full"]
    done = subprocess.run(
        command, env=env, cwd=paths.ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr and not done.stdout
    assert done.stderr.startswith(
        "error: cardiffnlp/tweet_eval at 0123456789ab, train/0.parquet: the hub has no such"
    )
