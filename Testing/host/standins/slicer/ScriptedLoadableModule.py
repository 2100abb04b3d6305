"""Stand-ins for the four base classes of scripted modules; behaviour after the fact sheet on the module API."""

import logging
import unittest
from pathlib import Path

import ctk
import qt
import slicer
from slicer.i18n import tr as _


class ScriptedLoadableModule:
    """What is known of a module before it is opened."""

    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = self.moduleName
        parent.contributors = [_("Unknown contributor")]
        parent.helpText = _("No help text.")
        icon = next((file for ending in ("svg", "png") if (file := self._icon(ending)).is_file()), None)
        if icon is not None:
            parent.icon = qt.QIcon(str(icon))
        if not hasattr(slicer, "selfTests"):
            slicer.selfTests = {}
        slicer.selfTests[self.moduleName] = self.runTest

    def _icon(self, ending: str) -> Path:
        return Path(self.resourcePath(f"Icons/{self.moduleName}.{ending}"))

    def resourcePath(self, fileName: str) -> str:
        return str(Path(self.parent.path).parent / "Resources" / fileName)

    def getDefaultModuleDocumentationLink(self, docPage=None) -> str:
        page = docPage or f"user_guide/modules/{self.moduleName.lower()}.html"
        return f'<a href="{slicer.app.documentationBaseUrl}/{page}">{_("documentation")}</a>'

    def runTest(self, msec=100, **kwargs):
        """Run the test class of the module's file."""
        import importlib

        test = getattr(importlib.import_module(self.moduleName), f"{self.moduleName}Test")()
        test.messageDelay = msec
        test.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """The Python half of a module's panel."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        self.parent = parent if parent is not None else self._windowOfItsOwn()
        self.layout = self.parent.layout()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)
        if parent is None:
            self.setup()
            self.parent.show()

    def _windowOfItsOwn(self):
        window = slicer.qMRMLWidget()
        window.setLayout(qt.QVBoxLayout())
        window.setMRMLScene(slicer.mrmlScene)
        return window

    def _onModuleAboutToBeUnloaded(self, moduleName):
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def setup(self):
        if self.developerMode:
            self._addReloadAndTest()

    def _addReloadAndTest(self):
        section = ctk.ctkCollapsibleButton()
        section.text = _("Reload && Test")
        section.collapsed = True
        self.layout.addWidget(section)
        row = qt.QHBoxLayout(section)
        for attribute, text, slot in (
            ("reloadButton", _("Reload"), self.onReload),
            ("reloadAndTestButton", _("Reload and Test"), self.onReloadAndTest),
            ("editSourceButton", _("Edit"), self.onEditSource),
        ):
            button = qt.QPushButton(text)
            button.connect("clicked()", slot)
            row.addWidget(button)
            setattr(self, attribute, button)

    def cleanup(self):
        """Overridden by modules that hold observers, timers or processes."""

    def enter(self):
        """Overridden."""

    def exit(self):
        """Overridden."""

    def setEditedNode(self, node, role="", context=""):
        return False

    def nodeEditable(self, node):
        return 0.5 if node.GetClassName() in slicer.util.getModule(self.moduleName).associatedNodeTypes else 0.0

    def resourcePath(self, fileName: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / fileName)

    def onReload(self):
        logging.debug("reloading %s", self.moduleName)
        slicer.util.reloadScriptedModule(self.moduleName)

    def onReloadAndTest(self, **kwargs):
        self.onReload()
        self.onTest(**kwargs)

    def onTest(self, **kwargs):
        slicer.selfTests[self.moduleName](**kwargs)

    def onEditSource(self):
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(slicer.util.modulePath(self.moduleName)))


class ScriptedLoadableModuleLogic:
    """What a module does without widgets; keeps the parameter node."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node is not None:
                return node
        return next(iter(self.getAllParameterNodes()), None) or self.createParameterNode()

    def getAllParameterNodes(self):
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self):
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetModuleName(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return slicer.mrmlScene.AddNode(node)


class ScriptedLoadableModuleTest(unittest.TestCase):
    """The self-test of a module; an exception ends the run."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.messageDelay = 100

    @property
    def moduleTestNames(self):
        return [name for name in dir(self) if "test" in name and name not in dir(ScriptedLoadableModuleTest)]

    def delayDisplay(self, message, requestedDelay=None, msec=None):
        delay = next((each for each in (requestedDelay, msec) if each is not None), self.messageDelay)
        slicer.util.delayDisplay(message, min(delay, 100))  # below 400 ms Slicer shows no window

    def takeScreenshot(self, name, description, type=-1):
        logging.info("screenshot %s: %s", name, description)

    def runTest(self, **_kwargs):
        type(self).setUpClass()
        for name in self.moduleTestNames:
            if callable(getattr(self, name)):
                self.setUp()
                getattr(self, name)()
                self.tearDown()
        type(self).tearDownClass()
