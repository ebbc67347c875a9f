"""Keys of drives, kept where the drive is not: sealed to a site's recipients, read back, opened, proven."""
