"""As many volume selectors as the model has channels: the first is in MambaSegment.ui, the others are made here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from .parameter_node import channelVolume, setChannelVolume
from .scene_io import imageVolumes, modalityOf
from .volume_guess import Candidate, guessed

if TYPE_CHECKING:
    from MambaSegmentLib.manifest import Channel

_ROW_OF_FIRST = 2  # in the form; the model and a line about it are above


class ChannelInputs:
    """Args:
    ui: the named widgets of MambaSegment.ui; the first selector is bound to the parameter node by its property.
    onChosen: called after the user chose a volume for a channel beyond the first.
    """

    def __init__(self, ui: Any, onChosen: Callable[[], None]) -> None:
        self.ui = ui
        self.node: Any = None
        self.channels: Sequence[Channel] = ()
        self._onChosen = onChosen
        self._further: list[Any] = []
        self._updating = False

    def volumes(self) -> list[Any]:
        """One for each channel, None where none is chosen; without a model, that of the first selector."""
        count = max(1, len(self.channels))
        return [None] * count if self.node is None else [channelVolume(self.node, each) for each in range(count)]

    def show(self, node: Any, channels: Sequence[Channel]) -> None:
        """Another node, another model, or another choice in the node; without a node the selectors stay, empty."""
        self.node = node
        if node is not None and tuple(channels) != tuple(self.channels):
            self.channels = tuple(channels)
            self._remake()
        self._updating = True
        for index, selector in enumerate(self._further, start=1):
            selector.enabled = node is not None
            selector.setCurrentNode(None if node is None else channelVolume(node, index))
        self._updating = False

    def prefill(self) -> None:
        """Choose for each channel that has no volume the one that name and modality point at."""
        if self.node is None or not self.channels:
            return
        volumes, chosen = imageVolumes(slicer.mrmlScene), self.volumes()
        candidates = [Candidate(volume.GetName() or "", modalityOf(volume)) for volume in volumes]
        found = guessed(self.channels, candidates, [volumes.index(one) if one in volumes else None for one in chosen])
        for index, place in enumerate(found):
            if chosen[index] is None and place is not None:
                setChannelVolume(self.node, index, volumes[place])

    def _remake(self) -> None:
        first = self.channels[0] if self.channels else None
        self.ui.inputVolumeLabel.text = _labelOf(first) if first else _("Volume:")
        self.ui.inputVolumeSelector.toolTip = _toolTipOf(first) if first else _("The image to segment.")
        form = self.ui.inputsCollapsibleButton.layout()
        for selector in self._further:
            selector.setMRMLScene(None)
            form.removeRow(_ROW_OF_FIRST + 1)  # deletes both of its widgets
        self._further = [self._newRow(form, index, channel) for index, channel in enumerate(self.channels[1:], start=1)]

    def _newRow(self, form: Any, index: int, channel: Channel) -> Any:
        selector = slicer.qMRMLNodeComboBox()
        selector.objectName = f"inputVolumeSelector{index + 1}"
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.showChildNodeTypes = False
        selector.noneEnabled = True
        selector.addEnabled = False
        selector.removeEnabled = False
        selector.toolTip = _toolTipOf(channel)
        selector.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        selector.setMRMLScene(slicer.mrmlScene)
        selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda volume: self._onFurther(index, volume))
        form.insertRow(_ROW_OF_FIRST + index, qt.QLabel(_labelOf(channel)), selector)
        return selector

    def _onFurther(self, index: int, volume: Any) -> None:
        if self._updating or self.node is None:
            return
        setChannelVolume(self.node, index, volume)
        self._onChosen()


def _labelOf(channel: Channel) -> str:
    return f"{channel.name}:"


def _toolTipOf(channel: Channel) -> str:
    if channel.modality:
        return _("The image for the model's channel “{name}”, modality {modality}.").format(
            name=channel.name, modality=channel.modality
        )
    return _("The image for the model's channel “{name}”.").format(name=channel.name)
