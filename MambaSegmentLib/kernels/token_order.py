"""The order in which a scan visits its tokens, as numbers that a kernel turns into addresses."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenOrder:
    """Step t visits token i0 s0 + i1 s1 + i2 s2 where t = (i0 n1 + i1) n2 + i2; from the last step if reversed.

    Attributes:
        sizes: (n0, n1, n2), slowest first; their product is the length.
        strides: (s0, s1, s2), in tokens.
        is_reversed: t counts from the end.
    """

    sizes: tuple[int, int, int]
    strides: tuple[int, int, int]
    is_reversed: bool = False

    @property
    def is_in_memory_order(self) -> bool:
        """Token after token, or, reversed, before token."""
        return self.sizes[:2] == (1, 1) and self.strides[2] == 1


def in_memory_order(length: int) -> TokenOrder:
    """Token after token."""
    return TokenOrder((1, 1, length), (0, 0, 1))
