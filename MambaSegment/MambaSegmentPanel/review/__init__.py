"""The review of a segmentation: `section.py` shows it, everything it decides is in the other files, without widgets."""
