"""Practice nodes: booted Debian systems with a network of their own, to rehearse and to test on."""
