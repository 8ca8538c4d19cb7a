"""Groups of commands: their help pages, by section where there are sections."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

UNSORTED = "Commands"


class Group(TyperGroup):
    """A group that shows its commands under the section each was registered in."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            section = getattr(command, "rich_help_panel", None)
            line = command.get_short_help_str(formatter.width - 16)
            sections.setdefault(section if isinstance(section, str) else UNSORTED, []).append((name, line))
        for section, lines in sections.items():
            with formatter.section(section):
                formatter.write_dl([(f"{name:<10}", line) for name, line in lines])

    def get_help_option(self, ctx: Any) -> Any:
        """The help option, off and not undecided: typer loads pydantic to read an undecided one."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option
