"""What became of a case."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .. import errors

DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        fingerprint: of its inputs, the model and the options; another one means that it must be done again.
        seconds: that it took.
        segments: value, name and figures of each (`SegmentStatistics`).
        kind, message, advice: of a failure, as the worker tells them.
        warnings: about the images of a case that was done.
    """

    case: str
    status: str
    inputs: tuple[str, ...]
    output: str
    fingerprint: str
    seconds: float = 0.0
    segments: tuple[Mapping[str, Any], ...] = ()
    kind: str = ""
    message: str = ""
    advice: str = ""
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Outcome":
        """Raises: TypeError, KeyError, when it is none."""
        listed = {"inputs": tuple(document["inputs"]), "segments": tuple(document["segments"])}
        listed["warnings"] = tuple(document.get("warnings", ()))  # older journals have none
        return cls(**{**document, **listed})

    @property
    def exit_code(self) -> int:
        if self.status == DONE:
            return 0
        kind = getattr(errors, self.kind, None)
        return kind.exit_code if isinstance(kind, type) and issubclass(kind, errors.MambaSegmentError) else 1


def figures(segments: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """What a worker tells of segments, without that which is the model's and the same for all cases."""
    looks = ("color", "terminology")
    return tuple({key: value for key, value in segment.items() if key not in looks} for segment in segments)


def common_exit_code(outcomes: "list[Outcome]") -> int:
    """0 when all went well, 1 after a bug, else the code of all failures, or 2 where they differ."""
    codes = {outcome.exit_code for outcome in outcomes} - {0}
    if not codes:
        return 0
    return 1 if 1 in codes else codes.pop() if len(codes) == 1 else errors.MambaSegmentError.exit_code
