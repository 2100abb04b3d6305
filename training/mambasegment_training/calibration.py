"""How sure a model may be: its temperature, fitted on validation cases, and how often it is right when it is so sure.

Scores are divided by the temperature before probabilities are taken; the one that makes the truth most probable is
chosen (Guo et al. 2017, arXiv:1706.04599, section 4.2, with their calibration error in 15 bins, section 3). Labels stay
as they are.

Voxels far from any structure are easy and so many that they would hide all others, so only those near the border of
what is there are asked: at most 5 voxels from a voxel that is foreground in truth or prediction. Of each case a number
of them is drawn, from a seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage, optimize, special
from torch import nn

from MambaSegmentLib.inference.sliding import SlidingWindow
from MambaSegmentLib.progress import Progress, ProgressCallback
from MambaSegmentLib.quality import Mirrorings

from .data import Cases

BINS = 15
_NEAR_VOXELS = 5
_VOXELS_PER_CASE = 50_000
_COLDEST, _HOTTEST = 0.05, 20.0  # temperatures that are tried


@dataclass(frozen=True)
class Answers:
    """What a model said of some voxels, and what is true.

    Attributes:
        scores: float32 (voxels, classes).
        truth: of classes, whole numbers (voxels,); of regions, bool (voxels, regions).
        cases: how many the voxels are from.
    """

    scores: np.ndarray
    truth: np.ndarray
    cases: int

    @property
    def regions(self) -> bool:
        return self.truth.ndim == 2


def gather_answers(
    networks: Sequence[nn.Module],
    store: Cases,
    label_values: Sequence[int],
    patch_size: Sequence[int],
    device: torch.device,
    *,
    regions: Sequence[Sequence[int]] = (),
    ignore_label: int | None = None,
    tile_step: float = 0.5,
    mirrorings: Mirrorings = ((),),
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Answers:
    """Ask networks, averaged, about voxels of validation cases.

    Args:
        networks: in evaluation mode, on `device`.
        label_values: of the classes after the background, in the networks' order.
        regions: instead, the label values that each output of the networks unites.
        mirrorings: as for `SlidingWindow`.
        progress: told before each case and at the end.
    """
    report = progress or (lambda _: None)
    generator = np.random.default_rng(seed)
    classes = len(regions) or len(label_values) + 1
    window = SlidingWindow(networks, classes, patch_size, device=device, step=tile_step, mirrorings=mirrorings)
    scores: list[np.ndarray] = []
    truths: list[np.ndarray] = []
    for identifier in store.identifiers:
        report(Progress("calibrate", len(scores), len(store.identifiers)))
        case = store[identifier]
        labels = np.asarray(case.labels)
        of_case = window.scores(np.ascontiguousarray(case.image))
        found = (of_case > 0).any(axis=0) if regions else of_case.argmax(axis=0) > 0
        there = (labels != 0) & (labels != ignore_label)
        near = ndimage.binary_dilation(found | there, iterations=_NEAR_VOXELS)
        if ignore_label is not None:
            near &= labels != ignore_label
        places = np.flatnonzero(near)
        if len(places) > _VOXELS_PER_CASE:
            places = generator.choice(places, _VOXELS_PER_CASE, replace=False)
        scores.append(of_case.reshape(classes, -1)[:, places].T)
        truths.append(_truth(labels.ravel()[places], label_values, regions))
    report(Progress("calibrate", len(scores), len(scores)))
    return Answers(np.concatenate(scores), np.concatenate(truths), len(scores))


def together(parts: Sequence[Answers]) -> Answers:
    """Those of several folds, each about its own cases."""
    scores, truth = ([getattr(part, name) for part in parts] for name in ("scores", "truth"))
    return Answers(np.concatenate(scores), np.concatenate(truth), sum(part.cases for part in parts))


def calibration_of(answers: Answers) -> dict[str, Any]:
    """The `calibration` object of a model file; {} where there was nothing to ask about.

    Returns:
        `temperature`; `cases` and `voxels` it was fitted on; mean negative log likelihood and expected calibration
        error with temperature 1 (`before`) and with this one (`after`), on the same voxels; `bins` of confidence, for
        each its range, the fraction of answers in it, their mean confidence and how many of them are right.
    """
    if not len(answers.scores):
        return {}
    temperature = fit_temperature(answers)
    before, after = (reliability(answers, value) for value in (1.0, temperature))
    return {
        "temperature": temperature,
        "cases": answers.cases,
        "voxels": len(answers.scores),
        "measured_on": "the validation cases, which also chose the weights and this temperature",
        "nll_before": negative_log_likelihood(answers, 1.0),
        "nll_after": negative_log_likelihood(answers, temperature),
        "ece_before": calibration_error(before),
        "ece_after": calibration_error(after),
        "bins_before": before,
        "bins": after,
    }


def fit_temperature(answers: Answers) -> float:
    """The temperature with the least negative log likelihood; that is convex in 1 / T, so it has one minimum."""
    found = optimize.minimize_scalar(
        lambda logarithm: negative_log_likelihood(answers, float(np.exp(logarithm))),
        bounds=(np.log(_COLDEST), np.log(_HOTTEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x))


def negative_log_likelihood(answers: Answers, temperature: float) -> float:
    """Mean over the voxels, in nats; of regions the mean of their yes and no."""
    scaled = answers.scores.astype(np.float64) / temperature
    if answers.regions:
        return float(np.mean(np.logaddexp(0.0, np.where(answers.truth, -scaled, scaled))))
    logs = special.log_softmax(scaled, axis=1)
    return float(-np.mean(logs[np.arange(len(logs)), answers.truth]))


def reliability(answers: Answers, temperature: float) -> list[dict[str, float]]:
    """Answers sorted into bins by their confidence, the probability of what is answered; bins without any left out."""
    scaled = answers.scores.astype(np.float64) / temperature
    if answers.regions:
        yes = special.expit(scaled)
        confidence, right = np.maximum(yes, 1 - yes).ravel(), ((scaled > 0) == answers.truth).ravel()
    else:
        probabilities = special.softmax(scaled, axis=1)
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == answers.truth
    edges = np.linspace(0.0, 1.0, BINS + 1)
    number = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, BINS - 1)
    return [
        {
            "from": float(edges[n]),
            "to": float(edges[n + 1]),
            "fraction": float(inside.mean()),
            "confidence": float(confidence[inside].mean()),
            "accuracy": float(right[inside].mean()),
        }
        for n in range(BINS)
        if (inside := number == n).any()
    ]


def calibration_error(bins: Sequence[Mapping[str, float]]) -> float:
    """Expected calibration error: by how much confidence and accuracy differ, weighted by the answers in each bin."""
    return float(sum(entry["fraction"] * abs(entry["accuracy"] - entry["confidence"]) for entry in bins))


def _truth(labels: np.ndarray, label_values: Sequence[int], regions: Sequence[Sequence[int]]) -> np.ndarray:
    if regions:
        return np.stack([np.isin(labels, region) for region in regions], axis=1)
    classes = np.zeros(int(max(labels.max(initial=0), *label_values)) + 1, np.int64)
    classes[list(label_values)] = np.arange(1, len(label_values) + 1)
    return classes[labels]
