"""The commands of a cluster, run with a limit of time, and errors in their own words."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from gru_optuna.errors import UserError
from gru_optuna.urls import masked

if TYPE_CHECKING:
    from collections.abc import Mapping

_ANSWER_SECONDS = 60.0


class CommandFailed(UserError):  # noqa: N818 (what happened)
    """A command of a cluster isn't here, failed, or gave no answer."""


def run_command(
    on: str,
    program: str,
    *arguments: str,
    where: str,
    given: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What a command prints.

    Parameters
    ----------
    on
        The launcher, as ``--on`` names it.
    program, arguments
        The command: nothing secret, as every user of this machine sees it.
    where
        A sentence for users without the program.
    given
        What it reads from stdin.
    environment
        Variables besides this process's own.

    Raises
    ------
    CommandFailed
        If it isn't here, fails, or takes longer than a minute.
    """
    if shutil.which(program) is None:
        raise CommandFailed(f"--on {on}: the command {program} is not on this machine. {where}")
    try:
        ran = subprocess.run(  # noqa: S603 (the cluster's own command)
            [program, *arguments],
            input=given,
            env=os.environ | (environment or {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=_ANSWER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(
            f"--on {on}: {program} gave no answer within {_ANSWER_SECONDS:g} s."
        ) from None
    if ran.returncode:
        raise CommandFailed(f"--on {on}: {program} failed: {masked(ran.stderr.strip())}")
    return ran.stdout
