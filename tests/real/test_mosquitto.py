"""The mosquitto broker goes on with its clients, retained messages and those it keeps for absent clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.real.builds import Pair
from tests.real.mqtt_client import MqttClient
from tests.real.servers import Server, free_port

CLIENTS = 40
RETAINED = 300
QUEUED = 50


@dataclass
class Broker:
    """A broker with clients."""

    server: Server
    port: int
    clients: list[MqttClient] = field(default_factory=list)

    def populate(self) -> None:
        """Subscribers, retained messages, and a client that left with messages waiting for it."""
        for i in range(CLIENTS):
            client = MqttClient(self.port, f"client-{i}", will=f"wills/{i}")
            client.subscribe(f"rooms/{i}/+")
            client.subscribe("all/#", 1)
            self.clients.append(client)
        with MqttClient(self.port, "sensor") as sensor:
            for i in range(RETAINED):
                sensor.publish(f"kept/{i}", b"%d " % i * (i % 40 + 1), retain=True)
            with MqttClient(self.port, "sleeper", clean=False) as sleeper:
                sleeper.subscribe("later/#", 1)
            for i in range(QUEUED):
                sensor.publish(f"later/{i}", b"for the sleeper %d" % i, 1)

    def check(self) -> None:
        """Each client has its connection, its subscriptions; nothing that was kept is lost."""
        with MqttClient(self.port, "speaker") as speaker:
            for i in range(CLIENTS):
                speaker.publish(f"rooms/{i}/door", b"open %d" % i)
            speaker.publish("all/of/you", b"hello", 1)
            for i, client in enumerate(self.clients):
                expected = [(f"rooms/{i}/door", b"open %d" % i), ("all/of/you", b"hello")]
                assert sorted(client.wait(2)) == sorted(expected)
                client.ping()
                assert client.arrived == []
        with MqttClient(self.port, "late-reader") as reader:
            reader.subscribe("kept/#")
            kept = dict(reader.wait(RETAINED))
            assert kept == {f"kept/{i}": b"%d " % i * (i % 40 + 1) for i in range(RETAINED)}
        with MqttClient(self.port, "sleeper", clean=False) as sleeper:
            assert sleeper.session_present
            waiting = sleeper.wait(QUEUED)
            assert waiting == [(f"later/{i}", b"for the sleeper %d" % i) for i in range(QUEUED)]

    def check_wills(self) -> None:
        """The last wills, which clients gave before the update, are executed."""
        watcher = MqttClient(self.port, "watcher")
        with watcher:
            watcher.subscribe("wills/#")
            for client in self.clients:
                client.close()
            found = sorted(watcher.wait(CLIENTS))
        assert found == sorted((f"wills/{i}", b"client-%d is gone" % i) for i in range(CLIENTS))


def _start(pair: Pair, start: Callable[..., Server], directory: Path, *, daemon: bool) -> Broker:
    port, pid_file, settings = free_port(), directory / "broker.pid", directory / "mosquitto.conf"
    settings.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence false\n"
        f"max_queued_messages 1000\nlog_dest file {directory / 'log'}\npid_file {pid_file}\n"
    )

    def ready() -> bool:
        try:
            MqttClient(port, "probe").close()
        except OSError:
            return False
        return True

    command = [str(pair.old), "-c", str(settings), *(["-d"] if daemon else [])]
    return Broker(start(command, pid_file if daemon else None, ready), port)


@pytest.fixture(params=["foreground", "daemon"])
def broker(
    request: pytest.FixtureRequest, mosquitto: Pair, start: Callable[..., Server], tmp_path: Path
) -> Iterator[Broker]:
    found = _start(mosquitto, start, tmp_path, daemon=request.param == "daemon")
    yield found
    for client in found.clients:
        client.close()


def test_driver(broker: Broker) -> None:
    """Without an update, what the tests below rely on holds."""
    broker.populate()
    broker.check()
    broker.check_wills()


def test_everything_is_kept(broker: Broker, mosquitto: Pair) -> None:
    broker.populate()
    report = broker.server.update(mosquitto.new)
    assert report["connections"] >= CLIENTS
    broker.check()
    broker.check_wills()


def test_twice(broker: Broker, mosquitto: Pair) -> None:
    broker.populate()
    broker.server.update(mosquitto.new)
    broker.server.update(mosquitto.new)
    broker.check()
    broker.check_wills()


def test_change_of_meaning_is_refused(
    mosquitto_of_other_meaning: Pair, start: Callable[..., Server], tmp_path: Path
) -> None:
    """Subscriptions were split in two trees: refused with the names, and the old version serves on."""
    found = _start(mosquitto_of_other_meaning, start, tmp_path, daemon=False)
    found.populate()
    try:
        report = found.server.update(mosquitto_of_other_meaning.new, expect="refused")
        assert "subs" in report["error"]["cause"] + " ".join(report["error"].get("details", []))
        found.check()
        found.check_wills()
    finally:
        for client in found.clients:
            client.close()
