"""The networks of the literature, built by name, and the weights their authors published."""

from .published import LoadReport, load_published_weights
from .registry import ARCHITECTURES, Architecture, build_model

__all__ = ["ARCHITECTURES", "Architecture", "LoadReport", "build_model", "load_published_weights"]
