"""A model file as the start of a training: its network, as many of its weights as fit, and what became of the rest."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from MambaSegmentLib.bundle import Manifest, read_bundle, read_manifest
from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.models import build_model

from .config import NetworkConfig, TrainingConfig
from .prepare import PreparedDataset

_FROM_DATA = ("in_channels", "num_classes", "deep_supervision", "input_size", "activation_checkpointing")


@dataclass(frozen=True)
class BundleStart:
    """What a training went on from.

    Attributes:
        file, sha256, name: which model it was.
        afresh: the parameters that start as a new network's, since the outputs are others.
        remarks: what the user should know.
    """

    file: str
    sha256: str
    name: str
    loaded: int
    afresh: tuple[str, ...]
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The content of pretrained.json."""
        return {
            "file": self.file,
            "sha256": self.sha256,
            "model": self.name,
            "encoder_only": False,
            "freeze_epochs": 0,
            "parameters_loaded": self.loaded,
            "parameters_total": self.loaded + len(self.afresh),
            "afresh": list(self.afresh),
            "remarks": list(self.remarks),
        }

    def summary(self) -> str:
        """One line for a log."""
        head = f"{Path(self.file).name}: {self.loaded} tensors of the model {self.name!r} loaded"
        return "; ".join([head, *self.remarks])


def with_network_of_bundle(config: TrainingConfig) -> TrainingConfig:
    """Take the network of the model that the training goes on from, where the recipe names none.

    Raises:
        BundleError: a file that is no model.
    """
    if config.pretrained.bundle is None or config.network != NetworkConfig():
        return config
    manifest = read_manifest(Path(config.pretrained.bundle))
    options = {name: value for name, value in manifest.architecture_options.items() if name not in _FROM_DATA}
    return replace(config, network=NetworkConfig(manifest.architecture_name, options))


def start_from_bundle(network: nn.Module, path: Path, dataset: PreparedDataset) -> BundleStart:
    """Put the weights of a model file's first fold into a freshly built network.

    Where the labels are others than the model's, by name or number, the layers that depend on their number start anew.

    Raises:
        ConfigError: another network, or other channels. BundleError: a file that cannot be used.
    """
    bundle = read_bundle(path)
    manifest, weights = bundle.manifest, bundle.folds[0]
    _check_architecture(network, manifest, path)
    _check_channels(manifest, dataset, path)
    remarks = list(_remarks(manifest, dataset, len(bundle.folds)))
    head = _head(manifest) if _outputs(manifest) != _outputs_of(dataset) else set()
    if head:
        remarks.append(
            f"its outputs {_outputs(manifest)} are not those of the data {_outputs_of(dataset)}: the last layers "
            f"({len(head)} tensors) start anew"
        )
    own = network.state_dict()
    complete = _with_aliases(own, weights)
    unfit = [
        name
        for name, tensor in own.items()
        if name not in head and (name not in complete or complete[name].shape != tensor.shape)
    ]
    if unfit:
        raise ConfigError(
            f"{path} does not fit the network of the recipe: {unfit[0]} is of another shape or missing there; leave "
            f"out [network], or use the model's options {dict(manifest.architecture_options)}"
        )
    taken = {name: complete[name] for name in own if name not in head}
    network.load_state_dict({**own, **taken})
    return BundleStart(str(path), manifest.sha256 or "", manifest.name, len(taken), tuple(sorted(head)), tuple(remarks))


def _check_architecture(network: nn.Module, manifest: Manifest, path: Path) -> None:
    own = getattr(network, "architecture_name", type(network).__name__)
    if own != manifest.architecture_name:
        raise ConfigError(
            f"{path} is a {manifest.architecture_name}, but network.name is {own}; leave out [network] to take the "
            "model's"
        )


def _check_channels(manifest: Manifest, dataset: PreparedDataset, path: Path) -> None:
    theirs = [channel.name for channel in manifest.channels]
    if len(theirs) != len(dataset.channels):
        raise ConfigError(
            f"{path} takes {len(theirs)} channel(s) {theirs}, but the data has {len(dataset.channels)} "
            f"{list(dataset.channels)}; prepare the data with the model's channels"
        )


def _remarks(manifest: Manifest, dataset: PreparedDataset, folds: int) -> list[str]:
    remarks = []
    if folds > 1:
        remarks.append(f"the first of its {folds} folds")
    theirs = [channel.name for channel in manifest.channels]
    if theirs != list(dataset.channels):
        remarks.append(f"its channels are named {theirs}, those of the data {list(dataset.channels)}")
    if manifest.preprocessing.to_json() != dataset.preprocessing.to_json():
        remarks.append("it was trained with another preprocessing, so it may need longer to adapt")
    return remarks


def _outputs(manifest: Manifest) -> list[str]:
    return [entry.name for entry in manifest.regions or manifest.segments]


def _outputs_of(dataset: PreparedDataset) -> list[str]:
    return [region.name for region in dataset.regions] or list(dataset.labels.values())


def _head(manifest: Manifest) -> set[str]:
    """Names of the tensors whose shape follows from the number of outputs."""
    options = dict(manifest.architecture_options)
    with torch.device("meta"):
        shapes = [
            {name: tensor.shape for name, tensor in _state(manifest, options, classes).items()}
            for classes in (options["num_classes"], options["num_classes"] + 1)
        ]
    return {name for name, shape in shapes[0].items() if shapes[1].get(name) != shape}


def _state(manifest: Manifest, options: Mapping[str, Any], classes: int) -> dict[str, Tensor]:
    return build_model(manifest.architecture_name, {**options, "num_classes": classes}).state_dict()


def _with_aliases(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a tensor that was stored once to all the names that share its memory in the network."""
    complete, first = dict(weights), dict[Any, str]()
    for name in sorted(own):
        original = first.setdefault((own[name].data_ptr(), own[name].shape), name)
        if name not in complete and original in complete:
            complete[name] = complete[original]
    return complete
