"""Mutations of image files, reproducible from a seed and the number of the mutant.

seed files --Mutator.mutant(number)--> one or more of `MUTATIONS` --> content
"""

import random
import struct
import zlib
from collections.abc import Callable, Mapping

from tests.intake.fuzz_seeds import HEIGHT, WIDTH, format_of

HEADER = 256
"""Bytes at the start of a file that half of the mutations hit; arbitrary, about the size of a header."""

EXTREMES = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**31 - 1, 2**31, 2**32 - 1)
"""Values of dimensions, counts, and offsets at which arithmetic tends to break."""

SIDES = (0, 1, 2, 255, 256, 1_000, 4_096, 7_000, 16_384, 32_768, 65_535, 100_000, 2**31 - 1, 2**32 - 1)
"""Sides in pixels to claim in a header, within the pixel limit and beyond."""

COUNTS = (1, 1, 1, 2, 2, 3, 4)
"""Numbers of mutations of a mutant; mostly few, because most files with many are refused at once."""

INTEGERS = ("<H", ">H", "<I", ">I")

PNG = b"\x89PNG\r\n\x1a\n"


def flip_bits(content: bytearray, rng: random.Random, other: bytes) -> None:
    """Flips 1 to 8 bits."""
    for _ in range(rng.randint(1, 8)):
        content[_position(content, rng)] ^= 1 << rng.randrange(8)


def fill_run(content: bytearray, rng: random.Random, other: bytes) -> None:
    """Overwrites 1 to 64 bytes with zeros, ones, or noise."""
    at = _position(content, rng)
    length = min(rng.randint(1, 64), len(content) - at)
    content[at : at + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))


def truncate(content: bytearray, rng: random.Random, other: bytes) -> None:
    """Cuts the end off."""
    del content[_position(content, rng) :]


def duplicate_block(content: bytearray, rng: random.Random, other: bytes) -> None:
    """Inserts a copy of a block somewhere else."""
    at = _position(content, rng)
    block = content[at : at + rng.randint(1, 256)]
    to = _position(content, rng)
    content[to:to] = block


def delete_block(content: bytearray, rng: random.Random, other: bytes) -> None:
    """Deletes 1 to 64 bytes."""
    at = _position(content, rng)
    del content[at : at + rng.randint(1, 64)]


def set_extreme(content: bytearray, rng: random.Random, other: bytes) -> None:
    """Writes an extreme 16-bit or 32-bit integer of either byte order."""
    form = rng.choice(INTEGERS)
    _overwrite(content, _position(content, rng), form, rng.choice(EXTREMES))


def set_side(content: bytearray, rng: random.Random, other: bytes) -> None:
    """Writes another width or height wherever the header has it; if it is not found, an extreme integer somewhere."""
    places = [
        (at, form)
        for form in INTEGERS
        for side in (WIDTH, HEIGHT, WIDTH - 1, HEIGHT - 1)
        if (at := content.find(struct.pack(form, side), 0, 4 * HEADER)) >= 0
    ]
    if not places:
        set_extreme(content, rng, other)
        return
    at, form = rng.choice(places)
    _overwrite(content, at, form, rng.choice(SIDES))


def splice(content: bytearray, rng: random.Random, other: bytes) -> None:
    """Replaces the end by the end of a file of another format."""
    content[_position(content, rng) :] = other[rng.randrange(len(other)) :]


def append_garbage(content: bytearray, rng: random.Random, other: bytes) -> None:
    """Appends noise, zeros, or another file."""
    length = rng.randint(1, 512)
    content += rng.choice((rng.randbytes(length), bytes(length), other))


Mutation = Callable[[bytearray, random.Random, bytes], None]

MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    fill_run,
    truncate,
    duplicate_block,
    delete_block,
    set_extreme,
    set_side,
    splice,
    append_garbage,
)


class Mutator:
    """Makes mutants of seed files.

    Args:
        files: contents of the seed files by name, see `tests.intake.fuzz_seeds.format_of`.
        seed: seed of all mutants.
    """

    def __init__(self, files: Mapping[str, bytes], seed: int) -> None:
        self.files = files
        self.seed = seed
        self._names = sorted(files)

    def mutant(self, number: int) -> tuple[str, bytes]:
        """The name of the seed file of a mutant, and the content of the mutant.

        Args:
            number: number of the mutant, from 0. The seed files take turns.
        """
        rng = random.Random(f"{self.seed}:{number}")
        name = self._names[number % len(self._names)]
        content = bytearray(self.files[name])
        other = self.files[self._name_of_another_format(name, rng)]
        for _ in range(rng.choice(COUNTS)):
            if content:
                rng.choice(MUTATIONS)(content, rng, other)
        if content.startswith(PNG) and rng.random() < 0.5:
            content = repair_checksums(content)
        return name, bytes(content)

    def _name_of_another_format(self, name: str, rng: random.Random) -> str:
        return rng.choice([other for other in self._names if format_of(other) != format_of(name)] or self._names)


def repair_checksums(content: bytearray) -> bytearray:
    """Writes right checksums into the chunks of a PNG. Without them the decoder refuses most mutants at once.

    Args:
        content: PNG whose chunks are damaged; what follows the first chunk of a wrong length stays as it is.
    """
    repaired = bytearray(content)
    at = len(PNG)
    while at + 12 <= len(repaired):
        (length,) = struct.unpack_from(">I", repaired, at)
        end = at + 8 + length
        if end + 4 > len(repaired):
            break
        struct.pack_into(">I", repaired, end, zlib.crc32(repaired[at + 4 : end]))
        at = end + 4
    return repaired


def _position(content: bytearray, rng: random.Random) -> int:
    """A position in a file, in its header half of the time."""
    return rng.randrange(min(HEADER, len(content)) if rng.random() < 0.5 else len(content))


def _overwrite(content: bytearray, at: int, form: str, value: int) -> None:
    """Writes an integer, cut to its number of bytes and to the end of the file."""
    size = struct.calcsize(form)
    packed = struct.pack(form, value % 2 ** (8 * size))[: len(content) - at]
    content[at : at + len(packed)] = packed
