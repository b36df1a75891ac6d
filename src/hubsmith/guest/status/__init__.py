"""Status of the machine: a command, a web page, and a line on the console."""
