"""Calls between services: servers, channels, and the interceptors that apply the rules of the contract."""
