"""Make the tables and pictures of docs/networks.md anew: `python -m Testing.networks_page`."""

from MambaSegmentLib.files import atomic_path

from .drawing import draw
from .page import PAGE, PICTURES, made_blocks, picture_of, pictured, with_blocks
from .structure import structure_of


def main() -> None:
    page = with_blocks(PAGE.read_text("utf-8"), made_blocks())
    with atomic_path(PAGE) as path:
        path.write_text(page, encoding="utf-8")
    PICTURES.mkdir(parents=True, exist_ok=True)
    for network in pictured():
        draw(structure_of(network), picture_of(network))
    print(f"{PAGE} and {PICTURES} are up to date")


if __name__ == "__main__":
    main()
