"""Run the session service."""

from mesh.process.run import run
from services.session.app import app
from services.session.config import SessionConfig

if __name__ == "__main__":
    run(app, SessionConfig)
