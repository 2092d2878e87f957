"""String constants and initialisers have counterparts."""

from __future__ import annotations

from instar.pairing.mapping import TypePairing
from instar.pairing.strings import ContentPairing
from instar.pairing.symbols import pair_symbols
from instar.pairing.units import pair_units
from instar.testing.versions import VersionBuilder

RODATA, DATA = 0x2000, 0x4000


class Image:
    """A builder with .rodata and .data, whose sections lie in the file where their bytes are."""

    def __init__(self, rodata: bytes, data_size: int = 256) -> None:
        self.b = VersionBuilder()
        self.b.data(RODATA, rodata)
        self.b.section(".rodata", RODATA, len(rodata))
        self.b.section(".data", DATA, data_size, 3)
        self.b.data(DATA, bytes(data_size))

    def slot(self, address: int, target: int) -> None:
        self.b.relocation(address, target)


def content(old: Image, new: Image) -> ContentPairing:
    versions = (old.b.build(), new.b.build())
    types = TypePairing(*versions)
    symbols = pair_symbols(*versions, pair_units(*versions))
    return ContentPairing(*versions, types, symbols)


def test_strings_pair_by_content_also_in_the_middle() -> None:
    found = content(Image(b"first\0second\0gone\0"), Image(b"second\0other first\0first\0"))
    assert found.by_content(RODATA) == RODATA + 19  # a string of its own before the end of another
    assert found.by_content(RODATA + 6) == RODATA
    assert found.by_content(RODATA + 9) == RODATA + 3
    assert found.by_content(RODATA + 13) is None


def test_a_string_may_be_the_end_of_a_longer_one() -> None:
    found = content(Image(b"tail\0"), Image(b"long tail\0"))
    assert found.by_content(RODATA) == RODATA + 5


def test_middle_of_a_vanished_string_pairs_by_what_is_left_of_it() -> None:
    found = content(Image(b"--verbose\0"), Image(b"verbose\0"))
    assert found.by_content(RODATA) is None
    assert found.by_content(RODATA + 2) == RODATA


def test_what_a_variable_is_initialised_to_pairs_by_the_variable() -> None:
    images = []
    for text in (b"hello\0", b"good day\0"):
        image = Image(text)
        image.b.variable("greeting", image.b.pointer(image.b.c_char), DATA + 8)
        image.slot(DATA + 8, RODATA)
        images.append(image)
    found = content(*images)
    assert found.slots.old_slot.tolist() == [DATA + 8]
    assert found.by_content(RODATA) is None
    assert found.by_initializer(RODATA) == RODATA
    assert found.resolve(RODATA) == RODATA


def test_content_wins_over_an_initialiser_that_changed() -> None:
    old, new = Image(b"on\0"), Image(b"yes\0on\0")
    for image in (old, new):
        image.b.variable("mode", image.b.pointer(image.b.c_char), DATA)
        image.slot(DATA, RODATA)
    found = content(old, new)
    assert found.by_initializer(RODATA) == RODATA
    assert found.resolve(RODATA) == RODATA + 4


def test_initialisers_that_disagree_say_nothing() -> None:
    old, new = Image(b"x\0"), Image(b"a\0b\0")
    for at, name in enumerate(("one", "two")):
        for image in (old, new):
            image.b.variable(name, image.b.pointer(image.b.c_char), DATA + 8 * at)
        old.slot(DATA + 8 * at, RODATA)
        new.slot(DATA + 8 * at, RODATA + 2 * at)
    assert content(old, new).by_initializer(RODATA) is None


def test_unnamed_statics_are_found_through_their_pointers() -> None:
    images = []
    for shift in (0, 16):
        image = Image(b"deep\0" if not shift else b"xx\0deep\0")
        b = image.b
        node = b.struct("node", 16)
        b.member(node, "next", b.pointer(node), 0)
        b.member(node, "name", b.pointer(b.c_char), 8)
        b.variable("head", b.pointer(node), DATA)
        image.slot(DATA, DATA + 32 + shift)  # a compound literal
        image.slot(DATA + 32 + shift, DATA + 64 + shift)  # and the next one
        image.slot(DATA + 64 + shift + 8, RODATA + (3 if shift else 0))
        images.append(image)
    found = content(*images)
    pairs = [(pair.old_address, pair.new_address) for pair in found.unnamed]
    assert pairs == [(DATA + 32, DATA + 48), (DATA + 64, DATA + 80)]
    assert found.by_initializer(RODATA) == RODATA + 3
