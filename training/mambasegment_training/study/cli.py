"""The commands `mambatrain compare` and `mambatrain queue`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from MambaSegmentLib.console import ProgressPrinter, stoppable
from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.review.cli import add_rules, regions_from, rules_of

from ..evaluation.cli import add_effort


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("compare", help="hold runs or model files against each other on the same cases")
    parser.add_argument(
        "subjects", nargs="+", type=Path, metavar="RUN", help="runs, folders of runs fold_0, fold_1, …, model files"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the report")
    parser.add_argument("--data", type=Path, metavar="DATA", help="a work folder; needed for model files alone")
    parser.add_argument("--name", action="append", default=[], help="of a run, in their order; repeatable, for all")
    parser.add_argument("--no-cost", action="store_true", help="do not measure seconds and memory")
    add_effort(parser)
    add_rules(parser)
    parser.set_defaults(run=run)


def add_queue_parser(commands: Any) -> None:
    parser = commands.add_parser("queue", help="train the runs of a queue file one after the other, and compare them")
    parser.add_argument("queue", type=Path, metavar="FILE", help="TOML, such as training/queues/hippocampus.toml")
    parser.add_argument("work", type=Path, metavar="WORK", help="folder made by `prepare`")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder for runs and comparison"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="for every run, after the queue's; repeatable"
    )
    parser.add_argument("--folds", metavar="N,N,…", help="of the data, or all; instead of the queue's")
    parser.add_argument("--pretrained", type=Path, metavar="FILE", help="for the runs that start from such a file")
    parser.add_argument("--no-compare", action="store_true", help="train alone")
    parser.add_argument("--no-cost", action="store_true", help="do not measure seconds and memory")
    add_effort(parser)
    add_rules(parser)
    parser.set_defaults(run=run_queue_file)


def run_queue_file(arguments: argparse.Namespace) -> None:
    from .queue_file import read_queue
    from .queue_run import run_queue

    queue = read_queue(arguments.queue)
    queue = queue.with_changes(_folds(arguments.folds), arguments.pretrained)
    with stoppable():  # the run under way saves its state; the same command goes on with it
        result = run_queue(
            queue,
            arguments.work,
            arguments.output,
            device=arguments.device,
            further=arguments.set,
            tell=lambda text: print(text, file=sys.stderr, flush=True),
        )
    if not arguments.no_compare and len(result.runs) > 1:
        arguments.subjects, arguments.data, arguments.name = list(result.runs), None, [run.name for run in result.runs]
        arguments.output = arguments.output / "comparison"
        run(arguments)
    if result.failed:
        name, problem = next(iter(result.failed.items()))
        raise ConfigError(
            f"{len(result.failed)} of the queue's trainings failed, first {name}: {problem}; mend it and give the same "
            "command again"
        )


def _folds(text: str | None) -> "tuple[int, ...] | str | None":
    if text is None or text == "all":
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise ConfigError(f"--folds {text!r}: expected numbers such as 0,1, or all")
    return tuple(dict.fromkeys(map(int, parts)))


def run(arguments: argparse.Namespace) -> None:
    from .compare import compare
    from .report import PAGE_NAME, write_study
    from .tables import markdown, quality_table

    printer = ProgressPrinter()
    try:
        with stoppable():  # what is done of a case is whole or absent, so that ending at any moment will do
            study = compare(
                arguments.subjects,
                arguments.output,
                data=arguments.data,
                names=arguments.name,
                regions=regions_from(arguments.region),
                rules=rules_of(arguments, None),
                quality=arguments.quality,
                device=arguments.device,
                seed=arguments.seed,
                with_cost=not arguments.no_cost,
                progress=None if arguments.quiet else printer,
            )
            write_study(study)
    finally:
        printer.close()
    for text in study.warnings:
        print(f"mambatrain: WARNING: {text}", file=sys.stderr)
    print(markdown(quality_table(study)))
    print(f"\n{arguments.output / PAGE_NAME}")
