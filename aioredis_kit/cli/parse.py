"""``aioredis-kit parse``: what a connection string, a URL or the environment says, option by option."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import click

from aioredis_kit.cli.output import ExitCode, reporting
from aioredis_kit.cli.target import read_target, target_argument

if TYPE_CHECKING:
    from aioredis_kit.cli.output import Output
    from aioredis_kit.cli.target import Target
    from aioredis_kit.config import Setting

__all__ = ["parse"]

_DEFAULT: Final = "default"


@click.command(short_help="What a connection string, a URL or the environment says.")
@target_argument
@click.option("--all", "shows_defaults", is_flag=True, help="Show the options that have their defaults, too.")
@reporting
def parse(output: Output, target: str | None, *, shows_defaults: bool) -> ExitCode:
    """Explain what TARGET says: each option with its value, and where it came from.

    Passwords are masked, and no server is asked.
    """
    read = read_target(target)
    _tell(output, read, shows_defaults=shows_defaults)
    output.document(as_document(read))
    return ExitCode.WELL


def as_document(target: Target) -> dict[str, Any]:
    """Return all of it as it stands in JSON: all options, those with their defaults too."""
    explanation = target.configuration.explain()
    meanings = {each.name: each.metadata["meaning"] for each in fields(target.options) if "meaning" in each.metadata}
    return {
        "target": target.as_dict(),
        "options": [
            {
                "name": each.name,
                "value": _value(target, each),
                "source": each.source or _DEFAULT,
                "is_default": not each.source,
                "meaning": meanings[each.name],
            }
            for each in explanation.settings
        ],
        "notes": list(explanation.notes),
    }


def _value(target: Target, setting: Setting) -> object:
    """Return a value of JSON's types as it is, and all others as they are shown."""
    value = getattr(target.options, setting.name)
    if value is None or setting.value != repr(value):  # a secret, or an object
        return None if value is None else setting.value
    return value


def _tell(output: Output, target: Target, *, shows_defaults: bool) -> None:
    explanation = target.configuration.explain()
    output.say(f"{target.address}, database {target.options.db}", "bold")
    said = [(each.name, each.value, f"from {each.source}") for each in explanation.settings if each.source]
    output.columns(said, ("cyan", "", "dim"), indent=2)
    defaults = [(each.name, each.value) for each in explanation.settings if not each.source]
    if shows_defaults:
        output.say("the others have their defaults:")
        output.columns(defaults, ("cyan", ""), indent=2)
    else:
        output.say(f"{len(defaults)} options have their defaults: see them with --all", "dim")
    for note in explanation.notes:
        output.say(f"note: {note}", "yellow", hang=6)
