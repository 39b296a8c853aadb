"""Parts: computed once, checked whenever they are read, and never in another process's way."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from hw2_utils import __main__, folders, parts, paths
from hw2_utils.errors import Hw2Error


def compute(seed: int, names: list[str]) -> dict[str, object]:
    rows = pd.DataFrame({"step": [1, 2, 3], "vector": [[1.0, seed], [2.0], []], "name": names})
    return {"loss": 1e-05, "names": names, "rows": rows, "curve": rows[["step"]]}


INPUTS = {"seed": 0, "names": ["a", "é", "c"]}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `runs/` of the test's own; returns its parts' folder."""
    monkeypatch.delenv("HW2_FRESH", raising=False)
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    return tmp_path / "runs" / "parts"


def done(**changed: object) -> dict[str, object]:
    return parts.part("full 0", compute, {**INPUTS, **changed})


def assert_same(one: dict[str, object], other: dict[str, object]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, other[name])
        else:
            assert value == other[name]


# ------------------------------------------------------------------------------------------ reuse
def test_a_part_is_computed_once_and_reads_back_equal(capsys, place):
    first = done()
    assert capsys.readouterr().out == f"computed full 0 (part {first['part'][:8]})\n"
    assert_same(first, done())
    assert capsys.readouterr().out == f"reused   full 0 (part {first['part'][:8]})\n"
    assert first.keys() == {"loss", "names", "rows", "curve", "part"}
    assert [p.name for p in place.iterdir()] == [first["part"]]


def test_another_input_or_machine_is_another_part(place):
    found = {done()["part"], done(seed=1)["part"], done(names=["a", "b", "c"])["part"]}
    for threads in (1, 2):
        on = {"device": "CPU (x)", "threads": threads}
        found.add(parts.part("full 0", compute, INPUTS, measured_on=on)["part"])
    assert len(found) == 5


def test_the_order_of_keyword_arguments_is_nothing():
    assert done()["part"] == parts.part("full 0", compute, dict(reversed(INPUTS.items())))["part"]


def weigh(seed: int) -> dict[str, object]:
    return {"loss": 0.5, "adapter_config.json": b"{}", "weights": bytes([seed]) * 1000}


def test_bytes_are_kept_as_files_and_held_against_their_checksum(place, capsys):
    first = parts.part("lora 0", weigh, {"seed": 7})
    assert first == {**weigh(7), "part": first["part"]} == parts.part("lora 0", weigh, {"seed": 7})
    folder = place / first["part"]
    names = {"part.json", "adapter_config.json.bin", "weights.bin"}
    assert {file.name for file in folder.iterdir()} == names and parts.is_part(folder)
    (row,) = parts.list_parts()
    assert row["status"] == "kept" and row["bytes"] > 1000
    (folder / "weights.bin").write_bytes(b"others")
    assert parts.list_parts()[0]["status"] == "damaged"
    assert parts.part("lora 0", weigh, {"seed": 7}) == first
    assert "weights.bin isn't what was written" in capsys.readouterr().out
    assert len(parts.prune(set())) == 2 and not list(place.iterdir())


def test_a_part_is_computed_again_when_asked(monkeypatch, capsys, place):
    for fresh in ("0", "1", "1"):
        monkeypatch.setenv("HW2_FRESH", fresh)
        done()
    assert capsys.readouterr().out.count("computed") == 3 and len(list(place.iterdir())) == 1


def abort(seed: int) -> dict[str, object]:
    raise KeyboardInterrupt


def test_a_computation_that_ends_early_leaves_nothing(place):
    with pytest.raises(KeyboardInterrupt):
        parts.part("full 0", abort, {"seed": 0})
    assert list(place.iterdir()) == []


def test_what_cannot_be_hashed_is_named(place):
    with pytest.raises(Hw2Error, match=r"input\['settings'\] is a SimpleNamespace"):
        parts.part("full 0", compute, {"settings": SimpleNamespace()})
    assert not place.exists()


# ----------------------------------------------------------------------------------------- damage
def flip(file: Path, random_: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
    file.write_bytes(data)


@pytest.mark.slow
def test_no_flipped_bit_is_believed(capsys, place):
    """Each flip is named, its part set aside, and what is computed again is what was there."""
    first, random_ = done(), random.Random(0)
    folder = place / first["part"]
    files = sorted(folder.iterdir())
    assert {f.name for f in files} == {"part.json", "rows.parquet", "curve.parquet"}
    for n in range(300):
        file = files[n % len(files)]
        flip(file, random_)
        capsys.readouterr()
        assert_same(first, done())
        out = capsys.readouterr().out
        assert f"is damaged ({file.name} isn't what was written)" in out and "computed" in out
        (aside,) = place.glob("*.damaged-*")
        shutil.rmtree(aside)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def replace_by_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replace_by_a_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/nowhere")


@pytest.mark.parametrize("name", ["part.json", "rows.parquet"])
@pytest.mark.parametrize(
    "spoil",
    [truncate, Path.unlink, replace_by_a_folder, replace_by_a_link, lambda f: f.write_bytes(b"")],
)
def test_a_damaged_file_is_named_and_computed_again(spoil, name, capsys, place):
    first = done()
    spoil(place / first["part"] / name)
    assert_same(first, done())
    out = capsys.readouterr().out
    assert f"is damaged ({name}" in out and out.count("computed") == 2
    assert_same(first, done())
    assert "reused" in capsys.readouterr().out


@pytest.mark.parametrize("make", [Path.mkdir, lambda p: p.write_text("mine"), lambda p: p.mkdir()])
def test_what_lies_in_a_parts_place_is_set_aside(make, capsys, place):
    first = done()
    shutil.rmtree(place / first["part"])
    make(place / first["part"])
    assert_same(first, done())
    assert "damaged" in capsys.readouterr().out


def test_a_part_of_the_version_before_is_said_to_be_older(capsys, place):
    first = done()
    about = {"loss": 0.25, "part": first["part"]}
    (place / first["part"] / "part.json").write_text(json.dumps(about, indent=1))
    assert parts.list_parts()[0]["status"] == "older version"
    assert_same(first, done())
    assert "older version" in capsys.readouterr().out
    parts.prune({first["part"]})
    assert [row["status"] for row in parts.list_parts()] == ["kept"]


# ----------------------------------------------------------------------- where nothing is written
def test_a_place_that_cannot_be_written_is_one_message(place):
    place.parent.mkdir()
    place.write_text("a file in the way")
    with pytest.raises(Hw2Error, match="the part can't be written") as error:
        done()
    assert "HW2_RUNS" in error.value.todo and place.read_text() == "a file in the way"


def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path, monkeypatch):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can't be mounted here")
    monkeypatch.setattr(paths, "RUNS", small)
    try:
        with pytest.raises(Hw2Error, match="the part can't be written"):
            done(names=[random.Random(0).randbytes(9000).hex()] * 3)
        assert [p.name for p in small.rglob("*")] == ["parts"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def nothing_that_can_be_kept() -> dict[str, object]:
    return {"loss": float("nan")}


def test_a_result_that_cannot_be_kept_leaves_nothing(place):
    with pytest.raises(ValueError, match="not JSON compliant"):
        parts.part("full 0", nothing_that_can_be_kept, {})
    assert list(place.iterdir()) == []


# ------------------------------------------------------------------------------- several processes
WORK = """
import os, sys, time
from pathlib import Path
import pandas as pd
from hw2_utils import parts

def compute(n):
    return {"rows": pd.DataFrame({"x": range(n), "t": time.perf_counter()}), "n": n}

for _ in range(int(sys.argv[1])):
    result = parts.part("part", compute, {"n": 1000})
    assert len(result["rows"]) == 1000 and result["n"] == 1000
sys.stdout.flush()
os._exit(0)  # one in a hundred aborts in a library's threads while Python takes itself down
"""


def processes(place: Path, n: int, turns: int, *fresh: str) -> str:
    """Runs WORK in n processes at once; each must end well. Returns what they printed."""
    each = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(turns)],
            env={**os.environ, "HW2_RUNS": str(place.parent), "HW2_FRESH": fresh[i % len(fresh)]},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(n)
    ]
    found = [process.communicate(timeout=300) for process in each]
    assert [process.returncode for process in each] == [0] * n, found
    assert not any(error for _, error in found), found
    return "".join(out for out, _ in found)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "fresh"), [(2, ["1"]), (4, ["1"]), (4, ["1", "0"]), (3, ["0"])])
def test_processes_that_compute_one_part_at_once(n, fresh, place):
    out = processes(place, n, 60, *fresh)
    assert "damaged" not in out
    assert [p.suffix for p in place.iterdir()] == [""]
    assert len(parts.read(next(place.iterdir()))["rows"]) == 1000


KILL = """
import os, signal, sys
from pathlib import Path
import pandas as pd
from hw2_utils import parts
left = int(sys.argv[1])

def die(event, arguments):
    global left
    if event in ("open", "os.mkdir", "os.rename", "os.rmdir") and "parts" in str(arguments[0]):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

def compute(n):
    return {"rows": pd.DataFrame({"x": range(n)})}

sys.addaudithook(die)
parts.part("part", compute, {"n": 10})
"""


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_a_whole_part_or_none(place):
    killed = 0
    for step in range(100):
        shutil.rmtree(place, ignore_errors=True)
        code = [sys.executable, "-c", KILL, str(step)]
        environment = {**os.environ, "HW2_RUNS": str(place.parent)}
        ended = subprocess.run(code, env=environment, capture_output=True, text=True, check=False)
        statuses = [row["status"] for row in parts.list_parts()]
        assert set(statuses) <= {"kept", "unfinished"} and statuses.count("kept") <= 1
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        killed += 1
    assert killed >= 4 and statuses == ["kept"]


# ------------------------------------------------------------------------------------------ upkeep
def test_prune_removes_what_no_record_uses_and_nothing_else(place):
    used, orphan, spoilt = (done(seed=seed)["part"] for seed in range(3))
    (place / spoilt / "rows.parquet").write_bytes(b"")
    for name in ("mine", f"{orphan[:-1]}x", "0" * 31):
        (place / name).mkdir()
        (place / name / "part.json").write_text("{}")
    (place / ("1" * 32)).mkdir()
    (place / ("1" * 32) / "notes.txt").write_text("mine")
    (place / ("2" * 32)).symlink_to(place / used)
    (place / "file").write_text("mine")
    young, old = (place / f"{used}.tmp-{hex_ * 32}" for hex_ in "ab")
    for folder in (
        young,
        old,
        place / f"{used}.damaged-{'c' * 32}",
        place / f"{used}.old-{'d' * 32}",
    ):
        folder.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    rows = {row["part"]: row["status"] for row in parts.list_parts()}
    assert rows[used] == "kept" and rows[spoilt] == "damaged" and rows[young.name] == "unfinished"
    assert "mine" not in rows and "1" * 32 not in rows
    removed = parts.prune({used})
    assert set(removed) == {p for p in rows} - {used, young.name} and removed[orphan] > 0
    left = {p.name for p in place.iterdir()}
    assert left == {
        used,
        young.name,
        "mine",
        f"{orphan[:-1]}x",
        "0" * 31,
        "1" * 32,
        "2" * 32,
        "file",
    }


def test_list_names_label_and_size(place):
    first = done()
    (row,) = parts.list_parts()
    assert row["part"] == first["part"] and row["label"] == "full 0" and row["bytes"] > 1000
    assert re.fullmatch("[0-9a-f]{32}", row["part"])


def test_the_command_line_lists_and_prunes(capsys, place, monkeypatch):
    used, orphan = done()["part"], done(seed=1)["part"]
    record = {"run": {"id": "1", "notebook": "03_vqa_resnet_sbert", "parts": [used]}}
    (place.parent / "sample").mkdir()
    folders.write_sealed(place.parent / "sample" / "result.json", record)
    capsys.readouterr()
    assert __main__.main(["parts", "list"]) == 0
    lines = {line[:20]: line for line in capsys.readouterr().out.splitlines()}
    assert "kept, in a record" in lines[used[:20]] and "in no record" in lines[orphan[:20]]
    assert __main__.main(["parts", "prune"]) == 0
    out = capsys.readouterr().out
    assert f"{orphan}: 0.0" in out and "1 parts removed" in out and used not in out
    assert [p.name for p in place.iterdir() if p.is_dir()] == [used]
