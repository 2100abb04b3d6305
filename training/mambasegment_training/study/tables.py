"""The tables of a comparison, once as rows of text for Markdown and for HTML alike."""

from collections.abc import Sequence
from typing import Any

from MambaSegmentLib.review.agreement import HEADINGS
from MambaSegmentLib.review.comparison import summarise_cases, summarise_wholes
from MambaSegmentLib.review.summary import Summary

from .compare import Study, machine
from .entry import Entry, common_settings, differing_settings
from .paired import PairedTest

Table = tuple[list[str], list[list[str]]]  # headings, rows
_NONE = "–"
_COMMON = {
    "epochs": "epochs",
    "steps_per_epoch": "steps an epoch",
    "data.batch_size": "batch",
    "data.patch_size": "patch",
    "seed": "seed",
    "precision": "precision",
    "cpu_threads": "CPU threads",
}


def quality_table(study: Study) -> Table:
    """How good each is: mean ± SD, and the difference from the control."""
    structures = [structure.name for structure in study.entries[0].subject.data.structures]
    heads = ["", "network", "loss", "mean Dice", "95 % interval", "mIoU", "against control", "p (Holm)"]
    heads += [f"{name} {HEADINGS[metric]}" for name in structures for metric in ("dice", "hd95_mm", "nsd")]
    rows = []
    for entry in study.entries:
        evaluation = entry.evaluation
        wholes = summarise_wholes(evaluation.agreements, evaluation.patients, seed=evaluation.seed)
        whole = wholes.get("mean_dice")
        by_name = summarise_cases(evaluation.agreements, evaluation.patients, seed=evaluation.seed)
        test = study.test_against_control(entry, "mean_dice")
        row = [_name(study, entry), entry.network, entry.loss, _mean_sd(whole), _interval(whole)]
        row.append(_mean_sd(wholes.get("mean_iou")))
        row += [_difference(study, entry, test), _NONE if test is None else _p(test.p_holm)]
        for name in structures:
            row += [_mean_sd(by_name.get(name, {}).get(metric)) for metric in ("dice", "hd95_mm", "nsd")]
        rows.append(row)
    return heads, rows


def cost_table(study: Study) -> Table:
    """What each costs to train and to use."""
    heads = ["", "parameters", "multiply-adds of a patch", "patch", "epochs (best)", "training", "s a case"]
    heads += ["s a pass", "memory of a pass", "activations in training"]
    rows = []
    for entry in study.entries:
        cost = entry.cost
        epochs = _NONE if entry.epochs is None else f"{entry.epochs} ({_best(entry.best_epoch)})"
        rows.append(
            [
                _name(study, entry),
                f"{entry.parameters / 1e6:.2f} M",
                _NONE if entry.multiply_adds is None else f"{entry.multiply_adds / 1e9:.2f} G",
                " × ".join(map(str, entry.subject.manifest.patch_size)),
                epochs,
                _NONE if entry.training_s is None else _duration(entry.training_s),
                f"{entry.evaluation.seconds_per_case:.2f}",
                f"{cost['seconds']:.2f}" if cost else _NONE,
                f"{cost['memory_bytes'] / 1e6:.0f} MB" if cost else _NONE,
                f"{entry.activation_memory_bytes['training'] / 1e6:.0f} MB",
            ]
        )
    return heads, rows


def test_table(study: Study) -> Table:
    """All pairs in the mean Dice of a case, then in each structure's."""
    heads = ["measure", "first", "second", "difference", "95 % interval", "effect", "p", "p (Holm)", "patients"]
    rows = []
    for test in study.tests:
        if test.metric not in ("mean_dice", "dice"):
            continue
        measure = "mean Dice" if test.metric == "mean_dice" else f"{test.structure} Dice"
        interval = _NONE if test.ci_low is None else f"{test.ci_low:+.4f} to {test.ci_high:+.4f}"
        difference = _NONE if test.mean_difference is None else f"{test.mean_difference:+.4f}"
        effect = _NONE if test.effect is None else f"{test.effect:+.2f}"
        row = [measure, test.first, test.second, difference, interval, effect, _p(test.p), _p(test.p_holm)]
        rows.append([*row, str(test.patients)])
    return heads, rows


def settings_table(study: Study) -> Table:
    """Each setting that is not the same in all runs."""
    heads = ["setting", *(entry.name for entry in study.entries)]
    return heads, [[key, *map(_value, row)] for key, row in differing_settings(study.entries).items()]


def budget_text(study: Study) -> str:
    """How wide, how long, where: a sentence or two."""
    common = common_settings(study.entries, list(_COMMON))
    shared = ", ".join(f"{name} {_value(common[key])}" for key, name in _COMMON.items() if common.get(key) is not None)
    evaluation = study.entries[0].evaluation
    here, patients = machine(), len(set(evaluation.patients.values()))
    sentences = [
        f"{len(evaluation.records)} validation cases of {patients} patients of {evaluation.subject.data.name}, "
        f"segmented at quality {evaluation.quality} and measured on their original grids."
    ]
    if shared:
        sentences.append(f"All were trained with {shared}.")
    sentences.append(
        f"Evaluated and timed on {here['system']} {here['processor']}, {here['cores']} cores, {here['memory_gb']:g} GB."
    )
    return " ".join(sentences)


def notes(study: Study) -> list[str]:
    """What the columns are."""
    rules = study.entries[0].evaluation.rules
    held = f"{study.control.name}, the plain control" if study.control.is_control else study.control.name
    return [
        f"Mean ± standard deviation over the cases. NSD at {rules.tolerance_mm:g} mm, HD95 in mm. Intervals of "
        "the mean: bootstrap over patients.",
        f"Against control: mean difference from {held}. p: Wilcoxon's signed-rank test over patients, adjusted after "
        "Holm for all pairs. Effect: matched-pairs rank-biserial correlation, positive where the first is better.",
        "All measures of each: evaluations/NAME/report.html.",
        "Multiply-adds and activations of one patch, counted by the rule of models/counts.py. A pass is one network "
        "over the median case in a warm process of its own; its memory is what the process held beyond the loaded "
        "model. A case is a whole prediction, mirrored where the model allows it. Training is wall time of the run.",
    ]


def markdown(table: Table) -> str:
    """A table as GitHub writes it."""
    heads, rows = table
    lines = [heads, ["---"] + ["--:"] * (len(heads) - 1), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _name(study: Study, entry: Entry) -> str:
    return f"{entry.name} (control)" if entry is study.control and entry.is_control else entry.name


def _mean_sd(summary: Summary | None) -> str:
    if summary is None:
        return _NONE
    return f"{summary.mean:.3f}" + ("" if summary.sd is None else f" ± {summary.sd:.3f}")


def _interval(summary: Summary | None) -> str:
    return _NONE if summary is None or summary.ci_low is None else f"{summary.ci_low:.3f} to {summary.ci_high:.3f}"


def _difference(study: Study, entry: Entry, test: PairedTest | None) -> str:
    if test is None or test.mean_difference is None:
        return _NONE
    return f"{test.mean_difference if test.first == entry.name else -test.mean_difference:+.4f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _best(epoch: Any) -> str:
    if epoch is None:
        return _NONE
    return ", ".join(map(str, epoch)) if isinstance(epoch, list) else str(epoch)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _value(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " × ".join(map(str, value))
    return _NONE if value is None else str(value)
