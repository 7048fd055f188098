"""Run the bridge."""

from edge.bridge.app import app
from edge.bridge.config import BridgeConfig
from mesh.process.run import run

if __name__ == "__main__":
    run(app, BridgeConfig)
