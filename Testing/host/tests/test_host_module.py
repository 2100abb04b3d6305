"""A scripted module lives in the host as in Slicer: loaded, opened, left, scene closed, reloaded, unloaded."""

import slicer


def test_our_module_opens(host):
    module = host.load_module()
    assert (module.name, module.title) == ("MambaSegment", "MambaSegment")
    widget = host.enter("MambaSegment")
    assert slicer.util.getModuleWidget("MambaSegment") is widget
    assert slicer.util.getModuleLogic("MambaSegment") is widget.logic
    assert widget.parent.isEntered
