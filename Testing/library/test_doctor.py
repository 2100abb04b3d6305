import json

import torch

from MambaSegmentLib import __version__, doctor


def test_the_report_is_json_and_names_what_is_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    report = json.loads(json.dumps(doctor.examine()))
    assert report["mambasegment"] == __version__
    assert report["packages"]["torch"] == torch.__version__
    assert report["device"] in [device["name"] for device in report["devices"]]
    assert report["kernel"] in [kernel["name"] for kernel in report["kernels"] if kernel["available"]]
    assert 0 < report["memory"]["available_bytes"] <= report["memory"]["total_bytes"]


def test_the_text_shows_every_finding():
    report = doctor.examine()
    report["advice"] = ["install this"]
    text = doctor.as_text(report)
    for name in [*report["packages"], *(kernel["name"] for kernel in report["kernels"])]:
        assert name in text
    assert "! install this" in text


def test_advice_says_what_and_why():
    report = {
        "packages": {"torch": None, "numba": None},
        "kernels": [
            {"name": "numba", "available": False, "reason": "not installed: pip install numba", "devices": ["cpu"]},
            {"name": "cuda", "available": False, "reason": "no GPU here: never mentioned", "devices": ["cuda"]},
            {"name": "chunked", "available": True, "reason": "", "devices": ["cpu", "cuda"]},
        ],
        "kernel": "chunked",
        "device": "cpu",
        "memory": {"available_bytes": 1e9, "total_bytes": 8e9},
        "store": {"models": [], "folders": []},
    }
    missing, kernel, memory, models = doctor._advice(report)
    assert missing == "torch is missing and needed: pip install torch"
    assert "pip install numba" in kernel
    assert "less than 4 GB" in memory
    assert "no model" in models
