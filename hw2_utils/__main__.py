"""The command line: `python -m hw2_utils COMMAND`; `--help` lists them."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path

from hw2_utils.errors import Hw2Error, require

NOTEBOOK = ("notebook", {"metavar": "NOTEBOOK"})
PROFILE = ("--profile", {"choices": ("sample", "full"), "default": "sample"})


def main(argv: list[str] | None = None) -> int:
    """Runs one command; exit code 0, 1 (a failure) or 2 (the user's input), each failure as one message."""
    args = _parser().parse_args(argv)
    try:
        return args.command(args) or 0
    except (Hw2Error, ImportError) as error:
        if args.debug:
            traceback.print_exc()
        todo = (
            "\n  What to do: make venv, then use .venv/bin/python"
            if isinstance(error, ImportError)
            else ""
        )
        print(f"error: {error}{todo}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        print("interrupted: finished parts are kept, run it again to go on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hw2_utils", description=__doc__)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function, *arguments in (
        (
            _run,
            NOTEBOOK,
            PROFILE,
            (
                "-p",
                {
                    "nargs": 2,
                    "action": "append",
                    "default": [],
                    "metavar": ("NAME", "VALUE"),
                    "dest": "parameters",
                    "help": "a parameter; VALUE is JSON where the default isn't a string",
                },
            ),
            ("--out", {"type": Path, "help": "the run's folder (default: runs/PROFILE/NOTEBOOK)"}),
            ("--fresh", {"action": "store_true", "help": "compute every part again"}),
        ),
        (
            _chain,
            PROFILE,
            (
                "--cores",
                {
                    "type": int,
                    "default": 2,
                    "help": "cores; with --slurm: jobs at a time (default: 2)",
                },
            ),
            ("--sweep", {"type": Path, "metavar": "FILE.yaml"}),
            (
                "--slurm",
                {
                    "action": "store_true",
                    "help": "submit the runs as SLURM jobs (workflow/profiles/slurm)",
                },
            ),
        ),
        (_question_type, ("file", {"metavar": "FILE.csv", "help": "'-' reads standard input"})),
        (
            _cache,
            ("action", {"choices": ("list", "verify", "prune")}),
            ("--model", {"help": "prune: the stores of this model, not those of older versions"}),
        ),
        (_parts, ("action", {"choices": ("list", "prune")})),
        (_data, ("action", {"choices": ("check",)}), PROFILE),
        (_doctor, PROFILE),
        (_report, PROFILE),
        (_writeup, PROFILE),
        (_listings, NOTEBOOK),
        (_clean,),
        (
            _lab,
            (
                "arguments",
                {"nargs": "*", "help": "after --: JupyterLab's own, such as --port=9999"},
            ),
        ),
    ):
        name = function.__name__.strip("_").replace("_", "-")
        command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        command.set_defaults(command=function)
        for flag, options in arguments:
            command.add_argument(flag, **options)
    return parser


def _run(args: argparse.Namespace) -> None:
    """Execute one notebook, strictly."""
    from hw2_utils import execute

    if args.fresh:
        os.environ["HW2_FRESH"] = "1"
    given = {
        name: execute.parse_value(args.notebook, name, value) for name, value in args.parameters
    }
    print(execute.run(args.notebook, {"profile": args.profile, **given}, out=args.out))


def _chain(args: argparse.Namespace) -> None:
    """All notebooks, or a sweep, by the workflow engine; resumes what is unfinished."""
    from hw2_utils import chain

    chain.run(args.profile, cores=args.cores, sweep=args.sweep, slurm=args.slurm)


def _question_type(args: argparse.Namespace) -> None:
    """Add a column question_type to a CSV with a column question."""
    from hw2_utils import datafiles, question_types

    table = datafiles.read_table(args.file, {"question": {"question"}})
    require(
        table.records,
        "there is no question below the first row",
        where=table.where,
        todo="add a row a question",
    )
    rows = table.rows()
    datafiles.refuse_empty(rows, "question")
    types = question_types.type_column(rows["question"])
    datafiles.write_table(table, {"question_type": types.tolist()})


def _cache(args: argparse.Namespace) -> int:
    """The embedding cache; prune removes the vectors of older versions."""
    from hw2_utils import embedding_cache, encoders, paths

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


def _data(args: argparse.Namespace) -> None:
    """Read all data of a profile, and say what is there."""
    from hw2_utils import daquar, hub, paths, profiles, statements, tweets

    where = profiles.load(args.profile)["all"]
    for name, reader in (
        ("tweets_dir", tweets),
        ("vqa_dir", daquar),
        ("statements_file", statements),
    ):
        data = reader.read(paths.ROOT / hub.data_path(where[name]))
        frames = getattr(data, "splits", None) or {"test": data.frame}
        print(
            f"{where[name]}: " + ", ".join(f"{s} {len(f):,}" for s, f in frames.items()),
            *data.notes,
            sep="\n  ",
        )


def _doctor(args: argparse.Namespace) -> int:
    """Check what a profile needs, and say how to get what is missing."""
    from hw2_utils import doctor

    return doctor.check(args.profile)


def _report(args: argparse.Namespace) -> None:
    """Write the HTML report over a profile's runs."""
    from hw2_utils import paths, report

    print("report:", paths.short(report.write(args.profile)))


def _writeup(args: argparse.Namespace) -> None:
    """Fill writeup/generated from a profile's runs, pack it for Overleaf, and make the PDF where TeX is installed."""
    from hw2_utils import latex

    latex.build(args.profile)


def _listings(args: argparse.Namespace) -> None:
    """Print the cells of a notebook that are tagged `listing`."""
    import nbformat

    from hw2_utils import parameters

    for cell in nbformat.read(parameters.notebook_path(args.notebook), as_version=4).cells:
        if "listing" in cell.metadata.get("tags", []):
            print(
                f"# --- {cell.metadata.get('listing', {}).get('caption', cell.id)}\n{cell.source}\n"
            )


def _clean(args: argparse.Namespace) -> None:
    """Remove runs, parts, reports and cached embeddings; what isn't ours stays and is named."""
    from hw2_utils import cleaning, paths

    for file in cleaning.clean():
        print("left, not made here:", paths.short(file))


def _lab(args: argparse.Namespace) -> None:
    """Open JupyterLab on copies of the notebooks, in lab/."""
    from hw2_utils import lab

    lab.start(args.arguments)


if __name__ == "__main__":
    sys.exit(main())
