"""The command `mambatrain`: prepare, fit, export and others. Nothing heavy is imported before it is needed."""

import argparse
import json
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from MambaSegmentLib.errors import Cancelled, ConfigError, MambaSegmentError
from MambaSegmentLib.openmp import let_waiting_threads_sleep
from MambaSegmentLib.progress import Progress

from . import __version__
from .evaluation.cli import add_calibrate_parser as _add_calibrate
from .evaluation.cli import add_parser as _add_evaluate
from .study.cli import add_parser as _add_compare
from .study.cli import add_queue_parser as _add_queue

if TYPE_CHECKING:
    from .loop import FitResult
    from .stopping import StopRequests

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or that of the error (see MambaSegmentLib.errors)."""
    let_waiting_threads_sleep()
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except MambaSegmentError as error:
        print(f"mambatrain: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("mambatrain: stopped", file=sys.stderr)
        return 130
    except Exception as error:  # a bug: the traceback is what a report needs
        log = _write_log(traceback.format_exc())
        print(f"mambatrain: internal error: {error!r}; details in {log}", file=sys.stderr)
        return 1
    return 0


def parse_duration_s(text: str) -> float:
    """Seconds in a text such as "90", "45s", "10m", "1.5h" or "1h30m".

    Raises:
        ConfigError: no such text, or no time at all.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigError(f"cannot read the time {text!r}; expected something like 45s, 10m or 1h30m")
    seconds = sum(float(number) * _UNITS_S[unit or "s"] for number, unit in parts)
    if seconds <= 0:
        raise ConfigError(f"the time {text!r} is nothing; expected more than 0")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mambatrain", description="Train Mamba U-Nets for medical image segmentation."
    )
    parser.add_argument("--version", action="version", version=f"mambasegment-training {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_prepare(commands)
    _add_fit(commands)
    _add_export(commands)
    _add_collect(commands)
    _add_evaluate(commands)
    _add_calibrate(commands)
    _add_compare(commands)
    _add_queue(commands)
    _add_nnunet_plans(commands)
    return parser


def _add_prepare(commands: Any) -> None:
    parser = commands.add_parser("prepare", help="check and preprocess a data set, split it by patient")
    parser.add_argument("dataset", type=Path, help="folder with images/ and labels/, or an nnU-Net raw data set")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="WORK", help="folder for the prepared data")
    parser.add_argument(
        "--profile", metavar="NAME", help="the dataset is a paper's, as published: acdc, synapse, … (docs/papers.md)"
    )
    parser.add_argument("--patient-pattern", metavar="REGEX", help="group 1, found in a case's name, is the patient")
    parser.add_argument("--label", action="append", default=[], metavar="VALUE=NAME", help="name a label; repeatable")
    parser.add_argument("--ignore-other-segments", action="store_true", help="take only segments that --label names")
    parser.add_argument("--renumber", action="store_true", help="close gaps between label values; names keep theirs")
    parser.add_argument("--validation-fraction", type=float, default=0.2, metavar="F", help="default: %(default)s")
    parser.add_argument("--validation-cases", default="", metavar="A,B,…", help="instead of a drawn split")
    parser.add_argument("--splits", type=Path, metavar="FILE", help="such as nnU-Net's splits_final.json, instead")
    parser.add_argument("--seed", type=int, default=20240917, help="of the split; default: %(default)s")
    parser.add_argument("--orientation", metavar="CODE", help="such as RAS, or 'as stored'; default: the most frequent")
    parser.add_argument("--resize", metavar="J,I", help="make all slices of this size, e.g. 224,224 for Mamba-UNet")
    parser.add_argument("--nearest", action="store_true", help="resample images without interpolation")
    parser.add_argument(
        "--normalization", metavar="KIND", help="zscore, rescale_0_1, rgb, ct or none; default: by the channel's name"
    )
    parser.add_argument("--size-multiple", type=int, default=8, help="patch edges divide by it; default: %(default)s")
    parser.add_argument(
        "--patch-size", action="append", default=[], metavar="K,J,I", help="instead of the planned one; J,I for slices"
    )
    parser.add_argument("--strict", action="store_true", help="refuse what the quality report warns about")
    parser.set_defaults(run=_prepare)


def _add_fit(commands: Any) -> None:
    parser = commands.add_parser("fit", help="train a network")
    parser.add_argument("work", type=Path, metavar="WORK", help="folder made by `prepare`")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RUN", help="folder for the run")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML with what differs from the defaults")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting; repeatable"
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="short for --set epochs=N")
    parser.add_argument(
        "--pretrained", metavar="FILE", help="ImageNet weights (VMamba-Tiny) to start from: --set pretrained.file=FILE"
    )
    parser.add_argument("--init-from", metavar="MODEL", help="go on from a model file: --set pretrained.bundle=MODEL")
    parser.add_argument("--fold", metavar="N", help="of the data set's folds, or all: short for --set fold=N")
    parser.add_argument("--time-budget", metavar="T", help="train for a time such as 10m instead of a number of epochs")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default: %(default)s")
    parser.add_argument("--memory-gb", type=float, metavar="GB", help="take the largest batch whose step fits")
    parser.add_argument("--resume", action="store_true", help="go on with the run in RUN, with its own settings")
    parser.set_defaults(run=_fit)


def _add_export(commands: Any) -> None:
    parser = commands.add_parser("export", help="write the best weights of a run, or of several folds, as a model")
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="folder made by `fit`; several, or one of fold_0, fold_1 …: folds",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="FILE.safetensors, or a folder")
    parser.add_argument(
        "--layout",
        choices=("bundle", "nnunet"),
        default="bundle",
        help="nnunet: a folder that nnU-Net's predictor reads",
    )
    parser.add_argument("--half", action="store_true", help="store the weights in 16 bits: half the size")
    parser.add_argument("--card", type=Path, metavar="FILE", help="TOML whose [card] replaces the run's, e.g. a recipe")
    parser.add_argument("--date", metavar="YYYY-MM-DD", help="of the training; default: as noted by the run")
    parser.add_argument("--device", default="auto", help="for measuring the model; default: %(default)s")
    parser.add_argument("--no-cost", action="store_true", help="do not measure seconds and memory for the card")
    parser.set_defaults(run=_export)


def _add_collect(commands: Any) -> None:
    parser = commands.add_parser("collect", help="make a data set of reviewed Slicer cases, or add to it")
    parser.add_argument(
        "reviews", type=Path, metavar="DIR", help="folder with CASE.review.json and the files beside it"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DATASET", help="new, or collected before")
    parser.add_argument("--images", type=Path, metavar="DIR", help="where the images lie, if not among the reviews")
    parser.add_argument("--patient-pattern", metavar="REGEX", help="group 1, found in a case's name, is the patient")
    parser.add_argument("--folds", type=int, help="of the cross-validation; default: as before, or 5")
    parser.set_defaults(run=_collect)


def _add_nnunet_plans(commands: Any) -> None:
    parser = commands.add_parser("nnunet-plans", help="put a recipe into plans of stock nnU-Net, for its own training")
    parser.add_argument("plans", type=Path, metavar="PLANS.json", help="as nnUNetv2_plan_and_preprocess made them")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML with what differs from the defaults")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting; repeatable"
    )
    parser.add_argument("--configuration", default="3d_fullres", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--name", default="MambaSegmentPlans", help="of the new plans; default: %(default)s")
    parser.set_defaults(run=_nnunet_plans)


def _prepare(arguments: argparse.Namespace) -> None:
    from .fingerprint import Wishes
    from .prepare import prepare
    from .profiles import profile_named

    dataset = prepare(
        arguments.dataset,
        arguments.output,
        profile=arguments.profile,
        patient_pattern=arguments.patient_pattern,
        label_names=_parse_labels(arguments.label),
        renumber=arguments.renumber,
        ignore_other_segments=arguments.ignore_other_segments,
        validation_fraction=arguments.validation_fraction,
        validation_cases=[name.strip() for name in arguments.validation_cases.split(",") if name.strip()],
        splits_file=arguments.splits,
        seed=arguments.seed,
        wishes=Wishes(
            orientation=arguments.orientation,
            resize=_parse_resize(arguments.resize),
            nearest=arguments.nearest,
            normalization=arguments.normalization,
        ),
        size_multiple=arguments.size_multiple,
        patches=_parse_patches(arguments.patch_size),
        strict=arguments.strict,
        progress=_show_progress,
    )
    split = dataset.split
    folds = f"the first of {len(dataset.folds)} folds has " if len(dataset.folds) > 1 else ""
    print(f"{folds}{len(split.train)} cases for training, {len(split.validation)} for validation in {arguments.output}")
    print(f"look at {arguments.output / 'report.html'} before training")
    for recipe in profile_named(arguments.profile).recipes if arguments.profile else ():
        print(recipe.command(arguments.output))
    print(f"labels {dataset.labels}, patch {dataset.patch_size}, preprocessing {dataset.preprocessing.to_json()}")


def _fit(arguments: argparse.Namespace) -> None:
    budget_s = None if arguments.time_budget is None else parse_duration_s(arguments.time_budget)
    from .stopping import StopRequests

    requests = StopRequests()
    try:
        result = _resumed(arguments, budget_s, requests) if arguments.resume else _begun(arguments, budget_s, requests)
    except Cancelled as stopped:
        if requests.interrupted:
            raise
        print(f"mambatrain: {stopped}", file=sys.stderr)  # what a cluster asks for, here or elsewhere, is no failure
        return
    if int(os.environ.get("RANK", "0")) > 0:
        return
    best = (
        "no validation"
        if result.best_dice is None
        else f"mean Dice {result.best_dice:.4f} in epoch {result.best_epoch}"
    )
    print(f"{result.epochs} epochs done, best: {best}; run folder {result.run}")


def _begun(arguments: argparse.Namespace, budget_s: float | None, requests: "StopRequests") -> "FitResult":
    from .config import load_config
    from .loop import fit

    assignments = list(arguments.set)
    for key in ("epochs", "fold"):
        if getattr(arguments, key) is not None:
            assignments.append(f"{key}={getattr(arguments, key)}")
    for key, path in (("pretrained.file", arguments.pretrained), ("pretrained.bundle", arguments.init_from)):
        if path is not None:  # quoted, since a path is taken as it is
            assignments.append(f"{key}={json.dumps(path, ensure_ascii=False)}")
    config = load_config(arguments.config, assignments)
    if arguments.memory_gb is not None:
        from .memory import with_batch_that_fits
        from .prepare import open_work

        config = with_batch_that_fits(open_work(arguments.work), config, arguments.memory_gb)
        print(f"batches of {config.data.batch_size} fit {arguments.memory_gb:g} GB", file=sys.stderr)
    return fit(
        arguments.work,
        arguments.output,
        config,
        device=arguments.device,
        time_budget_s=budget_s,
        cancel=requests.cancel,
    )


def _resumed(arguments: argparse.Namespace, budget_s: float | None, requests: "StopRequests") -> "FitResult":
    from .loop import resume
    from .run_folder import read_run

    names = ("config", "set", "pretrained", "init_from", "fold", "memory_gb")
    if any(getattr(arguments, name) not in (None, []) for name in names):
        *others, last = (f"--{name.replace('_', '-')}" for name in names)
        raise ConfigError(f"--resume goes on with the run's own settings; leave out {', '.join(others)} and {last}")
    work = read_run(arguments.output).work
    if work != arguments.work.resolve():
        raise ConfigError(f"the run was started on {work}, not on {arguments.work.resolve()}")
    return resume(
        arguments.output,
        epochs=arguments.epochs,
        device=arguments.device,
        time_budget_s=budget_s,
        cancel=requests.cancel,
    )


def _export(arguments: argparse.Namespace) -> None:
    from .export import export
    from .nnunet_layout import export_nnunet

    write = export if arguments.layout == "bundle" else export_nnunet
    manifest = write(
        arguments.runs,
        arguments.output,
        half=arguments.half,
        card_file=arguments.card,
        date=arguments.date,
        device=arguments.device,
        with_cost=not arguments.no_cost,
    )
    dice = manifest.training["metrics"]["dice"]
    per_label = ", ".join(f"{entry['name']} {_number(entry['mean'])}" for entry in dice["labels"])
    print(f"wrote {arguments.output}; Dice on {dice['cases']} validation cases: {per_label}, mean {dice['mean']:.4f}")


def _collect(arguments: argparse.Namespace) -> None:
    from .collect import collect

    report = collect(
        arguments.reviews,
        arguments.output,
        images=arguments.images,
        patient_pattern=arguments.patient_pattern,
        folds=arguments.folds,
        progress=_show_progress,
    )
    for case, reason in report.passed_over.items():
        print(f"mambatrain: {case} is left out: {reason}", file=sys.stderr)
    counts = {name: len(getattr(report, name)) for name in ("added", "replaced", "unchanged", "withdrawn")}
    print(", ".join(f"{count} {name}" for name, count in counts.items()) + f", {len(report.passed_over)} left out")
    print(f"{report.cases} cases in {arguments.output}, {report.folds} folds by patient")
    if report.cases and not report.folds:
        print("all of them are of one patient; `prepare` needs a second one to validate on")


def _nnunet_plans(arguments: argparse.Namespace) -> None:
    from .config import load_config
    from .nnunet_plans import write_plans

    config = load_config(arguments.config, arguments.set)
    written = write_plans(arguments.plans, config, configuration=arguments.configuration, name=arguments.name)
    folder = Path(__file__).parent / "for_nnunet"
    print(f"wrote {written}; train with these two lines:")
    print(f'export nnUNet_extTrainer="{folder}"')
    print(f"nnUNetv2_train DATASET {arguments.configuration} FOLD -tr MambaSegmentTrainer -p {arguments.name}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _parse_labels(texts: Sequence[str]) -> dict[int, str] | None:
    labels = {}
    for text in texts:
        value, separator, name = text.partition("=")
        if not separator or not value.strip().isdigit() or not name.strip():
            raise ConfigError(f"--label {text!r}: expected VALUE=NAME, such as 1=liver")
        labels[int(value)] = name.strip()
    return labels or None


def _parse_patches(texts: Sequence[str]) -> dict[int, tuple[int, ...]]:
    patches = {}
    for text in texts:
        sizes = _parse_sizes(text)
        if len(sizes) not in (2, 3):
            raise ConfigError(f"--patch-size {text!r}: expected K,J,I such as 40,56,40, or J,I for slices")
        patches[len(sizes)] = sizes
    return patches


def _parse_resize(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sizes = _parse_sizes(text)
    if len(sizes) != 2:
        raise ConfigError(f"--resize {text!r}: expected rows,columns such as 224,224")
    return sizes[0], sizes[1]


def _parse_sizes(text: str) -> tuple[int, ...]:
    """Empty for what is no list of sizes."""
    sizes = text.replace("x", ",").split(",")
    fit = all(size.strip().isdigit() and int(size) > 0 for size in sizes)
    return tuple(int(size) for size in sizes) if fit else ()


def _show_progress(progress: Progress) -> None:
    end = "\n" if progress.done == progress.total or not sys.stderr.isatty() else ""
    if sys.stderr.isatty():
        print(f"\r{progress.stage} {progress.done}/{progress.total}", end=end, file=sys.stderr, flush=True)
    elif progress.done in (1, progress.total) or progress.done % 20 == 0:
        print(f"{progress.stage} {progress.done}/{progress.total}", file=sys.stderr)


def _write_log(text: str) -> Path:
    import platformdirs

    folder = Path(platformdirs.user_log_dir("mambasegment", appauthor=False))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mambatrain.log"
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text + "\n")
    return path
