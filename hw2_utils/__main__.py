"""The command line: `python -m hw2_utils run|chain|question-type|cache|data|doctor|listings|report`."""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path

from hw2_utils.errors import Hw2Error, InputError


def main(argv: list[str] | None = None) -> int:
    """Runs one command; exit code 0, 1 (a failure) or 2 (the user's input), each failure as one message."""
    args = _parser().parse_args(argv)
    try:
        return args.command(args) or 0
    except Hw2Error as error:
        if args.debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: finished parts are kept, run it again to go on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hw2_utils", description=__doc__)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: object, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        return command

    run = add("run", _run, "execute one notebook, strictly")
    run.add_argument("notebook", metavar="NOTEBOOK")
    run.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters",
                     help="a parameter; VALUE is JSON where the default isn't a string")
    run.add_argument("--out", type=Path, help="the run's folder (default: runs/PROFILE/NOTEBOOK)")
    run.add_argument("--fresh", action="store_true", help="compute every part again")
    chain = add("chain", _chain, "all notebooks, or a sweep, by the workflow engine; resumes what is unfinished")
    chain.add_argument("--cores", type=int, default=2, help="cores; with --slurm: jobs at a time (default: 2)")
    chain.add_argument("--sweep", type=Path, metavar="FILE.yaml")
    chain.add_argument("--slurm", action="store_true", help="submit the runs as SLURM jobs (workflow/profiles/slurm)")
    for command in (run, chain):
        command.add_argument("--profile", choices=("sample", "full"), default="sample")
    types = add("question-type", _question_type, "add a column question_type to a CSV with a column question")
    types.add_argument("file", metavar="FILE.csv", help="'-' reads standard input")
    cache = add("cache", _cache, "the embedding cache")
    cache.add_argument("action", choices=("list", "verify", "prune"))
    cache.add_argument("--model", help="prune: only stores of this model")
    data = add("data", _data, "read all data of a profile, and say what is there")
    data.add_argument("action", choices=("check",))
    data.add_argument("--profile", choices=("sample", "full"), default="sample")
    for name, function, text in (("doctor", _doctor, "check what a profile needs, and say how to get what is missing"),
                                 ("report", _report, "write the HTML report over a profile's runs")):
        add(name, function, text).add_argument("--profile", choices=("sample", "full"), default="sample")
    listings = add("listings", _listings, "print the cells of a notebook that are tagged `listing`")
    listings.add_argument("notebook", metavar="NOTEBOOK")
    return parser


def _run(args: argparse.Namespace) -> None:
    import os

    from hw2_utils import execute

    if args.fresh:
        os.environ["HW2_FRESH"] = "1"
    given = {name: execute.parse_value(args.notebook, name, value) for name, value in args.parameters}
    print(execute.run(args.notebook, {"profile": args.profile, **given}, out=args.out))


def _chain(args: argparse.Namespace) -> int:
    from hw2_utils import chain

    return chain.run(args.profile, cores=args.cores, sweep=args.sweep, slurm=args.slurm)


def _question_type(args: argparse.Namespace) -> None:
    import pandas as pd

    from hw2_utils import question_types

    source = sys.stdin if args.file == "-" else args.file
    try:
        frame = pd.read_csv(source, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"the file can't be read: {error}", where=args.file, todo="give a CSV in UTF-8") from error
    if "question" not in frame:
        raise InputError(f"no column question; the columns are {list(frame)}", where=args.file, todo="name it question")
    frame["question_type"] = question_types.type_column(frame["question"])
    frame.to_csv(sys.stdout, index=False, lineterminator="\n")


def _cache(args: argparse.Namespace) -> int:
    from hw2_utils import embedding_cache, paths

    if args.action == "list":
        for row in embedding_cache.list_stores(paths.EMBEDDINGS_CACHE):
            print(f"{row['model']:40} {row['items']:8} x {row['dim']:5}  {row['size_mib']:8.1f} MiB  {row['file']}")
    elif args.action == "verify":
        problems = embedding_cache.verify(paths.EMBEDDINGS_CACHE)
        print("\n".join(map(str, problems)) or "every vector agrees with its checksum")
        return 1 if problems else 0
    else:
        for name, n in embedding_cache.prune(paths.EMBEDDINGS_CACHE, model=args.model).items():
            print(f"{name}: {n} vectors removed")
    return 0


def _data(args: argparse.Namespace) -> None:
    from hw2_utils import daquar, hub, paths, profiles, statements, tweets

    where = profiles.load(args.profile)["all"]
    for name, reader in (("tweets_dir", tweets), ("vqa_dir", daquar), ("statements_file", statements)):
        value = where[name] if where[name].startswith("hub:") else str(paths.ROOT / where[name])
        data = reader.read(hub.data_path(value))
        frames = getattr(data, "splits", None) or {"test": data.frame}
        print(f"{where[name]}: " + ", ".join(f"{s} {len(f):,}" for s, f in frames.items()), *data.notes, sep="\n  ")


def _doctor(args: argparse.Namespace) -> int:
    from hw2_utils import doctor

    return doctor.check(args.profile)


def _report(args: argparse.Namespace) -> None:
    from hw2_utils import paths, report

    print("report:", paths.short(report.write(args.profile)))


def _listings(args: argparse.Namespace) -> None:
    import nbformat

    from hw2_utils import runs

    for cell in nbformat.read(runs.notebook_path(args.notebook), as_version=4).cells:
        if "listing" in cell.metadata.get("tags", []):
            print(f"# --- {cell.metadata.get('listing', {}).get('caption', cell.id)}\n{cell.source}\n")


if __name__ == "__main__":
    sys.exit(main())
