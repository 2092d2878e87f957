"""Loads a handler module: ``--handlers FILE``, else ``NEW.instar.py`` beside the new program."""

from __future__ import annotations

import os
import stat
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from instar.errors import RefusedError
from instar.ext.registry import Registry, collecting
from instar.handlers.guarding import bounded

NAME = "instar_handlers"


def find_handlers(given: Path | None, new_path: Path) -> Path | None:
    """The handler file of an update; None when there is none."""
    if given is not None:
        return given
    beside = new_path.with_name(new_path.name + ".instar.py")
    with suppress(PermissionError):  # then the new program cannot be read either: that is told when it is
        return beside if beside.is_file() else None
    return None


def require_trusted(path: Path) -> None:
    """What was found beside a program and not named by the user runs as us: nobody else may have written it.

    Raises:
        RefusedError: "handlers-not-trusted".
    """
    found = path.stat()
    others = found.st_mode & stat.S_IWOTH
    if others or found.st_uid not in (0, os.geteuid()):
        why = "may be written by everybody" if others else f"belongs to another user ({found.st_uid})"
        raise RefusedError(
            "handlers-not-trusted",
            f"{path} would run with your rights, and {why}",
            "read it, then name it with --handlers FILE, or move it away",
        )


def load_handlers(path: Path) -> Registry:
    """Run a handler file and collect what it declares.

    Raises:
        RefusedError: "handlers-not-loaded", with the line at fault.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise _not_loaded(f"{path}: {error.strerror}", "give the path of a Python file") from error
    return run_handlers(source, str(path))


def run_handlers(source: bytes | str, path: str) -> Registry:
    """The same for a text."""
    registry = _run(source, path)
    registry.again = lambda: _run(source, path)
    return registry


def forget(registry: Registry) -> None:
    """Let a module start anew: what its functions kept in its variables is of a state that is no more.

    Raises:
        RefusedError: "handlers-not-loaded": it declares something else than the first time.
    """
    if registry.again is None:
        return
    fresh = registry.again().handlers
    if list(map(repr, fresh)) != list(map(repr, registry.handlers[: len(fresh)])):
        cause = f"{registry.path} declares other handlers when it runs a second time"
        raise _not_loaded(cause, "declare the same handlers always")
    for known, one in zip(registry.handlers, fresh, strict=False):
        known.function, known.inverse, known.predicate = one.function, one.inverse, one.predicate


def _run(source: bytes | str, path: str) -> Registry:
    registry = Registry(path)
    module = ModuleType(NAME)
    module.__file__ = path
    previous = sys.modules.get(NAME)
    sys.modules[NAME] = module  # dataclasses and the like look their module up
    try:
        with bounded(), collecting(registry):
            exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)
    except KeyboardInterrupt:
        raise
    except SyntaxError as error:
        raise _not_loaded(f"{path}:{error.lineno}: {error.msg}", "correct the file") from error
    except BaseException as error:  # its author's code: whatever it raises says that it cannot be loaded
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
        line = f":{frames[-1].lineno}" if frames else ""
        text = str(error) or "it ended the process"
        cause = f"{path}{line}: {type(error).__name__}: {text}"
        raise _not_loaded(cause, "correct the file; `python FILE` must run without an error") from error
    finally:
        if previous is None:
            del sys.modules[NAME]
        else:
            sys.modules[NAME] = previous
    return registry


def _not_loaded(cause: str, remedy: str) -> RefusedError:
    return RefusedError("handlers-not-loaded", cause, remedy)
