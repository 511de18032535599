"""Who asks for how much, and when: traces in memory and in files, and traffic that is generated."""
