"""A published file as the start of a training: which file it was and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from MambaSegmentLib.errors import BundleError, ConfigError
from MambaSegmentLib.importing.reading import read_checkpoint
from MambaSegmentLib.models import (
    PretrainedReport,
    encoder_to_freeze,
    load_pretrained,
    published_freeze_epochs,
)

from .config import PretrainedConfig, TrainingConfig
from .fine_tune import BundleStart, start_from_bundle
from .prepare import PreparedDataset


class Start(Protocol):
    """What a training began with, where its weights were not random; for pretrained.json and a log."""

    @property
    def file(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    def to_json(self) -> dict[str, Any]: ...

    def summary(self) -> str: ...


@dataclass(frozen=True)
class PretrainedStart:
    """What a training began with.

    Attributes:
        file, sha256: which file it was.
        report: where each of its tensors went.
        encoder_only, freeze_epochs: how it was used.
        frozen: the parameters that were held still at first.
    """

    file: str
    sha256: str
    report: PretrainedReport
    encoder_only: bool
    freeze_epochs: int
    frozen: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The content of pretrained.json."""
        report = self.report
        return {
            "file": self.file,
            "sha256": self.sha256,
            "encoder_only": self.encoder_only,
            "freeze_epochs": self.freeze_epochs,
            "parameters_loaded": report.parameters_loaded,
            "parameters_total": report.parameters_total,
            "loaded": dict(report.sources),
            "afresh": list(report.afresh),
            "not_used": list(report.not_used),
            "frozen": list(self.frozen),
        }

    def summary(self) -> str:
        """One line for a log."""
        held = f"; {len(self.frozen)} of them held still for {self.freeze_epochs} epochs" if self.freeze_epochs else ""
        return f"{Path(self.file).name}: {self.report.summary()}{held}"


def start_from(
    network: nn.Module, config: PretrainedConfig, dataset: PreparedDataset
) -> PretrainedStart | BundleStart | None:
    """Put the weights of the configured file into a freshly built network; None without a file.

    Raises:
        ConfigError: a network that has no place for them, or settings without a file.
        BundleError: a file that cannot be used; the message names it.
    """
    if config.file is None:
        if config.encoder_only or config.freeze_epochs:
            raise ConfigError("pretrained.encoder_only and pretrained.freeze_epochs need pretrained.file, the weights")
        return None if config.bundle is None else start_from_bundle(network, Path(config.bundle), dataset)
    file = read_checkpoint(Path(config.file))
    try:
        report = load_pretrained(network, file.weights, encoder_only=config.encoder_only)
    except BundleError as problem:
        raise BundleError(f"{config.file}: {problem}") from problem
    epochs = freeze_epochs_of(network, config)
    frozen = tuple(encoder_to_freeze(network)) if epochs else ()
    return PretrainedStart(config.file, file.sha256, report, config.encoder_only, epochs, frozen)


def freeze_epochs_of(network: nn.Module, config: PretrainedConfig) -> int:
    """For how many epochs the pretrained encoder is held still; as the network's authors do where nothing is said."""
    if config.file is None:
        return 0
    return published_freeze_epochs(network) if config.freeze_epochs is None else config.freeze_epochs


def check_same_file(start: Start, record: Mapping[str, Any]) -> None:
    """Raises ConfigError when the file is not the one that the run was started with."""
    if start.sha256 != record["sha256"]:
        raise ConfigError(
            f"{start.file} is not the file that the run was started with (SHA-256 {record['sha256']}, now "
            f"{start.sha256}), and nothing was trained yet; put the old one back, or start a new run"
        )


def with_absolute_files(config: TrainingConfig) -> TrainingConfig:
    """A run may be resumed from another folder."""
    named = {name: getattr(config.pretrained, name) for name in ("file", "bundle")}
    paths: dict[str, Any] = {name: str(Path(path).resolve()) for name, path in named.items() if path is not None}
    return replace(config, pretrained=replace(config.pretrained, **paths))
