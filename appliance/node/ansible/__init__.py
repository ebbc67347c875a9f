"""Driving Ansible: a subprocess, one playbook, and results from structured events alone."""
