"""From weights and facts to a bundle."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle import Bundle, write_bundle
from ..errors import BundleError, ConfigError
from ..manifest import Manifest
from ..preprocessing_spec import PreprocessingSpec
from ..progress import Progress, ProgressCallback
from .dataset_json import DatasetFacts

if TYPE_CHECKING:
    from torch import Tensor, nn

ORIENTATION_NOTE = (
    "images are taken as they are stored: their axes must run as those of the training images did, which no file says"
)


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """What an importer found.

    Attributes:
        folds: name of each fold -> its weights.
        authors_names: whether the weights have the authors' names, or ours.
        training: for the description's key of that name: where it comes from, and how good it was.
        notes: what the files could not say; warnings, and part of the limitations.
    """

    name: str
    architecture: str
    options: Mapping[str, Any]
    dataset: DatasetFacts
    preprocessing: PreprocessingSpec
    patch_size: tuple[int, ...]
    folds: "Mapping[str, Mapping[str, Tensor]]"
    authors_names: bool = True
    mirror_axes: tuple[int, ...] = ()
    step: float = 0.5
    description: str = ""
    license: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def write_model(
    model: ForeignModel, output: Path, *, half: bool = False, progress: ProgressCallback | None = None
) -> Manifest:
    """Load every fold into its network, to see that nothing is missing, and write the bundle.

    Raises:
        BundleError: weights that are incomplete or of another network, each named; a patch that the network cannot
            take. ConfigError: a description that makes no sense.
    """
    manifest = _manifest(model)
    report = progress or (lambda _: None)
    folds = []
    for number, (fold, weights) in enumerate(model.folds.items()):
        report(Progress("load", number, len(model.folds)))
        try:
            folds.append(_loaded(model, manifest, weights))
        except BundleError as problem:
            raise BundleError(f"fold {fold}: {problem}") from problem
    report(Progress("write", 0, 1))
    written = write_bundle(output, manifest, folds, half=half)
    report(Progress("write", 1, 1))
    return written


def plain_name(*parts: str) -> str:
    """A name for a file and a model, of letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(part for part in parts if part)).strip("-._") or "imported"


def _manifest(model: ForeignModel) -> Manifest:
    dataset = model.dataset
    try:
        return Manifest(
            name=model.name,
            description=model.description,
            architecture_name=model.architecture,
            architecture_options=model.options,
            channels=dataset.channels,
            segments=dataset.segments,
            regions=dataset.regions,
            ignore_label=dataset.ignore_label,
            preprocessing=model.preprocessing,
            patch_size=model.patch_size,
            mirror_axes=model.mirror_axes,
            step=model.step,
            license=model.license,
            intended_use="Research; not a medical device.",
            limitations=" ".join(f"{note[:1].upper()}{note[1:]}." for note in model.notes),
            training=dict(model.training),
        )
    except ConfigError as problem:
        raise BundleError(f"the files do not make a model: {problem}") from problem


def _loaded(model: ForeignModel, manifest: Manifest, weights: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """The weights by our names, as the network took them."""
    from ..models import build_model, load_published_weights

    if not model.authors_names:
        (network,) = Bundle(manifest, (dict(weights),)).build_networks()
    else:
        try:
            network = build_model(model.architecture, model.options)
        except ConfigError as problem:
            raise BundleError(f"the network cannot be built: {problem}") from problem
        load_published_weights(network, weights)
    _check_patch(network, model.patch_size)
    return network.state_dict()


def _check_patch(network: "nn.Module", patch_size: tuple[int, ...]) -> None:
    """Better now than at the first image."""
    multiples = getattr(getattr(network, "config", None), "size_multiples", None)
    multiples = multiples or (getattr(network, "size_multiple", 1),) * len(patch_size)
    if len(multiples) != len(patch_size) or any(size % by for size, by in zip(patch_size, multiples, strict=True)):
        raise BundleError(
            f"the patch is {patch_size}, but the network takes multiples of {tuple(multiples)}; was the configuration "
            "another one?"
        )
