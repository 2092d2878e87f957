"""The coverage-guided fuzzer of native/dwarf."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from fuzz.targets import Fuzzed

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


def build(home: Path) -> Path:
    """The fuzzer, with clang; raises subprocess.CalledProcessError."""
    target = home / "walker"
    sources = [*sorted((ROOT / "native" / "dwarf").glob("walker*.c")), ROOT / "fuzz" / "walker.c"]
    command = [
        "clang",
        *_FLAGS,
        "-fno-sanitize-recover=all",
        _LEFT_OUT,
        "-o",
        str(target),
        *map(str, sources),
    ]
    subprocess.run([*command, "-ldw", "-lelf", "-ldl"], check=True)
    return target


def make_corpus(home: Path) -> Path:
    """Small programs in the forms of debug information that there are."""
    corpus = home / "corpus"
    corpus.mkdir()
    source = home / "seed.c"
    source.write_text(_SEED)
    for number, flags in enumerate(_BUILDS):
        for link in ((), ("-c",)):
            output = corpus / f"{number}{''.join(link)}"
            done = subprocess.run(["gcc", "-g", *flags, *link, "-o", output, source], capture_output=True)
            if done.returncode:
                raise RuntimeError(done.stderr.decode())
    return corpus


def run(home: Path, seconds: int, seed: int) -> Fuzzed:
    """For so long; findings are kept in fuzz/findings."""
    if shutil.which("clang") is None:
        raise RuntimeError("clang is needed")
    program, corpus = build(home), make_corpus(home)
    findings = ROOT / "fuzz" / "findings"
    findings.mkdir(exist_ok=True)
    options = [
        f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={findings}/", "-timeout=20",
        "-rss_limit_mb=4096", "-max_len=65536", "-print_final_stats=1", "-detect_leaks=1",
    ]  # fmt: skip
    done = subprocess.run([program, *options, corpus], capture_output=True, text=True, errors="replace")
    executed = re.search(r"stat::number_of_executed_units: *(\d+)", done.stderr)
    covered = re.findall(r"cov: (\d+)", done.stderr)
    wrong = [] if done.returncode == 0 else [done.stderr[-3000:]]
    return Fuzzed("walker", int(executed[1]) if executed else 0, wrong, int(covered[-1]) if covered else 0)
