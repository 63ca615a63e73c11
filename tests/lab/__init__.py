"""Hosts to test on: containers with a real systemd, their own network, names and SSH."""
