"""Runs the control plane."""

from edge.envoy.app import app
from edge.envoy.config import ControlConfig
from mesh.process.run import run

if __name__ == "__main__":
    run(app, ControlConfig)
