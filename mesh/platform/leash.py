"""Run a command so that it dies with the process that started it, even when that one is killed.

Run as a script by `mesh.platform.child`, with the standard library only, and replaced by the command at once:

    python -I -S leash.py PARENT_PID SIGNAL UID COMMAND...

PARENT_PID is who must be alive, SIGNAL the number sent to the command when it is not, UID who the command runs as
(-1 keeps the user).
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Tie this process to its parent and exec the command."""
    parent, signal_number, uid = (int(value) for value in sys.argv[1:4])
    command = sys.argv[4:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    # After the change of user, which would clear it.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")
    os.execv(command[0], command)  # noqa: S606 - becoming the command is the purpose


if __name__ == "__main__":
    main()
