"""The coverage-guided fuzzers, by libFuzzer: native/dwarf, and the walk over the heap in native/kernels."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzz.targets import Fuzzed, Heap

ROOT = Path(__file__).parents[1]
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-fsanitize=fuzzer,address,undefined")
#: Zero added to a null pointer (an absent section): without effect everywhere, and defined from C2y on.
_LEFT_OUT = "-fno-sanitize=pointer-overflow"
_SEED = """
struct list { struct list *next; int a : 3; union { long l; char c[8]; } u; enum { A, B } e; } *head;
static _Thread_local int turns; typedef struct list link; double f(link *l, int n)
{ int local = n * 2; { link *inner = l->next; if (inner) local += inner->a; } return local + turns; }
int main(int argc, char **argv) { return (int)f(head, argc) + argv[0][0]; }
"""
_BUILDS = (
    ("-O2", "-gdwarf-5"), ("-O0", "-gdwarf-4"), ("-O2", "-gdwarf-4", "-fdebug-types-section"),
    ("-O1", "-gdwarf-2"), ("-O2", "-gdwarf-5", "-gz=zlib"),
)  # fmt: skip


@dataclass(frozen=True)
class Harness:
    """One fuzzer.

    Attributes:
        name: Of the target; its entry is ``fuzz/NAME.c``.
        sources: What is fuzzed, below ``native``.
        libraries: To link with.
        make_corpus: Puts valid inputs into a directory.
    """

    name: str
    sources: str
    libraries: Sequence[str]
    make_corpus: Callable[[Path], None]

    def build(self, home: Path) -> Path:
        """The fuzzer, with clang; raises subprocess.CalledProcessError."""
        target = home / self.name
        sources = [*sorted((ROOT / "native").glob(self.sources)), ROOT / "fuzz" / f"{self.name}.c"]
        include = f"-I{sources[0].parent}"
        command = ["clang", *_FLAGS, include, "-fno-sanitize-recover=all", _LEFT_OUT, "-o", str(target)]
        subprocess.run([*command, *map(str, sources), *self.libraries], check=True)
        return target

    def run(self, home: Path, seconds: int, seed: int, *, most: int = -1) -> Fuzzed:
        """For so long, or so many inputs; findings are kept in fuzz/findings."""
        if shutil.which("clang") is None:
            raise RuntimeError("clang is needed")
        program, corpus = self.build(home), home / "corpus"
        corpus.mkdir()
        self.make_corpus(corpus)
        findings = ROOT / "fuzz" / "findings"
        findings.mkdir(exist_ok=True)
        options = [
            f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={findings}/", f"-runs={most}",
            "-timeout=20", "-rss_limit_mb=4096", "-max_len=65536", "-print_final_stats=1", "-detect_leaks=1",
        ]  # fmt: skip
        done = subprocess.run([program, *options, corpus], capture_output=True, text=True, errors="replace")
        executed = re.search(r"stat::number_of_executed_units: *(\d+)", done.stderr)
        covered = re.findall(r"cov: (\d+)", done.stderr)
        wrong = [] if done.returncode == 0 else [done.stderr[-3000:]]
        count = int(executed[1]) if executed else 0
        return Fuzzed(self.name, count, wrong, int(covered[-1]) if covered else 0)


def _programs(corpus: Path) -> None:
    """Small programs in the forms of debug information that there are."""
    source = corpus.parent / "seed.c"
    source.write_text(_SEED)
    for number, flags in enumerate(_BUILDS):
        for link in ((), ("-c",)):
            output = corpus / f"{number}{''.join(link)}"
            done = subprocess.run(["gcc", "-g", *flags, *link, "-o", output, source], capture_output=True)
            if done.returncode:
                raise RuntimeError(done.stderr.decode())


def _segments(corpus: Path) -> None:
    """Heaps that are whole, each of the main arena and of another."""
    for number, data in enumerate(Heap(corpus).seeds):
        for first in (4, 5):
            (corpus / f"{number}-{first}").write_bytes(bytes([first, 1, 0, 0, 0, 0, 0, 0]) + data)


HARNESSES = {
    harness.name: harness
    for harness in (
        Harness("walker", "dwarf/walker*.c", ("-ldw", "-lelf", "-ldl"), _programs),
        Harness("chunks", "kernels/glibc_heap.c", (), _segments),
    )
}
