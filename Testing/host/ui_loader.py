"""`qt.QUiLoader` that knows the stand-ins, refuses widgets it does not know, and connects Python slots."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QObject
from PySide6.QtUiTools import QUiLoader
from PySide6.QtWidgets import QWidget

from Testing.host.registry import STAND_INS


class UiLoader(QUiLoader):
    """`load(device, parent)` as in Qt."""

    def createWidget(self, className: str, parent: QWidget | None = None, name: str = "") -> QWidget:
        if className not in STAND_INS:
            return QUiLoader.createWidget(self, className, parent, name)
        widget = STAND_INS[className](parent)
        widget.setObjectName(name)
        return widget

    def load(self, device: QIODevice, parent: QWidget | None = None) -> QWidget:
        """Raises: ValueError for a custom widget without stand-in, and for connections that cannot be made."""
        root = ET.fromstring(bytes(device.readAll().data()))
        self._refuseUnknownWidgets(root)
        connections = root.find("connections")
        if connections is not None:  # Qt does not know the stand-ins' Python slots, so they are connected below
            root.remove(connections)
        buffer = QBuffer()
        buffer.setData(QByteArray(ET.tostring(root)))
        buffer.open(QIODevice.OpenModeFlag.ReadOnly)
        widget = QUiLoader.load(self, buffer, parent)
        if widget is not None:
            for connection in connections if connections is not None else ():
                _connect(widget, connection)
        return widget

    def _refuseUnknownWidgets(self, root: ET.Element) -> None:
        known = set(STAND_INS) | set(self.availableWidgets())
        classes = {each.get("class", "") for each in root.iter("widget")}
        unknown = sorted(classes - known)
        if unknown:
            raise ValueError(f"the host has no stand-in for {', '.join(unknown)}; add it to Testing/host")


def _connect(root: QWidget, connection: ET.Element) -> None:
    text: dict[str, Any] = {each.tag: each.text or "" for each in connection}
    sender, receiver = _named(root, text["sender"]), _named(root, text["receiver"])
    sender.connect(text["signal"], receiver, text["slot"])  # type: ignore[call-overload]  # the dialect's connect


def _named(root: QWidget, name: str) -> QObject:
    found = root if root.objectName == name else root.findChild(QObject, name)
    if found is None:
        raise ValueError(f"a connection in the .ui file names {name!r}, which is no object in it")
    return found
