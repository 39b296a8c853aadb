"""Keys: one for one content and code, in any process; another for another; or a refusal by name."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from peft import LoraConfig, TaskType

from hw2_utils import encoders, finetune, fusion, hub, keys, metrics, paths, prompting, runs
from hw2_utils.errors import Hw2Error

# ------------------------------------------------------------------------------------------ values
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.binary(max_size=5),
)
NESTED = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.frozensets(PLAIN, max_size=3),
    ),
    max_leaves=8,
)


def shown(value: object) -> str:
    """A value with its types and order: what two equal contents share."""
    if isinstance(value, frozenset):
        return f"set{sorted(map(shown, value))}"
    if isinstance(value, dict):
        return f"dict{[(shown(k), shown(v)) for k, v in value.items()]}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{[shown(item) for item in value]}"
    return repr(value)


@given(NESTED, NESTED)
def test_two_values_have_one_key_where_they_are_the_same(one, other):
    assert (keys.digest([one]) == keys.digest([other])) is (shown(one) == shown(other))


def test_keyword_arguments_have_no_order_and_inner_mappings_do():
    assert keys.digest({"a": 1, "b": {2, 1}}) == keys.digest({"b": {1, 2}, "a": 1})
    assert keys.digest([{"a": 1, "b": 2}]) != keys.digest([{"b": 2, "a": 1}])


ARRAYS = st.builds(
    lambda dtype, shape, seed: np.random.default_rng(seed).integers(0, 3, shape).astype(dtype),
    st.sampled_from(["f4", "f8", "i4", "i8", "u1", "?", "U3", "O", "M8[D]", ">f4", "c8"]),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.integers(0, 3),
)


@given(ARRAYS, ARRAYS)
def test_two_arrays_have_one_key_where_type_shape_and_values_agree(one, other):
    same = (one.dtype, one.shape) == (other.dtype, other.shape) and (one == other).all()
    assert (keys.digest(one) == keys.digest(other)) is bool(same)
    assert keys.digest(np.asfortranarray(one)) == keys.digest(one)
    assert keys.digest(np.repeat(one, 2, axis=0)[::2]) == keys.digest(one)


def test_all_of_a_long_array_counts():
    """numpy shortens a long array's text: a key of that text would call two arrays the same."""
    one = np.zeros(5000)
    other = one.copy()
    other[2500] = 1
    assert keys.digest(one) != keys.digest(other)
    assert keys.digest(np.float64(0.5)) == keys.digest(0.5) != keys.digest(np.array([0.5]))


def test_tensors():
    one = torch.arange(6.0).reshape(2, 3)
    same = [one.clone().requires_grad_(), one.T.contiguous().T, torch.nn.Parameter(one)]
    assert {keys.digest(t) for t in same} == {keys.digest(one)}
    others = [one.reshape(3, 2), one.double(), one.bfloat16(), one + 1, one.to(torch.complex64)]
    others += [others[-1].conj() + 1j, one.to(torch.float8_e4m3fn)]
    assert len({keys.digest(t) for t in [one, *others]}) == 8
    with pytest.raises(Hw2Error, match=r"key\['x'\] is a torch.sparse"):
        keys.digest({"x": one.to_sparse()})


FRAME = pd.DataFrame({"id": ["a", "b", "c"], "n": [1, 2, 3], "x": [0.5, np.nan, 1.5]})


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f[["n", "id", "x"]],
        lambda f: f.astype({"n": "int32"}),
        lambda f: f.astype({"n": "Int64"}),
        lambda f: f.astype({"id": "category"}),
        lambda f: f.astype({"id": object}),
        lambda f: f.iloc[::-1],
        lambda f: f.tail(2),
        lambda f: f.head(2),
        lambda f: f.set_index("id"),
        lambda f: f.set_axis([1, 2, 3]),
        lambda f: f.rename_axis("row"),
        lambda f: f.rename(columns={"n": "m"}),
        lambda f: f.fillna(0),
        lambda f: f.assign(id=["a", "b", None]),
        lambda f: f.assign(id=f["id"].str.upper()),
        lambda f: f.assign(x=[0.5, np.nan, 1.25]),
        lambda f: f["n"],
        lambda f: f["n"].to_frame(),
        lambda f: f["n"].rename("m"),
        lambda f: pd.concat([f, f["n"]], axis=1),
        lambda f: f.set_axis(pd.MultiIndex.from_product([["a"], [0, 1, 2]])),
        lambda f: f.assign(v=[[1.0], [2.0], []]),
        lambda f: f.assign(v=[np.ones(2)] * 3),
        lambda f: f.assign(detach=1, fingerprint=2, dtype=3),
        lambda f: f.assign(when=pd.Timestamp("2026-01-01")),
    ],
)
def test_a_frame_counts_with_columns_types_index_and_missing_values(change):
    changed = change(FRAME)
    assert keys.digest(changed) == keys.digest(change(FRAME.copy())) != keys.digest(FRAME)


def test_categories_count_that_no_row_has():
    with_b, without = (pd.Series(["a"]).astype(pd.CategoricalDtype(c)) for c in (["a", "b"], ["a"]))
    assert keys.digest(with_b) != keys.digest(without)


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass
class Recipe:
    rate: float = 0.5
    layers: list = field(default_factory=list)


Point, Turned = namedtuple("P", "x y"), namedtuple("P", "y x")


def test_other_values_that_notebooks_hand_in():
    configs = [
        LoraConfig(r=r, target_modules=t)
        for r, t in ((8, {"a", "b"}), (8, ["b", "a"]), (4, ["a", "b"]))
    ]
    one, same, other = (keys.digest({"c": config}) for config in configs)
    assert one == same != other
    different = [
        *(Colour.RED, Colour.BLUE, TaskType.SEQ_CLS, "SEQ_CLS"),
        *(Recipe(), Recipe(0.25), Recipe(0.5, [1])),
        *(Point(1, 2), Turned(1, 2), (1, 2), [1, 2]),
        *(functools.partial(max, 1), functools.partial(max, 2), functools.partial(min, 1), max),
        *({1: 2}.get, {1: 3}.get, "a".join, "b".join, str.lower, str.upper),
        *(torch.relu, torch.nn.functional.relu, torch.cat, np.exp, np.log, np.mean, range(3)),
        *(None, "None", 1, 1.0, True, "1", 1j, b"1", re.compile("a"), re.compile("a", re.I)),
        *({}, [], (), set(), ["mapping", None, None, []], ["set"], ["list", []]),
    ]
    assert len({keys.digest({"x": value}) for value in different}) == len(different)
    assert keys.digest(Recipe()) == keys.digest(Recipe(0.5, []))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"what": object()}, r"^.*key\['what'\] is a object, which can't be part of a key"),
        ({"a": [1, {"b": Path("x")}]}, r"key\['a'\]\[1\]\['b'\] is a PosixPath"),
        ({"g": (x for x in "a")}, r"key\['g'\] is a generator"),
        ({"r": np.random.default_rng().choice}, r"key\['r'\] is a Generator"),
        ({"n": torch.nn.Linear(1, 1)}, r"key\['n'\] is a Linear"),
        (SimpleNamespace(), "key is a SimpleNamespace"),
    ],
)
def test_what_cannot_be_hashed_is_refused_by_name(value, message):
    with pytest.raises(Hw2Error, match=message) as error:
        keys.digest(value)
    assert "hand in the values" in error.value.todo


def test_what_holds_itself_is_refused():
    items: list = []
    items.append(items)
    with pytest.raises(Hw2Error, match="holds itself"):
        keys.digest(items)


# ------------------------------------------------------------------------------------ code of cells
def in_cell(source: str) -> dict[str, object]:
    """Runs a cell as a kernel does: what it defines belongs to `__main__`, its text to no file."""
    shell = InteractiveShell()
    assert shell.run_cell(source, store_history=True).success
    return shell.user_ns


CELL = '''
import collections, contextlib, dataclasses, functools, math
import numpy as np
import torch
from torch import nn
from hw2_utils import metrics, prompting

RATE = 0.5
names = ["a", "b"]
TABLE = {"yes": 1, "no": 0}
nested = {"deep": [(1, {"set", "of"})]}
lower = str.lower
lookup = TABLE.get
double = lambda x: x * 2
half = functools.partial(math.pow, 0.5)


def twice(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs) * 2
    return wrapper


def thrice(function):
    def wrapper(*args):
        return function(*args) * 3
    return wrapper


def scaled(by):
    def scale(x, more=by + 1):
        return x * by + more
    return scale


def deepest(x):
    return x + RATE


def deep(x):
    return [deepest(i) for i in x]


@twice
def decorated(x):
    return x + 10


@thrice
def bare(x):
    return x + 11


@functools.cache
def cached(x):
    return x + 12


@contextlib.contextmanager
def managed():
    yield 13


@dataclasses.dataclass(frozen=True)
class Setting:
    size: int = 14
    parts: list = dataclasses.field(default_factory=lambda: [15])


Pair = collections.namedtuple("Pair", "left right")


class Base:
    shift = 16

    def base(self):
        return 17


class Head(Base, nn.Module):
    """Doc."""
    scale = 18

    @property
    def width(self):
        return 19

    @classmethod
    def make(cls):
        return cls(20)

    @staticmethod
    def small(x):
        return x - 21

    @functools.cached_property
    def kept(self):
        return 22

    def __init__(self, n=23, *, m=24):
        super().__init__()
        self.linear = nn.Linear(n, m)

    def forward(self, x):
        # a comment
        class Inner:
            """Inner doc."""
            value = 25
        return torch.relu(self.linear(x)) * self.scale + Inner.value


def count(n):
    return count(n - 1) + 26 if n else 0


def even(n):
    return odd(n - 1) if n else True


def odd(n):
    return even(n - 1) if n else 27


by_two = scaled(28)
count.step = 29


def compute(x, k=30, *, mode="31"):
    """Doc of compute."""
    def inside(y):
        return y + len(names)
    if x:
        with managed():
            pass
    found = {key: inside(value) for key, value in TABLE.items()}
    return (deep(x), decorated(x), bare(x), cached(x), Setting(), Pair(1, 2), Head, count, odd,
            by_two, lower, lookup, double, half, nested, found, np.exp(x), metrics, count.step)
'''
CELL_EDITS = [  # what is there, what comes instead
    ("RATE = 0.5", "RATE = 0.6"),
    ("RATE = 0.5", "RATE = np.float32(0.6)"),
    ('names = ["a", "b"]', 'names = ["a"]'),
    ('"no": 0', '"no": 2'),
    ('{"yes": 1, "no": 0}', '{"no": 0, "yes": 1}'),
    ('"of"', '"off"'),
    ("str.lower", "str.upper"),
    ("TABLE.get", "{}.get"),
    ("x * 2", "x * 3"),
    ("math.pow, 0.5", "math.pow, 0.6"),
    ("math.pow, 0.5", "math.fmod, 0.5"),
    ("kwargs) * 2", "kwargs) * 4"),
    ("args) * 3", "args) * 4"),
    ("@twice\n", ""),
    ("@thrice\n", "@twice\n"),
    ("@functools.cache\n", ""),
    ("@contextlib.contextmanager\n", ""),
    ("more=by + 1", "more=by + 2"),
    ("x * by", "x / by"),
    ("x + RATE", "x - RATE"),
    ("[deepest(i)", "[deepest(2 * i)"),
    ("x + 10", "x + 100"),
    ("x + 11", "x + 100"),
    ("x + 12", "x + 100"),
    ("yield 13", "yield 100"),
    ("size: int = 14", "size: int = 100"),
    ("lambda: [15]", "lambda: [100]"),
    ("frozen=True", "frozen=False"),
    ('"left right"', '"right left"'),
    ("shift = 16", "shift = 100"),
    ("return 17", "return 100"),
    ("scale = 18", "scale = 100"),
    ("return 19", "return 100"),
    ("cls(20)", "cls(100)"),
    ("x - 21", "x - 100"),
    ("return 22", "return 100"),
    ("n=23", "n=100"),
    ("m=24", "m=100"),
    ("value = 25", "value = 100"),
    ("torch.relu", "torch.tanh"),
    ("    @staticmethod\n    def small(x)", "    def small(x)"),
    ("class Head(Base, nn.Module)", "class Head(nn.Module)"),
    (" + 26", " + 100"),
    ("else 27", "else 100"),
    ("scaled(28)", "scaled(100)"),
    ("count.step = 29", "count.step = 100"),
    ("k=30", "k=100"),
    ('mode="31"', 'mode="32"'),
    ("*, mode", "mode"),
    ("y + len(names)", "y - len(names)"),
    ("if x:", "if not x:"),
    ("metrics, count.step", "prompting, count.step"),
]
CELL_SAME = [
    ("# a comment", "# another comment\n        # of two lines"),
    ('"""Doc."""', '"""Other words."""'),
    ('    """Doc."""\n', ""),
    ('"""Inner doc."""', '"""Other words."""'),
    ('    """Doc of compute."""\n', ""),
    ('    """Doc of compute."""\n', '    """Other words."""\n\n\n'),
    ("def deepest(x):\n", 'def deepest(x):\n    """Now it has one."""\n'),
    ("RATE = 0.5", "\n\n\nRATE = 0.5  # why"),
    ("found = {key: inside(value) for key, value in TABLE.items()}",
     "found = {\n        key: inside(value)\n        for key, value in TABLE.items()\n    }"),
    ("np.exp(x), metrics, count.step)", "np.exp(\n        x\n    ), metrics, count.step,)"),
    ("RATE = 0.5", "UNREAD = 1\nRATE = 0.5"),
]  # fmt: skip


@functools.cache
def of_cell(old: str = "", new: str = "") -> str:
    assert old in CELL
    return keys.digest(in_cell(CELL.replace(old, new, 1))["compute"])


@pytest.mark.parametrize(("old", "new"), CELL_EDITS)
def test_all_that_a_cells_function_reads_counts(old, new):
    assert of_cell(old, new) != of_cell()


@pytest.mark.parametrize(("old", "new"), CELL_SAME)
def test_comments_docstrings_and_layout_do_not_count(old, new):
    assert of_cell(old, new) == of_cell()


def test_two_functions_of_one_name_are_told_apart():
    one, other = (lambda: 1), (lambda: 2)
    found = {keys.digest(list(fs)) for fs in ((one, other, one), (one, other, other), (one, one))}
    assert len(found) == 3


def test_a_function_that_has_run_and_is_traced_keeps_its_key():
    space = in_cell("total = 0\ndef f(n):\n    return sum(i * i for i in range(n)) + total\n")
    before = keys.digest(space["f"])
    for _ in range(100):
        space["f"](100)
    trace = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        assert keys.digest(space["f"]) == before
    finally:
        sys.settrace(trace)


REFUSED = [
    ("settings = SimpleNamespace()", "settings.n", "`settings`, which f reads, is a Simple"),
    ("t = {'a': [0, Path('x')]}", "t", r"`t`\['a'\]\[1\], which f reads, is a PosixPath"),
    ("g = (i for i in 'a')", "g", "`g`, which f reads, is a generator"),
    ("", "eval('settings')", "f calls eval"),
    ("", "globals()['settings']", "f calls globals"),
    ("rng = np.random.default_rng()\ndef h():\n    return rng", "h()", "`rng`, which h reads,"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "read", "message"), REFUSED)
def test_what_a_cells_function_reads_is_refused_by_name(before, read, message):
    imports = "import numpy as np\nfrom pathlib import Path\nfrom types import SimpleNamespace\n"
    space = in_cell(f"{imports}{before}\ndef f():\n    return {read}\n")
    with pytest.raises(Hw2Error, match=message):
        keys.digest(space["f"])


def test_what_only_looks_like_a_librarys_function_is_hashed_by_its_code():
    text = (
        "import functools\nfrom hw2_utils import predictions\n"
        "@functools.wraps({of})\ndef f(*args):\n    return {value}\n"
    )
    for name in ("predictions.prediction_frame", "functools.reduce"):
        one, other = (in_cell(text.format(of=name, value=v))["f"] for v in (1, 2))
        assert keys.digest(one) != keys.digest(other)


@pytest.mark.parametrize(
    "line",
    ["import helper", "from helper import add", "import helper as h", "from helper import *"],
)
@pytest.mark.parametrize("inside", [True, False])
def test_a_helper_beside_the_notebook_counts(tmp_path, monkeypatch, line, inside):
    if inside and "*" in line:
        pytest.skip("no function may import so")
    monkeypatch.syspath_prepend(tmp_path)
    call = {"import helper": "helper.add(1)", "import helper as h": "h.add(1)"}.get(line, "add(1)")
    text = (
        f"def f():\n    {line}\n    return {call}"
        if inside
        else f"{line}\ndef f():\n    return {call}"
    )
    found = []
    for n in (1, 2):
        for name in ("helper", "deeper"):
            sys.modules.pop(name, None)
        (tmp_path / "deeper.py").write_text(f"N = {n * 1000}\n")
        (tmp_path / "helper.py").write_text("import deeper\ndef add(x):\n    return x + deeper.N\n")
        sys.path_importer_cache.clear()
        found.append(keys.digest(in_cell(text)["f"]))
    assert found[0] != found[1]


def test_a_packages_module_that_a_function_imports_counts():
    one, other = (
        in_cell(f"def f():\n    from hw2_utils import {name} as m\n    return m")["f"]
        for name in ("metrics", "prompting")
    )
    assert keys.digest(one) != keys.digest(other)


SAME = """
from peft import LoraConfig
from hw2_utils import encoders, finetune, fusion, hub, keys, metrics, paths, prompting, runs
def f(x): return x in {"a", "b", "c", "d"} or {y for y in "abc"}
class C:
    def __init__(self): self.a = self.b = self.c = self.d = 1
values = [LoraConfig(r=8, target_modules={"query", "value", "key"}), {"a", "b", "c"}, f, C]
print(*(keys.digest(v) for v in values))
"""


@pytest.mark.slow
def test_keys_are_the_same_in_every_process():
    found = set()
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", SAME]
        found.add(subprocess.run(command, capture_output=True, env=environment, check=True).stdout)
    assert len(found) == 1 and len(found.pop().split()) == 4


def test_large_inputs_are_hashed_in_about_a_second():
    rng = np.random.default_rng(0)
    images = {f"image{i}": rng.random(2048, np.float32) for i in range(1449)}
    questions = {f"what is {i} ?": rng.random(384, np.float32) for i in range(12_468)}
    tweets = pd.DataFrame({"id": [f"t{i}" for i in range(45_615)], "text": "x" * 100, "label": "a"})
    begin = time.process_time()
    keys.digest({"images": images, "questions": questions, "tweets": {"train": tweets}})
    assert time.process_time() - begin < 15


# -------------------------------------------------------------- what the package's modules hand out
class Watch:
    """Which modules of the package run inside a block, and what passes from one to another."""

    def __enter__(self) -> Watch:
        self.ran: set[str] = set()
        self.handed_out: dict[tuple[str, str], set[str]] = {}
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def __call__(self, frame: object, event: str, value: object) -> None:
        module = self.of(frame)
        if module is None or event not in ("call", "return") or frame.f_code.co_name[0] == "<":
            return
        self.ran.add(module)
        caller = self.of(frame.f_back)
        if event == "return" and caller is not None and caller not in keys.NUMBERLESS:
            name = (module, frame.f_code.co_qualname)
            self.handed_out.setdefault(name, set()).add(type(value).__name__)

    @staticmethod
    def of(frame: object) -> str | None:
        package, _, module = (frame.f_globals.get("__name__", "") if frame else "").partition(".")
        return module if package == "hw2_utils" and module else None


# What numberless modules may hand to others: nothing, texts, answers yes or no, places, checked
# models, stores, bars; and what enters a key by its content: vectors, and their hashes.
HARMLESS = {"NoneType", "str", "bool", "Model", "PosixPath", "EmbeddingCache", "tqdm_asyncio"}
BY_CONTENT = {("embedding_cache", "EmbeddingCache.encode"), ("hub", "module_folders")}
BY_CONTENT |= {("keys", "versions")}  # texts, which go into a store's spec


def closure(*modules: str) -> set[str]:
    """The modules whose code `package_code` hashes."""
    found: set[str] = set()
    wanted = set(modules)
    while wanted:
        found.add(name := wanted.pop())
        wanted |= keys._module_code(name)[1] - keys.NUMBERLESS - found
    return found


def assert_all_counts(watch: Watch, *modules: str) -> None:
    assert set(modules) <= watch.ran
    assert watch.ran - keys.NUMBERLESS <= closure(*modules)
    for name, kinds in watch.handed_out.items():
        if name[0] in keys.NUMBERLESS and name not in BY_CONTENT:
            assert kinds <= HARMLESS, name


@pytest.mark.slow
def test_numberless_modules_hand_no_number_to_a_training():
    model = hub.fetch_model("sample:all-MiniLM-L6-v2-2layers")
    frame = pd.DataFrame({"id": list("abcd"), "text": ["good", "bad", "so so", "fine"]})
    frame["label"] = ["positive", "negative"] * 2
    recipe = finetune.Recipe(epochs=1, batch_size=2, max_length=8, bf16=False, device="cpu")
    inputs = {"model": model, "splits": dict.fromkeys(("train", "val", "test"), frame)}
    inputs |= {"recipe": recipe, "classes": ["negative", "positive"], "learning_rate": 1e-3}
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=2)
    with Watch() as watch:
        finetune.fine_tune(**inputs, peft_config=config, method="lora", seed=0, keep=True)
    assert_all_counts(watch, "finetune")
    assert {"predictions", "timing"} <= watch.ran and "hub" in watch.ran


@pytest.mark.slow
def test_numberless_modules_hand_no_number_to_encoders(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "EMBEDDINGS_CACHE", tmp_path)
    picture = sorted((paths.ROOT / "data/sample/daquar").rglob("*.png"))[:1]
    picture = picture or sorted((paths.ROOT / "data/sample/daquar").rglob("*.jpg"))[:1]
    with Watch() as watch:
        image, text = encoders.clip_encoders(
            hub.fetch_model("sample:clip"), geometry="whole", device="cpu"
        )
        encoders.embed(image, picture)
        encoders.embed(text, ["a lamp"])
        sentence = hub.fetch_model("sample:all-MiniLM-L6-v2")
        encoders.embed(encoders.sentence_encoder(sentence, device="cpu"), ["a lamp"])
    assert_all_counts(watch, "encoders")
    assert {"pictures", "hub", "embedding_cache"} <= watch.ran


@pytest.mark.slow
def test_numberless_modules_hand_no_number_to_scores():
    model = hub.fetch_model("sample:SmolLM2-135M-Instruct")
    with Watch() as watch:
        lm = prompting.load(model.path, device="cpu")
        prompting.score(lm, ["Ice is cold. Answer:"], [" True", " False"], batch_size=1)
        prompting.generate(lm, ["Ice is"], max_new_tokens=2, batch_size=1, stop=("\n",))
    assert_all_counts(watch, "prompting")


@pytest.mark.slow
def test_numberless_modules_hand_no_number_to_fusion():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"id": list("abcd"), "question": "what", "image_id": list("xxyy")})
    rows["answer"] = rows["label"] = ["bed", "lamp"] * 2
    frames = dict.fromkeys(("train", "val", "test"), rows)
    images, questions = {k: rng.random(3) for k in "xy"}, {"what": rng.random(2)}
    options = {"classes": ["bed", "lamp"], "seeds": [0], "hidden_dim": 2, "device": "cpu"}
    options |= {"epochs": 1, "batch_size": 2, "learning_rate": 0.1, "weight_decay": 0.0}
    with Watch() as watch:
        embedded = fusion.Embedded(frames, images, questions, ["bed", "lamp"])
        data = fusion.tensors(embedded, image_scale=1.0)
        found = fusion.fit(Linear, (3, 2), data, frames, method="fusion", **options)
        metrics.tidy(found["predictions"], classes=["bed", "lamp"])
    assert_all_counts(watch, "fusion", "metrics")


class Linear(torch.nn.Module):
    def __init__(self, image_dim: int, question_dim: int, hidden_dim: int, n_classes: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(image_dim + question_dim, n_classes)

    def forward(self, image: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.cat([image, question], dim=-1).float())


def test_a_records_key_costs_nothing_the_second_time():
    models = {"image_model": {"id": "sample:efficientnet-lite0"}}
    runs.record_key("03_vqa_resnet_sbert", "sample", models)
    begin = time.process_time()
    for _ in range(1000):
        runs.record_key("03_vqa_resnet_sbert", "sample", models)
    assert time.process_time() - begin < 15
