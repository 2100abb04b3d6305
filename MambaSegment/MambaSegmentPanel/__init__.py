"""The panel of the Slicer module: what is shown, what was chosen, and what the scene gives.

A package rather than loose files, since Slicer takes every .py file beside MambaSegment.py for a module.
"""
