"""Train segmentation networks on folders of images and labels, and export them as one file for Slicer and shell."""

__version__ = "0.1.0"
