"""`mambasegment batch`."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..quality import QUALITIES
from ..roi import SYNTAX

if TYPE_CHECKING:
    from ..manifest import Manifest
    from ..progress import ProgressCallback
    from ..worker.protocol import Failed, Options, Result
    from .cases import Case
    from .outcome import Outcome
    from .report import Report

_ENDINGS = (".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".mha", ".dcm")


def add_parser(commands: Any) -> None:
    """Add the command to those of `mambasegment`."""
    parser = commands.add_parser(
        "batch",
        help="segment many cases",
        description="Segment all cases of a folder, pattern or table. A case that fails does not stop the others. "
        "Given again, the command goes on where it was stopped, and tries failed cases once more.",
        epilog="For research use only: not a medical device.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a folder of images or of DICOM folders; a pattern in quotation marks, as '*/t1.nii.gz'; or a .csv file "
        "with a column of files for each channel of the model, and one named case if you want to name them",
    )
    parser.add_argument("-m", "--model", required=True, metavar="MODEL", help="a .safetensors file or a stored model")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="for the labels, report.csv, segments.csv, report.json",
    )
    parser.add_argument("--ending", choices=_ENDINGS, default=".seg.nrrd", help="of the labels (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument(
        "--overlap", type=float, metavar="F", help="of neighbouring tiles, 0 to 0.9 (default: the model's)"
    )
    add_effort(parser)
    add_region(parser)
    add_input_rules(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def add_input_rules(parser: argparse.ArgumentParser) -> None:
    """Add what `segment` and `batch` both offer for images that are not quite as they should be."""
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse channels on different grids rather than resample them to the first",
    )
    parser.add_argument(
        "--allow-nonfinite", action="store_true", help="set voxels that are NaN or infinite to the smallest other value"
    )


def add_effort(parser: argparse.ArgumentParser) -> None:
    """Add what `segment` and `batch` both offer about time and memory."""
    parser.add_argument(
        "--quality",
        choices=QUALITIES,
        default=QUALITIES[0],
        help="best averages over all mirrored copies where the model allows it (default), balanced over two, fast "
        "takes one pass",
    )
    parser.add_argument(
        "--memory-limit", metavar="SIZE", help="of the process, as 3GB or 800MB (default: what is free)"
    )


def add_region(parser: argparse.ArgumentParser) -> None:
    """Add what `segment` and `batch` both offer to restrict the result."""
    parser.add_argument("--roi", metavar="BOX", help=f"label only this region: {SYNTAX}")
    parser.add_argument(
        "--labels", action="append", default=[], metavar="NAME,...", help="write only these labels; repeatable"
    )


def wanted_labels(arguments: argparse.Namespace, manifest: "Manifest") -> tuple[str, ...]:
    """The names given with --labels. Raises: ConfigError, one that the model does not have."""
    from ..segments import names_from_text, segments_named

    names = names_from_text(arguments.labels, manifest.segments)
    if arguments.labels and not names:
        raise ConfigError(f"--labels {arguments.labels[0]!r} names no label")
    segments_named(manifest.segments, names)
    return names


def memory_limit_bytes(arguments: argparse.Namespace) -> int | None:
    """What --memory-limit says. Raises: ConfigError, no size."""
    from ..memory import bytes_from_text

    return None if arguments.memory_limit is None else bytes_from_text(arguments.memory_limit)


def run(arguments: argparse.Namespace) -> int:
    """Do the batch and print what came of it; the exit code is that of the failures, if they agree."""
    from ..bundle import read_manifest
    from ..console import ProgressPrinter
    from ..store import find_model
    from ..worker.protocol import Options
    from .cases import find_cases
    from .outcome import common_exit_code
    from .run import Plan, run_batch

    model = find_model(arguments.model)
    manifest = read_manifest(model)
    options = Options(
        arguments.device,
        arguments.overlap,
        statistics=True,
        strict=arguments.strict,
        allow_nonfinite=arguments.allow_nonfinite,
        quality=arguments.quality,
        roi=arguments.roi,
        labels=wanted_labels(arguments, manifest),
        memory_limit=arguments.memory_limit,
    )
    # Only what was asked for, so that journals from before these options still count.
    names = ("strict", "allow_nonfinite", "quality", "roi", "labels", "memory_limit")
    usual = Options()
    rules = {name: getattr(options, name) for name in names if getattr(options, name) != getattr(usual, name)}
    cases = find_cases(arguments.input, [channel.name for channel in manifest.channels])
    facts = {"name": manifest.name, "version": manifest.version, "sha256": manifest.sha256}
    plan = Plan(arguments.output, facts, arguments.ending, {"overlap": options.overlap, **rules})
    printer = ProgressPrinter()
    progress: ProgressCallback | None = None if arguments.quiet else printer

    def tell(outcome: "Outcome") -> None:
        printer.close()
        print(f"mambasegment: {outcome.case} failed: {outcome.message}", file=sys.stderr)

    try:
        with _WorkerOnDemand(str(model), options) as worker:
            report = run_batch(cases, plan, worker.segment, progress=progress, on_failure=tell)
    finally:
        printer.close()
    print(json.dumps(report.to_json()) if arguments.json else _text(report, arguments.output))
    return common_exit_code(list(report.outcomes))


class _WorkerOnDemand:
    """A worker, started for the first case that must be done; it survives a case that kills the process."""

    def __init__(self, model: str, options: "Options") -> None:
        from ..worker.blocking import BlockingWorker

        self._worker = BlockingWorker()
        self._model, self._options = model, options
        self._loaded = False

    def __enter__(self) -> "_WorkerOnDemand":
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def segment(self, case: "Case", output: Path) -> "Result | Failed":
        """Raises: MambaSegmentError, when the model or the device cannot be used, and so no case can be done."""
        from ..worker.protocol import Load, Segment

        if not self._loaded:
            self._worker.run(Load(self._worker.new_job(), self._model, self._options))
            self._loaded = True
        job, inputs = self._worker.new_job(), tuple(str(path) for path in case.inputs)
        return self._worker.ask(Segment(job, inputs, self._model, str(output), self._options))


def _text(report: "Report", folder: Path) -> str:
    from .report import CSV_NAME

    facts = report.to_json()
    resumed = f", {facts['resumed']} of them before" if facts["resumed"] else ""
    return f"{folder / CSV_NAME}\n{facts['total']} cases: {facts['done']} done{resumed}, {facts['failed']} failed"
