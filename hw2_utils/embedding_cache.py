"""Embeddings by content: an item is encoded once, whoever asks, a changed one never served stale.

Four lines, with any encoder that turns a list of texts into an array (`spec` has the seven
SPEC_FIELDS)::

    from hw2_utils.embedding_cache import EmbeddingCache, text_key
    cache = EmbeddingCache(spec)
    keys = [text_key(text) for text in texts]
    vectors = cache.encode(keys, lambda rows: encode([texts[i] for i in rows]))

A store is one SQLite file a spec, named after the model and a hash of the spec. A row of its table
`items` holds the item's key (the hash of its content), the float32 vector (little-endian) and a
checksum over spec, key and vector, which every read verifies.

Any number of processes on one machine may use a store at once. SQLite's write-ahead log needs
shared memory: across machines each job writes to a folder of its own, and `union` merges them when
the jobs have ended.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from hw2_utils import paths
from hw2_utils.errors import Hw2Error, InputError, require

SPEC_FIELDS = ("model", "revision", "weights_sha256", "preprocessing", "pooling", "dtype", "dim")
_BUSY_TIMEOUT_S = 120.0
# Our SQL is constant: SQLITE_ERROR (no such table) means that the file isn't a store.
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
# A page of 16 KiB holds seven vectors of 512 float32 (93 % full), one of 4 KiB, the default, one.
_PAGE_BYTES = 16384
_SCHEMA = f"""PRAGMA page_size = {_PAGE_BYTES}; PRAGMA journal_mode = WAL; BEGIN;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE items (key TEXT PRIMARY KEY, vector BLOB NOT NULL, checksum BLOB NOT NULL);"""
# Cast, because an altered value may have become text, even text that can't be decoded.
_AGREES = "agrees(key, CAST(vector AS BLOB), CAST(checksum AS BLOB))"
_READ = "SELECT CAST(vector AS BLOB), CAST(checksum AS BLOB) FROM items WHERE key = ?"
_WRITE = "INSERT OR REPLACE INTO items (key, vector, checksum) VALUES (?, ?, ?)"
_MERGE = f"""INSERT OR IGNORE INTO items (key, vector, checksum)
SELECT key, vector, checksum FROM source.items WHERE {_AGREES}"""
_ALTERED_KEYS = f"SELECT key FROM items WHERE NOT {_AGREES}"
_MOVE_AWAY = "move it away; its vectors are encoded again when they are needed"
_ALTERED = "has a vector that doesn't agree with its checksum"


class CorruptStoreError(Hw2Error):
    """A store file that is cut or corrupt, or not an embedding store at all."""


def text_key(text: str) -> str:
    """Key of a text: the hash of its code points as they are, so no two texts share it."""
    return "text:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def image_key(content: bytes) -> str:
    """Key of a picture: the hash of its file's bytes."""
    return "file:" + hashlib.sha256(content).hexdigest()


class EmbeddingCache:
    """The store of one spec; `encode` looks vectors up and encodes only those that are missing.

    spec: the SPEC_FIELDS (null where one doesn't apply), and any others that change the vectors.
    folder: where the store lies; by default `hw2_utils.paths.EMBEDDINGS_CACHE`. A cut or corrupt
        file is named in a warning, moved aside to `<name>.corrupt-<n>` and started anew.
    n_encoded, n_found: how many distinct items the last `encode` encoded, and found in the store.
    Raises InputError for a bad spec, and for a file with another spec than its name says.
    """

    def __init__(
        self, spec: Mapping[str, str | int | float | bool | None], *, folder: Path | None = None
    ) -> None:
        self._spec_json = _canonical_json(spec)
        self.spec: dict[str, Any] = json.loads(self._spec_json)
        self.dim: int = self.spec["dim"]
        slug = re.sub("[^A-Za-z0-9.]+", "-", str(spec["model"]))[-60:].strip("-.")
        name = f"{slug}-{_digest(self._spec_json)}.sqlite"
        self.path = Path(folder or paths.EMBEDDINGS_CACHE).resolve() / name
        self.encode([], np.empty)  # makes the file, or checks it

    def encode(
        self,
        keys: Sequence[str],
        compute: Callable[[list[int]], np.ndarray],
        *,
        batch_size: int = 32,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Vectors float32 [n, dim] of the items with these keys: row i belongs to keys[i].

        keys: see `text_key`, `image_key`.
        compute(indices) encodes the items at these indices of `keys`, the first with each missing
            key, at most batch_size at a time: floats [len(indices), dim], finite in float32.
        progress(n_encoded, n_missing) is called after each batch, when it is safely on disk.
        A vector that doesn't agree with its checksum is named in a warning, encoded again and
        replaced. Raises Hw2Error for a bad result of compute (its batch isn't written).
        """
        what = f"batch_size is {batch_size}"
        require(batch_size > 0, what, where="encode", todo="give 1 or more")
        try:
            return self._encode(keys, compute, batch_size, progress)
        except CorruptStoreError as error:
            if error.where != str(self.path):
                raise
            what = f"{error.where}: {error.what}; moved aside and started anew"
            warnings.warn(what, stacklevel=2)
            _move_aside(self.path, self._inode)
            return self._encode(keys, compute, batch_size, progress)

    def _encode(
        self, keys: Sequence[str], compute: Callable, batch_size: int, progress: Callable | None
    ) -> np.ndarray:
        self.n_encoded, vectors = 0, np.empty((len(keys), self.dim), np.float32)
        first: dict[str, int] = {}
        places = [first.setdefault(key, i) for i, key in enumerate(keys)]
        self._inode = self.path.stat().st_ino if self.path.exists() else None
        with _open(self.path, self._spec_json) as store:
            missing = self._read(store, first, vectors)
            self.n_found = len(first) - len(missing)
            for start in range(0, len(missing), batch_size):
                batch = missing[start : start + batch_size]
                vectors[batch] = self._checked(compute(list(batch)), len(batch))
                store.query("BEGIN IMMEDIATE")
                for key, blob in ((keys[i], vectors[i].astype("<f4").tobytes()) for i in batch):
                    store.query(_WRITE, [key, blob, _checksum(self._spec_json, key, blob)])
                store.query("COMMIT")
                self.n_encoded += len(batch)
                if progress:
                    progress(self.n_encoded, len(missing))
        return vectors[places] if len(first) < len(keys) else vectors

    def _read(self, store: _Store, rows: dict[str, int], vectors: np.ndarray) -> list[int]:
        """Fill vectors[rows[key]] for each key that is in the store; the rows of the others."""
        missing = []
        with _naming(self.path):  # around the loop, not in it: a lookup takes microseconds
            for key, row in rows.items():
                for vector, checksum in store.execute(_READ, [key]):
                    if checksum == _checksum(self._spec_json, key, vector):
                        vectors[row] = np.frombuffer(vector, "<f4")
                        break
                    what = f"{self.path}: {key!r} {_ALTERED}; it is encoded again"
                    warnings.warn(what, stacklevel=4)
                else:
                    missing.append(row)
        return missing

    def _checked(self, result: np.ndarray, n_rows: int) -> np.ndarray:
        vectors = np.asarray(result)
        fits = vectors.dtype.kind == "f" and vectors.shape == (n_rows, self.dim)
        with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, and is refused
            if fits and np.isfinite(vectors.astype(np.float32)).all():
                return vectors
        raise Hw2Error(
            f"the encoder returned {vectors.dtype} {list(vectors.shape)}, not floats "
            f"{[n_rows, self.dim]} that are finite in float32; nothing of this batch was written",
            where=self.path,
            todo="check the encoder, and dim in the spec",
        )


class _Store(sqlite3.Connection):
    """An open store file; what isn't committed when it is closed is rolled back."""

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with _naming(self.path):
            return self.execute(sql, values).fetchall()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn an error of SQLite into one that names the file and says what to do."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _CORRUPT:
            what = f"this embedding store is cut or corrupt ({error})"
            raise CorruptStoreError(what, where=path, todo=_MOVE_AWAY) from error
        what = f"this embedding store is unusable ({error})"
        todo = "check permissions, disk space and the processes that use it"
        raise Hw2Error(what, where=path, todo=todo) from error


def _canonical_json(spec: Mapping[str, Any]) -> str:
    try:
        if set(SPEC_FIELDS) <= set(spec) and type(spec["dim"]) is int and spec["dim"] > 0:
            return json.dumps(dict(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError):
        pass  # a value that JSON can't hold
    raise InputError(
        "this isn't the spec of an embedding store",
        where=dict(spec),
        todo="give the fields "
        f"{', '.join(SPEC_FIELDS)}: texts, finite numbers or null; dim a whole number from 1",
    )


def _digest(spec_json: str) -> str:
    return hashlib.sha256(spec_json.encode()).hexdigest()[:20]


def _checksum(spec_json: str, key: str, vector: bytes) -> bytes:
    # Spec and key are part of it: a vector that lands in another row or another store is found too.
    return hashlib.sha256(f"{spec_json}{key}".encode() + vector).digest()[:16]


def _lock(path: Path) -> FileLock:
    """One process at a time opens, makes or moves stores; the system frees a killed one's lock."""
    return FileLock(path.parent / ".lock", timeout=_BUSY_TIMEOUT_S)


def _move_aside(path: Path, inode: int | None) -> None:
    with _naming(path), _lock(path):
        # Of several processes that found it corrupt the first moves it: others see another inode.
        if path.exists() and path.stat().st_ino == inode:
            names = (Path(f"{path}.corrupt-{n}") for n in itertools.count(1))
            path.rename(next(name for name in names if not name.exists()))


@contextmanager
def _open(path: Path, spec_json: str = "") -> Iterator[_Store]:
    """An open store, made if there is none.

    Raises InputError where its spec and its name don't agree.
    """
    with _naming(path), _lock(path):
        is_new = not path.exists()
        # SQLite itself finds whole pages missing. While there is a log, a page may be on its way.
        if not is_new and path.stat().st_size % _PAGE_BYTES and not Path(f"{path}-wal").exists():
            raise CorruptStoreError("this embedding store is cut", where=path, todo=_MOVE_AWAY)
        store = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, factory=_Store)
        store.path = path
        try:
            if is_new:
                store.executescript(_SCHEMA)
                store.execute("INSERT INTO meta VALUES ('spec', ?)", [spec_json])
                store.execute("COMMIT")
            # Read, and closed where it can't be read, under the lock: SQLite removes the log beside
            # an empty file, which would be that of the new store if another process made one now.
            specs = store.query("SELECT value FROM meta")
            store.spec_json = "".join(str(value) for (value,) in specs)
        except BaseException:
            store.close()
            raise
    with closing(store):
        store.query("PRAGMA synchronous = FULL")  # a commit outlives a power cut too
        if not path.stem.endswith(_digest(store.spec_json)):
            raise InputError(
                f"this embedding store holds another spec than its name says: {store.spec_json}",
                where=path,
                todo="move it away, or give it back its own name",
            )

        def agrees(key: str, vector: bytes, checksum: bytes) -> bool:
            return _checksum(store.spec_json, key, vector) == checksum

        store.create_function("agrees", 3, agrees)
        yield store


def _stores(folder: Path) -> list[Path]:
    what = "no such folder of embedding stores"
    require(Path(folder).is_dir(), what, where=folder, todo="check the path")
    return sorted(Path(folder).resolve().glob("*.sqlite"))


def is_store(path: Path) -> bool:
    """Whether a file is a whole store of ours, under its own name."""
    with suppress(Hw2Error, OSError), _open(path):
        return not path.is_symlink()
    return False


def list_stores(folder: Path) -> list[dict[str, Any]]:
    """One row a store: file, model, items, dim, size_mib, spec.

    Raises CorruptStoreError for a cut file.
    """
    rows = []
    for path in _stores(folder):
        with _open(path) as store:
            spec = json.loads(store.spec_json)
            ((n_items,),) = store.query("SELECT count(*) FROM items")
        about = {"file": path.name, "model": spec["model"], "items": n_items, "dim": spec["dim"]}
        rows.append({**about, "size_mib": path.stat().st_size / 2**20, "spec": spec})
    return rows


def verify(folder: Path) -> list[str]:
    """Every problem of every store, naming the file: SQLite's own check, the spec, checksums."""
    problems = []
    for path in _stores(folder):
        try:
            with _open(path) as store:
                found = [text for (text,) in store.query("PRAGMA integrity_check") if text != "ok"]
                found += [f"{key!r} {_ALTERED}" for (key,) in store.query(_ALTERED_KEYS)]
                problems += [f"{path}: {text}" for text in found]
        except Hw2Error as error:
            problems.append(str(error))
    return problems


def prune(folder: Path, *, model: str | None = None, code: str | None = None) -> dict[str, int]:
    """Remove the items of one model id, or of stores of another `code`; returns how many, by file.

    Other processes may go on using the stores, so an emptied one keeps its small file. Raises
    InputError without either, CorruptStoreError for a corrupt file.
    """
    require(model or code, "nothing to prune", where=folder, todo="give a model id")
    removed = {}
    for path in _stores(folder):
        with _open(path) as store:
            spec = json.loads(store.spec_json)
            if spec["model"] == model if model else spec.get("code") != code:
                store.query("DELETE FROM items")
                ((removed[path.name],),) = store.query("SELECT changes()")
                store.query("VACUUM")  # gives the disk space back
    return removed


def union(target: Path, sources: Sequence[Path]) -> dict[str, int]:
    """Merge the stores in the folders `sources` into those of equal spec in the folder `target`.

    Returns how many items were added, by file. What the target has stays; a vector that doesn't
    agree with its checksum is named in a warning and left out. No process may use the sources.
    Raises InputError for a folder that isn't there, CorruptStoreError for a corrupt source.
    """
    added: dict[str, int] = {}
    for path in [path for folder in sources for path in _stores(folder)]:
        with _open(path) as store:
            for (key,) in store.query(_ALTERED_KEYS):
                warnings.warn(f"{path}: {key!r} {_ALTERED}; it is left out", stacklevel=2)
            merged = EmbeddingCache(json.loads(store.spec_json), folder=target).path
        with _open(merged) as store:
            store.query("ATTACH ? AS source", [str(path)])
            store.query(_MERGE)
            added[merged.name] = added.get(merged.name, 0) + store.query("SELECT changes()")[0][0]
    return added
