"""`mambasegment worker`."""

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from ..console import write_crash_log
from ..errors import ConfigError

_MB = 1_000_000


def add_parser(commands: Any) -> None:
    """Add the command to those of `mambasegment`."""
    parser = commands.add_parser(
        "worker",
        help="segment on request: JSON lines in, JSON lines out",
        description="Read one JSON object a line from stdin and write one a line to stdout; logs go to stderr. "
        "For programs: MambaSegmentLib/worker/protocol.py has the messages, client.py a client.",
        allow_abbrev=False,
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="for temporary files; deleted at the end")
    parser.add_argument(
        "--keep-mb", type=int, metavar="N", default=2000, help="memory for models that are kept (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> NoReturn:
    """Serve, clean up and end the process at once, whatever a thread still computes."""
    from .folder import remove_private_folder, use_private_folder
    from .server import Server
    from .shelf import ModelShelf
    from .streams import take_standard_streams

    if arguments.keep_mb < 0:
        raise ConfigError(f"--keep-mb {arguments.keep_mb} must be 0 or more")
    # Ctrl-C in the shell of a client reaches this process too; the client decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = use_private_folder(arguments.folder)
    code = 1
    try:
        commands, messages = take_standard_streams()
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
        code = Server(commands, messages, ModelShelf(arguments.keep_mb * _MB)).run()
    except Exception as problem:  # nothing above would report it, since the process ends here
        logging.exception("internal error, please report it; also in %s", write_crash_log("mambasegment", [], problem))
    finally:
        remove_private_folder(folder)
        sys.stderr.flush()
        os._exit(code)
