"""What this package adds to Lightning's loop, one idea a file."""
