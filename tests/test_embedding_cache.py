"""The embedding cache against an independent rule for each vector, through kills and bad files."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hw2_utils import embedding_cache as ec
from hw2_utils.embedding_cache import EmbeddingCache, image_key, text_key
from hw2_utils.errors import Hw2Error, InputError

DIM = 6
SPEC = {
    "model": "org/some model:v1",
    "revision": "abc",
    "weights_sha256": "0" * 64,
    "preprocessing": "resize 224",
    "pooling": "mean",
    "dtype": "float32",
    "dim": DIM,
}
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def vector_of(key: str) -> np.ndarray:
    """The oracle: the one right vector of a key, float32 [DIM]."""
    seed = list(key.encode()) + [len(key)]
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


def vectors_of(keys: Sequence[str]) -> np.ndarray:
    return np.array([vector_of(key) for key in keys], np.float32).reshape(len(keys), DIM)


class Encoder:
    """Encodes keys by the oracle and counts what it was asked for."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys, self.asked, self.batches = keys, [], []

    def __call__(self, rows: list[int]) -> np.ndarray:
        self.asked += [self.keys[i] for i in rows]
        self.batches.append(list(rows))
        return vectors_of([self.keys[i] for i in rows])


def fill(cache: EmbeddingCache, keys: Sequence[str]) -> list[str]:
    """Ask for keys, check the answer against the oracle, and return what had to be encoded."""
    encoder = Encoder(keys)
    np.testing.assert_array_equal(cache.encode(keys, encoder), vectors_of(keys))
    return encoder.asked


def forbidden(rows: list[int]) -> np.ndarray:
    raise AssertionError(f"encoded {rows} although they are in the store")


def sql(path: Path, statement: str, *values: object) -> list[tuple]:
    with closing(sqlite3.connect(path)) as db, db:
        return db.execute(statement, values).fetchall()


def some_keys(n: int, start: int = 0) -> list[str]:
    return [text_key(f"item {i}") for i in range(start, start + n)]


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(SPEC, folder=tmp_path)


# --- round trips ----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    first=st.lists(KEYS, max_size=25),
    second=st.lists(KEYS, max_size=25),
    batch_size=st.integers(1, 7),
)
def test_round_trip_in_order_encodes_each_distinct_key_once(
    first: list[str], second: list[str], batch_size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        seen: set[str] = set()
        for keys in (first, second, first + second[::-1]):
            encoder = Encoder(keys)
            cache = EmbeddingCache(SPEC, folder=Path(folder))
            vectors = cache.encode(keys, encoder, batch_size=batch_size)
            assert vectors.dtype == np.float32 and vectors.shape == (len(keys), DIM)
            np.testing.assert_array_equal(vectors, vectors_of(keys))
            assert encoder.asked == [key for key in dict.fromkeys(keys) if key not in seen]
            assert all(len(batch) <= batch_size for batch in encoder.batches)
            assert cache.n_encoded == len(encoder.asked)
            assert cache.n_found == len(set(keys)) - len(encoder.asked)
            seen.update(keys)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=DIM, max_size=DIM)
)
def test_every_finite_float32_comes_back_bit_for_bit(values: list[float]) -> None:
    vector = np.array([values], np.float32)
    with tempfile.TemporaryDirectory() as folder:
        EmbeddingCache(SPEC, folder=Path(folder)).encode(["k"], lambda rows: vector)
        again = EmbeddingCache(SPEC, folder=Path(folder)).encode(["k"], forbidden)
    assert again.tobytes() == vector.tobytes()  # keeps -0.0 and subnormals


def test_duplicates_are_encoded_once_at_their_first_place(cache: EmbeddingCache) -> None:
    keys = ["b", "a", "b", "c", "a", "b"]
    encoder = Encoder(keys)
    np.testing.assert_array_equal(cache.encode(keys, encoder, batch_size=2), vectors_of(keys))
    assert encoder.batches == [[0, 1], [3]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_results_become_float32(cache: EmbeddingCache, dtype: type) -> None:
    given_vectors = vectors_of(["x"]).astype(dtype)
    first = cache.encode(["x"], lambda rows: given_vectors)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, given_vectors.astype(np.float32))
    np.testing.assert_array_equal(cache.encode(["x"], forbidden), first)


def test_more_keys_than_one_query_takes(cache: EmbeddingCache) -> None:
    keys = some_keys(1300)
    assert fill(cache, keys[::2]) == keys[::2]
    assert fill(cache, keys) == keys[1::2]


def test_progress_reports_what_another_connection_already_sees(cache: EmbeddingCache) -> None:
    keys, reports = some_keys(7), []

    def progress(n_encoded: int, n_missing: int) -> None:
        ((n_stored,),) = sql(cache.path, "SELECT count(*) FROM items")
        reports.append((n_encoded, n_missing, n_stored))

    fill(cache, keys[:2])
    cache.encode(keys, Encoder(keys), batch_size=2, progress=progress)
    assert reports == [(2, 5, 4), (4, 5, 6), (5, 5, 7)]


def test_what_was_done_before_the_encoder_failed_is_kept(cache: EmbeddingCache) -> None:
    keys = some_keys(6)

    def fails_late(rows: list[int]) -> np.ndarray:
        if rows[0] >= 4:
            raise FileNotFoundError("picture.png")
        return vectors_of([keys[i] for i in rows])

    with pytest.raises(FileNotFoundError, match="picture.png"):
        cache.encode(keys, fails_late, batch_size=2)
    assert cache.n_encoded == 4
    assert fill(cache, keys) == keys[4:]


@pytest.mark.parametrize(
    "error", [sqlite3.DatabaseError("own"), ec.CorruptStoreError("other", where="b")]
)
def test_an_encoder_with_a_database_of_its_own_never_condemns_the_store(
    cache: EmbeddingCache, error: Exception
) -> None:
    def fails(rows: list[int]) -> np.ndarray:
        raise error

    fill(cache, ["a"])
    with pytest.raises(type(error), match=str(error).split(":")[0]):
        cache.encode(["a", "b"], fails)
    assert not list(cache.path.parent.glob("*.corrupt-*"))
    assert fill(cache, ["a"]) == []


def test_an_encode_inside_an_encode(cache: EmbeddingCache) -> None:
    def outer(rows: list[int]) -> np.ndarray:
        same = EmbeddingCache(SPEC, folder=cache.path.parent)
        return same.encode(["inner"], lambda _: vectors_of(["inner"]))

    np.testing.assert_array_equal(cache.encode(["outer"], outer), vectors_of(["inner"]))


# --- bad input ------------------------------------------------------------------------------------

NAN = np.array([[0.0] * (DIM - 1) + [np.nan]] * 2, np.float32)
BAD_RESULTS = {
    "too few rows": np.zeros((1, DIM), np.float32),
    "wrong dim": np.zeros((2, DIM + 1), np.float32),
    "flat": np.zeros(2 * DIM, np.float32),
    "not a number": NAN,
    "infinite": np.full((2, DIM), -np.inf, np.float32),
    "overflows float32": np.full((2, DIM), 1e300),
    "integers": np.zeros((2, DIM), np.int64),
    "complex": np.zeros((2, DIM), complex),
    "objects": np.array([[None] * DIM] * 2),
    "nothing": None,
}


@pytest.mark.parametrize("result", BAD_RESULTS.values(), ids=BAD_RESULTS.keys())
def test_a_bad_result_is_refused_and_nothing_written(cache: EmbeddingCache, result: object) -> None:
    with pytest.raises(Hw2Error, match="the encoder returned") as raised:
        cache.encode(["a", "b"], lambda rows: result)
    assert str(cache.path) in str(raised.value)
    assert sql(cache.path, "SELECT count(*) FROM items") == [(0,)]
    assert fill(cache, ["a", "b"]) == ["a", "b"]


def test_batch_size_below_one_is_refused(cache: EmbeddingCache) -> None:
    with pytest.raises(InputError, match="batch_size is 0"):
        cache.encode(["a"], forbidden, batch_size=0)


@pytest.mark.parametrize(
    "change",
    [
        *({name: ...} for name in ec.SPEC_FIELDS),
        {"dim": 0},
        {"dim": 2.0},
        {"dim": True},
        {"dim": None},
        {"pooling": float("nan")},
        {"pooling": float("inf")},
        {"pooling": np.float32(1)},
        {"pooling": b"mean"},
    ],
)
def test_a_spec_that_lacks_a_field_or_has_an_unfit_value_is_refused(
    tmp_path: Path, change: dict
) -> None:
    spec = {name: value for name, value in (SPEC | change).items() if value is not ...}
    with pytest.raises(InputError, match="spec"):
        EmbeddingCache(spec, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_hostile_keys_and_specs_are_data(tmp_path: Path) -> None:
    hostile = "'); DROP TABLE items; -- \0 ?1 \u2028"
    spec = SPEC | {"model": f"../../{hostile}", "pooling": hostile}
    cache = EmbeddingCache(spec, folder=tmp_path / "a")
    assert cache.path.parent == (tmp_path / "a").resolve() and cache.spec == spec
    assert fill(cache, [hostile, "plain"]) == [hostile, "plain"]
    assert fill(EmbeddingCache(spec, folder=tmp_path / "a"), ["plain", hostile]) == []
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_cant_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((Hw2Error, OSError), match="file"):
        EmbeddingCache(SPEC, folder=tmp_path / "file" / "cache")


# --- specs ----------------------------------------------------------------------------------------

CHANGES = [
    {"model": "other"},
    {"revision": None},
    {"weights_sha256": "1" * 64},
    {"preprocessing": "resize 225"},
    {"pooling": "cls"},
    {"dtype": "float16"},
    {"extra": 1},
    {"extra": 1.0},
    {"extra": True},
    {"extra": "1"},
    {"extra": None},
    {"model": "org/some-model-v1"},
    {"model": "../etc"},
    {"model": "..."},
    {"model": "\u00e9"},
    {"model": "e\u0301"},
]


def test_each_ingredient_of_the_spec_has_a_store_of_its_own(tmp_path: Path) -> None:
    specs = [SPEC, *(SPEC | change for change in CHANGES)]
    caches = [EmbeddingCache(spec, folder=tmp_path) for spec in specs]
    assert len({cache.path for cache in caches}) == len(specs)
    for cache in caches:
        assert fill(cache, ["same key"]) == ["same key"]
    wider = EmbeddingCache(SPEC | {"dim": DIM + 1}, folder=tmp_path)
    assert wider.path not in {cache.path for cache in caches}
    for spec in specs:
        assert (
            fill(EmbeddingCache(dict(reversed(spec.items())), folder=tmp_path), ["same key"]) == []
        )


SPECS = st.fixed_dictionaries(
    {
        name: st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=3)
        for name in ec.SPEC_FIELDS
        if name != "dim"
    }
    | {"dim": st.integers(1, 3)}
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SPECS, SPECS)
def test_two_specs_never_share_a_file(one: dict, other: dict) -> None:
    def exactly(spec: dict) -> set:
        return {(name, type(value), value) for name, value in spec.items()}

    with tempfile.TemporaryDirectory() as folder:
        paths = [EmbeddingCache(spec, folder=Path(folder)).path for spec in (one, other)]
    assert (paths[0] == paths[1]) == (exactly(one) == exactly(other))


def test_a_file_with_another_spec_than_its_name_is_refused(
    tmp_path: Path, cache: EmbeddingCache
) -> None:
    other = EmbeddingCache(SPEC | {"revision": "def"}, folder=tmp_path)
    fill(other, ["a"])
    os.replace(other.path, cache.path)
    with pytest.raises(InputError, match="another spec") as raised:
        EmbeddingCache(SPEC, folder=tmp_path)
    assert str(cache.path) in str(raised.value) and "def" in str(raised.value)


def test_the_default_folder_is_the_projects(tmp_path: Path) -> None:
    code = (
        "from hw2_utils.embedding_cache import EmbeddingCache as C; import sys, json\n"
        "print(C(json.loads(sys.argv[1])).path, 'torch' in sys.modules)"
    )
    env = os.environ | {"HW2_EMBEDDINGS_CACHE": str(tmp_path / "elsewhere")}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(SPEC)],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(ec.__file__).parents[1],
    )
    assert done.stdout.split() == [
        str(EmbeddingCache(SPEC, folder=tmp_path / "elsewhere").path),
        "False",
    ]


# --- keys -----------------------------------------------------------------------------------------


@given(st.text(), st.text())
def test_text_keys_differ_exactly_where_texts_do(one: str, other: str) -> None:
    assert (text_key(one) == text_key(other)) == (one == other)


def test_nfc_and_nfd_are_two_texts() -> None:
    nfc, nfd = "caf\u00e9", "cafe\u0301"
    assert unicodedata.normalize("NFC", nfd) == nfc and text_key(nfc) != text_key(nfd)


def test_image_keys_are_of_the_content() -> None:
    assert len({image_key(content) for content in (b"", b"a", b"b", b"ab")}) == 4
    assert image_key(b"same") == image_key(bytes(bytearray(b"same"))) != text_key("same")


# --- altered and cut files ------------------------------------------------------------------------

FLIPPED = "CAST(substr(vector, 1, 5) || x'5a' || substr(vector, 7) AS BLOB)"
ALTERATIONS = {
    "a flipped byte": f"UPDATE items SET vector = {FLIPPED} WHERE key = ?",
    "a flipped byte, now text": f"UPDATE items SET vector = CAST({FLIPPED} AS TEXT) WHERE key = ?",
    "text that can't be decoded": "UPDATE items SET vector = CAST(x'ff' AS TEXT) WHERE key = ?",
    "a cut vector": "UPDATE items SET vector = substr(vector, 1, 8) WHERE key = ?",
    "a number": "UPDATE items SET vector = 7 WHERE key = ?",
    "another checksum": "UPDATE items SET checksum = x'00' WHERE key = ?",
    "another row's vector": (
        "UPDATE items SET (vector, checksum) = "
        "(SELECT vector, checksum FROM items WHERE key = 'other') WHERE key = ?"
    ),
}


@pytest.mark.parametrize("statement", ALTERATIONS.values(), ids=ALTERATIONS.keys())
def test_an_altered_vector_is_named_and_encoded_again(
    cache: EmbeddingCache, statement: str
) -> None:
    keys = ["first", "altered one", "other"]
    fill(cache, keys)
    assert ec.verify(cache.path.parent) == []
    sql(cache.path, statement, "altered one")
    (problem,) = ec.verify(cache.path.parent)
    assert "altered one" in problem and str(cache.path) in problem
    with pytest.warns(UserWarning, match="'altered one'") as caught:
        assert fill(cache, keys) == ["altered one"]
    assert len(caught) == 1 and str(cache.path) in str(caught[0].message)
    assert (cache.n_encoded, cache.n_found) == (1, 2)
    assert fill(cache, keys) == [] and ec.verify(cache.path.parent) == []


def test_a_vector_from_the_store_of_another_spec_is_found(
    tmp_path: Path, cache: EmbeddingCache
) -> None:
    other = EmbeddingCache(SPEC | {"pooling": "cls"}, folder=tmp_path)
    other.encode(["a"], lambda rows: vectors_of(["b"]))
    fill(cache, ["a"])
    sql(
        cache.path,
        "UPDATE items SET (vector, checksum) = (?, ?)",
        *sql(other.path, "SELECT vector, checksum FROM items")[0],
    )
    with pytest.warns(UserWarning, match="'a'"):
        assert fill(cache, ["a"]) == ["a"]


def cuts(size: int) -> list[int]:
    half = size // 16384 // 2 * 16384
    return [0, 1, 50, 100, 4096, 16384, size // 3, half, size - 16384, size - 5000, size - 1]


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    cache = EmbeddingCache(SPEC, folder=tmp_path_factory.mktemp("whole"))
    fill(cache, some_keys(1500))
    return cache.path.read_bytes()


@pytest.mark.parametrize("n_cut", range(len(cuts(0))))
def test_a_cut_file_is_named_moved_aside_and_rebuilt(
    tmp_path: Path, whole_file: bytes, n_cut: int
) -> None:
    folder, keys = tmp_path / "cache", some_keys(1500)
    path = EmbeddingCache(SPEC, folder=folder).path
    cut = whole_file[: cuts(len(whole_file))[n_cut]]
    path.write_bytes(cut)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asked = fill(EmbeddingCache(SPEC, folder=folder), keys)
    (warning,) = caught
    assert str(path) in str(warning.message) and asked == keys
    (aside,) = folder.glob("*.corrupt-*")
    assert aside.name == f"{path.name}.corrupt-1" and aside.read_bytes() == cut
    assert fill(EmbeddingCache(SPEC, folder=folder), keys) == []


def test_a_cut_file_is_named_by_verify_which_changes_nothing(
    tmp_path: Path, whole_file: bytes
) -> None:
    path = EmbeddingCache(SPEC, folder=tmp_path).path
    for size in cuts(len(whole_file)):
        path.write_bytes(whole_file[:size])
        (problem,) = ec.verify(tmp_path)
        assert str(path) in problem and "store is cut" in problem and "move it away" in problem
        assert path.read_bytes() == whole_file[:size]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_overwritten_bytes_never_give_a_wrong_vector(
    whole_file: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(whole_file)
    start = data.draw(st.integers(16384, len(damaged) - 64))
    damaged[start : start + 64] = data.draw(st.binary(min_size=64, max_size=64))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache = EmbeddingCache(SPEC, folder=Path(folder))
        cache.path.write_bytes(damaged)
        try:
            fill(cache, some_keys(1500))
        except Hw2Error as error:  # refused by name
            assert str(cache.path) in str(error)


def test_a_foreign_file_and_a_second_corrupt_one(tmp_path: Path, cache: EmbeddingCache) -> None:
    for n in (1, 2):
        cache.path.write_bytes(b"not a database, but as long as a header of SQLite would be" * 20)
        with pytest.warns(UserWarning, match="store is cut"):
            assert fill(EmbeddingCache(SPEC, folder=tmp_path), ["a"]) == ["a"]
        assert len(list(tmp_path.glob("*.corrupt-*"))) == n
    sql(cache.path, "DROP TABLE items")  # found by the next read of a cache that is open already
    with pytest.warns(UserWarning, match="no such table"):
        assert fill(cache, ["a", "b"]) == ["a", "b"]


def test_who_comes_late_never_moves_the_rebuilt_store_aside(
    tmp_path: Path, cache: EmbeddingCache
) -> None:
    cache.path.write_bytes(b"corrupt")
    inode = cache.path.stat().st_ino  # a second process has found this file corrupt, and waits
    with pytest.warns(UserWarning, match="store is cut"):
        fill(cache, ["a"])
    ec._move_aside(cache.path, inode)
    assert fill(cache, ["a"]) == [] and len(list(tmp_path.glob("*.corrupt-*"))) == 1


def test_the_log_of_a_deleted_file_is_not_replayed(tmp_path: Path, cache: EmbeddingCache) -> None:
    with closing(sqlite3.connect(cache.path)) as db:
        db.execute("INSERT INTO items VALUES ('stale', x'00', x'00')")
        db.commit()
        log = Path(f"{cache.path}-wal").read_bytes()
    assert log
    cache.path.unlink()
    Path(f"{cache.path}-wal").write_bytes(log)
    assert fill(cache, ["a"]) == ["a"]
    assert sql(cache.path, "SELECT key FROM items") == [("a",)]


# --- processes ------------------------------------------------------------------------------------

FORK = multiprocessing.get_context(
    "fork"
)  # quick to start; the cache holds no connection between its calls


def write_for_ever(folder: Path, worker: int, reports: Path) -> None:
    """Encode shared and own keys, round after round; what is reported is appended to a file."""
    cache = EmbeddingCache(SPEC, folder=folder)
    with open(reports, "a", encoding="utf-8") as file:
        for n in range(10**6):
            keys = some_keys(20, start=20 * n) + [
                text_key(f"{worker}: {20 * n + i}") for i in range(20)
            ]
            encoder = Encoder(keys)

            def report(n_encoded: int, n_missing: int, asked: list[str] = encoder.asked) -> None:
                file.write("".join(f"{key}\n" for key in asked[:n_encoded][-8:]))
                file.flush()

            vectors = cache.encode(keys, encoder, batch_size=8, progress=report)
            np.testing.assert_array_equal(vectors, vectors_of(keys))


def wait_for_size(paths: Sequence[Path], n_bytes: int, *, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not all(path.exists() and path.stat().st_size >= n_bytes for path in paths):
        assert time.monotonic() < end, "the processes don't write"
        time.sleep(0.02)


def test_four_writers_one_killed_nothing_reported_is_lost(tmp_path: Path) -> None:
    reports = [tmp_path / f"reports-{n}.txt" for n in range(4)]
    workers = [
        FORK.Process(target=write_for_ever, args=(tmp_path, n, reports[n]), daemon=True)
        for n in range(4)
    ]
    for worker in workers:
        worker.start()
    try:
        wait_for_size(reports, 3000)
        os.kill(workers[0].pid, signal.SIGKILL)
        sizes = [path.stat().st_size for path in reports[1:]]
        for path, size in zip(reports[1:], sizes, strict=True):
            wait_for_size([path], size + 3000)  # the others go on
        assert all(worker.is_alive() for worker in workers[1:])
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    reported = [
        key for path in reports for key in path.read_text(encoding="utf-8").split("\n")[:-1]
    ]
    assert len(reported) > 150
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectors = EmbeddingCache(SPEC, folder=tmp_path).encode(reported, forbidden)
    np.testing.assert_array_equal(vectors, vectors_of(reported))
    assert ec.verify(tmp_path) == []


def open_together(folder: Path, worker: int, start: object, failures: object) -> None:
    start.wait()
    try:
        keys = some_keys(30) + [f"own {worker}"]
        fill(EmbeddingCache(SPEC, folder=folder), keys)
        EmbeddingCache(SPEC, folder=folder).encode(keys, forbidden)
    except BaseException as error:
        failures.put(f"{worker}: {error!r}")


@pytest.mark.parametrize(
    "content", [None, b"", b"x" * 4096], ids=["no file", "empty file", "corrupt file"]
)
def test_processes_that_open_at_once_make_or_rebuild_one_store(
    tmp_path: Path, content: bytes | None
) -> None:
    path = EmbeddingCache(SPEC, folder=tmp_path).path
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    start, failures = FORK.Barrier(4), FORK.Queue()
    workers = [
        FORK.Process(target=open_together, args=(tmp_path, n, start, failures)) for n in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures.empty(), failures.get()
    assert len(list(tmp_path.glob("*.corrupt-*"))) == (content is not None)
    EmbeddingCache(SPEC, folder=tmp_path).encode(
        some_keys(30) + [f"own {n}" for n in range(4)], forbidden
    )


# --- maintenance ----------------------------------------------------------------------------------


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Callable[..., EmbeddingCache]]:
    def make(folder: str, keys: Sequence[str], **change: object) -> EmbeddingCache:
        cache = EmbeddingCache(SPEC | change, folder=tmp_path / folder)
        fill(cache, keys)
        return cache

    yield make


def test_list_names_each_store(tmp_path: Path, stores: Callable) -> None:
    one, two = stores("c", ["a", "b"]), stores("c", ["a"], model="two", extra=2.5)
    rows = {row["file"]: row for row in ec.list_stores(tmp_path / "c")}
    assert set(rows) == {one.path.name, two.path.name}
    row = rows[two.path.name]
    assert (row["model"], row["items"], row["dim"]) == ("two", 1, DIM)
    assert row["spec"] == SPEC | {"model": "two", "extra": 2.5}
    assert rows[one.path.name]["items"] == 2
    assert row["size_mib"] == two.path.stat().st_size / 2**20
    two.path.write_bytes(b"cut")
    with pytest.raises(ec.CorruptStoreError, match=two.path.name):
        ec.list_stores(tmp_path / "c")
    with pytest.raises(InputError, match="nowhere"):
        ec.list_stores(tmp_path / "nowhere")


def test_prune_empties_the_stores_of_one_model(tmp_path: Path, stores: Callable) -> None:
    one, two = stores("c", some_keys(200), model="one"), stores("c", some_keys(20), model="two")
    size = one.path.stat().st_size
    assert ec.prune(tmp_path / "c", model="one") == {one.path.name: 200}
    assert one.path.stat().st_size < size
    assert fill(two, some_keys(20)) == [] and fill(one, some_keys(3)) == some_keys(3)
    assert ec.prune(tmp_path / "c", model="absent") == {}
    with pytest.raises(InputError, match="nothing to prune"):
        ec.prune(tmp_path / "c", model=None)


def test_union_holds_what_both_hold(tmp_path: Path, stores: Callable) -> None:
    stores("job1", some_keys(600))
    stores("job2", some_keys(600, start=400))
    image = stores("job2", ["image"], model="image")
    stores("all", some_keys(10, start=995))
    name = EmbeddingCache(SPEC, folder=tmp_path / "all").path.name
    sources = [tmp_path / "job1", tmp_path / "job2"]
    assert ec.union(tmp_path / "all", sources) == {name: 995, image.path.name: 1}
    merged = EmbeddingCache(SPEC, folder=tmp_path / "all")
    np.testing.assert_array_equal(
        merged.encode(some_keys(1005), forbidden), vectors_of(some_keys(1005))
    )
    assert sql(merged.path, "SELECT count(*) FROM items") == [(1005,)]
    assert ec.union(tmp_path / "all", [*sources, tmp_path / "all"]) == {name: 0, image.path.name: 0}
    assert ec.verify(tmp_path / "all") == []
    with pytest.raises(InputError, match="job3"):
        ec.union(tmp_path / "all", [tmp_path / "job3"])


def test_union_leaves_altered_vectors_out_and_names_them(tmp_path: Path, stores: Callable) -> None:
    job = stores("job", ["good", "bad"])
    sql(job.path, ALTERATIONS["a flipped byte"], "bad")
    with pytest.warns(UserWarning, match="'bad'"):
        assert ec.union(tmp_path / "all", [tmp_path / "job"]) == {job.path.name: 1}
    assert fill(EmbeddingCache(SPEC, folder=tmp_path / "all"), ["good", "bad"]) == ["bad"]
