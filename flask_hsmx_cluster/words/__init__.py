"""What is said to people, for the pages and the command line alike. It decides nothing."""
