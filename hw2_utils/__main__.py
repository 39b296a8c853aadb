"""The command line: `python -m hw2_utils COMMAND`; `--help` lists them."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hw2_utils import paths, profiles
from hw2_utils.errors import Hw2Error, require

PARSER = argparse.ArgumentParser(prog="python -m hw2_utils", description=__doc__)
PARSER.add_argument("--debug", action="store_true", help="show the traceback of an error")
_SUBPARSERS = PARSER.add_subparsers(required=True, metavar="COMMAND")


def argument(flag: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """An argument of a command, with the options of argparse's `add_argument`."""
    return flag, options


def command(*arguments: tuple[str, dict[str, Any]]) -> Callable[[Callable], Callable]:
    """Makes a function the command of its name; its docstring is the command's help."""

    def add(function: Callable) -> Callable:
        name = function.__name__.strip("_").replace("_", "-")
        help_text = function.__doc__
        subparser = _SUBPARSERS.add_parser(name, help=help_text, description=help_text)
        subparser.set_defaults(command=function)
        for flag, options in arguments:
            subparser.add_argument(flag, **options)
        return function

    return add


NOTEBOOK = argument("notebook", metavar="NOTEBOOK")
PROFILE = argument("--profile", choices=profiles.NAMES, default="sample")


PARAMETERS = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
TABLE = argument("file", metavar="FILE.csv", help="'-' reads standard input")


@command(
    NOTEBOOK,
    PROFILE,
    argument(
        "-p",
        **PARAMETERS,
        dest="parameters",
        help="a parameter; VALUE is JSON where the default isn't a string",
    ),
    argument("--out", type=Path, help="the run's folder (default: runs/PROFILE/NOTEBOOK)"),
    argument("--fresh", action="store_true", help="compute every part again"),
)
def _run(args: argparse.Namespace) -> None:
    """Execute one notebook, strictly."""
    from hw2_utils import execute

    if args.fresh:
        os.environ[paths.FRESH] = "1"
    given = {"profile": args.profile}
    for name, value in args.parameters:
        given[name] = execute.parse_value(args.notebook, name, value)
    print(execute.run(args.notebook, given, out=args.out))


@command(
    PROFILE,
    argument(
        "--cores", type=int, default=2, help="cores; with --slurm: jobs at a time (default: 2)"
    ),
    argument("--sweep", type=Path, metavar="FILE.yaml"),
    argument(
        "--slurm",
        action="store_true",
        help="submit the runs as SLURM jobs (workflow/profiles/slurm)",
    ),
)
def _chain(args: argparse.Namespace) -> None:
    """All notebooks, or a sweep, by the workflow engine; resumes what is unfinished."""
    from hw2_utils import chain

    chain.run(args.profile, cores=args.cores, sweep=args.sweep, slurm=args.slurm)


@command(
    argument("run_dir", type=Path, metavar="RUN_DIR", help="a run of 01, 02, 03 or 04"),
    TABLE,
    argument("--method", metavar="M", help="default: the headline method of those kept"),
    argument("--seed", type=int, metavar="N", help="default: the first"),
    argument(
        "-p",
        **PARAMETERS,
        dest="moved",
        help="where a model or the data lies now, if outside the project: text_model FOLDER",
    ),
)
def _predict(args: argparse.Namespace) -> None:
    """Add prediction and a p_CLASS column a class to a CSV, by a model that a run has kept."""
    from hw2_utils import predict

    options = {"method": args.method, "seed": args.seed, "moved": dict(args.moved)}
    predict.predict(args.run_dir, args.file, **options)


@command(TABLE)
def _question_type(args: argparse.Namespace) -> None:
    """Add a column question_type to a CSV with a column question."""
    from hw2_utils import datafiles, question_types

    table = datafiles.read_table(args.file, {"question": {"question"}})
    what = "there is no question below the first row"
    require(table.records, what, where=table.where, todo="add a row a question")
    rows = table.rows()
    datafiles.refuse_empty(rows, "question")
    types = question_types.type_column(rows["question"])
    datafiles.write_table(table, {"question_type": types.tolist()})


@command(
    argument("action", choices=("list", "verify", "prune")),
    argument("--model", help="prune: the stores of this model, not those of older versions"),
)
def _cache(args: argparse.Namespace) -> int:
    """The embedding cache; prune removes the vectors of older versions."""
    from hw2_utils import embedding_cache, encoders

    problems: list[object] = []
    if args.action == "list":
        for row in embedding_cache.list_stores(paths.EMBEDDINGS_CACHE):
            size = f"{row['items']:8} x {row['dim']:5}  {row['size_mib']:8.1f} MiB"
            older = "" if row["spec"].get("code") == encoders.code() else "  older version"
            print(f"{row['model']:40} {size}  {row['file']}{older}")
    elif args.action == "verify":
        problems = embedding_cache.verify(paths.EMBEDDINGS_CACHE)
        print("\n".join(map(str, problems)) or "every vector agrees with its checksum")
    else:
        code = encoders.code()
        removed = embedding_cache.prune(paths.EMBEDDINGS_CACHE, model=args.model, code=code)
        for name, n in removed.items():
            print(f"{name}: {n} vectors removed")
        if not removed:
            print("there is no such store")
    return 1 if problems else 0


@command(argument("action", choices=("list", "prune")))
def _parts(args: argparse.Namespace) -> None:
    """Finished trainings and scorings; prune removes what no record uses."""
    from hw2_utils import parts, runs

    used = runs.used_parts()
    if args.action == "list":
        for row in parts.list_parts():
            use = "in a record" if row["part"] in used else "in no record"
            size = f"{row['bytes'] / 2**20:8.2f} MiB  {row['status']}, {use}"
            print(f"{row['part'][:20]:20}  {row['label']:40} {size}")
        return
    removed = parts.prune(used)
    for name, size in removed.items():
        print(f"{name}: {size / 2**20:.2f} MiB removed")
    print(f"{len(removed)} parts removed, {sum(removed.values()) / 2**20:.1f} MiB freed")


@command(argument("action", choices=("check",)), PROFILE)
def _data(args: argparse.Namespace) -> None:
    """Read all data of a profile, and say what is there."""
    from hw2_utils import daquar, hub, statements, tweets

    where = profiles.load(args.profile)["all"]
    readers = {"tweets_dir": tweets, "vqa_dir": daquar, "statements_file": statements}
    for name, reader in readers.items():
        data = reader.read(paths.ROOT / hub.data_path(where[name]))
        frames = getattr(data, "splits", None) or {"test": data.frame}
        sizes = ", ".join(f"{split} {len(frame):,}" for split, frame in frames.items())
        print(f"{where[name]}: {sizes}", *data.notes, sep="\n  ")


@command(PROFILE)
def _doctor(args: argparse.Namespace) -> int:
    """Check what a profile needs, and say how to get what is missing."""
    from hw2_utils import doctor

    return doctor.check(args.profile)


@command(PROFILE)
def _report(args: argparse.Namespace) -> None:
    """Write the HTML report over a profile's runs."""
    from hw2_utils import report

    print("report:", paths.short(report.write(args.profile)))


@command(PROFILE)
def _writeup(args: argparse.Namespace) -> None:
    """Fill writeup/generated, pack it for Overleaf, and make the PDF where TeX is installed."""
    from hw2_utils import latex

    latex.build(args.profile)


@command(NOTEBOOK)
def _listings(args: argparse.Namespace) -> None:
    """Print the cells of a notebook that are tagged `listing`."""
    import nbformat

    from hw2_utils import parameters

    for cell in nbformat.read(parameters.notebook_path(args.notebook), as_version=4).cells:
        if "listing" in cell.metadata.get("tags", []):
            title = cell.metadata.get("listing", {}).get("caption", cell.id)
            print(f"# --- {title}\n{cell.source}\n")


@command()
def _clean(args: argparse.Namespace) -> None:
    """Remove runs, parts, reports and cached embeddings; what isn't ours stays and is named."""
    from hw2_utils import cleaning

    for file in cleaning.clean():
        print("left, not made here:", paths.short(file))


@command(argument("arguments", nargs="*", help="after --: JupyterLab's own, such as --port=9999"))
def _lab(args: argparse.Namespace) -> None:
    """Open JupyterLab on copies of the notebooks, in lab/."""
    from hw2_utils import lab

    lab.start(args.arguments)


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0, 1 (a failure) or 2 (the user's input).

    Each failure is one message.
    """
    args = PARSER.parse_args(argv)
    try:
        return args.command(args) or 0
    except (Hw2Error, ImportError) as error:
        if args.debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, ImportError):
            print("  What to do: make venv, then use .venv/bin/python", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        print("interrupted: finished parts are kept, run it again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
