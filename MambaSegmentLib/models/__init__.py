"""The networks of the literature, built by name, and the weights their authors published."""

from .pretrained import PretrainedReport, encoder_to_freeze, load_pretrained, published_freeze_epochs
from .published import LoadReport, load_published_weights
from .registry import ARCHITECTURES, Architecture, build_model

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "LoadReport",
    "PretrainedReport",
    "build_model",
    "encoder_to_freeze",
    "load_pretrained",
    "load_published_weights",
    "published_freeze_epochs",
]
