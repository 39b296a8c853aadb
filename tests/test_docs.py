"""What README and docs say: links, commands, names, messages; and how the code is laid out."""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.util
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml

from hw2_utils import __main__, execute, parameters
from hw2_utils.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "data" / "README.md",
        ROOT / "benchmarks" / "RESULTS.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / ".github").rglob("*.md"),
    ]
)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("0*.ipynb"))
BIN = Path(sys.executable).parent
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
PROSE = (  # what `typos` reads; tests misspell on purpose
    "README.md CONTRIBUTING.md CHANGELOG.md CITATION.cff data/README.md docs benchmarks scripts "
    "notebooks .github writeup/sections workflow Makefile Snakefile"
).split()
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def load_script(name: str):
    """A file of scripts/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------------------------ reading pages
def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks in one of these languages."""
    return [block for language, block in FENCE.findall(text_of(page)) if language in languages]


def spans(page: Path) -> list[str]:
    """What stands between backticks in a line of text."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text_of(page)))


def shell_lines(page: Path) -> list[str]:
    """Lines of shell blocks, without the marks that Colab puts before a command."""
    lines = "".join(blocks(page, "", "sh", "bash")).replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("!") for line in lines if not line.strip().startswith("%")]


def simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a line, without what is set before it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()<>")
    lexer.whitespace_split = True
    for is_end, words in itertools.groupby(lexer, key=lambda word: word in ("&&", "||", ";", "|")):
        if not is_end:
            yield list(itertools.dropwhile(is_setting, words))


def is_setting(word: str) -> bool:
    """Whether a word before a command sets or takes away a variable."""
    return word in ("env", "-u") or bool(re.fullmatch(r"[A-Z_0-9]+(=.*)?", word))


def written_out(text: str) -> Iterator[str]:
    """What a synopsis stands for: with all that is optional, once with each choice."""
    if re.search(r"\[-|\w\|\w", text):
        text = re.sub(r"\.\.\.|[][]", "", text)
    text = re.sub(r"\bN\b", "2", text)
    pieces = [p.split("|") for p in re.split(r"(?<!\S)(\S+(?:\|\S+)+)(?!\S)", text)]
    yield from map("".join, itertools.product(*pieces))


def commands(page: Path) -> list[list[str]]:
    """Every `make …` and `python -m hw2_utils …` of a page, as words."""
    texts = [line for span in spans(page) for line in written_out(span)]
    found = []
    for line in [*shell_lines(page), *texts]:
        try:
            found += simple_commands(line)
        except ValueError:  # an apostrophe in a span that is no command
            continue
    return [words for words in found if is_ours(words)]


def is_ours(words: list[str]) -> bool:
    python = len(words) > 3 and words[0].endswith("python") and words[1:3] == ["-m", "hw2_utils"]
    return python or len(words) > 1 and words[0] == "make"


# -------------------------------------------------------------------------------------------- links
@each_page
def test_every_relative_link_leads_somewhere(page):
    plain = FENCE.sub("", text_of(page))
    links = re.findall(r"\]\(([^)\s]+)\)", plain) + re.findall(r'(?:src|href)="([^"]+)"', plain)
    relative = [link for link in links if not re.match(r"https?:|mailto:", link)]
    assert [link for link in relative if not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """What GitHub names the headings of a page."""
    heads = re.findall(r"(?m)^#+ (.+)$", FENCE.sub("", text_of(page)))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@each_page
def test_every_file_that_is_named_is_there(page):
    folders = "hw2_utils|workflow|tests|benchmarks|docs|scripts|notebooks|data/sample|\\.github"
    named = [re.fullmatch(rf"((?:{folders})/[\w./-]*)(::\w+)?", span) for span in spans(page)]
    assert [name[1] for name in named if name and not (ROOT / name[1]).exists()] == []


@each_page
def test_every_variable_of_ours_exists(page):
    folders = (ROOT / name for name in ("hw2_utils", "tests", "benchmarks"))
    files = [file for folder in folders for file in folder.rglob("*.py")]
    code = "".join(map(text_of, [*files, ROOT / "Snakefile"]))
    named = set(re.findall(r"\bHW2_[A-Z_]*[A-Z]\b", text_of(page)))
    assert sorted(name for name in named if name not in code) == []


# ----------------------------------------------------------------------------------------- commands
@each_page
def test_every_make_target_exists(page):
    for words in commands(page):
        if words[0] == "make":
            done = subprocess.run(
                ["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (words, done.stderr)


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """A copy of the command line's parser, which takes no option cut short."""
    seen: list[argparse.ArgumentParser] = []
    with monkeypatch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_args", lambda self, _: seen.append(self))
        with pytest.raises(AttributeError):  # there are no arguments to go on with
            __main__.main([])
    whole = copy.deepcopy(seen[0])
    for each in (whole, *parsers_of_commands(whole).values()):
        each.allow_abbrev = False
    return whole


def parsers_of_commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    kind = argparse._SubParsersAction
    (action,) = [action for action in parser._actions if isinstance(action, kind)]
    return action.choices


@each_page
def test_every_command_of_ours_is_one_with_these_arguments(page, parser, capsys):
    for words in commands(page):
        if words[0] != "make":
            check_command(words[3:], parser, capsys)
    names = parsers_of_commands(parser).keys()
    for span in spans(page):  # a command without what comes before it, such as `parts prune`
        for line in written_out(span):
            if len(line.split()) > 1 and line.split()[0] in names:
                check_command(shlex.split(line, comments=True), parser, capsys)


def check_command(words: list[str], parser: argparse.ArgumentParser, capsys) -> None:
    if words == ["--help"]:
        return
    try:
        args = parser.parse_args(words)
    except SystemExit:
        pytest.fail(f"{words}: {capsys.readouterr().err}")
    notebook = getattr(args, "notebook", "NOTEBOOK")
    if notebook != "NOTEBOOK":
        parameters.notebook_path(notebook)
        for name, value in getattr(args, "parameters", []):
            check_parameter([notebook], name, value)


def check_parameter(notebooks: list[str], name: str, value: str) -> None:
    """Refuses a parameter that none of these notebooks has, and a value that it doesn't take."""
    having = [n for n in notebooks if name in parameters.declared(n)]
    assert having, f"no notebook has a parameter {name}"
    parameters.check(having[0], {name: execute.parse_value(having[0], name, value)})


@each_page
def test_every_parameter_that_is_shown_can_be_given(page):
    for span in spans(page):
        if re.match(r"-p [a-z_]+ \S", span):
            _, name, value = shlex.split(span)
            check_parameter(parameters.names(), name, value)


@each_page
def test_every_block_of_code_can_be_parsed(page):
    for block in blocks(page, "", "sh", "bash"):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert done.returncode == 0, (block, done.stderr)
    for block in blocks(page, "python"):
        ast.parse(block)


def test_the_readers_of_this_file_find_what_they_look_for():
    """A synopsis is written out, a setting is left out, a pipe ends a command."""
    assert list(written_out("chain [--cores N] [--profile sample|full]...")) == [
        "chain --cores 2 --profile sample",
        "chain --cores 2 --profile full",
    ]
    line = "HW2_RUNS='a b' make run && env -u UV_X .venv/bin/python -m hw2_utils doctor | tee log"
    assert list(simple_commands(line)) == [
        ["make", "run"],
        [".venv/bin/python", "-m", "hw2_utils", "doctor"],
        ["tee", "log"],
    ]
    assert sum(len(commands(page)) for page in PAGES) > 20
    with pytest.raises(InputError):
        check_parameter(parameters.names(), "epochs", "two")


# ------------------------------------------------------------------------------- docs/parameters.md
def test_the_table_of_parameters_is_what_the_notebooks_declare():
    script = load_script("make_docs")
    assert text_of(script.OUT) == script.text(), "run .venv/bin/python scripts/make_docs.py"


def test_the_table_has_each_parameter_with_its_meaning_and_range():
    script = load_script("make_docs")
    for notebook in parameters.names():
        rows = {row.name: row for row in script.rows(notebook)}
        assert rows.keys() == parameters.declared(notebook).keys()
        for name, default in parameters.declared(notebook).items():
            assert rows[name].meaning and json.loads(rows[name].default) == default
            if type(default) in (int, float):  # a bool is neither
                *_, low, high = re.findall(r"-?\d[\d,]*", rows[name].takes)
                check_range(notebook, name, int(low), int(high.replace(",", "")))


def check_range(notebook: str, name: str, low: int, high: int) -> None:
    parameters.check(notebook, {name: low})
    parameters.check(notebook, {name: high})
    for outside in (low - 1, high + 1):
        with pytest.raises(InputError):
            parameters.check(notebook, {name: outside})


# ----------------------------------------------------------------- docs/full.md, troubleshooting.md
def test_each_message_of_the_troubleshooting_page_is_one_of_ours():
    ours = list(messages())
    heads = re.findall(r"(?m)^### (.+)$", text_of(ROOT / "docs" / "troubleshooting.md"))
    named = [span for head in heads for span in re.findall(r"`([^`]+)`", head)]
    patterns = {span: ".*".join(map(re.escape, span.split("…"))) for span in named}
    assert len(named) > 40
    assert [
        s for s, p in patterns.items() if not any(re.search(p, m, re.DOTALL) for m in ours)
    ] == []


def messages() -> Iterator[str]:
    """Every text in the package but docstrings, with … for what is put in."""
    for file in (ROOT / "hw2_utils").glob("*.py"):
        tree = ast.parse(text_of(file))
        docstrings = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    getattr(part, "value", "") if is_text(part) else "…" for part in node.values
                )
            elif is_text(node) and id(node) not in docstrings:
                yield node.value


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_the_page_on_full_names_each_model_its_source_and_tex():
    from hw2_utils import hub, latex, profiles

    page, full = text_of(ROOT / "docs" / "full.md"), profiles.load("full")
    for notebook in parameters.names():
        for model in [v for name, v in full[notebook].items() if name.endswith("_model")]:
            assert re.search(rf"(?m)^\| {notebook[:2]} \| `{re.escape(model)}` \|", page), model
            if url := hub.pins()["models"][model].get("url"):
                assert url.split("/")[2] in page
    assert full["all"]["tweets_dir"].removeprefix("hub:") in page
    assert f"--no-install-recommends {latex.PACKAGES}\n" in page


def test_the_loop_that_fetches_models_works(capsys):
    (loop,) = blocks(ROOT / "docs" / "full.md", "python")
    exec(compile(loop.replace('"full"', '"sample"'), "docs/full.md", "exec"), {})
    places = capsys.readouterr().out.splitlines()
    assert len(places) == 7 and all(Path(ROOT / place).exists() for place in places)


@pytest.mark.slow
def test_the_engine_takes_the_profile_for_slurm_also_as_the_page_changes_it(tmp_path):
    """Planned, not run: `cluster/` runs the profile as it is."""
    (resources,) = blocks(ROOT / "docs" / "full.md", "yaml")
    extra = re.search(r'- (slurm_extra="[^"]+")', text_of(ROOT / "docs" / "full.md"))[1]
    config = yaml.safe_load(text_of(ROOT / "workflow" / "profiles" / "slurm" / "config.yaml"))
    changed = {**config, **yaml.safe_load(resources)}
    changed["default-resources"].append(extra)
    for name, settings in (("as it is", config), ("changed", changed)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        said = plan(tmp_path / name, tmp_path / "runs")
        assert said.count("rule 0") == 6 and "executor" not in said.lower()
    assert "gpu=1, slurm_extra=--exclusive" in said


def plan(profile: Path, runs: Path) -> str:
    """What Snakemake would do."""
    words = ["all", "--snakefile", ROOT / "Snakefile", "--directory", runs, "--jobs", "4"]
    words += ["--nolock", "--workflow-profile", profile, "--config", "profile=full", "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "HOME": str(runs),
            "HW2_RUNS": str(runs),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


# ----------------------------------------------------------------------- citation, form, pre-commit
def test_the_citation_is_valid_and_says_what_is_unknown():
    """The keys that CFF 1.2.0 requires, and the form of those that are there."""
    cited = yaml.safe_load(text_of(ROOT / "CITATION.cff"))
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software"
    assert all(isinstance(cited[key], str) and cited[key] for key in ("message", "title"))
    assert [set(author) for author in cited["authors"]] == [{"name"}]
    assert (str(cited["version"]), cited["license"]) == (project["version"], project["license"])
    assert re.fullmatch(r"https://[\w.-]+/\S+", cited["repository-code"])
    unknown = re.findall(r"(?im)^\W*([\w-]+): .*placeholder", text_of(ROOT / "CITATION.cff"))
    assert unknown == ["name", "repository-code"]


def test_the_form_for_problems_asks_for_what_doctor_says():
    (form,) = (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md")
    _, head, body = text_of(form).split("---\n", 2)
    assert {"name", "about"} <= yaml.safe_load(head).keys()
    assert "-m hw2_utils doctor" in body


HOOKS = yaml.safe_load(text_of(ROOT / ".pre-commit-config.yaml"))["repos"]


def test_pre_commit_fetches_nothing():
    assert [repo["repo"] for repo in HOOKS] == ["local"]
    assert {hook["language"] for hook in HOOKS[0]["hooks"]} == {"system"}
    assert [hook["id"] for hook in HOOKS[0]["hooks"]] == ["ruff-check", "ruff-format", "nbstripout"]


@pytest.mark.parametrize("hook", HOOKS[0]["hooks"], ids=lambda hook: hook["id"])
def test_the_project_passes_each_check_of_pre_commit(hook):
    program, *options = shlex.split(hook["entry"])
    files = NOTEBOOKS if hook.get("types") == ["jupyter"] else ["."]
    command = [BIN / program.removeprefix(".venv/bin/"), *options, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_contributing_strips_notebooks_as_the_hook_does():
    entry = shlex.split(HOOKS[0]["hooks"][-1]["entry"])
    (command,) = [span for span in spans(ROOT / "CONTRIBUTING.md") if span.startswith("nbstripout")]
    assert shlex.split(command)[1:-1] == [word for word in entry[1:] if word != "--verify"]


# ------------------------------------------------------------------------------------------- layout
def test_no_line_of_code_is_longer_than_100_characters():
    files = [*(ROOT / "hw2_utils").glob("*.py"), ROOT / "Snakefile"]
    sources = {file.name: text_of(file) for file in files}
    for file in NOTEBOOKS:
        cells = nbformat.read(file, as_version=4).cells
        sources |= {f"{file.name}, {c.id}": c.source for c in cells if c.cell_type == "code"}
    long_lines = {
        f"{name}:{number}": len(line)
        for name, source in sources.items()
        for number, line in enumerate(source.splitlines(), start=1)
        if len(line) > 100
    }
    assert long_lines == {}


def test_spelling():
    program = shutil.which("typos", path=str(BIN)) or shutil.which("typos")
    if not program:
        pytest.skip("typos isn't installed (pip install typos); it isn't in the lock")
    files = [*PROSE, *sorted(str(f.relative_to(ROOT)) for f in (ROOT / "hw2_utils").glob("*.py"))]
    done = subprocess.run(
        [program, "--format", "brief", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
