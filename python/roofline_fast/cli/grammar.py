"""How the command line is read: unknown names get suggestions, help is plain text in groups."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from roofline_fast.cli import talk
from roofline_fast.suggest import unknown

# Shares of memory by the engine that means something of its own by them.
_SHARES = {
    "--mem-fraction-static": ("sglang", "the share that weights and KV cache take"),
    "--free-gpu-memory-fraction": ("trtllm", "the share of what weights and activations leave"),
}


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

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the flags; say so where another engine's name for a share of memory is used."""
        names = {arg.partition("=")[0] for arg in args}
        rest: list[str] = super().parse_args(ctx, args)
        source = ctx.get_parameter_source("model_flag")
        if ctx.params.get("model") is not None and source is not None and source.name == "DEFAULT_MAP":
            # A file's model yields to one that the command names.
            ctx.params["model_flag"] = None
        engine = str(ctx.params.get("engine"))
        for name, (owner, meaning) in _SHARES.items():
            if name in names and engine != owner:
                talk.note(
                    f"warning: {name} is {meaning} in {owner}; read as --gpu-memory-utilization of {engine}",
                    quiet=bool(ctx.params.get("quiet")),
                )
        return rest

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
