"""What a capture on the far side of a node's cards holds, judged by the inventory alone."""
