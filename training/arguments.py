"""Arguments of `glam train`: names of bundled configurations, and what is wrong with an option in one sentence."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from glam.errors import GlamError
from glam.training.configs import bundled_configs

HELP = "Run `glam train --help-all` for all options."

TYPES = {"int": "an integer", "float": "a number", "bool": "true or false", "str": "a text", "NoneType": "null"}
"""Types in the messages of jsonargparse, as a user would call them."""


class OptionError(GlamError):
    """An option that does not exist, or a value that an option does not take."""


def option_sentence(message: str) -> str:
    """An error message of jsonargparse, shortened to the option, its value, and the types that it takes."""
    unknown = re.search(r"[Uu]nrecognized arguments: (\S+)", message)
    if unknown:
        return f"There is no option {unknown[1]}. {HELP}"
    missing = re.search(r"arguments are required: ([\w.]+)", message)
    if missing:
        return f"--{missing[1]} is missing. Add it to the command."
    key = re.search(r"[Kk]ey \"([\w.]+)\"", message)
    value = re.search(r"(?:Got value|Given value): (.*)", message)
    if key and value:
        types = re.findall(r"Expected an? (?:typing\.Literal\[(.*?)\]|<class '(\w+)'>)", message)
        names = [choices.replace(", ", " or ") or TYPES.get(kind, kind) for choices, kind in types]
        wrong = f"--{key[1]} does not take {value[1].strip()!r}."
        return f"{wrong} Give {' or '.join(dict.fromkeys(names))}." if names else f"{wrong} {HELP}"
    return with_help(" ".join(message.split("\n")[:2]))


def as_argument(value: Any) -> str:
    """The value of an option as on the command line."""
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


def with_help(message: str) -> str:
    """A message of jsonargparse or Lightning in one line, followed by the command that shows all options."""
    return f"{' '.join(message.split()).rstrip('.')}. {HELP}"


def with_bundled_configs(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the names of bundled configurations replaced by their paths.

    Raises:
        GlamError: there is no configuration of such a name, and no such file.
    """
    expanded = list(arguments)
    for i, argument in enumerate(expanded):
        option, equals, value = argument.partition("=")
        if option == "--config" and equals:
            expanded[i] = f"--config={_config_path(value)}"
        elif argument in ("--config", "-c") and i + 1 < len(expanded):
            expanded[i + 1] = _config_path(expanded[i + 1])
    return expanded


def with_one_list(arguments: Sequence[str], option: str) -> list[str]:
    """The arguments, with all values of a repeated option in one JSON list; jsonargparse keeps the last one alone.

    Args:
        arguments: arguments of `glam train`.
        option: name of an option that takes a list of texts, each also given as a JSON list.
    """
    others: list[str] = []
    values: list[list[str]] = []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        given = value if equals else None
        if name == option and given is None:
            given = next(remaining, None)
        if name == option and given is not None:
            values.append(_texts(given))
        else:
            others.append(argument)
    together = [text for texts in values for text in texts]
    return [*others, f"{option}={json.dumps(together)}"] if values else others


def _texts(value: str) -> list[str]:
    """The texts of a JSON list; the value itself if it is none."""
    try:
        texts = json.loads(value)
    except ValueError:
        return [value]
    return texts if isinstance(texts, list) and all(isinstance(text, str) for text in texts) else [value]


def bundled_options(files: Iterable[Any]) -> dict[str, Any]:
    """The options in the bundled configurations among some files, by dotted name. The last file that has one counts.

    Args:
        files: paths of configurations.
    """
    bundled = {str(path) for path in bundled_configs().values()}
    options: dict[str, Any] = {}
    for file in files:
        if str(file) in bundled:
            for group, values in yaml.safe_load(Path(str(file)).read_text(encoding="utf-8")).items():
                if isinstance(values, dict):
                    options |= {f"{group}.{name}": value for name, value in values.items()}
    return options


def _config_path(name: str) -> str:
    bundled = bundled_configs()
    if name in bundled:
        return str(bundled[name])
    is_yaml = re.search(r"[{:\n]", name)  # jsonargparse also takes a configuration itself
    if not is_yaml and not Path(name).is_file():
        raise GlamError(
            f"There is no configuration {name!r}. Choose one of {', '.join(sorted(bundled))}, or name a YAML file."
        )
    return name
