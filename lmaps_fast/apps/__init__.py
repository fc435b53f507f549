"""What people run: the command line, training, evaluation. Each is thin, over the library and well-kept packages."""
