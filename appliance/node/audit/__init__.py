"""Audit: compares the live node with what was installed, and changes nothing.

``asking`` collects, in one round trip; ``state``, ``comparing``, ``declared`` and ``staged`` decide, and
touch nothing outside; ``baseline`` is what a node was when its installation had just been proven; ``run``
puts these together, ``present`` shows what came of it.
"""
