"""Numbers with their nouns, for messages."""


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, as in ``1 group`` and ``7 images``.

    Args:
        number: how many there are.
        noun: singular.
        plural: by default the noun with an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
