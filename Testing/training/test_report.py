"""The page and its JSON: whole, without anything from elsewhere, and with foreign text made harmless."""

import json
import re

import pytest
from mambasegment_training.prepare import prepare

from MambaSegmentLib.errors import ImageError

from .conftest import labelled_case, write_case


def test_the_report_of_a_good_data_set(a_dataset, tmp_path):
    prepare(a_dataset(), tmp_path / "work", label_names={1: "grey <b>", 2: "white"})
    page = (tmp_path / "work" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 6
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert "grey &lt;b&gt;" in page
    assert "grey <b>" not in page
    assert "Nothing to look at" in page
    report = json.loads((tmp_path / "work" / "report.json").read_text(encoding="utf-8"))
    assert (report["cases"], report["errors"], report["warnings"], report["findings"]) == (6, 0, 0, [])
    assert [row["cases"] for row in report["labels"]] == [6, 6]
    assert report["labels"][0]["median_mm3"] == 4 * 5 * 5  # of the box
    assert set(report["plan"]["topologies"]) == {"2d", "3d"}


def test_what_is_found_is_shown_and_refused_if_strict(a_dataset, tmp_path):
    source = a_dataset()
    write_case(source, "twin", *labelled_case(0))
    prepare(source, tmp_path / "work")
    report = json.loads((tmp_path / "work" / "report.json").read_text(encoding="utf-8"))
    (finding,) = report["findings"]
    assert (finding["kind"], finding["cases"]) == ("duplicate image", ["case_000", "twin"])
    page = (tmp_path / "work" / "report.html").read_text(encoding="utf-8")
    assert page.count('<figure class="flagged">') == 2
    with pytest.raises(ImageError, match=r"the data set has 1 fault\(s\):\n  case_000, twin have the same voxels"):
        prepare(source, tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict" / "dataset.json").exists()


def test_a_declared_label_that_no_case_has_is_refused(a_dataset, tmp_path):
    with pytest.raises(ImageError, match=r"label 3 \(lesion\) is declared, and no case has a voxel of it"):
        prepare(a_dataset(), tmp_path / "work", label_names={1: "grey", 2: "white", 3: "lesion"})
