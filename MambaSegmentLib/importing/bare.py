"""Weights without a word about what they are for: the user says what the file does not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BundleError, ConfigError
from ..models.published import without_wrappers
from ..normalization import Normalization
from ..orientation import AS_STORED
from ..preprocessing_spec import PreprocessingSpec
from .dataset_json import DatasetFacts, channel, segments_of
from .model import ORIENTATION_NOTE, ForeignModel, plain_name
from .networks import architecture_of, options_of
from .nnunet import plan_file
from .reading import Checkpoint
from .sizes import inputs_of, outputs_of

_RESIZED = (
    "the authors of Mamba-UNet resize each slice to the patch before the network and back behind it, whatever its "
    "spacing; here slices are brought to the spacing given and cut into patches"
)


@dataclass(frozen=True)
class BareFacts:
    """What the user says; None where nothing was said.

    Attributes:
        labels: names of the classes 1, 2, …; channels: names of the images.
        spacing_mm: (K, J, I), or (J, I) for a 2D network; normalization: one for all channels, or one for each.
        plans, configuration: of nnU-Net, for networks that are built from a plan.
    """

    architecture: str | None = None
    labels: tuple[str, ...] | None = None
    channels: tuple[str, ...] | None = None
    spacing_mm: tuple[float, ...] | None = None
    normalization: tuple[Normalization, ...] | None = None
    patch_size: tuple[int, ...] | None = None
    mirror_axes: tuple[int, ...] = ()
    orientation: str = AS_STORED
    axis_order: tuple[int, int, int] = (0, 1, 2)
    plans: Path | None = None
    configuration: str | None = None


def read_bare(checkpoint: Checkpoint, facts: BareFacts) -> ForeignModel:
    """Raises: BundleError, for weights of no network of ours. ConfigError: a fact that is needed and was not given."""
    architecture = facts.architecture or architecture_of(None, checkpoint.weights)
    plan = plan_file(facts.plans, facts.configuration) if facts.plans is not None else None
    patch_size = facts.patch_size or (plan.patch_size if plan else None)
    if patch_size is None:
        raise ConfigError("--patch-size is missing: the voxels that the network was trained with, such as 224,224")
    if facts.normalization is None:
        raise ConfigError(
            "--normalization is missing: zscore, zscore_nonzero, rescale_0_1, rgb, none or ct:L,U,MEAN,STD"
        )
    notes = [ORIENTATION_NOTE] if facts.orientation == AS_STORED else []
    bare = {without_wrappers(name): tensor for name, tensor in checkpoint.weights.items()}
    dataset = _dataset(architecture, facts, inputs_of(bare), outputs_of(architecture, bare), notes)
    options = options_of(
        architecture,
        in_channels=len(dataset.channels),
        num_classes=dataset.outputs,
        patch_size=patch_size,
        weights=checkpoint.weights,
        plan=plan,
    )
    if architecture == "mamba_unet":
        notes.append(_RESIZED)
    return ForeignModel(
        name=plain_name(checkpoint.path.stem),
        architecture=architecture,
        options=options,
        dataset=dataset,
        preprocessing=_preprocessing(facts, len(dataset.channels), len(patch_size), notes),
        patch_size=patch_size,
        folds={"0": checkpoint.weights},
        mirror_axes=facts.mirror_axes,
        description=f"Weights of {architecture}, imported from {checkpoint.path.name}.",
        training={"imported": {"files": [{"name": checkpoint.path.name, "sha256": checkpoint.sha256}]}},
        notes=tuple(notes),
    )


def _dataset(
    architecture: str, facts: BareFacts, inputs: int | None, outputs: int | None, notes: list[str]
) -> DatasetFacts:
    names = facts.channels
    if names is None:
        # Mamba-UNet's weights hold three channels for one image too; one is what its authors trained with
        count = 1 if architecture == "mamba_unet" or inputs is None else inputs
        names = ("image",) if count == 1 else tuple(f"channel {index}" for index in range(count))
        notes.append(f"the names of its {count} channel(s) are not known")
    labels = facts.labels
    if labels is None:
        if outputs is None:
            raise ConfigError(
                "--labels is missing: the names of the classes in the network's order, without background"
            )
        labels = tuple(f"label {value}" for value in range(1, outputs))
        notes.append("the names of its labels are not known")
    if outputs is not None and len(labels) != outputs - 1:
        raise ConfigError(
            f"--labels names {len(labels)} classes, but the network has {outputs - 1} besides the background: "
            "name all of them, in its order"
        )
    if not labels:
        raise BundleError("the network has one output alone; expected the background and at least one label")
    segments = segments_of(dict(enumerate(labels, start=1)))
    return DatasetFacts(tuple(channel(name) for name in names), segments)


def _preprocessing(facts: BareFacts, channels: int, dims: int, notes: list[str]) -> PreprocessingSpec:
    given: Sequence[Normalization] = facts.normalization or ()
    if len(given) not in (1, channels):
        raise ConfigError(f"{len(given)} --normalization for {channels} channel(s); give one for all, or one for each")
    spacing: tuple[float | None, float, float] | None = None
    if facts.spacing_mm is None:
        notes.append("the spacing it was trained with is not known: voxels are taken as they are")
    elif len(facts.spacing_mm) != dims:
        raise ConfigError(f"--spacing {facts.spacing_mm} has {len(facts.spacing_mm)} numbers; the patch has {dims}")
    else:
        *first, j, i = facts.spacing_mm
        spacing = (first[0] if first else None, j, i)
    return PreprocessingSpec(
        normalization=tuple(given) if len(given) == channels else tuple(given) * channels,
        orientation=facts.orientation,
        axis_order=facts.axis_order,
        spacing_mm=spacing,
        resampling_order=3,
        coarse_axis_order=0,
    )
