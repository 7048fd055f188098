"""The runtime folder `.octopus/`: where everything that is made while running lies, and nothing else does."""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from mesh.atomic_file import write

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Folder:
    """The layout below one runtime folder."""

    root: Path

    @property
    def identity(self) -> Path:
        """Certificates of the mesh: `ca.pem`, `<name>/cert.pem`, `<name>/key.pem`, `authority/`."""
        return self.root / "identity"

    @property
    def edge(self) -> Path:
        """Return the public certificate: `ca.pem` is what outside clients trust."""
        return self.root / "edge"

    @property
    def config(self) -> Path:
        """Settings files, written anew at each start."""
        return self.root / "config"

    @property
    def secrets(self) -> Path:
        """Passwords and keys, one a file, mode 0600."""
        return self.root / "secrets"

    @property
    def log(self) -> Path:
        """Return what each process wrote, `<process>.log`."""
        return self.root / "log"

    @property
    def state(self) -> Path:
        """Return what the supervisor runs: ports, processes, readiness."""
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor while it runs; holds its process id."""
        return self.root / "lock"

    def data(self, component: str) -> Path:
        """Return where a component keeps what must survive a restart."""
        return self.root / "data" / component

    def make(self) -> None:
        """Make the folders. Those with secrets are the owner's alone."""
        for path in (self.root, self.identity, self.edge, self.config, self.log, self.root / "data"):
            path.mkdir(parents=True, exist_ok=True)
        self.secrets.mkdir(mode=0o700, exist_ok=True)

    def secret(self, name: str, *, length: int = 32) -> Path:
        """Return the file of a secret, filled with `length` random bytes in URL-safe letters when it is new."""
        path = self.secrets / name
        if not path.exists():
            write(path, secrets.token_urlsafe(length), mode=0o600)
        return path


# Tells a command which platform is meant.
ROOT_VARIABLE = "OCTOPUS_ROOT"


def running() -> Folder:
    """Return the folder of the platform that is meant: $OCTOPUS_ROOT, else `.octopus` in the repository."""
    return Folder(Path(os.environ.get(ROOT_VARIABLE) or REPOSITORY / ".octopus").absolute())


def reachable_by_others(path: Path) -> bool:
    """Say whether another user may walk down to `path`, which need not exist yet."""
    existing = [folder for folder in (path, *path.parents) if folder.exists()]
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in existing)


def place_for_other_user(path: Path, shelter: Path = Path("/var/lib/octopus")) -> Path:
    """Return where what belongs at `path` can lie so that another user reaches it: there, or below `shelter`.

    A checkout in /root is closed to the unprivileged user PostgreSQL must run as. Then `path` becomes a link to a
    folder of a new name, so that a removed runtime folder does not come back with the data of the old one.
    """
    if path.is_symlink():
        return path.readlink()
    if reachable_by_others(path.parent):
        return path
    place = shelter / secrets.token_hex(6) / path.name
    place.parent.mkdir(parents=True)
    path.symlink_to(place)
    return place
