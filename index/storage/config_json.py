"""The configuration of an index as the JSON object in its catalog.

Catalog.create, Catalog.set_config --config_to_json--> about --config_from_json--> Catalog.config
"""

import json
from dataclasses import asdict

from glam.datasets.collection import NOTHING_SKIPPED
from glam.index.ann import KINDS
from glam.index.storage.records import IndexConfig
from glam.strict_json import from_values, parse_json

LARGEST = {"dim": 1 << 16, "size": 1 << 16}
"""Largest value of each number (arbitrary; far above those of any model)."""

LARGEST_SCALE = 64.0
"""Largest scale (arbitrary)."""


def config_to_json(config: IndexConfig) -> str:
    """The JSON text of a configuration."""
    return json.dumps(asdict(config))


def config_from_json(text: str) -> IndexConfig:
    """Reads a configuration.

    Args:
        text: JSON text, which may lack fields that have a default.

    Raises:
        ValueError: it is not a configuration, or has a value that is impossible.
    """
    try:
        config = from_values(IndexConfig, parse_json(text))
    except ValueError as error:
        raise ValueError(f"the configuration cannot be read, because {error}") from error
    for name, largest in LARGEST.items():
        if not 1 <= getattr(config, name) <= largest:
            raise ValueError(f"the configuration has an impossible {name}")
    if not config.scales or not all(0 < scale <= LARGEST_SCALE for scale in config.scales):
        raise ValueError("the configuration has impossible scales")
    if config.structure and config.structure not in KINDS:
        raise ValueError("the configuration has an unknown search structure")
    skipped = NOTHING_SKIPPED if config.source is None else config.source.skipped
    if min((skipped.excluded, *skipped.formats.values())) < 0:
        raise ValueError("the configuration has impossible numbers of files")
    return config
