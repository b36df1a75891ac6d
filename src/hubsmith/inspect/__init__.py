"""What is in built images: disks and roots read by external tools, and what differs between two of them."""
