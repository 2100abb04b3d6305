"""The command `mambatrain`: exit codes, messages, and the three commands one after the other."""

import subprocess
import sys

import pytest
from mambasegment_training import cli
from mambasegment_training.cli import main, parse_duration_s
from mambasegment_training.run_folder import read_run

from MambaSegmentLib.bundle import verify_bundle
from MambaSegmentLib.errors import ConfigError

TINY_NETWORK = [
    "network.options.init_filters=8",
    "network.options.blocks_down=[1, 1]",
    "network.options.blocks_up=[1]",
    "data.batch_size=1",
    "steps_per_epoch=2",
    "validation.every_epochs=1",
]


def fit_arguments(*more: str) -> list[str]:
    sets = [word for text in TINY_NETWORK for word in ("--set", text)]
    return ["--device", "cpu", *sets, *more]


def test_from_a_data_set_to_a_model_file(a_dataset, tmp_path, capsys):
    work, run, model = (tmp_path / name for name in ("work", "run", "boxes.safetensors"))
    names = ["--label", "1=grey box", "--label", "2=white box"]
    assert main(["prepare", str(a_dataset()), "-o", str(work), *names]) == 0
    captured = capsys.readouterr()
    assert "5 cases for training, 1 for validation" in captured.out
    assert "preprocessing 6/6" in captured.err

    recipe = tmp_path / "recipe.toml"
    recipe.write_text('epochs = 9\n[card]\nlicense = "CC0-1.0"\n', encoding="utf-8")
    config = ["--config", str(recipe), "--epochs", "2"]
    assert main(["fit", str(work), "-o", str(run), *fit_arguments(*config)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("2 epochs done, best: mean Dice 0.")
    assert "epoch 2: loss" in captured.err
    assert "grey box" in captured.err

    assert main(["fit", str(work), "-o", str(run), "--device", "cpu", "--resume", "--epochs", "3"]) == 0
    assert capsys.readouterr().out.startswith("3 epochs done")
    assert read_run(run).config.epochs == 3

    assert main(["export", str(run), "-o", str(model), "--half", "--device", "cpu"]) == 0
    assert "Dice on 1 validation cases: grey box" in capsys.readouterr().out
    assert verify_bundle(model).license == "CC0-1.0"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["prepare", "absent", "-o", "{tmp}/w"], 2, "absent is no data set"),
        (["prepare", "{boxes}", "-o", "{tmp}/w", "--label", "liver"], 2, "--label 'liver': expected VALUE=NAME"),
        (["prepare", "{boxes}", "-o", "{tmp}/w", "--validation-fraction", "2"], 2, "between 0 and 1"),
        (["prepare", "{boxes}", "-o", "{tmp}/w", "--validation-cases", "x,y"], 2, "'x' is not in the data set"),
        (["prepare", "{boxes}", "-o", "{tmp}/w", "--orientation", "XYZ"], 2, "XYZ"),
        (["prepare", "{boxes}", "-o", "{tmp}/w", "--patch-size", "64"], 2, "expected K,J,I such as 40,56,40"),
        (["prepare", "{boxes}", "-o", "{tmp}/w", "--resize", "224"], 2, "expected rows,columns such as 224,224"),
        (["prepare", "{boxes}", "-o", "{tmp}/w", "--normalization", "z"], 2, "normalization 'z' is not known"),
        (["prepare", "{boxes}", "-o", "{tmp}/w", "--splits", "{tmp}/none.json"], 2, "none.json does not exist"),
        (["prepare", "{boxes}", "-o", "{tmp}/w", "--profile", "acdc"], 2, "has no case of the profile 'acdc'"),
        (["fit", "{work}", "-o", "{tmp}/r", "--memory-gb", "0.0001"], 4, "0.0001 GB are allowed"),
        (["fit", "{tmp}", "-o", "{tmp}/r"], 2, "run `mambatrain prepare` first"),
        (["fit", "{work}", "-o", "{tmp}/r", "--set", "epoch=3"], 2, "unknown setting epoch; did you mean epochs?"),
        (["fit", "{work}", "-o", "{tmp}/r", "--config", "{tmp}/absent.toml"], 2, "cannot read"),
        (["fit", "{work}", "-o", "{tmp}/r", "--time-budget", "soon"], 2, "cannot read the time 'soon'"),
        (["fit", "{work}", "-o", "{tmp}/r", "--resume"], 2, "start it with `mambatrain fit"),
        (
            ["fit", "{work}", "-o", "{tmp}/r", "--resume", "--set", "seed=1"],
            2,
            "leave out --config, --set, --pretrained, --init-from, --fold and --memory-gb",
        ),
        (["fit", "{work}", "-o", "{tmp}/r", "--device", "cuda:99"], 4, "'cuda:99' is not there"),
        (["export", "{tmp}/r", "-o", "{tmp}/m.safetensors"], 2, "start it with `mambatrain fit"),
        (["export", "{tmp}/r", "-o", "{tmp}/m.pth"], 3, "must end in .safetensors"),
    ],
)
def test_wrong_use_gives_one_line_and_its_code(arguments, code, message, a_dataset, prepared, tmp_path, capsys):
    places = {"tmp": tmp_path, "boxes": a_dataset(2), "work": prepared.folder}
    assert main([argument.format(**places) for argument in arguments]) == code
    error = capsys.readouterr().err
    assert error.startswith("mambatrain: ")
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("arguments", ["", "fit", "sing", "export run", "fit w -o r --epochs x"])
def test_usage_errors(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    assert caught.value.code == 2


def test_another_works_run_is_not_resumed(prepared, tmp_path, capsys):
    assert main(["fit", str(prepared.folder), "-o", str(tmp_path / "r"), *fit_arguments("--epochs", "1")]) == 0
    assert main(["fit", str(tmp_path), "-o", str(tmp_path / "r"), "--resume"]) == 2
    assert "the run was started on" in capsys.readouterr().err


def test_a_bug_is_logged_and_told_in_one_line(monkeypatch, tmp_path, capsys):
    def fail(_):
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(cli, "_prepare", fail)
    monkeypatch.setattr("platformdirs.user_log_dir", lambda *_, **__: str(tmp_path / "logs"))
    assert main(["prepare", "x", "-o", "y"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "internal error: ZeroDivisionError('on purpose')" in error
    assert "Traceback" in (tmp_path / "logs" / "mambatrain.log").read_text(encoding="utf-8")


def test_ctrl_c_outside_of_the_loop(monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_prepare", interrupt)
    assert main(["prepare", "x", "-o", "y"]) == 130
    assert capsys.readouterr().err == "mambatrain: stopped\n"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("45s", 45), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), ("2d", 172800)]
)
def test_durations(text, seconds):
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "10 minutes", "-5m", "1h-30m", "0s", "1e3"])
def test_texts_that_are_no_duration(text):
    with pytest.raises(ConfigError):
        parse_duration_s(text)


def test_help_imports_nothing_heavy():
    code = (
        "import sys, mambasegment_training.cli as c; c._parser(); print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == ["False", "False"]
