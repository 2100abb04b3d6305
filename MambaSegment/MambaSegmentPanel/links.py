"""Where to read on."""

HOMEPAGE = "https://github.com/MambaSegment/SlicerMambaSegment"
TUTORIAL = f"{HOMEPAGE}/blob/main/docs/tutorial.md"
