"""The archive as a process: `python -m services.archive --config FILE`."""

from mesh.process.run import run
from services.archive.app import app
from services.archive.config import ArchiveConfig

if __name__ == "__main__":
    run(app, ArchiveConfig)
