"""The command `mambasegment compare`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..console import ProgressPrinter
from ..errors import ConfigError

_NOTICE = "For research use only: not a medical device."


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "compare",
        help="measure how well label maps agree",
        description="Compare predicted label maps with a reference: overlap, distances of surfaces in mm, for each "
        f"label and region. {_NOTICE}",
        allow_abbrev=False,
    )
    parser.add_argument("reference", type=Path, metavar="REFERENCE", help="a label map, or a folder of them")
    parser.add_argument("predicted", type=Path, metavar="PREDICTED", help="a label map, or a folder of equal names")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write .json or .csv")
    parser.add_argument("--label", action="append", default=[], metavar="VALUE=NAME", help="compare these; repeatable")
    parser.add_argument(
        "--region", action="append", default=[], metavar="NAME=1,2", help="labels that count as one; repeatable"
    )
    parser.add_argument(
        "--ignore-label", type=int, metavar="VALUE", help="of the reference: these voxels count nowhere"
    )
    add_rules(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def add_rules(parser: argparse.ArgumentParser) -> None:
    """How to measure; see docs/evaluation.md."""
    parser.add_argument(
        "--tolerance-mm", type=float, default=1.0, metavar="MM", help="of the NSD; default: %(default)s"
    )
    parser.add_argument(
        "--hd95",
        choices=("larger", "pooled"),
        default="larger",
        help="of the directed percentiles, or one of all distances together; default: %(default)s",
    )
    parser.add_argument(
        "--missed",
        choices=("diagonal", "left-out"),
        default="diagonal",
        help="distances where one side alone has a structure: the image's diagonal, or none; default: %(default)s",
    )
    parser.add_argument("--instances", action="store_true", help="count matching pieces, for cells and lesions: F1")


def rules_of(arguments: argparse.Namespace, ignore_label: int | None) -> Any:
    """The `Rules` that `add_rules` asks for."""
    from .agreement import Rules

    return Rules(
        tolerance_mm=arguments.tolerance_mm,
        hd95=arguments.hd95,
        missed="diagonal" if arguments.missed == "diagonal" else "left out",
        ignore_label=ignore_label,
        instances=arguments.instances,
    )


def run(arguments: argparse.Namespace) -> int:
    from .comparison import compare_pairs, find_pairs
    from .comparison_files import check_target, comparison_document, comparison_text, write_comparison

    if arguments.output is not None:
        check_target(arguments.output)
    rules = rules_of(arguments, arguments.ignore_label)
    names, regions = _names(arguments.label), regions_from(arguments.region)
    found = find_pairs(arguments.reference, arguments.predicted)
    for path in found.unused:
        print(f"mambasegment: warning: {path} has no reference and is left out", file=sys.stderr)
    printer = ProgressPrinter()
    try:
        comparison = compare_pairs(
            found.pairs, names=names, regions=regions, rules=rules, progress=None if arguments.quiet else printer
        )
    finally:
        printer.close()
    for problem in comparison.problems.values():
        print(f"mambasegment: {problem}", file=sys.stderr)
    if arguments.output is not None:
        write_comparison(comparison, rules, arguments.output)
    if arguments.json:
        print(json.dumps(comparison_document(comparison, rules), ensure_ascii=False))
    else:
        print("\n".join(comparison_text(comparison)))
    return max((problem.exit_code for problem in comparison.problems.values()), default=0)


def _names(texts: Sequence[str]) -> dict[int, str] | None:
    names: dict[int, str] = {}
    for text in texts:
        value, separator, name = text.partition("=")
        if not separator or not value.strip().isdigit() or not name.strip():
            raise ConfigError(f"--label {text!r}: expected VALUE=NAME, such as 1=liver")
        names[int(value)] = name.strip()
    return names or None


def regions_from(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Name -> label values, of texts such as "whole tumour=1,2,3".

    Raises:
        ConfigError: another text, or a name twice.
    """
    regions: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, separator, values = text.rpartition("=")
        parts = [part.strip() for part in values.split(",")]
        if not separator or not name.strip() or not all(part.isdigit() for part in parts):
            raise ConfigError(f"--region {text!r}: expected NAME=VALUE,VALUE, such as whole=1,2")
        if name.strip() in regions:
            raise ConfigError(f"the region {name.strip()!r} is given twice")
        regions[name.strip()] = tuple(map(int, parts))
    return regions
