"""The tests that prove a live node: pytest with testinfra, run by ``appliance.node.qualify``.

They only read and try; nothing on the node is changed.  Each ``test_*.py`` asks the node and hands what
it said to a pure judgement beside it (``routes``, ``rules``, ``sockets``, ``service``, ``escapes``),
which says what was found and what was wanted.
"""
