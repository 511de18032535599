"""How the command line is read: unknown names get suggestions, help is plain text in groups."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from roofline_fast.suggest import unknown


class Group(TyperGroup):
    """A command made of subcommands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the subcommand, or name the three nearest."""
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            raise unknown("command", args[0], known)
        return super().resolve_command(ctx, args)


class Command(TyperCommand):
    """A command whose help lists its options in the groups named by ``rich_help_panel``."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments first, then one section a group, in the order of the signature."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            default = "Arguments" if parameter.param_type_name == "argument" else "Options"
            title = getattr(parameter, "rich_help_panel", None) or default
            sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)
