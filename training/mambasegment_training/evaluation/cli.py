"""The commands `mambatrain evaluate` and `mambatrain calibrate`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from MambaSegmentLib.console import ProgressPrinter, stoppable
from MambaSegmentLib.review.cli import add_rules, regions_from, rules_of


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate", help="measure a run or a model file on its validation cases, on their original grids"
    )
    parser.add_argument(
        "subject", type=Path, metavar="RUN", help="a run, a folder of runs fold_0, fold_1, …, or a .safetensors file"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the report")
    parser.add_argument(
        "--data", type=Path, metavar="DATA", help="a work folder or a data set; default: what the run was trained on"
    )
    _add_cases(parser)
    parser.add_argument("--worst", type=int, default=3, metavar="N", help="cases to draw; default: %(default)s")
    add_effort(parser)
    add_rules(parser)
    parser.set_defaults(run=run)


def add_calibrate_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "calibrate", help="fit the temperature of a model file on labelled cases of one's own, for --calibration"
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a .safetensors file")
    parser.add_argument("data", type=Path, metavar="DATA", help="a work folder, or a data set as `prepare` takes it")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE.json", help="FILE.png shows how well it fits"
    )
    _add_cases(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default: %(default)s")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run_calibrate)


def _add_cases(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cases",
        default="validation",
        metavar="WHICH",
        help="validation, train, all, or names A,B,… (default: %(default)s)",
    )


def add_effort(parser: argparse.ArgumentParser) -> None:
    """How to predict, and from what the intervals are drawn."""
    parser.add_argument(
        "--quality", choices=("best", "balanced", "fast"), default="best", help="of predictions; default: %(default)s"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default: %(default)s")
    parser.add_argument(
        "--region", action="append", default=[], metavar="NAME=1,2", help="measure labels as one too; repeatable"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the confidence intervals; default: %(default)s")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> None:
    from .report import PAGE_NAME, write_report
    from .run import evaluate_cases
    from .subject import read_subject

    rules = rules_of(arguments, None)
    subject = read_subject(
        arguments.subject, data=arguments.data, cases=arguments.cases, regions=regions_from(arguments.region)
    )
    if subject.trained_on:
        print(
            f"mambatrain: warning: the training learned from {len(subject.trained_on)} of these cases; figures on them "
            "say little",
            file=sys.stderr,
        )
    printer = ProgressPrinter()
    try:
        with stoppable():  # what is done of a case is whole or absent, so that ending at any moment will do
            evaluation = evaluate_cases(
                subject,
                arguments.output,
                rules=rules,
                quality=arguments.quality,
                device=arguments.device,
                seed=arguments.seed,
                progress=None if arguments.quiet else printer,
            )
    finally:
        printer.close()
    document = write_report(evaluation, worst=arguments.worst)
    for name, measures in document["summary"]["structures"].items():
        texts = [f"{key} {one['mean']:.4f}" for key, one in measures.items() if key in ("dice", "hd95_mm", "nsd")]
        print(f"{name}: {', '.join(texts)}")
    resumed = f", {evaluation.resumed} of them from before" if evaluation.resumed else ""
    print(f"{len(evaluation.records)} cases{resumed}; {arguments.output / PAGE_NAME}")


def run_calibrate(arguments: argparse.Namespace) -> None:
    from .calibrate import calibrate, picture_beside
    from .subject import read_subject

    subject = read_subject(arguments.model, data=arguments.data, cases=arguments.cases)
    learned = set(subject.cases) & set(subject.data.train)
    if learned:
        print(
            f"mambatrain: warning: {len(learned)} of these cases are for training in {arguments.data}; on cases that "
            "it learned from, a model is right more often than on others, and the temperature comes out too low",
            file=sys.stderr,
        )
    printer = ProgressPrinter()
    try:
        with stoppable():
            found = calibrate(
                subject,
                arguments.output,
                device=arguments.device,
                progress=None if arguments.quiet else printer,
            )
    finally:
        printer.close()
    own = subject.manifest.calibration.get("temperature")
    print(f"temperature {found['temperature']:.4g}" + ("" if own is None else f" (in the model file: {own:.4g})"))
    print(f"expected calibration error {found['ece_before']:.4f} without it, {found['ece_after']:.4f} with it")
    print(f"{found['cases']} cases, {found['voxels']} voxels; {arguments.output}, {picture_beside(arguments.output)}")
