"""The command line: parse → one public call → print; exit codes 0 fine, 1 findings, 2 bad input, 130 interrupted."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import NoReturn

from cfalign._cli.app import app
from cfalign._cli.output import complain, told_warnings
from cfalign._errors import CfalignError
from cfalign._models.guard import described
from cfalign._models.own_code import passed_own_code

DEBUG = "--debug"
INTERRUPTED = "Interrupted; the work so far is kept: give the same command again to go on from there."


def main() -> None:
    """The entry point of ``cfalign``. ``--debug`` may stand anywhere."""
    words = sys.argv[1 : sys.argv.index("--") if "--" in sys.argv else None]
    debug = DEBUG in words
    rest = [word for word in words if word != DEBUG] + sys.argv[1 + len(words) :]
    try:
        try:
            with told_warnings():
                app([DEBUG, *rest] if debug else rest, standalone_mode=True)
        finally:
            sys.stdout.flush()  # so that a full disk or a closed pipe is met here
    except CfalignError as error:
        _refuse(error, str(error), debug=debug)
    except SystemExit as end:
        if end.code == 130:  # typer's answer to Ctrl-C
            complain(INTERRUPTED)
        raise
    except KeyboardInterrupt:
        complain(INTERRUPTED)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would complain again at its end
        _end(f"Could not write {error.filename or 'the output'}: {(error.strerror or str(error)).lower()}.")
    except MemoryError:
        _end("Out of memory; use a smaller --batch or smaller images (--size).")
    except Exception as error:
        if not passed_own_code(error):
            raise
        _refuse(error, f"Code of yours raised {described(error)}.", debug=debug)


def _refuse(error: BaseException, sentence: str, *, debug: bool) -> NoReturn:
    """Say the sentence of an error, and where it comes from: all of it for --debug, else how to see that."""
    if debug:
        traceback.print_exception(error)
    elif passed_own_code(error):
        sentence = f"{sentence.rstrip('.')} ({DEBUG} shows where)."
    _end(sentence)


def _end(sentence: str) -> NoReturn:
    complain(sentence)
    sys.exit(2)


__all__ = ["app", "main"]
