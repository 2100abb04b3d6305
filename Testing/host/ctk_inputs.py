"""Stand-ins for the input widgets of CTK: boxes, buttons, paths, texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import Property, QModelIndex, Qt, Signal
from PySide6.QtGui import QColor, QStandardItemModel
from PySide6.QtWidgets import (
    QCheckBox,
    QColorDialog,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QTextBrowser,
    QToolButton,
    QWidget,
)

from Testing.host.registry import standIn, stored


@standIn
class ctkCheckBox(QCheckBox):
    """A check box with icons."""


@standIn
class ctkComboBox(QComboBox):
    """Shows `defaultText` while nothing is chosen."""

    defaultText = stored(str, "", lambda self: self.setPlaceholderText(self.defaultText))
    elideMode = stored("QVariant", 0)
    scrollWheelEffect = stored("QVariant", 0)
    currentUserDataAsString = Property(
        str,
        lambda self: str(self.currentData or ""),
        lambda self, text: self.setCurrentIndex(self.findData(text)),
    )


@standIn
class ctkCheckableComboBox(QComboBox):
    """A box whose entries can be ticked."""

    checkedIndexesChanged = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setModel(QStandardItemModel(0, 1, self))
        self.model().rowsInserted.connect(self.__onRowsInserted)
        self.model().itemChanged.connect(lambda _item: self.checkedIndexesChanged.emit())

    def checkableModel(self) -> Any:
        return self.model()

    def checkState(self, index: QModelIndex) -> Any:
        return self.model().itemFromIndex(index).checkState()

    def setCheckState(self, index: QModelIndex, state: Any) -> None:
        self.model().itemFromIndex(index).setCheckState(Qt.CheckState(state))

    def checkedIndexes(self) -> tuple[QModelIndex, ...]:
        return tuple(index for index in self.__indexes() if self.checkState(index) == Qt.CheckState.Checked)

    def allChecked(self) -> bool:
        return len(self.checkedIndexes()) == self.count

    def noneChecked(self) -> bool:
        return not self.checkedIndexes()

    def __indexes(self) -> list[QModelIndex]:
        return [self.model().index(row, 0) for row in range(self.count)]

    def __onRowsInserted(self, _parent: QModelIndex, first: int, last: int) -> None:
        for row in range(first, last + 1):
            item = self.model().item(row)
            item.setCheckable(True)
            item.setCheckState(Qt.CheckState.Unchecked)


@standIn
class ctkSearchBox(QLineEdit):
    """A line with a magnifying glass and a button that clears it."""

    showSearchIcon = stored(bool, False)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setPlaceholderText("Search...")
        self.setClearButtonEnabled(True)


@standIn
class ctkPathLineEdit(QWidget):
    """A path, typed or browsed for; the line inside is a QLineEdit."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    # QDir's filter values, which CTK uses
    Dirs, Files, Drives, NoSymLinks = 0x001, 0x002, 0x004, 0x008
    Readable, Writable, Executable = 0x010, 0x020, 0x040

    filters = stored("QVariant", 0x001 | 0x002 | 0x010)
    nameFilters = stored("QStringList", ())
    settingKey = stored(str, "")
    label = stored(str, "")
    showBrowseButton = stored(bool, True, lambda self: self.__browse.setVisible(self.showBrowseButton))
    showHistoryButton = stored(bool, True)
    sizeAdjustPolicy = stored("QVariant", 0)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.__line, self.__browse = QLineEdit(), QToolButton()
        self.__browse.setText("…")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.__line)
        layout.addWidget(self.__browse)
        self.__line.textChanged.connect(self.__onText)
        self.__browse.clicked.connect(self.browse)

    def setCurrentPath(self, path: str) -> None:
        if not isinstance(path, str):
            raise ValueError(f"a path is given as str, not {path!r}")
        self.__line.setText(path)

    currentPath = Property(str, lambda self: self.__line.text, setCurrentPath)

    def lineEdit(self) -> QLineEdit:  # the part that a test types into; not in CTK
        return self.__line

    def browse(self) -> None:
        if int(self.filters) & self.Files:
            chosen = QFileDialog.getOpenFileName(self, self.label, self.currentPath, ";;".join(self.nameFilters))
        else:
            chosen = QFileDialog.getExistingDirectory(self, self.label, self.currentPath)
        if chosen:
            self.setCurrentPath(chosen)

    def addCurrentPathToHistory(self) -> None:
        """The history is not imitated."""

    def retrieveHistory(self) -> None:
        """The history is not imitated."""

    def __onText(self, text: str) -> None:
        self.currentPathChanged.emit(text)
        self.validInputChanged.emit(Path(text).exists())


@standIn
class ctkDirectoryButton(QWidget):
    """A button that shows a folder and lets another be chosen; always an absolute path."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    caption = stored(str, "")
    text = stored(str, "")

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.__button, self.__directory = QPushButton(), str(Path.cwd())
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.__button)
        self.__button.clicked.connect(self.browse)

    def setDirectory(self, directory: str) -> None:
        absolute = str(Path(directory).absolute())
        if absolute != self.__directory:
            self.__directory = absolute
            self.__button.setText(self.text or absolute)
            self.directoryChanged.emit(absolute)

    directory = Property(str, lambda self: self.__directory, setDirectory)

    def browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, self.caption, self.__directory)
        if chosen:
            self.setDirectory(chosen)
            self.directorySelected.emit(chosen)


@standIn
class ctkCheckablePushButton(QPushButton):
    """A push button with a check box in it; here the box has no picture."""

    checkBoxToggled = Signal(bool)
    checkBoxControlsButton = stored(bool, True)
    checkBoxControlsButtonToggleState = stored(bool, True)
    checkState = stored(
        "QVariant",
        Qt.CheckState.Unchecked,
        lambda self: self.checkBoxToggled.emit(self.checkState == Qt.CheckState.Checked),
    )


@standIn
class ctkMenuButton(QPushButton):
    """A button whose arrow opens a menu."""


@standIn
class ctkMessageBox(QMessageBox):
    """A message box with "don't show again"; while that is stored, `exec_` returns the stored button at once."""

    dontShowAgain = stored(bool, False)
    dontShowAgainVisible = stored(bool, False)
    dontShowAgainSettingsKey = stored(str, "")

    def addDontShowAgainButtonRole(self, _role: Any) -> None:
        """Which buttons may be stored is not imitated."""


@standIn
class ctkFittedTextBrowser(QTextBrowser):
    """A text that is as high as its contents, with a part that folds away."""

    collapsed = stored(bool, True, lambda self: self.__show())
    showDetailsText = stored(str, "Show details...")
    hideDetailsText = stored(str, "Hide details.")

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.__text = ""

    def setCollapsibleText(self, text: str) -> None:
        """What lies below the first line is shown only when unfolded."""
        self.__text = text
        self.__show()

    setCollapsibleHtml = setCollapsiblePlainText = setCollapsibleText

    def collapsibleText(self) -> str:
        return self.__text

    def __show(self) -> None:
        first, _, rest = self.__text.partition("<br>")
        link = self.showDetailsText if self.collapsed else self.hideDetailsText
        shown = first if self.collapsed else f"{first}<br>{rest}"
        self.setHtml(f'{shown} <a href="#details">{link}</a>' if rest else shown)


@standIn
class ctkColorPickerButton(QPushButton):
    """Shows a colour and asks for another."""

    colorChanged = Signal(QColor)
    displayColorName = stored(bool, True)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.__color = QColor(Qt.GlobalColor.black)
        self.clicked.connect(self.changeColor)

    def setColor(self, color: QColor) -> None:
        if not isinstance(color, QColor):
            raise ValueError(f"{color!r} is no QColor")
        if color != self.__color:
            self.__color = QColor(color)
            self.setText(color.name() if self.displayColorName else "")
            self.colorChanged.emit(self.__color)

    color = Property(QColor, lambda self: self.__color, setColor)
    colorName = Property(str, lambda self: self.__color.name())

    def changeColor(self) -> None:
        chosen = QColorDialog.getColor(self.__color, self)
        if chosen.isValid():
            self.setColor(chosen)
