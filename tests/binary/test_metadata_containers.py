"""However debug information is stored, a version says the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.binary.metadata_support import COMPILERS, LEVELS, Facts, Workshop, facts, run

from instar.errors import RefusedError
from instar.metadata.debug_files import build_id_path
from instar.metadata.version import Version, load_version

COMPILERS_PLUS = {"gcc": "g++", "clang": "clang++"}
pytestmark = [pytest.mark.parametrize("level", LEVELS), pytest.mark.parametrize("compiler", COMPILERS)]


@pytest.fixture
def plain(workshop: Workshop, compiler: str, level: str) -> Version:
    return workshop.load(workshop.build(compiler, level))


def same(found: Version, wanted: Version, *but: str) -> None:
    ours, theirs = facts(found), facts(wanted)
    for kind in theirs:
        if kind not in but:
            assert ours[kind] == theirs[kind], kind


@pytest.mark.parametrize("how", ["zlib", "zlib-gnu", "zstd"])
def test_compressed_sections(workshop: Workshop, plain: Version, how: str, compiler: str, level: str) -> None:
    small = workshop.copy(plain.path, f"compressed-{how}")
    run("objcopy", f"--compress-debug-sections={how}", small)
    assert small.stat().st_size < plain.path.stat().st_size
    same(workshop.load(small), plain)


@pytest.mark.parametrize("where", ["beside", ".debug", "root", "build-id"])
def test_separate_debug_files(
    workshop: Workshop, plain: Version, tmp_path: Path, where: str, compiler: str, level: str
) -> None:
    program = tmp_path / "bin" / "prog"
    program.parent.mkdir()
    root = tmp_path / "root"
    folder = {
        "beside": program.parent,
        ".debug": program.parent / ".debug",
        "root": root / program.parent.relative_to("/"),
        "build-id": tmp_path,
    }[where]
    folder.mkdir(exist_ok=True, parents=True)
    debug = folder / "prog.debug"
    run("objcopy", "--only-keep-debug", plain.path, debug)
    link = [] if where == "build-id" else [f"--add-gnu-debuglink={debug}"]
    run("objcopy", "--strip-all", *link, plain.path, program)
    if where == "build-id":
        target = build_id_path(root, plain.build_id)
        target.parent.mkdir(parents=True)
        debug.rename(target)
    found = load_version(program, cache=tmp_path / "cache", debug_roots=(root,))
    same(found, plain)
    names = {found.elf.text(s["name"]) for s in found.elf.symbols}
    assert {"main", "same_name"} <= names  # .symtab of the debug file
    again = load_version(program, cache=tmp_path / "cache", debug_roots=(root,))
    same(again, plain)


def test_a_debug_file_of_another_build_is_not_taken(
    workshop: Workshop, plain: Version, tmp_path: Path, compiler: str, level: str
) -> None:
    other = workshop.build(compiler, level, "-DOTHER", files=("split.c",))
    program, debug = tmp_path / "prog", tmp_path / "prog.debug"
    run("objcopy", "--only-keep-debug", plain.path, debug)
    run("objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", plain.path, program)
    run("objcopy", "--only-keep-debug", other, debug)
    with pytest.raises(RefusedError) as caught:
        load_version(program, cache=tmp_path / "cache", debug_roots=())
    assert caught.value.code == "no-debug-info"
    assert any("another build" in line for line in caught.value.details)


@pytest.mark.parametrize("dwarf", ["-gdwarf-4", "-gdwarf-5"])
def test_split_dwarf(workshop: Workshop, tmp_path: Path, compiler: str, level: str, dwarf: str) -> None:
    whole = workshop.load(workshop.build(compiler, level, dwarf))
    program = build_split(workshop, tmp_path, compiler, level, dwarf)
    split = workshop.load(program)
    # gcc 12's lengths in .debug_loc.dwo are off by what the assembler relaxed
    same(split, whole, *(["locals"] if compiler == "gcc" and dwarf == "-gdwarf-4" else []))
    if compiler == "gcc" and dwarf == "-gdwarf-5":
        return  # neither binutils' nor LLVM 14's dwp understands what gcc 12 writes
    tool = "dwp" if dwarf == "-gdwarf-4" else "llvm-dwp"
    run(tool, "-e", "prog", "-o", "prog.dwp", timeout=20, cwd=program.parent)
    for dwo in [*program.parent.glob("*.dwo")]:
        dwo.unlink()
    same(load_version(program, cache=tmp_path / "cache"), split)


def build_split(workshop: Workshop, tmp_path: Path, *options: str) -> Path:
    """A program with its .dwo files in a directory of its own."""
    directory = tmp_path / "built"
    directory.mkdir()
    compiler, *flags = options
    sources = [workshop.source / name for name in ("main.c", "other.c")]
    run(compiler, "-w", "-g", "-gsplit-dwarf", "-fcommon", *flags, *sources, "-o", "prog", cwd=directory)
    return directory / "prog"


def test_split_dwarf_without_its_files(workshop: Workshop, tmp_path: Path, compiler: str, level: str) -> None:
    built = build_split(workshop, tmp_path, compiler, level).parent
    beside = tmp_path / "beside"
    built.rename(beside)
    assert len(load_version(beside / "prog", cache=tmp_path / "cache").types)  # found beside the program
    dwo = sorted(beside.glob("*main*.dwo"))[0]
    shutil.copy2(sorted(beside.glob("*other*.dwo"))[0], dwo)
    assert refusal(beside / "prog", tmp_path) == "split-debug-mismatch"
    dwo.unlink()
    assert refusal(beside / "prog", tmp_path) == "split-debug-missing"


def refusal(program: Path, tmp_path: Path) -> str:
    with pytest.raises(RefusedError) as caught:
        load_version(program, cache=tmp_path / "new" / str(len(list(tmp_path.rglob("*")))))
    assert caught.value.remedy
    return caught.value.code


def test_type_units(workshop: Workshop, compiler: str, level: str) -> None:
    for dwarf in ("-gdwarf-4", "-gdwarf-5"):
        whole = facts(workshop.load(workshop.build(compiler, level, dwarf)))
        units = facts(workshop.load(workshop.build(compiler, level, dwarf, "-fdebug-types-section")))
        assert without(units, "holder") == without(whole, "holder")


def without(found: Facts, name: str) -> Facts:
    """gcc gives the two `struct holder` one type unit: their members are declared only, hence equal."""
    found["types"] = {one for one in found["types"] if name not in one[0]}
    return found


def test_dwz(workshop: Workshop, plain: Version, tmp_path: Path, compiler: str, level: str) -> None:
    if compiler == "clang":
        plain = workshop.load(workshop.build(compiler, level, "-gdwarf-4"))
    single = workshop.copy(plain.path, "dwz")
    run("dwz", single)
    same(workshop.load(single), plain)
    one, two, common = (tmp_path / name for name in ("one", "two", "common.debug"))
    shutil.copy2(plain.path, one)
    shutil.copy2(plain.path, two)
    run("dwz", "-m", common, "-M", common, one, two)
    same(load_version(one, cache=tmp_path / "cache"), plain)
    common.unlink()
    assert refusal(one, tmp_path) == "dwz-missing"


def test_link_time_optimisation(workshop: Workshop, compiler: str, level: str) -> None:
    if compiler == "clang":
        return  # its early debug information does not differ from the final one
    version = workshop.load(workshop.build(compiler, level, "-flto"))
    units = {version.text(version.units[v["unit"]]["name"]).rpartition("/")[2] for v in version.variables}
    assert units <= {"main.c", "other.c"}
    assert {"main", "visit"} <= {version.text(f["name"]) for f in version.functions}


def test_units_in_another_language(workshop: Workshop, compiler: str, level: str) -> None:
    for dwarf in ("-gdwarf-4", "-gdwarf-5"):
        options = (level, dwarf, "-fdebug-types-section")
        version = workshop.load(workshop.build(COMPILERS_PLUS[compiler], *options, files=("mixed.cc",)))
        box = version.find_type("struct box<long int>") or version.find_type("struct box<long>")
        assert box is not None and version.size_of(box) == 24
        names = {
            version.text(v["name"]).partition(".")[0] for v in version.variables
        }  # without pieces' paths
        assert {"spaced", "boxed", "count", "calls"} <= names
