"""Source packages for `make test-real` and `make bench`: lists may name what the archive does not have."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.real import distribution

APT_GET = """#!/bin/sh
for last; do :; done
echo "$last" >> asked
case "$last" in *{held}) exit 0;; *) echo "E: 404 Not Found"; exit 100;; esac
"""
APT_CACHE = "#!/bin/sh\nprintf 'Package: nginx\\nVersion: 1.0-2\\n\\nPackage: nginx\\nVersion: 1.0-1\\n'\n"


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """Stand-ins for apt's, of which the second version can be had."""
    write(tmp_path / "apt-cache", APT_CACHE)
    write(tmp_path / "apt-get", APT_GET.format(held="1.0-1"))
    return tmp_path


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def source(commands: Path) -> tuple[str, list[str]]:
    """What is wrong, and what was asked for."""
    environment = {"PATH": f"{commands}:/usr/bin:/bin"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", environment["PATH"])
        problem = distribution._source(environment, "nginx", commands)
    return problem, (commands / "asked").read_text().split()


def test_another_version_when_the_newest_is_not_there(commands: Path) -> None:
    assert source(commands) == ("", ["nginx", "nginx=1.0-2", "nginx=1.0-1"])


def test_the_words_for_the_newest_when_none_is_there(commands: Path) -> None:
    write(commands / "apt-get", APT_GET.format(held="9.9"))
    problem, asked = source(commands)
    assert problem == "E: 404 Not Found" and len(asked) == 3


def test_the_newest_alone_when_it_is_there(commands: Path) -> None:
    write(commands / "apt-get", APT_GET.format(held="nginx"))
    assert source(commands) == ("", ["nginx"])
