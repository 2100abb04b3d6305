"""The command `mambasegment`. Nothing heavy is imported before a command needs it, so that --help is instant.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 2 wrong usage or bad input, 3 a model
that cannot be used, 4 not enough memory, disk or device, 130 cancelled, 1 a bug.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .batch.cli import (
    add_effort,
    add_input_rules,
    add_models,
    add_region,
    folds_of_each,
    memory_limit_bytes,
    wanted_labels,
)
from .batch.cli import add_parser as _add_batch
from .console import ProgressPrinter, stoppable, tolerate_any_text, write_crash_log
from .errors import BundleError, ConfigError, MambaSegmentError, ResourceError
from .fetching.cli import add_parsers as _add_fetching
from .importing.cli import add_parser as _add_import
from .large_blocks import give_large_blocks_back
from .openmp import let_waiting_threads_sleep
from .progress import Progress
from .review.cli import add_parser as _add_compare
from .worker.cli import add_parser as _add_worker

if TYPE_CHECKING:
    from .extras import Extras
    from .inference.predictor import SegmentationResult
    from .manifest import Manifest

_PROGRAM = "mambasegment"
_BROKEN_PIPE = 141  # what a shell reports for a program whose reader went away
_NOTICE = "For research use only: not a medical device."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake gives one line on stderr, never a traceback."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    tolerate_any_text()
    let_waiting_threads_sleep()
    give_large_blocks_back()
    parsed = _parser().parse_args(arguments)
    try:
        with stoppable():
            code = parsed.run(parsed)
            sys.stdout.flush()
            return int(code or 0)
    except MambaSegmentError as problem:
        return _fail(problem, problem.exit_code)
    except MemoryError:
        return _fail("not enough memory; crop the image or close other programs", ResourceError.exit_code)
    except KeyboardInterrupt:
        return _fail("cancelled", 130)
    except BrokenPipeError:
        # The reader of stdout went away (`| head`); keep Python from complaining once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except Exception as problem:  # whatever is not in the error tree is a bug
        log = write_crash_log(_PROGRAM, arguments, problem)
        where = f"; the details are in {log}" if log else ""
        return _fail(f"internal error, please report it: {type(problem).__name__}: {problem}{where}", 1)


def _fail(problem: object, code: int) -> int:
    print(f"{_PROGRAM}: {' '.join(str(problem).splitlines())}", file=sys.stderr)  # a path may hold a line break
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM, description=f"Segment medical images with Mamba U-Nets. {_NOTICE}", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"{_PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_segment(commands)
    _add_batch(commands)
    _add_models(commands)
    _add_compare(commands)
    _add_doctor(commands)
    _add_demo(commands)
    _add_worker(commands)
    return parser


def _add_segment(commands: Any) -> None:
    parser = commands.add_parser(
        "segment",
        help="segment one case",
        description="Segment one case: one volume, or one per channel of the model.",
        epilog=_NOTICE,
        allow_abbrev=False,
    )
    parser.add_argument(
        "images", nargs="*", type=Path, metavar="IMAGE", help="file or DICOM folder; several in the model's order"
    )
    parser.add_argument(
        "--channel", action="append", default=[], metavar="NAME=FILE", help="an image by its channel's name; repeatable"
    )
    add_models(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help=".seg.nrrd, .nrrd, .nii.gz, .nii, .mha, or .dcm (DICOM SEG)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add_effort(parser)
    add_region(parser)
    parser.add_argument(
        "--series",
        action="append",
        metavar="UID",
        help="which DICOM series of a folder that holds several; for several images once for each, '' for none",
    )
    add_input_rules(parser)
    _add_extras(parser)
    _add_quiet(parser)
    _add_json(parser)
    parser.set_defaults(run=_segment)


def _add_extras(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--statistics",
        nargs="?",
        const=True,
        metavar="FILE",
        help="print size, intensity, diameters and pieces of each segment, or write them to a .csv or .json file too",
    )
    parser.add_argument(
        "--uncertainty", type=Path, metavar="FILE", help="write where the model is unsure, 0 to 1, as .nrrd"
    )
    parser.add_argument(
        "--disagreement",
        type=Path,
        metavar="FILE",
        help="write how far folds and mirrored copies disagree, 0 to 1, as .nrrd",
    )
    parser.add_argument(
        "--calibration",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a model's temperature for uncertainty and probabilities, in place of its own; repeatable",
    )
    parser.add_argument(
        "--probabilities", type=Path, metavar="FILE", help="write a volume for each class as one 4-D .nrrd: large"
    )
    parser.add_argument(
        "--sidecar", type=Path, metavar="FILE", help="write model, options, versions and timings as .json"
    )


def _add_models(commands: Any) -> None:
    parser = commands.add_parser("models", help="look at models, add, import and remove them", allow_abbrev=False)
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    listing = actions.add_parser("list", help="the models known by name")
    _add_json(listing)
    listing.set_defaults(run=_models_list)
    info = actions.add_parser(
        "info", help="what a model is and what it costs", description="What a model, or an architecture, is and costs."
    )
    info.add_argument("model", nargs="?", metavar="MODEL", help="a .safetensors file or a stored model")
    info.add_argument("--architecture", metavar="NAME", help="instead of a model: a network at its published size")
    info.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="another option of it; repeatable"
    )
    info.add_argument("--patch-size", nargs="+", type=int, metavar="N", help="another input size for it, in voxels")
    info.add_argument(
        "--reliability", type=Path, metavar="FILE", help="draw how often the model is right when it is so sure, as .png"
    )
    info.add_argument("--no-counts", action="store_true", help="leave out what needs PyTorch: faster")
    _add_json(info)
    info.set_defaults(run=_models_info)
    verify = actions.add_parser("verify", help="compare the checksum of models with their files")
    verify.add_argument("models", nargs="+", metavar="MODEL", help="a .safetensors file or a stored model")
    verify.set_defaults(run=_models_verify)
    _add_import(actions)
    _add_fetching(actions)


def _add_doctor(commands: Any) -> None:
    parser = commands.add_parser("doctor", help="versions, devices and kernels; what to install and why")
    _add_json(parser)
    parser.set_defaults(run=_doctor)


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="segment a synthetic hippocampus and make a picture of it",
        description=f"Make a synthetic MR volume (or take yours), segment it, write labels and a picture. {_NOTICE}",
        allow_abbrev=False,
    )
    parser.add_argument("--image", type=Path, metavar="FILE", help="segment this file instead of a phantom")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("mambasegment-demo"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument("-m", "--model", default="hippocampus-t1", metavar="MODEL", help="default: %(default)s")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    _add_quiet(parser)
    _add_json(parser)
    parser.set_defaults(run=_demo)


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _segment(arguments: argparse.Namespace) -> None:
    from .api import segment as segment_case

    step = _step(arguments.overlap)
    extras, images = _extras(arguments), _images(arguments)
    manifests, labels = _check_segment(arguments, images, extras)
    with _shown_progress(arguments) as progress:
        if progress is not None:
            progress(Progress("load_model", 0, 1))  # importing torch takes seconds on a cold disk
        result = segment_case(
            images,
            models=arguments.model,
            output=arguments.output,
            device=arguments.device,
            step=step,
            quality=arguments.quality,
            folds=folds_of_each(arguments),
            precision=arguments.precision,
            series=arguments.series,
            roi=arguments.roi,
            labels=labels or None,
            memory_limit_bytes=memory_limit_bytes(arguments),
            strict=arguments.strict,
            allow_nonfinite=arguments.allow_nonfinite,
            extras=extras,
            progress=progress,
        )
    for warning in result.warnings:
        print(f"{_PROGRAM}: warning: {warning}", file=sys.stderr)
    report = _segment_report([arguments.output, *extras.files], manifests, result)
    print(json.dumps(report) if arguments.json else _segment_text(report))


def _images(arguments: argparse.Namespace) -> "list[Path] | dict[str, Path]":
    """The images as they were given: in order, or by the channels' names."""
    if arguments.images and arguments.channel:
        raise ConfigError("give the images either in the model's order or all with --channel NAME=FILE, not both ways")
    if not arguments.images and not arguments.channel:
        raise ConfigError("no image given; expected a file, or a folder that holds one DICOM series")
    named: dict[str, Path] = {}
    for text in arguments.channel:
        name, separator, file = text.partition("=")
        if not separator or not name or not file:
            raise ConfigError(f"--channel {text!r}: expected NAME=FILE, such as T1=t1.nii.gz")
        if name in named:
            raise ConfigError(f"the channel {name!r} is given twice")
        named[name] = Path(file)
    return named or arguments.images


def _extras(arguments: argparse.Namespace) -> "Extras":
    from .extras import Extras

    given = arguments.statistics
    if isinstance(given, str) and not given.lower().endswith((".csv", ".json")):
        raise ConfigError(f"--statistics {given}: expected a .csv or .json file, or nothing; put images before options")
    return Extras(
        statistics=given is not None,
        statistics_file=Path(given) if isinstance(given, str) else None,
        uncertainty=arguments.uncertainty,
        disagreement=arguments.disagreement,
        probabilities=arguments.probabilities,
        sidecar=arguments.sidecar,
        calibrations=tuple(arguments.calibration),
    )


def _check_segment(
    arguments: argparse.Namespace, images: "list[Path] | dict[str, Path]", extras: "Extras"
) -> "tuple[list[Manifest], tuple[str, ...]]":
    """Refuse what cannot succeed before torch is imported; gives the models' descriptions and the labels wanted."""
    from .api import check_case
    from .bundle import read_manifest
    from .roi import parse_roi
    from .store import find_model

    effort = {"quality": arguments.quality, "folds": folds_of_each(arguments)}
    check_case(images, arguments.output, arguments.model, arguments.series, extras=extras, **effort)
    manifests = [read_manifest(find_model(model)) for model in arguments.model]
    memory_limit_bytes(arguments)
    if arguments.roi is not None:
        parse_roi(arguments.roi)
    return manifests, wanted_labels(arguments, manifests)


def _step(overlap: float | None) -> float | None:
    if overlap is not None and not 0 <= overlap <= 0.9:
        raise ConfigError(f"--overlap {overlap} must be a fraction of the tile from 0 to 0.9")
    return None if overlap is None else 1 - overlap


def _segment_report(
    files: Sequence[Path], manifests: "Sequence[Manifest]", result: "SegmentationResult"
) -> dict[str, Any]:
    from .batch.report import facts_of
    from .extras import segment_rows

    return {
        "files": [str(file) for file in files],
        "model": facts_of(manifests),
        "segments": segment_rows(result),
        "warnings": list(result.warnings),
        "timings": result.timings,
        "tiles": {"total": result.tiles, "reused": result.reused_tiles},
    }


def _segment_text(report: dict[str, Any]) -> str:
    from .review.statistics_files import statistics_text

    return "\n".join([*report["files"], *statistics_text(report["segments"])])


def _models_list(arguments: argparse.Namespace) -> None:
    from .store import list_models

    models = list_models()
    if arguments.json:
        entries = [
            {
                "name": model.name,
                "path": str(model.path),
                "version": model.manifest.version if model.manifest else None,
                "description": model.manifest.description if model.manifest else None,
                "problem": model.problem,
            }
            for model in models
        ]
        print(json.dumps(entries))
        return
    for model in models:
        about = f"{model.manifest.version}  {model.manifest.description}" if model.manifest else f"! {model.problem}"
        print(f"{model.name}  {about}\n    {model.path}")
    if not models:
        print("no models; see `mambasegment doctor` for the folders that are looked through", file=sys.stderr)


def _models_info(arguments: argparse.Namespace) -> None:
    from . import model_info
    from .store import find_model

    if (arguments.model is None) == (arguments.architecture is None):
        raise ConfigError("name either a MODEL or an --architecture to tell about")
    if arguments.reliability is not None:
        _draw_reliability(arguments)
    if arguments.architecture is not None:
        options = model_info.options_of(arguments.option)
        info = model_info.info_of_architecture(arguments.architecture, options, arguments.patch_size)
    elif arguments.option or arguments.patch_size:
        raise ConfigError("--option and --patch-size belong to --architecture; a model's own are fixed")
    else:
        info = model_info.info_of_model(find_model(arguments.model), with_counts=not arguments.no_counts)
    print(json.dumps(info) if arguments.json else model_info.as_text(info))


def _draw_reliability(arguments: argparse.Namespace) -> None:
    from .bundle import read_manifest
    from .image_io import check_writable
    from .reliability import write_reliability_diagram
    from .store import find_model

    if arguments.model is None:
        raise ConfigError("--reliability belongs to a MODEL; an architecture has learned nothing that could be right")
    check_writable(arguments.reliability, (".png",))
    write_reliability_diagram(read_manifest(find_model(arguments.model)), arguments.reliability)


def _models_verify(arguments: argparse.Namespace) -> int:
    from .bundle import verify_bundle
    from .store import find_model

    code = 0
    for name in arguments.models:
        try:
            path = find_model(name)
            manifest = verify_bundle(path)
        except BundleError as problem:
            code = _fail(problem, problem.exit_code)
        else:
            print(f"{path}: {manifest.name} {manifest.version}, sha256 {manifest.sha256}, as it was written")
    return code


def _doctor(arguments: argparse.Namespace) -> None:
    from .doctor import as_text, examine

    report = examine()
    print(json.dumps(report) if arguments.json else as_text(report))


def _demo(arguments: argparse.Namespace) -> None:
    from .demo import run

    with _shown_progress(arguments) as progress:
        summary = run(arguments.output, arguments.image, arguments.model, arguments.device, progress)
    print(json.dumps(summary.to_json()) if arguments.json else "\n".join(summary.lines()))


@contextmanager
def _shown_progress(arguments: argparse.Namespace) -> Iterator[ProgressPrinter | None]:
    """A progress callback whose bar is wiped at the end, whatever the end; None with --quiet."""
    printer = ProgressPrinter()
    try:
        yield None if arguments.quiet else printer
    finally:
        printer.close()
