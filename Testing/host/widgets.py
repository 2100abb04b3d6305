"""Imports every file with stand-ins, so that all are registered."""

from Testing.host import (
    ctk_containers,
    ctk_inputs,
    ctk_numbers,
    module_manager,
    mrml_widgets,
    node_selectors,
    segment_editor,
    segment_widgets,
)

__all__ = [
    "ctk_containers",
    "ctk_inputs",
    "ctk_numbers",
    "module_manager",
    "mrml_widgets",
    "node_selectors",
    "segment_editor",
    "segment_widgets",
]
