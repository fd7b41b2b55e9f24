"""The command `afu9`. Each command's module is imported when it runs, so that `afu9 --help` is quick.

stdout is data, stderr is talk. Exit codes: 0 completed or fine, 1 error, 2 usage or invalid input, 3 not found, 4 refused,
5 not allowed, 6 unreachable, 7 execution failed, 8 execution cancelled, 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

COMMANDS = {
    "run": ("control_center.run_workflow", "Run a workflow and wait for its end."),
    "dev": ("control_center.dev", "Start everything on this machine: PostgreSQL, Valkey, orchestrator and workers."),
    "worker": ("control_center.roles", "Start a worker."),
    "orchestrator": ("control_center.roles", "Start an orchestrator: dispatcher and reaper."),
    "api": ("control_center.serve_api", "Start the HTTP API."),
    "migrate": ("control_center.roles", "Bring the database to this version's schema."),
    "validate": ("control_center.validate_file", "Check a definition and name all of its faults."),
    "ls": ("control_center.list_executions", "List recent executions."),
    "show": ("control_center.show_execution", "Show an execution with its steps and attempts."),
    "diff": ("control_center.diff_executions", "Compare two executions: where they first diverge, and in what."),
    "reconstruct": ("control_center.reconstruct_execution", "Tell an execution's state, now or at a past moment."),
    "watch": ("control_center.watch_execution", "Follow an execution until it rests."),
    "logs": ("control_center.watch_execution", "Tell what an execution's steps and attempts did."),
    "pause": ("control_center.control_execution", "Begin nothing more of an execution until it is resumed."),
    "resume": ("control_center.control_execution", "Let a paused execution go on."),
    "cancel": ("control_center.control_execution", "End an execution now."),
    "retry": ("control_center.control_execution", "Let a failed or cancelled execution go on from where it failed."),
    "rerun": ("control_center.control_execution", "Run a step again, and all that come after it."),
    "skip": ("control_center.control_execution", "Let a step be skipped."),
    "set-output": ("control_center.control_execution", "Say what a step's output is, instead of calling its tool."),
    "decide": ("control_center.control_execution", "Say what becomes of a step whose outcome nobody knows."),
    "fork": ("control_center.control_execution", "Make a new execution of one, with the results before a step."),
    "replay": ("control_center.control_execution", "Run one step alone, as a new execution."),
    "bulk": ("control_center.control_many", "Pause, resume, cancel or retry many executions, as a job."),
    "jobs": ("control_center.control_many", "List the jobs of many executions, follow one, or cancel it."),
    "hold": ("control_center.hold_calls", "Begin no call of a tool, a server or a workflow until it is released."),
    "release": ("control_center.hold_calls", "Let held calls go on."),
    "holds": ("control_center.hold_calls", "List what is held."),
    "demo-data": ("control_center.demo.make_demo_data", "Fill the database with made-up executions to look at."),
    "stats": ("control_center.tell_stats", "Tell what ended, how, how fast and with which errors."),
    "queues": ("control_center.tell_fleet", "Tell what waits, what runs, and what stands in its way."),
    "workers": ("control_center.tell_fleet", "List the processes that hold a lease."),
    "cost": ("control_center.sum_costs", "Sum up what calls cost."),
    "tools": ("control_center.list_tools", "List what the MCP servers offer."),
    "archive": ("control_center.archive_executions", "Move executions that ended long ago into files."),
    "restore": ("control_center.archive_executions", "Put archived executions back into the database."),
    "key": ("control_center.keys", "Make, list and revoke keys of the HTTP API."),
    "doctor": ("control_center.doctor", "Check database, Redis, schema, workers and MCP servers."),
}


class LazyGroup(click.Group):
    """Knows its commands by name and loads the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="afu9", prog_name="afu9")
def root() -> None:
    """AFU-9: durable workflows whose steps are MCP tool calls."""


def main(arguments: list[str] | None = None) -> None:
    """The entry point: runs a command and turns what went wrong into one message and an exit code."""
    sys.exit(invoke(arguments))


def invoke(arguments: list[str] | None = None) -> int:
    from persistence.errors import Afu9Error, Refused

    try:
        code: Any = root.main(arguments, prog_name="afu9", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except Refused as error:
        click.echo(f"afu9: {error}", err=True)
        takes = f"it takes {', '.join(error.allowed)}" if error.allowed else "it takes no control"
        if error.status and takes not in str(error):
            click.echo(f"the execution is {error.status}; {takes}", err=True)
        return error.exit_code
    except Afu9Error as error:
        click.echo(f"afu9: {error}", err=True)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has had enough
        return 0
