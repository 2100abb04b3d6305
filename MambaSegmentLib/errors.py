"""Every error that a user of the library can meet, in one small tree.

MambaSegmentError
├── ConfigError     an option or argument that makes no sense          (also ValueError; exit code 2)
├── ShapeError      an array that a network or kernel cannot take      (also ValueError; exit code 2)
├── ImageError      an image that cannot be read, used or written      (exit code 2)
├── GeometryError   spacing, direction or grids that do not fit        (exit code 2)
├── BundleError     a model file that cannot be used                   (exit code 3)
├── ResourceError   not enough memory, disk or device                  (exit code 4)
└── Cancelled       the user asked to stop                             (exit code 130)

A message says what came, what was expected and what to do. Whatever is not in this tree is a bug.
"""


class MambaSegmentError(Exception):
    """Base of all errors that are the world's fault rather than the code's."""

    exit_code = 2


class ConfigError(MambaSegmentError, ValueError):
    """An option, argument or configuration that makes no sense."""


class ShapeError(MambaSegmentError, ValueError):
    """An array whose shape or dtype a network, loss or kernel cannot take."""


class ImageError(MambaSegmentError):
    """An image that cannot be read, used or written."""


class GeometryError(MambaSegmentError):
    """Spacing, direction or grids that are impossible or do not fit each other."""


class BundleError(MambaSegmentError):
    """A model file that is missing, damaged, unknown or incomplete."""

    exit_code = 3


class ResourceError(MambaSegmentError):
    """Not enough memory, disk space or device."""

    exit_code = 4


class Cancelled(MambaSegmentError):  # noqa: N818  (a request that was met, not a failure)
    """The user asked to stop."""

    exit_code = 130
