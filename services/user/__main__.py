"""The user service as a process: `python -m services.user --config FILE`."""

from mesh.process.run import run
from services.user.app import app
from services.user.config import UserConfig

if __name__ == "__main__":
    run(app, UserConfig)
