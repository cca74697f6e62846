"""The command line: one file for each command or noun; what they print goes through `output`."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

import click

from epista.cli import (
    append,
    audit,
    auth,
    backup,
    completion,
    convention,
    cp,
    demo,
    experiment,
    export,
    gc,
    get,
    history,
    lineage,
    link,
    ls,
    member,
    mv,
    options,
    output,
    project,
    pull,
    purge,
    put,
    queries,
    query,
    reindex,
    restore,
    rm,
    rules,
    search,
    serve,
    signing_key,
    token,
    uploads,
    url,
    usage,
    verify,
    workspace,
)
from epista.contract.errors import (
    AmbiguousNameError,
    AuthenticationError,
    ConflictError,
    EpistaError,
    ForbiddenError,
    NotFoundError,
    QueryRefusedError,
    UnavailableError,
    UnreachableError,
)

EXIT_CODES: dict[type[EpistaError], int] = {
    NotFoundError: 3,
    AmbiguousNameError: 3,
    AuthenticationError: 4,
    ForbiddenError: 4,
    QueryRefusedError: 4,
    UnreachableError: 5,
    UnavailableError: 5,
    ConflictError: 6,
}
"""What the exit code says about an error; 1 for all others. 0 is done, and 2 a command line that makes no sense."""

SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Data": (
        ls.ls,
        get.get,
        history.history,
        lineage.lineage,
        search.search,
        query.query,
        queries.queries,
        pull.pull,
        put.put,
        append.append,
        link.link,
        uploads.uploads,
        cp.cp,
        mv.mv,
        rm.rm,
        restore.restore,
        purge.purge,
        url.url,
        experiment.experiment,
        project.project,
        convention.convention,
        export.export,
    ),
    "People": (auth.auth, token.token, workspace.workspace, member.member, rules.rules, audit.audit),
    "The lab": (usage.usage, serve.serve, verify.verify, gc.gc, reindex.reindex, backup.backup, signing_key.signing_key),
    "Getting started": (demo.demo, completion.completion),
}
"""Every command, in the order in which the help shows them."""


class _Sections(click.Group):
    """A group whose help shows its commands by section."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        room = formatter.width - 6 - max(map(len, self.commands))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(one.name or "", one.get_short_help_str(room)) for one in commands], col_max=14)


@click.group(cls=_Sections, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="epista", message="%(prog)s %(version)s")
@options.lab
@options.workspace
def cli() -> None:
    """
    One governed bucket for a lab's data: put files in, find them, read them back.

    Every command takes --lab, a server's address or the folder of a lab. Without it, EPISTA_API_URL decides, then what `epista
    auth login` has saved.
    """


for _commands in SECTIONS.values():
    for _command in _commands:
        cli.add_command(_command)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run one command; the only place where errors become messages and exit codes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A name that the terminal cannot show must not break the command.
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = output.warning
        sys.exit(_run(args))


def _run(args: Sequence[str] | None) -> int:
    try:
        # Commands return nothing; what comes back is the status of a command that ended itself.
        code: int | None = cli.main(args, prog_name="epista", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        output.usage_error(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except EpistaError as error:
        output.error(error)
        return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)
    except BrokenPipeError:
        # Whoever read has read enough. What is still buffered goes nowhere, or Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        output.error(EpistaError(f"{error.strerror or error}{f': {error.filename!r}' if error.filename else ''}"))
        return 1
    return code or 0
