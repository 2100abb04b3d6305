"""`mambasegment models import`."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import ProgressPrinter
from ..errors import BundleError, ConfigError

if TYPE_CHECKING:
    from .bare import BareFacts
    from .model import ForeignModel

_EPILOG = """
Files are opened in a process of their own, by PyTorch's restricted loader (PyTorch 2.10 or newer); a file that would
run code is refused. What a file cannot say is asked for, or warned about. See docs/import.md.
"""


def add_parser(actions: Any) -> None:
    parser = actions.add_parser(
        "import",
        help="make a model file of a training of nnU-Net, of published weights or of a run",
        description="Turn a results folder of nnU-Net v2 or one of its forks (or the zip of it), a .pth, .pt or "
        ".safetensors file, or a run of mambatrain into one model file.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="folder, .zip, .pth, .pt or .safetensors")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="NAME.safetensors")
    parser.add_argument("--add", action="store_true", help="put it into the local store, to be used by its name")
    parser.add_argument("--name", help="of the model (default: of FILE, or of the data set)")
    parser.add_argument("--license", default="", help="under which the weights may be used")
    parser.add_argument("--architecture", metavar="NAME", help="where the file's own word does not do")
    parser.add_argument("--half", action="store_true", help="store the weights in 16 bits")
    results = parser.add_argument_group("trainings of nnU-Net")
    results.add_argument("--configuration", metavar="NAME", help="such as 2d or 3d_fullres")
    results.add_argument(
        "--checkpoint", default="final", metavar="NAME", help="final (default), best, latest or the number in its name"
    )
    results.add_argument("--folds", type=_texts, default=(), metavar="0,1,…", help="default: all that have one")
    bare = parser.add_argument_group("weights alone")
    bare.add_argument("--labels", type=_texts, metavar="A,B,…", help="classes in the network's order, no background")
    bare.add_argument("--channels", type=_texts, metavar="A,B,…", help="images in the network's order")
    bare.add_argument("--patch-size", type=_whole_numbers, metavar="[K,]J,I", help="voxels of the training's patch")
    bare.add_argument("--spacing", type=_numbers, metavar="[K,]J,I", help="voxel size of the training in mm")
    bare.add_argument(
        "--normalization",
        action="append",
        metavar="KIND",
        help="zscore, zscore_nonzero, rescale_0_1, rgb, none or ct:LOWER,UPPER,MEAN,STD; once, or once per channel",
    )
    bare.add_argument("--mirror-axes", type=_whole_numbers, metavar="0,1,…", help="axes along which it may be mirrored")
    bare.add_argument(
        "--orientation", metavar="CODE", help='of the training images, such as RAS (default: "as stored")'
    )
    bare.add_argument("--axis-order", type=_whole_numbers, metavar="0,1,2", help="array axes after turning")
    bare.add_argument("--plans", type=Path, metavar="FILE", help="plans.json for networks that are built from a plan")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from .model import write_model

    output = _checked_output(arguments)
    printer = ProgressPrinter()
    progress = None if arguments.quiet else printer
    try:
        model = _read(arguments, progress)
        name = arguments.name or (output.stem if output is not None else model.name)
        model = replace(model, name=name, license=arguments.license or model.license)
        model = replace(model, notes=(*model.notes, *_missing_licence(model)))
        target = output or _store_path(name)
        manifest = write_model(model, target, half=arguments.half, progress=progress)
    finally:
        printer.close()
    for note in model.notes:
        print(f"warning: {note}", file=sys.stderr)
    if arguments.json:
        report = {"file": str(target), "name": manifest.name, "sha256": manifest.sha256, "warnings": list(model.notes)}
        print(json.dumps(report))
    else:
        print(target)


def _read(arguments: argparse.Namespace, progress: ProgressPrinter | None) -> "ForeignModel":
    from .archive import is_results_archive, unpacked

    path: Path = arguments.path
    if not path.exists():
        raise BundleError(f"{path} does not exist; check the path")
    if path.is_dir():
        return _read_folder(arguments, path, progress)
    if is_results_archive(path):
        with unpacked(path) as folder:
            return _read_folder(arguments, folder, progress)
    return _read_file(arguments, path, progress)


def _read_folder(arguments: argparse.Namespace, folder: Path, progress: ProgressPrinter | None) -> "ForeignModel":
    from .nnunet import read_results
    from .results_folder import find_results
    from .training_run import is_run, read_run

    if is_run(folder):
        return read_run(folder, arguments.plans)
    results = find_results(folder, arguments.configuration, _ask if _someone_is_there() else None)
    if results is None:
        raise BundleError(
            f"{arguments.path} is no trained model: expected a results folder of nnU-Net (plans.json, dataset.json and "
            "fold_0 … in it, or such folders below it) or a run of mambatrain. A checkpoint_final.pth can be given by "
            "itself"
        )
    return read_results(
        results,
        which=arguments.checkpoint,
        folds=arguments.folds,
        configuration=arguments.configuration,
        architecture=arguments.architecture,
        progress=progress,
    )


def _read_file(arguments: argparse.Namespace, path: Path, progress: ProgressPrinter | None) -> "ForeignModel":
    from ..progress import Progress
    from .bare import read_bare
    from .nnunet import read_single_checkpoint
    from .reading import read_checkpoint

    facts = _facts(arguments)
    if progress is not None:
        progress(Progress("read", 0, 1))
    checkpoint = read_checkpoint(path)
    if "mambasegment" in checkpoint.facts.get("metadata", {}):
        raise BundleError(f"{path} is a model file of ours already; copy it, or use it as it is")
    whole = read_single_checkpoint(checkpoint, architecture=arguments.architecture)
    return whole if whole is not None else read_bare(checkpoint, facts)


def _facts(arguments: argparse.Namespace) -> "BareFacts":
    from .bare import BareFacts

    given = {
        "labels": arguments.labels,
        "channels": arguments.channels,
        "spacing_mm": arguments.spacing,
        "patch_size": arguments.patch_size,
        "mirror_axes": arguments.mirror_axes,
        "orientation": arguments.orientation,
        "axis_order": arguments.axis_order,
        "plans": arguments.plans,
        "configuration": arguments.configuration,
        "architecture": arguments.architecture,
        "normalization": arguments.normalization and tuple(_normalization(text) for text in arguments.normalization),
    }
    return BareFacts(**{key: value for key, value in given.items() if value is not None})


def _normalization(text: str) -> Any:
    from ..normalization import Normalization

    kind, _, numbers = text.partition(":")
    return Normalization(kind, *_numbers(numbers)) if numbers else Normalization(kind)


def _checked_output(arguments: argparse.Namespace) -> Path | None:
    """Refuse a target before minutes of reading."""
    output: Path | None = arguments.output
    if (output is None) == (not arguments.add):
        raise ConfigError("say where the model shall go: -o NAME.safetensors, or --add for the local store")
    if output is not None and output.suffix != ".safetensors":
        raise ConfigError(f"a model is written to {output.name}, but its name must end in .safetensors")
    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"cannot write {output}: the folder {output.parent} does not exist; create it first")
    if output is not None and output.exists() and arguments.path.exists() and output.samefile(arguments.path):
        raise ConfigError(f"{output} is the file to import, which would be lost; choose another name")
    return output


def _store_path(name: str) -> Path:
    from ..store import user_folder

    folder = user_folder()
    target = folder / f"{name}.safetensors"
    if target.exists():
        raise ConfigError(f"the store has a model {name!r} already ({target}); choose another --name, or delete it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise BundleError(f"the store {folder} cannot be made: {problem.strerror or problem}") from problem
    return target


def _missing_licence(model: "ForeignModel") -> list[str]:
    return [] if model.license else ["its licence is not known; give it with --license before you pass the file on"]


def _someone_is_there() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _ask(names: Sequence[str]) -> int:
    """Which of several, by its number; an empty line gives up."""
    for number, name in enumerate(names, start=1):
        print(f"  {number}  {name}", file=sys.stderr)
    print(f"Which one (1 to {len(names)})? ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip()
    if answer.isdigit() and 1 <= int(answer) <= len(names):
        return int(answer) - 1
    raise ConfigError(f"{answer!r} is none of 1 to {len(names)}; give the folder of one model")


def _texts(text: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty part; expected texts with commas between")
    return parts


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers with commas between") from problem


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers with commas between") from problem
