"""Builds two states of a source package: with the first patches of its series, and with more of them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from tests.real.distribution import CACHE, SourcePackage, UnavailableError, fetch


@dataclass(frozen=True)
class Recipe:
    """How a package's program is built with debug information.

    Attributes:
        commands: ``{flags}`` in them stands for the compiler's.
        flags: Of the new version.
        old_flags: Of the old one where they differ: for a package without two states that differ in code.
        needs: Headers of other packages (Debian's name, file below /usr/include).
        edits: What the new version has besides its patches: (file, text, what stands there instead). For a
            package whose patches change no data.
        upstream_only: The archive's packaging of it is left alone: no patches.
    """

    package: str
    commands: tuple[tuple[str, ...], ...]
    program: str
    environment: tuple[tuple[str, str], ...] = ()
    flags: str = "-O2 -g"
    old_flags: str = "-O2 -g"
    needs: tuple[tuple[str, str], ...] = ()
    edits: tuple[tuple[str, str, str], ...] = ()
    upstream_only: bool = False


@dataclass(frozen=True)
class Pair:
    """The two programs."""

    package: SourcePackage
    old: Path
    new: Path


def build_pair(recipe: Recipe, old: int | None = 1, new: int | None = None) -> Pair:
    """Fetch and build the upstream code with the first ``old`` and the first ``new`` patches (None: all)."""
    missing = [name for name, header in recipe.needs if not (Path("/usr/include") / header).exists()]
    if missing:
        raise UnavailableError(f"apt-get install {' '.join(missing)}")
    package = fetch(recipe.package, upstream_only=recipe.upstream_only)
    return Pair(
        package,
        _build(replace(recipe, edits=()), package, old, recipe.old_flags),
        _build(recipe, package, new, recipe.flags),
    )


def _build(recipe: Recipe, package: SourcePackage, patches: int | None, flags: str) -> Path:
    identity = hashlib.sha256(
        repr((recipe, package.description.read_text(), patches, flags, _compiler())).encode()
    ).hexdigest()
    state = "all" if patches is None else f"first-{patches}"
    state += re.sub(r"[^\w-]", "", flags).replace("-O2-g", "") + ("-edited" if recipe.edits else "")
    target = CACHE / "builds" / f"{package.name}_{package.version}_{state}"
    stamp = target / ".instar-build"
    if not stamp.exists() or stamp.read_text() != identity:
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        package.unpack(target, patches)
        for name, old, new in recipe.edits:
            _edit(target / name, old, new)
        for command in recipe.commands:
            _execute(
                tuple(part.replace("{flags}", flags) for part in command),
                target,
                {name: value.replace("{flags}", flags) for name, value in recipe.environment},
            )
        stamp.write_text(identity)
    return target / recipe.program


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path}: {old!r} stands there {text.count(old)} times"
    path.write_text(text.replace(old, new))


def _compiler() -> str:
    return subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout


def _execute(command: tuple[str, ...], cwd: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} in {cwd}:\n{(done.stdout + done.stderr)[-4000:]}")
