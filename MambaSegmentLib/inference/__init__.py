"""From a prepared volume to class scores, tile by tile, and from a volume to labels."""
