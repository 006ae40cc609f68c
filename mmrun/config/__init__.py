"""What an experiment is: the experiment file, parsed once into a frozen tree."""
