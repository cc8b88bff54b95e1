"""What the program does, one job a file: the Python API, which the command line calls. May import every room."""
