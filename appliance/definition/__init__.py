"""What an operator writes, and the lock made from it: schemas, and errors with file, line and column."""
