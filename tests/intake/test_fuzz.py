"""The fuzz target of image reading: a sample of its mutants, and that it notices what may go wrong."""

import os
import signal
import time
from pathlib import Path

import pytest

from glam.errors import ImageError
from glam.images import read_image
from tests.intake.fuzz import Fuzzer, fuzz_images
from tests.intake.fuzz_check import MIB, Fault, check_image, memory_bound
from tests.intake.fuzz_mutators import PNG, Mutator, repair_checksums
from tests.intake.fuzz_seeds import format_of, installed_formats, seed_files


@pytest.fixture(scope="module")
def seeds() -> dict[str, bytes]:
    return seed_files()


def test_a_sample_of_mutants_is_read_or_refused(tmp_path: Path) -> None:
    assert fuzz_images(first=0, count=4_000, seed=1, workers=1, save=tmp_path) == {}


def test_seeds_are_images_of_every_format(seeds: dict[str, bytes]) -> None:
    assert {format_of(name) for name in seeds} == installed_formats()
    for content in seeds.values():
        read_image(content)


def test_mutants_depend_on_seed_and_number_alone(seeds: dict[str, bytes]) -> None:
    mutants = [Mutator(seeds, 5).mutant(number) for number in range(50)]
    assert mutants == [Mutator(seeds, 5).mutant(number) for number in range(50)]
    assert mutants != [Mutator(seeds, 6).mutant(number) for number in range(50)]
    assert all(content != seeds[name] for name, content in mutants)


def test_repaired_checksums_are_right(seeds: dict[str, bytes]) -> None:
    content = bytearray(seeds["PNG: PNG 1"])
    content[len(PNG) + 21] ^= 1  # the checksum of the header
    with pytest.raises(ImageError):
        read_image(bytes(content))
    assert repair_checksums(content) == seeds["PNG: PNG 1"]


def act(number: int) -> None:
    """Does something else for each mutant."""
    if number == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 5:
        time.sleep(60)
    if number in (6, 9):
        raise ValueError(f"mutant {number}")
    if number == 7:
        os._exit(9)


def test_crashes_hangs_and_exceptions_are_found_and_the_others_are_read() -> None:
    found = {failure.number: failure.kind for failure in Fuzzer(act, workers=2, seconds=1).failures(first=0, count=10)}
    assert found.keys() == {2, 5, 6, 7, 9}
    assert (found[2], found[5], found[7]) == ("SIGSEGV", "more than 1 s", "the process ended with 9")
    assert found[6] == found[9] == "ValueError: mutant #"


def test_memory_beyond_the_bound_is_a_fault() -> None:
    with memory_bound(32 * MIB):
        bytearray(16 * MIB)
    with pytest.raises(Fault, match="MiB of memory"), memory_bound(32 * MIB):
        bytearray(64 * MIB)


def test_ways_of_reading_that_do_not_agree_are_a_fault(
    seeds: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_image(seeds["JPEG: JPEG 6"])
    monkeypatch.setattr("tests.intake.fuzz_check.read_upright_size", lambda content: (1, 2))
    with pytest.raises(Fault, match="do not agree"):
        check_image(seeds["JPEG: JPEG 6"])
