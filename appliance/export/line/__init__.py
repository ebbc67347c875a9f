"""The walls around the export's network card: what they are, how they are put up, whether they stand.

The card lives in a network namespace of its own, in which nothing else is.  ``settings``, ``ruleset`` and
``xdp`` say what the walls are (pure); ``raising`` puts them up and takes them down; ``card`` finds the card
and switches off what it does by itself; ``walls`` reads what stands, and ``watching`` goes on doing so.
"""
