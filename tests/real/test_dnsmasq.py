"""dnsmasq 2.90 as Debian's first patch leaves it, under queries, becomes the fully patched one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.real.builds import Pair
from tests.real.dns_messages import Client, Upstream, address_of
from tests.real.servers import Server, free_port

SHORT = [f"host{i}.short.test" for i in range(2000)]
LONG = [f"a-rather-long-host-name-number-{i:05}.in-a-sub-domain.of-some-zone.test" for i in range(900)]
# dnsmasq keeps a tenth of its cache for names over 50 characters.
NAMES = SHORT + LONG
HANDLERS = Path(__file__).with_name("dnsmasq_handlers.py")
COUNTERS = ("cachesize.bind", "insertions.bind", "evictions.bind", "misses.bind", "hits.bind")


@dataclass
class Resolver:
    """dnsmasq with a full cache, and the upstream server that filled it."""

    server: Server
    client: Client
    upstream: Upstream
    port: int

    asked_counters: int = 0

    def counters(self) -> dict[str, int]:
        """dnsmasq's own; questions for counters are hits themselves and not counted here."""
        found = {name.partition(".")[0]: int(self.client.text(name)) for name in COUNTERS}
        found["hits"] -= self.asked_counters + len(COUNTERS) - 1
        self.asked_counters += len(COUNTERS)
        return found

    def assert_answers(self, names: list[str]) -> None:
        wrong = [name for name in names if self.client.ask(name) != [address_of(name)]]
        assert not wrong, f"{len(wrong)} of {len(names)} names: {wrong[:5]}"


@pytest.fixture(params=["foreground", "daemon"])
def resolver(
    request: pytest.FixtureRequest, dnsmasq: Pair, start: Callable[..., Server], tmp_path: Path
) -> Iterator[Resolver]:
    if dnsmasq.package.upstream_version != "2.90":
        pytest.skip(f"NOT TESTED, this distribution has dnsmasq {dnsmasq.package.version}, not 2.90")
    port, pid_file = free_port(), tmp_path / "dnsmasq.pid"
    with Upstream() as upstream, Client(port) as client:
        command = [
            str(dnsmasq.old), "-C", "/dev/null", f"--port={port}", "--listen-address=127.0.0.1",
            "--bind-interfaces", "--no-resolv", "--no-hosts", f"--server=127.0.0.1#{upstream.port}",
            "--cache-size=10000", f"--pid-file={pid_file}", "--user=root", "--group=root",
            f"--log-facility={tmp_path / 'log'}",
        ]  # fmt: skip
        if request.param == "foreground":
            command.append("--keep-in-foreground")

        def ready() -> bool:
            try:
                with Client(port, timeout=0.5) as probe:
                    return bool(probe.text("version.bind"))
            except OSError:
                return False

        server = start(command, pid_file if request.param == "daemon" else None, ready)
        yield Resolver(server, client, upstream, port)


def fill(resolver: Resolver) -> None:
    resolver.assert_answers(NAMES)
    assert resolver.upstream.asked == len(NAMES)


def test_driver(resolver: Resolver) -> None:
    """Without an update, what the tests below rely on holds."""
    fill(resolver)
    resolver.upstream.stop()
    before = resolver.counters()
    resolver.assert_answers(NAMES)
    after = resolver.counters()
    assert before["insertions"] >= len(NAMES)
    assert after == {**before, "hits": before["hits"] + len(NAMES)}


def test_cache_and_counters_survive(resolver: Resolver, dnsmasq: Pair) -> None:
    fill(resolver)
    before = resolver.counters()
    report = resolver.server.update(dnsmasq.new)
    assert report["retyped"] >= len(LONG), "union bigname grows"
    resolver.upstream.stop()
    assert resolver.counters() == before
    resolver.assert_answers(NAMES)
    assert resolver.counters() == {**before, "hits": before["hits"] + len(NAMES)}


def test_new_version_still_forwards(resolver: Resolver, dnsmasq: Pair) -> None:
    fill(resolver)
    resolver.server.update(dnsmasq.new)
    fresh = [f"{name}.fresh.test" for name in ("one", "two", "three" * 11)]
    resolver.assert_answers(fresh)
    resolver.upstream.stop()
    resolver.assert_answers(fresh + NAMES)


@contextmanager
def queries(resolver: Resolver) -> Iterator[list[bool]]:
    """A client that asks all the time; the list has whether each answer was right."""
    asked: list[bool] = []
    stop = threading.Event()

    def ask() -> None:
        with Client(resolver.port, timeout=20) as client:
            while not stop.is_set():
                name = NAMES[len(asked) * 7 % len(NAMES)]
                asked.append(client.ask(name) == [address_of(name)])

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield asked
    finally:
        stop.set()
        thread.join()
    assert all(asked)


@pytest.mark.parametrize("resolver", ["foreground"], indirect=True)
def test_the_whole_cycle_under_queries(resolver: Resolver, dnsmasq: Pair) -> None:
    """Rehearsed, updated, rolled back and updated again, its cache whole and every answer right."""
    fill(resolver)
    resolver.upstream.stop()
    old, handlers = resolver.server.program(), ("--handlers", str(HANDLERS))
    steps: list[Callable[[], dict[str, Any]]] = [
        lambda: resolver.server.update(dnsmasq.new, *handlers, "--rehearse", expect="rehearsed"),
        lambda: resolver.server.update(dnsmasq.new, *handlers),
        lambda: resolver.server.rollback(old),
        lambda: resolver.server.update(dnsmasq.new, *handlers),
    ]
    kept = resolver.counters()["insertions"]
    with queries(resolver) as asked:
        for step in steps:
            counted = len(asked)
            assert step()["validation"]["objects"] >= len(LONG)
            resolver.assert_answers(NAMES[:500])
            assert len(asked) > counted
    assert resolver.counters()["insertions"] == kept
    resolver.assert_answers(NAMES)


def test_twice(resolver: Resolver, dnsmasq: Pair) -> None:
    """A second update finds what the first one left."""
    fill(resolver)
    before = resolver.counters()
    resolver.server.update(dnsmasq.new)
    resolver.server.update(dnsmasq.new)
    resolver.upstream.stop()
    assert resolver.counters() == before
    resolver.assert_answers(NAMES)
