"""Help pages of `glam`, in one style: names of arguments and values in upper case, without Python types.

    Usage: glam search [OPTIONS] INDEX IMAGE

Pass `Command` or `CommandGroup` as ``cls`` wherever Typer makes a command or a group.
"""

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

ADVANCED = "Advanced"
"""Heading of the commands that few people need."""

MAX_WIDTH = 100
"""Columns of a help page on a wide terminal; longer lines are hard to read."""

LONGEST_NAME = 30
"""Columns of the names of options; the text of a longer one begins on the next line. Arbitrary."""


class Command(TyperCommand):
    """A command with a help page in the style of `glam`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line after the name of the command."""
        return list(usage_words(self.get_params(ctx)))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments and the options."""
        write_parameters(self.get_params(ctx), formatter)


class CommandGroup(TyperGroup):
    """A group of commands with a help page in the style of `glam`, which it also shows without arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Shows the help and ends with exit code 0 if there are no arguments."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line after the name of the group."""
        return [*usage_words(self.get_params(ctx)), "COMMAND [ARGS]..."]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands under their headings, then the options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                heading = getattr(command, "rich_help_panel", None) or "Commands"
                sections.setdefault(heading, []).append((name, command.short_help or command.help or ""))
        widest = max((len(name) for rows in sections.values() for name, _ in rows), default=0)
        for heading, rows in sections.items():
            write_section(heading, [(name.ljust(widest), text) for name, text in rows], formatter)
        write_parameters(self.get_params(ctx), formatter)


def usage_words(parameters: list[Any]) -> Iterator[str]:
    """The words of a usage line: required arguments bare, optional ones in brackets."""
    yield "[OPTIONS]"
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            name = argument_name(parameter)
            yield name if parameter.required else f"[{name}]"


def argument_name(parameter: Any) -> str:
    """The name of an argument; with dots if it can be repeated."""
    name: str = parameter.metavar or parameter.name.upper()
    return name if parameter.nargs == 1 else f"{name}..."


def write_parameters(parameters: list[Any], formatter: Any) -> None:
    """Writes the sections of arguments and options."""
    shown = [parameter for parameter in parameters if not getattr(parameter, "hidden", False)]
    for heading, kind in (("Arguments", "argument"), ("Options", "option")):
        rows = [(_names(p), _text(p)) for p in shown if p.param_type_name == kind]
        write_section(heading, rows, formatter)


def write_section(heading: str, rows: list[tuple[str, str]], formatter: Any) -> None:
    """Writes a heading and a row per name; nothing if there are no rows."""
    if rows:
        with formatter.section(typer.style(heading, bold=True)):
            styled = [(typer.style(name, fg=typer.colors.CYAN), text) for name, text in rows]
            formatter.write_dl(styled, col_max=LONGEST_NAME)


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return argument_name(parameter)
    names = ", ".join(sorted(parameter.opts, key=len))
    if parameter.secondary_opts:
        return f"{names} / {', '.join(parameter.secondary_opts)}"
    return names if parameter.is_flag else f"{names} {parameter.metavar or parameter.name.upper()}"


def _text(parameter: Any) -> str:
    variable = parameter.envvar if getattr(parameter, "show_envvar", False) else None
    default = _default(parameter)
    facts = [
        *([f"[env var: {variable}]"] if variable else []),
        *([f"[default: {default}]"] if default else []),
        *(["[required]"] if parameter.required and parameter.param_type_name == "option" else []),
    ]
    return " ".join([parameter.help or "", *facts]).strip()


def _default(parameter: Any) -> str:
    """The default value for the help page; empty for a switch that is off, and if there is no default."""
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    default = parameter.default
    if default is None or default in ((), []) or not parameter.show_default or parameter.required:
        return ""
    if isinstance(default, bool):
        names = parameter.opts if default else parameter.secondary_opts
        return names[0].lstrip("-") if names and parameter.secondary_opts else ""
    return str(default)
