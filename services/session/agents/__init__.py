"""Agents: who is on duty."""
