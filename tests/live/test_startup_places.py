"""Odd things that a start finds: FIFOs, stale socket files, passed sockets, terminals, other namespaces."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.live.running import Compile, Start
from tests.live.startup_support import ask, build, future_of

from instar.errors import RefusedError


def test_fifo_of_the_past_is_not_read(compile_c: Compile, start: Start, tmp_path: Path) -> None:
    old, new = build(compile_c, "places")
    past = start(old, "fifo", str(tmp_path))
    fifo = tmp_path / "fifo"
    before = fifo.stat().st_ino
    with future_of(past.pid, old, new):
        assert fifo.stat().st_ino == before
        with fifo.open("wb") as writer:
            writer.write(b"hello")
        assert past.line() == "v1 got 5"
    assert fifo.stat().st_ino == before


@pytest.mark.parametrize("ending", ["abort", "commit"])
def test_socket_file_that_was_left_behind(
    compile_c: Compile, start: Start, tmp_path: Path, ending: str
) -> None:
    old, new = build(compile_c, "places")
    path = tmp_path / "stale"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        left.bind(str(path))
    before = path.stat().st_ino
    past = start(old, "stale", str(tmp_path))
    with future_of(past.pid, old, new) as future:
        assert path.stat().st_ino == before
        if ending == "commit":
            past.process.kill()
            assert future.commit_held() == []
    assert (path.stat().st_ino == before) == (ending == "abort")
    assert [entry.name for entry in tmp_path.iterdir()] == ["stale"]
    if ending == "commit":
        assert path.stat().st_mode & 0o777 == 0o622


def test_passed_sockets_are_passed_again(compile_c: Compile, tmp_path: Path) -> None:
    old, new = build(compile_c, "places")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        shell = f'exec env LISTEN_PID=$$ LISTEN_FDS=1 "{old}" passed "{tmp_path}"'
        with subprocess.Popen(
            ["sh", "-c", shell],
            stdout=subprocess.PIPE,
            pass_fds=[3],
            preexec_fn=lambda: os.dup2(listener.fileno(), 3),
        ) as past:
            assert past.stdout is not None and past.stdout.readline() == b"ready v1\n"
            with future_of(past.pid, old, new):
                assert ask(port) == "hello v1"
            assert ask(port) == "hello v1"
            past.kill()


def test_terminal_is_shared_and_not_written_to(compile_c: Compile, tmp_path: Path) -> None:
    old, new = build(compile_c, "places")
    controller, terminal = pty.openpty()
    try:
        with subprocess.Popen(
            [old, "terminal", tmp_path], stdin=terminal, stdout=terminal, start_new_session=True
        ) as past:
            shown = b""
            while b"ready v1" not in shown:
                shown += os.read(controller, 256)
            with future_of(past.pid, old, new) as future:
                assert future.output == b"hello\nready v2\n"
                os.write(controller, b"typed\n")
                shown = b""
                while b"v1 got 6" not in shown:
                    shown += os.read(controller, 256)
                assert b"v2" not in shown
            past.kill()
    finally:
        os.close(controller)
        os.close(terminal)


def test_names_of_open_files_in_proc(compile_c: Compile, tmp_path: Path) -> None:
    old, new = build(compile_c, "places")
    log = tmp_path / "log"
    with log.open("ab") as file:
        with subprocess.Popen([old, "links", tmp_path], stdout=file, stderr=file) as past:
            while b"ready v1" not in log.read_bytes():
                pass
            before = log.read_bytes()
            with future_of(past.pid, old, new) as future:
                assert Path(f"/proc/{future.pid}/comm").read_text() == "renamed\n"
                assert log.read_bytes() == before
                past.kill()
                past.wait()
                assert future.commit_held() == []
    assert log.read_bytes() == before + b"by /proc\nby /dev\nready v2\n"


def _unshare(*flags: str) -> list[str]:
    """A prefix for a command; skips where namespaces cannot be made."""
    tool = shutil.which("unshare")
    if tool is None or subprocess.run([tool, *flags, "true"], capture_output=True).returncode:
        pytest.skip("namespaces cannot be made here")
    return [tool, *flags]


@contextlib.contextmanager
def _in_namespaces(flags: list[str], command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [*_unshare(*flags), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as past:
        try:
            assert past.stdout is not None
            assert past.stdout.readline().startswith(b"ready")
            yield past
        finally:
            past.kill()


def test_other_namespaces_are_entered(compile_c: Compile, tmp_path: Path) -> None:
    old, new = build(compile_c, "files")
    flags = ["--net", "--mount", "--uts", "--ipc"]
    with _in_namespaces(flags, [str(old), str(tmp_path), "rotate"]) as past:
        with future_of(past.pid, old, new):
            for kind in ("net", "mnt", "uts", "ipc"):
                links = [Path(f"/proc/{pid}/ns/{kind}").readlink() for pid in (past.pid, os.getpid())]
                assert links[0] != links[1]
            assert (tmp_path / "log").read_text() == "v1 starts\n"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "empty", "log", "old", "stale"]


def test_private_mount_hides_files_from_the_tool(compile_c: Compile, tmp_path: Path) -> None:
    """What is under a mount of the past's own namespace is found there, not in ours."""
    old, new = build(compile_c, "files")
    inside = tmp_path / "inside"
    inside.mkdir()
    script = f'mount -t tmpfs none "{inside}" && exec "{old}" "{inside}" create'
    with _in_namespaces(["--mount"], ["sh", "-c", script]) as past:
        view = Path(f"/proc/{past.pid}/root{inside}")
        before = sorted(path.name for path in view.iterdir())
        with future_of(past.pid, old, new):
            assert sorted(path.name for path in view.iterdir()) == sorted([*before, "made", "data.link"])
        assert sorted(path.name for path in view.iterdir()) == before
        assert not list(inside.iterdir())


def test_another_root_must_have_the_new_version(compile_c: Compile, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    old, new = build(compile_c, "files")
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    script = f'mount --bind / "{root}" && exec chroot "{root}" "{old}" "{tmp_path}" append'
    with _in_namespaces(["--mount"], ["sh", "-c", script]) as past, future_of(past.pid, old, new) as future:
        assert Path(f"/proc/{future.pid}/root").readlink() == Path(f"/proc/{past.pid}/root").readlink()
    second = tmp_path / "second"
    second.mkdir()
    with _in_namespaces(["--mount"], ["sh", "-c", script.replace(f'"{tmp_path}"', f'"{second}"')]) as past:
        hidden = tmp_path / "elsewhere"
        shutil.copy(new, hidden)
        subprocess.run(
            ["nsenter", "-t", str(past.pid), "-m", "mount", "-t", "tmpfs", "none", str(root / "tmp")],
            check=True,
        )
        with pytest.raises(RefusedError) as caught, future_of(past.pid, old, hidden):
            pass
        assert caught.value.code == "new-version-unreachable"
