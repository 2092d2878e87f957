"""A crowd of clients for hallway: each has its own session and data, and notices whatever gets lost."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import cycle

CHAT = re.compile(r"client-\d+: ")
ROOM_SIZE = 10
TICK_S = 0.01
PATIENCE_S = 30.0
CONNECTING = 100  # at once


class Client(asyncio.Protocol):
    """One connection; it knows what the server must answer.

    Attributes:
        session: The id that the server gave it.
        commands: How many it has sent: the server counts them too.
        fetches: How often it has asked for its own key: the server counts that too.
        heard, expected: Lines of chat that have come, and how many must.
        wait: The longest that an answer took since ``forget_waits``, in seconds.
    """

    def __init__(self, number: int, errors: Counter[str]) -> None:
        self.number, self.name = number, f"client-{number}"
        self.room = f"room-{number // ROOM_SIZE}"
        self.errors = errors
        self.session = 0
        self.value = ""
        self.commands = self.fetches = self.heard = self.expected = 0
        self.wait = 0.0
        self.lost = True
        self._input = b""
        self._sent_at: float | None = None
        self._answer: asyncio.Future[str] | None = None
        self._judge: Callable[[str], bool] = bool

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        """The server or the network has ended it: what must not happen."""
        self.lost = True
        if self._answer and not self._answer.done():
            self._answer.set_result("")

    def data_received(self, data: bytes) -> None:
        """Chat, or the answer that is waited for."""
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self._take(line.decode())

    def _take(self, line: str) -> None:
        if CHAT.match(line):
            self.heard += 1
            return
        if self._sent_at is None:
            self.errors["an answer that nobody asked for"] += 1
            return
        self.wait = max(self.wait, time.monotonic() - self._sent_at)
        self._sent_at = None
        if not self._judge(line):
            self.errors[f"wrong answer: {line}"] += 1
        if self._answer and not self._answer.done():
            self._answer.set_result(line)

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is due."""
        return self._sent_at is not None

    def waited(self) -> float:
        """The longest wait, one that has not ended included."""
        return max(self.wait, time.monotonic() - self._sent_at if self._sent_at is not None else 0.0)

    def say(self, command: str, judge: Callable[[str], bool]) -> None:
        """Send a command; its answer will be judged."""
        self._judge = judge
        self._sent_at = time.monotonic()
        self.commands += 1
        self._transport.write(command.encode() + b"\n")

    async def ask(self, command: str, judge: Callable[[str], bool]) -> str:
        """Send a command and wait for its answer; "" when the connection is gone."""
        if self.lost:
            return ""
        self._answer = asyncio.get_running_loop().create_future()
        self.say(command, judge)
        try:
            return await asyncio.wait_for(self._answer, PATIENCE_S)
        except TimeoutError:
            self.errors[f"no answer to {command.split()[0]}"] += 1
            return ""
        finally:
            self._answer = None

    def identity(self) -> str:
        """What WHOAMI must say after as many commands."""
        return f"{self.name}, session {self.session}, {self.commands} commands, room {self.room}"

    def step(self, turn: int) -> None:
        """The next command of its daily life."""
        if turn % 3 == 0:
            self.value = f"{self.name}'s value, turn {turn}"
            self.say(f"SET key-{self.number} {self.value}", lambda line: line == "stored")
        elif turn % 3 == 1:
            self.fetches += 1
            self.say(f"GET key-{self.number}", lambda line: line == f"value {self.value}")
        else:
            self.say("WHOAMI", lambda line: line == self.identity())


@dataclass
class Crowd:
    """All clients, and the load that they make.

    Attributes:
        size: How many.
        rate: Commands a second, of all together.
        answers: Commands that were sent under load so far.
    """

    size: int
    port: int
    rate: int
    errors: Counter[str] = field(default_factory=Counter)
    clients: list[Client] = field(default_factory=list)
    answers: int = 0
    _busy: bool = False
    _load: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect all; each takes a name, enters a room and stores a value."""
        gate = asyncio.Semaphore(CONNECTING)
        await asyncio.gather(*(self._enter(number, gate) for number in range(self.size)))
        self.clients.sort(key=lambda client: client.number)

    async def _enter(self, number: int, gate: asyncio.Semaphore) -> None:
        loop = asyncio.get_running_loop()
        async with gate:
            client = Client(number, self.errors)
            await loop.create_connection(lambda: client, "127.0.0.1", self.port)
            self.clients.append(client)
            hello = await client.ask(f"HELLO {client.name}", lambda line: line.startswith("hello "))
            client.session = int(hello.rpartition(" ")[2])
            await client.ask(f"JOIN {client.room}", lambda line: line.startswith(f"joined {client.room}, "))
            client.value = "first value"
            await client.ask(f"SET key-{number} first value", lambda line: line == "stored")

    def begin_load(self) -> None:
        """Let everybody send commands, one after the other, until ``end_load``."""
        self._busy = True
        self._load = asyncio.create_task(self._run())

    async def _run(self) -> None:
        turns: Iterator[tuple[int, Client]] = self._turns()
        begun, sent = time.monotonic(), 0
        while self._busy:
            due = int((time.monotonic() - begun) * self.rate)
            for _ in range(min(due - sent, self.size)):
                turn, client = next(turns)
                if not (client.is_waiting or client.lost):
                    client.step(turn)
                    self.answers += 1
            sent = due
            await asyncio.sleep(TICK_S)

    def _turns(self) -> Iterator[tuple[int, Client]]:
        for turn in cycle(range(3 * 1000)):
            yield from ((turn, client) for client in self.clients)

    async def end_load(self) -> None:
        """Stop sending and wait for what is due."""
        self._busy = False
        if self._load:
            await self._load
        end = time.monotonic() + PATIENCE_S
        while any(c.is_waiting and not c.lost for c in self.clients) and time.monotonic() < end:
            await asyncio.sleep(TICK_S)

    def forget_waits(self) -> None:
        """Measure waits anew."""
        for client in self.clients:
            client.wait = 0.0

    def longest_wait_ms(self) -> float:
        """The longest that anybody waited for an answer."""
        return max(client.waited() for client in self.clients) * 1000

    async def chat(self) -> None:
        """One member of every room says something; all its members must hear it."""
        rooms: dict[str, list[Client]] = {}
        for client in self.clients:
            rooms.setdefault(client.room, []).append(client)
        for members in rooms.values():
            speaker = members[0]
            if speaker.lost:
                continue
            speaker.commands += 1
            speaker._transport.write(b"SAY good morning\n")
            for member in members:
                member.expected += 1
        end = time.monotonic() + PATIENCE_S
        while self.deaf() and time.monotonic() < end:
            await asyncio.sleep(TICK_S)
        if deaf := self.deaf():
            self.errors["somebody in a room was not heard"] += deaf

    def deaf(self) -> int:
        """How many have not heard what was said."""
        return sum(client.heard != client.expected for client in self.clients)

    async def kept(self, examine: Callable[[Client], Iterable[tuple[str, str]]]) -> int:
        """How many clients get the right answers (patterns) to all commands of ``examine``, one by one."""
        results = await asyncio.gather(*(self._examine(client, examine) for client in self.clients))
        return sum(results)

    async def _examine(self, client: Client, examine: Callable[[Client], Iterable[tuple[str, str]]]) -> bool:
        for command, right in examine(client):
            pattern = re.compile(right)
            answer = await client.ask(command, lambda line, pattern=pattern: bool(pattern.fullmatch(line)))  # type: ignore[misc]
            if not pattern.fullmatch(answer):
                return False
        return True

    def close(self) -> None:
        """Hang up."""
        for client in self.clients:
            if not client.lost:
                client._transport.abort()
