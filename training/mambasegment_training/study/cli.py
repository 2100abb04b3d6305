"""The commands `mambatrain compare` and `mambatrain queue`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from MambaSegmentLib.console import ProgressPrinter, stoppable
from MambaSegmentLib.review.cli import add_rules, rules_of

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
