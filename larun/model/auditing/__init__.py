"""What an audit looks at: a file by itself, what it was made from, the versions that made it."""
