"""Options of earlier versions, converted to the present ones, and names of parts in their full form.

    --model.glam '{reduction: 8}'    -->  --model.attention '{name: glam, reduction: 8}'
    --model.gem_p 3                  -->  --model.pooling.p 3
    --model.margin 0.3               -->  --model.loss.margin 0.3
    --model.glam_lr 1e-4             -->  --model.attention_lr 1e-4
    --model.attention se             -->  --model.attention '{name: se}'

The parser would replace a name alone by the options that follow it, such as ``--model.attention.rd_ratio 0.5``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from glam.registry import as_choice
from glam.training.options import CHOICES

PARTS = {
    "gem_p": ("pooling", "p"),
    "margin": ("loss", "margin"),
    "scale": ("loss", "scale"),
    "sharded": ("loss", "sharded"),
}
"""Option and part of it that a former option of the model set."""

RENAMED = {"glam_lr": "attention_lr"}


def with_current_options(arguments: Sequence[str]) -> list[str]:
    """The arguments of `glam train`, with former options converted, also those in configuration files.

    Args:
        arguments: arguments, with the paths of configurations.
    """
    return list(_converted(iter(arguments)))


def current_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with former options converted.

    Args:
        config: content of a configuration file.
    """
    model = config.get("model")
    if not isinstance(model, dict):
        return dict(config)
    current = {RENAMED.get(name, name): value for name, value in model.items() if name not in {"glam", *PARTS}}
    if "glam" in model:
        current.setdefault("attention", model["glam"])
    for name in CHOICES.keys() & current.keys():
        if isinstance(current[name], str | dict):
            current[name] = as_choice(current[name], CHOICES[name])
    for name in PARTS.keys() & model.keys():
        option, part = PARTS[name]
        choice = current.get(option) or {"name": CHOICES[option]}
        if isinstance(choice, dict) and model[name] is not None:
            current[option] = {part: model[name], **choice}
    return {**config, "model": current}


def _converted(arguments: Iterator[str]) -> Iterator[str]:
    for argument in arguments:
        option, equals, value = argument.partition("=")
        takes_value = option in ("--config", "-c") or _is_converted(option)
        if not takes_value:
            yield argument
            continue
        if not equals:
            given = next(arguments, None)
            if given is None:
                yield argument
                return
            value = given
        if option in ("--config", "-c"):
            yield f"--config={_config(value)}"
        else:
            yield from _convert(option.removeprefix("--model."), value)


def _is_converted(option: str) -> bool:
    if not option.startswith("--model."):
        return False
    name = option.removeprefix("--model.")
    return name.split(".")[0] == "glam" or name in PARTS or name in RENAMED or name in CHOICES


def _convert(name: str, value: str) -> list[str]:
    if name in RENAMED:
        return [f"--model.{RENAMED[name]}={value}"]
    if name == "glam" or name in CHOICES:
        try:
            given = yaml.safe_load(value)
        except yaml.YAMLError:
            given = value
        option = "attention" if name == "glam" else name
        if isinstance(given, str | dict):
            given = as_choice(given, CHOICES[option])
        return [f"--model.{option}={json.dumps(given)}"]
    option, part = PARTS.get(name) or ("attention", name.removeprefix("glam."))
    return [f"--model.{option}.{part}={value}"]


def _config(value: str) -> str:
    """The path of a configuration, or its converted content if it has former options."""
    file = Path(value)
    try:
        text = file.read_text(encoding="utf-8") if file.is_file() else value
        config = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return value  # the parser says what is wrong with it
    if not isinstance(config, dict):
        return value
    current = current_config(config)
    return value if current == config else json.dumps(current)
