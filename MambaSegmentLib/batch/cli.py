"""`mambasegment batch`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..quality import PRECISIONS, QUALITIES, check_members, folds_from_text
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
    add_models(parser)
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


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the model, or several whose labels are painted over one another."""
    parser.add_argument(
        "-m",
        "--model",
        action="append",
        required=True,
        metavar="MODEL",
        help="a .safetensors file or a stored model; given again, the labels of the next model are painted over those "
        "before (-m organs -m lesions)",
    )


def add_effort(parser: argparse.ArgumentParser) -> None:
    """Add what `segment` and `batch` both offer about time and memory."""
    parser.add_argument(
        "--quality",
        choices=QUALITIES,
        action=_Listed,
        default=[QUALITIES[0]],
        help="best averages over all mirrored copies where the model allows it (default), balanced over two, fast "
        "takes one pass over fewer tiles; of several models once for all or once for each",
    )
    parser.add_argument(
        "--folds",
        action="append",
        metavar="N,...",
        help="average these folds of the model, counted from 0 (default: all, of fast the first); of several models "
        "once for all or once for each",
    )
    parser.add_argument(
        "--overlap",
        type=float,
        metavar="F",
        help="of neighbouring tiles, 0 to 0.9 (default: the model's, of fast 0.25 at most)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="of the network's arithmetic: float32, bfloat16, or auto, which takes bfloat16 on a GPU where the model's "
        "answers stay the same (default)",
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


class _Listed(argparse.Action):
    """As "append", but the default does not stay in front of what is given."""

    def __call__(self, _parser: Any, namespace: argparse.Namespace, value: Any, _option: str | None = None) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [value] if before is self.default else [*before, value])


def folds_of_each(arguments: argparse.Namespace) -> list[tuple[int, ...] | None]:
    """What --folds says of each model, or of all. Raises: ConfigError, no numbers."""
    return [folds_from_text(text) for text in arguments.folds or [None]]


def wanted_labels(arguments: argparse.Namespace, manifests: "Sequence[Manifest]") -> tuple[str, ...]:
    """The names given with --labels. Raises: ConfigError, one that the models do not have."""
    from ..merging import merge_segments
    from ..segments import names_from_text, segments_named

    segments = merge_segments(manifests).segments
    names = names_from_text(arguments.labels, segments)
    if arguments.labels and not names:
        raise ConfigError(f"--labels {arguments.labels[0]!r} names no label")
    segments_named(segments, names)
    return names


def memory_limit_bytes(arguments: argparse.Namespace) -> int | None:
    """What --memory-limit says. Raises: ConfigError, no size."""
    from ..memory import bytes_from_text

    return None if arguments.memory_limit is None else bytes_from_text(arguments.memory_limit)


def run(arguments: argparse.Namespace) -> int:
    """Do the batch and print what came of it; the exit code is that of the failures, if they agree."""
    from ..bundle import fold_count, read_manifest
    from ..console import ProgressPrinter
    from ..merging import channels_of_all
    from ..store import find_model
    from ..worker.protocol import Options
    from .cases import find_cases
    from .outcome import common_exit_code
    from .report import facts_of
    from .run import Plan, run_batch

    models = [find_model(model) for model in arguments.model]
    manifests = [read_manifest(model) for model in models]
    labels = wanted_labels(arguments, manifests)
    folds = tuple(arguments.folds or ())
    options = Options(
        arguments.device,
        arguments.overlap,
        statistics=True,
        strict=arguments.strict,
        allow_nonfinite=arguments.allow_nonfinite,
        quality=arguments.quality[0] if len(arguments.quality) == 1 else tuple(arguments.quality),
        roi=arguments.roi,
        labels=labels,
        memory_limit=arguments.memory_limit,
        folds=None if not folds else folds[0] if len(folds) == 1 else folds,
        precision=arguments.precision,
    )
    for model, manifest, of_model in zip(models, manifests, options.of_models(len(models)), strict=True):
        wanted = folds_from_text(of_model.folds_of_each[0])
        check_members(of_model.qualities[0], wanted, fold_count(model), manifest.mirror_axes, several=False)
    # Only what was asked for, so that journals from before these options still count.
    names = ("strict", "allow_nonfinite", "quality", "roi", "labels", "memory_limit", "folds", "precision")
    usual = Options()
    rules = {name: getattr(options, name) for name in names if getattr(options, name) != getattr(usual, name)}
    channels = channels_of_all(manifests)
    cases = find_cases(arguments.input, channels)
    plan = Plan(arguments.output, facts_of(manifests), arguments.ending, {"overlap": options.overlap, **rules})
    printer = ProgressPrinter()
    progress: ProgressCallback | None = None if arguments.quiet else printer

    def tell(outcome: "Outcome") -> None:
        printer.close()
        print(f"mambasegment: {outcome.case} failed: {outcome.message}", file=sys.stderr)

    try:
        with _WorkerOnDemand([str(model) for model in models], channels, options) as worker:
            report = run_batch(cases, plan, worker.segment, progress=progress, on_failure=tell)
    finally:
        printer.close()
    print(json.dumps(report.to_json()) if arguments.json else _text(report, arguments.output))
    return common_exit_code(list(report.outcomes))


class _WorkerOnDemand:
    """A worker, started for the first case that must be done; it survives a case that kills the process."""

    def __init__(self, models: "Sequence[str]", channels: "Sequence[str]", options: "Options") -> None:
        from ..worker.blocking import BlockingWorker

        self._worker = BlockingWorker()
        self._models, self._channels, self._options = tuple(models), channels, options
        self._loaded = False

    def __enter__(self) -> "_WorkerOnDemand":
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def segment(self, case: "Case", output: Path) -> "Result | Failed":
        """Raises: MambaSegmentError, when the model or the device cannot be used, and so no case can be done."""
        from ..worker.protocol import Load, Segment

        if not self._loaded:
            for model, options in zip(self._models, self._options.of_models(len(self._models)), strict=True):
                self._worker.run(Load(self._worker.new_job(), model, options))
            self._loaded = True
        inputs = {name: str(path) for name, path in zip(self._channels, case.inputs, strict=True)}
        models = self._models if len(self._models) > 1 else self._models[0]
        return self._worker.ask(Segment(self._worker.new_job(), inputs, models, str(output), self._options))


def _text(report: "Report", folder: Path) -> str:
    from .report import CSV_NAME

    facts = report.to_json()
    resumed = f", {facts['resumed']} of them before" if facts["resumed"] else ""
    return f"{folder / CSV_NAME}\n{facts['total']} cases: {facts['done']} done{resumed}, {facts['failed']} failed"
