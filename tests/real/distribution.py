"""Source packages of the distribution that the machine runs, fetched with its own client.

apt gets a private state under the project's cache directory and the machine's own package sources, turned
from binary to source; signatures are checked by apt against the keys that the machine trusts for them.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("INSTAR_REAL_CACHE", ROOT / ".cache" / "real"))
_LISTS_LIVE = 24 * 3600


class UnavailableError(Exception):
    """The archive, or the client for it, cannot be had on this machine at this time."""


@dataclass(frozen=True)
class SourcePackage:
    """A downloaded source package."""

    name: str
    version: str
    description: Path
    upstream: Path
    packaging: Path | None

    @property
    def upstream_version(self) -> str:
        """Without epoch and revision."""
        return self.version.partition(":")[2] or self.version.rpartition("-")[0]

    def patches(self) -> list[str]:
        """Names in debian/patches/series, in order."""
        if self.packaging is None or self.packaging.suffix == ".gz":
            return []
        with tarfile.open(self.packaging) as archive:
            if "debian/patches/series" not in {name.removeprefix("./") for name in archive.getnames()}:
                return []
            member = archive.extractfile("debian/patches/series")
            assert member is not None
            lines = member.read().decode().splitlines()
        return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]

    def unpack(self, target: Path, patches: int | None) -> None:
        """Unpack into ``target`` with the first ``patches`` patches of the series (None: all) applied."""
        with tarfile.open(self.upstream) as archive:
            archive.extractall(target.parent / f"{target.name}.part", filter="tar")
        parts = list((target.parent / f"{target.name}.part").iterdir())
        shutil.move(parts[0] if len(parts) == 1 else target.parent / f"{target.name}.part", target)
        shutil.rmtree(target.parent / f"{target.name}.part", ignore_errors=True)
        if self.packaging is None:
            return
        if self.packaging.suffix == ".gz":  # one patch with everything: source format 1.0
            text = gzip.decompress(self.packaging.read_bytes())
            subprocess.run(["patch", "-p1", "-s", "-f"], cwd=target, input=text, check=True)
            return
        shutil.rmtree(target / "debian", ignore_errors=True)  # upstream's own; the package's counts
        with tarfile.open(self.packaging) as archive:
            archive.extractall(target, filter="tar")
        for name in self.patches()[:patches]:
            _run(["patch", "-p1", "-s", "-f", "-i", str(target / "debian/patches" / name)], cwd=target)


def fetch(name: str, *, upstream_only: bool = False) -> SourcePackage:
    """Download a source package, or take it from the cache; without what the distribution adds if so wanted.

    Raises:
        UnavailableError: With the client's own words.
    """
    if shutil.which("apt-get") is None:
        raise UnavailableError("apt-get is not installed")
    target = CACHE / "sources" / name
    target.mkdir(parents=True, exist_ok=True)
    environment = _private_state()
    parts = [["--dsc-only"], ["--tar-only"]] if upstream_only else [[]]

    def attempt(*, force: bool) -> str:
        problem = _update(environment, force=force)
        return problem or next(filter(None, (_source(environment, name, target, part) for part in parts)), "")

    if attempt(force=False) and (problem := attempt(force=True)):
        raise UnavailableError(f"apt-get source {name}: {problem}")
    return _describe(name, target, upstream_only)


def _private_state() -> dict[str, str]:
    base = CACHE / "apt"
    for part in ("lists/partial", "cache/archives/partial", "sources"):
        (base / part).mkdir(parents=True, exist_ok=True)
    _write_sources(base / "sources")
    settings = {
        "Dir::State": base,
        "Dir::State::lists": base / "lists",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": base / "cache",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": base / "sources",
        "Acquire::AllowInsecureRepositories": "false",
        "APT::Get::AllowUnauthenticated": "false",
        "Acquire::Retries": "2",
    }
    if os.geteuid() == 0:
        settings["APT::Sandbox::User"] = "root"
    config = base / "apt.conf"
    config.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    return {**os.environ, "APT_CONFIG": str(config), "LC_ALL": "C.UTF-8"}


def _write_sources(target: Path) -> None:
    """The machine's own entries for its release, as source entries."""
    codename = _codename()
    for old in target.iterdir():
        old.unlink()
    parts = Path("/etc/apt/sources.list.d")
    count = 0
    for path in [
        Path("/etc/apt/sources.list"),
        *sorted(parts.glob("*.list")),
        *sorted(parts.glob("*.sources")),
    ]:
        if not path.is_file():
            continue
        convert = _from_stanzas if path.suffix == ".sources" else _from_lines
        text = convert(path.read_text(errors="replace"), codename)
        if text:
            (target / path.name).write_text(text)
            count += 1
    if count == 0:
        raise UnavailableError(f"no package source of this machine is for its release ({codename})")


def _codename() -> str:
    fields = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
    codename = fields.get("VERSION_CODENAME", "").strip('"')
    if not codename:
        raise UnavailableError("/etc/os-release has no VERSION_CODENAME")
    return codename


def _from_lines(text: str, codename: str) -> str:
    entry = re.compile(r"^deb(\s+\[[^\]]*\])?(\s+\S+\s+)(\S+)(\s+.*)$", re.M)
    return "".join(
        f"deb-src{match[1] or ''}{match[2]}{match[3]}{match[4]}\n"
        for match in entry.finditer(text)
        if match[3].startswith(codename)
    )


def _from_stanzas(text: str, codename: str) -> str:
    result = []
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if line.strip() and not line.startswith("#")]
        fields = {line.partition(":")[0].lower(): line.partition(":")[2] for line in lines if ":" in line}
        suites = [suite for suite in fields.get("suites", "").split() if suite.startswith(codename)]
        if (
            not suites
            or "deb" not in fields.get("types", "").split()
            or fields.get("enabled", "").strip() == "no"
        ):
            continue
        result.append("\n".join(_source_line(line, suites) for line in lines))
    return "\n\n".join(result) + "\n" if result else ""


def _source_line(line: str, suites: list[str]) -> str:
    key = line.partition(":")[0].lower()
    if key == "types":
        return "Types: deb-src"
    return f"Suites: {' '.join(suites)}" if key == "suites" else line


def _update(environment: dict[str, str], *, force: bool) -> str:
    stamp = CACHE / "apt" / "updated"
    if not force and stamp.exists() and time.time() - stamp.stat().st_mtime < _LISTS_LIVE:
        return ""
    done = subprocess.run(
        ["apt-get", "-q", "update", "-o", "APT::Update::Error-Mode=any"],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if done.returncode == 0:
        stamp.touch()
        return ""
    return _last_words(done)


def _source(environment: dict[str, str], name: str, target: Path, part: Sequence[str] = ()) -> str:
    """The newest version, or, where the lists name one whose files the archive does not have, another."""
    problem = _download(environment, name, target, part)
    if not problem:
        return ""
    for version in _versions(environment, name):
        if not _download(environment, f"{name}={version}", target, part):
            return ""
    return problem


def _download(environment: dict[str, str], package: str, target: Path, part: Sequence[str]) -> str:
    done = subprocess.run(
        ["apt-get", "-q", "source", "--download-only", *part, package],
        cwd=target, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return "" if done.returncode == 0 else _last_words(done)


def _versions(environment: dict[str, str], name: str) -> list[str]:
    done = subprocess.run(
        ["apt-cache", "showsrc", "--only-source", name],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return re.findall(r"^Version: (\S+)$", done.stdout, re.M)


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    lines = [
        line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("E:", "W:", "Err"))
    ]
    return "; ".join(lines[-3:]) or f"exit status {done.returncode}"


def _describe(name: str, target: Path, upstream_only: bool) -> SourcePackage:
    descriptions = sorted(target.glob("*.dsc"), key=lambda path: path.stat().st_mtime)
    if not descriptions:
        raise UnavailableError(f"apt-get source {name} left no .dsc in {target}")
    text = descriptions[-1].read_text()
    version = re.search(r"^Version: (\S+)$", text, re.M)
    checksums = re.search(r"^Checksums-Sha256:\n((?: .*\n)+)", text, re.M)
    assert version is not None and checksums is not None, descriptions[-1]
    files = [line.split()[2] for line in checksums[1].splitlines()]
    upstream = next(file for file in files if ".orig.tar." in file and not file.endswith(".asc"))
    packaging = next(target / file for file in files if ".debian.tar." in file or file.endswith(".diff.gz"))
    return SourcePackage(
        name, version[1], descriptions[-1], target / upstream, None if upstream_only else packaging
    )


def _run(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-3000:]}")
