"""Scripts that run on a node: the standard library of Python 3.10 and nothing else.

They are sent over the connection's standard input by ``appliance.node.script`` and leave no file behind.
"""
