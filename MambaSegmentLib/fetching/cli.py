"""`mambasegment models add` and `mambasegment models remove`."""

import argparse
import json
from typing import Any

from ..console import ProgressPrinter, end_with_input
from ..progress import CancelToken, Progress, ProgressCallback


def add_parsers(actions: Any) -> None:
    adding = actions.add_parser(
        "add",
        help="put a model file, or one from the web, into your folder for models",
        description="Copy a model file, or download it by https, into your folder for models, and check it. A download "
        "that was interrupted goes on when it is started again.",
        allow_abbrev=False,
    )
    adding.add_argument("source", metavar="FILE|URL", help="an https address may end in #sha256=DIGITS")
    adding.add_argument("--sha256", default="", metavar="DIGITS", help="checksum of the whole file")
    adding.add_argument("--replace", action="store_true", help="put it in the place of another model of its name")
    adding.add_argument("--quiet", action="store_true", help="no progress")
    adding.add_argument("--json", action="store_true", help="print progress and result as JSON lines")
    adding.add_argument("--end-with-input", action="store_true", help="for programs: stop when standard input ends")
    adding.set_defaults(run=_add)
    removing = actions.add_parser("remove", help="delete a model from your folder for models", allow_abbrev=False)
    removing.add_argument("model", metavar="MODEL", help="its name")
    removing.set_defaults(run=_remove)


def _add(arguments: argparse.Namespace) -> None:
    from .models import add_model

    cancel = CancelToken()
    if arguments.end_with_input:
        end_with_input(cancel)
    printer = ProgressPrinter()
    progress: ProgressCallback | None = None if arguments.quiet else _print_progress if arguments.json else printer
    try:
        model = add_model(
            arguments.source, sha256=arguments.sha256, replace=arguments.replace, progress=progress, cancel=cancel
        )
    finally:
        printer.close()
    print(json.dumps({"name": model.name, "path": str(model.path)}) if arguments.json else model.path)


def _print_progress(progress: Progress) -> None:
    facts = {"done": progress.done, "total": progress.total, "seconds_left": progress.seconds_left}
    print(json.dumps({"stage": progress.stage, **facts}), flush=True)


def _remove(arguments: argparse.Namespace) -> None:
    from .models import remove_model

    print(remove_model(arguments.model))
