"""Run the control process."""

from edge.control.app import app
from edge.control.config import ControlConfig
from mesh.process.run import run

if __name__ == "__main__":
    run(app, ControlConfig)
