"""Worker processes of our own, spoken to over their standard input and output."""

from __future__ import annotations

import os
import subprocess
import sys


def start_worker(command: str) -> subprocess.Popen[bytes]:
    """Start a process that runs Python code of this package.

    Parameters
    ----------
    command
        The code.

    Returns
    -------
    subprocess.Popen[bytes]
        The process; what it says on standard error is lost.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    environment = {
        **os.environ,
        # The same modules as ours, also when they are not installed; -P keeps out the working
        # directory, which belongs to the user.
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        # Each thread would take a core, and address space.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-c", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
