"""What can be measured on a segmentation: arrays in, numbers out; imports neither torch nor Slicer."""
