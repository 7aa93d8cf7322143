"""What is measured from the process that the user starts."""
