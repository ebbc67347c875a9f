"""What a self-encrypting drive is told, and answers: the TCG's protocol, for whoever speaks it.

The simulated drive (``appliance.lab.drive``) answers; ``asking`` is a host's side.  ``program`` is what
nodes run: these modules are sent to them as they are, so they are standard library only, for Python 3.10 or
later.
"""
