"""What is ready, what is not, and why: a command, a page, and a line on the console."""
