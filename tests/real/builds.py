"""Builds two states of a source package: with the first patches of its series, and with more of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from distribution import CACHE, SourcePackage, fetch


@dataclass(frozen=True)
class Recipe:
    """How a package's program is built with debug information."""

    package: str
    commands: tuple[tuple[str, ...], ...]
    program: str
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Pair:
    """The two programs."""

    package: SourcePackage
    old: Path
    new: Path


def build_pair(recipe: Recipe, old: int = 1, new: int | None = None) -> Pair:
    """Fetch and build the upstream code with the first ``old`` and the first ``new`` (None: all) patches."""
    package = fetch(recipe.package)
    return Pair(package, _build(recipe, package, old), _build(recipe, package, new))


def _build(recipe: Recipe, package: SourcePackage, patches: int | None) -> Path:
    identity = hashlib.sha256(
        repr((recipe, package.description.read_text(), patches, _compiler())).encode()
    ).hexdigest()
    state = "all" if patches is None else f"first-{patches}"
    target = CACHE / "builds" / f"{package.name}_{package.version}_{state}"
    stamp = target / ".instar-build"
    if not stamp.exists() or stamp.read_text() != identity:
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        package.unpack(target, patches)
        for command in recipe.commands:
            _execute(command, target, dict(recipe.environment))
        stamp.write_text(identity)
    return target / recipe.program


def _compiler() -> str:
    return subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout


def _execute(command: tuple[str, ...], cwd: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} in {cwd}:\n{(done.stdout + done.stderr)[-4000:]}")
